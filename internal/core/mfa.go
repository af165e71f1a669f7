package core

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/identity"
	"arca/internal/mfa"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/policy"
	"arca/internal/quota"
	"arca/internal/storage"
	"arca/internal/token"
)

// mfaHeader brings second factors along with a login: METHOD[:CODE], where METHOD
// is an id or a name, and CODE may begin with "passcode=".
const mfaHeader = "X-Vault-Mfa"

// A login is what a token is made of, once all factors are shown.
type login struct {
	auth     *engine.Auth // not to be changed once it waits
	policies []string
	accessor string
	path     string
	mount    string // its path then
	user     user   // as the lockout knows who logs in; zero where it does not
	role     string // where quotas want to know it
	ns       *namespace.Namespace
	tls      *tls.ConnectionState // the certificates by which it began; nil where it began otherwise
	required []string             // ids of the enforcements that it was subject to then
}

// enforced lists the enforcements that a login is subject to.
func (a *Active) enforced(tx storage.Tx, ns string, m *engine.Mount, entity string) ([]*mfa.Enforcement, error) {
	// Those of the namespaces above hold below.
	var all []*mfa.Enforcement
	for id := ns; id != ""; {
		list, err := a.MFA.Enforcements(tx, id)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
		n, err := a.Namespaces.ByID(tx, id)
		if err != nil {
			return nil, err
		}
		id = n.ParentID
	}
	if len(all) == 0 {
		return nil, nil
	}
	var person *identity.Person
	if entity != "" {
		var err error
		if person, err = a.Identity.Person(tx, entity); err != nil {
			return nil, err
		}
	}
	// Who was merged into another is still who an enforcement names.
	named := func(id string) bool {
		return entity != "" && (id == entity || person != nil && slices.Contains(person.Entity.MergedIDs, id))
	}
	inGroup := func(ids []string) (bool, error) {
		if person == nil {
			return false, nil
		}
		return a.Identity.InGroup(tx, person, ids)
	}
	var out []*mfa.Enforcement
	for _, e := range all {
		if slices.Contains(e.Accessors, m.Accessor) || slices.Contains(e.Types, m.Type) ||
			slices.ContainsFunc(e.Entities, named) {
			out = append(out, e)
			continue
		}
		if in, err := inGroup(e.Groups); err != nil {
			return nil, err
		} else if in {
			out = append(out, e)
		}
	}
	return out, nil
}

// secondFactor decides what a login that has shown its first factor still needs.
// It reports true when the answer is that there is more to show; the token is not
// made then.
func (h *handling) secondFactor(tx storage.Tx, res *engine.Response, l *login) (wait bool, err error) {
	list, err := h.a.enforced(tx, h.ns.ID, h.entry.Mount, l.auth.EntityID)
	if err != nil || len(list) == 0 {
		return false, err
	}
	if l.auth.EntityID == "" {
		return false, errNoToken // nobody of whom a second factor is known
	}
	if given := h.req.Header[mfaHeader]; len(given) > 0 {
		creds, err := parseFactors(given)
		if err != nil {
			return false, errNoToken
		}
		if err := h.a.show(tx, list, l.auth.EntityID, creds, h.now); err != nil {
			if errs.Is(err, errs.Denied) {
				return false, errNoToken
			}
			return false, err
		}
		return false, nil
	}
	id := uuid.NewString()
	constraints := map[string]any{}
	for _, e := range list {
		ways := make([]map[string]any, 0, len(e.Methods))
		for _, m := range e.Methods {
			ways = append(ways, map[string]any{"type": "totp", "id": m, "uses_passcode": true})
		}
		name := e.Name
		if constraints[name] != nil { // of a namespace above
			name += " (" + e.ID + ")"
		}
		constraints[name] = map[string]any{"any": ways}
	}
	if h.a.MFA.Full(h.now) {
		return false, errs.New(errs.Unavailable, "too many logins wait for their second factor; try again later")
	}
	for _, e := range list {
		l.required = append(l.required, e.ID)
	}
	l.user = h.try.user
	// One that fails after all crowds none of the entity's others out.
	tx.OnCommit(func() { h.a.MFA.Wait(id, &mfa.Waiting{Login: l, EntityID: l.auth.EntityID}, h.now) })
	res.Auth = &engine.Auth{
		Made: true, MFARequirement: map[string]any{"mfa_request_id": id, "mfa_constraints": constraints},
	}
	res.Warn("A login request was issued that is subject to MFA validation. Please make sure to validate the login by sending " +
		"another request to mfa/validate endpoint.")
	return true, nil
}

// factors are codes by the id or name of their method.
type factors map[string][]string

func parseFactors(lines []string) (factors, error) {
	out := factors{}
	if len(lines) > 100 {
		return nil, errs.New(errs.Invalid, "more than 100 MFA credentials")
	}
	for _, line := range lines {
		name, code, _ := strings.Cut(line, ":")
		if name == "" {
			return nil, errs.New(errs.Invalid, "MFA credentials have the form METHOD[:CODE]")
		}
		out[name] = append(out[name], strings.TrimPrefix(code, "passcode="))
	}
	return out, nil
}

// show checks that the codes satisfy each enforcement, by one of its methods. The
// error of those that do not is of kind Denied.
func (a *Active) show(tx storage.Tx, list []*mfa.Enforcement, entity string, f factors, now time.Time) error {
	used := map[string]bool{} // codes that this request has shown count for all its enforcements
	for _, e := range list {
		satisfied, named := false, false
		for _, id := range e.Methods {
			m, err := a.MFA.Method(tx, id)
			if errors.Is(err, mfa.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			codes := f[m.ID]
			if len(codes) == 0 && m.Name != "" {
				codes = f[m.Name]
			}
			if len(codes) == 0 || codes[0] == "" {
				continue
			}
			named = true
			if used[id] {
				satisfied = true
				break
			}
			ok, err := a.MFA.Take(tx, m, entity, codes[0], now)
			if err != nil {
				return err
			}
			if ok {
				satisfied, used[id] = true, true
				break
			}
		}
		if satisfied {
			continue
		}
		if !named {
			first := e.Methods[0]
			name := ""
			if m, err := a.MFA.Method(tx, first); err == nil {
				name = m.Name
			}
			return errs.New(errs.Denied, "failed to satisfy enforcement %s. error: failed to sanitize MFA creds, %s", e.Name,
				errs.List(errs.Denied, "failed to find MFA credentials associated with an MFA method ID "+first+", method name "+name).Error())
		}
		return errs.New(errs.Denied, "failed to satisfy enforcement %s. error: %s", e.Name, errs.List(errs.Denied,
			"MFA credentials not supplied or incorrect", "login MFA validation failed for methodID: ["+strings.Join(e.Methods, " ")+"]").Error())
	}
	a.MFA.Forgive(entity, used) // right codes are that, whatever becomes of the token
	return nil
}

// FinishLogin makes the token of a login that has waited for its second factor,
// which are codes by method. The error is of kind Denied when these do not do, or
// when the request comes from where the token may not be used.
func (a *Active) FinishLogin(ctx context.Context, tx storage.Tx, call *engine.Call, id string, codes map[string][]string) (*engine.Response, error) {
	bad := errs.New(errs.Invalid, "invalid request ID")
	w := a.MFA.Waiter(id, call.Now)
	if w == nil {
		return nil, bad
	}
	l, ok := w.Login.(*login)
	if !ok || l.ns.ID != call.NamespaceID {
		return nil, bad
	}
	// An earlier attempt of this request may have claimed it. Whether the last is committed is not known when the
	// client has gone: nobody else may finish it then.
	call.After(func() {
		if ctx.Err() == nil {
			a.MFA.Release(id, call.Request.ID)
		}
	})
	// All is as it is now: what was switched off meanwhile makes no token.
	m, err := a.Mounts.ByAccessor(tx, l.ns.ID, l.accessor)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, bad
	}
	if err != nil {
		return nil, err
	}
	// A mount that moves takes its tokens along into nothing, by the path that they carry: this one would outlive it.
	if m.Ending || m.Path != l.mount {
		return nil, bad
	}
	if a.lockedOut(m, l.user, call.Now) {
		return nil, errNoToken
	}
	list, err := a.enforced(tx, l.ns.ID, m.Mount, w.EntityID)
	if errors.Is(err, identity.ErrNotFound) || errors.Is(err, identity.ErrDisabled) {
		return nil, bad
	}
	if err != nil {
		return nil, err
	}
	// An enforcement that does not hold any more, as the user has left its group, must not let in who has shown nothing: the login
	// has to begin anew, without it.
	for _, id := range l.required {
		if !slices.ContainsFunc(list, func(e *mfa.Enforcement) bool { return e.ID == id }) {
			return nil, bad
		}
	}
	if len(list) == 0 {
		return nil, bad
	}
	auth, err := a.again(ctx, tx, call, m, l)
	if errors.Is(err, engine.ErrNotRenewed) {
		return nil, bad
	}
	if err != nil {
		return nil, err
	}
	if err := a.show(tx, list, w.EntityID, codes, call.Now); err != nil {
		return nil, err
	}
	if !a.MFA.Claim(id, call.Request.ID, call.Now) {
		return nil, bad
	}
	tx.OnCommit(func() { a.MFA.Done(id) }) // one that fails, as there are too many leases, may be finished later
	res := &engine.Response{Auth: auth}
	err = a.makeToken(tx, call, res, l, m.Mount)
	if err != nil {
		a.MFA.Release(id, call.Request.ID) // nothing is made
	}
	return res, err
}

// again lets the method judge a login that has waited as it would a renewal: a user
// or role that is gone, or gives other policies by now, makes no token, and what it
// says of the token's life and addresses holds as it is now. Vault makes the token
// that was granted before the wait, and so does this where a method would have to ask others
// (LDAP, OCSP) once more: it may not see what it saw with the user's own password. Groups stay as the login found them.
func (a *Active) again(ctx context.Context, tx storage.Tx, call *engine.Call, m *mount.Entry, l *login) (*engine.Auth, error) {
	auth := *l.auth // the login may be finished again when this attempt is not the last
	auth.Policies, auth.GroupAliases = l.policies, nil
	if r, ok := m.Engine.(engine.AuthRenewer); ok {
		req := *call.Request
		req.TLS = l.tls
		to := a.CallFor(tx, m)
		to.Request = &req
		err := r.RenewAuth(ctx, to, &auth)
		var question *engine.Question
		switch {
		case errors.As(err, &question):
			auth = *l.auth
			auth.Policies = l.policies
		case err != nil:
			return nil, err
		}
	}
	if !slices.Equal(Sanitize(auth.Policies, !auth.NoDefaultPolicy), l.policies) {
		return nil, errs.New(errs.Invalid, "policies have changed since the login began: log in again")
	}
	var none bool
	if auth.BoundCIDRs, none = narrow(l.auth.BoundCIDRs, auth.BoundCIDRs); none || !within(auth.BoundCIDRs, call.Request) {
		return nil, errNoToken
	}
	return &auth, nil
}

// Judge asks the auth method of a token that is renewed whether it still stands by it,
// and brings the entity's groups up to date where the method tells them. A method that
// does not judge agrees. The error is engine.ErrNotRenewed when the user or role is gone.
func (a *Active) Judge(ctx context.Context, tx storage.Tx, call *engine.Call, m *mount.Entry, auth *engine.Auth) error {
	r, ok := m.Engine.(engine.AuthRenewer)
	if !ok {
		return nil
	}
	to := a.CallFor(tx, m)
	to.Request, to.Asked = call.Request, call.Asked
	if err := r.RenewAuth(ctx, to, auth); err != nil {
		return err
	}
	if auth.GroupAliases == nil || auth.EntityID == "" {
		return nil
	}
	groups := make([]identity.Alias, 0, len(auth.GroupAliases))
	for _, g := range auth.GroupAliases {
		groups = append(groups, identity.Alias{Name: g.Name, MountAccessor: m.Accessor, MountType: m.Type})
	}
	return a.Identity.RefreshGroups(tx, m.NamespaceID, auth.EntityID, m.Accessor, groups)
}

// narrow is what lies in both of two lists of prefixes, of which an empty one is
// everything; none reports that nothing does.
func narrow(a, b []netip.Prefix) (both []netip.Prefix, none bool) {
	switch {
	case len(a) == 0 || slices.Equal(a, b):
		return b, false
	case len(b) == 0:
		return a, false
	}
	seen := map[netip.Prefix]bool{}
	for _, p := range a {
		for _, q := range b {
			if !p.Overlaps(q) {
				continue
			}
			if q.Bits() > p.Bits() { // of two that overlap, one holds the other
				seen[q] = true
			} else {
				seen[p] = true
			}
		}
	}
	for p := range seen {
		both = append(both, p)
	}
	slices.SortFunc(both, netip.Prefix.Compare)
	return both, len(both) == 0
}

// makeToken makes the token of a login.
func (a *Active) makeToken(tx storage.Tx, call *engine.Call, res *engine.Response, l *login, m *engine.Mount) error {
	auth, now := res.Auth, call.Now
	ttl, warnings, err := token.TTL(token.TTLQuery{
		Now: now, SystemDefault: m.DefaultTTL, SystemMax: m.MaxTTL, Backend: auth.TTL, Period: auth.Period,
		BackendMax: auth.MaxTTL, ExplicitMax: auth.ExplicitMaxTTL,
	})
	if err != nil {
		return err
	}
	res.Warnings = append(res.Warnings, warnings...)
	e := &token.Entry{
		Policies: l.policies, Path: l.path, Meta: auth.Metadata, DisplayName: displayName(l.ns.Path, m, auth.DisplayName),
		NumUses: auth.NumUses, Created: now, CreationTTL: ttl, Expires: now.Add(ttl), Period: auth.Period,
		ExplicitMax: auth.ExplicitMaxTTL, MaxTTL: auth.MaxTTL, Renewable: auth.Renewable, EntityID: auth.EntityID,
		BoundCIDRs: auth.BoundCIDRs, Mount: m.Accessor, Internal: auth.InternalData, NamespaceID: l.ns.ID,
		Type: loginType(auth.Type, m.TokenType),
	}
	if e.Batch() {
		e.Renewable = false
		if auth.NumUses > 0 || auth.Period > 0 {
			return errs.New(errs.Invalid, "batch tokens cannot have a use limit or a period")
		}
	}
	if l.role != "" {
		e.Quota = &quota.Stamp{Role: l.role}
	}
	id, err := a.MakeToken(tx, e, "")
	if err != nil {
		return err
	}
	a.CountToken(call, e, m, l.ns.Path)
	FillAuth(auth, e, id, ttl)
	if err := a.ShowIdentity(tx, auth, e); err != nil {
		return err
	}
	if i := slices.IndexFunc(auth.Policies, policy.Internal); i >= 0 {
		return errs.New(errs.Invalid, "cannot assign policy %q", auth.Policies[i])
	}
	return nil
}
