package raft

import "github.com/cockroachdb/pebble/v2/vfs"

// WithFS has a store in memory use another file system.
func (c Config) WithFS(fs vfs.FS) Config {
	c.fs = fs
	return c
}
