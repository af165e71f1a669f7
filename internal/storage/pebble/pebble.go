// Package pebble is the embedded storage.Backend, on github.com/cockroachdb/pebble.
//
// With Config.Memory it is dev mode's "inmem"; in a folder it is storage "file", where each Apply is one synced record in
// a write-ahead log; with Config.NoSync it is the state machine of a replicated log, which syncs in its own way.
//
// The Store promises that a batch whose Apply has returned nil survives a crash at any moment after (unless NoSync), that
// of any other batch all or nothing survives, that a full disk loses nothing and refuses writes with an error until there
// is room, and that it opens only folders that are its own, one process at a time.
package pebble

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"arca/internal/errs"
	"arca/internal/storage"
)

// A Store is a storage.Backend. It is safe for concurrent use.
type Store struct {
	db    *pebble.DB
	write *pebble.WriteOptions
	fault *fault
	space *space
	dir   string

	writes atomic.Int64 // under way
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

// Close implements storage.Backend. When the store has failed, or the disk is so full that the log cannot be closed, it
// gives up with an error; nothing that was acknowledged is lost by that.
func (s *Store) Close() error {
	s.space.closing.Store(true)
	if err := s.fault.get(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- s.close() }() // ends with Pebble, or the process
	select {
	case err := <-done:
		return err
	case <-s.fault.done:
		return s.fault.get()
	}
}

func (s *Store) close() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errs.New(errs.Unavailable, "close storage: %v", p)
		}
	}()
	s.settle()
	return s.db.Close()
}

// settle writes what only the log has into tables, so that the next start has nothing to replay. It is not needed for
// anything to be kept: a disk that is slow or full only makes that start slower.
func (s *Store) settle() {
	if s.space.full() {
		return
	}
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		return // Close will say what is wrong
	}
	timeout := time.NewTimer(maxSettle)
	defer timeout.Stop()
	select {
	case <-flushed:
	case <-s.fault.done:
	case <-timeout.C:
	}
}

// maxSettle bounds how long a stop waits for the tables.
const maxSettle = 3 * time.Second

// Checkpoint makes a copy of the present state in the folder dir, which must not exist. It costs links, not bytes, as
// long as dir is on the same file system. Open opens it like any other.
func (s *Store) Checkpoint(dir string) error {
	if err := s.fault.get(); err != nil {
		return err
	}
	if err := s.beside(func() error { return s.db.Checkpoint(dir, pebble.WithFlushedWAL()) }); err != nil {
		return errs.New(errs.Unavailable, "copy storage to %q: %w", dir, err)
	}
	f := folder{fs: s.space.fs, path: dir}
	return f.finish()
}

// Sync makes all that was applied durable: for a Store opened with NoSync.
func (s *Store) Sync() error {
	return s.beside(func() error { return s.db.LogData(nil, pebble.Sync) })
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

// Close runs beside the caller like commit: parked work may hold what it needs.
func (s *snapshot) Close() error {
	done := make(chan error, 1)
	go func() { done <- s.snap.Close() }()
	select {
	case err := <-done:
		return err
	case <-s.store.fault.done:
		return nil // the store has failed, and with it all that a snapshot could hold
	}
}

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
		return fmt.Errorf("%w: %w", storage.ErrNotApplied, err) // of an earlier write
	}
	size := 0
	for i := range ops {
		size += len(ops[i].Key) + len(ops[i].Value) + opOverhead
	}
	if err := s.space.admit(size); err != nil {
		return err
	}
	b, err := s.batch(ops, size)
	if err != nil {
		return err
	}
	return s.commit(b, s.write)
}

func (s *Store) batch(ops storage.Batch, size int) (*pebble.Batch, error) {
	b := s.db.NewBatchWithSize(size + batchHeader)
	for i := range ops {
		if err := add(b, &ops[i]); err != nil {
			return nil, fmt.Errorf("%w: %w", storage.ErrNotApplied, err)
		}
	}
	return b, nil
}

// Replay is Apply for what a log elsewhere has committed to: it is not refused while the disk has room at all, may write
// the backend's own keys, and is durable when it returns if synced says so. Whoever fills that log asks Room first.
func (s *Store) Replay(ops storage.Batch, synced bool) error {
	if err := s.fault.get(); err != nil {
		return err
	}
	size := 0
	for i := range ops {
		size += len(ops[i].Key) + len(ops[i].Value) + opOverhead
	}
	b, err := s.batch(ops, size)
	if err != nil {
		return err
	}
	if synced {
		return s.commit(b, pebble.Sync)
	}
	return s.commit(b, s.write)
}

// Room refuses n bytes, with an error that wraps ErrNotApplied, when the disk is nearly full or the store has failed. It
// is not safe for concurrent use.
func (s *Store) Room(n int) error {
	if err := s.fault.get(); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrNotApplied, err)
	}
	return s.space.admit(n)
}

// Full reports whether the disk is so full that a write may wait for room.
func (s *Store) Full() bool { return s.space.full() }

// Failed says why the store takes no more writes until it is opened again; it is nil while it does.
func (s *Store) Failed() error { return s.fault.get() }

// GiveUp has a write that waits for room on a full disk end with an error, and the store take no more of them until it is opened again.
// Where none waits, or the disk is not full, it does nothing.
func (s *Store) GiveUp() {
	if s.writes.Load() > 0 && s.space.full() {
		s.fault.set(errs.New(errs.Unavailable, "the disk of the storage folder %q is full, and a write that waited for room was given up", s.space.dir))
	}
}

// About what Pebble adds to an operation and a batch.
const (
	opOverhead  = 12
	batchHeader = 16
)

func (s *Store) commit(b *pebble.Batch, how *pebble.WriteOptions) error {
	return s.beside(func() error {
		if err := b.Commit(how); err != nil || s.fault.get() != nil { // Commit does not return what it reports by Fatalf
			return err
		}
		return b.Close()
	})
}

// beside runs a write of Pebble's beside the caller, because work that cannot go on after a failure of the disk is parked: see fault.
func (s *Store) beside(write func() error) error {
	done := make(chan error, 1)
	go func() { done <- s.now(write) }()
	select {
	case err := <-done:
		return err
	case <-s.fault.done:
		return s.fault.get()
	}
}

func (s *Store) now(write func() error) (err error) {
	s.writes.Add(1)
	defer s.writes.Add(-1)
	defer func() {
		if p := recover(); p != nil {
			s.fault.set(errs.New(errs.Unavailable, "storage failed: %v", p))
			err = s.fault.get()
		}
	}()
	if err := write(); err != nil {
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
