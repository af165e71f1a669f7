package store_test

import (
	"context"
	"errors"
	"testing"

	"arca/internal/kes/store"
	"arca/internal/kes/store/memory"
)

// refusing fails the next creations, and may end the caller's context with that.
type refusing struct {
	*memory.Store
	fails  int
	cancel func()
}

var errRefused = errors.New("refused")

func (r *refusing) Create(ctx context.Context, name string, value []byte) error {
	if r.fails > 0 {
		r.fails--
		r.cancel()
		return errRefused
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.Store.Create(ctx, name, value)
}

// TestReplacePutsBack keeps what was there when the new value is not taken.
func TestReplacePutsBack(t *testing.T) {
	t.Parallel()
	for fails, want := range []string{"new", "old", ""} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := &refusing{Store: &memory.Store{}, cancel: cancel}
		if err := s.Create(ctx, "k", []byte("old")); err != nil {
			t.Fatal(err)
		}
		s.fails = fails
		if err := store.Replace(ctx, s, "k", []byte("new")); errors.Is(err, errRefused) != (fails > 0) {
			t.Errorf("%d failures: %v", fails, err)
		}
		if got, err := s.Get(t.Context(), "k"); string(got) != want || (err != nil) != (want == "") {
			t.Errorf("%d failures: there is %q, %v", fails, got, err)
		}
	}
	s := &refusing{Store: &memory.Store{}}
	if err := store.Replace(t.Context(), s, "k", []byte("new")); err != nil {
		t.Errorf("where there is none: %v", err)
	}
}
