package core

import (
	"errors"
	"slices"

	"arca/internal/engine"
	"arca/internal/identity"
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
	p, err := a.Identity.Person(tx, tok.NamespaceID, tok.EntityID)
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
	set := policy.Set{NamespaceID: tok.NamespaceID, Names: inForce(tok, p)}
	if p == nil {
		return a.Policies.ACL(tx, set, nil)
	}
	return a.Policies.ACL(tx, set, p)
}

// inForce names a token's policies with those of who stands behind it, sorted.
func inForce(tok *token.Entry, p *identity.Person) []string {
	if p == nil || len(p.Policies) == 0 {
		return tok.Policies
	}
	return union(tok.Policies, p.Policies)
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
	if err != nil || p == nil || len(p.Policies) == 0 {
		return err
	}
	auth.IdentityPolicies, auth.Policies = p.Policies, union(tok.Policies, p.Policies)
	return nil
}
