package policy

import (
	"slices"
	"strings"

	"arca/internal/engine"
)

// Why is the reason of a verdict. The zero value is that of one that allows.
type Why uint8

// The reasons for which an ACL refuses.
const (
	Granted Why = iota
	NoRule
	Denied
	NoCapability
	WrapTTL
	ParamRequired
	ParamDenied
	ParamNotAllowed
	ValueNotAllowed
)

var whyNames = [...]string{
	Granted: "allowed", NoRule: "no_rule", Denied: "denied", NoCapability: "missing_capability", WrapTTL: "wrap_ttl",
	ParamRequired: "parameter_required", ParamDenied: "parameter_denied", ParamNotAllowed: "parameter_not_allowed",
	ValueNotAllowed: "parameter_value_not_allowed",
}

// String returns the reason as sys/policies/explain has it.
func (w Why) String() string { return whyNames[w] }

// Needs is the capability that an operation asks for; 0 is none.
func Needs(op engine.Operation) Capability {
	if int(op) < len(needed) {
		return needed[op]
	}
	return 0
}

// maxExplained bounds each list of an explanation.
const maxExplained = 20

// An Explanation is a verdict with the rules that stand behind it.
type Explanation struct {
	Verdict
	Rules []Source // of the deciding rule, by all policies that have it
	// Passed are rules that would have allowed the operation, if there were not a
	// more specific one.
	Passed []Source
	// Void are rules that might match, but whose templates have no value for the
	// caller, or one with a slash, so that they grant nothing.
	Void []Source
}

// Explain judges a request as Allows does, and tells by which rules. It costs a
// look at all rules.
func (a *ACL) Explain(q *Request) Explanation {
	x := Explanation{Verdict: a.Allows(q)}
	if a.root {
		x.Rules = []Source{{Policy: RootName, Pattern: "*"}}
		return x
	}
	if x.Rule != nil {
		x.Rules = x.Rule.Sources[:min(len(x.Rule.Sources), maxExplained)]
	}
	if x.Allowed {
		return x
	}
	for _, v := range a.void {
		if len(x.Void) < maxExplained && mayMatch(v, q.Path) {
			x.Void = append(x.Void, v)
		}
	}
	if x.Rule == nil {
		return x
	}
	pass := func(r *Rule) {
		if r != x.Rule && r.Capabilities&Deny == 0 && r.Capabilities&Needs(q.Op) != 0 {
			x.Passed = append(x.Passed, r.Sources...)
		}
	}
	for _, w := range a.wild {
		if w.match(q.Path) {
			pass(w.Rule)
		}
	}
	for _, n := range a.lens {
		if n <= len(q.Path) {
			if r := a.prefix[q.Path[:n]]; r != nil {
				pass(r)
			}
		}
	}
	x.Passed = slices.Clip(x.Passed[:min(len(x.Passed), maxExplained)])
	return x
}

// mayMatch reports whether a rule would match path with some value in place of
// each of its templates. It is asked generously.
func mayMatch(s Source, path string) bool {
	path, below := strings.CutPrefix(path, s.Namespace)
	if !below {
		return false
	}
	var glob strings.Builder
	rest := s.Pattern
	for {
		before, after, found := strings.Cut(rest, "{{")
		glob.WriteString(strings.ReplaceAll(before, "+", "*"))
		if !found {
			break
		}
		_, behind, closed := strings.Cut(after, "}}")
		if !closed {
			return false
		}
		glob.WriteByte('*')
		rest = behind
	}
	return Glob(glob.String(), path)
}
