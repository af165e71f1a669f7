package raft

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	old "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"arca/internal/errs"
)

// A watched file system calls synced after a file was synced.
type watched struct {
	types.VFS
	synced func()
}

// Create implements types.VFS.
func (w watched) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := w.VFS.Create(dir, name, size)
	return watchedFile{f, w.synced}, err
}

type watchedFile struct {
	types.WritableFile
	synced func()
}

// Sync implements types.WritableFile.
func (f watchedFile) Sync() error {
	err := f.WritableFile.Sync()
	f.synced()
	return err
}

// killedLog is the folder of a node of a version of before, whose process ended when an entry was on the disk; a segment may be full with it, and the next one is
// not begun.
func killedLog(t *testing.T, last uint64) string {
	t.Helper()
	dir, next := filepath.Join(t.TempDir(), oldLogDir), t.TempDir()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	meta := &metadb.BoltMetaDB{}
	var stored atomic.Uint64
	var copied atomic.Bool
	filer := segment.NewFiler(dir, watched{fs.New(), func() {
		if stored.Load() == last && copied.CompareAndSwap(false, true) {
			if err := os.CopyFS(filepath.Join(next, oldLogDir), os.DirFS(dir)); err != nil {
				t.Error(err)
			}
		}
	}})
	w, err := old.Open(dir, old.WithMetaStore(meta), old.WithSegmentFiler(filer), old.WithSegmentSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= last; i++ {
		stored.Store(i)
		if err := w.StoreLog(entryOf(i, 7)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := meta.Close(); err != nil {
		t.Fatal(err)
	}
	return next
}

// putBehind writes behind the last frame of the last segment of a log of before.
func putBehind(t *testing.T, log string, what []byte) {
	t.Helper()
	meta := &metadb.BoltMetaDB{}
	state, err := meta.Load(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := meta.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(log, segment.FileName(state.Segments[len(state.Segments)-1])), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // the test reads what is there
	const fileHeader, frameHeader, commit = 32, 8, 3
	at := int64(fileHeader)
	for {
		var head [frameHeader]byte
		if _, err := f.ReadAt(head[:], at); err != nil || head[0] == 0 {
			break
		}
		at += frameHeader
		if head[0] != commit { // whose length is a checksum
			at += (int64(head[4]) | int64(head[5])<<8 | int64(head[6])<<16 + 7) &^ 7
		}
	}
	if _, err := f.WriteAt(what, at); err != nil {
		t.Fatal(err)
	}
}

// isSealed reports whether a log of before is one segment, which is full.
func isSealed(t *testing.T, log string) bool {
	t.Helper()
	meta := &metadb.BoltMetaDB{}
	state, err := meta.Load(log)
	if err := errors.Join(err, meta.Close()); err != nil || len(state.Segments) != 1 {
		t.Fatal(state, err)
	}
	w, err := segment.NewFiler(log, fs.New()).RecoverTail(state.Segments[0])
	if err != nil {
		t.Fatal(err)
	}
	is, _, err := w.Sealed()
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return is
}

// TestImportIll takes over logs into which versions of before would have written nothing more, or read wrongly what they wrote.
func TestImportIll(t *testing.T) {
	t.Parallel()
	index := func(bytes byte) []byte { return []byte{2, 0, 0, 0, bytes, 0, 0, 0} }
	const sealed = 33 // with which entry a segment is full
	if dir := killedLog(t, sealed); !isSealed(t, filepath.Join(dir, oldLogDir)) {
		t.Fatal("the segment is not full")
	}
	for name, c := range map[string]struct {
		last   uint64
		behind []byte
	}{
		"full, and no next one": {sealed, nil},
		"index of none":         {5, index(0)},
		"index of more":         {5, append(index(24), bytes.Repeat([]byte{7}, 24)...)},
		"two":                   {5, append(append(index(8), make([]byte, 8)...), index(0)...)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := killedLog(t, c.last)
			if c.behind != nil {
				putBehind(t, filepath.Join(dir, oldLogDir), c.behind)
			}
			s, err := Open(Config{Dir: dir, NodeID: "node1"})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.logs.StoreLog(entryOf(c.last+1, 7)); err != nil {
				t.Fatal(err)
			}
			terms := make([]uint64, c.last+1)
			for i := range terms {
				terms[i] = 7
			}
			s.logs.recent = nil
			wantEntries(t, s, 1, terms...)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestImportInterrupted has the take-over fail at each change to the disk, as a crash does: the next start has all.
func TestImportInterrupted(t *testing.T) {
	t.Parallel()
	for at, through := 1, false; !through; at++ {
		dir := t.TempDir()
		oldLog(t, dir, 20)
		changes := 0
		cfg := Config{Dir: dir, NodeID: "node1"}
		ill := cfg
		ill.fs = errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
			own := strings.HasPrefix(op.Path, filepath.Join(dir, walDir)) || strings.HasPrefix(op.Path, filepath.Join(dir, oldLogDir)) || op.Path == dir
			if !own || op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
				return nil
			}
			if changes++; changes >= at {
				return syscall.EIO
			}
			return nil
		}))
		s, err := Open(ill)
		if through = err == nil; through {
			if err := s.Close(); err != nil && !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
		}
		if s, err = Open(cfg); err != nil {
			t.Fatalf("after a failure at %d: %v", at, err)
		}
		want := make([]uint64, 18)
		for i := range want {
			want[i] = 7
		}
		wantEntries(t, s, 3, want...)
		if term, err := s.stable.GetUint64([]byte(termKey)); err != nil || term != 7 {
			t.Errorf("after a failure at %d the term is %d, %v", at, term, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if at > 200 {
			t.Fatal("it never comes through")
		}
	}
}

// TestOlderVersionKeptOut has an older version be started on the folder of a node: it finds no place for its log. Where it did all the same, the node is refused.
func TestOlderVersionKeptOut(t *testing.T) {
	t.Parallel()
	for _, imported := range []bool{false, true} {
		dir := t.TempDir()
		if imported {
			oldLog(t, dir, 20)
		}
		cfg := Config{Dir: dir, NodeID: "node1"}
		for range 2 {
			s, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, oldLogDir)
		if err := vfs.Default.MkdirAll(path, 0o700); err == nil {
			t.Error("an older version has a place for its log")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		oldLog(t, dir, 5)
		if _, err := Open(cfg); !errs.Is(err, errs.Failed) {
			t.Errorf("after an older version has run: %v", err)
		}
		if _, err := os.Stat(filepath.Join(path, "wal-meta.db")); err != nil {
			t.Errorf("what it wrote is gone: %v", err)
		}
	}
}
