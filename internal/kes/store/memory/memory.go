// Package memory is a key store that ends with the program, for development
// servers and tests.
package memory

import (
	"bytes"
	"context"
	"sync"
	"time"

	"arca/internal/kes/store"
)

// A Store keeps values in a map. The zero value is empty and ready.
type Store struct {
	mu     sync.RWMutex
	values map[string][]byte // guarded by mu
}

var _ store.Store = (*Store)(nil)

// Status implements store.Store.
func (*Store) Status(context.Context) (time.Duration, error) { return time.Microsecond, nil }

// Create implements store.Store.
func (s *Store) Create(_ context.Context, name string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.values[name]; ok {
		return store.ErrExists
	}
	s.put(name, value)
	return nil
}

// Set implements store.Store.
func (s *Store) Set(_ context.Context, name string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(name, value)
	return nil
}

func (s *Store) put(name string, value []byte) {
	if s.values == nil {
		s.values = map[string][]byte{}
	}
	s.values[name] = bytes.Clone(value)
}

// Get implements store.Store.
func (s *Store) Get(_ context.Context, name string) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.values[name]
	if !ok {
		return nil, store.ErrNotFound
	}
	return bytes.Clone(v), nil
}

// Delete implements store.Store.
func (s *Store) Delete(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.values[name]; !ok {
		return store.ErrNotFound
	}
	delete(s.values, name)
	return nil
}

// List implements store.Store.
func (s *Store) List(_ context.Context, prefix, from string, n int) ([]string, string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	names := store.NewPager(prefix, from, n)
	for name := range s.values {
		names.Add(name)
	}
	page, next := names.Page()
	return page, next, nil
}

// String implements store.Store.
func (*Store) String() string { return "In Memory" }

// Close implements store.Store.
func (*Store) Close() error { return nil }
