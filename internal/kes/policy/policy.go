// Package policy decides which calls of KES's API an identity may make.
//
// A policy is a list of rules that allow, a list of rules that deny, and the
// identities it is for; a rule is a pattern of the request's path. A call
// passes if no rule denies it and one allows it. An identity has at most one
// policy; the admin has none and may do everything.
package policy

import (
	"path"
	"slices"
	"strings"
	"time"

	"arca/internal/errs"
)

// A Policy is named rules.
type Policy struct {
	Allow, Deny []string
	CreatedAt   time.Time
	CreatedBy   string

	allow, deny []rule
}

// New compiles a policy. A rule that cannot be read is an error.
func New(allow, deny []string, at time.Time, by string) (*Policy, error) {
	p := &Policy{Allow: allow, Deny: deny, CreatedAt: at, CreatedBy: by}
	var err error
	if p.allow, err = compile(allow); err != nil {
		return nil, err
	}
	p.deny, err = compile(deny)
	return p, err
}

// Allows reports whether the policy lets a request of the path pass.
//
// What opens many ciphertexts in one call is denied, too, by what denies opening one.
func (p *Policy) Allows(path string) bool {
	single := path
	if name, bulk := strings.CutPrefix(path, "/v1/key/bulk/decrypt/"); bulk {
		single = "/v1/key/decrypt/" + name
	}
	return !slices.ContainsFunc(p.deny, func(r rule) bool { return r.matches(path) || r.matches(single) }) &&
		slices.ContainsFunc(p.allow, func(r rule) bool { return r.matches(path) })
}

// A rule is a path, a prefix, or a pattern.
type rule struct {
	text string
	kind kind
}

type kind uint8

const (
	exact  kind = iota
	prefix      // the only star is the last character, and stands for anything
	glob        // stars and question marks, which stop at a slash
)

func compile(texts []string) ([]rule, error) {
	out := make([]rule, 0, len(texts))
	for _, t := range texts {
		switch {
		case !strings.ContainsAny(t, `*?[\`):
			out = append(out, rule{t, exact})
		case strings.HasSuffix(t, "*") && !strings.ContainsAny(t[:len(t)-1], `*?[\`):
			out = append(out, rule{t[:len(t)-1], prefix})
		default:
			if _, err := path.Match(t, ""); err != nil {
				return nil, errs.New(errs.Invalid, "the rule %q is no pattern", t)
			}
			out = append(out, rule{t, glob})
		}
	}
	return out, nil
}

func (r rule) matches(p string) bool {
	switch r.kind {
	case exact:
		return p == r.text
	case prefix:
		return strings.HasPrefix(p, r.text)
	case glob:
		ok, err := path.Match(r.text, p)
		return ok && err == nil
	}
	return false
}

// A Set is all policies of a server, with who has which. It is not changed once
// made.
type Set struct {
	Policies   map[string]*Policy
	Identities map[string]string // identity → policy
	Admin      string            // as configured: an identity, or a word that is none
	Since      time.Time         // when the set was made
}

// ErrDenied is the answer to whoever may not, known or unknown.
var ErrDenied = errs.New(errs.Denied, "not authorized: insufficient permissions")

// Authorize refuses a request with ErrDenied unless the identity may make it.
func (s *Set) Authorize(identity, path string) error {
	if s.IsAdmin(identity) {
		return nil
	}
	name, ok := s.Identities[identity]
	if !ok {
		return ErrDenied
	}
	if p := s.Policies[name]; p != nil && p.Allows(path) {
		return nil
	}
	return ErrDenied
}

// IsAdmin reports whether the identity is the admin. The words that switch the
// admin off are no identities, so that nobody is.
func (s *Set) IsAdmin(identity string) bool { return identity != "" && identity == s.Admin }
