package fs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestNoRoom opens a folder that cannot be recovered for now: keys are read, also those
// of the journal only, nothing is made or deleted, and when there is room all is as ever.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if lock, err := lockDir(dir); err != nil {
		t.Skip("this file system has no journal", err)
	} else if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	names := left(t, dir, journalName, 3)
	value, err := os.ReadFile(filepath.Join(dir, names[0]))
	if err := errors.Join(err, os.Remove(filepath.Join(dir, names[0])), os.Truncate(filepath.Join(dir, names[1]), 5)); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	s := &Store{dir: dir}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.openFull(&fs.PathError{Op: "write", Err: syscall.ENOSPC}, nil); err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(contents(t, s))); !slices.Equal(got, names) {
		t.Errorf("there is %v", got)
	}
	if got, err := s.Get(t.Context(), names[0]); err != nil || !bytes.Equal(got, value) {
		t.Errorf("another key, %v", err)
	}
	for _, err := range []error{s.Create(t.Context(), "new", value), s.Set(t.Context(), names[0], value), s.Delete(t.Context(), names[0])} {
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("got %v", err)
		}
	}
	if after := snapshot(t, dir); after != before {
		t.Errorf("the folder was\n%s\nand is\n%s", before, after)
	}
	other := open(t, dir) // there is room now, and another is first
	if err := other.Delete(t.Context(), names[0]); err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(contents(t, s))); !slices.Equal(got, names[1:]) {
		t.Errorf("what another has deleted is back: %v", got)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if !s.thaw() {
		t.Fatal("it stays as it is")
	}
	if err := errors.Join(s.Create(t.Context(), "new", stored(t)), s.Delete(t.Context(), names[1])); err != nil {
		t.Error(err)
	}
	if got := slices.Sorted(maps.Keys(contents(t, s))); !slices.Equal(got, []string{names[2], "new"}) {
		t.Errorf("there is %v", got)
	}
}

// TestFullDisk starts on a disk without any room: where all files are whole, that needs
// none, and else it waits for room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{true, false} {
		dir := t.TempDir()
		disk(t, dir)
		keys := filepath.Join(dir, "keys")
		if err := os.Mkdir(keys, 0o700); err != nil {
			t.Fatal(err)
		}
		names := left(t, keys, journalOld, 50)
		if !whole {
			if err := os.Remove(filepath.Join(keys, names[7])); err != nil {
				t.Fatal(err)
			}
		}
		var full error
		for i := 0; full == nil; i++ {
			full = os.WriteFile(filepath.Join(dir, fmt.Sprint("full", i)), make([]byte, 4096), 0o600)
		}
		s := open(t, keys)
		if got := contents(t, s); len(got) != len(names) {
			t.Errorf("whole %v: %d keys", whole, len(got))
		}
		if err := s.Delete(t.Context(), names[0]); errors.Is(err, syscall.ENOSPC) == whole {
			t.Errorf("whole %v: %v", whole, err)
		}
		if whole {
			continue
		}
		for i := range 8 {
			_ = os.Remove(filepath.Join(dir, fmt.Sprint("full", i))) // some may be missing
		}
		if !s.thaw() {
			t.Fatal("there is room now")
		}
		if err := s.Delete(t.Context(), names[0]); err != nil {
			t.Error(err)
		}
		if got := contents(t, s); len(got) != len(names)-1 {
			t.Errorf("%d keys", len(got))
		}
	}
}
