package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"arca/internal/kes/store"
)

// kill ends a store as a signal does: the kernel drops its locks, and nothing else is
// done.
func kill(t *testing.T, s *Store) {
	t.Helper()
	j := s.journal.Swap(nil)
	j.timer.Stop()
	for _, f := range []*os.File{j.file, j.old, j.lock} {
		if f == nil {
			continue
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// left makes a folder as a killed server leaves it: n keys, with a journal.
func left(t *testing.T, dir, journal string, n int) (names []string) {
	t.Helper()
	var all []byte
	for i := range n {
		name, value := fmt.Sprintf("k%05d", i), stored(t)
		all = append(all, newRecord(kindCreate, name, value)...)
		names = append(names, name)
		if err := os.WriteFile(filepath.Join(dir, name), value, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, journal), all, 0o600); err != nil {
		t.Fatal(err)
	}
	return names
}

// TestRecoveryAmongOthers starts two servers on what a third has left, while a fourth
// deletes keys and makes some anew: no deletion is undone, and no new key lost.
func TestRecoveryAmongOthers(t *testing.T) {
	t.Parallel()
	for _, journal := range []string{journalName, journalOld} {
		for _, anew := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s-%v", journal, anew), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				b := open(t, dir)
				b.without = true // it must not take the folder over itself
				names := left(t, dir, journal, 1000)
				slices.Reverse(names)
				want := map[string][]byte{}
				start := make(chan struct{})
				var wg sync.WaitGroup
				for range 2 {
					wg.Go(func() {
						<-start
						a, err := Open(t.Context(), dir, nil)
						if err != nil {
							t.Error(err)
							return
						}
						if err := a.Close(); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Go(func() {
					close(start)
					for i, name := range names {
						if i%7 != 0 {
							continue
						}
						if err := b.Delete(t.Context(), name); err != nil {
							t.Errorf("delete %s: %v", name, err)
						}
						want[name] = nil
						if anew {
							want[name] = stored(t)
							if err := b.Create(t.Context(), name, want[name]); err != nil {
								t.Errorf("create %s: %v", name, err)
							}
						}
					}
				})
				wg.Wait()
				for _, name := range names {
					value, made := want[name]
					got, err := os.ReadFile(filepath.Join(dir, name))
					switch {
					case made && value == nil && !errors.Is(err, os.ErrNotExist):
						t.Errorf("%s is back: %v", name, err)
					case value != nil && !bytes.Equal(got, value):
						t.Errorf("the new %s is lost: %v", name, err)
					case !made && err != nil:
						t.Errorf("%s: %v", name, err)
					}
				}
				if hidden, _ := filepath.Glob(filepath.Join(dir, ".*")); len(hidden) != 0 {
					t.Errorf("left %v", hidden)
				}
			})
		}
	}
}

// TestRecoveryWaits for who takes a key away, and changes nothing when that lasts too
// long.
func TestRecoveryWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := lockDir(dir)
	if err != nil {
		t.Skip("this file system has no journal", err)
	}
	defer lock.Close()
	names := left(t, dir, journalName, 2)
	h, err := holdJournals(t.Context(), dir, false)
	if err != nil {
		t.Fatal(err)
	}
	value, err := os.ReadFile(filepath.Join(dir, names[0]))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, names[0])); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := recoverJournal(short, t.Context(), dir, lock); !store.IsUnreachable(err) {
		t.Errorf("it does not wait: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("there is %v, %v", entries, err)
	}
	done := make(chan error)
	go func() { done <- recoverJournal(t.Context(), t.Context(), dir, lock) }()
	if err := h.tell(tombstone(names[0], value)); err != nil {
		t.Fatal(err)
	}
	h.release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || entries[0].Name() != names[1] {
		t.Errorf("there is %v, %v", entries, err)
	}
}

// TestTakesNoName gives no file a name that another has got since it was compared.
func TestTakesNoName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "k")
	for _, was := range []bool{false, true} {
		old, anew := stored(t), stored(t)
		if was {
			if err := os.WriteFile(path, old[:10], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w, err := writeAgain(dir, "k", old, true, false)
		if err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(path) // it may be missing
		if err := os.WriteFile(path, anew, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.put(); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, anew) {
			t.Errorf("was there %v: the new key is lost, %v", was, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDeleteDuringRecovery waits for it, and then removes what it has made.
func TestDeleteDuringRecovery(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, dir)
	lock, err := lockDir(dir)
	if err != nil {
		t.Skip("this file system has no journal", err)
	}
	defer lock.Close()
	names := left(t, dir, journalOld, 1)
	h, err := holdJournals(t.Context(), dir, true)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := b.Delete(short, names[0]); !store.IsUnreachable(err) {
		t.Errorf("it does not wait: %v", err)
	}
	done := make(chan error)
	go func() { done <- b.Delete(t.Context(), names[0]) }()
	if err := removeJournals(dir); err != nil {
		t.Fatal(err)
	}
	h.release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := contents(t, b); len(got) != 0 {
		t.Errorf("there is %v", slices.Sorted(maps.Keys(got)))
	}
}

// TestOpenWaits for another server that is recovering the folder: until it has, names
// whose keys are in the journal only seem to be free.
func TestOpenWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := lockDir(dir)
	if err != nil {
		t.Skip("this file system has no journal", err)
	}
	names := left(t, dir, journalName, 1)
	if err := os.Remove(filepath.Join(dir, names[0])); err != nil {
		t.Fatal(err)
	}
	made := make(chan error)
	go func() {
		s, err := Open(t.Context(), dir, nil)
		if err == nil {
			err = errors.Join(s.Create(context.Background(), names[0], []byte("x")), s.Close())
		}
		made <- err
	}()
	select {
	case err := <-made:
		t.Fatalf("it does not wait: %v", err)
	case <-time.After(30 * time.Millisecond):
	}
	if err := errors.Join(recoverJournal(t.Context(), t.Context(), dir, lock), lock.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-made; !errors.Is(err, store.ErrExists) {
		t.Errorf("got %v", err)
	}
}

// TestKilledInRecovery goes on where that has got to.
func TestKilledInRecovery(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	names := left(t, dir, journalOld, 3)
	first, err := os.ReadFile(filepath.Join(dir, names[0]))
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.WriteFile(filepath.Join(dir, unfinished+"x"), first, 0o600), os.Remove(filepath.Join(dir, names[1])),
		os.WriteFile(filepath.Join(dir, journalName), tombstone(names[0], first), 0o600), os.Remove(filepath.Join(dir, names[0])))
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if s.journal.Load() == nil {
		t.Skip("this file system has no journal")
	}
	if got := slices.Sorted(maps.Keys(contents(t, s))); !slices.Equal(got, names[1:]) {
		t.Errorf("got %v", got)
	}
}

// TestDeletionTakesOver drops the journal of a dead server, rather than to add to it
// for ever.
func TestDeletionTakesOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := owner(t, dir), open(t, dir)
	for i := range 20 {
		if err := a.Create(t.Context(), fmt.Sprint("k", i), stored(t)); err != nil {
			t.Fatal(err)
		}
	}
	kill(t, a)
	for i := range 10 {
		if err := b.Delete(t.Context(), fmt.Sprint("k", i)); err != nil {
			t.Fatal(err)
		}
	}
	if hidden, _ := filepath.Glob(filepath.Join(dir, ".*")); len(hidden) != 0 {
		t.Errorf("left %v", hidden)
	}
	if got := contents(t, b); len(got) != 10 {
		t.Errorf("%d keys", len(got))
	}
}

// TestLongJournal finds the tombstones at the end of one that has grown for long.
func TestLongJournal(t *testing.T) {
	t.Parallel()
	value := stored(t)
	noise := bytes.Repeat(tombstone("another", value), 1000)
	rounds := 80<<20/len(noise) + 1
	readers := make([]byte, 0, rounds*len(noise)+1000)
	readers = append(readers, newRecord(kindCreate, "k", value)...)
	readers = append(readers, newRecord(kindCreate, "stays", value)...)
	for range rounds {
		readers = append(readers, noise...)
	}
	keys, gone, err := replay(bytes.NewReader(append(readers, tombstone("k", value)...)))
	if err != nil || len(keys) != 1 || !gone["k"] || !bytes.Equal(keys["stays"], value) {
		t.Errorf("%d keys, %v, %v", len(keys), gone["k"], err)
	}
}

// TestFullJournal takes no more while a checkpoint is held up.
func TestFullJournal(t *testing.T) {
	t.Parallel()
	s := owner(t, t.TempDir())
	if err := s.Create(t.Context(), "a", stored(t)); err != nil {
		t.Fatal(err)
	}
	j := s.journal.Load()
	before := j.size.Load()
	if before == 0 {
		t.Fatal("the journal is not used")
	}
	j.size.Store(fullJournal + 1)
	if err := s.Create(t.Context(), "b", stored(t)); err != nil || j.size.Load() != fullJournal+1 {
		t.Errorf("%d bytes, %v", j.size.Load(), err)
	}
	if err := j.settle(t.Context()); err != nil || j.size.Load() != 0 {
		t.Errorf("%d bytes, %v", j.size.Load(), err)
	}
}

// TestSetIsFinal does not bring back what was replaced when the new key is deleted,
// whoever does either.
func TestSetIsFinal(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{false, true} {
		dir := t.TempDir()
		a, b := owner(t, dir), open(t, dir)
		set := b
		if own {
			set = a
		}
		if err := errors.Join(a.Create(t.Context(), "k", stored(t)), set.Set(t.Context(), "k", stored(t)), b.Delete(t.Context(), "k")); err != nil {
			t.Fatal(err)
		}
		after := open(t, powerCut(t, dir, func(_ string, v []byte) []byte { return v }))
		if got := contents(t, after); len(got) != 0 {
			t.Errorf("set by the owner %v: it is back", own)
		}
	}
}

// TestSetKilled replaces a key and is killed before it does, or right behind: the key is
// the old or the new one, and when it is deleted by another, neither comes back.
func TestSetKilled(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{false, true} {
		for _, swapped := range []bool{false, true} {
			dir := t.TempDir()
			a, b, c := owner(t, dir), open(t, dir), open(t, dir)
			set := b
			if own {
				set = a
			}
			old, anew := stored(t), stored(t)
			if err := a.Create(t.Context(), "k", old); err != nil {
				t.Fatal(err)
			}
			killed, want := errors.New("killed"), old
			if swapped {
				want = anew
			}
			path := filepath.Join(dir, "k")
			err := set.takeAway(t.Context(), &taking{name: "k", path: path, change: func() ([]byte, error) {
				if swapped {
					if _, err := set.createNamed(path, anew, swapIn); err != nil {
						return nil, err
					}
				}
				return nil, killed
			}})
			if !errors.Is(err, killed) {
				t.Fatal(err)
			}
			after := open(t, powerCut(t, dir, func(_ string, v []byte) []byte { return v }))
			if got, err := after.Get(t.Context(), "k"); err != nil || !bytes.Equal(got, want) {
				t.Errorf("set by the owner %v, swapped %v: another key, %v", own, swapped, err)
			}
			if err := c.Delete(t.Context(), "k"); err != nil {
				t.Fatal(err)
			}
			after = open(t, powerCut(t, dir, func(_ string, v []byte) []byte { return v }))
			if got := contents(t, after); len(got) != 0 {
				t.Errorf("set by the owner %v, swapped %v: it is back", own, swapped)
			}
		}
	}
}

// TestDeleteKilled deletes a key and is killed before it answers: who is told then that
// the key does not exist does not see it come back.
func TestDeleteKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b, c := owner(t, dir), open(t, dir), open(t, dir)
	if err := a.Create(t.Context(), "k", stored(t)); err != nil {
		t.Fatal(err)
	}
	killed := errors.New("killed")
	path := filepath.Join(dir, "k")
	err := b.takeAway(t.Context(), &taking{name: "k", path: path, change: func() ([]byte, error) {
		_, err := b.moveAside(path, nil)
		return nil, errors.Join(err, killed)
	}})
	if !errors.Is(err, killed) {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	after := open(t, powerCut(t, dir, func(_ string, v []byte) []byte { return v }))
	if got := contents(t, after); len(got) != 0 {
		t.Error("it is back")
	}
}

// stopped makes a folder that a dead server has left, with one key, and with another
// server on it that has stopped in the middle of a change.
func stopped(t *testing.T, alone bool) (s *Store, name string) {
	t.Helper()
	dir := t.TempDir()
	s = open(t, dir)
	lock, err := lockDir(dir)
	if err != nil {
		t.Skip("this file system has no journal", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	name = left(t, dir, journalName, 1)[0]
	h, err := holdJournals(t.Context(), dir, alone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.release)
	return s, name
}

// TestStoppedServer holds up neither creations and deletions, nor who closes the store.
func TestStoppedServer(t *testing.T) {
	t.Parallel()
	s, name := stopped(t, false)
	s.writing.Add(many)
	start := time.Now()
	if err := errors.Join(s.Create(t.Context(), "new", stored(t)), s.Delete(t.Context(), name)); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it takes %v", took)
	}
	if got := contents(t, s); len(got) != 1 {
		t.Errorf("there is %v", slices.Sorted(maps.Keys(got)))
	}
	after := open(t, powerCut(t, s.dir, func(_ string, v []byte) []byte { return v }))
	if got := contents(t, after); len(got) != 1 {
		t.Errorf("after a crash there is %v", slices.Sorted(maps.Keys(got)))
	}
}

// TestStoppedInRecovery lets deletions wait as long as those who ask do, and closing not
// at all.
func TestStoppedInRecovery(t *testing.T) {
	t.Parallel()
	s, name := stopped(t, true)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := s.Delete(ctx, name); err == nil {
		t.Error("deleted, while another brings it back")
	}
	done := make(chan error, 1)
	go func() {
		leave, err := s.locking.Take(context.Background(), onlyOne)
		if err == nil {
			_, err = s.take(context.Background())
			leave()
		}
		done <- err
	}()
	for s.locking.Busy(onlyOne) == nil {
		runtime.Gosched()
	}
	if j := s.owned(t.Context()); j != nil {
		t.Error("two have it")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it takes %v", took)
	}
}

// TestHealWaits for another server that takes a key away; those who create keys, or have
// no more time, do not.
func TestHealWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := owner(t, dir)
	if err := errors.Join(s.Create(t.Context(), "k", stored(t)), s.Create(t.Context(), "stays", stored(t))); err != nil {
		t.Fatal(err)
	}
	j := s.journal.Load()
	h, err := holdJournals(t.Context(), dir, false)
	if err != nil {
		t.Fatal(err)
	}
	j.turn.Lock()
	j.fail(errors.New("the disk failed"))
	j.turn.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Delete(ctx, "k") }()
	for j.checking.Busy(onlyOne) == nil {
		runtime.Gosched()
	}
	if err := s.Create(t.Context(), "new", stored(t)); err != nil {
		t.Error(err)
	}
	select {
	case err := <-done:
		t.Errorf("a creation waits for it: %v", err)
	default:
	}
	short, cancelShort := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancelShort()
	if err := s.Delete(short, "stays"); err == nil {
		t.Error("deleted, though the journal has it still")
	}
	h.release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := contents(t, s); len(got) != 2 {
		t.Errorf("there is %v", slices.Sorted(maps.Keys(got)))
	}
}

// TestMadeAnewMeanwhile tells of a key that another made while one of the name was taken
// away, and lets those stay that come later.
func TestMadeAnewMeanwhile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := owner(t, dir), open(t, dir)
	first, second := stored(t), stored(t)
	path := filepath.Join(dir, "k")
	if err := a.Create(t.Context(), "k", first); err != nil {
		t.Fatal(err)
	}
	tk := taking{name: "k", path: path, change: func() ([]byte, error) {
		if err := errors.Join(a.Delete(t.Context(), "k"), a.Create(t.Context(), "k", second)); err != nil {
			return nil, err
		}
		return b.moveAside(path, nil)
	}}
	if err := b.takeAway(t.Context(), &tk); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, open(t, powerCut(t, dir, func(_ string, v []byte) []byte { return v }))); len(got) != 0 {
		t.Errorf("it is back")
	}
	third := stored(t)
	if err := a.Create(t.Context(), "k", third); err != nil {
		t.Fatal(err)
	}
	if again, err := b.takeOnce(t.Context(), &tk); again || err != nil {
		t.Errorf("%v, %v", again, err)
	}
	if got := contents(t, open(t, powerCut(t, dir, func(_ string, v []byte) []byte { return v }))); got["k"] != string(third) {
		t.Errorf("the new one is lost")
	}
}

// TestNotTold leaves a key where it is when the journal's server cannot be told of its
// deletion.
func TestNotTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := owner(t, dir), open(t, dir)
	value := stored(t)
	if err := errors.Join(a.Create(t.Context(), "k", value), os.Mkdir(filepath.Join(dir, journalOld), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "k"); err == nil {
		t.Error("deleted")
	}
	if got, err := b.Get(t.Context(), "k"); err != nil || !bytes.Equal(got, value) {
		t.Errorf("it is gone: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, journalOld)); err != nil {
		t.Fatal(err)
	}
}

// A take-over does not end with the request that has begun it, and one that is ended, as
// by closing, leaves what the next one needs.
func TestTakeOverEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	names := left(t, dir, journalName, 300)
	if err := os.Remove(filepath.Join(dir, names[7])); err != nil {
		t.Fatal(err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		t.Skip("this file system has no journal", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	before := snapshot(t, dir)
	if err := recoverJournal(t.Context(), ended, dir, lock); !errors.Is(err, context.Canceled) {
		t.Errorf("it goes on: %v", err)
	}
	if after := snapshot(t, dir); after != before {
		t.Errorf("the folder was\n%s\nand is\n%s", before, after)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	s.mine(ended)
	if leave, err := s.locking.Take(t.Context(), onlyOne); err != nil {
		t.Fatal(err)
	} else {
		leave()
	}
	if s.journal.Load() == nil || anyJournal(dir) {
		t.Error("nobody has taken it over")
	}
	if got := contents(t, s); len(got) != len(names) {
		t.Errorf("%d keys", len(got))
	}
}
