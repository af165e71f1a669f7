package storage_test

import (
	"context"
	"sync"
	"testing"

	"arca/internal/storage"
)

func TestShared(t *testing.T) {
	t.Parallel()
	s := storage.NewShared(1<<20, func(_ string, v []byte) (string, int, error) { return string(v), len(v), nil })
	one, b := newDB(t, storage.Config{ValueCacheBytes: -1})
	two, _ := newDB(t, storage.Config{})
	get := func(db *storage.DB) (got string) {
		_ = db.View(context.Background(), func(tx storage.Tx) error {
			v, err := s.Get(tx.Sub("a/"), "k")
			if got = v; err != nil {
				got = err.Error()
			}
			return nil
		})
		return got
	}
	_ = set(one, "a/k", "1")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := get(one); got != "1" {
				t.Errorf("got %q, want 1", got)
			}
		})
	}
	wg.Wait()
	if got := get(two); got != none {
		t.Errorf("the other store: got %q, want %q", got, none)
	}
	b.FailReads(true)
	if got := get(one); got != "1" {
		t.Errorf("from the cache: got %q", got)
	}
	b.FailReads(false)
	_ = set(one, "a/k", "2")
	if got := get(one); got != "2" {
		t.Errorf("after a write: got %q", got)
	}
}
