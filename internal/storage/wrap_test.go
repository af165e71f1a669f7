package storage_test

import (
	"context"
	"errors"
	"maps"
	"testing"

	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// asked keeps for which keys wrapping was asked for.
type asked struct {
	storage.Backend
	keys map[string]bool
}

func (a *asked) Apply(ctx context.Context, b storage.Batch) error {
	for _, op := range b {
		a.keys[op.Key] = op.Wrap
	}
	return a.Backend.Apply(ctx, b)
}

// A view that is wrapped asks for it in all that is put by it, by views below it and by caches, and in nothing else.
func TestWrapped(t *testing.T) {
	t.Parallel()
	b := &asked{storagetest.NewMap(), map[string]bool{}}
	db := storage.Open(b, storage.Config{})
	t.Cleanup(func() { _ = db.Close() })
	cache := storage.NewCache(db, 1<<20, func(_ string, v []byte) (string, int, error) { return string(v), len(v), nil })
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		view := tx.Sub("m/").Wrapped()
		for _, err := range []error{
			tx.Put("a", nil), view.Put("b", nil), view.Sub("d/").Put("c", nil), cache.Put(view, "e", []byte("v"), "v", 1), view.Delete("f"),
			view.Put("g", nil), tx.Put("m/g", []byte("the last one counts")),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"a": false, "m/b": true, "m/d/c": true, "m/e": true, "m/f": false, "m/g": false}
	if !maps.Equal(b.keys, want) {
		t.Errorf("asked for %v, want %v", b.keys, want)
	}
}

// What cannot be wrapped is refused before it is committed; all else is written.
func TestMayWrap(t *testing.T) {
	t.Parallel()
	errLacks := errors.New("no key")
	var may error
	db := storage.Open(storagetest.NewMap(), storage.Config{MayWrap: func() error { return may }})
	t.Cleanup(func() { _ = db.Close() })
	for _, may = range []error{nil, errLacks} {
		err := db.Update(t.Context(), func(tx storage.Tx) error {
			view := tx.Sub("m/").Wrapped()
			if err := view.Put("a", nil); !errors.Is(err, may) {
				t.Errorf("with %v: %v", may, err)
			}
			return errors.Join(tx.Put("m/a", nil), view.Delete("b"), view.DeletePrefix("c"))
		})
		if err != nil {
			t.Errorf("with %v: %v", may, err)
		}
	}
}
