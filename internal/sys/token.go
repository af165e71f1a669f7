package sys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"arca/internal/core"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/identity"
	"arca/internal/namespace"
	"arca/internal/param"
	"arca/internal/policy"
	"arca/internal/storage"
	"arca/internal/token"
)

// Tokens serves auth/token/.
type Tokens struct{ core *core.Core }

// NewTokens makes the engine of auth/token/.
func NewTokens(c *core.Core) *Tokens { return &Tokens{core: c} }

// Type implements engine.Engine.
func (e *Tokens) Type() string { return "token" }

// Hall implements engine.Hall.
func (e *Tokens) Hall() {}

// Routes implements engine.Engine.
func (e *Tokens) Routes() []engine.Route {
	return append([]engine.Route{
		engine.Write("create", e.create, engine.NoParamWarn, engine.ID("token-create"), engine.Help("Create a token.")),
		engine.Write("create-orphan", e.createOrphan, engine.Sudo, engine.NoParamWarn, engine.ID("token-create-orphan"),
			engine.Help("Create a token without a parent.")),
		engine.Write("create/{role_name}", e.createByRole, engine.NoParamWarn, engine.ID("token-create-against-role"),
			engine.Help("Create a token by a role.")),
		engine.Write("lookup", e.lookup, engine.ID("token-look-up"), engine.Help("Tell about a token.")),
		engine.Read("lookup", e.lookup, engine.ID("token-look-up2"), engine.Help("Tell about a token.")),
		engine.Read("lookup-self", e.lookupSelf, engine.ID("token-look-up-self"), engine.Help("Tell about the caller's token.")),
		engine.Write("lookup-self", e.lookupSelf, engine.ID("token-look-up-self2"), engine.Help("Tell about the caller's token.")),
		engine.Write("lookup-accessor", e.lookupAccessor, engine.ID("token-look-up-accessor"), engine.Help("Tell about the token with an accessor.")),
		engine.List("accessors", e.accessors, engine.Sudo, engine.ID("token-list-accessors"), engine.Help("List the accessors of all tokens.")),
		engine.Write("renew", e.renew, engine.ID("token-renew"), engine.Help("Renew a token.")),
		engine.Write("renew-self", e.renewSelf, engine.ID("token-renew-self"), engine.Help("Renew the caller's token.")),
		engine.Write("renew-accessor", e.renewAccessor, engine.ID("token-renew-accessor"), engine.Help("Renew the token with an accessor.")),
		engine.Write("revoke", e.revoke, engine.ID("token-revoke"), engine.Help("Revoke a token and all below it.")),
		engine.Write("revoke-self", e.revokeSelf, engine.ID("token-revoke-self"), engine.Help("Revoke the caller's token and all below it.")),
		engine.Write("revoke-accessor", e.revokeAccessor, engine.ID("token-revoke-accessor"), engine.Help("Revoke the token with an accessor.")),
		engine.Write("revoke-orphan", e.revokeOrphan, engine.Sudo, engine.ID("token-revoke-orphan"),
			engine.Help("Revoke a token and leave those below it as orphans.")),
		engine.Write("tidy", e.tidy, engine.Sudo, engine.ID("token-tidy"), engine.Help("Remove records that nothing refers to any more.")),
	}, e.roleRoutes()...)
}

// createIn are the parameters of a new token, as
// https://developer.hashicorp.com/vault/api-docs/auth/token#create-token has them.
type createIn struct {
	RoleName        string            `api:"role_name" help:"The role."`
	ID              string            `api:"id" help:"Id of the token; root only."`
	Policies        []string          `api:"policies" help:"Policies; the caller's own when absent."`
	Meta            map[string]string `api:"meta" help:"Metadata, shown in audit records."`
	NoParent        bool              `api:"no_parent" help:"Make it an orphan; root or sudo only."`
	NoDefaultPolicy bool              `api:"no_default_policy" help:"Leave the policy default out."`
	Lease           string            `api:"lease" help:"Older name of ttl."`
	TTL             string            `api:"ttl" help:"How long it lives."`
	ExplicitMaxTTL  string            `api:"explicit_max_ttl" help:"How long it can ever live."`
	DisplayName     string            `api:"display_name" help:"Name shown in audit records."`
	NumUses         int               `api:"num_uses" help:"How often it can be used; 0 is without limit."`
	Period          string            `api:"period" help:"Make it periodic; root or sudo only."`
	Renewable       *bool             `api:"renewable" help:"Whether it can be renewed; true when absent."`
	Type            string            `api:"type" help:"service or batch."`
	EntityAlias     string            `api:"entity_alias" help:"Alias of the entity; with a role only."`
}

func (e *Tokens) create(ctx context.Context, call *engine.Call, in createIn) (*engine.Response, error) {
	in.RoleName = ""
	return e.make(ctx, call, &in, nil, false)
}

func (e *Tokens) createOrphan(ctx context.Context, call *engine.Call, in createIn) (*engine.Response, error) {
	in.RoleName = ""
	return e.make(ctx, call, &in, nil, true)
}

func (e *Tokens) createByRole(ctx context.Context, call *engine.Call, in createIn) (*engine.Response, error) {
	r, err := getRole(call.Tx, ns(call), in.RoleName)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "unknown role %s", in.RoleName)
	}
	if err != nil {
		return nil, err
	}
	return e.make(ctx, call, &in, r, false)
}

// A making is a token on its way to being created.
type making struct {
	e      *Tokens
	call   *engine.Call
	in     *createIn
	role   *role // nil without one
	parent *token.Entry
	sudo   bool
	entry  *token.Entry
	ttl    time.Duration
}

// errTwoErrors keeps the texts of the two refusals of custom ids together.
var (
	errBatchRoot = errs.New(errs.Invalid, "batch tokens cannot be root tokens")
	errNoParent  = errs.New(errs.Invalid, "parent token lookup failed: no parent found")
)

// make follows the order of checks of Vault, as clients see the first error.
func (e *Tokens) make(_ context.Context, call *engine.Call, in *createIn, r *role, orphan bool) (*engine.Response, error) {
	d := desks(call)
	parent, err := d.Tokens.ByKey(call.Tx, call.Caller.NamespaceID, call.Caller.Key, call.Now)
	if call.Caller.Type == engine.TokenBatch {
		return nil, errs.New(errs.Invalid, "batch tokens cannot create more tokens")
	}
	if err != nil {
		return nil, err
	}
	if parent.NumUses == 1 {
		return nil, errNoParent // its last use is this request
	}
	if parent.NumUses > 0 {
		return nil, errs.New(errs.Invalid, "restricted use token cannot generate child tokens")
	}
	acl, err := aclOf(call, parent)
	if err != nil {
		return nil, err
	}
	v := acl.Allows(&policy.Request{Op: engine.OpUpdate, Path: call.NamespacePath + call.Request.Path})
	m := &making{e: e, call: call, in: in, role: r, parent: parent, sudo: v.Root || v.Sudo}
	m.entry = &token.Entry{
		Path: strings.TrimSuffix(call.Request.Path, "/"), Meta: in.Meta, DisplayName: "token", NumUses: in.NumUses, Created: call.Now,
		NamespaceID: ns(call), Type: engine.TokenService,
	}
	if orphan || in.NoParent || r != nil && r.Orphan {
		m.entry.Parent = ""
	} else {
		m.entry.Parent = parent.Key
		if parent.NamespaceID != m.entry.NamespaceID {
			m.entry.ParentNS = parent.NamespaceID
		}
	}
	for _, step := range []func() error{m.kind, m.basics, m.policies, m.rights, m.times, m.lifetime} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return m.finish()
}

// kind decides between service and batch.
func (m *making) kind() error {
	typ := m.in.Type
	var byRole engine.TokenType
	if m.role != nil {
		byRole = m.role.Type
	}
	switch typ {
	case "", "service", "batch":
	default:
		return errs.New(errs.Invalid, "invalid 'token_type' value")
	}
	switch byRole { //nolint:exhaustive // the others leave it to the request
	case engine.TokenService:
		typ = "service"
	case engine.TokenBatch:
		typ = "batch"
	case engine.TokenDefaultBatch:
		if typ == "" {
			typ = "batch"
		}
	}
	if typ != "batch" {
		return nil
	}
	m.entry.Type = engine.TokenBatch
	switch {
	case !unset(m.in.ExplicitMaxTTL):
		return errBatchCannot("explicit_max_ttl")
	case m.in.NumUses != 0:
		return errBatchCannot("num_uses")
	case !unset(m.in.Period):
		return errBatchCannot("period")
	}
	return nil
}

// unset reports whether a duration is absent or zero, as the command line sends it.
func unset(text string) bool {
	d, err := param.ParseDuration(text)
	return err == nil && d == 0
}

func errBatchCannot(what string) error {
	return errs.New(errs.Invalid, "batch tokens cannot have %q set", what)
}

const maxDisplayName = 512

// basics checks what needs no right.
func (m *making) basics() error {
	in := m.in
	if in.NumUses < 0 {
		return errs.New(errs.Invalid, "number of uses cannot be negative")
	}
	if len(in.DisplayName) > maxDisplayName {
		return errs.New(errs.Invalid, "display_name has at most %d bytes", maxDisplayName)
	}
	if in.EntityAlias != "" && m.role == nil {
		return errs.New(errs.Invalid, "'entity_alias' is only allowed in combination with token role")
	}
	if in.DisplayName != "" {
		m.entry.DisplayName = "token-" + sanitizeName(in.DisplayName)
	}
	if r := m.role; r != nil {
		m.entry.Role = r.Name
		if r.PathSuffix != "" {
			m.entry.Path += "/" + r.PathSuffix
		}
		m.entry.BoundCIDRs = r.prefixes()
		if r.NumUses > 0 && (m.entry.NumUses == 0 || r.NumUses < m.entry.NumUses) {
			m.entry.NumUses = r.NumUses
		}
	}
	return nil
}

// sanitizeName keeps letters, digits, dashes and underscores of a display name.
func sanitizeName(name string) string {
	out := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '-'
	}, name)
	return strings.TrimSuffix(out, "-")
}

// policies decides which policies the token has.
func (m *making) policies() error {
	if err := engine.CheckPolicies(core.Sanitize(m.in.Policies, false)); err != nil {
		return err // before each is compared and looked for
	}
	if m.role != nil {
		return m.rolePolicies()
	}
	in := m.in
	held := m.held()
	given := core.Sanitize(in.Policies, false)
	switch {
	case len(in.Policies) == 0:
		m.entry.Policies = held
		if in.NoDefaultPolicy {
			m.entry.Policies = without(m.entry.Policies, policy.DefaultName)
		}
		return nil
	case !m.sudo && !subset(core.Sanitize(in.Policies, !in.NoDefaultPolicy), held):
		own := core.Sanitize(in.Policies, false)
		if !subset(own, held) {
			return errs.New(errs.Invalid, "child policies must be subset of parent")
		}
	}
	if slices.Contains(given, policy.RootName) && !m.parent.IsRoot() {
		return errs.New(errs.Invalid, "root tokens may not be created without parent token being root")
	}
	addDefault := !in.NoDefaultPolicy && (m.sudo || slices.Contains(held, policy.DefaultName))
	m.entry.Policies = core.Sanitize(in.Policies, addDefault)
	if in.NoDefaultPolicy {
		m.entry.Policies = without(m.entry.Policies, policy.DefaultName)
	}
	return nil
}

// held are the parent's policies as far as they mean anything in the token's
// namespace: a policy of the same name there is another one.
func (m *making) held() []string {
	if m.parent.NamespaceID == m.entry.NamespaceID || m.parent.IsRoot() {
		return m.parent.Policies
	}
	return []string{policy.DefaultName}
}

func without(list []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == name })
}

func subset(a, of []string) bool {
	if slices.Contains(of, policy.RootName) {
		return true
	}
	for _, s := range a {
		if !slices.Contains(of, s) {
			return false
		}
	}
	return true
}

// rights checks what only root or sudo may ask for.
func (m *making) rights() error {
	in := m.in
	if in.ID != "" {
		switch {
		case !m.sudo:
			return errs.New(errs.Invalid, "root or sudo privileges required to specify token id")
		case m.entry.Batch():
		case strings.HasPrefix(in.ID, "s."):
			return errs.New(errs.Invalid, "custom token ID cannot have the 's.' prefix")
		case strings.HasPrefix(in.ID, token.ServicePrefix):
			return errs.New(errs.Invalid, "custom token ID cannot have the 'hvs.' prefix")
		case strings.Contains(in.ID, "."):
			return errs.New(errs.Invalid, "custom token ID cannot have a '.' in the value")
		case len(in.ID) > 512:
			return errs.New(errs.Invalid, "custom token ID is longer than 512 bytes")
		}
	}
	if in.NoParent && !m.sudo {
		return errs.New(errs.Invalid, "root or sudo privileges required to create orphan token")
	}
	if m.entry.NamespaceID != namespace.RootID && slices.Contains(m.entry.Policies, policy.RootName) {
		return errs.New(errs.Invalid, "root tokens may not be created from a non-root namespace")
	}
	if i := slices.IndexFunc(m.entry.Policies, policy.Internal); i >= 0 {
		return errs.New(errs.Invalid, "cannot assign policy %q", m.entry.Policies[i])
	}
	if !m.entry.Batch() {
		return nil
	}
	switch r := m.role; {
	case slices.Contains(m.entry.Policies, policy.RootName):
		return errBatchRoot
	case r != nil && r.NumUses > 0: // what nothing counts must not pass for a limit
		return errBatchCannot("token_num_uses")
	case r != nil && r.Period > 0:
		return errBatchCannot("token_period")
	}
	return nil
}

// times reads the durations.
func (m *making) times() error {
	in := m.in
	read := func(text, what string) (time.Duration, error) {
		d, err := param.ParseDuration(text)
		if err != nil {
			return 0, errs.New(errs.Invalid, "%s", err.Error())
		}
		if d < 0 {
			return 0, errs.New(errs.Invalid, "%s must be positive", what)
		}
		return d, nil
	}
	var err error
	if m.entry.ExplicitMax, err = read(in.ExplicitMaxTTL, "explicit_max_ttl"); err != nil {
		return err
	}
	if m.entry.Period, err = read(in.Period, "period"); err != nil {
		return err
	}
	if m.entry.Period > 0 && !m.sudo {
		return errs.New(errs.Invalid, "root or sudo privileges required to create periodic token")
	}
	ttl := in.TTL
	if ttl == "" {
		ttl = in.Lease
	}
	m.ttl, err = read(ttl, "ttl")
	return err
}

// lifetime decides how long the token lives and whether it can be renewed.
func (m *making) lifetime() error {
	t, mnt := m.entry, m.call.Mount
	t.Renewable = m.in.Renewable == nil || *m.in.Renewable
	explicitMax, period := t.ExplicitMax, t.Period
	if r := m.role; r != nil {
		t.Renewable = t.Renewable && r.Renewable
		if r.Period > 0 {
			period, t.Period = r.Period, 0 // looked up in the role on renewal, too
		}
		if r.ExplicitMax > 0 && (explicitMax == 0 || r.ExplicitMax < explicitMax) {
			explicitMax = r.ExplicitMax // asked for at renewal, too; the token's own bound stays its own
		}
	}
	root := slices.Contains(t.Policies, policy.RootName)
	if root && m.ttl == 0 && period == 0 && explicitMax == 0 {
		if !m.parent.Expires.IsZero() {
			return errs.New(errs.Invalid, "expiring root tokens cannot create non-expiring root tokens")
		}
		t.Renewable = false
		return nil
	}
	ttl, warnings, err := token.TTL(token.TTLQuery{
		Now: m.call.Now, SystemDefault: mnt.DefaultTTL, SystemMax: mnt.MaxTTL, Backend: m.ttl, Period: period, ExplicitMax: explicitMax,
	})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		m.call.Warn("%s", w)
	}
	t.CreationTTL = ttl
	t.Expires = m.call.Now.Add(ttl)
	if t.Batch() {
		t.Renewable = false
	}
	return nil
}

// finish stores the token and answers.
func (m *making) finish() (*engine.Response, error) {
	t := m.entry
	d := desks(m.call)
	for _, name := range t.Policies {
		if name == policy.RootName {
			continue
		}
		_, err := d.Policies.Get(m.call.Tx, t.NamespaceID, name)
		if errors.Is(err, storage.ErrNotFound) {
			m.call.Warn("Policy %q does not exist", name)
		} else if err != nil {
			return nil, err
		}
	}
	if m.in.ID != "" && !t.Batch() {
		m.call.Warn("Supplying a custom ID for the token uses the weaker SHA1 hashing instead of the more secure SHA2-256 HMAC for token obfuscation. SHA1 hashed tokens on the wire leads to less secure lookups.")
	}
	if t.Batch() {
		m.in.ID = ""
	}
	if err := m.person(); err != nil {
		return nil, err
	}
	id, err := d.MakeToken(m.call.Tx, t, m.in.ID)
	if err != nil {
		return nil, err
	}
	auth := &engine.Auth{}
	d.CountToken(m.call, t, m.call.Mount, m.call.NamespacePath)
	core.FillAuth(auth, t, id, t.CreationTTL)
	if err := d.ShowIdentity(m.call.Tx, auth, t); err != nil {
		return nil, err
	}
	return &engine.Response{Auth: auth}, nil
}

// person decides who stands behind the token: who its role says, else whoever
// stands behind its parent.
func (m *making) person() error {
	if m.in.EntityAlias == "" {
		if m.entry.Parent != "" {
			m.entry.EntityID = m.parent.EntityID
		}
		return nil
	}
	name := strings.ToLower(m.in.EntityAlias)
	if !slices.Contains(m.role.AllowedAliases, name) && !globbed(m.role.AllowedAliases, name) {
		return errs.New(errs.Invalid, "invalid 'entity_alias' value")
	}
	mount := m.call.Mount
	e, _, err := desks(m.call).Identity.Login(m.call.Tx, m.entry.NamespaceID, &identity.Login{Alias: identity.Alias{
		Name: name, MountAccessor: mount.Accessor, MountType: mount.Type, MountPath: mount.Path,
	}}, m.call.Now)
	if err != nil {
		return err
	}
	m.entry.EntityID = e.ID
	return nil
}

// prefixes are the role's CIDR bounds that can be read.
func (r *role) prefixes() []netip.Prefix {
	out := make([]netip.Prefix, 0, len(r.BoundCIDRs))
	for _, text := range r.BoundCIDRs {
		if p, err := parsePrefix(text); err == nil {
			out = append(out, p)
		} else {
			// A bound that cannot be read holds for no address.
			out = append(out, netip.PrefixFrom(netip.IPv6Unspecified(), 128))
		}
	}
	return out
}

func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is no address and no CIDR block", text)
	}
	return p.Masked(), nil
}

// showPrefix writes a single address without the length of its prefix.
func showPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// role is a token role as it is stored.
type role struct {
	Version         int              `json:"v"`
	Name            string           `json:"name"`
	AllowedPolicies []string         `json:"allowed_policies,omitempty"`
	AllowedGlob     []string         `json:"allowed_policies_glob,omitempty"`
	Disallowed      []string         `json:"disallowed_policies,omitempty"`
	DisallowedGlob  []string         `json:"disallowed_policies_glob,omitempty"`
	AllowedAliases  []string         `json:"allowed_entity_aliases,omitempty"`
	Orphan          bool             `json:"orphan,omitempty"`
	Renewable       bool             `json:"renewable"`
	PathSuffix      string           `json:"path_suffix,omitempty"`
	BoundCIDRs      []string         `json:"token_bound_cidrs,omitempty"`
	ExplicitMax     time.Duration    `json:"token_explicit_max_ttl,omitempty"`
	Period          time.Duration    `json:"token_period,omitempty"`
	OldPeriod       time.Duration    `json:"period,omitempty"`
	OldExplicitMax  time.Duration    `json:"explicit_max_ttl,omitempty"`
	NoDefault       bool             `json:"token_no_default_policy,omitempty"`
	NumUses         int              `json:"token_num_uses,omitempty"`
	Type            engine.TokenType `json:"token_type,omitempty"`
}

func roleKey(ns, name string) string { return namespace.Prefix(ns) + "t/r/" + name }

func getRole(tx storage.Tx, ns, name string) (*role, error) {
	raw, err := tx.Get(roleKey(ns, name))
	if err != nil {
		return nil, err
	}
	r := &role{}
	return r, json.Unmarshal(raw, r)
}
