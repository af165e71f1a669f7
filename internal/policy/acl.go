package policy

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/namespace"
	"arca/internal/param"
)

// An ACL is what several policies together allow. It is immutable.
type ACL struct {
	root   bool
	exact  map[string]*Rule
	prefix map[string]*Rule
	lens   []int       // lengths of the keys of prefix, longest first
	wild   []*wildRule // most specific first
	// void are rules whose templates have no value for the caller, or one with a slash.
	void []Source
	// closed are paths of namespaces in which nothing is allowed.
	closed []string
}

type wildRule struct {
	*Rule
	parts []part
	open  bool // ends with *, which the last part does not have
	first int  // index of the first + in Path
	plus  int  // number of +
}

// A part is one segment of a pattern's path. What a template stands for is
// always text, also when it looks like a wildcard.
type part struct {
	text string
	any  bool // +
}

// A Request is what an ACL judges.
type Request struct {
	Op      engine.Operation
	Path    string
	Params  param.Object
	WrapTTL time.Duration // 0: no wrapping asked for
}

// A Verdict is an ACL's answer.
type Verdict struct {
	Allowed bool
	Sudo    bool // the rule grants sudo
	Root    bool
	// Rule is the rule that decided; nil when no path matched.
	Rule *Rule
	// Why says what the request fails; Param names the parameter, if it is one.
	Why   Why
	Param string
}

// A placed policy is one with its namespace, whose path, "" or "a/b/", stands in
// front of the paths of its rules. Closed is a namespace without one; see Set.
type placed struct {
	*Policy
	ns, under string
	closed    bool
}

// A resolver replaces templates of identity in a path of a policy of a namespace;
// false is a path without a meaning for this caller.
type resolver func(ns, path string) (string, bool)

// Compile merges policies of the root namespace. Templates of identity are
// resolved with resolve, which returns false for a path that has no meaning for
// this caller; nil drops all templated paths.
func Compile(policies []*Policy, resolve func(path string) (string, bool)) *ACL {
	ps := make([]placed, len(policies))
	for i, p := range policies {
		ps[i] = placed{Policy: p, ns: namespace.RootID}
	}
	if resolve == nil {
		return compile(ps, nil)
	}
	return compile(ps, func(_, path string) (string, bool) { return resolve(path) })
}

func compile(policies []placed, by resolver) *ACL {
	if by == nil {
		by = func(_, path string) (string, bool) { return path, !strings.Contains(path, "{{") }
	}
	a := &ACL{exact: map[string]*Rule{}, prefix: map[string]*Rule{}}
	wild := map[string]*wildRule{}
	for _, p := range policies {
		if p.closed {
			a.closed = append(a.closed, p.under)
			continue
		}
		if p.Name == "root" {
			return &ACL{root: true}
		}
		resolve := func(path string) (string, bool) { return by(p.ns, path) }
		for i := range p.Rules {
			r := p.Rules[i] // a copy, as merging changes it
			r.From = []string{p.Name}
			r.Sources = []Source{{
				Policy: p.Name, Namespace: p.under, Line: r.Line, Pattern: r.Pattern(), Capabilities: r.Capabilities,
			}}
			if r.Wild {
				if w, moved, ok := newWild(&r, p.under, resolve); ok {
					r.resolved(p.under)
					if moved {
						a.void = append(a.void, r.Sources...)
						r.grantNothing()
					}
					merge(wild, w.key(), w, func(have *wildRule) { have.merge(w.Rule) })
				} else {
					a.void = append(a.void, r.Sources...)
				}
				continue
			}
			path, moved := r.Path, false
			if r.Templated {
				var ok bool
				if path, moved, ok = resolvePath(path, resolve); !ok {
					a.void = append(a.void, r.Sources...)
					continue
				}
			}
			r.Path = p.under + path
			r.resolved(p.under)
			if moved {
				a.void = append(a.void, r.Sources...)
				r.grantNothing()
			}
			into := a.exact
			if r.Prefix {
				into = a.prefix
			}
			r.own()
			merge(into, r.Path, &r, func(have *Rule) { have.merge(&r) })
		}
	}
	for path := range a.prefix {
		a.lens = append(a.lens, len(path))
	}
	sort.Sort(sort.Reverse(sort.IntSlice(a.lens)))
	a.lens = slices.Compact(a.lens)
	for _, w := range wild {
		a.wild = append(a.wild, w)
	}
	sort.Slice(a.wild, func(i, j int) bool { return a.wild[j].less(a.wild[i]) })
	return a
}

func merge[T any](into map[string]*T, key string, v *T, with func(have *T)) {
	if have := into[key]; have != nil {
		with(have)
	} else {
		into[key] = v
	}
}

// resolved notes what a rule's templates stand for.
func (r *Rule) resolved(under string) {
	if r.Templated {
		r.Sources[0].Resolved = strings.TrimPrefix(r.Pattern(), under)
	}
}

// resolvePath replaces the templates of a path; moved says that a value has a slash.
func resolvePath(path string, resolve func(path string) (string, bool)) (resolved string, moved, ok bool) {
	parts := segments(path)
	for i, s := range parts {
		if parts[i], ok = resolve(s); !ok {
			return "", false, false
		}
		moved = moved || strings.Contains(parts[i], "/")
	}
	return strings.Join(parts, "/"), moved, true
}

// grantNothing is what becomes of a rule with a value that has a slash: who chooses
// their name or metadata must not choose where a rule points. It still denies what
// it denied, and stands before lesser rules for the path, so that nothing is allowed
// for its being left out.
func (r *Rule) grantNothing() {
	*r = Rule{Path: r.Path, Prefix: r.Prefix, Wild: r.Wild, Templated: r.Templated, Line: r.Line, Capabilities: r.Capabilities & Deny, From: r.From, Sources: r.Sources}
}

// own gives a copy of a rule what merging may change.
func (r *Rule) own() {
	r.Allowed, r.Denied, r.Required = cloneParams(r.Allowed), cloneParams(r.Denied), slices.Clone(r.Required)
}

// newWild compiles a rule with + below the path of its namespace; ok is false for one
// that has no meaning for the caller, moved true for one with a value that has a slash.
func newWild(r *Rule, under string, resolve func(path string) (string, bool)) (w *wildRule, moved, ok bool) {
	w = &wildRule{Rule: r, first: -1}
	path, open := strings.CutSuffix(r.Path, "*")
	w.open = open
	var text strings.Builder
	add := func(p part) {
		if len(w.parts) > 0 {
			text.WriteByte('/')
		}
		if p.any {
			if w.first < 0 {
				w.first = text.Len()
			}
			w.plus++
		}
		text.WriteString(p.text)
		w.parts = append(w.parts, p)
	}
	if under != "" {
		for name := range strings.SplitSeq(strings.TrimSuffix(under, "/"), "/") {
			add(part{text: name})
		}
	}
	for _, s := range segments(path) {
		if s == "+" {
			add(part{s, true})
			continue
		}
		value, ok := resolve(s)
		if !ok {
			return nil, false, false
		}
		moved = moved || strings.Contains(value, "/")
		for name := range strings.SplitSeq(value, "/") {
			add(part{text: name})
		}
	}
	r.Path = text.String()
	if open {
		r.Path += "*"
	}
	r.own()
	return w, moved, true
}

// segments splits a path at its slashes, but for those within a template.
func segments(path string) []string {
	var out []string
	for {
		slash := strings.IndexByte(path, '/')
		from := 0
		for {
			begin := strings.Index(path[from:], "{{")
			if begin < 0 || slash < 0 || from+begin > slash {
				break
			}
			end := strings.Index(path[from+begin:], "}}")
			if end < 0 {
				return append(out, path)
			}
			if from += begin + end + 2; slash < from {
				if slash = strings.IndexByte(path[from:], '/'); slash >= 0 {
					slash += from
				}
			}
		}
		if slash < 0 {
			return append(out, path)
		}
		out, path = append(out, path[:slash]), path[slash+1:]
	}
}

// key tells apart patterns that only look the same, one with a wildcard and one
// with a text of the same letter.
func (w *wildRule) key() string {
	var b strings.Builder
	for _, p := range w.parts {
		if p.any {
			b.WriteByte(0)
		}
		b.WriteString(p.text)
		b.WriteByte('/')
	}
	if w.open {
		b.WriteByte(0)
	}
	return b.String()
}

// less orders patterns by priority, as Vault documents it: P1 is lower than P2
// if its first wildcard comes earlier; else if it ends in * and the other does
// not; else if it has more +; else if it is shorter; else by spelling.
func (w *wildRule) less(v *wildRule) bool {
	switch {
	case w.first != v.first:
		return w.first < v.first
	case w.open != v.open:
		return w.open
	case w.plus != v.plus:
		return w.plus > v.plus
	case len(w.Path) != len(v.Path):
		return len(w.Path) < len(v.Path)
	}
	return w.Path < v.Path
}

func (w *wildRule) match(path string) bool {
	for i, want := range w.parts {
		name, rest, more := strings.Cut(path, "/")
		last := i == len(w.parts)-1
		switch {
		case last && w.open:
			return strings.HasPrefix(path, want.text) // an empty want matches the rest
		case !want.any && want.text != name:
			return false
		case last:
			return !more
		case !more:
			return false
		}
		path = rest
	}
	return false
}

func cloneParams(m map[string][]any) map[string][]any {
	if m == nil {
		return nil
	}
	out := make(map[string][]any, len(m))
	for k, v := range m {
		out[k] = slices.Clone(v)
	}
	return out
}

// merge adds another policy's rule for the same path. Of wrapping TTLs the
// lesser holds; an empty list of values stands for all values.
func (r *Rule) merge(o *Rule) {
	for _, name := range o.From {
		if !slices.Contains(r.From, name) {
			r.From = append(r.From, name)
		}
	}
	r.Sources = append(r.Sources, o.Sources...)
	if r.Capabilities&Deny != 0 || o.Capabilities&Deny != 0 {
		*r = Rule{Path: r.Path, Prefix: r.Prefix, Wild: r.Wild, Capabilities: Deny, From: r.From, Sources: r.Sources}
		return
	}
	r.Capabilities |= o.Capabilities
	if o.MinWrap > 0 && (r.MinWrap == 0 || o.MinWrap < r.MinWrap) {
		r.MinWrap = o.MinWrap
	}
	if o.MaxWrap > 0 && (r.MaxWrap == 0 || o.MaxWrap < r.MaxWrap) {
		r.MaxWrap = o.MaxWrap
	}
	r.Allowed = mergeParams(r.Allowed, o.Allowed)
	r.Denied = mergeParams(r.Denied, o.Denied)
	for _, name := range o.Required {
		if !slices.Contains(r.Required, name) {
			r.Required = append(r.Required, name)
		}
	}
}

func mergeParams(a, b map[string][]any) map[string][]any {
	if len(b) == 0 {
		return a
	}
	if a == nil {
		return cloneParams(b)
	}
	for k, v := range b {
		have, ok := a[k]
		switch {
		case !ok:
			a[k] = slices.Clone(v)
		case len(v) == 0 || len(have) == 0:
			a[k] = []any{}
		default:
			a[k] = append(have, v...)
		}
	}
	return a
}

// find returns the rule for path, nil when none matches.
func (a *ACL) find(op engine.Operation, path string) *Rule {
	if r := a.shut(path); r != nil {
		return r
	}
	if r := a.exact[path]; r != nil {
		return r
	}
	if op == engine.OpList {
		if r := a.exact[strings.TrimSuffix(path, "/")]; r != nil {
			return r
		}
	}
	return a.findPattern(path)
}

// shut is the rule by which nothing is allowed at path, if its namespace is closed.
func (a *ACL) shut(path string) *Rule {
	for _, under := range a.closed {
		if strings.HasPrefix(path, under) {
			return &Rule{Path: under, Prefix: true, Capabilities: Deny, Sources: []Source{{Namespace: under, Pattern: "*", Capabilities: Deny}}}
		}
	}
	return nil
}

func (a *ACL) findPattern(path string) *Rule {
	best := a.longest(path)
	for _, w := range a.wild { // most specific first
		if !w.match(path) {
			continue
		}
		if best == nil {
			return w.Rule
		}
		if best.asWild().less(w) {
			return w.Rule
		}
		return best
	}
	return best
}

// longest returns the rule of the longest prefix of path, nil when there is none.
func (a *ACL) longest(path string) *Rule {
	for _, n := range a.lens {
		if n > len(path) {
			continue
		}
		if r := a.prefix[path[:n]]; r != nil {
			return r
		}
	}
	return nil
}

// asWild lets the rule of a prefix be held against patterns with +.
func (r *Rule) asWild() *wildRule {
	return &wildRule{Rule: r, first: len(r.Path), open: true}
}

var needed = [...]Capability{
	engine.OpRead: Read, engine.OpList: List, engine.OpCreate: Create, engine.OpUpdate: Update,
	engine.OpPatch: Patch, engine.OpDelete: Delete,
}

// Allows judges a request.
func (a *ACL) Allows(q *Request) Verdict {
	if a.root {
		return Verdict{Allowed: true, Sudo: true, Root: true}
	}
	if q.Op == engine.OpHelp {
		return Verdict{Allowed: true}
	}
	r := a.find(q.Op, q.Path)
	if r == nil {
		return Verdict{Why: NoRule}
	}
	if r.Capabilities&Deny != 0 {
		return Verdict{Rule: r, Why: Denied}
	}
	v := Verdict{Rule: r, Sudo: r.Capabilities&Sudo != 0}
	switch {
	case r.Capabilities&needed[q.Op] == 0:
		v.Why = NoCapability
		return v
	case r.MaxWrap > 0 && (q.WrapTTL == 0 || q.WrapTTL > r.MaxWrap), r.MinWrap > 0 && q.WrapTTL < r.MinWrap:
		v.Why = WrapTTL
		return v
	}
	switch q.Op { //nolint:exhaustive // only these carry parameters to be checked
	case engine.OpCreate, engine.OpUpdate, engine.OpPatch, engine.OpRead:
		v.Why, v.Param = r.judge(q.Params)
	}
	v.Allowed = v.Why == Granted
	return v
}

// judge looks at a request's parameters, and names the one that is refused.
func (r *Rule) judge(params param.Object) (Why, string) {
	for _, name := range r.Required {
		// Engines know their parameters in lower case: FOO does not stand for foo.
		if params.Get(strings.ToLower(name)) == nil {
			return ParamRequired, name
		}
	}
	if len(params) == 0 || len(r.Denied) == 0 && len(r.Allowed) == 0 {
		return Granted, ""
	}
	if _, all := r.Denied["*"]; all {
		return ParamDenied, params[0].Key
	}
	for i := range params {
		if values, named := r.Denied[strings.ToLower(params[i].Key)]; named && listed(params[i].Value, values) {
			return ParamDenied, params[i].Key
		}
	}
	if len(r.Allowed) == 0 {
		return Granted, ""
	}
	_, all := r.Allowed["*"]
	for i := range params {
		values, named := r.Allowed[strings.ToLower(params[i].Key)]
		switch {
		case !named && !all:
			return ParamNotAllowed, params[i].Key
		case named && !listed(params[i].Value, values):
			return ValueNotAllowed, params[i].Key
		}
	}
	return Granted, ""
}

// listed reports whether a parameter's value is among values; an empty list
// holds them all. Strings may have a * at either end. Numbers never match, as
// in Vault, which compares their text to the policy's number.
func listed(raw json.RawMessage, values []any) bool {
	if len(values) == 0 {
		return true
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return false
	}
	text, isText := v.(string)
	for _, want := range values {
		pattern, isPattern := want.(string)
		switch {
		case isText && isPattern:
			if affix(pattern, text) {
				return true
			}
		case reflect.DeepEqual(want, v):
			return true
		}
	}
	return false
}

// affix reports whether s equals pattern, which may stand for more with a * at
// its beginning, its end or both. A * alone stands for itself.
func affix(pattern, s string) bool {
	if len(pattern) < 2 {
		return s == pattern
	}
	tail, before := strings.CutPrefix(pattern, "*")
	head, behind := strings.CutSuffix(pattern, "*")
	switch {
	case before && behind:
		return strings.Contains(s, pattern[1:len(pattern)-1])
	case before:
		return strings.HasSuffix(s, tail)
	case behind:
		return strings.HasPrefix(s, head)
	}
	return s == pattern
}

// Glob reports whether s matches pattern, in which each * stands for any text.
func Glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return len(s) >= len(last) && strings.HasSuffix(s, last)
}

// Root reports whether the ACL allows everything.
func (a *ACL) Root() bool { return a.root }

// Capabilities names what the ACL allows on path: ["root"], ["deny"] or the
// capabilities by name.
func (a *ACL) Capabilities(path string) []string {
	if a.root {
		return []string{"root"}
	}
	r := a.find(engine.OpList, path)
	if r == nil || r.Capabilities == 0 || r.Capabilities&Deny != 0 {
		return []string{"deny"}
	}
	return r.Capabilities.Names()
}

// Below reports whether the ACL grants anything at or below the mount path,
// which ends with a slash. It decides which mounts a caller may see.
func (a *ACL) Below(mount string) bool {
	if a.root {
		return true
	}
	if a.shut(mount) != nil {
		return false
	}
	grants := func(r *Rule) bool { return r.Capabilities&Deny == 0 && r.Capabilities != 0 }
	if r := a.find(engine.OpList, mount); r != nil && grants(r) {
		return true
	}
	for path, r := range a.exact {
		if grants(r) && strings.HasPrefix(path, mount) {
			return true
		}
	}
	for path, r := range a.prefix {
		if grants(r) && strings.HasPrefix(path, mount) {
			return true
		}
	}
	over := a.longest(mount) // decides below the mount, unless a pattern is more specific
	if over != nil && grants(over) {
		return true
	}
	for _, w := range a.wild {
		if grants(w.Rule) && w.reaches(mount) && (over == nil || over.asWild().less(w)) {
			return true
		}
	}
	return false
}

// reaches reports whether some path below mount could match.
func (w *wildRule) reaches(mount string) bool {
	rest := strings.TrimSuffix(mount, "/")
	for i, want := range w.parts {
		name, left, more := strings.Cut(rest, "/")
		if i == len(w.parts)-1 && w.open {
			return strings.HasPrefix(name, want.text) || strings.HasPrefix(rest, want.text)
		}
		if !want.any && want.text != name {
			return false
		}
		if !more {
			return true
		}
		rest = left
	}
	return false
}

// Granted lists the rules for sys/internal/ui/resultant-acl: exact paths, and
// patterns without their *.
func (a *ACL) Granted() (exact, glob map[string]*Rule) {
	glob = make(map[string]*Rule, len(a.prefix))
	for p, r := range a.prefix {
		glob[p] = r
	}
	for _, w := range a.wild {
		glob[w.Path] = w.Rule
	}
	return a.exact, glob
}
