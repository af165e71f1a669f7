//go:build torture

package raft

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/storage/torture"
)

// disk is the operating system's file system, and fails when it is told to.
func disk(log *slog.Logger) vfs.FS { return torture.Disk(vfs.Default, log) }
