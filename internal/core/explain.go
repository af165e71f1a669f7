package core

import (
	"errors"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/namespace"
	"arca/internal/param"
	"arca/internal/policy"
	"arca/internal/storage"
	"arca/internal/token"
)

// A Query asks what a request would meet. Its namespace and path are as a client
// sends them.
type Query struct {
	Op engine.Operation
	// Write asks for a create or an update, whichever the path would make of it.
	Write     bool
	Namespace string
	Path      string
	Params    param.Object
	WrapTTL   time.Duration
}

// An Account tells what a request would meet, and by which rules.
type Account struct {
	policy.Explanation
	Allowed   bool
	Reason    string // one of a fixed list of words
	Op        engine.Operation
	As        []engine.Operation // of a write, what is allowed
	Namespace string
	Path      string // within Namespace
	NoRoute   bool   // allowed, but nothing is there
}

// Explain judges a request of the holder of acl, whose token belongs to the
// namespace with the id own. It follows the way of a request, without running
// it and without looking whether what it writes exists.
func (a *Active) Explain(tx storage.Tx, acl *policy.ACL, own string, q *Query) (*Account, error) {
	out := &Account{Op: q.Op, Namespace: q.Namespace, Path: q.Path}
	p, err := a.Namespaces.Resolve(tx, q.Namespace)
	if errors.Is(err, namespace.ErrNotFound) {
		out.Reason = "namespace_unreachable" // or not there, which is nobody's business
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	if err := a.Namespaces.Descend(tx, &p, q.Path); err != nil {
		return nil, err
	}
	how, err := a.reaches(tx, own, p.Namespace)
	if err != nil {
		return nil, err
	}
	if how == unreachable {
		out.Reason = "namespace_unreachable"
		return out, nil
	}
	n := p.Namespace
	out.Namespace, out.Path = n.Path, p.Rest
	if p.IsLocked() && !unlocks(p.Rest) {
		out.Reason = "namespace_locked"
		return out, nil
	}
	route, path, err := a.routeOf(tx, n.ID, q.Op, p.Rest)
	if err != nil {
		return nil, err
	}
	out.judge(acl, q, route, n.Path+path)
	if out.Allowed && route != nil && route.RootOnly && !n.IsRoot() {
		out.Allowed, out.Reason = false, "root_namespace_only"
	}
	return out, nil
}

// routeOf finds the route of a path, nil where there is none, and the path as
// policies see it.
func (a *Active) routeOf(tx storage.Tx, ns string, op engine.Operation, path string) (*engine.Route, string, error) {
	e, rest, err := a.Mounts.Route(tx, ns, path)
	if errors.Is(err, storage.ErrNotFound) || err == nil && e.Ending {
		return nil, path, nil
	}
	if err != nil {
		return nil, path, err
	}
	if rest == "" && !strings.HasSuffix(path, "/") {
		path += "/" // a mount's name without its slash
	}
	if e.Engine == nil || op == engine.OpHelp {
		return nil, path, nil
	}
	route, err := e.Routes.Match(op, rest, &engine.Call{})
	if err != nil {
		return nil, path, nil //nolint:nilerr // that a path leads nowhere is an answer
	}
	return route, path, nil
}

func (x *Account) judge(acl *policy.ACL, q *Query, route *engine.Route, path string) {
	if route != nil && route.NoToken {
		x.Allowed, x.Reason = true, "no_token_needed"
		return
	}
	ask := func(op engine.Operation) policy.Explanation {
		return acl.Explain(&policy.Request{Op: op, Path: path, Params: q.Params, WrapTTL: q.WrapTTL})
	}
	x.Explanation = ask(q.Op)
	x.Allowed, x.Reason = x.Verdict.Allowed, x.Why.String()
	if q.Write {
		x.As = nil
		creates := route != nil && route.HasExists()
		if x.Allowed {
			x.As = append(x.As, engine.OpUpdate)
		}
		if creates {
			c := ask(engine.OpCreate)
			if c.Verdict.Allowed {
				x.As = append(x.As, engine.OpCreate)
			} else if x.Allowed {
				x.Explanation, x.Op = c, engine.OpCreate
				x.Allowed, x.Reason = false, c.Why.String()
			}
		}
	}
	if !x.Allowed {
		return
	}
	x.NoRoute = route == nil && q.Op != engine.OpHelp
	if route != nil && route.Sudo && !x.Sudo {
		x.Allowed, x.Reason = false, "sudo_required"
	}
}

// A reached says how a namespace is reached from that of a token.
type reached uint8

const (
	unreachable reached = iota
	atHome              // its own, or one below
	abroad              // any other, where policies of groups hold in all namespaces
)

// reaches reports whether a token of the namespace own may be used in n. One of a
// locked namespace is not used abroad.
func (a *Active) reaches(tx storage.Tx, own string, n *namespace.Namespace) (reached, error) {
	if own == n.ID {
		return atHome, nil
	}
	home, err := a.Namespaces.ByID(tx, own)
	if errors.Is(err, namespace.ErrNotFound) {
		return unreachable, nil
	}
	if err != nil {
		return unreachable, err
	}
	if _, ok := n.Below(home); ok {
		return atHome, nil
	}
	if all, err := a.Identity.AllNamespaces(tx); err != nil || !all {
		return unreachable, err
	}
	p, err := a.Namespaces.Resolve(tx, home.Path)
	if err != nil || p.IsLocked() {
		return unreachable, err
	}
	return abroad, nil
}

// PolicySets names the policies in force for a token, by namespace.
func (a *Active) PolicySets(tx storage.Tx, tok *token.Entry) ([]policy.Set, error) {
	p, err := a.PersonOf(tx, tok)
	if err != nil {
		return nil, err
	}
	return a.setsOf(tx, tok, p, nil)
}

// ProposedACL is what a token could do with other texts of some policies of a
// namespace, by name.
func (a *Active) ProposedACL(tx storage.Tx, tok *token.Entry, ns string, texts map[string]*policy.Policy) (*policy.ACL, error) {
	p, err := a.PersonOf(tx, tok)
	if err != nil {
		return nil, err
	}
	sets, err := a.setsOf(tx, tok, p, nil)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return a.Policies.Proposed(tx, sets, nil, ns, texts)
	}
	return a.Policies.Proposed(tx, sets, p, ns, texts)
}
