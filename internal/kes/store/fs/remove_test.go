package fs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"arca/internal/kes/store"
)

// Servers on one folder that set, or make, the same key as it is at the same time: it is there afterwards. Others list meanwhile, which tidies
// up what was left long ago.
func TestSetAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	for i := range 60 {
		name, value := fmt.Sprint("k", i), stored(t)
		var did sync.WaitGroup
		errs := make([]error, 3)
		did.Go(func() { errs[0] = a.Set(t.Context(), name, value) })
		did.Go(func() { errs[1] = b.Set(t.Context(), name, value) })
		did.Go(func() {
			if errs[2] = b.Create(t.Context(), name, value); errors.Is(errs[2], store.ErrExists) {
				errs[2] = nil
			}
		})
		did.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, value) {
			t.Fatalf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// A key that is old has an old file, which a listing must not take for one that was left when another has its place.
func TestSetUnderListings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	over := make(chan struct{})
	var listing sync.WaitGroup
	listing.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				_, _, _ = b.List(t.Context(), "", "", 10) // it is about what it removes
			}
		}
	})
	for i := range 100 {
		if err := a.Set(t.Context(), "k", stored(t)); err != nil {
			t.Error(i, err)
			break
		}
		old := time.Now().Add(-48 * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, "k"), old, old); err != nil {
			t.Error(err)
			break
		}
	}
	close(over)
	listing.Wait()
}

// A server whose folder was exchanged for another, which has a journal of another server, deletes there as one of two.
func TestDeleteInAnExchangedFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	many := func(s *Store, first string) {
		for i := range 40 {
			if err := s.Create(t.Context(), fmt.Sprint(first, i), stored(t)); err != nil {
				t.Fatal(err)
			}
		}
		if s.journal.Load() == nil {
			t.Fatal("there is no journal")
		}
	}
	a := open(t, dir)
	many(a, "x")
	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	b := open(t, dir)
	many(b, "y")
	if err := a.Delete(t.Context(), "y39"); err != nil {
		t.Fatal(err)
	}
	crashed := filepath.Join(t.TempDir(), "copy") // as b leaves it that is killed
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	c := open(t, crashed)
	if value, err := c.Get(t.Context(), "y39"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the deleted key is there again: %d bytes, %v", len(value), err)
	}
	if _, err := c.Get(t.Context(), "y38"); err != nil {
		t.Error(err)
	}
}
