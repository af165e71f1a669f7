package pebble_test

import (
	"testing"

	"arca/internal/storage"
	"arca/internal/storage/pebble"
	"arca/internal/storage/storagetest"
)

func open(t testing.TB, cfg pebble.Config) *pebble.Store {
	t.Helper()
	s, err := pebble.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestContract(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		storagetest.TestBackend(t, func(t *testing.T) storage.Backend { return open(t, pebble.Config{Memory: true}) })
	})
	t.Run("file", func(t *testing.T) {
		storagetest.TestBackend(t, func(t *testing.T) storage.Backend { return open(t, pebble.Config{Dir: t.TempDir()}) })
	})
}
