package seal

import (
	"context"
	"crypto/subtle"
	"errors"
	"slices"
	"sync"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
)

// The seal-wrap key is what values of mounts with seal_wrap lie under besides (barrier/wrap.go). It goes where the root key
// goes, behind it in one "whole key": under each seal that opens by itself, and under the shares. Neither of the two gives
// the other. It decrypts the seal-wrap keyring, which has versions; the seals are not asked for single values.
//
// A store has it from the start. One that an older release made gets it when a mount wants it. There are no shares at hand
// then, so it lies under the root key besides (config.SealWrap) until all that opens the store has it: the seals soon, the
// shares after the next rekey.

const (
	wrapLabel  = "arca seal-wrap key"
	wholeBytes = 2 * barrier.KeyBytes // of a root key with a seal-wrap key behind it
	wantTime   = 5 * time.Second
)

// split gives the parts of a whole key, in its memory. wrap is nil where there is none; both are for what is no whole key.
func split(whole barrier.Key) (root, wrap barrier.Key) {
	switch len(whole) {
	case barrier.KeyBytes:
		return whole, nil
	case wholeBytes:
		return whole[:barrier.KeyBytes:barrier.KeyBytes], whole[barrier.KeyBytes:]
	}
	return nil, nil
}

// complete returns whole with the seal-wrap key behind it, where that lies under the root key. It owns whole.
func (c *config) complete(whole barrier.Key) barrier.Key {
	if len(whole) != barrier.KeyBytes || c.SealWrap == nil {
		return whole
	}
	wrap, err := barrier.Unwrap(whole, wrapLabel, c.SealWrap)
	if err != nil {
		return whole // it is another root key, or damaged, which shows when it is used
	}
	defer clear(wrap)
	defer whole.Wipe()
	return append(append(make(barrier.Key, 0, wholeBytes), whole...), wrap...)
}

// hasWrap reports whether the store has a seal-wrap key.
func (c *config) hasWrap() bool { return c.base() == wrapVersion }

// carried reports whether all that opens the store gives the seal-wrap key, too.
func (c *config) carried() bool {
	lacks := func(e wrapping) bool { return !e.Both }
	return !slices.ContainsFunc(c.Wrapped, lacks) && c.Both && (c.Next == nil || c.Next.Both)
}

// dropCarried has the seal-wrap key no longer lie under the root key where all that opens the store gives it.
func (c *config) dropCarried() {
	if c.carried() {
		c.SealWrap = nil
	}
}

// A heldKey is a key of an open node: its root key, or its seal-wrap key. It is safe for concurrent use. A nil heldKey has
// none, and takes none.
type heldKey struct {
	mu  sync.Mutex
	key barrier.Key // nil where it is not known; guarded by mu
}

// hold keeps a copy of key, which stays the caller's.
func hold(key barrier.Key) *heldKey { return &heldKey{key: slices.Clone(key)} }

// get returns a copy, nil where it is not known.
func (k *heldKey) get() barrier.Key {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.key)
}

// set keeps a copy of key; nil forgets what is there.
func (k *heldKey) set(key barrier.Key) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.key.Wipe()
	k.key = slices.Clone(key)
}

// replace keeps a copy of key where old is what is there.
func (k *heldKey) replace(old, key barrier.Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if subtle.ConstantTimeCompare(k.key, old) == 1 {
		k.key.Wipe()
		k.key = slices.Clone(key)
	}
}

// whole returns a copy of the root key with the seal-wrap key behind it.
func (u *unsealed) whole() barrier.Key {
	root := u.root.get()
	defer root.Wipe()
	return u.behind(root)
}

// behind returns a copy of root with the seal-wrap key behind it, where that is known.
func (u *unsealed) behind(root barrier.Key) barrier.Key {
	wrap := u.wrap.get()
	defer wrap.Wipe()
	whole := make(barrier.Key, 0, wholeBytes)
	return append(append(whole, root...), wrap...)
}

// shared is the whole key under new shares, with the root key that r goes over to. Where the store has a seal-wrap key that
// this node does not know it is an error.
func (u *unsealed) shared(p RekeyParams, kek barrier.Key, r renewal) (*sharing, error) {
	whole := u.whole()
	if r.to != nil {
		whole.Wipe()
		whole = u.behind(r.to)
	}
	defer whole.Wipe()
	both := len(whole) == wholeBytes
	if !both && u.config.hasWrap() && u.config.SealWrap == nil {
		return nil, barrier.ErrNoWrapKey
	}
	root, err := barrier.Wrap(kek, rootLabel, whole)
	if err != nil {
		return nil, err
	}
	prior, err := r.prior()
	return &sharing{Shares: p.Shares, Threshold: p.Threshold, Root: root, Both: both, Prior: prior}, err
}

// wraps reports whether values that ask for it are wrapped: not with a Shamir seal, as in Vault. Where they were, a store
// that is restored from before there was a key changes nothing in that: they are refused until there is one.
func (u *unsealed) wraps(c *config) bool {
	return c != nil && (c.hasWrap() || u.ring.Wrapping()) && c.auto() && u.wrap != nil && !u.plain
}

// loadWrap takes over the stored seal-wrap keyring, and the key where that is at hand. A store of which the key is not at
// hand is served but for its wrapped values; the seals are asked in the background.
func (m *Manager) loadWrap(tx storage.Tx, c *config, u *unsealed) error {
	m.loading.Lock() // who comes second finds what the first has loaded, and does not replace it under its readers
	defer m.loading.Unlock()
	if c == nil || !c.hasWrap() {
		m.loseWrap(c, u)
		return nil
	}
	record, err := tx.Get(barrier.WrapRecordKey)
	if errors.Is(err, storage.ErrNotFound) {
		u.ring.UseWrap(nil, u.wraps(c))
		if m.joining.Load() == nil { // else the store comes by itself
			m.cfg.Log.Error("the seal-wrap keyring is missing: values that are wrapped cannot be read")
		}
		return nil
	}
	if err != nil {
		return errs.New(errs.KindOf(err), "the seal-wrap keyring cannot be read: %w", err)
	}
	key := u.wrap.get()
	defer key.Wipe()
	ring := u.ring.WrapRing()
	if ring != nil && key != nil && ring.Reload(record, key) == nil {
		u.ring.SetWrapping(u.wraps(c))
		return nil
	}
	ring = u.openWrap(c, record, key)
	u.ring.UseWrap(ring, u.wraps(c))
	if ring == nil {
		u.wrap.set(nil)
		m.hasten()
	}
	return nil
}

// loseWrap forgets the seal-wrap key of a store that has none. Where values were wrapped they are to be further on: another
// key is made.
func (m *Manager) loseWrap(c *config, u *unsealed) {
	on := u.wraps(c)
	if u.ring.WrapRing() != nil {
		m.cfg.Log.Warn("the stored seal configuration has no seal-wrap key any more: it was restored from before there was one, or altered")
		if on {
			m.wanted.Store(true)
			m.hasten()
		}
	}
	u.wrap.set(nil)
	u.ring.UseWrap(nil, on)
}

// openWrap opens the stored seal-wrap keyring with key, or with the one that lies under the root key, and keeps which it was.
// It is nil where neither fits.
func (u *unsealed) openWrap(c *config, record []byte, key barrier.Key) *barrier.Keyring {
	if ring, err := barrier.OpenWrapKeyring(record, key); err == nil {
		return ring
	}
	root := u.root.get()
	defer root.Wipe()
	under, err := barrier.Unwrap(root, wrapLabel, c.SealWrap)
	if err != nil {
		return nil
	}
	defer clear(under)
	ring, err := barrier.OpenWrapKeyring(record, under)
	if err != nil {
		return nil
	}
	u.wrap.set(under)
	return ring
}

// tendWrap gets the seal-wrap key where this node lacks it, and makes one where the store does and a mount wants it. It
// reports whether there is one now that was not before. whole is what the node knows.
func (m *Manager) tendWrap(ctx context.Context, u *unsealed, whole barrier.Key, leads bool) bool {
	c := u.config
	switch {
	case c.hasWrap() && len(whole) != wholeBytes:
		return m.takeWrap(ctx, u) || m.askWrap(ctx, u)
	case c.hasWrap():
		return u.ring.WrapRing() == nil && m.Reload(ctx) == nil // it had joined a cluster before the store was here
	case !leads || !c.auto() || !m.wanted.Load():
		return false
	}
	err := m.makeWrap(ctx)
	if err != nil && ctx.Err() == nil {
		m.cfg.Log.Warn("make a seal-wrap key", "error", err)
	}
	return err == nil
}

// takeWrap takes up the seal-wrap key where it lies under the root key: another node may have made it, or this one in a commit of which it did
// not hear.
func (m *Manager) takeWrap(ctx context.Context, u *unsealed) bool {
	if u.config.SealWrap == nil {
		return false
	}
	record, err := m.wrapRecord(ctx)
	if err != nil {
		return false // askWrap tells of it
	}
	ring := u.openWrap(u.config, record, nil)
	if ring == nil {
		return false
	}
	ring.Wipe()
	return m.Reload(ctx) == nil && u.ring.WrapRing() != nil
}

// askWrap asks the seals for the seal-wrap key. It takes none that does not open the stored seal-wrap keyring: where that is
// damaged, or of another key, the seals are asked when it is due, and not at once again.
func (m *Manager) askWrap(ctx context.Context, u *unsealed) bool {
	record, err := m.wrapRecord(ctx)
	if err != nil {
		if ctx.Err() == nil {
			m.cfg.Log.Warn("read the seal-wrap keyring", "error", err)
		}
		return false
	}
	for _, w := range m.enabled() {
		if e := u.config.by(w); e == nil || !e.Both || !m.givesWrap(ctx, u, w, e, record) {
			continue
		}
		return m.Reload(ctx) == nil && u.ring.WrapRing() != nil
	}
	m.cfg.Log.Warn("no seal gives the seal-wrap key: values that are wrapped cannot be read on this node")
	return false
}

// givesWrap has w decrypt e, and keeps the seal-wrap key in it where that opens record.
func (m *Manager) givesWrap(ctx context.Context, u *unsealed, w *Wrapper, e *wrapping, record []byte) bool {
	ctx, cancel := context.WithTimeout(ctx, sealerTimeout)
	defer cancel()
	whole, err := w.Sealer.Decrypt(ctx, e.Root)
	defer clear(whole)
	_, wrap := split(whole)
	root := u.root.get()
	defer root.Wipe()
	if err != nil || wrap == nil || !same(root)(whole) {
		return false
	}
	ring, err := barrier.OpenWrapKeyring(record, wrap)
	if err != nil {
		m.cfg.Log.Warn("the seal-wrap key that a seal gives does not open the stored seal-wrap keyring, which is damaged or of another key", "seal", w.Name)
		return false
	}
	ring.Wipe()
	u.wrap.set(wrap)
	return true
}

func (m *Manager) wrapRecord(ctx context.Context) (record []byte, err error) {
	err = m.cfg.Raw.View(ctx, func(tx storage.Tx) error {
		record, err = tx.Get(barrier.WrapRecordKey)
		return err
	})
	return record, err
}

// WantWrap says that a mount has seal_wrap. Where the store has no seal-wrap key, as an older release made it, and the seal
// opens by itself, it makes one.
func (m *Manager) WantWrap(ctx context.Context) error {
	m.wanted.Store(true)
	if u := m.state.Load().open; u == nil || u.config.hasWrap() || !u.config.auto() {
		return nil
	}
	// Who asks may be in the middle of a transaction for which an operation under way waits.
	ctx, cancel := context.WithTimeout(ctx, wantTime)
	defer cancel()
	return m.makeWrap(ctx)
}

// HasWrap reports whether the store has a seal-wrap key.
func (m *Manager) HasWrap() bool {
	u := m.state.Load().open
	return u != nil && u.config.hasWrap()
}

// makeWrap makes a seal-wrap key for a store that has none. It goes under the root key first, in the same commit as the
// keyring that is under it: no seal need be asked, and nothing is wrapped that could not be read again.
func (m *Manager) makeWrap(ctx context.Context) error {
	u, err := m.beginOpen(ctx)
	if err != nil {
		return err
	}
	defer m.end()
	if u.config.hasWrap() {
		return nil
	}
	key := barrier.NewKey()
	defer key.Wipe()
	ring, err := barrier.NewWrapKeyring(now())
	if err != nil {
		return err
	}
	next := *u.config
	next.Version = wrapVersion
	next.mark()
	root := u.root.get()
	defer root.Wipe()
	if next.SealWrap, err = barrier.Wrap(root, wrapLabel, key); err != nil {
		return err
	}
	err = m.replaceConfigWith(ctx, u.config, &next, func(tx storage.Tx) error { return saveRing(tx, ring, key) })
	ring.Wipe()
	if err != nil {
		m.takeStored(ctx, u)
		return err
	}
	m.cfg.Log.Info("a seal-wrap key was made")
	m.set(u, func(u *unsealed) { u.take(&next) })
	m.hasten() // to bring it under the seals
	return m.cfg.Raw.View(ctx, func(tx storage.Tx) error { return m.loadWrap(tx, &next, u) })
}

// RenewWrap makes a new version of the seal-wrap keyring if after is the newest, so that it can be repeated, and gives the
// newest; 0 where values are not wrapped.
func (m *Manager) RenewWrap(ctx context.Context, after uint32) (version uint32, err error) {
	if err := m.growWrap(ctx, func(newest uint32) bool { return newest == after }); err != nil {
		return 0, err
	}
	return m.WrapVersion()
}

// WrapVersion is the newest version of the seal-wrap keyring; 0 where values are not wrapped.
func (m *Manager) WrapVersion() (uint32, error) {
	u, err := m.active()
	if err != nil || !u.wraps(u.config) {
		return 0, err
	}
	ring := u.ring.WrapRing()
	if ring == nil {
		return 0, barrier.ErrNoWrapKey
	}
	info, err := ring.Info()
	return info.Term, err
}

// growWrap makes a new version of the seal-wrap keyring, where values are wrapped and the newest one is due for that.
func (m *Manager) growWrap(ctx context.Context, due func(newest uint32) bool) error {
	u, err := m.beginOpen(ctx)
	if err != nil {
		return err
	}
	defer m.end()
	if !u.wraps(u.config) {
		return nil
	}
	grown := false
	err = m.changeWrap(ctx, u, func(ring *barrier.Keyring) (*barrier.Draft, error) {
		info, err := ring.Info()
		if err != nil {
			return nil, err
		}
		if grown = due(info.Term); !grown {
			return ring.Same()
		}
		return ring.Grow(now())
	})
	if err == nil && grown {
		m.cfg.Log.Info("the seal-wrap keyring has a new version")
	}
	return err
}

// changeWrap is change for the seal-wrap keyring.
func (m *Manager) changeWrap(ctx context.Context, u *unsealed, draft func(*barrier.Keyring) (*barrier.Draft, error)) error {
	ring, key := u.ring.WrapRing(), u.wrap.get()
	defer key.Wipe()
	if ring == nil || key == nil {
		return barrier.ErrNoWrapKey
	}
	load := func(tx storage.Tx) (barrier.Key, error) {
		record, err := tx.Get(barrier.WrapRecordKey)
		if err != nil {
			return nil, err
		}
		return slices.Clone(key), ring.Reload(record, key)
	}
	return m.change(ctx, ring, load, func() (*barrier.Draft, error) { return draft(ring) })
}

func (u *unsealed) wrapDue() bool {
	ring := u.ring.WrapRing()
	return ring != nil && ring.Due(now())
}

func (u *unsealed) wrapUncounted() uint64 {
	if ring := u.ring.WrapRing(); ring != nil {
		return ring.Uncounted()
	}
	return 0
}

// RenewSeals has each seal encrypt anew what it keeps since before a time, in the background.
func (m *Manager) RenewSeals(before time.Time) {
	m.renew.Store(before.UnixNano())
	m.hasten()
}

// keeps reports whether what a seal keeps can stay as it is: it has all of the whole key, and neither the seal nor RenewSeals
// asks for it anew.
func (m *Manager) keeps(w *Wrapper, e *wrapping, whole barrier.Key) bool {
	since := m.renew.Load()
	return w.current(e) && e.Both == (len(whole) == wholeBytes) && (since == 0 || e.At.UnixNano() >= since)
}
