// Package storetest holds what every key store must do.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"arca/internal/kes/store"
)

// A Config says what a store cannot do.
type Config struct {
	NoDeleteNotFound bool // it does not tell that there was nothing to delete
	NoAtomicCreate   bool // it cannot keep two creations apart
}

// TestStore checks an empty store.
func TestStore(t *testing.T, s store.Store, cfg Config) {
	t.Helper()
	ctx := t.Context()
	if took, err := s.Status(ctx); err != nil || took <= 0 {
		t.Errorf("status: %v, %v", took, err)
	}
	if s.String() == "" {
		t.Error("it does not say where it is")
	}
	if names, next, err := s.List(ctx, "", "", 10); err != nil || len(names) != 0 || next != "" {
		t.Errorf("empty: %v, %q, %v", names, next, err)
	}
	if _, err := s.Get(ctx, "none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get what is not there: %v", err)
	}
	if err := s.Delete(ctx, "none"); !errors.Is(err, store.ErrNotFound) && (!cfg.NoDeleteNotFound || err != nil) {
		t.Errorf("delete what is not there: %v", err)
	}
	if err := s.Create(ctx, "k-1", []byte("one+/=")); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(ctx, "k-1", []byte("two")); !errors.Is(err, store.ErrExists) {
		t.Errorf("create again: %v", err)
	}
	if got, err := s.Get(ctx, "k-1"); err != nil || string(got) != "one+/=" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := s.Set(ctx, "k-1", []byte("three")); err != nil {
		t.Errorf("set: %v", err)
	}
	if got, err := s.Get(ctx, "k-1"); err != nil || string(got) != "three" {
		t.Errorf("after set: %q, %v", got, err)
	}
	for _, name := range []string{"k-3", "K-2", "k_4", "x"} {
		if err := s.Create(ctx, name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	pages(t, s)
	if !cfg.NoAtomicCreate {
		race(t, s)
	}
	for _, name := range []string{"k-1", "k-3", "K-2", "k_4", "x"} {
		if err := s.Delete(ctx, name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	if _, err := s.Get(ctx, "k-1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get what was deleted: %v", err)
	}
	if err := s.Create(ctx, "k-1", []byte("anew")); err != nil {
		t.Errorf("create what was deleted: %v", err)
	}
	if got, err := s.Get(ctx, "k-1"); err != nil || string(got) != "anew" {
		t.Errorf("created anew: %q, %v", got, err)
	}
}

func pages(t *testing.T, s store.Store) {
	t.Helper()
	for _, c := range []struct {
		prefix, from string
		n            int
		want         []string
		next         string
	}{
		{"", "", 10, []string{"K-2", "k-1", "k-3", "k_4", "x"}, ""},
		{"k", "", 10, []string{"k-1", "k-3", "k_4"}, ""},
		{"k-", "", 1, []string{"k-1"}, "k-3"},
		{"k-", "k-3", 1, []string{"k-3"}, ""},
		{"k", "k-2", 10, []string{"k-3", "k_4"}, ""},
		{"zz", "", 10, nil, ""},
	} {
		got, next, err := s.List(t.Context(), c.prefix, c.from, c.n)
		if err != nil || !slices.Equal(got, c.want) || next != c.next {
			t.Errorf("list %q from %q: %v, %q, %v; want %v, %q", c.prefix, c.from, got, next, err, c.want, c.next)
		}
	}
}

// race lets many create one name: one wins, and its value is what is there.
func race(t *testing.T, s store.Store) {
	t.Helper()
	var wg sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		wg.Go(func() { results[i] = s.Create(context.Background(), "race", fmt.Appendf(nil, "v%d", i)) })
	}
	wg.Wait()
	won := -1
	for i, err := range results {
		switch {
		case err == nil && won >= 0:
			t.Errorf("%d and %d have created it", won, i)
		case err == nil:
			won = i
		case !errors.Is(err, store.ErrExists):
			t.Errorf("%d: %v", i, err)
		}
	}
	if got, err := s.Get(t.Context(), "race"); err != nil || string(got) != fmt.Sprintf("v%d", won) {
		t.Errorf("%d has created it, and it is %q, %v", won, got, err)
	}
	if err := s.Delete(t.Context(), "race"); err != nil {
		t.Error(err)
	}
}
