package core

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"arca/internal/errs"
	"arca/internal/seal"
	"arca/internal/storage"
	"arca/internal/storage/mirror"
)

// A migration copies the storage into another one while this node serves from it, and has it go over in the end: see package
// mirror. The active node does it, as all writes pass there; when it is that no longer, the migration has failed, and the
// target has no seal configuration, so that no server takes it for a store.

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
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when it has ended, and the target is closed
	started time.Time

	mu      sync.Mutex
	to      *steadyTarget // nil before it is open, and when it has ended
	name    string        // its type
	copy    *mirror.Copy  // nil before
	err     error         // why it failed
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
	errSwitched    = errs.New(errs.Invalid, "the storage was migrated already")
	errLedLess     = errs.New(errs.NotActive, "this node is not the active one any more: empty the target, and begin anew")
	errCancelled   = errs.New(errs.Failed, "it was cancelled: empty the target before another one")
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
	if m := c.migrating.now; m != nil && !m.hasEnded() {
		return errMigrating
	}
	ctx, cancel := context.WithCancelCause(l.ctx)
	m := &migration{cancel: cancel, done: make(chan struct{}), started: time.Now().UTC()}
	c.migrating.now = m
	began := make(chan struct{})
	a.Go(func(context.Context) { // its end ends l.ctx, too
		close(began)
		defer close(m.done)
		defer cancel(nil)
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
	if err != nil && ctx.Err() != nil {
		if err = context.Cause(ctx); errors.Is(err, context.Canceled) { // with the node's time as the active one
			err = errLedLess
		}
	}
	m.mu.Lock()
	to := m.to
	m.to, m.err = nil, err
	through := m.through
	m.mu.Unlock()
	if to != nil {
		to.close()
	}
	switch {
	case err == nil || through:
	case errors.Is(err, errCancelled):
		c.log.Info("the migration of the storage was cancelled")
	default:
		c.log.Error("the migration of the storage has failed", "error", err)
	}
}

func (c *Core) copyAll(ctx context.Context, m *migration) error {
	to, err := c.openTarget(ctx, m.cancel)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.to, m.name = to, to.Type
	m.mu.Unlock()
	if err := to.isEmpty(ctx); err != nil {
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

// StopMigration ends the migration, and forgets it.
func (c *Core) StopMigration(ctx context.Context) error {
	c.migrating.mu.Lock()
	m := c.migrating.now
	c.migrating.mu.Unlock()
	if m == nil {
		return errNoMigration
	}
	m.cancel(errCancelled)
	select {
	case <-m.done:
	case <-ctx.Done():
		return errs.New(errs.Unavailable, "the migration has not ended yet: %w", ctx.Err())
	}
	if m.isThrough() {
		return errSwitched
	}
	c.migrating.forget(m)
	return nil
}

// forget forgets a migration that has ended; nil is any.
func (g *migrating) forget(m *migration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m == nil || g.now == m {
		g.now = nil
	}
}

// hasEnded reports whether a migration does nothing more; it may not have closed its target yet.
func (m *migration) hasEnded() bool {
	select {
	case <-m.done:
		return true
	default:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err != nil
}

func (m *migration) isThrough() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.through
}

// SwitchMigration lets writes wait, copies what is missing, and makes the target a store that servers can be started on, and
// this one a store that none can. The node serves nothing any more then: it seals itself when its requests have ended.
func (c *Core) SwitchMigration(ctx context.Context) error {
	a := c.active.Load()
	if a == nil {
		return ErrSealed
	}
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
		gone, err = c.goOver(context.WithoutCancel(ctx), a, to, source)
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
		c.tellMigrated(context.WithoutCancel(ctx))
	} else {
		c.log.Error("the last step of the migration of the storage has failed", "to", to.Type, "error", err)
	}
	c.shutSoon(a) // which waits for the requests inside, and this is one
	return err
}

// shutSoon seals the node in the background, unless it has left the state a by then.
func (c *Core) shutSoon(a *Active) {
	go func() {
		if err := c.shut(a); err != nil {
			c.log.Error("seal", "error", err)
		}
	}()
}

// tellMigrated has the standbys learn that the target has all, as they are to be sealed, too. One that does not cannot go on
// alone.
func (c *Core) tellMigrated(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	if err := seal.MarkDone(ctx, c.source.Backend); err != nil {
		c.log.Debug("mark the migration as done", "error", err)
	}
	if !c.alone() {
		c.nudge(ctx)
		pause(ctx, tellTime)
	}
}

// nudge writes nothing: followers hear with the next entry of the log that the one before counts.
func (c *Core) nudge(ctx context.Context) {
	if err := c.source.Backend.Apply(ctx, nothing()); err != nil {
		c.log.Debug("tell the standbys of the migration", "error", err)
	}
}

// nothing is a batch that a store must make durable, and that changes nothing.
func nothing() storage.Batch {
	return storage.Batch{{Kind: storage.Delete, Key: seal.TargetKey}}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Bounds on the last step, while all writes wait.
const (
	probeTime  = 5 * time.Second  // for a first write to the target
	markTime   = 10 * time.Second // for the mark
	learnTime  = 10 * time.Minute // to find out whether a mark counts of which that is not known, where nodes keep a log
	learnSoon  = 30 * time.Second // likewise, where a database does, which only the active node reads
	finishTime = 10 * time.Second // for the target's seal configuration
	tellTime   = time.Second
)

// goOver is the last step: the source is marked first, so that there are never two stores that servers could be started on.
// What cannot be taken back, or of which it is not known whether it was done, counts as gone.
//
// The mark is set in the time in which nobody else has written, or not at all. Nobody writes to the source once it counts: a
// node that comes to lead finds it, and seals itself.
func (c *Core) goOver(ctx context.Context, a *Active, to *steadyTarget, source *mirror.Copy) (gone bool, err error) {
	if err := inTime(ctx, probeTime, to.isFresh); err != nil {
		if errs.Is(err, errs.Conflict) {
			err = errs.New(errs.Conflict, "%w: empty it, and begin anew", err)
		}
		return false, errs.New(errs.KindOf(err), "the target: %w", err)
	}
	id := rand.Text()
	witness := storage.Batch{{Kind: storage.Put, Key: seal.TargetKey, Value: []byte(id)}}
	if err := inTime(ctx, probeTime, func(ctx context.Context) error { return to.Apply(ctx, witness) }); err != nil {
		return false, errs.New(errs.KindOf(err), "write the target: %w", err)
	}
	if err := source.Whole(); err != nil {
		return false, err
	}
	config, err := c.mark(ctx, a, to.Type, id, source.Term())
	if err != nil {
		return config != nil, err
	}
	put := storage.Batch{{Kind: storage.Put, Key: seal.ConfigKey, Value: config}, {Kind: storage.Delete, Key: seal.TargetKey}}
	err = inTime(ctx, finishTime, func(ctx context.Context) error { return to.Apply(ctx, put) })
	if err == nil {
		return true, nil
	}
	err = errs.New(errs.KindOf(err), "write the target: %w", err)
	if to.holds(ctx, config) {
		return true, nil
	}
	if !errors.Is(err, storage.ErrNotApplied) {
		return true, errs.New(errs.Unavailable, "%w; whether it was done is not known: see whether the target says that it is initialized", err)
	}
	return c.unmark(ctx, err)
}

func inTime(ctx context.Context, most time.Duration, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return do(ctx)
}

// mark marks the source while term lasts, and returns its seal's configuration. With an error that is nil where the mark
// certainly does not count.
func (c *Core) mark(ctx context.Context, a *Active, to, id string, term context.Context) (config []byte, err error) {
	err = inTime(term, markTime, func(ctx context.Context) (err error) {
		config, err = seal.MarkMigrated(ctx, c.source.Backend, to, id)
		return err
	})
	if err == nil {
		return config, nil
	}
	err = errs.New(errs.KindOf(err), "mark the source: %w", err)
	if config == nil || errors.Is(err, storage.ErrNotApplied) {
		return nil, err
	}
	c.log.Warn("whether the mark of the migration counts is not known yet", "error", err)
	is, known := c.learn(ctx, a, id, term)
	switch {
	case !known:
		return config, errs.New(errs.Unavailable, "%w; whether it counts is not known: the target is not initialized", err)
	case is:
		return config, nil
	}
	return nil, err
}

// learn finds out whether a mark counts. Perhaps another node leads by now, which has it in its log, or has not, and may have set
// one of its own. What this one shows is committed. That it does not show the mark says something only when the time is over in
// which that was set: until then it may be on its way. Of a node without a cluster it is not known: what its folder shows after a write that
// failed may not be durable.
func (c *Core) learn(ctx context.Context, a *Active, id string, term context.Context) (is, known bool) {
	if c.cfg.Cluster == nil {
		return false, false
	}
	most := learnSoon
	if c.cfg.Cluster.ServesReads() {
		most = learnTime
	}
	brief, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	defer context.AfterFunc(a.ctx, cancel)()
	from := c.source.Backend
	for brief.Err() == nil {
		if is, err := seal.HasMark(brief, from, id); err == nil && is {
			return true, true
		}
		if term.Err() != nil && c.fresh(brief) == nil {
			if is, err := seal.HasMark(brief, from, id); err == nil {
				return is, true
			}
		}
		pause(brief, lookAgain)
	}
	// The mark itself, which came from another node, may have this one be sealed.
	_ = inTime(ctx, lastLook, func(ctx context.Context) (err error) {
		is, err = seal.HasMark(ctx, from, id)
		return err // then it is not known
	})
	return is, is
}

const (
	lookAgain = 50 * time.Millisecond
	lastLook  = 5 * time.Second
)

// unmark takes the mark back after an error.
func (c *Core) unmark(ctx context.Context, err error) (gone bool, _ error) {
	back := inTime(ctx, markTime, func(ctx context.Context) error {
		_, err := seal.UnmarkMigrated(ctx, c.source.Backend)
		return err
	})
	return back != nil, errors.Join(err, back)
}

// alone reports whether no other node writes to the store.
func (c *Core) alone() bool { return c.cfg.Cluster == nil || c.cfg.Cluster.Alone() }

// leftBehind reports whether the store that this node comes to lead is marked as migrated, or may be. Then the node does not
// become the active one: whoever led has done the last step, or has not, and nobody here can tell. What comes of it is found
// out in the background: the node is sealed, or leads anew.
func (c *Core) leftBehind(a *Active) bool {
	if c.alone() && c.source.Switching() {
		return false // it is this node's own mark: it goes on, or all writes are refused, when that is through
	}
	is, err := seal.IsMigrated(a.ctx, c.source.Backend)
	switch {
	case err != nil:
		c.log.Warn("whether the storage was migrated cannot be read: this node does not become the active one yet", "error", err)
	case is:
		c.log.Error("the storage is marked as migrated: this node does not become the active one")
	default:
		return false
	}
	a.Go(func(ctx context.Context) { c.settleLeft(ctx, a, is, nil) })
	return true
}

// settleLeft decides what becomes of a node that leads, and is not the active one, as the store is marked, or cannot be read: it, or the keys.
func (c *Core) settleLeft(ctx context.Context, a *Active, is bool, keys error) {
	if is && c.cfg.Cluster.ServesReads() {
		c.nudge(ctx) // the others are to learn that the mark counts
	}
	pause(ctx, tellTime)
	for c.source.Switching() && ctx.Err() == nil { // it is this node's own, and may be taken back
		pause(ctx, lookAgain)
	}
	if ctx.Err() != nil || a.Leads() {
		return
	}
	is, err := seal.IsMigrated(ctx, c.source.Backend)
	switch {
	case err == nil && is:
		c.shutSoon(a)
	case errors.Join(err, keys) != nil && c.cfg.Cluster.StepDown() == nil: // another may be able to read it
	default:
		c.cfg.Cluster.Again()
	}
}
