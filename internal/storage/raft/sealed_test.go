package raft

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
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

// perSegment is how many entries of 1 MiB fill one.
const perSegment = segmentBytes >> 20

// fill stores entries of 1 MiB behind another.
func fill(t *testing.T, s *Store, behind, last uint64) {
	t.Helper()
	for i := behind + 1; i <= last; i++ {
		if err := s.logs.StoreLog(&raft.Log{Index: i, Term: 1, Data: bytes.Repeat([]byte{byte(i)}, 1<<20)}); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
}

// killed is the folder of a node whose process ended when the last entry of a segment was on the disk, and the next segment not begun. Of the
// log first entries are gone.
func killed(t *testing.T, first uint64) string {
	t.Helper()
	dir, next := t.TempDir(), t.TempDir()
	var last bool
	s, err := Open(Config{Dir: dir, NodeID: "node1", segments: watched{fs.New(), func() {
		if !last {
			return
		}
		last = false
		if err := os.CopyFS(filepath.Join(next, walDir), os.DirFS(filepath.Join(dir, walDir))); err != nil {
			t.Error(err)
		}
	}}})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, 0, perSegment-1)
	if first > 0 {
		if err := s.logs.DeleteRange(1, first); err != nil {
			t.Fatal(err)
		}
	}
	last = true
	fill(t, s, perSegment-1, perSegment)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return next
}

// goesOn opens the log, whose entries behind one lead up to another, and writes more.
func goesOn(t *testing.T, dir string, first, last uint64) {
	t.Helper()
	for _, more := range []uint64{2*perSegment + 3, 1} { // and once more
		s, err := Open(Config{Dir: dir, NodeID: "node1"})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := s.logs.LastIndex(); err != nil || n != last {
			t.Errorf("the log leads up to %d (%v), and not to %d", n, err, last)
		}
		fill(t, s, last, last+more)
		last += more
		for i := first + 1; i <= last; i++ {
			var log raft.Log
			if err := s.logs.GetLog(i, &log); err != nil || log.Index != i || log.Data[0] != byte(i) {
				t.Fatalf("entry %d: %v", i, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKilledAtSegment opens the log of a process that ended when the last entry of a segment was on the disk, and the next segment not begun.
func TestKilledAtSegment(t *testing.T) {
	t.Parallel()
	for _, first := range []uint64{0, 3} {
		goesOn(t, killed(t, first), first, perSegment)
	}
}

// TestIndexCutShort opens the log of a machine that crashed while a segment got its last entry and its index.
func TestIndexCutShort(t *testing.T) {
	t.Parallel()
	for name, behind := range map[string]int64{"in the index": 4, "behind the index": 4 * perSegment} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := killed(t, 0)
			log := filepath.Join(dir, walDir)
			meta := &metadb.BoltMetaDB{}
			state, err := meta.Load(log)
			if err != nil || len(state.Segments) != 1 {
				t.Fatal(state, err)
			}
			w, err := segment.NewFiler(log, fs.New()).RecoverTail(state.Segments[0])
			if err != nil {
				t.Fatal(err)
			}
			_, start, err := w.Sealed()
			if err != nil || start == 0 {
				t.Fatal(start, err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if err := meta.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(filepath.Join(log, segment.FileName(state.Segments[0])), int64(start)+behind); err != nil {
				t.Fatal(err)
			}
			goesOn(t, dir, 0, perSegment-1)
		})
	}
}
