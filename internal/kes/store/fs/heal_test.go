package fs

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"arca/internal/kes/store"
)

// block makes checkpoints fail: the journal cannot be put aside.
func block(t *testing.T, dir string) (unblock func()) {
	t.Helper()
	path := filepath.Join(dir, journalOld)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHeals goes on after a checkpoint that failed: keys are created meanwhile, none is
// deleted that could come back, and without a restart all is as before.
func TestHeals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := owner(t, dir)
	first, second := stored(t), stored(t)
	if err := errors.Join(s.Create(t.Context(), "first", first), s.Create(t.Context(), "gone", stored(t))); err != nil {
		t.Fatal(err)
	}
	unblock := block(t, dir)
	j := s.journal.Load()
	j.checkpoint()
	if !j.hurt.Load() {
		t.Fatal("the checkpoint did not fail")
	}
	if err := s.Create(t.Context(), "second", second); err != nil {
		t.Errorf("create: %v", err)
	}
	if err := s.Delete(t.Context(), "gone"); err == nil {
		t.Error("deleted, though the journal has it still")
	}
	if _, err := s.Get(t.Context(), "gone"); err != nil {
		t.Errorf("an error says that it was not deleted, but it is gone: %v", err)
	}
	unblock()
	if err := s.Delete(t.Context(), "gone"); err != nil { // this heals
		t.Errorf("delete: %v", err)
	}
	if j.hurt.Load() || j.dirty.Load() {
		t.Error("it is not healed")
	}
	third := stored(t)
	if err := s.Create(t.Context(), "third", third); err != nil || !j.dirty.Load() {
		t.Errorf("the journal is not used again: %v", err)
	}
	want := map[string]string{"first": string(first), "second": string(second), "third": string(third)}
	if got := contents(t, open(t, powerCut(t, dir, func(_ string, v []byte) []byte { return v }))); !maps.Equal(got, want) {
		t.Errorf("got %v", slices.Sorted(maps.Keys(got)))
	}
}

// TestHealsByItself needs no request for it.
func TestHealsByItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := owner(t, dir)
	if err := errors.Join(s.Create(t.Context(), "k", stored(t)), s.Create(t.Context(), "removed", stored(t))); err != nil {
		t.Fatal(err)
	}
	unblock := block(t, dir)
	j := s.journal.Load()
	j.look()
	j.look()
	if !j.hurt.Load() {
		t.Fatal("the checkpoint did not fail")
	}
	unblock()
	if err := os.Remove(filepath.Join(dir, "removed")); err != nil {
		t.Fatal(err)
	}
	j.look()
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); j.hurt.Load() || len(left) != 0 {
		t.Errorf("left %v, hurt %v", left, j.hurt.Load())
	}
	if got := contents(t, s); len(got) != 1 {
		t.Errorf("there is %v", slices.Sorted(maps.Keys(got)))
	}
}

// TestPipeInPlace is not kept from a checkpoint, nor from a start, by what was put in a
// key's place.
func TestPipeInPlace(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		dir := t.TempDir()
		s := owner(t, dir)
		for _, name := range []string{"pipe", "folder", "k"} {
			if err := s.Create(t.Context(), name, stored(t)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Remove(filepath.Join(dir, "pipe")), os.Remove(filepath.Join(dir, "folder"))); err != nil {
			t.Fatal(err)
		}
		pipe(t, filepath.Join(dir, "pipe"))
		if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
			t.Fatal(err)
		}
		j := s.journal.Load()
		if crash {
			s.journal.Store(nil)
			j.timer.Stop()
			if err := errors.Join(os.Rename(j.file.Name(), filepath.Join(dir, journalOld)), j.file.Close(), j.lock.Close()); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir)
		} else {
			j.checkpoint()
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 || j.hurt.Load() {
			t.Errorf("left %v", left)
		}
		if err := s.Delete(t.Context(), "k"); err != nil {
			t.Error(err)
		}
	}
}

// TestRemovedOutside does not bring back a key that was deleted after its file had been
// removed by another program.
func TestRemovedOutside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := owner(t, dir)
	if err := errors.Join(s.Create(t.Context(), "k", stored(t)), os.Remove(filepath.Join(dir, "k"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	after := open(t, powerCut(t, dir, func(_ string, v []byte) []byte { return v }))
	if got := contents(t, after); len(got) != 0 {
		t.Errorf("it is back: %v", slices.Sorted(maps.Keys(got)))
	}
}

// TestCutDuringDelete has the tombstone, and the file or a part of it.
func TestCutDuringDelete(t *testing.T) {
	t.Parallel()
	for _, part := range []int{0, 10, 1000} {
		dir := t.TempDir()
		s := owner(t, dir)
		if err := errors.Join(s.Create(t.Context(), "k", stored(t)), bury(t.Context(), s.journal.Load(), "k")); err != nil {
			t.Fatal(err)
		}
		after := open(t, powerCut(t, dir, func(_ string, v []byte) []byte { return v[:min(part, len(v))] }))
		if names, _, err := after.List(t.Context(), "", "", 9); err != nil || (len(names) == 1) != (part == 1000) {
			t.Errorf("%d bytes of it: %v, %v", part, names, err)
		}
	}
}

// A creation that was refused stays so, whatever of its record an ill disk has: another
// server's key is deleted, and none comes in its place.
func TestRefusedStaysRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := owner(t, dir)
	if err := s.Create(t.Context(), "first", stored(t)); err != nil {
		t.Fatal(err)
	}
	other, value := open(t, dir), stored(t)
	j := s.journal.Load()
	j.turn.Lock()
	refused := make(chan error, 1)
	go func() { refused <- s.Create(t.Context(), "k", value) }()
	for waits := false; !waits; runtime.Gosched() {
		j.mu.Lock()
		waits = j.next != nil
		j.mu.Unlock()
	}
	err := other.Create(t.Context(), "k", stored(t))
	if _, wrote := j.file.Write(newRecord(kindCreate, "k", value)); err != nil || wrote != nil {
		t.Fatal(err, wrote)
	}
	j.fail(errors.New("the disk is ill"))
	j.turn.Unlock()
	if err := <-refused; !errors.Is(err, store.ErrExists) {
		t.Fatalf("created: %v", err)
	}
	if err := other.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	after := open(t, powerCut(t, dir, func(_ string, v []byte) []byte { return v }))
	if _, err := after.Get(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the refused key is there: %v", err)
	}
	if _, err := after.Get(t.Context(), "first"); err != nil {
		t.Error(err)
	}
}
