package storage

import (
	"context"
	"slices"
	"sort"
	"strings"
	"sync"

	"arca/internal/errs"
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
func WithSnapshots(b Basic) Backend { return &undoBackend{store: recording{b}} }

// A Noting is a store without snapshots that tells by itself what it overwrites.
type Noting interface {
	Reader
	// ApplyNoting is Apply. If note is not nil, it is called once, when nobody can see yet what the batch does.
	ApplyNoting(ctx context.Context, b Batch, note func(Before)) error
	Close() error
}

// A Before is what a batch is about to overwrite.
type Before struct {
	Entries []Entry // of the keys that are written or deleted, sorted by key; Value nil where there was none
	// Lost are prefixes under which so much was deleted that it is not kept: who reads there in a snapshot from before gets
	// an error.
	Lost []string
}

// WithNotedSnapshots is WithSnapshots for a store that tells what it overwrites.
func WithNotedSnapshots(n Noting) Backend { return &undoBackend{store: n} }

type undoBackend struct {
	store    Noting
	applying sync.Mutex // held during Apply, which a snapshot must not see half of

	mu    sync.RWMutex
	steps []*undoStep // oldest first; those before the oldest open snapshot are dropped
	first int         // the number of steps[0]
	open  map[*undoSnapshot]struct{}
}

// An undoStep is what one Apply overwrote.
type undoStep = Before

// errSnapshotLost ends reads of what a snapshot has lost.
var errSnapshotLost error = errs.New(errs.Unavailable, "what this request reads was deleted meanwhile, and there was too much of it to be kept: try again")

// Get implements Reader.
func (u *undoBackend) Get(ctx context.Context, key string) ([]byte, error) {
	return u.store.Get(ctx, key)
}

// Scan implements Reader.
func (u *undoBackend) Scan(ctx context.Context, o ScanOptions) (Iterator, error) {
	return u.store.Scan(ctx, o)
}

// Close implements Backend.
func (u *undoBackend) Close() error { return u.store.Close() }

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
	if !needed {
		return u.store.ApplyNoting(ctx, b, nil)
	}
	return u.store.ApplyNoting(ctx, b, func(step Before) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.steps = append(u.steps, &step)
	})
}

// A recording notes by reading, key by key.
type recording struct{ Basic }

// ApplyNoting implements Noting.
func (r recording) ApplyNoting(ctx context.Context, b Batch, note func(Before)) error {
	if note != nil {
		step, err := r.record(ctx, b)
		if err != nil {
			return &notApplied{err}
		}
		note(Before{Entries: step})
	}
	return r.Apply(ctx, b)
}

type notApplied struct{ err error }

func (e *notApplied) Error() string   { return e.err.Error() }
func (e *notApplied) Unwrap() []error { return []error{e.err, ErrNotApplied} }

func (r recording) record(ctx context.Context, b Batch) ([]Entry, error) {
	old := map[string][]byte{}
	for _, op := range b {
		if op.Kind == DeletePrefix {
			if err := r.recordPrefix(ctx, op.Key, old); err != nil {
				return nil, err
			}
			continue
		}
		if _, ok := old[op.Key]; ok {
			continue
		}
		value, err := r.Get(ctx, op.Key)
		if err != nil && !IsNotFound(err) {
			return nil, err
		}
		if err == nil && value == nil {
			value = []byte{}
		}
		old[op.Key] = value
	}
	step := make([]Entry, 0, len(old))
	for key, value := range old {
		step = append(step, Entry{key, value})
	}
	slices.SortFunc(step, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return step, nil
}

func (r recording) recordPrefix(ctx context.Context, prefix string, old map[string][]byte) error {
	it, err := r.Scan(ctx, ScanOptions{Prefix: prefix})
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
func (s *undoSnapshot) before(key string) (value []byte, changed bool, err error) {
	s.u.mu.RLock()
	defer s.u.mu.RUnlock()
	for _, step := range s.hidden() {
		if i, ok := slices.BinarySearchFunc(step.Entries, key, compareKey); ok {
			return step.Entries[i].Value, true, nil
		}
		for _, p := range step.Lost {
			if strings.HasPrefix(key, p) {
				return nil, false, errSnapshotLost
			}
		}
	}
	return nil, false, nil
}

// lost reports whether keys that begin with prefix are not on record any more.
func (s *undoSnapshot) lost(prefix string) bool {
	s.u.mu.RLock()
	defer s.u.mu.RUnlock()
	for _, step := range s.hidden() {
		for _, p := range step.Lost {
			if strings.HasPrefix(prefix, p) || strings.HasPrefix(p, prefix) {
				return true
			}
		}
	}
	return false
}

func (s *undoSnapshot) hidden() []*undoStep { return s.u.steps[s.at-s.u.first:] }

func compareKey(e Entry, key string) int { return strings.Compare(e.Key, key) }

// Get implements Reader. It asks the store first and the record afterwards: what changed in between is on record.
func (s *undoSnapshot) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := s.u.store.Get(ctx, key)
	if err != nil && !IsNotFound(err) {
		return nil, err
	}
	switch old, changed, lost := s.before(key); {
	case lost != nil:
		return nil, lost
	case !changed:
		return value, err
	case old == nil:
		return nil, ErrNotFound
	default:
		return slices.Clone(old), nil
	}
}

// Scan implements Reader.
func (s *undoSnapshot) Scan(ctx context.Context, o ScanOptions) (Iterator, error) {
	it, err := s.u.store.Scan(ctx, o)
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
	err              error
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
		if i.it.Err() != nil { // its end is none
			return false
		}
		key, value, found := i.recorded()
		if i.s.lost(i.prefix) {
			i.err = errSnapshotLost
			return false
		}
		if i.storeOK && (!found || string(i.it.Key()) < key) {
			old, changed, lost := i.s.before(string(i.it.Key()))
			if lost != nil {
				i.err = lost
				return false
			}
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
			list := step.Entries
			at := sort.Search(len(list), func(n int) bool { return list[n].Key >= from })
			if at < len(list) && strings.HasPrefix(list[at].Key, i.prefix) && (best == nil || list[at].Key < best.Key) {
				best = &list[at]
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
	old, changed, err := i.s.before(string(i.key))
	switch {
	case err != nil:
		return nil, err
	case changed:
		return slices.Clone(old), nil
	}
	return value, nil
}

func (i *undoIterator) Err() error {
	if i.err != nil {
		return i.err
	}
	return i.it.Err()
}

func (i *undoIterator) Close() error { return i.it.Close() }
