package core

import (
	"context"
	"errors"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/quota"
	"arca/internal/storage"
)

// limit counts the request against the quotas, before anybody is identified.
// Without a quota it costs nothing.
func (h *handling) limit(ctx context.Context) error {
	if !h.a.Quotas.Any() {
		return nil
	}
	t := quota.Target{}
	err := h.a.DB.View(ctx, func(tx storage.Tx) error { return h.target(ctx, tx, &t) })
	if err != nil {
		return err
	}
	v := h.a.Quotas.Take(&t, h.orig.Path, h.orig.Remote.Addr(), h.now)
	if v.Headers && v.Rule != "" {
		h.orig.Limit = &engine.Limit{Limit: v.Limit, Remaining: v.Remaining, Reset: v.Reset}
	}
	if v.Allowed {
		return nil
	}
	h.c.meters.limited.Add(1)
	h.silent = !v.Audit
	return errs.New(errs.Limited, "request path %q: rate limit quota exceeded", h.orig.Path)
}

// target finds out what a request is about; one about nothing that exists counts
// for the quotas of all.
func (h *handling) target(ctx context.Context, tx storage.Tx, t *quota.Target) error {
	p, err := h.a.Namespaces.Resolve(tx, h.orig.Namespace)
	if errors.Is(err, namespace.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = h.a.Namespaces.Descend(tx, &p, h.orig.Path)
	}
	if err != nil {
		return err
	}
	t.Namespace = p.Namespace.Path
	m, rest, err := h.a.Mounts.Route(tx, p.Namespace.ID, p.Rest)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	t.Mount, t.Below = m.Path, rest
	roles, paths := h.a.Quotas.Asks(t)
	if m.Routes == nil {
		return nil
	}
	t.AnyCase = paths && m.Routes.AnyCase(rest)
	if roles && m.Routes.NamesRoles() {
		t.Role, err = h.loginRole(ctx, tx, m, rest)
	}
	return err
}

// loginRole is the role for which a login is tried; "" where that is not known.
func (h *handling) loginRole(ctx context.Context, tx storage.Tx, m *mount.Entry, path string) (string, error) {
	if h.orig.Op == engine.OpHelp {
		return "", nil
	}
	call := &engine.Call{Tx: tx.Sub(m.Prefix), Mount: m.Mount, Request: h.orig, Op: h.orig.Op, Path: path, Now: h.now}
	route, err := m.Routes.Match(h.orig.Op, path, call)
	if err != nil {
		return "", nil //nolint:nilerr // a path that leads nowhere is for no role
	}
	return route.LoginRole(ctx, call)
}
