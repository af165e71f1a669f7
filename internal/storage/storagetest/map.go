package storagetest

import (
	"context"
	"slices"
	"sort"
	"strings"
	"sync"

	"arca/internal/storage"
)

// A Map is a storage.Basic in memory, without snapshots and with iterators that see changes: the weakest store that is
// allowed. The zero value is empty. It is safe for concurrent use.
type Map struct {
	mu     sync.Mutex
	values map[string][]byte
	keys   []string // sorted
}

// NewMap returns an empty Map as a Backend.
func NewMap() storage.Backend { return storage.WithSnapshots(&Map{}) }

// Get implements storage.Reader.
func (m *Map) Get(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if value, ok := m.values[key]; ok {
		return append([]byte{}, value...), nil
	}
	return nil, storage.ErrNotFound
}

// Scan implements storage.Reader.
func (m *Map) Scan(_ context.Context, o storage.ScanOptions) (storage.Iterator, error) {
	return &mapIterator{m: m, prefix: o.Prefix, from: max(o.Prefix, o.From)}, nil
}

// Apply implements storage.Basic. It is not atomic for readers: each operation is visible by itself.
func (m *Map) Apply(_ context.Context, b storage.Batch) error {
	for _, op := range b {
		m.apply(op)
	}
	return nil
}

func (m *Map) apply(op storage.Op) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, found := slices.BinarySearch(m.keys, op.Key)
	switch op.Kind {
	case storage.Put:
		if !found {
			m.keys = slices.Insert(m.keys, i, op.Key)
		}
		if m.values == nil {
			m.values = map[string][]byte{}
		}
		m.values[op.Key] = slices.Clone(op.Value)
	case storage.Delete:
		if found {
			m.keys = slices.Delete(m.keys, i, i+1)
			delete(m.values, op.Key)
		}
	case storage.DeletePrefix:
		end := i
		for end < len(m.keys) && strings.HasPrefix(m.keys[end], op.Key) {
			delete(m.values, m.keys[end])
			end++
		}
		m.keys = slices.Delete(m.keys, i, end)
	}
}

// Close implements storage.Basic.
func (m *Map) Close() error { return nil }

type mapIterator struct {
	m            *Map
	prefix, from string
	key          string
	value        []byte
}

func (i *mapIterator) Next() bool {
	i.m.mu.Lock()
	defer i.m.mu.Unlock()
	at := sort.SearchStrings(i.m.keys, i.from)
	if at == len(i.m.keys) || !strings.HasPrefix(i.m.keys[at], i.prefix) {
		return false
	}
	i.key = i.m.keys[at]
	i.value = i.m.values[i.key]
	i.from = i.key + "\x00"
	return true
}

func (i *mapIterator) Seek(key []byte) bool {
	i.from = max(string(key), i.prefix)
	return i.Next()
}

func (i *mapIterator) Key() []byte            { return []byte(i.key) }
func (i *mapIterator) Value() ([]byte, error) { return append([]byte{}, i.value...), nil }
func (i *mapIterator) Err() error             { return nil }
func (i *mapIterator) Close() error           { return nil }
