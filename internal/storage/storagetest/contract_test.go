package storagetest_test

import (
	"testing"

	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

func TestMap(t *testing.T) {
	storagetest.TestBackend(t, func(*testing.T) storage.Backend { return storagetest.NewMap() })
}

func TestFailingPassesThrough(t *testing.T) {
	storagetest.TestBackend(t, func(*testing.T) storage.Backend {
		return storagetest.NewFailing(storagetest.NewMap())
	})
}
