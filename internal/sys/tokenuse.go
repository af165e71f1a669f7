package sys

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"arca/internal/core"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/param"
	"arca/internal/token"
)

type tokenIn struct {
	Token     string        `api:"token" help:"The token."`
	Accessor  string        `api:"accessor" help:"Accessor of the token."`
	Increment time.Duration `api:"increment" help:"How long it shall live from now."`
}

var (
	errBadAccessor = errs.List(errs.Invalid, "invalid accessor")
	errNoAccessor  = errs.List(errs.Invalid, "missing accessor")
	errMissingID   = errs.New(errs.Invalid, "missing token ID")
)

// show is what a look-up tells of a token. id is empty for who knows only the
// accessor. It is appended by hand, as clients ask it all the time.
func show(call *engine.Call, t *token.Entry, id string) (*engine.Response, error) {
	b := make([]byte, 0, 640)
	text := func(name, value string) {
		b = append(b, name...)
		b = param.AppendString(b, value)
	}
	number := func(name string, n int64) {
		b = append(b, name...)
		b = strconv.AppendInt(b, n, 10)
	}
	moment := func(name string, at time.Time) {
		b = append(b, name...)
		if at.IsZero() {
			b = append(b, "null"...)
			return
		}
		b = append(b, '"')
		b = at.UTC().AppendFormat(b, time.RFC3339Nano)
		b = append(b, '"')
	}
	truth := func(name string, yes bool) {
		b = append(b, name...)
		b = strconv.AppendBool(b, yes)
	}
	text(`{"accessor":`, t.Accessor)
	number(`,"creation_time":`, t.Created.Unix())
	number(`,"creation_ttl":`, seconds(t.CreationTTL))
	text(`,"display_name":`, t.DisplayName)
	text(`,"entity_id":`, t.EntityID)
	moment(`,"expire_time":`, t.Expires)
	number(`,"explicit_max_ttl":`, seconds(t.ExplicitMax))
	text(`,"id":`, id)
	if t.NamespaceID != namespace.RootID {
		n, err := desks(call).Namespaces.ByID(call.Tx, t.NamespaceID)
		if err != nil {
			return nil, err
		}
		text(`,"namespace_path":`, n.Path)
	}
	number(`,"num_uses":`, usesLeft(call, t))
	truth(`,"orphan":`, t.Orphan)
	text(`,"path":`, t.Path)
	number(`,"ttl":`, int64(t.TTL(call.Now)/time.Second))
	text(`,"type":`, t.Type.String())
	b = append(b, `,"policies":`...)
	b = engine.AppendStrings(b, t.Policies)
	b = append(b, `,"meta":`...)
	if t.Meta == nil {
		b = append(b, "null"...)
	} else {
		raw, err := json.Marshal(t.Meta)
		if err != nil {
			return nil, err
		}
		b = append(b, raw...)
	}
	p, err := desks(call).PersonOf(call.Tx, t)
	if err != nil && !isBad(err) {
		return nil, err
	}
	if err == nil && p != nil {
		elsewhere, err := desks(call).ElsewherePolicies(call.Tx, t, p)
		if err != nil {
			return nil, err
		}
		here := p.PoliciesIn(t.NamespaceID)
		if len(here) > 0 {
			b = append(b, `,"identity_policies":`...)
			b = engine.AppendStrings(b, here)
		}
		if len(here) > 0 || len(elsewhere) > 0 {
			raw, err := json.Marshal(elsewhere)
			if err != nil {
				return nil, err
			}
			b = append(append(b, `,"external_namespace_policies":`...), raw...)
		}
	}
	if t.Path != "auth/token/root" {
		moment(`,"issue_time":`, t.Created)
		truth(`,"renewable":`, t.Renewable)
	}
	if t.Role != "" {
		text(`,"role":`, t.Role)
	}
	if t.Period != 0 {
		number(`,"period":`, seconds(t.Period))
	}
	if len(t.BoundCIDRs) > 0 {
		cidrs := make([]string, 0, len(t.BoundCIDRs))
		for _, p := range t.BoundCIDRs {
			cidrs = append(cidrs, showPrefix(p))
		}
		b = append(b, `,"bound_cidrs":`...)
		b = engine.AppendStrings(b, cidrs)
	}
	if !t.LastRenewal.IsZero() {
		moment(`,"last_renewal":`, t.LastRenewal)
		number(`,"last_renewal_time":`, t.LastRenewal.Unix())
	}
	return &engine.Response{Data: json.RawMessage(append(b, '}'))}, nil
}

// usesLeft is what a look-up shows; -1 is a token that spends its last use on it.
func usesLeft(call *engine.Call, t *token.Entry) int64 {
	if c := call.Caller; c != nil && c.LastUse && t.Key == c.Key {
		return -1
	}
	return int64(t.NumUses)
}

// own finds the caller's token as it is within the transaction.
func own(call *engine.Call) (*token.Entry, error) {
	return self(call)
}

func (e *Tokens) lookup(_ context.Context, call *engine.Call, in tokenIn) (*engine.Response, error) {
	if in.Token == "" {
		in.Token = call.Request.Token
	}
	t, err := lookup(call, in.Token)
	if err != nil {
		return nil, err
	}
	return show(call, t, in.Token)
}

func (e *Tokens) lookupSelf(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	t, err := own(call)
	if err != nil {
		return nil, err
	}
	return show(call, t, call.Request.Token)
}

func byAccessor(call *engine.Call, accessor string) (*token.Entry, error) {
	if accessor == "" {
		return nil, errNoAccessor
	}
	t, err := desks(call).Tokens.ByAccessor(call.Tx, accessor, call.Now)
	t, err = within(call, t, err)
	if isBad(err) {
		return nil, errBadAccessor
	}
	return t, err
}

func (e *Tokens) lookupAccessor(_ context.Context, call *engine.Call, in tokenIn) (*engine.Response, error) {
	t, err := byAccessor(call, in.Accessor)
	if err != nil {
		return nil, err
	}
	return show(call, t, "")
}

func (e *Tokens) accessors(_ context.Context, call *engine.Call, in paging) (*engine.Response, error) {
	list, err := desks(call).Tokens.Accessors(call.Tx, ns(call), in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	return keys(list)
}

func (e *Tokens) renew(ctx context.Context, call *engine.Call, in tokenIn) (*engine.Response, error) {
	if in.Token == "" {
		return nil, errMissingID
	}
	t, err := lookup(call, in.Token)
	if isBad(err) {
		return nil, errs.New(errs.Invalid, "token not found")
	}
	return e.extend(ctx, call, t, err, in.Token, in.Increment)
}

func (e *Tokens) renewSelf(ctx context.Context, call *engine.Call, in tokenIn) (*engine.Response, error) {
	t, err := own(call)
	return e.extend(ctx, call, t, err, call.Request.Token, in.Increment)
}

func (e *Tokens) renewAccessor(ctx context.Context, call *engine.Call, in tokenIn) (*engine.Response, error) {
	t, err := byAccessor(call, in.Accessor)
	return e.extend(ctx, call, t, err, "", in.Increment)
}

// extend renews a token: by its method when a login made it, else by its role.
func (e *Tokens) extend(ctx context.Context, call *engine.Call, t *token.Entry, err error, id string, increment time.Duration) (*engine.Response, error) {
	if err != nil {
		return nil, err
	}
	if t.Batch() {
		return nil, errs.New(errs.Invalid, "batch tokens cannot be renewed")
	}
	if c := call.Caller; c.LastUse && c.Key == t.Key {
		return nil, errs.New(errs.Invalid, "the token has no uses left: this request was the last")
	}
	if !t.Renewable || t.Expires.IsZero() {
		return nil, errs.New(errs.Invalid, "lease is not renewable")
	}
	m := call.Mount
	if t.NamespaceID != m.NamespaceID {
		home, err := desks(call).Mounts.Get(call.Tx, t.NamespaceID, "auth/token/")
		if err != nil {
			return nil, err
		}
		m = home.Mount
	}
	q := token.TTLQuery{
		Now: call.Now, Start: t.Created, SystemDefault: m.DefaultTTL, SystemMax: m.MaxTTL, Increment: increment,
		Backend: t.CreationTTL, BackendMax: t.MaxTTL, Period: t.Period, ExplicitMax: t.ExplicitMax,
	}
	if t.Mount != "" {
		if err := e.askMethod(ctx, call, t, &q); errors.Is(err, engine.ErrNotRenewed) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
	} else if t.Role != "" {
		if err := e.askRole(call, t, &q); err != nil {
			return nil, err
		}
	}
	ttl, warnings, err := token.TTL(q)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		call.Warn("%s", w)
	}
	c := t.Clone()
	c.Expires, c.LastRenewal = call.Now.Add(ttl), call.Now
	if err := desks(call).Tokens.Update(call.Tx, t, c); err != nil {
		return nil, err
	}
	auth := &engine.Auth{}
	core.FillAuth(auth, c, id, ttl)
	auth.Orphan = t.Orphan
	if err := desks(call).ShowIdentity(call.Tx, auth, c); err != nil {
		return nil, err
	}
	return &engine.Response{Auth: auth}, nil
}

// askRole takes the period and the maximum from the role as it now is.
func (e *Tokens) askRole(call *engine.Call, t *token.Entry, q *token.TTLQuery) error {
	r, err := getRole(call.Tx, t.NamespaceID, t.Role)
	if err != nil {
		return errs.New(errs.Invalid, "original token role %q could not be found, not renewing", t.Role)
	}
	q.Period = r.Period
	if r.ExplicitMax > 0 && (q.ExplicitMax == 0 || r.ExplicitMax < q.ExplicitMax) {
		q.ExplicitMax = r.ExplicitMax
	}
	return nil
}

// askMethod lets the auth method that made the token decide.
func (e *Tokens) askMethod(ctx context.Context, call *engine.Call, t *token.Entry, q *token.TTLQuery) error {
	d := desks(call)
	m, err := d.Mounts.ByAccessor(call.Tx, t.NamespaceID, t.Mount)
	if err != nil {
		return errs.New(errs.Invalid, "the auth method that gave this token is gone, not renewing")
	}
	q.SystemDefault, q.SystemMax = m.Mount.DefaultTTL, m.Mount.MaxTTL
	auth := &engine.Auth{
		Policies: t.Policies, Metadata: t.Meta, InternalData: t.Internal, TTL: t.CreationTTL, MaxTTL: t.MaxTTL, Period: t.Period,
		ExplicitMaxTTL: t.ExplicitMax, DisplayName: t.DisplayName, EntityID: t.EntityID,
	}
	if err := d.Judge(ctx, call.Tx, call, m, auth); err != nil {
		return err
	}
	q.Backend, q.BackendMax, q.Period = auth.TTL, auth.MaxTTL, auth.Period
	return nil
}

var errBatchRevoke = errs.New(errs.Invalid, "batch tokens cannot be revoked")

func (e *Tokens) revoke(_ context.Context, call *engine.Call, in tokenIn) (*engine.Response, error) {
	if in.Token == "" {
		return nil, errMissingID
	}
	t, err := lookup(call, in.Token)
	if isBad(err) {
		return nil, nil // gone already
	}
	return nil, revoke(call, t, err)
}

func revoke(call *engine.Call, t *token.Entry, err error) error {
	if err != nil {
		return err
	}
	if t.Batch() {
		return errBatchRevoke
	}
	return desks(call).Tokens.Revoke(call.Tx, t, call.Now)
}

func (e *Tokens) revokeSelf(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	t, err := own(call)
	return nil, revoke(call, t, err)
}

func (e *Tokens) revokeAccessor(_ context.Context, call *engine.Call, in tokenIn) (*engine.Response, error) {
	t, err := byAccessor(call, in.Accessor)
	if err == errBadAccessor { //nolint:errorlint // a value of this file
		return &engine.Response{Warnings: []string{"No token found with this accessor"}}, nil
	}
	return nil, revoke(call, t, err)
}

func (e *Tokens) revokeOrphan(_ context.Context, call *engine.Call, in tokenIn) (*engine.Response, error) {
	if in.Token == "" {
		return nil, errMissingID
	}
	t, err := lookup(call, in.Token)
	if isBad(err) {
		return nil, errs.New(errs.Invalid, "token to revoke not found")
	}
	if err != nil {
		return nil, err
	}
	if t.Batch() {
		return nil, errBatchRevoke
	}
	return nil, desks(call).Tokens.RevokeAlone(call.Tx, t, call.Now)
}

func (e *Tokens) tidy(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	return (&Engine{core: e.core}).tidy(call), nil
}
