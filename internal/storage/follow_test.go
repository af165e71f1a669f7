package storage_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

// held is a backend whose Apply waits, and fails in the way that a test says.
type held struct {
	storage.Backend
	entered chan struct{}
	result  chan error
}

func (h *held) Apply(ctx context.Context, b storage.Batch) error {
	h.entered <- struct{}{}
	if err := <-h.result; err != nil {
		return err
	}
	return h.Backend.Apply(ctx, b)
}

// TestFollow changes the node that writes while a write is under way: what waits behind it is refused, what was not known
// comes to light by Applied, and the next leader's writes see it.
func TestFollow(t *testing.T) {
	t.Parallel()
	for name, outcome := range map[string]error{"written": nil, "unknown": errors.New("connection lost"), "refused": storage.ErrNotApplied} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem, err := pebble.Open(pebble.Config{Memory: true})
			if err != nil {
				t.Fatal(err)
			}
			h := &held{mem, make(chan struct{}), make(chan error)}
			db := storage.Open(h, storage.Config{})
			t.Cleanup(func() { _ = db.Close(); _ = mem.Close() })
			ctx := t.Context()
			put := func(key string) chan error {
				done := make(chan error, 1)
				go func() {
					done <- db.Update(ctx, func(tx storage.Tx) error {
						if _, err := tx.Get("counter"); err != nil && !storage.IsNotFound(err) {
							return err
						}
						return tx.Put(key, []byte("x"))
					})
				}()
				return done
			}
			first := put("first")
			<-h.entered
			followed := make(chan struct{})
			go func() { db.Follow(); close(followed) }()
			for !errors.Is(db.Err(), storage.ErrNotActive) {
				// Follow is about to say so.
			}
			if err := <-put("late"); !errors.Is(err, storage.ErrNotActive) {
				t.Errorf("an update of a follower: %v", err)
			}
			select {
			case <-followed:
				t.Fatal("Follow returned while a write was under way")
			default:
			}
			h.result <- outcome
			<-followed
			if err := <-first; (err == nil) != (outcome == nil) {
				t.Errorf("the write under way: %v, the backend said %v", err, outcome)
			}
			// The other node writes, also what was lost on the way.
			if err := mem.Apply(ctx, storage.Batch{{Kind: storage.Put, Key: "first", Value: []byte("x")}, {Kind: storage.Put, Key: "counter", Value: []byte("7")}}); err != nil {
				t.Fatal(err)
			}
			if err := db.Applied(storage.Change{Keys: []string{"first", "counter"}}); err != nil {
				t.Fatal(err)
			}
			db.Lead()
			go func() { <-h.entered; h.result <- nil }()
			err = db.Update(ctx, func(tx storage.Tx) error {
				for _, key := range []string{"first", "counter"} {
					if _, err := tx.Get(key); err != nil {
						return err
					}
				}
				return tx.Put("second", []byte("x"))
			})
			if err != nil {
				t.Errorf("an update of the leader: %v", err)
			}
		})
	}
}

// TestAppliedWhileClosing has another node write while a DB is closed that has a write under way: that is no trouble, as nobody
// reads there any more.
func TestAppliedWhileClosing(t *testing.T) {
	t.Parallel()
	mem, err := pebble.Open(pebble.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	h := &held{mem, make(chan struct{}), make(chan error)}
	db := storage.Open(h, storage.Config{})
	var all sync.WaitGroup
	all.Go(func() {
		err := db.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("first", []byte("x")) })
		if err == nil {
			t.Error("what failed is said to be written")
		}
	})
	<-h.entered
	all.Go(func() { _ = db.Close() })
	for !errors.Is(db.Err(), storage.ErrClosed) {
		// Close is about to say so.
	}
	if err := db.Applied(storage.Change{Keys: []string{"second"}}); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("what another wrote: %v", err)
	}
	h.result <- errors.New("connection lost")
	all.Wait()
	if err := mem.Close(); err != nil {
		t.Error(err)
	}
}
