package seal

import (
	"context"
	"errors"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
)

// KeyInfo describes the newest encryption key.
func (m *Manager) KeyInfo() (barrier.Info, error) {
	u := m.state.Load().open
	if u == nil {
		return barrier.Info{}, ErrSealed
	}
	return u.ring.Info()
}

// Rotation tells when the encryption key is replaced without being asked.
func (m *Manager) Rotation() (barrier.Rotation, error) {
	u := m.state.Load().open
	if u == nil {
		return barrier.Rotation{}, ErrSealed
	}
	return u.ring.Rotation()
}

// Rotate makes a new encryption key. What was encrypted before stays readable.
func (m *Manager) Rotate(ctx context.Context) error {
	u, err := m.beginOpen(ctx)
	if err != nil {
		return err
	}
	defer m.end()
	return m.changeRing(ctx, u, func() (*barrier.Draft, error) { return u.ring.Grow(now()) })
}

// RotationChange says what of a Rotation to change; nil leaves it.
type RotationChange struct {
	Enabled       *bool
	MaxOperations *int64
	Interval      *time.Duration
}

// SetRotation changes when the encryption key is replaced without being asked.
//
// Like Vault it takes a number of operations out of bounds for the default,
// and leaves everything as it is when nothing but Enabled would change.
func (m *Manager) SetRotation(ctx context.Context, p RotationChange) error {
	u, err := m.beginOpen(ctx)
	if err != nil {
		return err
	}
	defer m.end()
	old, err := u.ring.Rotation()
	if err != nil {
		return err
	}
	next := old
	if p.Interval != nil {
		if next.Interval = *p.Interval; next.Interval != 0 && next.Interval < barrier.MinInterval {
			return errs.New(errs.Invalid, "interval must be greater or equal to %s", barrier.MinInterval)
		}
	}
	if p.MaxOperations != nil {
		if next.MaxOperations = *p.MaxOperations; next.MaxOperations < barrier.MinOperations || next.MaxOperations > barrier.MaxOperations {
			next.MaxOperations = barrier.MaxOperations
		}
	}
	if next == old {
		return nil
	}
	if p.Enabled != nil {
		next.Disabled = !*p.Enabled
	}
	return m.changeRing(ctx, u, func() (*barrier.Draft, error) { return u.ring.Configure(next) })
}

// changeRing is change for the keyring that is under the root key.
func (m *Manager) changeRing(ctx context.Context, u *unsealed, draft func() (*barrier.Draft, error)) error {
	return m.change(ctx, u.ring, func(tx storage.Tx) (barrier.Key, error) {
		root := u.root.get()
		defer root.Wipe()
		if err := m.loadRing(tx, u, root); err != nil {
			return nil, err
		}
		return u.root.get(), nil // that of the rekey, where this node had not heard of one
	}, draft)
}

// change saves and installs what draft makes of the newest stored state of a keyring, which load takes over, and of which
// it gives the key: a term that another node added is never lost. When the outcome of the write is
// not known the ring stays as it is; a key that nothing was encrypted with may
// then be in the record, and is taken up later.
func (m *Manager) change(ctx context.Context, ring *barrier.Keyring, load func(storage.Tx) (barrier.Key, error), draft func() (*barrier.Draft, error)) error {
	var d *barrier.Draft
	drop := func() {
		if d != nil {
			d.Drop()
			d = nil
		}
	}
	err := m.cfg.Raw.Update(ctx, func(tx storage.Tx) error {
		drop() // of a run before
		key, err := load(tx)
		defer key.Wipe()
		if err != nil {
			return err
		}
		if d, err = draft(); err != nil {
			return err
		}
		record, err := d.Record(key)
		if err != nil {
			return err
		}
		return tx.Put(ring.RecordKey(), record)
	})
	if err != nil {
		drop()
		return err
	}
	d.Install()
	return nil
}

const (
	upkeepEvery = time.Minute
	// leastSaved is the number of encryptions that are worth a write when the
	// node stops. What is lost below it would take half a million restarts to
	// matter (barrier: 2^31 encryptions per key).
	leastSaved = 1 << 12
)

// Run rotates the encryption key when that is due, and saves its count of
// encryptions, until ctx ends. The active node runs it while it is active; it has
// Watch look after the seals at once.
func (m *Manager) Run(ctx context.Context) {
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	// Until an unsealing under way is done; and what this node knows of the seals may be
	// older than what another one has stored.
	if err := m.Reload(ctx); err != nil && !errors.Is(err, ErrSealed) && ctx.Err() == nil {
		m.cfg.Log.Warn("read the seal's configuration", "error", err)
	}
	m.hasten()
	for {
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			m.saveCount(ctx, leastSaved)
			cancel()
			return
		case <-tick.C:
			m.upkeep(ctx)
		}
	}
}

func (m *Manager) upkeep(ctx context.Context) {
	m.endHandovers(ctx)
	u := m.state.Load().open
	if u != nil && u.wrapDue() {
		if err := m.growWrap(ctx, func(uint32) bool { return true }); err != nil {
			m.cfg.Log.Warn("the seal-wrap keyring is due for another version", "error", err)
		}
	}
	if u == nil || !u.ring.Due(now()) {
		m.saveCount(ctx, barrier.SaveEvery)
		return
	}
	if err := m.Rotate(ctx); err != nil {
		m.cfg.Log.Warn("the encryption key is due for rotation", "error", err)
		return
	}
	m.cfg.Log.Info("encryption key rotated")
}

// saveCount saves the counts of encryptions of which at least that many are not saved.
func (m *Manager) saveCount(ctx context.Context, least uint64) {
	u := m.state.Load().open
	if u == nil || u.ring.Uncounted() < least && u.wrapUncounted() < least {
		return
	}
	u, err := m.beginOpen(ctx)
	if err == nil {
		if u.ring.Uncounted() >= least {
			err = m.changeRing(ctx, u, u.ring.Same)
		}
		if err == nil && u.wrapUncounted() >= least {
			err = m.changeWrap(ctx, u, (*barrier.Keyring).Same)
		}
		m.end()
	}
	if err != nil {
		m.cfg.Log.Warn("save the count of encryptions", "error", err)
	}
}
