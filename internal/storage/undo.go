package storage

import (
	"context"
	"slices"
	"sort"
	"strings"
	"sync"
)

// A Basic is a Backend without snapshots.
type Basic interface {
	Reader
	Apply(ctx context.Context, b Batch) error
	Close() error
}

// WithSnapshots makes a Backend of a store that has no snapshots. While a snapshot is open, each Apply first reads what it
// is about to overwrite and keeps that in memory for the snapshot, so a snapshot costs reads and memory as long as it is
// open. All writes must go through the Backend. Iterators of a Basic need not be consistent.
func WithSnapshots(b Basic) Backend { return &undoBackend{Basic: b} }

type undoBackend struct {
	Basic
	applying sync.Mutex // held during Apply, which a snapshot must not see half of

	mu    sync.RWMutex
	steps []*undoStep // oldest first; those before the oldest open snapshot are dropped
	first int         // the number of steps[0]
	open  map[*undoSnapshot]struct{}
}

// An undoStep is what one Apply overwrote: sorted by key. Value nil means the key was absent.
type undoStep []Entry

// Snapshot implements Backend.
func (u *undoBackend) Snapshot(context.Context) (Snapshot, error) {
	u.applying.Lock()
	defer u.applying.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	s := &undoSnapshot{u: u, at: u.first + len(u.steps)}
	if u.open == nil {
		u.open = map[*undoSnapshot]struct{}{}
	}
	u.open[s] = struct{}{}
	return s, nil
}

// Apply implements Backend. What it overwrites is on record before it begins.
func (u *undoBackend) Apply(ctx context.Context, b Batch) error {
	u.applying.Lock()
	defer u.applying.Unlock()
	u.mu.RLock()
	needed := len(u.open) > 0
	u.mu.RUnlock()
	if needed {
		step, err := u.record(ctx, b)
		if err != nil {
			return &notApplied{err}
		}
		u.mu.Lock()
		u.steps = append(u.steps, &step)
		u.mu.Unlock()
	}
	return u.Basic.Apply(ctx, b)
}

type notApplied struct{ err error }

func (e *notApplied) Error() string   { return e.err.Error() }
func (e *notApplied) Unwrap() []error { return []error{e.err, ErrNotApplied} }

func (u *undoBackend) record(ctx context.Context, b Batch) (undoStep, error) {
	old := map[string][]byte{}
	for _, op := range b {
		if op.Kind == DeletePrefix {
			if err := u.recordPrefix(ctx, op.Key, old); err != nil {
				return nil, err
			}
			continue
		}
		if _, ok := old[op.Key]; ok {
			continue
		}
		value, err := u.Basic.Get(ctx, op.Key)
		if err != nil && !IsNotFound(err) {
			return nil, err
		}
		if err == nil && value == nil {
			value = []byte{}
		}
		old[op.Key] = value
	}
	step := make(undoStep, 0, len(old))
	for key, value := range old {
		step = append(step, Entry{key, value})
	}
	slices.SortFunc(step, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return step, nil
}

func (u *undoBackend) recordPrefix(ctx context.Context, prefix string, old map[string][]byte) error {
	it, err := u.Basic.Scan(ctx, ScanOptions{Prefix: prefix})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.Next() {
		if _, ok := old[string(it.Key())]; ok {
			continue
		}
		value, err := it.Value()
		if err != nil {
			return err
		}
		if value == nil {
			value = []byte{}
		}
		old[string(it.Key())] = value
	}
	return it.Err()
}

type undoSnapshot struct {
	u  *undoBackend
	at int // the number of the first step that this snapshot must not see
}

// Close implements Snapshot.
func (s *undoSnapshot) Close() error {
	u := s.u
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.open, s)
	oldest := u.first + len(u.steps)
	for o := range u.open {
		oldest = min(oldest, o.at)
	}
	u.steps = slices.Delete(u.steps, 0, oldest-u.first)
	u.first = oldest
	return nil
}

// before returns what key was before the steps that the snapshot must not see, if one of them changed it.
func (s *undoSnapshot) before(key string) (value []byte, changed bool) {
	s.u.mu.RLock()
	defer s.u.mu.RUnlock()
	for _, step := range s.hidden() {
		if i, ok := slices.BinarySearchFunc(*step, key, compareKey); ok {
			return (*step)[i].Value, true
		}
	}
	return nil, false
}

func (s *undoSnapshot) hidden() []*undoStep { return s.u.steps[s.at-s.u.first:] }

func compareKey(e Entry, key string) int { return strings.Compare(e.Key, key) }

// Get implements Reader. It asks the store first and the record afterwards: what changed in between is on record.
func (s *undoSnapshot) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := s.u.Basic.Get(ctx, key)
	if err != nil && !IsNotFound(err) {
		return nil, err
	}
	if old, changed := s.before(key); changed {
		if old == nil {
			return nil, ErrNotFound
		}
		return slices.Clone(old), nil
	}
	return value, err
}

// Scan implements Reader.
func (s *undoSnapshot) Scan(ctx context.Context, o ScanOptions) (Iterator, error) {
	it, err := s.u.Basic.Scan(ctx, o)
	if err != nil {
		return nil, err
	}
	return &undoIterator{s: s, it: it, prefix: o.Prefix, from: max(o.Prefix, o.From)}, nil
}

// An undoIterator merges what the store shows now with the record. It takes as next the lesser of the store's next key and
// the next key on record that existed; a key of the store that is on record as absent is passed over. Both are looked up
// after the store has answered, so that whatever vanished from it by then is on record.
type undoIterator struct {
	s      *undoSnapshot
	it     Iterator
	prefix string
	from   string // the next key is not before this one

	started, storeOK bool
	key              []byte
	value            []byte // from the record
	onStore          bool
}

func (i *undoIterator) Next() bool {
	if i.started {
		i.from = string(i.key) + "\x00"
	}
	return i.advance(func() bool { return i.it.Next() })
}

func (i *undoIterator) Seek(key []byte) bool {
	i.from = max(i.from, string(key))
	return i.advance(func() bool { return i.it.Seek(key) })
}

func (i *undoIterator) advance(move func() bool) bool {
	if !i.started || i.storeOK && string(i.it.Key()) < i.from {
		i.storeOK = move()
		i.started = true
	}
	for {
		for i.storeOK && string(i.it.Key()) < i.from {
			i.storeOK = i.it.Next()
		}
		key, value, found := i.recorded()
		if i.storeOK && (!found || string(i.it.Key()) < key) {
			old, changed := i.s.before(string(i.it.Key()))
			if changed && old == nil { // made after the snapshot
				i.from = string(i.it.Key()) + "\x00"
				continue
			}
			i.key, i.value, i.onStore = append(i.key[:0], i.it.Key()...), old, !changed
			return true
		}
		if !found {
			return false
		}
		i.key, i.value, i.onStore = append(i.key[:0], key...), value, false
		return true
	}
}

// recorded returns the first key from i.from on that the record says existed.
func (i *undoIterator) recorded() (key string, value []byte, found bool) {
	i.s.u.mu.RLock()
	defer i.s.u.mu.RUnlock()
	from := i.from
	for {
		var best *Entry
		// Of equal keys the oldest step's counts, and it is met first.
		for _, step := range i.s.hidden() {
			at := sort.Search(len(*step), func(n int) bool { return (*step)[n].Key >= from })
			if at < len(*step) && strings.HasPrefix((*step)[at].Key, i.prefix) && (best == nil || (*step)[at].Key < best.Key) {
				best = &(*step)[at]
			}
		}
		switch {
		case best == nil:
			return "", nil, false
		case best.Value != nil:
			return best.Key, best.Value, true
		}
		from = best.Key + "\x00"
	}
}

func (i *undoIterator) Key() []byte { return i.key }

func (i *undoIterator) Value() ([]byte, error) {
	if !i.onStore {
		return slices.Clone(i.value), nil
	}
	value, err := i.it.Value()
	if err != nil {
		return nil, err
	}
	// An Apply may have come since the key was looked at.
	if old, changed := i.s.before(string(i.key)); changed {
		return slices.Clone(old), nil
	}
	return value, nil
}

func (i *undoIterator) Err() error   { return i.it.Err() }
func (i *undoIterator) Close() error { return i.it.Close() }
