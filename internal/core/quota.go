package core

import (
	"context"
	"errors"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/quota"
	"arca/internal/storage"
	"arca/internal/token"
)

// limit counts the request against the quotas, before anybody is identified.
// Without a quota it costs nothing.
func (h *handling) limit(ctx context.Context) error {
	if !h.a.Quotas.Any() {
		return nil
	}
	t, who := quota.Target{}, quota.Client{Addr: h.orig.Remote.Addr()}
	err := h.a.DB.View(ctx, func(tx storage.Tx) error {
		needsToken, err := h.target(ctx, tx, &t)
		if err != nil || !needsToken || h.orig.Token == "" || !h.a.Quotas.Entities(&t, h.orig.Path) {
			return err
		}
		tok, err := h.a.Caller(tx, h.orig, h.now)
		switch {
		case err == nil:
			who.Entity = tok.EntityID
		case !errors.Is(err, token.ErrBad): // nobody's token counts for nobody
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	v := h.a.Quotas.Take(&t, h.orig.Path, who, h.now)
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
// for the quotas of all. Where the request leads needs a token, or does not: a login
// that brings one along counts for nobody's entity.
func (h *handling) target(ctx context.Context, tx storage.Tx, t *quota.Target) (needsToken bool, err error) {
	p, err := h.a.Namespaces.Resolve(tx, h.orig.Namespace)
	if errors.Is(err, namespace.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		err = h.a.Namespaces.Descend(tx, &p, h.orig.Path)
	}
	if err != nil {
		return false, err
	}
	t.Namespace = p.Namespace.Path
	m, rest, err := h.a.Mounts.Route(tx, p.Namespace.ID, p.Rest)
	if errors.Is(err, storage.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	t.Mount, t.Below = m.Path, rest
	roles, paths, entities := h.a.Quotas.Asks(t)
	if m.Routes == nil {
		return true, nil
	}
	t.AnyCase = paths && m.Routes.AnyCase(rest)
	if h.orig.Op == engine.OpHelp {
		return true, nil
	}
	roles = roles && m.Routes.NamesRoles()
	if !roles && !entities {
		return true, nil
	}
	call := &engine.Call{Tx: tx.Sub(m.Prefix), Mount: m.Mount, Request: h.orig, Op: h.orig.Op, Path: rest, Now: h.now}
	route, err := m.Routes.Match(h.orig.Op, rest, call)
	if err != nil {
		return true, nil //nolint:nilerr // a path that leads nowhere is for no role
	}
	if roles {
		t.Role, err = route.LoginRole(ctx, call)
	}
	return !route.NoToken, err
}
