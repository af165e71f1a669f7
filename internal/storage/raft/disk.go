//go:build !torture

package raft

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is the operating system's file system.
func disk(*slog.Logger) vfs.FS { return vfs.Default }
