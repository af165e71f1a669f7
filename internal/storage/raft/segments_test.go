package raft

import (
	"bytes"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// A crowded file system has no room for new files of a size, or for what is written.
type crowded struct {
	types.VFS
	files, full *atomic.Bool
}

// Create implements types.VFS.
func (c crowded) Create(dir, name string, size uint64) (types.WritableFile, error) {
	if c.files.Load() && size > 0 {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil { // which is left
			return nil, err
		}
		return nil, syscall.ENOSPC
	}
	f, err := c.VFS.Create(dir, name, size)
	return crowdedFile{f, c.full}, err
}

// OpenWriter implements types.VFS.
func (c crowded) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := c.VFS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return crowdedFile{f, c.full}, nil
}

type crowdedFile struct {
	types.WritableFile
	full *atomic.Bool
}

// WriteAt implements io.WriterAt.
func (f crowdedFile) WriteAt(b []byte, at int64) (int, error) {
	if f.full.Load() {
		return 0, syscall.ENOSPC
	}
	return f.WritableFile.WriteAt(b, at)
}

// TestFullAtSegment fills the disk in the moment in which the log begins a new segment: it takes entries again when there is room, and has all that it
// has taken when it is opened again, also while the disk is still full.
func TestFullAtSegment(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]bool{"room again": false, "opened again while full": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var files, full atomic.Bool
			cfg := Config{Dir: t.TempDir(), NodeID: "node1", segments: crowded{fs.New(), &files, &full}}
			s, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }() // what counts was read before
			last := uint64(0)
			store := func() error {
				err := s.logs.StoreLog(&raft.Log{Index: last + 1, Term: 1, Data: bytes.Repeat([]byte{byte(last + 1)}, 1<<20)})
				if err == nil {
					last++
				}
				return err
			}
			for last < segmentBytes>>20-1 {
				if err := store(); err != nil {
					t.Fatal(err)
				}
			}
			files.Store(true)
			if err := store(); err != nil { // it ends the segment
				t.Fatal(err)
			}
			full.Store(true)
			if err := store(); err == nil {
				t.Fatal("a full disk takes an entry")
			}
			if crash {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = Open(cfg); err != nil {
					t.Fatal(err)
				}
			}
			files.Store(false)
			full.Store(false)
			for range 40 {
				if err := store(); err != nil {
					t.Fatalf("behind the entry %d, with room again: %v", last, err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = Open(cfg); err != nil {
				t.Fatal(err)
			}
			for i := uint64(1); i <= last; i++ {
				var log raft.Log
				if err := s.logs.GetLog(i, &log); err != nil || log.Index != i || len(log.Data) != 1<<20 {
					t.Fatalf("entry %d: %v", i, err)
				}
			}
		})
	}
}

// TestFullAtCut has a full disk when the end of the log is to be taken back, and when others are to come in its place: the node ends its part in the
// cluster, as raft takes for its log what is not there, and has all that it had when it is started again.
func TestFullAtCut(t *testing.T) {
	t.Parallel()
	for name, removed := range map[string]bool{"not removed": false, "removed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var files, full atomic.Bool
			cfg := Config{Dir: t.TempDir(), NodeID: "node1", segments: crowded{fs.New(), &files, &full}}
			s, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			entry := func(i, term uint64) *raft.Log { return &raft.Log{Index: i, Term: term, Data: []byte{byte(i)}} }
			for i := range uint64(5) {
				if err := s.logs.StoreLog(entry(i+1, 1)); err != nil {
					t.Fatal(err)
				}
			}
			full.Store(!removed)
			for range 2 {
				if err := s.logs.DeleteRange(4, 5); (err == nil) != removed {
					t.Fatalf("the end is removed: %v", err)
				}
			}
			full.Store(true)
			if err := s.logs.StoreLog(entry(4, 2)); err == nil {
				t.Fatal("a full disk takes an entry")
			}
			if s.Err() == nil {
				t.Error("it goes on with a log that is another than raft believes")
			}
			full.Store(false)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = Open(cfg); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }() // what counts was read before
			if err := s.logs.DeleteRange(4, 5); err != nil {
				t.Fatal(err)
			}
			if err := s.logs.StoreLog(entry(4, 2)); err != nil {
				t.Fatal(err)
			}
			for i, term := range []uint64{1, 1, 1, 2} {
				var log raft.Log
				if err := s.logs.GetLog(uint64(i+1), &log); err != nil || log.Term != term || log.Data[0] != byte(i+1) {
					t.Errorf("entry %d: %+v, %v", i+1, log, err)
				}
			}
		})
	}
}
