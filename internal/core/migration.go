package core

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/seal"
	"arca/internal/storage"
	"arca/internal/storage/mirror"
)

// A migration copies the storage into another one while this node serves from it, and has it go over in the end: see package
// mirror. The active node does it, as all writes pass there; when it is that no longer, the migration has failed, and the
// target has no seal configuration, so that no server takes it for a store.

// A Target is a storage that was opened for a migration, and that nobody else uses.
type Target struct {
	storage.Backend
	Type  string                          // as in its stanza
	Fresh func(ctx context.Context) error // whether nobody does yet
	End   func() error                    // closes it
}

// States of a migration.
const (
	MigrationNone      = "none"
	MigrationOpening   = "opening"   // the target
	MigrationCopying   = "copying"   // what there is
	MigrationFollowing = "following" // what changes: it can be switched
	MigrationFailed    = "failed"
	MigrationSwitched  = "switched"
)

// MigrationStatus is how far a migration is.
type MigrationStatus struct {
	State   string
	To      string // the type of the target
	Started time.Time
	Copied  int64 // entries written to the target
	Behind  int   // entries that have changed since
	Error   string
}

// migrating is the node's migration, if there is one.
type migrating struct {
	mu  sync.Mutex
	now *migration // guarded by mu; kept when it has failed, for who asks
}

type migration struct {
	cancel  context.CancelFunc
	done    chan struct{} // closed when it has ended, and the target is closed
	started time.Time

	mu      sync.Mutex
	to      *Target      // nil before it is open, and when it has ended
	name    string       // its type
	copy    *mirror.Copy // nil before
	err     error        // why it failed
	through bool
}

func (m *migration) status() MigrationStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := MigrationStatus{State: MigrationOpening, To: m.name, Started: m.started}
	if m.copy != nil {
		st.State, st.Copied, st.Behind = MigrationCopying, m.copy.Copied(), m.copy.Behind()
		if m.copy.Following() {
			st.State = MigrationFollowing
		}
	}
	switch {
	case m.through:
		st.State = MigrationSwitched
	case m.err != nil:
		st.State, st.Error, st.Behind = MigrationFailed, m.err.Error(), 0
	}
	return st
}

// Migration tells how far the migration is.
func (c *Core) Migration() MigrationStatus {
	c.migrating.mu.Lock()
	m := c.migrating.now
	c.migrating.mu.Unlock()
	if m == nil {
		return MigrationStatus{State: MigrationNone}
	}
	return m.status()
}

var (
	errMigrating   = errs.New(errs.Invalid, "a migration of the storage is under way already: see its status, or cancel it")
	errNoMigration = errs.New(errs.Invalid, "there is no migration of the storage under way")
	errLedLess     = errs.New(errs.NotActive, "this node is not the active one any more: empty the target, and begin anew")
)

// StartMigration begins to copy the storage into the target that the configuration names.
func (c *Core) StartMigration() error {
	a := c.active.Load()
	if a == nil {
		return ErrSealed
	}
	l := a.lead.Load()
	switch {
	case l == nil:
		return ErrStandby
	case c.cfg.Target == nil:
		return errs.New(errs.Unsupported, "this server has no storage that could be migrated")
	}
	c.migrating.mu.Lock()
	defer c.migrating.mu.Unlock()
	if m := c.migrating.now; m != nil {
		select {
		case <-m.done:
		default:
			return errMigrating
		}
	}
	ctx, cancel := context.WithCancel(l.ctx)
	m := &migration{cancel: cancel, done: make(chan struct{}), started: time.Now().UTC()}
	c.migrating.now = m
	began := make(chan struct{})
	a.Go(func(context.Context) { // its end ends l.ctx, too
		close(began)
		defer close(m.done)
		defer cancel()
		c.migrate(ctx, m)
	})
	select {
	case <-began:
		return nil
	case <-a.ctx.Done(): // and perhaps it has not begun
		return ErrSealed
	}
}

// migrate runs a migration to its end.
func (c *Core) migrate(ctx context.Context, m *migration) {
	err := c.copyAll(ctx, m)
	if ctx.Err() != nil && err != nil {
		err = errors.Join(errLedLess, err)
	}
	m.mu.Lock()
	to := m.to
	m.to, m.err = nil, err
	through := m.through
	m.mu.Unlock()
	if to != nil {
		if err := to.End(); err != nil {
			c.log.Warn("close the target of the migration", "error", err)
		}
	}
	if err != nil && !through {
		c.log.Error("the migration of the storage has failed", "error", err)
	}
}

func (c *Core) copyAll(ctx context.Context, m *migration) error {
	to, err := c.cfg.Target(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.to, m.name = to, to.Type
	m.mu.Unlock()
	if err := c.mayMigrateTo(ctx, to); err != nil {
		return err
	}
	source, err := c.source.Copy(to, seal.ConfigKey)
	if err != nil {
		return err
	}
	c.log.Info("the migration of the storage has begun", "to", to.Type)
	m.mu.Lock()
	m.copy = source
	m.mu.Unlock()
	return source.Run(ctx)
}

// mayMigrateTo refuses a target that holds something.
func (c *Core) mayMigrateTo(ctx context.Context, to *Target) (err error) {
	it, err := to.Scan(ctx, storage.ScanOptions{KeysOnly: true})
	if err != nil {
		return errs.New(errs.KindOf(err), "read the target: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if it.Next() {
		return errs.New(errs.Precondition, "the target is not empty: it has %q, for one; empty it", it.Key())
	}
	return it.Err()
}

// StopMigration ends the migration, and forgets it.
func (c *Core) StopMigration(ctx context.Context) error {
	c.migrating.mu.Lock()
	m := c.migrating.now
	c.migrating.mu.Unlock()
	if m == nil {
		return errNoMigration
	}
	m.cancel()
	select {
	case <-m.done:
	case <-ctx.Done():
		return errs.New(errs.Unavailable, "the migration has not ended yet: %w", ctx.Err())
	}
	c.migrating.mu.Lock()
	defer c.migrating.mu.Unlock()
	if c.migrating.now == m && !m.isThrough() {
		c.migrating.now = nil
	}
	return nil
}

func (m *migration) isThrough() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.through
}

// SwitchMigration lets writes wait, copies what is missing, and makes the target a store that servers can be started on, and
// this one a store that none can. The node serves nothing any more then: it seals itself when its requests have ended.
func (c *Core) SwitchMigration(ctx context.Context) error {
	c.migrating.mu.Lock()
	m := c.migrating.now
	c.migrating.mu.Unlock()
	if m == nil {
		return errNoMigration
	}
	m.mu.Lock()
	to, source, err := m.to, m.copy, m.err
	m.mu.Unlock()
	switch {
	case err != nil:
		return errs.New(errs.Invalid, "the migration has failed: %w", err)
	case to == nil || source == nil:
		return errs.New(errs.Precondition, "the target is not open yet")
	}
	gone := false
	why := errs.New(errs.Unavailable, "this storage was migrated to %s: %w", to.Type, storage.ErrNotApplied)
	err = source.Switch(ctx, why, func(ctx context.Context) (bool, error) {
		var err error
		gone, err = c.goOver(context.WithoutCancel(ctx), to)
		if gone {
			m.mu.Lock()
			m.through = true
			m.mu.Unlock()
		}
		return gone, err
	})
	if !gone {
		return err
	}
	if err == nil {
		c.log.Info("the storage was migrated: start the servers on the new one", "to", to.Type)
	} else {
		c.log.Error("the last step of the migration of the storage has failed", "to", to.Type, "error", err)
	}
	if c.cfg.Cluster != nil && !c.cfg.Cluster.Alone() {
		// Followers hear with the next entry of the log that the one before counts.
		again := storage.Batch{{Kind: storage.Delete, Key: barrier.ClearPrefix + "migrated"}}
		if err := c.source.Backend.Apply(context.WithoutCancel(ctx), again); err != nil {
			c.log.Debug("tell the standbys that the storage was migrated", "error", err)
		}
		pause(ctx, tellTime)
	}
	go func() { // waits for the requests inside, and this is one
		if err := c.Shut(); err != nil {
			c.log.Error("seal", "error", err)
		}
	}()
	return err
}

// tellTime is how long the standbys have to learn of it, as they are to be sealed, too. One that does not cannot go on alone.
const tellTime = time.Second

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// goOverTime bounds the last step, while all writes wait.
const goOverTime = 30 * time.Second

// goOver is the last step: the source is marked first, so that there are never two stores that servers could be started on.
// What cannot be taken back, or of which it is not known whether it was done, counts as gone.
func (c *Core) goOver(ctx context.Context, to *Target) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, goOverTime)
	defer cancel()
	if err := to.Fresh(ctx); err != nil {
		return false, errs.New(errs.Conflict, "a server was started on the target meanwhile: end it, empty the target, and begin anew: %w", err)
	}
	from := c.source.Backend
	config, err := seal.MarkMigrated(ctx, from, to.Type)
	if err != nil {
		return config != nil && !errors.Is(err, storage.ErrNotApplied), errs.New(errs.KindOf(err), "mark the source: %w", err)
	}
	err = to.Apply(ctx, storage.Batch{{Kind: storage.Put, Key: seal.ConfigKey, Value: config}})
	if err == nil {
		return true, nil
	}
	err = errs.New(errs.KindOf(err), "write the target: %w", err)
	if got, readErr := to.Get(ctx, seal.ConfigKey); readErr == nil && bytes.Equal(got, config) {
		return true, nil
	}
	if !errors.Is(err, storage.ErrNotApplied) {
		return true, errs.New(errs.Unavailable, "%w; whether it was done is not known: see whether the target says that it is initialized", err)
	}
	if _, back := seal.UnmarkMigrated(ctx, from); back != nil {
		return true, errors.Join(err, back)
	}
	return false, err
}
