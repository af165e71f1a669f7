package raft

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/raft-wal/types"
)

// segments is the file system below the log. A segment for which a full disk has no room is begun all the same, and gets its room with what is written:
// the log would take nothing more, until it is opened again, after one that it could not begin.
type segments struct{ types.VFS }

// Create implements types.VFS.
func (s segments) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := s.VFS.Create(dir, name, size)
	if size == 0 || !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return f, err
	}
	if rerr := os.Remove(filepath.Join(dir, name)); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		return nil, errors.Join(err, rerr)
	}
	return s.VFS.Create(dir, name, 0)
}
