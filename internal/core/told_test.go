package core

import (
	"testing"

	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

// TestToldWhileItSeals has another node write while this one seals, as long as requests are inside: what they read then has it.
func TestToldWhileItSeals(t *testing.T) {
	t.Parallel()
	b, err := pebble.Open(pebble.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	a := &Active{DB: storage.Open(b, storage.Config{})}
	t.Cleanup(func() {
		if err := a.DB.Close(); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	a.DB.Follow()
	c := &Core{}
	c.told.Store(a) // and no request enters any more: active is nil
	read := func() (got string) {
		err := a.DB.View(t.Context(), func(tx storage.Tx) error {
			v, err := tx.Get("k")
			got = string(v)
			if storage.IsNotFound(err) {
				return nil
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if read() != "" {
		t.Fatal("there is something")
	}
	if err := b.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "k", Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	if err := c.applied(storage.Change{Keys: []string{"k"}}); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != "v" {
		t.Errorf("a request that is inside reads %q", got)
	}
}
