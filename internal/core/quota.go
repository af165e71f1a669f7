package core

import (
	"context"
	"errors"

	"arca/internal/audit"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/quota"
	"arca/internal/storage"
)

// limit counts the request against the quotas, before anybody is identified.
// Without a quota it costs nothing.
func (h *handling) limit(ctx context.Context) error {
	if h.orig.Counted || !h.a.Quotas.Any() {
		return nil
	}
	t, who := quota.Target{}, quota.Client{Addr: h.orig.Remote.Addr()}
	err := h.a.DB.View(ctx, func(tx storage.Tx) error {
		ns, needsToken, err := h.target(ctx, tx, &t)
		if err == nil && needsToken && h.orig.Token != "" && h.a.Quotas.Entities(&t, h.orig.Path) {
			who.Entity = h.entityIn(tx, ns)
		}
		return err
	})
	if err != nil {
		return err
	}
	v := h.a.Quotas.Take(&t, h.orig.Path, who, h.now)
	h.orig.Counted = true
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

// limitAlways is limit for a request that a sealed node serves, too; those count as about the root
// namespace. On a sealed node there is no quota. Health checks come this way, and the way out of all
// trouble: it asks no store and does not wait until the node may be entered, for what is sealed just
// now or has no quorum.
func (c *Core) limitAlways(ctx context.Context, call *engine.Call) error {
	a, req := c.active.Load(), call.Request
	if a == nil || a.ctx.Err() != nil || req.Counted {
		return nil
	}
	v := a.Quotas.Take(&quota.Target{Mount: "sys/", Below: call.Path}, req.Path, quota.Client{Addr: req.Remote.Addr(), Unasked: true}, call.Now)
	req.Counted = true
	if v.Headers && v.Rule != "" {
		req.Limit = &engine.Limit{Limit: v.Limit, Remaining: v.Remaining, Reset: v.Reset}
	}
	if v.Allowed {
		return nil
	}
	c.meters.limited.Add(1)
	err := errs.New(errs.Limited, "request path %q: rate limit quota exceeded", req.Path)
	if v.Audit {
		_ = c.note(ctx, call, audit.Response, err) // a failure is in the log
	}
	return err
}

// entityIn is the entity of the request's token, if the token is good in a namespace. What is wrong with one that is not is told later; here it
// counts for nobody.
func (h *handling) entityIn(tx storage.Tx, ns *namespace.Namespace) string {
	tok, err := h.a.Caller(tx, h.orig, h.now)
	if err != nil || ns == nil {
		return ""
	}
	if how, err := h.a.reaches(tx, tok.NamespaceID, ns); err != nil || how == unreachable {
		return ""
	}
	p, err := h.a.PersonOf(tx, tok)
	if err != nil || p == nil {
		return ""
	}
	return p.Entity.ID // also of one that was merged into it
}

// target finds out what a request is about; one about nothing that exists counts
// for the quotas of all. Where the request leads needs a token, or does not: a login
// that brings one along counts for nobody's entity.
func (h *handling) target(ctx context.Context, tx storage.Tx, t *quota.Target) (ns *namespace.Namespace, needsToken bool, err error) {
	p, err := h.a.Namespaces.Resolve(tx, h.orig.Namespace)
	if errors.Is(err, namespace.ErrNotFound) {
		return nil, false, nil
	}
	if err == nil {
		err = h.a.Namespaces.Descend(tx, &p, h.orig.Path)
	}
	if err != nil {
		return nil, false, err
	}
	ns = p.Namespace
	t.Namespace = ns.Path
	m, rest, err := h.a.Mounts.Route(tx, p.Namespace.ID, p.Rest)
	if errors.Is(err, storage.ErrNotFound) {
		return ns, true, nil
	}
	if err != nil {
		return ns, false, err
	}
	t.Mount, t.Below = m.Path, rest
	roles, paths, entities := h.a.Quotas.Asks(t)
	if m.Routes == nil {
		return ns, true, nil
	}
	t.AnyCase = paths && m.Routes.AnyCase(rest)
	if h.orig.Op == engine.OpHelp {
		return ns, true, nil
	}
	roles = roles && m.Routes.NamesRoles()
	if !roles && !entities {
		return ns, true, nil
	}
	call := &engine.Call{Tx: m.View(tx), Mount: m.Mount, Request: h.orig, Op: h.orig.Op, Path: rest, Now: h.now}
	route, err := m.Routes.Match(h.orig.Op, rest, call)
	if err != nil {
		return ns, true, nil //nolint:nilerr // a path that leads nowhere is for no role
	}
	if roles {
		t.Role, err = route.LoginRole(ctx, call)
	}
	return ns, !route.NoToken, err
}
