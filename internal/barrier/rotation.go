package barrier

import (
	"crypto/subtle"
	"time"

	"arca/internal/errs"
)

// Bounds of a Rotation, those of Vault's sys/rotate/config.
const (
	MaxOperations = 3_865_470_566 // nine tenths of 2^32
	MinOperations = 1_000_000
	MinInterval   = 24 * time.Hour
)

// ownLimit is when a term is rotated whatever the configuration allows. Random
// nonces collide with a chance of 2^-35 by then.
const ownLimit = 1 << 31

// SaveEvery is how many encryptions may go uncounted by a crash.
const SaveEvery = 1 << 20

// A Rotation says when the encryption key is replaced without being asked.
type Rotation struct {
	Disabled      bool
	MaxOperations int64         // encryptions per term
	Interval      time.Duration // age of a term; 0: any
}

// DefaultRotation is the rotation of a new keyring.
func DefaultRotation() Rotation { return Rotation{MaxOperations: MaxOperations} }

// Rotation returns the configuration, or ErrSealed.
func (r *Keyring) Rotation() (Rotation, error) {
	k := r.keys.Load()
	if k == nil {
		return Rotation{}, ErrSealed
	}
	return k.rotation, nil
}

// Due reports whether the newest term should be replaced at now. The own limit
// of 2^31 encryptions holds even where rotation is disabled.
func (r *Keyring) Due(now time.Time) bool {
	k := r.keys.Load()
	if k == nil {
		return false
	}
	t, c := k.newest(), k.rotation
	n := t.count.Load()
	switch {
	case n >= ownLimit:
		return true
	case c.Disabled:
		return false
	case n >= uint64(c.MaxOperations):
		return true
	}
	return c.Interval > 0 && now.Sub(t.installed) >= c.Interval
}

// Uncounted returns how much was encrypted since the last saved record.
func (r *Keyring) Uncounted() uint64 {
	k := r.keys.Load()
	if k == nil {
		return 0
	}
	t := k.newest()
	return t.count.Load() - t.saved.Load()
}

// A Draft is a change of a keyring that does not count yet: save its Record,
// then Install it, else Drop it. Drafts are made and ended one at a time; the
// seal manager sees to that.
type Draft struct {
	ring  *Keyring
	keys  *keys
	fresh *term // made by this draft
	saved uint64
}

// Grow drafts a ring with a new term.
func (r *Keyring) Grow(now time.Time) (*Draft, error) {
	k := r.keys.Load()
	if k == nil {
		return nil, ErrSealed
	}
	t, err := newTerm(k.newest().id+1, NewKey(), now)
	if err != nil {
		return nil, err
	}
	next := *k
	next.terms = append(k.terms[:len(k.terms):len(k.terms)], t)
	return &Draft{ring: r, keys: &next, fresh: t}, nil
}

// Configure drafts a ring with another rotation.
func (r *Keyring) Configure(c Rotation) (*Draft, error) {
	k := r.keys.Load()
	if k == nil {
		return nil, ErrSealed
	}
	next := *k
	next.rotation = c
	return &Draft{ring: r, keys: &next}, nil
}

// Same drafts no change; its record holds the present counts.
func (r *Keyring) Same() (*Draft, error) {
	k := r.keys.Load()
	if k == nil {
		return nil, ErrSealed
	}
	return &Draft{ring: r, keys: k}, nil
}

// Record encodes the drafted ring under the root key.
func (d *Draft) Record(root Key) ([]byte, error) {
	d.ring.mu.Lock()
	defer d.ring.mu.Unlock()
	if d.ring.keys.Load() == nil {
		return nil, ErrSealed
	}
	d.saved = d.keys.newest().count.Load()
	return d.keys.record(root, d.ring.label)
}

// Install makes the draft the ring's state, once its record is saved.
func (d *Draft) Install() {
	d.ring.mu.Lock()
	defer d.ring.mu.Unlock()
	if d.ring.keys.Load() == nil { // wiped meanwhile
		d.drop()
		return
	}
	d.keys.newest().saved.Store(d.saved)
	d.ring.keys.Store(d.keys)
}

// Drop forgets the draft.
func (d *Draft) Drop() {
	d.ring.mu.Lock()
	defer d.ring.mu.Unlock()
	d.drop()
}

func (d *Draft) drop() {
	if d.fresh != nil {
		d.fresh.key.Wipe()
	}
}

// Reload takes over the state that another node saved as record. Terms that
// are the same keep their counts.
func (r *Keyring) Reload(record []byte, root Key) error {
	next, err := decodeRecord(record, root, r.label)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.keys.Load()
	if old == nil {
		next.wipe()
		return ErrSealed
	}
	for _, t := range next.terms {
		if have := old.term(t.id); have != nil && subtle.ConstantTimeCompare(have.key, t.key) == 0 {
			next.wipe()
			return errs.New(errs.Failed, "the stored keyring has another key for term %d", t.id)
		}
	}
	for i, t := range next.terms {
		have := old.term(t.id)
		if have == nil {
			continue
		}
		if n := t.count.Load(); n > have.count.Load() {
			have.count.Store(n)
			have.saved.Store(n)
		}
		t.key.Wipe()
		next.terms[i] = have
	}
	old.secret.Wipe()
	r.keys.Store(next)
	return nil
}
