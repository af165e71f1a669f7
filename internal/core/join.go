package core

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/lease"
	"arca/internal/policy"
	"arca/internal/storage"
	"arca/internal/token"
)

// join adds to the transaction what the handler's answer asks for: the token
// of a login, a lease, the wrapping of the whole.
func (h *handling) join(ctx context.Context, tx storage.Tx, res *engine.Response) (*engine.Response, error) {
	if res.Auth != nil && !res.Auth.Made {
		if wait, err := h.admit(ctx, tx, res); err != nil || wait {
			return res, err
		}
	}
	if res.Lease != nil {
		if err := h.makeLease(tx, res); err != nil {
			return nil, err
		}
	}
	// What anybody may ask is not wrapped, unless it is a login: strangers would have the server keep their wrappings.
	mayWrap := !h.route.NoToken || res.Auth != nil
	if h.req.WrapTTL > 0 && mayWrap && res.Raw == nil && res.Wrap == nil {
		return h.wrap(tx, res, h.req.WrapTTL, h.req.Path)
	}
	return res, nil
}

// Sanitize brings policy names into their stored form: lower case, sorted,
// without repetition, "default" added unless unwanted. With "root" among them
// that is all that is left.
func Sanitize(names []string, addDefault bool) []string {
	out := make([]string, 0, len(names)+1)
	for _, n := range names {
		n = strings.ToLower(strings.TrimSpace(n))
		switch n {
		case "":
			continue
		case policy.RootName:
			return []string{policy.RootName}
		}
		out = append(out, n)
	}
	if addDefault {
		out = append(out, policy.DefaultName)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// admit creates the token that a login asks for, unless it has to show more.
func (h *handling) admit(ctx context.Context, tx storage.Tx, res *engine.Response) (wait bool, err error) {
	auth, m := res.Auth, h.entry.Mount
	policies := Sanitize(auth.Policies, !auth.NoDefaultPolicy)
	if slices.Contains(policies, policy.RootName) {
		return false, errs.New(errs.Invalid, "auth methods cannot create root tokens")
	}
	if err := h.meet(tx, auth); err != nil {
		return false, err
	}
	l := &login{auth: auth, policies: policies, accessor: m.Accessor, path: h.req.Path, mount: m.Path, ns: h.ns}
	if seen := h.req.TLS; seen != nil && m.Type == "cert" { // the others do not look at them
		l.tls = &tls.ConnectionState{PeerCertificates: seen.PeerCertificates}
	}
	if h.a.Quotas.AnyLeases() {
		if l.role, err = h.route.LoginRole(ctx, h.call); err != nil {
			return false, err
		}
	}
	if wait, err := h.secondFactor(tx, res, l); err != nil || wait {
		return wait, err
	}
	return false, h.a.makeToken(tx, h.call, res, l, m)
}

// loginType decides between service and batch: the role's word counts, unless
// the mount is tuned to one type.
func loginType(role, tuned engine.TokenType) engine.TokenType {
	switch tuned { //nolint:exhaustive // the others leave it to the role
	case engine.TokenService, engine.TokenBatch:
		return tuned
	case engine.TokenDefaultBatch:
		if role == engine.TokenDefault || role == engine.TokenDefaultBatch {
			return engine.TokenBatch
		}
	}
	if role == engine.TokenBatch || role == engine.TokenDefaultBatch {
		return engine.TokenBatch
	}
	return engine.TokenService
}

func displayName(ns string, m *engine.Mount, name string) string {
	mountName := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(ns+m.Path, "auth/"), "/"), "/", "-")
	if name == "" {
		return mountName
	}
	return mountName + "-" + name
}

// FillAuth completes the answer's account of a token.
func FillAuth(auth *engine.Auth, e *token.Entry, id string, ttl time.Duration) {
	auth.ClientToken, auth.Accessor, auth.DisplayName = id, e.Accessor, e.DisplayName
	auth.Policies, auth.TokenPolicies = e.Policies, e.Policies
	auth.LeaseDuration, auth.Renewable = ttl, e.Renewable
	auth.Type, auth.Orphan, auth.NumUses = e.Type, e.Parent == "", e.NumUses
	auth.EntityID, auth.Metadata = e.EntityID, e.Meta
	auth.Made = true
}

// makeLease registers the lease on a secret.
func (h *handling) makeLease(tx storage.Tx, res *engine.Response) error {
	defer h.c.meters.registered.Since(h.c.meters.clock())
	l, m := res.Lease, h.entry.Mount
	if h.tok != nil && h.tok.Batch() {
		return errs.New(errs.Invalid, "batch tokens cannot hold leases of this kind")
	}
	ttl, warnings, err := token.TTL(token.TTLQuery{
		Now: h.now, SystemDefault: m.DefaultTTL, SystemMax: m.MaxTTL, Backend: l.TTL, BackendMax: l.MaxTTL,
	})
	if err != nil {
		return err
	}
	res.Warnings = append(res.Warnings, warnings...)
	id := strings.TrimSuffix(h.req.Path, "/") + "/" + token.Random(24)
	if !h.ns.IsRoot() {
		id += "." + h.ns.ID
	}
	e := &lease.Entry{
		ID: id, MountID: m.ID, Accessor: m.Accessor, Kind: l.Kind, Internal: l.Internal,
		Issued: h.now, Expires: h.now.Add(ttl), MaxTTL: l.MaxTTL, Renewable: l.Renewable, NamespaceID: h.ns.ID,
	}
	if h.tok != nil {
		e.TokenKey, e.TokenNS = h.tok.Key, h.tok.NamespaceID
		if !h.tok.Expires.IsZero() && h.tok.Expires.Before(e.Expires) {
			e.Expires = h.tok.Expires
		}
	}
	l.ID, l.TTL, l.Issued, l.Expires = e.ID, e.Expires.Sub(h.now), e.Issued, e.Expires
	if err := h.a.boundLease(tx, e); err != nil {
		return err
	}
	h.countLease(m, ttl)
	return lease.Put(tx, e, time.Time{})
}

// wrap puts the answer into a new token that can be used once.
func (h *handling) wrap(tx storage.Tx, res *engine.Response, ttl time.Duration, path string) (*engine.Response, error) {
	body, err := engine.AppendResponse(nil, h.req.ID, res)
	if err != nil {
		return nil, err
	}
	info, err := h.a.NewWrapping(tx, h.ns.ID, WrapInput{
		Body: body, TTL: ttl, Path: path, JWT: h.req.WrapFormat == "jwt", Now: h.now, Issuer: h.c.cfg.APIAddr,
	})
	if err != nil {
		return nil, err
	}
	info.WrappedAccessor = res.Accessor
	if res.Auth != nil {
		info.WrappedAccessor = res.Auth.Accessor
	}
	return &engine.Response{Wrap: info, Warnings: res.Warnings}, nil
}

// WrapInput describes a wrapping to be made.
type WrapInput struct {
	Body   json.RawMessage
	TTL    time.Duration
	Path   string
	JWT    bool
	Now    time.Time
	Issuer string
}

// NewWrapping makes a wrapping token that stands for body.
func (a *Active) NewWrapping(tx storage.Tx, ns string, in WrapInput) (*engine.WrapInfo, error) {
	e := &token.Entry{
		Policies: []string{policy.WrappingName}, Path: in.Path, NumUses: 1, Created: in.Now, CreationTTL: in.TTL,
		Expires: in.Now.Add(in.TTL), ExplicitMax: in.TTL, NamespaceID: ns,
		Wrapped: &token.Wrapped{CreationPath: in.Path, TTL: in.TTL, JWT: in.JWT, Body: in.Body},
	}
	id, err := a.MakeToken(tx, e, "")
	if err != nil {
		return nil, err
	}
	info := &engine.WrapInfo{Token: id, Accessor: e.Accessor, TTL: in.TTL, CreationTime: in.Now, CreationPath: in.Path}
	if in.JWT {
		info.Token, err = a.wrapJWT(tx, id, e, in)
	}
	return info, err
}
