package core

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
)

// A node that shares its store with others (Config.Cluster) is active or a standby while it is unsealed. The store in
// clear and its caches are the same for both and stay over a change of roles: on a standby they move by what the active
// node wrote (storage.DB.Applied). What only the active node has is a lead.

// A lead is a node's time as the active one: it owns the work that only the active node does.
type lead struct {
	since  time.Time
	ctx    context.Context //nolint:containedctx // of the time in which the node leads
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// ErrStandby is the refusal of what only the active node can do. Nothing has happened: a door may send the request there.
var ErrStandby error = errs.New(errs.NotActive, "this node is a standby, and no active node is known: try again in a moment")

// Leads reports whether this node is the active one.
func (a *Active) Leads() bool { return a.lead.Load() != nil }

// LeadsSince is when this node became the active one; zero on a standby.
func (a *Active) LeadsSince() time.Time {
	if l := a.lead.Load(); l != nil {
		return l.since
	}
	return time.Time{}
}

// Standby reports whether the node is unsealed and another is the active one.
func (c *Core) Standby() bool {
	a := c.active.Load()
	return a != nil && !a.Leads()
}

// begin makes the state that of the active node. The caller sees to it that there is one at a time.
func (a *Active) begin() {
	l := &lead{since: time.Now().UTC()}
	l.ctx, l.cancel = context.WithCancel(a.ctx)
	leads := make(chan struct{}) // what begins must find that the node leads
	run := func(fn func(ctx context.Context)) {
		l.work.Go(func() {
			<-leads
			fn(l.ctx)
		})
	}
	run(a.Queue.Run)
	run(a.core.seal.Run)
	run(a.foldNames)
	run(a.enterRunning)
	run(a.wrapMounts)
	run(a.rewrapWhenAsked)
	if share := a.core.Cluster(); share != nil && share.Store() != nil {
		run(a.keepSnapshots)
	}
	if a.core.cfg.Metrics != nil && a.core.cfg.Usage.Period > 0 {
		run(a.watchUsage)
	}
	a.lead.Store(l)
	close(leads)
	a.core.cfg.Changed()
}

// cease ends the work of the active node; it waits for nothing.
func (a *Active) cease() *lead {
	l := a.lead.Swap(nil)
	if l != nil {
		l.cancel()
		a.core.cfg.Changed()
	}
	return l
}

// bind listens to what becomes of the cluster.
func (c *Core) bind() {
	c.raw.Follow()
	c.cfg.Cluster.Bind(clusterEvents(c))
}

// follow takes the right to write from this node. It runs where the log is applied: it must not wait for what needs that.
func (c *Core) follow() {
	c.source.Others()
	c.raw.Follow()
	a := c.told.Load()
	if a == nil {
		return
	}
	if l := a.cease(); l != nil {
		c.log.Info("this node is a standby now")
		c.past = append(c.past, l)
	}
	a.DB.Follow()
}

// leads gives this node the right to write.
func (c *Core) leads() {
	c.source.Leads()
	c.await(c.past)
	c.past = nil
	c.raw.Lead()
	a := c.active.Load()
	if a == nil || a.ctx.Err() != nil || c.leftBehind(a) {
		return
	}
	if err := c.seal.Arrived(a.ctx); err != nil {
		if errs.Is(err, errs.Failed) || storage.IsNotFound(err) {
			c.unreadable(a, err)
			return
		}
		c.log.Warn("the keys cannot be read now: this node does not become the active one yet", "error", err)
		a.Go(func(ctx context.Context) { c.settleLeft(ctx, a, false, err) })
		return
	}
	a.DB.Lead()
	a.steer()
	a.begin()
	c.log.Info("this node is the active one now")
}

// pastTime is how long a node waits, when it becomes the active one again, for the work of the last time. Its context has
// ended; should it go on all the same, its writes are checked like any other's.
const pastTime = 2 * time.Second

func (c *Core) await(past []*lead) {
	if len(past) == 0 {
		return
	}
	ended := make(chan struct{})
	go func() { // ends with the work
		for _, l := range past {
			l.work.Wait()
		}
		close(ended)
	}()
	t := time.NewTimer(pastTime)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
		c.log.Warn("work of the time when this node was the active one has not ended yet")
	}
}

// restoredTime is how long a node that leaves waits until a snapshot that was restored is the cluster's.
const restoredTime = 5 * time.Second

// awaitRestored has a restore come to its end. One of before a rekey, or of another cluster, has all nodes leave, as their keys do not
// fit it: if they left at once, no majority would have taken it.
func (c *Core) awaitRestored() {
	store := c.cfg.Cluster.Store()
	if store == nil {
		return
	}
	over := time.NewTimer(restoredTime)
	defer over.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for store.Restored() {
		select {
		case <-tick.C:
		case <-over.C:
			return
		}
	}
}

// applied takes what the active node wrote into the state of this one.
func (c *Core) applied(ch storage.Change) error {
	sealChanged := false
	for _, key := range ch.Keys {
		sealChanged = sealChanged || strings.HasPrefix(key, barrier.ClearPrefix)
	}
	for _, p := range ch.Prefixes {
		sealChanged = sealChanged || strings.HasPrefix(barrier.ClearPrefix, p) || strings.HasPrefix(p, barrier.ClearPrefix)
	}
	a := c.told.Load()
	if a == nil {
		return nil
	}
	if sealChanged { // first: what comes behind it may be encrypted with a new key
		err := c.seal.Refresh(context.Background())
		if errs.Is(err, errs.Unavailable) && !c.cfg.Cluster.ServesReads() {
			return err // the database went away again; it is tried anew
		}
		if err != nil {
			c.unreadable(a, err)
		}
	}
	if err := a.DB.Applied(ch); !errors.Is(err, storage.ErrClosed) {
		return err
	}
	return nil
}

// keysUnreadable is unreadable for what the seal's manager finds.
func (c *Core) keysUnreadable(why error) {
	if a := c.told.Load(); a != nil {
		c.unreadable(a, why)
	}
}

// unreadable seals this node. It serves no request from now on, and does not become the active one: with keys of before a rekey it would take the shares of before.
func (c *Core) unreadable(a *Active, why error) {
	c.log.Error("the keyring cannot be read any more: this node is sealed", "error", why)
	a.cancel()
	go func() { // it waits for what calls this
		if err := c.shut(a); err != nil {
			c.log.Error("seal", "error", err)
		}
	}()
}

// fresh returns when the node's state is one that may be shown: on the active node when it is certain that it still is
// that, on a standby when it has all that was acknowledged before.
func (c *Core) fresh(ctx context.Context) error {
	if c.cfg.Cluster == nil {
		return nil
	}
	return c.cfg.Cluster.Fresh(ctx)
}
