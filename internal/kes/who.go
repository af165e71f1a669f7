package kes

import (
	"time"

	"arca/internal/kes/key"
	"arca/internal/kes/policy"
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
	return r.state.Access.Policy(r.ctx, r.caller(), name)
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
	prefix, from, err := key.ParsePattern(r.argument)
	if err != nil {
		return err
	}
	if _, err := r.place(d.lists, nil); err != nil {
		return err
	}
	names, next, err := r.state.Access.Policies(r.ctx, r.caller(), prefix, from, maxPage)
	if err != nil {
		return err
	}
	return r.names("names", names, prefix, next)
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

func (d *Door) describeIdentity(r *request) error {
	id, err := r.name()
	if err != nil {
		return err
	}
	p, err := r.state.Access.Identity(r.ctx, r.caller(), id)
	if err != nil {
		return err
	}
	return r.json(identityOut{Admin: p.Admin, Policy: p.Policy, CreatedAt: p.CreatedAt, CreatedBy: p.CreatedBy})
}

func (d *Door) describeSelf(r *request) error {
	p, err := r.state.Access.Identity(r.ctx, r.caller(), "")
	if err != nil {
		return err
	}
	out := identityOut{Identity: r.identity, Admin: p.Admin, Policy: p.Policy, CreatedAt: p.CreatedAt, CreatedBy: p.CreatedBy}
	if p.Rules != nil {
		out.Allow, out.Deny = rules(p.Rules.Allow), rules(p.Rules.Deny)
	}
	return r.json(out)
}

func (d *Door) listIdentities(r *request) error {
	prefix, from, err := key.ParsePattern(r.argument)
	if err != nil {
		return err
	}
	if _, err := r.place(d.lists, nil); err != nil {
		return err
	}
	ids, next, err := r.state.Access.Identities(r.ctx, r.caller(), prefix, from, maxPage)
	if err != nil {
		return err
	}
	return r.names("identities", ids, prefix, next)
}
