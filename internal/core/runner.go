package core

import (
	"context"
	"errors"
	"log/slog"

	"arca/internal/engine"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// runners are the engines that listen by themselves, as work of the active node.
func (a *Active) runners() (out []func(ctx context.Context)) {
	for _, typ := range a.core.catalog.Names(false) {
		e, _, ok := a.core.catalog.Find(false, typ, nil)
		r, runs := e.(engine.Runner)
		if !ok || !runs {
			continue
		}
		h := &host{a: a, typ: typ, changed: make(chan struct{}, 1), log: a.core.log.With("engine", typ)}
		out = append(out, func(ctx context.Context) {
			defer a.DB.Watch(mount.RunDir, func(storage.Change) { h.poke() })()
			r.Run(ctx, h)
		})
	}
	return out
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

// Handle implements engine.Host.
func (h *host) Handle(ctx context.Context, req *engine.Request) (*engine.Response, error) {
	req.Runner = h.typ
	return h.a.core.Handle(ctx, req)
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
		return fn(tx.Sub(e.Prefix))
	})
}

// Log implements engine.Host.
func (h *host) Log() *slog.Logger { return h.log }
