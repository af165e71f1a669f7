package storage_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

func open(t testing.TB) *storage.DB {
	t.Helper()
	b, err := pebble.Open(pebble.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	db := storage.Open(b, storage.Config{})
	t.Cleanup(func() {
		_ = db.Close()
		_ = b.Close()
	})
	return db
}

func TestCounter(t *testing.T) {
	db := open(t)
	ctx := context.Background()
	var wg sync.WaitGroup
	const n, each = 64, 50
	for range n {
		wg.Go(func() {
			for range each {
				err := db.Update(ctx, func(tx storage.Tx) error {
					v, err := tx.Get("n")
					if err != nil && !storage.IsNotFound(err) {
						return err
					}
					i, _ := strconv.Atoi(string(v))
					return tx.Put("n", []byte(strconv.Itoa(i+1)))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	_ = db.View(ctx, func(tx storage.Tx) error {
		v, err := tx.Get("n")
		if err != nil || string(v) != fmt.Sprint(n*each) {
			t.Errorf("got %s, %v", v, err)
		}
		return nil
	})
	t.Logf("%+v", db.Stats())
}
