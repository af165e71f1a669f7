package sys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"arca/internal/core"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/param"
	"arca/internal/policy"
	"arca/internal/storage"
)

func (e *Tokens) roleRoutes() []engine.Route {
	return []engine.Route{
		engine.List("roles", e.listRoles, engine.ID("token-list-roles"), engine.Help("List the token roles.")),
		engine.Read("roles/{role_name}", e.readRole, engine.ID("token-read-role"), engine.Help("Read a token role.")),
		engine.Write("roles/{role_name}", e.writeRole, engine.NoParamWarn, engine.Exists(e.roleExists), engine.ID("token-write-role"),
			engine.Help("Write a token role; what is not given stays.")),
		engine.Delete("roles/{role_name}", e.deleteRole, engine.ID("token-delete-role"), engine.Help("Delete a token role.")),
	}
}

// rolePolicies applies a role's lists to what was asked for.
func (m *making) rolePolicies() error {
	r, in := m.role, m.in
	addDefault := !in.NoDefaultPolicy && !r.NoDefault
	restricted := len(r.AllowedPolicies) > 0 || len(r.AllowedGlob) > 0
	switch {
	case restricted && len(in.Policies) == 0:
		m.entry.Policies = core.Sanitize(r.AllowedPolicies, addDefault && !slices.Contains(r.Disallowed, policy.DefaultName))
	case restricted:
		allowed := core.Sanitize(r.AllowedPolicies, addDefault)
		m.entry.Policies = core.Sanitize(in.Policies, addDefault)
		for _, p := range m.entry.Policies {
			if !slices.Contains(allowed, p) && !globbed(r.AllowedGlob, p) {
				return errs.New(errs.Invalid, "token policies (%q) must be subset of the role's allowed policies (%q) or glob policies (%q)",
					m.entry.Policies, allowed, r.AllowedGlob)
			}
		}
	case len(in.Policies) > 0:
		m.entry.Policies = core.Sanitize(in.Policies, addDefault)
	default:
		// As without a role: the caller's own.
		m.entry.Policies = m.held()
		if !addDefault {
			m.entry.Policies = without(m.entry.Policies, policy.DefaultName)
		}
	}
	for _, p := range m.entry.Policies {
		if slices.Contains(r.Disallowed, p) || globbed(r.DisallowedGlob, p) {
			return errs.New(errs.Invalid, "token policy %q is disallowed by this role", p)
		}
	}
	if !restricted && len(in.Policies) > 0 && !m.sudo && len(r.Disallowed) == 0 && len(r.DisallowedGlob) == 0 &&
		!subset(m.entry.Policies, append(slices.Clone(m.held()), policy.DefaultName)) {
		return errs.New(errs.Invalid, "child policies must be subset of parent")
	}
	if slices.Contains(m.entry.Policies, policy.RootName) && !m.parent.IsRoot() {
		return errs.New(errs.Invalid, "root tokens may not be created without parent token being root")
	}
	return nil
}

// globbed reports whether a name, which is in lower case, fits one of the patterns,
// which in roles of earlier versions may not be.
func globbed(globs []string, name string) bool {
	for _, g := range globs {
		if policy.Glob(strings.ToLower(g), name) {
			return true
		}
	}
	return false
}

func (e *Tokens) listRoles(_ context.Context, call *engine.Call, in paging) (*engine.Response, error) {
	names, err := call.Tx.List(roleKey(ns(call), ""), in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	return keys(names)
}

type roleNameIn struct {
	Name string `api:"role_name" help:"Name of the role."`
}

func (e *Tokens) roleExists(_ context.Context, call *engine.Call, in roleIn) (bool, error) {
	_, err := call.Tx.Get(roleKey(ns(call), in.Name))
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func (e *Tokens) readRole(_ context.Context, call *engine.Call, in roleNameIn) (*engine.Response, error) {
	r, err := getRole(call.Tx, ns(call), in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	out := map[string]any{
		"name": r.Name, "allowed_policies": list(r.AllowedPolicies), "allowed_policies_glob": list(r.AllowedGlob),
		"disallowed_policies": list(r.Disallowed), "disallowed_policies_glob": list(r.DisallowedGlob),
		"allowed_entity_aliases": r.AllowedAliases, "orphan": r.Orphan, "renewable": r.Renewable, "path_suffix": r.PathSuffix,
		"period": seconds(r.OldPeriod), "explicit_max_ttl": seconds(r.OldExplicitMax),
		"token_explicit_max_ttl": seconds(r.ExplicitMax), "token_period": seconds(r.Period),
		"token_no_default_policy": r.NoDefault, "token_type": r.Type.String(),
	}
	if len(r.BoundCIDRs) > 0 {
		out["token_bound_cidrs"] = r.BoundCIDRs
	}
	if r.NumUses > 0 {
		out["token_num_uses"] = r.NumUses
	}
	return data(out), nil
}

type roleIn struct {
	Name            string         `api:"role_name" help:"Name of the role."`
	AllowedPolicies *[]string      `api:"allowed_policies" help:"Policies that tokens may have."`
	AllowedGlob     *[]string      `api:"allowed_policies_glob" help:"Patterns of policies that tokens may have."`
	Disallowed      *[]string      `api:"disallowed_policies" help:"Policies that tokens may not have."`
	DisallowedGlob  *[]string      `api:"disallowed_policies_glob" help:"Patterns of policies that tokens may not have."`
	AllowedAliases  *[]string      `api:"allowed_entity_aliases" help:"Entity aliases that may be used."`
	Orphan          *bool          `api:"orphan" help:"Make orphans."`
	Renewable       *bool          `api:"renewable" help:"Whether tokens can be renewed."`
	PathSuffix      *string        `api:"path_suffix" help:"Added to the path of the tokens, for revoking by prefix."`
	BoundCIDRs      *[]string      `api:"token_bound_cidrs" help:"Addresses from which tokens may be used."`
	OldCIDRs        *[]string      `api:"bound_cidrs" help:"Older name of token_bound_cidrs."`
	ExplicitMax     *time.Duration `api:"token_explicit_max_ttl" help:"How long tokens can ever live."`
	OldExplicitMax  *time.Duration `api:"explicit_max_ttl" help:"Older name of token_explicit_max_ttl."`
	Period          *time.Duration `api:"token_period" help:"Make periodic tokens."`
	OldPeriod       *time.Duration `api:"period" help:"Older name of token_period."`
	NoDefault       *bool          `api:"token_no_default_policy" help:"Leave the policy default out."`
	NumUses         *int           `api:"token_num_uses" help:"How often tokens can be used."`
	Type            *string        `api:"token_type" help:"service, batch, default-service or default-batch."`
}

func (e *Tokens) writeRole(_ context.Context, call *engine.Call, in roleIn) (*engine.Response, error) {
	r, err := getRole(call.Tx, ns(call), in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		r, err = &role{Version: 1, Name: in.Name, Renewable: true, Type: engine.TokenDefaultService}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := r.apply(&in); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return nil, call.Tx.Put(roleKey(ns(call), in.Name), raw)
}

func (r *role) apply(in *roleIn) error {
	for to, from := range map[*[]string]*[]string{
		&r.AllowedPolicies: in.AllowedPolicies, &r.Disallowed: in.Disallowed,
		&r.AllowedGlob: in.AllowedGlob, &r.DisallowedGlob: in.DisallowedGlob,
	} {
		if from != nil {
			*to = core.Sanitize(*from, false)
		}
		if err := engine.CheckPolicies(*to); err != nil {
			return err
		}
	}
	if in.AllowedAliases != nil {
		r.AllowedAliases = nil
		for _, a := range *in.AllowedAliases {
			r.AllowedAliases = append(r.AllowedAliases, strings.ToLower(a))
		}
	}
	param.Take(&r.Orphan, in.Orphan)
	param.Take(&r.Renewable, in.Renewable)
	param.Take(&r.PathSuffix, in.PathSuffix)
	param.Take(&r.NoDefault, in.NoDefault)
	param.Take(&r.NumUses, in.NumUses)
	if in.BoundCIDRs == nil {
		in.BoundCIDRs = in.OldCIDRs
	}
	if in.BoundCIDRs != nil {
		if len(*in.BoundCIDRs) > engine.MaxPrefixes {
			return errs.New(errs.Invalid, "at most %d addresses and CIDR blocks can bind tokens", engine.MaxPrefixes)
		}
		r.BoundCIDRs = nil
		for _, text := range *in.BoundCIDRs {
			if p, err := parsePrefix(text); err == nil {
				text = showPrefix(p)
			}
			r.BoundCIDRs = append(r.BoundCIDRs, text)
		}
	}
	if in.OldPeriod != nil {
		r.OldPeriod, r.Period = *in.OldPeriod, *in.OldPeriod
	}
	if in.Period != nil {
		r.OldPeriod, r.Period = 0, *in.Period
	}
	if in.OldExplicitMax != nil {
		r.OldExplicitMax, r.ExplicitMax = *in.OldExplicitMax, *in.OldExplicitMax
	}
	if in.ExplicitMax != nil {
		r.OldExplicitMax, r.ExplicitMax = 0, *in.ExplicitMax
	}
	if in.Type != nil {
		switch *in.Type {
		case "":
			r.Type = engine.TokenDefaultService
		case "service", "batch", "default-service", "default-batch":
			r.Type = mount.ParseTokenType(*in.Type)
		default:
			return errs.New(errs.Invalid, "invalid 'token_type' value %q", *in.Type)
		}
	}
	if r.Type == engine.TokenBatch && !r.Orphan {
		return errs.New(errs.Invalid, "'token_type' cannot be 'batch' when role is set to generate non-orphan tokens")
	}
	if r.Type == engine.TokenBatch && r.Renewable {
		return errs.New(errs.Invalid, "'token_type' cannot be 'batch' when role is set to generate renewable tokens")
	}
	if r.Period < 0 || r.ExplicitMax < 0 || r.NumUses < 0 {
		return errs.New(errs.Invalid, "%s", fmt.Sprintf("the numbers of role %q must not be negative", r.Name))
	}
	return nil
}

func (e *Tokens) deleteRole(_ context.Context, call *engine.Call, in roleNameIn) (*engine.Response, error) {
	return nil, call.Tx.Delete(roleKey(ns(call), in.Name))
}

// RoleDir is where the token roles of a namespace lie.
func RoleDir(ns string) string { return namespace.Prefix(ns) + "t/r/" }
