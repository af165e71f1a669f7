package core

import (
	"cmp"
	"slices"

	"arca/internal/activity"
	"arca/internal/token"
)

// saw has the request's caller counted among the month's clients. Root tokens and
// wrapping tokens are nobody's, as in Vault.
func (h *handling) saw() {
	tok := h.tok
	if tok == nil || tok.Wrapped != nil || h.acl.Root() && tok.EntityID == "" {
		return
	}
	ns, policies := tok.NamespaceID, tok.Policies
	if tok.EntityID != "" {
		h.a.Activity.Saw(tok.EntityID, func() activity.Client {
			return activity.Client{ID: tok.EntityID, Entity: true, Namespace: ns, Mount: tok.Mount}
		})
		return
	}
	who := func() activity.Client { return withoutEntity(ns, policies, tok.Mount) }
	key := tok.Key
	if key == "" { // a batch token has no record by which it would be known again
		key = who().ID
	}
	h.a.Activity.Saw(key, who)
}

func withoutEntity(ns string, policies []string, mount string) activity.Client {
	return activity.WithoutEntity(ns, slices.Sorted(slices.Values(policies)), mount)
}

// clientID names the client with a token as the counts of clients do; a wrapping token
// is nobody's.
func clientID(tok *token.Entry) string {
	switch {
	case tok.Wrapped != nil:
		return ""
	case tok.EntityID != "":
		return tok.EntityID
	}
	return withoutEntity(tok.NamespaceID, tok.Policies, tok.Mount).ID
}

// roleOf is the role by which a token was made, as far as it tells.
func roleOf(e *token.Entry) string {
	return cmp.Or(e.Role, e.Meta["role_name"], e.Meta["role"], e.Path)
}
