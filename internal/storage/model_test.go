package storage_test

import (
	"testing"

	"arca/internal/storage"
	"arca/internal/storage/pebble"
	"arca/internal/storage/storagetest"
)

func TestModel(t *testing.T) {
	t.Run("pebble", func(t *testing.T) {
		storagetest.TestModel(t, func(t *testing.T) storage.Backend {
			b, err := pebble.Open(pebble.Config{Memory: true})
			if err != nil {
				t.Fatal(err)
			}
			return b
		})
	})
	t.Run("map", func(t *testing.T) {
		storagetest.TestModel(t, func(*testing.T) storage.Backend { return storagetest.NewMap() })
	})
}
