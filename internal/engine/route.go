package engine

import (
	"context"
	"reflect"
	"slices"
	"sort"
	"strings"

	"arca/internal/errs"
	"arca/internal/param"
)

// A Handler serves one operation of one route.
type Handler[In any] func(ctx context.Context, call *Call, in In) (*Response, error)

// A Route is one operation on one pattern of paths, with all that the hall,
// path-help, OpenAPI and the command line need to know about it.
//
// A pattern is made of literal segments, {name} for one segment, and at most
// one {name...} for any number of segments, also none, or {name+} for one or more;
// behind it only literals may follow ("mounts/{path...}/tune").
type Route struct {
	Pattern string
	Op      Operation // OpUpdate stands for create and update
	Schema  *param.Schema

	Summary     string // one line, for path-help and OpenAPI
	Description string
	OperationID string // of OpenAPI

	NoToken     bool // served without a client token
	Sudo        bool // needs the sudo capability, or root
	Always      bool // served sealed, too: no token, no transaction, no audit but Recorded's
	Recorded    bool // Always, but in the audit log while the node is not sealed, without what was sent and answered
	Outside     bool // acts on the outside: never run twice
	RootOnly    bool // exists in the root namespace only
	TopLevel    bool // the answer's members are repeated beside "data"
	Login       bool // gives tokens: counted as a login, its token is made by the hall
	TakesRaw    bool // looks at Request.Raw
	Runner      bool // served to the engine's own Runner only; to others it is not there
	Door        bool // served to doors only (Request.Door), without a token; to others it is not there
	NoParamWarn bool // unknown parameters pass in silence
	ActiveOnly  bool // rests on what only the active node knows: a standby does not serve it
	WriteTx     bool // a read that always writes: skip the attempt in a read-only transaction
	Computes    bool // an update by its method that seldom changes anything: a standby tries it, too
	// TokenError replaces the refusal of a token that is not valid.
	TokenError error

	run    func(ctx context.Context, call *Call) (*Response, error)
	exists func(ctx context.Context, call *Call) (bool, error)
	// What a login's input says: for whom it is tried, and for which role.
	loginName func(call *Call) string
	loginRole func(ctx context.Context, call *Call) (string, error)
}

// An Option adds a fact to a route.
type Option func(*Route)

// Help gives a route its one-line summary.
func Help(summary string) Option { return func(r *Route) { r.Summary = summary } }

// ID gives a route its OpenAPI operation id.
func ID(id string) Option { return func(r *Route) { r.OperationID = id } }

// The facts about a route; see Route.
var (
	NoToken     Option = func(r *Route) { r.NoToken = true }
	Sudo        Option = func(r *Route) { r.Sudo = true }
	Always      Option = func(r *Route) { r.Always, r.NoToken = true, true }
	Recorded    Option = func(r *Route) { r.Recorded = true }
	ActsOutside Option = func(r *Route) { r.Outside = true }
	RootOnly    Option = func(r *Route) { r.RootOnly = true }
	TopLevel    Option = func(r *Route) { r.TopLevel = true }
	Login       Option = func(r *Route) { r.Login, r.NoToken = true, true }
	TakesRaw    Option = func(r *Route) { r.TakesRaw = true }
	ForDoor     Option = func(r *Route) { r.Door, r.NoToken = true, true }
	ForRunner   Option = func(r *Route) { r.Runner, r.NoToken, r.TakesRaw = true, true, true }
	NoParamWarn Option = func(r *Route) { r.NoParamWarn = true }
	ActiveOnly  Option = func(r *Route) { r.ActiveOnly = true }
	WriteTx     Option = func(r *Route) { r.WriteTx = true }
	Computes    Option = func(r *Route) { r.Computes = true }
)

// TokenError gives a route its own refusal of a token that is not valid.
func TokenError(err error) Option { return func(r *Route) { r.TokenError = err } }

// Exists gives a write route its existence check: without a match the write is
// a create. A route without one only ever updates.
func Exists[In any](check func(ctx context.Context, call *Call, in In) (bool, error)) Option {
	return func(r *Route) {
		schema := param.NewSchema(reflect.TypeFor[In]())
		r.exists = func(ctx context.Context, call *Call) (bool, error) {
			var in In
			if _, _, err := schema.Decode(call.input(), &in); err != nil {
				return false, err
			}
			return check(ctx, call, in)
		}
	}
}

// LoginName gives a route of logins the name for which one is tried, as its handler
// reads it: in one form, or "" when there is none to count failures for.
func LoginName[In any](name func(call *Call, in In) string) Option {
	return func(r *Route) {
		schema := param.NewSchema(reflect.TypeFor[In]())
		r.loginName = func(call *Call) string {
			in, o := new(In), odd{}
			var err error
			if o.ignored, o.replaced, err = schema.Decode(call.input(), in); err != nil {
				return "" // the handler does not get it either
			}
			call.taken, call.odd = in, o
			return name(call, *in)
		}
	}
}

// LoginRole gives a route of logins the mount's role for which one is tried, as its
// handler reads it, for quotas of roles; "" is none that exists. The call has no
// caller, and is looked at before the login is tried, and afterwards.
func LoginRole[In any](role func(ctx context.Context, call *Call, in In) (string, error)) Option {
	return func(r *Route) {
		schema := param.NewSchema(reflect.TypeFor[In]())
		r.loginRole = func(ctx context.Context, call *Call) (string, error) {
			var in In
			if _, _, err := schema.Decode(call.input(), &in); err != nil {
				return "", nil //nolint:nilerr // as above
			}
			return role(ctx, call, in)
		}
	}
}

// None is the input of a handler that takes no parameters.
type None struct{}

// Read declares a read.
func Read[In any](pattern string, h Handler[In], opts ...Option) Route {
	return route(OpRead, pattern, h, opts)
}

// List declares a listing. A trailing slash of the request does not reach it.
func List[In any](pattern string, h Handler[In], opts ...Option) Route {
	return route(OpList, pattern, h, opts)
}

// Write declares a create or update.
func Write[In any](pattern string, h Handler[In], opts ...Option) Route {
	return route(OpUpdate, pattern, h, opts)
}

// Patch declares a merge patch (RFC 7396).
func Patch[In any](pattern string, h Handler[In], opts ...Option) Route {
	return route(OpPatch, pattern, h, opts)
}

// Delete declares a deletion.
func Delete[In any](pattern string, h Handler[In], opts ...Option) Route {
	return route(OpDelete, pattern, h, opts)
}

func route[In any](op Operation, pattern string, h Handler[In], opts []Option) Route {
	r := declare(op, pattern, reflect.TypeFor[In](), opts)
	schema, quiet := r.Schema, r.NoParamWarn
	r.run = func(ctx context.Context, call *Call) (*Response, error) {
		in, taken := call.taken.(*In)
		odd := call.odd
		if !taken {
			in = new(In)
			var err error
			if odd, err = decode(schema, quiet, call, in); err != nil {
				return nil, err
			}
		}
		res, err := h(ctx, call, *in)
		return odd.warn(call, quiet, res, err)
	}
	return r
}

// What of route does not depend on the type of the input stands outside it: it is
// there once in the binary, and not for each of some hundred types.

func declare(op Operation, pattern string, in reflect.Type, opts []Option) Route {
	r := Route{Pattern: pattern, Op: op, Schema: param.NewSchema(in)}
	for _, o := range opts {
		o(&r)
	}
	return r
}

// An odd is what of a request's parameters a caller may not expect.
type odd struct{ ignored, replaced []string }

func decode(schema *param.Schema, quiet bool, call *Call, in any) (o odd, err error) {
	if quiet && schema.Empty() { // nothing is taken, and nobody hears of what is left
		return o, nil
	}
	if o.ignored, o.replaced, err = schema.Decode(call.input(), in); err != nil {
		return o, errs.New(errs.Invalid, "Field validation failed: %s", err.Error())
	}
	return o, nil
}

// warn passes on how a handler has ended, with warnings beside an answer.
func (o *odd) warn(call *Call, quiet bool, res *Response, err error) (*Response, error) {
	if err != nil || res == nil || quiet {
		return res, err
	}
	if len(o.ignored) > 0 {
		call.Warn("Endpoint ignored these unrecognized parameters: [%s]", strings.Join(o.ignored, " "))
	}
	if len(o.replaced) > 0 {
		call.Warn("Endpoint replaced the value of these parameters with the values captured from the endpoint's path: [%s]", strings.Join(o.replaced, " "))
	}
	return res, nil
}

// Run serves the call. Warnings of the call are moved to the answer.
func (r *Route) Run(ctx context.Context, call *Call) (*Response, error) {
	res, err := r.run(ctx, call)
	if res != nil {
		res.Warnings = append(res.Warnings, call.warnings...)
		res.TopLevel = res.TopLevel || r.TopLevel
	}
	return res, err
}

// HasExists reports whether the route tells create from update.
func (r *Route) HasExists() bool { return r.exists != nil }

// LoginName is for whom the call is a login; "" is nobody.
func (r *Route) LoginName(call *Call) string {
	if r.loginName == nil {
		return ""
	}
	return r.loginName(call)
}

// LoginRole is the role for which the call is a login; "" is none.
func (r *Route) LoginRole(ctx context.Context, call *Call) (string, error) {
	if r.loginRole == nil {
		return "", nil
	}
	return r.loginRole(ctx, call)
}

// Exists runs the existence check.
func (r *Route) Exists(ctx context.Context, call *Call) (bool, error) {
	return r.exists(ctx, call)
}

type captures []param.Member

func (c *Call) input() param.Input {
	in := param.Input{Path: c.captures}
	if c.Request != nil {
		in.Body = c.Request.Params
	}
	return in
}

// Errors of Table.Match. The texts are those of Vault.
var (
	ErrPath      = errs.List(errs.NotFound, "unsupported path")
	ErrOperation = errs.List(errs.Unsupported, "unsupported operation")
)

// A Table finds the route of a path. It is immutable.
type Table struct {
	Routes []Route
	heads  map[string][]*pattern // by first literal segment
	open   []*pattern            // patterns that begin with a capture
	roles  bool                  // some route tells the role of a login
}

// NamesRoles reports whether logins are for roles.
func (t *Table) NamesRoles() bool { return t.roles }

// AnyCase reports whether part of a path is a name whose case means nothing.
func (t *Table) AnyCase(path string) bool {
	head, _, _ := strings.Cut(path, "/")
	for _, list := range [2][]*pattern{t.heads[head], t.open} {
		for _, p := range list {
			if _, ok := p.match(path, nil); ok {
				return p.anyCase
			}
		}
	}
	return false
}

// pattern groups the operations of one path pattern.
type pattern struct {
	before []segment // up to the rest, or all
	rest   string    // name of the {rest...} or {rest+}, or ""
	some   bool      // of a {rest+}, which is not empty
	after  []segment // literals behind the rest
	ops    [OpHelp]*Route
	text   string

	anyCase bool // it captures a name whose case means nothing
}

type segment struct {
	literal string
	name    string // of a capture
}

// NewTable compiles the routes of an engine. It panics on a bad or repeated
// pattern, which is a mistake in our own code.
func NewTable(routes []Route) *Table {
	t := &Table{Routes: routes, heads: map[string][]*pattern{}}
	byText := map[string]*pattern{}
	var all []*pattern
	for i := range routes {
		r := &routes[i]
		p := byText[r.Pattern]
		if p == nil {
			p = compile(r.Pattern)
			byText[r.Pattern] = p
			all = append(all, p)
		}
		if p.ops[r.Op-1] != nil {
			panic("engine: two routes for " + r.Op.String() + " " + r.Pattern)
		}
		p.ops[r.Op-1] = r
		t.roles = t.roles || r.loginRole != nil
		for _, f := range r.Schema.Fields() {
			p.anyCase = p.anyCase || f.AnyCase && p.captures(f.Name)
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].moreSpecific(all[j]) })
	for _, p := range all {
		if len(p.before) > 0 && p.before[0].name == "" {
			head := p.before[0].literal
			t.heads[head] = append(t.heads[head], p)
		} else {
			t.open = append(t.open, p)
		}
	}
	return t
}

func compile(text string) *pattern {
	p := &pattern{text: text}
	if text == "" {
		return p
	}
	for part := range strings.SplitSeq(text, "/") {
		name, isCapture := strings.CutPrefix(part, "{")
		name = strings.TrimSuffix(name, "}")
		rest := strings.HasSuffix(name, "...")
		if some, ok := strings.CutSuffix(name, "+"); isCapture && ok {
			name, rest, p.some = some, true, true
		}
		switch {
		case isCapture && rest:
			if p.rest != "" {
				panic("engine: two rests in " + text)
			}
			p.rest = strings.TrimSuffix(name, "...")
		case p.rest != "":
			if isCapture {
				panic("engine: capture behind {...} in " + text)
			}
			p.after = append(p.after, segment{literal: part})
		case isCapture:
			p.before = append(p.before, segment{name: name})
		default:
			p.before = append(p.before, segment{literal: part})
		}
	}
	return p
}

// IsCaptured reports whether a parameter comes from the route's path.
func (r *Route) IsCaptured(name string) bool {
	return strings.Contains(r.Pattern, "{"+name+"}") || strings.Contains(r.Pattern, "{"+name+"...}") || strings.Contains(r.Pattern, "{"+name+"+}")
}

// captures reports whether the pattern has a capture of this name.
func (p *pattern) captures(name string) bool {
	return p.rest == name || slices.ContainsFunc(p.before, func(s segment) bool { return s.name == name })
}

// moreSpecific orders patterns so that the first that fits is the right one:
// literals before captures, captures before {...}, longer before shorter.
func (p *pattern) moreSpecific(q *pattern) bool {
	for i := 0; i < len(p.before) && i < len(q.before); i++ {
		pl, ql := p.before[i].name == "", q.before[i].name == ""
		if pl != ql {
			return pl
		}
	}
	if (p.rest == "") != (q.rest == "") {
		if len(p.before) == len(q.before) {
			return p.rest == ""
		}
	}
	if len(p.before) != len(q.before) {
		return len(p.before) > len(q.before)
	}
	return len(p.after) > len(q.after)
}

// match reports whether path fits and appends the captures.
func (p *pattern) match(path string, caps []param.Member) ([]param.Member, bool) {
	left := path
	more := path != ""
	for i, s := range p.before {
		if !more {
			return nil, false
		}
		var part string
		part, left, more = strings.Cut(left, "/")
		last := i == len(p.before)-1
		if s.name == "" {
			if part != s.literal {
				return nil, false
			}
		} else {
			if part == "" {
				return nil, false
			}
			caps = append(caps, param.Member{Key: s.name, Value: []byte(part)})
		}
		if last && more && p.rest == "" {
			return nil, false // something, if only a slash, is left
		}
	}
	if p.rest == "" {
		return caps, len(p.before) > 0 || path == ""
	}
	for i := len(p.after) - 1; i >= 0; i-- {
		cut := strings.LastIndexByte(left, '/')
		if left[cut+1:] != p.after[i].literal || cut < 0 {
			return nil, false
		}
		left = left[:cut]
	}
	if p.some && left == "" {
		return nil, false
	}
	return append(caps, param.Member{Key: p.rest, Value: []byte(left)}), true
}

// Match finds the route for op on path, and prepares call with its captures.
// It fails with ErrPath or ErrOperation.
func (t *Table) Match(op Operation, path string, call *Call) (*Route, error) {
	if op == OpList {
		path = strings.TrimSuffix(path, "/")
	}
	if op == OpCreate {
		op = OpUpdate
	}
	head, _, _ := strings.Cut(path, "/")
	for _, list := range [2][]*pattern{t.heads[head], t.open} {
		for _, p := range list {
			caps, ok := p.match(path, call.captures[:0])
			if !ok || len(caps) > 0 && p.rest != "" && len(caps[len(caps)-1].Value) == 0 && op != OpList && !strings.HasSuffix(path, "/") && path != "" {
				continue
			}
			if r := p.ops[op-1]; r != nil {
				call.captures = caps
				return r, nil
			}
			// The most specific pattern decides. A listing's path ends with a
			// slash, which only an open end takes.
			if op != OpList || p.rest != "" && len(caps[len(caps)-1].Value) > 0 {
				return nil, ErrOperation
			}
		}
	}
	return nil, ErrPath
}

// Patterns calls fn for each pattern that fits path, with all its operations.
// Path-help uses it.
func (t *Table) Patterns(path string, fn func(pattern string, routes []*Route)) {
	head, _, _ := strings.Cut(path, "/")
	for _, list := range [2][]*pattern{t.heads[head], t.open} {
		for _, p := range list {
			if _, ok := p.match(path, nil); !ok {
				continue
			}
			var rs []*Route
			for _, r := range p.ops {
				if r != nil {
					rs = append(rs, r)
				}
			}
			fn(p.text, rs)
		}
	}
}
