package fs

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"arca/internal/kes/key"
	"arca/internal/kes/store"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// owner is a store with the folder's lock; the test is skipped where there is none.
func owner(t *testing.T, dir string) *Store {
	t.Helper()
	s := open(t, dir)
	if s.owned(t.Context()) == nil {
		t.Skip("this file system has no journal")
	}
	s.writing.Add(many) // as if others were creating, too
	return s
}

func stored(t *testing.T) []byte {
	t.Helper()
	k, err := key.New(key.AES256, time.Now(), "me")
	if err != nil {
		t.Fatal(err)
	}
	return k.Encode()
}

// powerCut makes a folder of what is durable of another: the journal, and of the
// keys' files what a disk may have of them, as spoil says.
func powerCut(t *testing.T, from string, spoil func(name string, content []byte) []byte) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if key.IsName(e.Name()) {
			if content = spoil(e.Name(), content); content == nil {
				continue
			}
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func contents(t *testing.T, s *Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	names, _, err := s.List(t.Context(), "", "", 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		v, err := s.Get(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		out[n] = string(v)
	}
	return out
}

// TestPowerCut cuts the power after creations and deletions: whatever the disk has
// of the files, each acknowledged one is there, and none that was deleted.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := owner(t, dir)
	j := s.journal.Load()
	leave, err := j.checking.Take(t.Context(), onlyOne) // no checkpoint, after which files may not be spoilt
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := range 10 {
				name, value := fmt.Sprintf("k%d-%d", i, n), stored(t)
				if err := s.Create(t.Context(), name, value); err != nil {
					t.Error(err)
					return
				}
				if n%3 == 2 {
					if err := s.Delete(t.Context(), name); err != nil {
						t.Error(err)
					}
					if n%2 == 0 { // made anew
						value = stored(t)
						if err := s.Create(t.Context(), name, value); err != nil {
							t.Error(err)
						}
					} else {
						continue
					}
				}
				mu.Lock()
				want[name] = string(value)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for how, spoil := range map[string]func(string, []byte) []byte{
		"all":    func(_ string, b []byte) []byte { return b },
		"none":   func(string, []byte) []byte { return nil },
		"empty":  func(string, []byte) []byte { return []byte{} },
		"zeroes": func(_ string, b []byte) []byte { return make([]byte, len(b)) },
		"half":   func(_ string, b []byte) []byte { return b[:len(b)/2] },
	} {
		after := powerCut(t, dir, spoil)
		if got := contents(t, open(t, after)); !maps.Equal(got, want) {
			t.Errorf("%s: %d keys instead of %d, or others", how, len(got), len(want))
		}
		if left, _ := filepath.Glob(filepath.Join(after, ".*")); len(left) != 0 {
			t.Errorf("%s: left %v", how, left)
		}
	}
	// With a checkpoint, the files are all there is.
	leave()
	j.checkpoint()
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left after a checkpoint: %v", left)
	}
	if got := contents(t, s); !maps.Equal(got, want) {
		t.Errorf("%d keys instead of %d, or others", len(got), len(want))
	}
}

// TestCutDuringCheckpoint has both journals: the later decides.
func TestCutDuringCheckpoint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := owner(t, dir)
	stays, goes, late := stored(t), stored(t), stored(t)
	for name, v := range map[string][]byte{"stays": stays, "goes": goes} {
		if err := s.Create(t.Context(), name, v); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := s.journal.Load().rotate(); !ok {
		t.Fatal("nothing to rotate")
	}
	if err := errors.Join(s.Delete(t.Context(), "goes"), s.Create(t.Context(), "late", late)); err != nil {
		t.Fatal(err)
	}
	got := contents(t, open(t, powerCut(t, dir, func(string, []byte) []byte { return nil })))
	if want := map[string]string{"stays": string(stays), "late": string(late)}; !maps.Equal(got, want) {
		t.Errorf("got %v", slices.Sorted(maps.Keys(got)))
	}
}

// TestOtherServers leaves the journal to the one that has the lock; what another
// deletes does not come back, and what another has made since is not overwritten.
func TestOtherServers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := owner(t, dir), open(t, dir)
	if err := errors.Join(a.Create(t.Context(), "k", stored(t)), a.Create(t.Context(), "gone", stored(t))); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "k", stored(t)); !errors.Is(err, store.ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	anew := stored(t)
	if err := errors.Join(b.Delete(t.Context(), "gone"), b.Delete(t.Context(), "k"), b.Create(t.Context(), "k", anew)); err != nil {
		t.Fatal(err)
	}
	if b.owned(t.Context()) != nil {
		t.Fatal("two have the lock")
	}
	after := powerCut(t, dir, func(_ string, v []byte) []byte { return v })
	if got := contents(t, open(t, after)); !maps.Equal(got, map[string]string{"k": string(anew)}) {
		t.Errorf("got %v", slices.Sorted(maps.Keys(got)))
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b.tried = time.Time{}
	if b.owned(t.Context()) == nil {
		t.Error("the lock is not handed on")
	}
}

// TestFolderExchanged does not write to a journal that is gone.
func TestFolderExchanged(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	s := owner(t, dir)
	for round := range 2 {
		if err := s.Create(t.Context(), fmt.Sprintf("k%d", round), stored(t)); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			if err := errors.Join(os.Rename(dir, dir+"-old"), os.Mkdir(dir, 0o755)); err != nil {
				t.Fatal(err)
			}
			if err := s.Create(t.Context(), "lost", stored(t)); !store.IsUnreachable(err) {
				t.Errorf("got %v", err)
			}
			if names, _, err := s.List(t.Context(), "", "", 9); err != nil || len(names) != 0 {
				t.Errorf("there is %v, %v", names, err)
			}
		}
	}
	after := powerCut(t, dir, func(string, []byte) []byte { return nil })
	if got := contents(t, open(t, after)); len(got) != 1 {
		t.Errorf("got %v", slices.Sorted(maps.Keys(got)))
	}
}

// TestFewKeys leaves nothing in the folder but keys, also after many when these
// have ended.
func TestFewKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := owner(t, dir)
	s.writing.Store(0)
	hidden := func() int {
		left, err := filepath.Glob(filepath.Join(dir, ".*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(left)
	}
	if err := s.Create(t.Context(), "one", stored(t)); err != nil || hidden() != 0 {
		t.Errorf("%d files besides, %v", hidden(), err)
	}
	s.writing.Store(many)
	if err := s.Create(t.Context(), "two", stored(t)); err != nil || hidden() != 1 {
		t.Errorf("%d files besides, %v", hidden(), err)
	}
	s.journal.Load().look()
	if hidden() != 1 {
		t.Error("it ends at once")
	}
	s.journal.Load().look()
	if hidden() != 0 {
		t.Error("it stays when all is quiet")
	}
}

// TestClosed takes nothing more.
func TestClosed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := owner(t, dir)
	if err := s.Create(t.Context(), "k", stored(t)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// TestNoKeys is not held up by what is no file.
func TestNoKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	pipe(t, filepath.Join(dir, "pipe"))
	s := open(t, dir)
	for _, name := range []string{"folder", "pipe"} {
		if v, err := s.Get(t.Context(), name); err == nil {
			t.Errorf("%s: %q", name, v)
		}
		if err := s.Create(t.Context(), name, stored(t)); !errors.Is(err, store.ErrExists) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKilled starts soon after a server was killed: files that are whole stay as they
// are, and are written once more if a checkpoint had begun.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, checking := range []bool{false, true} {
		dir := t.TempDir()
		s := owner(t, dir)
		if err := s.Create(t.Context(), "k", stored(t)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "k")
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		long := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
		if checking {
			if _, ok := s.journal.Load().rotate(); !ok {
				t.Fatal("nothing to rotate")
			}
		}
		kill(t, s)
		again := open(t, dir)
		after, err := os.Stat(path)
		if err != nil || !os.SameFile(before, after) {
			t.Errorf("another file: %v", err)
		} else if written := after.ModTime().After(long.Add(time.Minute)); written != checking {
			t.Errorf("written again: %v", written)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 || len(contents(t, again)) != 1 {
			t.Errorf("left %v", left)
		}
	}
}

// TestLinks writes to no file to which somebody has made a journal's name lead.
func TestLinks(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, b := owner(t, dir), open(t, dir)
	if err := errors.Join(b.Create(t.Context(), "k", stored(t)), os.Symlink(other, filepath.Join(dir, journalName))); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "k"); err == nil {
		t.Error("it says that nothing can bring the key back")
	}
	if err := a.Create(t.Context(), "k2", stored(t)); err != nil {
		t.Errorf("it needs the journal: %v", err)
	}
	if got, err := os.ReadFile(other); err != nil || string(got) != "precious" {
		t.Errorf("the file is %q, %v", got, err)
	}
}

// FuzzReplay reads any journal, and finds every whole record whatever lies between.
func FuzzReplay(f *testing.F) {
	one := newRecord(kindCreate, "k", []byte("value"))
	f.Add(one, []byte{})
	f.Add(one[:7], append(tombstone("k", []byte("value")), one...))
	f.Add([]byte(recordMagic+"c\x01\xff\xff\xff\xff"), one[3:])
	f.Fuzz(func(t *testing.T, before, behind []byte) {
		whole := newRecord(kindCreate, "mine", []byte("kept"))
		got, _, err := replay(iotest.OneByteReader(bytes.NewReader(slices.Concat(before, whole))))
		if err != nil || !bytes.Equal(got["mine"], []byte("kept")) {
			t.Errorf("lost behind %q", before)
		}
		if _, _, err := replay(bytes.NewReader(slices.Concat(before, whole, behind))); err != nil {
			t.Error(err)
		}
	})
}

// TestManySoon takes keys that are made one after the other into the journal when they
// are many, and syncs each of a few for itself.
func TestManySoon(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	if s.owned(t.Context()) == nil {
		t.Skip("this file system has no journal")
	}
	now := time.Now()
	for i := range manySoon {
		if s.isSoon(now.Add(time.Duration(i) * 10 * time.Millisecond)) {
			t.Fatalf("the creation %d is one of many", i)
		}
	}
	for at, want := range map[time.Duration]bool{900 * time.Millisecond: true, 1200 * time.Millisecond: false} {
		if got := (&Store{begun: s.begun, oldest: s.oldest}).isSoon(now.Add(at)); got != want {
			t.Errorf("after %v: %v", at, got)
		}
	}
	j := s.journal.Load()
	for i := range s.begun {
		s.begun[i] = now.Add(-time.Minute)
	}
	if err := s.Create(t.Context(), "few", stored(t)); err != nil || j.dirty.Load() {
		t.Errorf("one of a few: %v, in the journal: %v", err, j.dirty.Load())
	}
	for i := range s.begun {
		s.begun[i] = time.Now()
	}
	value := stored(t)
	if err := s.Create(t.Context(), "many", value); err != nil || !j.dirty.Load() {
		t.Errorf("one of many: %v, in the journal: %v", err, j.dirty.Load())
	}
	// Of the one in the journal, a crash may have left nothing.
	after := open(t, powerCut(t, s.dir, func(name string, content []byte) []byte {
		if name == "many" {
			return nil
		}
		return content
	}))
	if got, err := after.Get(t.Context(), "many"); err != nil || !bytes.Equal(got, value) {
		t.Errorf("after a crash: %v", err)
	}
	if _, err := after.Get(t.Context(), "few"); err != nil {
		t.Error(err)
	}
}
