package seal

import (
	"context"
	"crypto/subtle"
	"errors"
	"slices"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
)

// A Sealer encrypts the root key, with the seal-wrap key where there is one, somewhere
// outside: in a KMS, on another server.
// It is asked with a bound on time, and may be wrong: what it encrypts is decrypted
// and compared before it counts.
type Sealer interface {
	Encrypt(ctx context.Context, plain []byte) (sealed []byte, err error)
	Decrypt(ctx context.Context, sealed []byte) (plain []byte, err error)
}

// A Wrapper is a seal that opens by itself, as the configuration has it.
type Wrapper struct {
	Type string // "transit", "awskms"
	Name string // tells several of one type apart; that of the type if not given
	// Disabled marks a seal that is being left: it decrypts, and encrypts no more.
	Disabled bool
	Sealer   Sealer
}

// wrapping is the root key under one seal.
type wrapping struct {
	Type string    `json:"type"`
	Name string    `json:"name"`
	Root []byte    `json:"root"`           // what the Sealer made of it
	Both bool      `json:"both,omitempty"` // the seal-wrap key is in it, behind the root key
	At   time.Time `json:"at"`
}

// A Renewer is a Sealer that knows when something is to be encrypted anew, as its
// key was replaced.
type Renewer interface {
	Current(sealed []byte) bool
}

// A Keeper is a Sealer that has something to do as long as the server runs, sealed or
// not: to keep its token alive.
type Keeper interface {
	// Keep runs until ctx ends. It says how that goes, nil when all is well.
	Keep(ctx context.Context, tell func(error))
}

func (w *Wrapper) current(e *wrapping) bool {
	r, ok := w.Sealer.(Renewer)
	return !ok || r.Current(e.Root)
}

// How long a Sealer is waited for, and how often it is tried. A seal that is ill
// is looked at every minute.
const (
	sealerTimeout  = 10 * time.Second
	healthInterval = 10 * time.Minute
	firstRetry     = time.Second
	lastRetry      = 30 * time.Second
	neededRetry    = 2 * time.Second
)

// auto reports whether the store opens by itself, and its shares are recovery
// keys.
func (c *config) auto() bool { return c != nil && len(c.Wrapped) > 0 }

// by returns what stands under w's name, or nil.
func (c *config) by(w *Wrapper) *wrapping {
	for i := range c.Wrapped {
		if e := &c.Wrapped[i]; e.Type == w.Type && e.Name == w.Name {
			return e
		}
	}
	return nil
}

// orphans lists what w may have made under another name: a seal that got a name, or
// another one, is known by nothing but that it decrypts. What stands under the name of
// a configured seal is that one's.
func (m *Manager) orphans(c *config, w *Wrapper) (out []*wrapping) {
	for i := range c.Wrapped {
		e := &c.Wrapped[i]
		owned := slices.ContainsFunc(m.cfg.Wrappers, func(o Wrapper) bool { return o.Type == e.Type && o.Name == e.Name })
		if e.Type == w.Type && !owned && !m.ill.isRefuted(w.Name, e.Root) {
			out = append(out, e)
		}
	}
	return out
}

// enabled lists the seals that the root key is to be under.
func (m *Manager) enabled() []*Wrapper {
	var out []*Wrapper
	for i := range m.cfg.Wrappers {
		if w := &m.cfg.Wrappers[i]; !w.Disabled {
			out = append(out, w)
		}
	}
	return out
}

// Auto reports whether the configuration has a seal that opens by itself.
func (m *Manager) Auto() bool { return len(m.enabled()) > 0 }

// Type is the type of the configured seal.
func (m *Manager) Type() string {
	if e := m.enabled(); len(e) > 0 {
		return e[0].Type
	}
	return typeShamir
}

// Recovery reports whether the store's shares are recovery keys.
func (m *Manager) Recovery(ctx context.Context) (bool, error) {
	c, err := m.config(ctx)
	return c.auto(), err
}

// migrating reports whether the configuration asks for another seal than the one
// that the store has: then shares with the word "migrate" go over to it.
func (m *Manager) migrating(c *config) bool {
	enabled := m.enabled()
	switch {
	case c == nil:
		return false
	case !c.auto():
		return len(enabled) > 0
	}
	for _, w := range enabled {
		if c.by(w) != nil || len(m.orphans(c, w)) > 0 {
			return false
		}
	}
	return true
}

// encrypt puts root under w, and makes sure that it can be got back.
func (m *Manager) encrypt(ctx context.Context, w *Wrapper, root barrier.Key) (*wrapping, error) {
	ctx, cancel := context.WithTimeout(ctx, sealerTimeout)
	defer cancel()
	sealed, err := roundTrip(ctx, w, root)
	if err != nil {
		m.note(w, nil, err)
		return nil, errs.New(errs.Unavailable, "seal %q cannot encrypt the root key: %w", w.Name, err)
	}
	return &wrapping{Type: w.Type, Name: w.Name, Root: sealed, Both: len(root) == wholeBytes, At: now()}, nil
}

var errWrongKey = errors.New("it gives back another key than it was given")

func roundTrip(ctx context.Context, w *Wrapper, key []byte) (sealed []byte, err error) {
	if sealed, err = w.Sealer.Encrypt(ctx, key); err != nil {
		return nil, err
	}
	back, err := w.Sealer.Decrypt(ctx, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(back)
	if subtle.ConstantTimeCompare(back, key) != 1 {
		return nil, errWrongKey
	}
	return sealed, nil
}

// encryptAll puts root under all enabled seals; one that fails is an error.
func (m *Manager) encryptAll(ctx context.Context, root barrier.Key) ([]wrapping, error) {
	var out []wrapping
	for _, w := range m.enabled() {
		e, err := m.encrypt(ctx, w, root)
		if err != nil {
			return nil, err
		}
		m.note(w, e.Root, nil)
		out = append(out, *e)
	}
	return out, nil
}

// decryptAny gets the root key, the one that opens the stored keyring, from the
// first seal that gives it.
func (m *Manager) decryptAny(ctx context.Context, c *config) (barrier.Key, error) {
	record, err := m.storedRecord(ctx)
	if err != nil {
		return nil, err
	}
	// Where no enabled seal has anything under its name, one may have got another name;
	// else this is a migration, which a disabled seal is not to pass over.
	renamed := !slices.ContainsFunc(m.enabled(), func(w *Wrapper) bool { return c.by(w) != nil })
	var failures []error
	for i := range m.cfg.Wrappers {
		w := &m.cfg.Wrappers[i]
		if renamed && w.Disabled {
			continue
		}
		root, err := m.decryptBy(ctx, c, w, func(root []byte) bool { return c.fits(root, record) })
		if root != nil {
			return c.complete(root), nil
		}
		if err != nil {
			failures = append(failures, errs.New(errs.Unavailable, "seal %q: %w", w.Name, err))
		}
	}
	return nil, errs.New(errs.Unavailable, "no seal gives the root key: %w", errors.Join(failures...))
}

// storedRecord reads the keyring; there is none where the node is about to join a cluster,
// which tests the key in its own way.
func (m *Manager) storedRecord(ctx context.Context) (record []byte, err error) {
	stored, err := m.readStored(ctx)
	if err == nil && stored != nil {
		err = m.cfg.Raw.View(ctx, func(tx storage.Tx) (err error) {
			record, err = tx.Get(barrier.RecordKey)
			return err
		})
	}
	if err != nil {
		return nil, errs.New(errs.Failed, "the keyring cannot be read: %w", err)
	}
	return record, nil
}

// decryptBy gets the root key by w: from what stands under its name, else from what it
// may have made under another, as when two seals have changed their names. It gives
// nothing where there is nothing of its type.
func (m *Manager) decryptBy(ctx context.Context, c *config, w *Wrapper, fits func(root []byte) bool) (barrier.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, sealerTimeout)
	defer cancel()
	own, orphans := c.by(w), m.orphans(c, w)
	var failed error
	try := func(e *wrapping) barrier.Key {
		root, err := w.Sealer.Decrypt(ctx, e.Root)
		if err == nil && !fits(root) {
			clear(root)
			err = errWrongKey
			m.ill.refute(w.Name, e.Root)
		}
		if err != nil {
			if failed == nil {
				failed = err
			}
			return nil
		}
		return root
	}
	if own != nil {
		root := try(own)
		m.note(w, own.Root, failed)
		if root != nil {
			return root, nil
		}
	}
	for _, e := range orphans {
		if root := try(e); root != nil {
			if own == nil {
				m.note(w, e.Root, nil)
			}
			return root, nil
		}
	}
	if own == nil && len(orphans) > 0 {
		m.note(w, nil, failed)
		if root := m.refute(ctx, w, orphans, fits); root != nil {
			m.note(w, nil, nil)
			return root, nil
		}
	}
	for i := range c.Wrapped {
		if e := &c.Wrapped[i]; e.Type == w.Type && e != own && !slices.Contains(orphans, e) {
			if root := try(e); root != nil {
				return root, nil
			}
		}
	}
	return nil, failed
}

// refute remembers that w did not make these, which it was asked for once, if it does
// encrypt and decrypt otherwise: then the store is under another key, and a migration is
// asked for. It asks once more, as failures pass, and returns the root key if it is given.
func (m *Manager) refute(ctx context.Context, w *Wrapper, list []*wrapping, good func(root []byte) bool) barrier.Key {
	ctx, cancel := context.WithTimeout(ctx, sealerTimeout)
	defer cancel()
	probe := barrier.NewKey()
	defer probe.Wipe()
	if _, err := roundTrip(ctx, w, probe); err != nil {
		return nil
	}
	for _, e := range list {
		root, err := w.Sealer.Decrypt(ctx, e.Root)
		switch {
		case err == nil && good(root):
			m.ill.acquit(w.Name, e.Root)
			return root
		case ctx.Err() != nil: // that says nothing
			clear(root)
			return nil
		}
		clear(root)
		m.ill.refute(w.Name, e.Root)
	}
	return nil
}

// reconsider asks for what was refuted a while ago: a service may have failed twice in a
// row and be well otherwise. It reports whether a seal gives the root key after all.
func (m *Manager) reconsider(ctx context.Context, c *config, good func(root []byte) bool) bool {
	for _, w := range m.enabled() {
		var stale []*wrapping
		for i := range c.Wrapped {
			if e := &c.Wrapped[i]; e.Type == w.Type && m.ill.isStale(w.Name, e.Root) {
				stale = append(stale, e)
			}
		}
		if len(stale) == 0 {
			continue
		}
		if root := m.refute(ctx, w, stale, good); root != nil {
			root.Wipe()
			return true
		}
	}
	return false
}

// fits reports whether a key opens the keyring, and the seal-wrap key comes with it or
// can be had by it.
func (c *config) fits(whole barrier.Key, record []byte) bool {
	root, wrap := split(whole)
	if root == nil || wrap == nil && c.hasWrap() && c.SealWrap == nil {
		return false
	}
	if record == nil {
		return true
	}
	ring, err := barrier.OpenKeyring(record, root)
	if err != nil {
		return false
	}
	ring.Wipe()
	return true
}

// ErrNeedsShares says that the node does not open by itself: it has a Shamir seal,
// is on the way to another seal, or is not initialised.
var ErrNeedsShares error = errs.New(errs.Sealed, "the server does not unseal by itself: give it key shares")

// OpenByItself opens a sealed node by one of its seals.
func (m *Manager) OpenByItself(ctx context.Context) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	defer m.end()
	if m.state.Load().open != nil {
		return nil
	}
	c, err := m.readConfig(ctx)
	switch {
	case err != nil:
		return err
	case !c.auto():
		return ErrNeedsShares
	case m.migrating(c):
		record, err := m.storedRecord(ctx)
		if err != nil || !m.reconsider(ctx, c, func(root []byte) bool { return c.fits(root, record) }) {
			return ErrNeedsShares
		}
	}
	root, err := m.decryptAny(ctx, c)
	if err == nil {
		err = m.open(ctx, c, root, opening{})
	}
	if err != nil {
		m.cfg.Log.Error("the server cannot unseal by itself", "error", err)
	}
	return err
}

// KeepOpening opens the node by itself at the start: it tries until that succeeds
// or ctx ends. A node that is sealed later stays so until it is started again.
func (m *Manager) KeepOpening(ctx context.Context) {
	if !m.Auto() {
		return
	}
	wait, told := firstRetry, false
	for {
		if m.opened.Load() { // and perhaps sealed again by who knows why
			return
		}
		err := m.OpenByItself(ctx)
		switch {
		case err == nil || ctx.Err() != nil:
			return
		case errors.Is(err, ErrNeedsShares):
			// Perhaps another node initialises the store, this one joins a cluster, or a
			// migration ends: what is looked at lies here.
			wait = min(wait, neededRetry)
			if c, _ := m.config(ctx); c != nil && !told {
				told = true
				m.cfg.Log.Warn("a seal migration is pending: unseal with -migrate")
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		wait = min(2*wait, lastRetry)
	}
}
