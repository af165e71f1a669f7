// Package pebble keeps a storage.Backend in a folder or in memory, with cockroachdb/pebble.
package pebble

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"arca/internal/errs"
	"arca/internal/storage"
)

// A Store is a storage.Backend. It is safe for concurrent use.
type Store struct {
	db    *pebble.DB
	write *pebble.WriteOptions
	fault *fault
	cfg   Config
}

var _ storage.Backend = (*Store)(nil)

// Get implements storage.Reader.
func (s *Store) Get(_ context.Context, key string) ([]byte, error) { return s.get(s.db, key) }

// Scan implements storage.Reader.
func (s *Store) Scan(_ context.Context, o storage.ScanOptions) (storage.Iterator, error) {
	return s.scan(s.db, o)
}

// Snapshot implements storage.Backend.
func (s *Store) Snapshot(context.Context) (storage.Snapshot, error) {
	if err := s.fault.get(); err != nil {
		return nil, err
	}
	return &snapshot{s, s.db.NewSnapshot()}, nil
}

// Close implements storage.Backend.
func (s *Store) Close() error {
	return s.db.Close()
}

type snapshot struct {
	store *Store
	snap  *pebble.Snapshot
}

func (s *snapshot) Get(_ context.Context, key string) ([]byte, error) {
	return s.store.get(s.snap, key)
}

func (s *snapshot) Scan(_ context.Context, o storage.ScanOptions) (storage.Iterator, error) {
	return s.store.scan(s.snap, o)
}

func (s *snapshot) Close() error { return s.snap.Close() }

func (s *Store) get(r pebble.Reader, key string) ([]byte, error) {
	value, closer, err := r.Get([]byte(key))
	if err != nil {
		if errors.Is(err, pebble.ErrNotFound) {
			return nil, storage.ErrNotFound
		}
		return nil, s.fault.explain(err)
	}
	own := make([]byte, len(value))
	copy(own, value)
	return own, closer.Close()
}

// The keys that belong to the user of the Store: the others are for backends built on it.
var firstKey, endKey = []byte{1}, []byte{0xff}

func (s *Store) scan(r pebble.Reader, o storage.ScanOptions) (storage.Iterator, error) {
	lower, upper := bounds(o.Prefix)
	if o.From > string(lower) {
		lower = []byte(o.From)
	}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, s.fault.explain(err)
	}
	return &iterator{store: s, it: it}, nil
}

// bounds returns the first key that begins with prefix, and the first after these.
func bounds(prefix string) (lower, upper []byte) {
	if prefix == "" {
		return firstKey, endKey
	}
	upper = []byte(prefix)
	for upper[len(upper)-1] == 0xff {
		if upper = upper[:len(upper)-1]; len(upper) == 0 {
			return []byte(prefix), nil
		}
	}
	upper[len(upper)-1]++
	return []byte(prefix), upper
}

type iterator struct {
	store   *Store
	it      *pebble.Iterator
	started bool
}

func (i *iterator) Next() bool {
	if !i.started {
		i.started = true
		return i.it.First()
	}
	return i.it.Next()
}

func (i *iterator) Seek(key []byte) bool {
	i.started = true
	return i.it.SeekGE(key)
}

func (i *iterator) Key() []byte { return i.it.Key() }

func (i *iterator) Value() ([]byte, error) {
	value, err := i.it.ValueAndErr()
	if err != nil {
		return nil, i.store.fault.explain(err)
	}
	own := make([]byte, len(value))
	copy(own, value)
	return own, nil
}

func (i *iterator) Err() error {
	if err := i.it.Error(); err != nil {
		return i.store.fault.explain(err)
	}
	return nil
}

func (i *iterator) Close() error { return i.it.Close() }

// Apply implements storage.Backend.
func (s *Store) Apply(_ context.Context, ops storage.Batch) error {
	if err := s.fault.get(); err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer b.Close()
	for i := range ops {
		if err := add(b, &ops[i]); err != nil {
			return errs.New(errs.Unavailable, "%w: %w", storage.ErrNotApplied, err)
		}
	}
	if err := b.Commit(s.write); err != nil {
		return s.fault.explain(err)
	}
	return s.fault.get()
}

func add(b *pebble.Batch, op *storage.Op) error {
	switch op.Kind {
	case storage.Put:
		d := b.SetDeferred(len(op.Key), len(op.Value))
		copy(d.Key, op.Key)
		copy(d.Value, op.Value)
		return d.Finish()
	case storage.Delete:
		d := b.DeleteDeferred(len(op.Key))
		copy(d.Key, op.Key)
		return d.Finish()
	case storage.DeletePrefix:
		lower, upper := bounds(op.Key)
		if upper == nil {
			upper = endKey
		}
		return b.DeleteRange(lower, upper, nil)
	}
	return errs.New(errs.Internal, "storage: operation %d is unknown", op.Kind)
}
