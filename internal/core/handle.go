package core

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"arca/internal/audit"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/identity"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/policy"
	"arca/internal/storage"
	"arca/internal/token"
	"arca/internal/tracing"
)

// Refusals whose texts clients know.
var (
	errDenied     = errs.List(errs.Denied, "permission denied") // of a valid token
	errNoToken    = errs.New(errs.Denied, "permission denied")  // of no or a bad token
	errRootOnly   = errs.New(errs.Invalid, "operation unavailable in namespaces")
	errRootNS     = errs.New(errs.Invalid, "operation only available in root namespace")
	errTrailing   = errs.New(errs.Invalid, "cannot write to a path ending in '/'")
	errInternalOp = errs.New(errs.Invalid, "cannot handle internal-only request operation")
)

// A handling is one request on its way through the hall. What is decided once
// stays over the attempts of its transaction.
type handling struct {
	c    *Core
	a    *Active
	orig *engine.Request // as it came
	req  *engine.Request // within its namespace
	ns   *namespace.Namespace
	now  time.Time

	prev, next *handling                   // in the list of requests in flight
	client     atomic.Pointer[token.Entry] // who asks, for who looks at that list; nil until it is known

	// Of the current attempt.
	tx     storage.Tx
	call   *engine.Call
	entry  *mount.Entry
	route  *engine.Route
	tok    *token.Entry
	shown  *token.Entry     // that came along where none is needed; for the audit record only
	person *identity.Person // behind tok; nil for nobody in particular
	acl    *policy.ACL
	judged policy.Verdict
	try    try // set before the handler runs

	abroad bool // in a namespace neither tok's own nor below it

	span *tracing.Span // of the request; nil when it is not traced

	asked    any   // what the handler has learned outside
	computes bool  // an update that a standby tries in a read-only transaction
	acted    bool  // a route that acts on the outside was run
	audited  bool  // the request's record is written
	silent   bool  // ... could not be, so that nothing else is recorded
	used     bool  // the current attempt took one use off the token
	kept     error // why the current attempt fails, although it counts
	last     bool  // ... and that was the last
}

// Handle serves one request: enter, route, identify, allow, run, commit, report.
// An error has a kind; without one it is internal, and has been logged.
func (c *Core) Handle(ctx context.Context, req *engine.Request) (*engine.Response, error) {
	if rest, ok := strings.CutPrefix(req.Path, "sys/"); ok {
		if res, served, err := c.always(ctx, req, rest); served {
			return res, err
		}
	}
	a, err := c.enter()
	if err != nil {
		return nil, err
	}
	h := &handling{c: c, a: a, orig: req, req: req, ns: namespace.Root(), now: time.Now().UTC()}
	h.begin()
	res, err := h.inside(ctx)
	c.meters.done(h)
	h.trace(err)
	if h.call != nil {
		h.call.RunAfter()
	}
	if err != nil && errs.KindOf(err) == errs.Internal {
		c.log.Error("request failed", "id", req.ID, "operation", req.Op.String(), "path", req.Path, "error", err)
	}
	return res, err
}

// inside serves the request as one that is counted.
func (h *handling) inside(ctx context.Context) (*engine.Response, error) {
	defer h.a.leave()
	h.c.flights.add(h)
	defer h.c.flights.remove(h)
	return h.handle(ctx)
}

// always serves the routes of sys that a sealed node serves, too.
func (c *Core) always(ctx context.Context, req *engine.Request, rest string) (res *engine.Response, served bool, err error) {
	if req.Op == 0 { // a method without an operation, such as OPTIONS
		if c.onlyAlways(rest) {
			return nil, true, errs.New(errs.Unsupported, "")
		}
		return nil, false, nil
	}
	call := &engine.Call{Request: req, Op: req.Op, Path: rest}
	route, err := c.catalog.System().Match(req.Op, rest, call)
	if err != nil {
		if errors.Is(err, engine.ErrOperation) || req.Op == engine.OpList {
			if c.onlyAlways(rest) {
				return nil, true, errs.New(errs.Unsupported, "")
			}
		}
		return nil, false, nil // ordinary routes find their errors behind the identification
	}
	if !route.Always {
		return nil, false, nil
	}
	call.Now = time.Now().UTC()
	if err := c.limitAlways(ctx, call); err != nil {
		return nil, true, err
	}
	if route.RootOnly && req.Namespace != "" {
		return nil, true, errRootOnly
	}
	if route.Recorded {
		res, err = c.recorded(ctx, call, route)
	} else {
		res, err = route.Run(ctx, call)
	}
	call.RunAfter()
	return res, true, err
}

// onlyAlways reports whether a path of sys belongs to routes served sealed.
func (c *Core) onlyAlways(rest string) bool {
	found := false
	c.catalog.System().Patterns(strings.TrimSuffix(rest, "/"), func(_ string, routes []*engine.Route) {
		found = found || routes[0].Always
	})
	return found
}

func (h *handling) handle(ctx context.Context) (*engine.Response, error) {
	req := h.req
	if err := h.here(ctx); err != nil {
		return nil, err
	}
	if req.Op == 0 {
		return nil, errInternalOp
	}
	if err := h.limit(ctx); err != nil {
		return h.report(nil, err)
	}
	if (req.Op == engine.OpUpdate || req.Op == engine.OpCreate) && strings.HasSuffix(req.Path, "/") {
		return h.report(nil, errTrailing)
	}
	res, err := h.transact(ctx)
	if err != nil && errs.Is(err, errs.NotActive) {
		return nil, err // the door sends it to the active node, which does the rest
	}
	if err == nil {
		h.forgiveLogin()
		return h.report(res, nil)
	}
	var u *engine.Undone
	if errors.As(err, &u) && !h.used { // nothing has happened, and there is an answer
		return h.report(u.Response, nil)
	}
	if h.used && !h.silent && !errors.Is(err, storage.ErrUncertain) {
		// The attempt was undone, and with it the use of the token. (What is uncertain may be done, the use with it.)
		switch useErr := h.use(ctx); {
		case useErr == nil && u != nil: // its answer is there all the same
			res, err = u.Response, nil
		case useErr == nil:
		case !errs.Is(useErr, errs.NotActive):
			err = useErr
		case h.acted:
			err = errActedHere(useErr)
		default:
			return nil, useErr // as above
		}
	}
	return h.report(res, err)
}

// here turns away what this node cannot answer for: writes on a standby, and
// everything while it is not certain which state is the newest.
func (h *handling) here(ctx context.Context) error {
	if h.c.cfg.Cluster == nil {
		return nil
	}
	if !h.a.Leads() && !h.c.cfg.Cluster.ServesReads() {
		if err := h.c.fresh(ctx); err != nil {
			return err
		}
		return ErrStandby // it is just becoming the active one
	}
	if !h.a.Leads() {
		switch h.req.Op { //nolint:exhaustive // all others write
		case engine.OpRead, engine.OpList, engine.OpHelp, 0:
		case engine.OpUpdate:
			h.computes = h.isComputing(ctx)
			if !h.computes && h.route == nil && h.c.fresh(ctx) == nil { // its mount may be too new for this node
				h.computes = h.isComputing(ctx)
			}
			if !h.computes {
				return ErrStandby
			}
		default:
			return ErrStandby
		}
	}
	return h.c.fresh(ctx)
}

// isComputing reports whether the route of an update seldom changes anything, so
// that a standby may try it. What it finds is only a hint: the attempt looks anew.
func (h *handling) isComputing(ctx context.Context) (yes bool) {
	err := h.a.DB.View(ctx, func(tx storage.Tx) error {
		if err := h.place(tx); err != nil {
			return err
		}
		if err := h.find(tx); err != nil {
			return err
		}
		yes = h.route != nil && h.route.Computes
		return nil
	})
	return err == nil && yes
}

// transact runs the request in a transaction, and once more when its handler has
// asked somebody outside meanwhile.
func (h *handling) transact(ctx context.Context) (*engine.Response, error) {
	res, err := h.transaction(ctx)
	if err == nil {
		return res, nil
	}
	var q *engine.Question
	if !errors.As(err, &q) {
		return res, err
	}
	outside, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.a.ctx, cancel)() // sealing does not wait for others
	if h.asked, err = ask(outside, q); err != nil {
		return nil, h.judgeLogin(err)
	}
	if res, err = h.transaction(ctx); errors.As(err, &q) {
		return nil, errs.New(errs.Internal, "a handler asks again and again")
	}
	return res, err
}

// askGrace is how long a question whose context is done may take to notice it.
const askGrace = time.Second

// ask runs a question. One that goes on although its context is done is left to
// itself: it holds nothing of this node but its own memory, while its request holds
// the gate that sealing waits for.
func ask(ctx context.Context, q *engine.Question) (any, error) {
	type result struct {
		got   any
		err   error
		panic string
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.panic = fmt.Sprintf("%v, asking outside\n%s", p, debug.Stack())
			}
			done <- r
		}()
		r.got, r.err = q.Run(ctx)
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		timer := time.NewTimer(askGrace)
		defer timer.Stop()
		select {
		case r = <-done:
		case <-timer.C:
			return nil, errs.New(errs.Unavailable, "what the request asked outside did not answer in time")
		}
	}
	if r.panic != "" {
		panic(r.panic) // where the request's panics are looked after
	}
	return r.got, r.err
}

// transaction is one that only reads for what reads, until it turns out to write
// after all.
func (h *handling) transaction(ctx context.Context) (res *engine.Response, err error) {
	attempt := func(tx storage.Tx) error {
		res, err = h.attempt(ctx, tx)
		return err
	}
	switch {
	case h.req.Op == engine.OpRead, h.req.Op == engine.OpList, h.req.Op == engine.OpHelp, h.computes:
		viewErr := h.a.DB.View(ctx, attempt)
		if !errors.Is(viewErr, storage.ErrReadOnly) {
			return res, viewErr
		}
		if !h.a.Leads() {
			return nil, ErrStandby // it writes after all: a token with a limit of uses, a lease, a key that is due
		}
	}
	err = h.a.DB.Update(ctx, attempt)
	if err == nil && h.kept != nil {
		h.used = false // its use of the token counts, too
		return nil, h.kept
	}
	if err != nil && h.acted && errs.Is(err, errs.NotActive) {
		return nil, errActedHere(err)
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}

// errActedHere keeps what has acted outside from being done again elsewhere.
func errActedHere(err error) error {
	return errs.New(errs.Unavailable, "this node ceased to be the active one while the request ran: %w", err)
}

// attempt is one run of the request within tx.
func (h *handling) attempt(ctx context.Context, tx storage.Tx) (*engine.Response, error) {
	if h.acted { // all else stays as the attempt that acted left it: its caller, its use of the token, its After
		return nil, errs.New(errs.Conflict, "another request changed the same data: try again")
	}
	h.tok, h.shown, h.entry, h.route, h.used, h.last, h.kept, h.try = nil, nil, nil, nil, false, false, nil, try{}
	if err := h.place(tx); err != nil {
		return nil, h.refuse(err)
	}
	routeErr := h.find(tx)
	if errors.Is(routeErr, engine.ErrOperation) && h.open() {
		return nil, h.refuse(errs.New(errs.Unsupported, "unsupported operation"))
	}
	if h.route != nil && h.route.WriteTx && !tx.Writable() {
		return nil, storage.ErrReadOnly // it would count twice what it counts
	}
	began := h.c.meters.clock()
	span := h.child("authorize")
	defer func() { h.ended(span) }()
	err := h.identify(tx)
	h.c.meters.fetched.Since(began)
	if err != nil {
		return nil, h.refuse(err)
	}
	err = h.allow(ctx, routeErr)
	h.c.meters.checked.Since(began)
	if err != nil {
		return nil, h.refuse(err)
	}
	h.saw()
	if err := h.record(audit.Request, nil, nil); err != nil {
		return nil, err
	}
	if h.req.Op == engine.OpHelp {
		return h.help()
	}
	if err := h.checkLockout(); err != nil {
		return nil, err
	}
	if (h.route.Outside || h.route.ActiveOnly) && h.c.cfg.Cluster != nil && !h.a.Leads() {
		return nil, ErrStandby
	}
	h.acted = h.route.Outside
	h.ended(span)
	span = h.child("handle")
	res, err := h.route.Run(ctx, h.call)
	if err = h.judgeLogin(err); errors.Is(err, errNoToken) {
		return nil, err
	}
	if err != nil {
		var k *engine.Kept
		if !errors.As(err, &k) || !tx.Writable() {
			return nil, err
		}
		res, h.kept = nil, k.Err
	}
	if res != nil {
		if res, err = h.join(ctx, tx, res); err != nil {
			return nil, err
		}
	}
	if h.last {
		if err := h.a.Tokens.Revoke(tx, h.tok, h.now); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// find routes the request: mount, then the engine's route. Its error is shown
// only to who may know it.
func (h *handling) find(tx storage.Tx) error {
	h.entry, h.route = nil, nil
	h.call = &engine.Call{
		Request: h.req, Op: h.req.Op, Now: h.now, Desks: h.a, Done: h.a.Done(), NamespaceID: h.ns.ID, NamespacePath: h.ns.Path,
		Asked: h.asked, SentNamespace: h.orig.Namespace, Managed: h,
	}
	h.tx = tx
	e, rest, err := h.a.Mounts.Route(tx, h.ns.ID, h.req.Path)
	if errors.Is(err, storage.ErrNotFound) || err == nil && e.Ending {
		return errs.New(errs.NotFound, "no handler for route %q. route entry not found.", h.req.Path)
	}
	if err != nil {
		return err
	}
	if e.Engine == nil {
		return errs.New(errs.Unsupported, "this program has no engine of type %q, to which the mount %q belongs", e.Type, e.Path)
	}
	h.entry = e
	h.call.Mount, h.call.Path = e.Mount, rest
	h.call.Tx = tx
	if !e.Hall {
		h.call.Tx = e.View(tx)
	}
	if h.req.Op == engine.OpHelp {
		return nil
	}
	h.route, err = e.Routes.Match(h.req.Op, rest, h.call)
	if err == nil && h.route.Runner != (h.req.Runner != "") || h.req.Runner != "" && h.req.Runner != e.Type || err == nil && h.route.Door && !h.req.Door {
		h.route, err = nil, engine.ErrPath
	}
	if h.req.Open && err == nil && e.Type == "system" && h.ns.IsRoot() {
		open := *h.route
		open.NoToken = true
		h.route = &open
	}
	return err
}

// ManagedKey implements engine.ManagedKeys, for the mount that serves the request.
func (h *handling) ManagedKey(name, id string) (*engine.ManagedKey, error) {
	return h.a.Managed.Find(h.tx, h.entry, name, id)
}

// open reports whether the path is one for which nobody needs a token.
func (h *handling) open() (yes bool) {
	h.entry.Routes.Patterns(h.call.Path, func(_ string, routes []*engine.Route) {
		yes = yes || routes[0].NoToken && routes[0].Runner == (h.req.Runner != "") && (!routes[0].Door || h.req.Door)
	})
	return yes
}

// identify finds out who asks.
func (h *handling) identify(tx storage.Tx) error {
	h.tok, h.shown, h.person, h.acl, h.used, h.last, h.judged = nil, nil, nil, nil, false, false, policy.Verdict{}
	if h.route != nil && h.route.NoToken {
		if h.req.Token != "" && h.a.Audit.Enabled() {
			h.shown, _ = h.lookup(tx) // one that is not valid does no harm here
		}
		return nil
	}
	tok, err := h.lookup(tx)
	if err != nil {
		if h.route != nil && h.route.TokenError != nil && h.req.Token != "" && errs.Is(err, errs.Denied) {
			return h.route.TokenError
		}
		return err
	}
	h.tok = tok
	h.client.Store(tok)
	if err := h.reach(tx, tok); err != nil {
		return err
	}
	if h.person, err = h.a.PersonOf(tx, tok); errors.Is(err, token.ErrBad) {
		return errNoToken
	} else if err != nil {
		return err
	}
	if h.acl, err = h.a.aclOf(tx, tok, h.person); err != nil {
		return err
	}
	h.call.Caller = &engine.Caller{
		Accessor: tok.Accessor, DisplayName: tok.DisplayName, EntityID: tok.EntityID, Policies: inForce(tok, h.person),
		Meta: tok.Meta, Type: tok.Type, Root: h.acl.Root(), Key: tok.Key, NamespaceID: tok.NamespaceID,
		Wrapping: tok.Wrapped != nil,
	}
	if tok.NumUses == 0 {
		return nil
	}
	if !tx.Writable() {
		return storage.ErrReadOnly // come again in a transaction that can count
	}
	h.used = true
	h.last, err = h.a.Tokens.Use(tx, tok)
	h.call.Caller.LastUse = h.last
	return err
}

func (h *handling) lookup(tx storage.Tx) (*token.Entry, error) {
	defer h.c.meters.looked.Since(h.c.meters.clock())
	tok, err := h.a.Caller(tx, h.req, h.now)
	if errors.Is(err, token.ErrBad) {
		return nil, errNoToken
	}
	return tok, err
}

// Caller finds the token with which a request comes. The error is token.ErrBad
// when it is not valid, or not from where the request comes.
func (a *Active) Caller(tx storage.Tx, req *engine.Request, now time.Time) (*token.Entry, error) {
	tok, err := a.callersToken(tx, req.Token, now)
	if err != nil {
		return nil, err
	}
	if !within(tok.BoundCIDRs, req) {
		return nil, token.ErrBad
	}
	return tok, nil
}

// callersToken looks up a token as it came: a wrapping token may come as JWT.
func (a *Active) callersToken(tx storage.Tx, text string, now time.Time) (*token.Entry, error) {
	if !strings.HasPrefix(text, jwtPrefix) {
		return a.Tokens.Lookup(tx, text, now)
	}
	tok, err := a.WrappingToken(tx, text, now)
	if errors.Is(err, errNotWrapping) {
		return nil, token.ErrBad
	}
	return tok, err
}

// within reports whether a request comes from one of the prefixes; with none, all do.
func within(prefixes []netip.Prefix, req *engine.Request) bool {
	if len(prefixes) == 0 {
		return true
	}
	addr := req.Remote.Addr().Unmap().WithZone("")
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// allow decides whether the caller may do this. A path without a route is
// refused like any other to who has no right to it.
func (h *handling) allow(ctx context.Context, routeErr error) error {
	if h.route != nil && h.route.RootOnly && h.route.NoToken && !h.ns.IsRoot() {
		return errRootOnly
	}
	if h.route != nil && h.route.NoToken {
		return routeErr
	}
	if h.req.Op == engine.OpUpdate && h.route != nil && h.route.HasExists() {
		found, err := h.route.Exists(ctx, h.call)
		if err != nil {
			return err
		}
		if !found {
			h.call.Op = engine.OpCreate
		}
	}
	path := h.req.Path
	if h.entry != nil && h.call.Path == "" && !strings.HasSuffix(path, "/") {
		path += "/" // a mount's name without its slash
	}
	v := h.acl.Allows(&policy.Request{Op: h.call.Op, Path: h.ns.Path + path, Params: h.req.Params, WrapTTL: h.req.WrapTTL})
	h.judged = v
	// Help is for everybody within their namespaces; elsewhere it tells what is there.
	strange := h.abroad && h.req.Op == engine.OpHelp && (h.entry == nil || !h.acl.Below(h.ns.Path+h.entry.Path))
	if strange {
		h.judged = policy.Verdict{}
	}
	if !h.judged.Allowed {
		return errDenied
	}
	if h.route != nil && h.route.Sudo && !v.Sudo {
		h.judged = policy.Verdict{}
		return errDenied
	}
	if h.route != nil && h.route.RootOnly && !h.ns.IsRoot() {
		return errRootNS
	}
	return routeErr
}

// refuse records a refusal and returns it. That a path leads nowhere is no
// refusal to who may know it.
func (h *handling) refuse(err error) error {
	if errors.Is(err, storage.ErrReadOnly) {
		return err
	}
	cause := err
	if h.judged.Allowed {
		cause = nil
	}
	if auditErr := h.record(audit.Request, nil, cause); auditErr != nil {
		return auditErr
	}
	return err
}

// use takes the use of a token that a failed request made, also when the client
// has gone meanwhile. When others have taken all uses since the attempt, the
// error is that of a bad token: no more requests are answered than it has uses.
func (h *handling) use(ctx context.Context) error {
	return h.a.DB.Update(context.WithoutCancel(ctx), func(tx storage.Tx) error {
		tok, err := h.a.Tokens.ByKey(tx, h.tok.NamespaceID, h.tok.Key, h.now)
		if errors.Is(err, token.ErrBad) {
			return errNoToken
		}
		if err != nil {
			return err
		}
		last, err := h.a.Tokens.Use(tx, tok)
		if err != nil || !last {
			return err
		}
		return h.a.Tokens.Revoke(tx, tok, h.now)
	})
}
