package core

import (
	"errors"
	"slices"

	"arca/internal/engine"
	"arca/internal/identity"
	"arca/internal/namespace"
	"arca/internal/policy"
	"arca/internal/storage"
	"arca/internal/token"
)

// PersonOf finds who stands behind a token; nil is a token of nobody in
// particular. The error is token.ErrBad when its entity is gone or switched off.
func (a *Active) PersonOf(tx storage.Tx, tok *token.Entry) (*identity.Person, error) {
	if tok.EntityID == "" {
		return nil, nil
	}
	p, err := a.Identity.Person(tx, tok.EntityID)
	if errors.Is(err, identity.ErrNotFound) || errors.Is(err, identity.ErrDisabled) {
		return nil, token.ErrBad
	}
	return p, err
}

// ACLOf compiles what a token may do: by its own policies and those of who
// stands behind it, as they are now.
func (a *Active) ACLOf(tx storage.Tx, tok *token.Entry) (*policy.ACL, error) {
	p, err := a.PersonOf(tx, tok)
	if err != nil {
		return nil, err
	}
	return a.aclOf(tx, tok, p)
}

func (a *Active) aclOf(tx storage.Tx, tok *token.Entry, p *identity.Person) (*policy.ACL, error) {
	var buf [4]policy.Set
	sets, err := a.setsOf(tx, tok, p, buf[:0])
	if err != nil {
		return nil, err
	}
	if p == nil {
		return a.Policies.ACL(tx, sets, nil)
	}
	return a.Policies.ACL(tx, sets, p)
}

// setsOf appends the policies in force for a token, those of its own namespace
// first.
func (a *Active) setsOf(tx storage.Tx, tok *token.Entry, p *identity.Person, sets []policy.Set) ([]policy.Set, error) {
	own, err := a.Namespaces.ByID(tx, tok.NamespaceID)
	if errors.Is(err, namespace.ErrNotFound) {
		return nil, token.ErrBad
	}
	if err != nil {
		return nil, err
	}
	sets = append(sets, policy.Set{NamespaceID: own.ID, Path: own.Path, Names: inForce(tok, p), Wrapping: tok.Wrapped != nil})
	if p == nil {
		return sets, nil
	}
	for _, id := range p.Elsewhere(own.ID) {
		n, ok, err := a.holds(tx, own, id)
		if err != nil {
			return nil, err
		}
		if ok {
			sets = append(sets, policy.Set{NamespaceID: id, Path: n.Path, Names: p.PoliciesIn(id)})
		}
	}
	for _, id := range p.Crowded {
		n, err := a.Namespaces.ByID(tx, id)
		if errors.Is(err, namespace.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sets = append(sets, policy.Set{NamespaceID: id, Path: n.Path, Closed: true})
	}
	return sets, nil
}

// holds reports whether policies of another namespace hold for tokens of this
// one: when one of the two is above the other, or everywhere, as
// https://developer.hashicorp.com/vault/api-docs/system/config-group-policy-application
// has it.
func (a *Active) holds(tx storage.Tx, own *namespace.Namespace, id string) (*namespace.Namespace, bool, error) {
	n, err := a.Namespaces.ByID(tx, id)
	if errors.Is(err, namespace.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	_, below := n.Below(own)
	_, above := own.Below(n)
	if below || above {
		return n, true, nil
	}
	all, err := a.Identity.AllNamespaces(tx)
	return n, all, err
}

// ElsewherePolicies are the policies of other namespaces that hold for a token,
// by the paths of these.
func (a *Active) ElsewherePolicies(tx storage.Tx, tok *token.Entry, p *identity.Person) (map[string][]string, error) {
	out := map[string][]string{}
	if p == nil {
		return out, nil
	}
	own, err := a.Namespaces.ByID(tx, tok.NamespaceID)
	if err != nil {
		return nil, err
	}
	for _, id := range p.Elsewhere(own.ID) {
		if n, ok, err := a.holds(tx, own, id); err != nil {
			return nil, err
		} else if ok {
			out[n.Path] = p.PoliciesIn(id)
		}
	}
	return out, nil
}

// inForce names a token's policies with those of who stands behind it, sorted.
func inForce(tok *token.Entry, p *identity.Person) []string {
	if p == nil || len(p.PoliciesIn(tok.NamespaceID)) == 0 {
		return tok.Policies
	}
	return union(tok.Policies, p.PoliciesIn(tok.NamespaceID))
}

func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// meet finds or makes the entity of who logs in, as the method names them.
func (h *handling) meet(tx storage.Tx, auth *engine.Auth) error {
	if auth.Alias == nil {
		return nil
	}
	l := identity.Login{HasGroups: auth.GroupAliases != nil, Alias: h.alias(auth.Alias)}
	for i := range auth.GroupAliases {
		l.Groups = append(l.Groups, h.alias(&auth.GroupAliases[i]))
	}
	e, created, err := h.a.Identity.Login(tx, h.ns.ID, &l, h.now)
	if errors.Is(err, identity.ErrDisabled) {
		return errNoToken
	}
	if err != nil {
		return err
	}
	auth.EntityID, auth.EntityCreated = e.ID, created
	return nil
}

func (h *handling) alias(a *engine.Alias) identity.Alias {
	m := h.entry.Mount
	return identity.Alias{
		Name: a.Name, MountAccessor: m.Accessor, MountType: m.Type, MountPath: m.Path, Metadata: a.Metadata, Local: m.Local,
	}
}

// ShowIdentity adds to the answer's account of a token what its entity adds.
func (a *Active) ShowIdentity(tx storage.Tx, auth *engine.Auth, tok *token.Entry) error {
	p, err := a.PersonOf(tx, tok)
	if err != nil || p == nil || len(p.PoliciesIn(tok.NamespaceID)) == 0 {
		return err
	}
	auth.IdentityPolicies, auth.Policies = p.PoliciesIn(tok.NamespaceID), inForce(tok, p)
	return nil
}
