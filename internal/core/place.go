package core

import (
	"errors"
	"strings"

	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
	"arca/internal/token"
)

// unlockPath is what a locked namespace still serves: the way to open it.
const unlockPath = "sys/namespaces/api-lock/unlock"

// place finds the namespace that the request is about, by its header and by the
// names of namespaces in front of its path, and brings path and namespace into
// the form that all the rest sees.
func (h *handling) place(tx storage.Tx) error {
	h.req, h.ns = h.orig, namespace.Root()
	p, err := h.a.Namespaces.Resolve(tx, h.orig.Namespace)
	if err != nil {
		return err
	}
	header := p.Namespace
	p.Rest = h.orig.Path
	if h.orig.Runner == "" { // an engine that runs names the namespace of its mount
		if err := h.a.Namespaces.Descend(tx, &p, h.orig.Path); err != nil {
			return err
		}
	}
	h.ns = p.Namespace
	if h.ns != header || h.ns.Path != h.orig.Namespace {
		r := *h.orig
		r.Namespace, r.Path = h.ns.Path, p.Rest
		h.req = &r
	}
	if p.IsLocked() && !unlocks(p.Rest) {
		return errLocked(p.Locked)
	}
	return nil
}

// unlocks reports whether a path is served in a locked namespace.
func unlocks(path string) bool {
	return path == unlockPath || strings.HasPrefix(path, unlockPath+"/")
}

func errLocked(path string) error {
	return errs.New(errs.Unavailable,
		"API access to this namespace has been locked by an administrator - %q must be unlocked to gain access.", path)
}

// reach decides whether a token may be used in the request's namespace: its own,
// one below, or any where policies of groups hold in all namespaces.
func (h *handling) reach(tx storage.Tx, tok *token.Entry) error {
	if h.abroad = false; tok.NamespaceID == h.ns.ID {
		return nil
	}
	own, err := h.a.Namespaces.ByID(tx, tok.NamespaceID)
	if errors.Is(err, namespace.ErrNotFound) {
		return errNoToken // its namespace is gone
	}
	if err != nil {
		return err
	}
	if h.aboutItself(tok) {
		return h.goHome(tx, own)
	}
	how, err := h.a.reaches(tx, own.ID, h.ns)
	if err == nil && how == unreachable {
		err = errDenied
	}
	h.abroad = how == abroad
	return err
}

// aboutItself reports whether a request is about nothing but the token with
// which it comes: such requests are served in the token's own namespace,
// wherever they were sent.
func (h *handling) aboutItself(tok *token.Entry) bool {
	switch h.req.Path {
	case "auth/token/lookup-self", "auth/token/renew-self", "auth/token/revoke-self", "sys/policies/explain-self":
		return true
	case "sys/wrapping/unwrap", "sys/wrapping/lookup", "sys/wrapping/rewrap", "cubbyhole/response":
		return tok.Wrapped != nil
	}
	return false
}

// goHome takes the request into the token's own namespace.
func (h *handling) goHome(tx storage.Tx, own *namespace.Namespace) error {
	p, err := h.a.Namespaces.Resolve(tx, own.Path)
	if err != nil {
		return err
	}
	if p.IsLocked() {
		return errLocked(p.Locked)
	}
	h.ns = own
	r := *h.req
	r.Namespace = own.Path
	h.req = &r
	return h.find(tx)
}
