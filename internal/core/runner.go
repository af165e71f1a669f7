package core

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/storage"
	"arca/internal/telemetry"
)

// listen starts the engines that listen by themselves. They do so on every node of
// a cluster.
func (a *Active) listen() {
	for _, auth := range []bool{false, true} {
		a.listenAs(auth)
	}
}

// listenAs starts the auth methods, or the secrets engines, that run.
func (a *Active) listenAs(auth bool) {
	for _, typ := range a.core.catalog.Names(auth) {
		e, _, ok := a.core.catalog.Find(auth, typ, nil)
		r, runs := e.(engine.Runner)
		if !ok || !runs {
			continue
		}
		h := &host{a: a, typ: typ, changed: make(chan struct{}, 1), log: a.core.log.With("engine", typ)}
		if t, tells := e.(engine.Teller); tells {
			a.starting.Lock()
			a.tell = append(a.tell, func(ctx context.Context) { t.Tell(ctx, h) })
			a.starting.Unlock()
		}
		a.Go(func(ctx context.Context) {
			defer a.DB.Watch(mount.RunDir, func(storage.Change) { h.poke() })()
			r.Run(ctx, h)
		})
	}
}

// farewellTime is for what engines have to say before the node stops; a cluster without an
// active node does not hear it.
const farewellTime = 250 * time.Millisecond

// farewell has the engines that run tell the store what they have kept in memory, while the node
// still serves. It is for a server that stops: one that is told to seal itself does so at once.
func (a *Active) farewell() {
	a.starting.Lock()
	all := slices.Clone(a.tell)
	a.starting.Unlock()
	ctx, cancel := context.WithTimeout(a.ctx, farewellTime)
	defer cancel()
	for _, tell := range all {
		tell(ctx)
	}
}

// A host is what an engine that runs sees of the hall.
type host struct {
	a       *Active
	typ     string
	changed chan struct{} // of capacity 1
	log     *slog.Logger
}

func (h *host) poke() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// While the cluster has no active node, a runner's request waits a little, as those
// of the API do.
const (
	runnerPatience = 8 * time.Second
	runnerPause    = 15 * time.Millisecond
)

// Handle implements engine.Host.
func (h *host) Handle(ctx context.Context, req *engine.Request) (*engine.Response, error) {
	req.Runner = h.typ
	c := h.a.core
	res, err := c.Handle(ctx, req)
	if c.cfg.ForwardRunner == nil {
		return res, err
	}
	for began := time.Now(); err != nil && errs.Is(err, errs.NotActive); {
		if res, err = c.cfg.ForwardRunner(ctx, req); err == nil || !errs.Is(err, errs.NotActive) {
			return res, err
		}
		if time.Since(began) > runnerPatience {
			return nil, errs.New(errs.Unavailable, "no active node answers: %w", err)
		}
		pause := time.NewTimer(runnerPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, errs.With(errs.Unavailable, ctx.Err())
		}
		res, err = c.Handle(ctx, req)
	}
	return res, err
}

// HandleForwarded serves a runner's request that came in at another node. Only
// nodes of the cluster may reach it.
func (c *Core) HandleForwarded(ctx context.Context, req *engine.Request) (*engine.Response, error) {
	if req.Runner == "" {
		return nil, errs.New(errs.Invalid, "this is no request of an engine that listens")
	}
	return c.Handle(ctx, req)
}

// Leads implements engine.Host.
func (h *host) Leads() bool { return h.a.Leads() }

// Watch implements engine.Host.
func (h *host) Watch(m *engine.Mount, fn func(keys, prefixes []string)) (cancel func()) {
	dir := mount.DataPrefix(m.NamespaceID, m.ID)
	return h.a.DB.Watch(dir, func(ch storage.Change) {
		keys, prefixes := make([]string, len(ch.Keys)), make([]string, len(ch.Prefixes))
		for i, k := range ch.Keys {
			keys[i] = k[len(dir):]
		}
		for i, p := range ch.Prefixes {
			if len(p) > len(dir) {
				prefixes[i] = p[len(dir):]
			}
		}
		fn(keys, prefixes)
	})
}

// Mounts implements engine.Host.
func (h *host) Mounts(ctx context.Context) (out []engine.Place, err error) {
	err = h.a.DB.View(ctx, func(tx storage.Tx) error {
		entries, err := h.a.Mounts.Running(tx, h.typ)
		if err != nil {
			return err
		}
		for _, e := range entries {
			n, err := h.a.Namespaces.ByID(tx, e.NamespaceID)
			if errors.Is(err, namespace.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			out = append(out, engine.Place{Mount: e.Mount, NamespacePath: n.Path})
		}
		return nil
	})
	return out, err
}

// Changed implements engine.Host.
func (h *host) Changed() <-chan struct{} { return h.changed }

// View implements engine.Host.
func (h *host) View(ctx context.Context, m *engine.Mount, fn func(tx storage.Tx) error) error {
	return h.a.DB.View(ctx, func(tx storage.Tx) error {
		e, err := h.a.Mounts.Get(tx, m.NamespaceID, m.Path)
		if err != nil {
			return err
		}
		if e.ID != m.ID {
			return storage.ErrNotFound
		}
		return fn(e.View(tx))
	})
}

// Log implements engine.Host.
func (h *host) Log() *slog.Logger { return h.log }

// Metrics implements engine.Host.
func (h *host) Metrics() *telemetry.Registry { return h.a.core.meters.registry }
