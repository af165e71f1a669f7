package storage_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"arca/internal/storage"
)

func newCache(db *storage.DB, maxBytes int) *storage.Cache[string] {
	return storage.NewCache(db, maxBytes, func(_ string, v []byte) (string, int, error) {
		if string(v) == "bad" {
			return "", 0, errors.New("cannot decode")
		}
		return string(v), len(v), nil
	})
}

// cached reads key through c in a View.
func cached(db *storage.DB, c *storage.Cache[string], key string) (got string) {
	_ = db.View(context.Background(), func(tx storage.Tx) error {
		v, err := c.Get(tx.Sub(key[:2]), key[2:])
		if got = v; err != nil {
			got = err.Error()
		}
		return nil
	})
	return got
}

func TestCache(t *testing.T) {
	db, b := newDB(t, storage.Config{})
	c := newCache(db, 1<<20)
	expect := func(what, key, want string) {
		t.Helper()
		if got := cached(db, c, key); got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	expect("absent", "a/k", none)
	b.FailReads(true)
	expect("absent, from the cache", "a/k", none)
	b.FailReads(false)
	_ = set(db, "a/k", "1")
	expect("written", "a/k", "1")
	b.FailReads(true)
	expect("from the cache", "a/k", "1")
	b.FailReads(false)

	_ = set(db, "a/k", "bad")
	expect("not to be decoded", "a/k", "cannot decode")
	_ = set(db, "a/k", "2")
	expect("again", "a/k", "2")
	_ = db.Update(context.Background(), func(tx storage.Tx) error { return tx.DeletePrefix("a/") })
	expect("prefix deleted", "a/k", none)
}

func TestCacheInUpdate(t *testing.T) {
	db, _ := newDB(t, storage.Config{})
	c := newCache(db, 1<<20)
	_ = set(db, "a/k", "1")
	cached(db, c, "a/k")
	runs := 0
	err := db.Update(context.Background(), func(tx storage.Tx) error {
		runs++
		v, err := c.Get(tx, "a/k")
		if want := fmt.Sprint(runs); err != nil || v != want {
			t.Errorf("run %d: got %q, %v", runs, v, err)
		}
		if runs == 1 { // the hit counts as a read
			_ = set(db, "a/k", "2")
		}
		_ = tx.Put("a/k", []byte("own"))
		if v, err := c.Get(tx.Sub("a/"), "k"); err != nil || v != "own" {
			t.Errorf("own write: %q, %v", v, err)
		}
		_ = tx.Delete("a/k")
		if v, err := c.Get(tx, "a/k"); !storage.IsNotFound(err) {
			t.Errorf("own delete: %q, %v", v, err)
		}
		return nil
	})
	if err != nil || runs != 2 {
		t.Errorf("%v, %d runs", err, runs)
	}
}

// TestCacheFill checks that a reader of an old state does not put what it read into the cache for those that come later.
func TestCacheFill(t *testing.T) {
	db, _ := newDB(t, storage.Config{})
	c := newCache(db, 1<<20)
	_ = set(db, "a/k", "old")
	_ = db.View(context.Background(), func(tx storage.Tx) error {
		_ = set(db, "a/k", "new")
		for range 2 {
			if v, _ := c.Get(tx, "a/k"); v != "old" {
				t.Errorf("the old state: %q", v)
			}
			if got := cached(db, c, "a/k"); got != "new" {
				t.Errorf("the new state: %q", got)
			}
		}
		return nil
	})
}

func TestCacheIsBounded(t *testing.T) {
	db, b := newDB(t, storage.Config{})
	const keys, room = 2000, 64 << 10
	c := newCache(db, room)
	_ = db.Update(context.Background(), func(tx storage.Tx) error {
		for i := range keys {
			_ = tx.Put(fmt.Sprintf("a/%d", i), make([]byte, 100))
		}
		return nil
	})
	for i := range keys {
		cached(db, c, fmt.Sprintf("a/%d", i))
		cached(db, c, "a/0") // stays in use
	}
	b.FailReads(true)
	kept := 0
	for i := range keys {
		if got := cached(db, c, fmt.Sprintf("a/%d", i)); len(got) == 100 {
			kept++
		} else if i == 0 {
			t.Error("what is used most was evicted")
		}
	}
	if kept < room/600 || kept > room/100 {
		t.Errorf("%d kept", kept)
	}
}

// What is used stays, though the cache is full of what is not: keys that fit are all there
// after a few rounds, whatever was there before. What was put in last is not the first to go.
func TestCacheKeepsWhatIsUsed(t *testing.T) {
	db, _ := newDB(t, storage.Config{ValueCacheBytes: -1})
	reads := 0
	c := storage.NewCache(db, 1<<20, func(_ string, v []byte) (string, int, error) {
		reads++
		return string(v), 1000, nil
	})
	const old, hot = 4000, 300 // about 900 fit
	for i := range old + hot {
		if err := set(db, fmt.Sprintf("a/%d", i), "v"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range old {
		cached(db, c, fmt.Sprintf("a/%d", i))
	}
	for range 3 {
		for i := range hot {
			cached(db, c, fmt.Sprintf("a/%d", old+i))
		}
	}
	reads = 0
	for range 10 {
		for i := range hot {
			cached(db, c, fmt.Sprintf("a/%d", old+i))
		}
	}
	if reads > 0 {
		t.Errorf("%d of %d reads were not from the cache", reads, 10*hot)
	}
}
