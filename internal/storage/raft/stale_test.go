package raft

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// An ill file system fails as it is told to.
type ill struct {
	types.VFS
	creates  *atomic.Bool  // no file can be made
	opened   *atomic.Int32 // how many files were opened to be written
	bad      int32         // which of them cannot be read
	half     *atomic.Bool  // the first half of what is written is, and then the disk is full
	unsynced *atomic.Bool  // what is written is not made durable
}

// Create implements types.VFS.
func (i ill) Create(dir, name string, size uint64) (types.WritableFile, error) {
	if i.creates.Load() {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
	}
	f, err := i.VFS.Create(dir, name, size)
	return illFile{f.(*fs.File), i.half, i.unsynced}, err
}

// OpenWriter implements types.VFS.
func (i ill) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := i.VFS.OpenWriter(dir, name)
	if err == nil && i.opened.Add(1) == i.bad {
		return unreadable{f}, nil
	}
	return f, err
}

type unreadable struct{ types.WritableFile }

// ReadAt implements io.ReaderAt.
func (unreadable) ReadAt([]byte, int64) (int, error) { return 0, syscall.EIO }

type illFile struct {
	*fs.File
	half, unsynced *atomic.Bool
}

// Sync implements types.WritableFile.
func (f illFile) Sync() error {
	if f.unsynced.Load() {
		return syscall.EIO
	}
	return f.File.Sync()
}

// WriteAt implements io.WriterAt.
func (f illFile) WriteAt(b []byte, at int64) (int, error) {
	if !f.half.Load() {
		return f.File.WriteAt(b, at)
	}
	n, err := f.File.WriteAt(b[:len(b)/2], at)
	return n, errors.Join(err, syscall.ENOSPC)
}

func newIll() ill {
	return ill{VFS: fs.New(), creates: new(atomic.Bool), opened: new(atomic.Int32), bad: -1, half: new(atomic.Bool), unsynced: new(atomic.Bool)}
}

// A node whose log takes nothing more, since its next segment could not be begun, says so, and goes on when it is started again.
func TestSegmentNotBegun(t *testing.T) {
	t.Parallel()
	below := newIll()
	dir := t.TempDir()
	s, err := Open(Config{Dir: dir, NodeID: "node1", segments: below})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, 0, perSegment-1)
	below.creates.Store(true)
	fill(t, s, perSegment-1, perSegment)
	next := &raft.Log{Index: perSegment + 1, Term: 1, Data: []byte{perSegment + 1}}
	if err := s.logs.StoreLog(next); err == nil || s.Err() == nil {
		t.Errorf("got %v; the store says %v", err, s.Err())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	goesOn(t, dir, 0, perSegment)
}

// The end of the log is taken back, with a whole segment, and the next cannot be begun: nothing more is taken, as the library would write it where nobody
// reads it again.
func TestCutNotBegun(t *testing.T) {
	t.Parallel()
	below := newIll()
	dir := t.TempDir()
	s, err := Open(Config{Dir: dir, NodeID: "node1", segments: below})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, 0, perSegment+2)
	below.creates.Store(true)
	if err := s.logs.DeleteRange(perSegment+1, perSegment+2); err == nil {
		t.Error("the end is taken back without a segment")
	}
	below.creates.Store(false)
	if err := s.logs.StoreLog(&raft.Log{Index: perSegment + 3, Term: 1, Data: []byte{perSegment + 3}}); err == nil || s.Err() == nil {
		t.Errorf("an entry: %v; the store says %v", err, s.Err())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	goesOn(t, dir, 0, perSegment)
}

// An index that cannot be read is no index that is not there.
func TestIndexUnreadable(t *testing.T) {
	t.Parallel()
	dir := killed(t, 0)
	below := newIll()
	below.bad = 2 // the first is the library's look at the segment
	if s, err := Open(Config{Dir: dir, NodeID: "node1", segments: below}); !errors.Is(err, syscall.EIO) {
		t.Errorf("opened, %v", err)
		if err == nil {
			_ = s.Close() // what counts is what the next one reads
		}
	}
	goesOn(t, dir, 0, perSegment)
}

// What a failed write has left behind the entries, or a crash, is no index, also where the library takes it for one.
func TestStaleIndex(t *testing.T) {
	t.Parallel()
	index := func(bytes byte) []byte { return []byte{2, 0, 0, 0, bytes, 0, 0, 0} }
	for name, c := range map[string]struct {
		entries uint64
		behind  []byte
	}{
		"of none, behind none":    {perSegment, index(0)},
		"of none, behind entries": {5, index(0)},
		"of more":                 {5, append(index(24), bytes.Repeat([]byte{7}, 24)...)},
		"two":                     {5, append(append(index(8), make([]byte, 8)...), index(0)...)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, err := Open(Config{Dir: dir, NodeID: "node1"})
			if err != nil {
				t.Fatal(err)
			}
			fill(t, s, 0, c.entries)
			if _, err := s.logs.LastIndex(); err != nil {
				t.Fatal(err)
			}
			if c.entries == perSegment { // this waits until the next segment is begun
				if err := s.logs.DeleteRange(1, 1); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			putBehind(t, filepath.Join(dir, walDir), c.behind)
			first := uint64(0)
			if c.entries == perSegment {
				first = 1
			}
			goesOn(t, dir, first, c.entries)
		})
	}
}

// putBehind writes behind the last frame of the last segment.
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
	const fileHeader, commit = 32, 3
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

// Of a write that failed, or was not made durable, nothing is left behind the entries that come in its place.
func TestWriteLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(i *ill) *atomic.Bool{
		"half written": func(i *ill) *atomic.Bool { return i.half },
		"not synced":   func(i *ill) *atomic.Bool { return i.unsynced },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			below := newIll()
			dir := t.TempDir()
			s, err := Open(Config{Dir: dir, NodeID: "node1", segments: below})
			if err != nil {
				t.Fatal(err)
			}
			fill(t, s, 0, 2)
			fault(&below).Store(true)
			frames := bytes.Repeat([]byte{1, 0, 0, 0, 8, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9}, 4096)
			if err := s.logs.StoreLog(&raft.Log{Index: 3, Term: 1, Data: frames}); err == nil {
				t.Fatal("the entry was taken")
			}
			fault(&below).Store(false)
			if err := s.logs.StoreLog(&raft.Log{Index: 3, Term: 1, Data: []byte{3}}); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, walDir, "*.wal"))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			raw, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(raw, frames[:64]) {
				t.Error("the failed write is still there")
			}
			goesOn(t, dir, 0, 3)
		})
	}
}

// Entries that are not applied were removed from an otherwise empty log: raft believes in them where none can come in their place.
func TestCutOfAll(t *testing.T) {
	t.Parallel()
	for name, applied := range map[string]uint64{"not applied": 9, "applied": 12} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			below := newIll()
			s, err := Open(Config{Dir: t.TempDir(), NodeID: "node1", segments: below})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }() // what counts was read before
			for i := range uint64(3) {
				if err := s.logs.StoreLog(&raft.Log{Index: 10 + i, Term: 1}); err != nil {
					t.Fatal(err)
				}
			}
			s.logs.applied = func() uint64 { return applied }
			if err := s.logs.DeleteRange(10, 12); err != nil {
				t.Fatal(err)
			}
			below.half.Store(true)
			if err := s.logs.StoreLog(&raft.Log{Index: 10, Term: 2}); err == nil {
				t.Fatal("half of an entry was taken")
			}
			if left := s.Err() != nil; left != (applied < 10) {
				t.Errorf("the node has left: %v", s.Err())
			}
		})
	}
}

// What is durable stays, whatever a later sync says.
func TestSyncOfNothing(t *testing.T) {
	t.Parallel()
	below := newIll()
	dir := t.TempDir()
	f, err := segments{below}.Create(dir, "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("kept"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	below.unsynced.Store(true)
	if err := f.Sync(); err == nil {
		t.Error("synced")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "f")); string(got) != "kept" {
		t.Errorf("left is %q, %v", got, err)
	}
}
