package seal

import (
	"bytes"
	"context"
	"slices"

	"github.com/google/uuid"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
)

// Unseal takes one share, and owns it. With the last share that is needed it
// opens the node; when the shares do not fit, the round begins anew. A share
// that was given already changes nothing, and neither does any share when the
// node is open.
func (m *Manager) Unseal(ctx context.Context, share barrier.Key, migrate bool) (Status, error) {
	return m.UnsealFor(ctx, share, UnsealFor{Migrate: migrate})
}

// UnsealFor says what a share is given for.
type UnsealFor struct {
	Migrate  bool // to go over to the configured seal
	Recovery bool // to open a store whose seals fail, by its recovery keys
}

var (
	errMigrate  = errs.New(errs.Invalid, "'migrate' parameter must be set true in JSON body when in seal migration mode")
	errItself   = errs.New(errs.Invalid, "this server unseals by itself; when its seals are lost, open it by its recovery keys with 'recovery' set true (operator unseal -recovery)")
	errNoShares = errs.New(errs.Invalid, "this server has no recovery keys: it is opened by its unseal keys")
)

// check refuses shares that are given for something else than can be done.
func (f UnsealFor) check(m *Manager, c *config) error {
	migrating := m.migrating(c)
	switch {
	case f.Recovery && !c.auto():
		return errNoShares
	case f.Recovery:
		return nil
	case f.Migrate && !migrating:
		return errs.New(errs.Failed, "can't perform a seal migration, no migration seal found")
	case migrating && !f.Migrate:
		return errMigrate
	case c.auto() && !migrating:
		return errItself
	}
	return nil
}

// UnsealFor is Unseal with more to say.
func (m *Manager) UnsealFor(ctx context.Context, share barrier.Key, f UnsealFor) (Status, error) {
	if err := m.unseal(ctx, share, f); err != nil {
		return Status{}, err
	}
	if f.Migrate {
		m.awaitCrossing(ctx)
	}
	return m.Status(ctx)
}

func (m *Manager) unseal(ctx context.Context, share barrier.Key, f UnsealFor) error {
	kept := false
	defer func() {
		if !kept {
			share.Wipe()
		}
	}()
	if checkShare(share) == nil {
		m.lookAgain(ctx)
	}
	if err := m.begin(ctx); err != nil {
		return err
	}
	defer m.end()
	s := m.state.Load()
	if s.open != nil {
		return nil
	}
	c, err := m.readConfig(ctx)
	switch {
	case err != nil:
		return err
	case c == nil:
		return ErrNotInitialised
	}
	if err := f.check(m, c); err != nil {
		return err
	}
	if err := checkShare(share); err != nil {
		return err
	}
	r := s.round
	if r != nil && r.of != c.fingerprint() { // rekeyed on another node meanwhile
		m.shut()
		r = nil
	}
	if r.has(share) {
		return nil
	}
	if r == nil {
		r = &round{nonce: uuid.NewString(), of: c.fingerprint()}
	}
	kept = true
	r = r.with(share)
	m.state.Store(&state{round: r})
	found, err := r.find(c)
	defer found.fresh.Wipe()
	if err != nil && r.count() < c.enough() {
		return nil
	}
	m.state.Store(&state{})
	defer r.wipe()
	if err != nil {
		m.cfg.Log.Warn("unseal: the shares given do not fit")
		return errs.New(errs.Invalid, "invalid key: %w", err)
	}
	whole, how := found.whole, opening{}
	if found.by == c.Next {
		how.settle, how.fresh = found.by, found.fresh
	}
	if f.Migrate || m.Auto() {
		how.crossing = &crossing{from: c.seals()}
	}
	switch {
	case m.cfg.Shared: // whoever is the active node writes
		if how.crossing != nil && !f.Recovery {
			var next *config
			if next, err = m.wrapped(ctx, c, whole); err == nil { // that the new seal works is known now
				m.noteNew(c, next)
			}
		}
	default:
		if how.settle != nil {
			c, whole = m.promote(ctx, c, found)
		}
		if how.crossing != nil && !f.Recovery {
			c, err = m.migrate(ctx, c, whole)
			how.crossing = nil
		}
	}
	if err != nil {
		whole.Wipe()
		return err
	}
	return m.open(ctx, c, whole, how)
}

// opening says what the shares have authorised besides.
type opening struct {
	crossing *crossing
	settle   *sharing    // the Next whose shares were used; nil for none
	fresh    barrier.Key // the root key that comes with them, where that is another; the caller's
}

// promote ends a rekey that a failure cut short, now that its shares proved to
// be in hand. If that cannot be written now, both sets of shares stay good. It gives the whole key that opens the store then, in
// the place of that of found.
func (m *Manager) promote(ctx context.Context, c *config, found find) (*config, barrier.Key) {
	r := renewalOf(c, found)
	defer r.wipe()
	p, err := c.promoted(r)
	if err == nil {
		err = m.replaceConfigWith(ctx, c, p, r.put)
	}
	if err != nil {
		m.cfg.Log.Warn("the shares before the last rekey stay valid", "error", err)
		return c, found.whole
	}
	if r.to == nil {
		return p, found.whole
	}
	_, wrap := split(found.whole)
	whole := slices.Concat(r.to, wrap)
	found.whole.Wipe()
	return p, whole
}

// open goes from the root key, with the seal-wrap key behind it or without, to the open
// state, and hands over to the core. It owns whole.
func (m *Manager) open(ctx context.Context, c *config, whole barrier.Key, how opening) error {
	defer whole.Wipe()
	root, wrap := split(whole)
	if root == nil {
		return errs.New(errs.Failed, "what the shares or the seal give is no root key of this release")
	}
	if wrap != nil && !c.hasWrap() { // else values would be written without the seal's layer
		return errs.New(errs.Failed, "the seal configuration was altered: it does not tell of the seal-wrap key that there is")
	}
	u := &unsealed{config: c, root: hold(root), wrap: hold(wrap), plain: m.cfg.DisableSealWrap, crossing: how.crossing}
	u.settleOn(how.settle, how.fresh)
	record, err := m.record(ctx, root)
	if err == nil {
		if u.ring, err = barrier.OpenKeyring(record, root); err != nil && m.isReplaced(ctx, c) {
			err = errReplaced
		}
	}
	if err == nil {
		u.take(c)
		err = m.cfg.Raw.View(ctx, func(tx storage.Tx) error { return m.loadWrap(tx, c, u) })
	}
	if err == nil {
		err = m.cfg.Opened(ctx, u.ring, c.cluster())
	}
	if err != nil {
		u.wipe()
		return err
	}
	m.opened.Store(true)
	m.arriving.Store(m.joining.Load() != nil)
	m.state.Store(&state{open: u})
	m.cfg.Log.Info("unsealed")
	if m.joining.Swap(nil) != nil {
		m.hasten()
		return nil // the store comes by itself
	}
	// What others saved meanwhile was not taken over yet.
	if err = m.reloadRing(ctx, u); errs.Is(err, errs.Failed) && m.cfg.Unreadable != nil {
		m.cfg.Unreadable(err) // it is to be sealed; it may have come to lead meanwhile, and been asked for nothing (see Arrived)
	}
	return err
}

var errReplaced error = errs.New(errs.Invalid, "invalid key: the keys were replaced meanwhile: give the new ones")

// isReplaced reports whether another node has stored other keys than c's.
func (m *Manager) isReplaced(ctx context.Context, c *config) bool {
	stored, err := m.readStored(ctx)
	return err == nil && stored != nil && !bytes.Equal(stored.Root, c.Root)
}

// record reads the keyring; a node that joins a cluster is told it.
func (m *Manager) record(ctx context.Context, root barrier.Key) (record []byte, err error) {
	stored, err := m.readStored(ctx)
	if err != nil {
		return nil, err
	}
	if j := m.joining.Load(); j != nil && stored == nil {
		return j.Join(ctx, Applicant{root})
	}
	err = m.cfg.Raw.View(ctx, func(tx storage.Tx) error {
		if record, err = tx.Get(barrier.RecordKey); err != nil {
			return errs.New(errs.Failed, "the keyring cannot be read: %w", err)
		}
		return nil
	})
	return record, err
}

// ResetUnseal drops the shares given so far.
func (m *Manager) ResetUnseal(ctx context.Context) (Status, error) {
	if err := m.resetUnseal(ctx); err != nil {
		return Status{}, err
	}
	return m.Status(ctx)
}

func (m *Manager) resetUnseal(ctx context.Context) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	defer m.end()
	if m.state.Load().open != nil {
		return errs.New(errs.Invalid, "vault is unsealed")
	}
	m.shut()
	return nil
}
