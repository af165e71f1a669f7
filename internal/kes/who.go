package kes

import (
	"maps"
	"slices"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/key"
	"arca/internal/kes/policy"
	"arca/internal/kes/store"
)

var (
	errNoPolicy   = errs.New(errs.NotFound, "policy does not exist")
	errNoIdentity = errs.New(errs.NotFound, "identity does not exist")
)

// ruleSet is how the API shows rules: an object with an empty object for each.
type ruleSet map[string]struct{}

func rules(texts []string) ruleSet {
	if len(texts) == 0 {
		return nil
	}
	out := ruleSet{}
	for _, t := range texts {
		out[t] = struct{}{}
	}
	return out
}

func (r *request) policy() (*policy.Policy, error) {
	name, err := r.name()
	if err != nil {
		return nil, err
	}
	p := r.state.Policies.Policies[name]
	if p == nil {
		return nil, errNoPolicy
	}
	return p, nil
}

type policyOut struct {
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by"`
	Allow     ruleSet   `json:"allow,omitempty"`
	Deny      ruleSet   `json:"deny,omitempty"`
}

func (d *Door) describePolicy(r *request) error {
	p, err := r.policy()
	if err != nil {
		return err
	}
	return r.json(policyOut{Name: r.argument, CreatedAt: p.CreatedAt, CreatedBy: p.CreatedBy})
}

func (d *Door) readPolicy(r *request) error {
	p, err := r.policy()
	if err != nil {
		return err
	}
	return r.json(policyOut{r.argument, p.CreatedAt, p.CreatedBy, rules(p.Allow), rules(p.Deny)})
}

func (d *Door) listPolicies(r *request) error {
	return r.list("names", slices.Collect(maps.Keys(r.state.Policies.Policies)))
}

// list answers a page of names that are all in memory.
func (r *request) list(field string, all []string) error {
	prefix, from, err := key.ParsePattern(r.argument)
	if err != nil {
		return err
	}
	names, next := store.Page(all, prefix, from, maxPage)
	return r.names(field, names, prefix, next)
}

type identityOut struct {
	Identity  string    `json:"identity,omitempty"`
	Admin     bool      `json:"admin,omitempty"`
	Policy    string    `json:"policy,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by,omitempty"`
	Allow     ruleSet   `json:"allow,omitempty"`
	Deny      ruleSet   `json:"deny,omitempty"`
}

// about says what is known of an identity.
func (r *request) about(id string) (identityOut, *policy.Policy, error) {
	set := r.state.Policies
	if set.IsAdmin(id) {
		return identityOut{Admin: true, CreatedAt: set.Since}, nil, nil
	}
	name, ok := set.Identities[id]
	if !ok {
		return identityOut{}, nil, errNoIdentity
	}
	return identityOut{Policy: name, CreatedAt: set.Since, CreatedBy: set.Admin}, set.Policies[name], nil
}

func (d *Door) describeIdentity(r *request) error {
	id, err := r.name()
	if err != nil {
		return err
	}
	out, _, err := r.about(id)
	if err != nil {
		return err
	}
	return r.json(out)
}

func (d *Door) describeSelf(r *request) error {
	out, p, err := r.about(r.identity)
	if err != nil {
		return err
	}
	out.Identity = r.identity
	if p != nil {
		out.Allow, out.Deny = rules(p.Allow), rules(p.Deny)
	}
	return r.json(out)
}

func (d *Door) listIdentities(r *request) error {
	all := slices.Collect(maps.Keys(r.state.Policies.Identities))
	if admin := r.state.Policies.Admin; admin != "" {
		all = append(all, admin)
	}
	return r.list("identities", all)
}
