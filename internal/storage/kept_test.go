package storage

import (
	"context"
	"fmt"
	"testing"
)

// absent is a backend that has nothing and takes everything.
type absent struct{ brokenSnapshot }

func (absent) Get(context.Context, string) ([]byte, error) { return nil, ErrNotFound }
func (absent) Snapshot(context.Context) (Snapshot, error)  { return absent{}, nil }
func (absent) Apply(context.Context, Batch) error          { return nil }

// What the caches hold is counted however it comes and goes: what was not would be served when it is no longer true.
func TestKept(t *testing.T) {
	db := Open(absent{}, Config{})
	c := NewCache(db, 64<<10, func(_ string, v []byte) (string, int, error) { return string(v), len(v), nil })
	ctx := context.Background()
	check := func(when string) {
		t.Helper()
		want := map[uint64]int32{}
		count := func(hash uint64) { want[hash%keptCount]++ }
		each(c, count)
		each(db.values, count)
		for i := range db.kept.entries {
			if got := db.kept.entries[i].Load(); got != want[uint64(i)] {
				t.Fatalf("%s: %d entries at %d, want %d", when, got, i, want[uint64(i)])
			}
		}
	}
	for i := range 1000 { // more than there is room for
		err := db.View(ctx, func(tx Tx) error {
			_, err := c.Get(tx, fmt.Sprint("a/", i))
			if !IsNotFound(err) {
				return err
			}
			if _, err = tx.Get(fmt.Sprint("b/", i)); !IsNotFound(err) {
				return err
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	check("filled")
	if db.kept.lack(db.marks.hash("a/999")) {
		t.Error("what is kept is not counted")
	}
	for i := range 1000 {
		err := db.Update(ctx, func(tx Tx) error {
			if i%2 == 0 {
				return tx.Put(fmt.Sprint("a/", i), []byte("v"))
			}
			v := []byte("w")
			return c.Put(tx, fmt.Sprint("b/", i), v, "w", 1)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	check("written")
	if err := db.Update(ctx, func(tx Tx) error { return tx.DeletePrefix("a/") }); err != nil {
		t.Fatal(err)
	}
	check("prefix deleted")
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func each[T any](c *Cache[T], yield func(hash uint64)) {
	for i := range c.shards {
		for _, e := range c.shards[i].entries {
			yield(e.hash)
		}
	}
}
