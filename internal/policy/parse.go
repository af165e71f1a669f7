// Package policy parses, compiles and evaluates ACL policies.
//
// A policy is compiled once, when it is written or first used; a request costs
// a few map look-ups. The rules of matching and merging are those that Vault
// documents (https://developer.hashicorp.com/vault/docs/concepts/policies) and
// that were recorded from servers of its family: an exact path beats a pattern,
// the more specific pattern beats the less specific, deny beats everything at
// the same path, and the same path in several policies is the union of both.
package policy

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/hcl/ast"

	"arca/internal/errs"
	"arca/internal/param"
)

// Bounds on a policy from outside.
const (
	MaxTextBytes = 1 << 20
	maxNesting   = 64
	maxPaths     = 100_000
)

// A Capability is a bit set of what a rule allows.
type Capability uint16

// The capabilities of Vault's policies.
const (
	Deny Capability = 1 << iota
	Create
	Read
	Update
	Delete
	List
	Sudo
	Patch
	Subscribe
	Recover
)

var capabilityNames = [...]struct {
	name string
	bit  Capability
}{
	{"create", Create},
	{"delete", Delete},
	{"deny", Deny},
	{"list", List},
	{"patch", Patch},
	{"read", Read},
	{"recover", Recover},
	{"subscribe", Subscribe},
	{"sudo", Sudo},
	{"update", Update},
}

// Names lists the capabilities in the API's order (by name).
func (c Capability) Names() []string {
	out := []string{}
	for _, n := range capabilityNames {
		if c&n.bit != 0 {
			out = append(out, n.name)
		}
	}
	return out
}

// A Rule is one path block of a policy, or several of the same path merged.
type Rule struct {
	Path         string // without a leading slash, and without the * of a prefix
	Prefix       bool   // ends with *
	Wild         bool   // has + segments; Path then keeps its *
	Capabilities Capability
	MinWrap      time.Duration
	MaxWrap      time.Duration
	Allowed      map[string][]any // lower-case names; an empty list allows any value
	Denied       map[string][]any
	Required     []string
	Templated    bool
	Line         int      // of its path in the policy's text, from 1
	From         []string // names of the policies it comes from
	// Sources are the rules that a compiled one was merged from.
	Sources []Source
}

// A Source is a rule as it stands in a policy.
type Source struct {
	Policy       string
	Namespace    string // path of the policy's namespace: "" or "a/b/"
	Line         int
	Pattern      string // with its wildcards and templates
	Resolved     string // the pattern without templates; "" when it had none
	Capabilities Capability
}

// Pattern is a rule's path with its wildcards, as written.
func (r *Rule) Pattern() string {
	if r.Prefix {
		return r.Path + "*"
	}
	return r.Path
}

// A Policy is a parsed policy. It is immutable.
type Policy struct {
	Name  string
	Text  string
	Rules []Rule
}

// Parse reads a policy in HCL or JSON. Errors are Invalid.
func Parse(name, text string) (*Policy, error) {
	p, err := parse(name, text)
	if err != nil {
		return nil, errs.New(errs.Invalid, "failed to parse policy: %w", err)
	}
	return p, nil
}

func parse(name, text string) (*Policy, error) {
	if len(text) > MaxTextBytes {
		return nil, fmt.Errorf("policy is larger than %d bytes", MaxTextBytes)
	}
	list, err := parseHCL(text)
	if err != nil {
		return nil, err
	}
	if err := onlyKeys(list, "", "name", "path"); err != nil {
		return nil, err
	}
	p := &Policy{Name: name, Text: text}
	paths := list.Filter("path")
	if len(paths.Items) > maxPaths {
		return nil, fmt.Errorf("policy has more than %d paths", maxPaths)
	}
	for _, item := range paths.Items {
		r, err := parseRule(item)
		if err != nil {
			return nil, err
		}
		p.Rules = append(p.Rules, r)
	}
	return p, nil
}

// onlyKeys refuses keys that a policy does not have.
func onlyKeys(list *ast.ObjectList, where string, known ...string) error {
	const most = 20 // messages
	var bad []string
	for _, item := range list.Items {
		if len(item.Keys) == 0 {
			continue
		}
		key, _ := item.Keys[0].Token.Value().(string)
		found := false
		for _, k := range known {
			found = found || k == key
		}
		if !found && len(bad) < most {
			bad = append(bad, fmt.Sprintf("%sinvalid key %q on line %d", where, key, item.Assign.Line))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return errs.List(errs.Invalid, bad...)
}

// block is what HCL decodes a path block into.
type block struct {
	Comment      string `hcl:"comment"`
	Policy       string
	Capabilities []string
	MinWrap      any              `hcl:"min_wrapping_ttl"`
	MaxWrap      any              `hcl:"max_wrapping_ttl"`
	Allowed      map[string][]any `hcl:"allowed_parameters"`
	Denied       map[string][]any `hcl:"denied_parameters"`
	Required     []string         `hcl:"required_parameters"`
}

// legacy are the words that the key "policy" took before capabilities.
var legacy = map[string]Capability{
	"deny":  Deny,
	"read":  Read | List,
	"write": Create | Read | Update | Delete | List,
	"sudo":  Create | Read | Update | Delete | List | Sudo,
}

func parseRule(item *ast.ObjectItem) (Rule, error) {
	key := ""
	if len(item.Keys) > 0 {
		key, _ = item.Keys[0].Token.Value().(string)
	}
	where := fmt.Sprintf("path %q: ", key)
	obj, ok := item.Val.(*ast.ObjectType)
	if !ok {
		return Rule{}, fmt.Errorf("%sexpected a block", where)
	}
	err := onlyKeys(obj.List, where, "comment", "policy", "capabilities", "allowed_parameters", "denied_parameters",
		"required_parameters", "min_wrapping_ttl", "max_wrapping_ttl", "mfa_methods", "control_group",
		"subscribe_event_types", "pagination_limit")
	if err != nil {
		return Rule{}, err
	}
	var b block
	if err := decodeHCL(&b, item.Val); err != nil {
		return Rule{}, fmt.Errorf("%s%w", where, err)
	}
	r := Rule{Path: strings.TrimPrefix(key, "/"), Required: b.Required}
	if len(item.Keys) > 0 {
		r.Line = item.Keys[0].Pos().Line
	}
	if strings.Contains(r.Path, "+*") {
		return r, fmt.Errorf("path %q: invalid use of wildcards ('+*' is forbidden)", r.Path)
	}
	r.Wild = r.Path == "+" || strings.Contains(r.Path, "/+") || strings.HasPrefix(r.Path, "+/")
	if !r.Wild && strings.HasSuffix(r.Path, "*") {
		r.Path, r.Prefix = strings.TrimSuffix(r.Path, "*"), true
	}
	r.Templated = strings.Contains(r.Path, "{{")
	if err := r.capabilities(b, where); err != nil {
		return r, err
	}
	r.Allowed, r.Denied = lowerKeys(b.Allowed), lowerKeys(b.Denied)
	if r.MinWrap, err = wrapTTL(b.MinWrap); err != nil {
		return r, fmt.Errorf("error parsing min_wrapping_ttl: %w", err)
	}
	if r.MaxWrap, err = wrapTTL(b.MaxWrap); err != nil {
		return r, fmt.Errorf("error parsing max_wrapping_ttl: %w", err)
	}
	if r.MinWrap != 0 && r.MaxWrap != 0 && r.MaxWrap < r.MinWrap {
		return r, errors.New("max_wrapping_ttl cannot be less than min_wrapping_ttl")
	}
	return r, nil
}

func (r *Rule) capabilities(b block, where string) error {
	if b.Policy != "" {
		caps, ok := legacy[b.Policy]
		if !ok {
			return fmt.Errorf("%sinvalid policy %q", where, b.Policy)
		}
		r.Capabilities = caps
	}
	for _, name := range b.Capabilities {
		var bit Capability
		for _, n := range capabilityNames {
			if n.name == name {
				bit = n.bit
			}
		}
		if bit == 0 {
			return fmt.Errorf("%sinvalid capability %q", where, name)
		}
		r.Capabilities |= bit
	}
	if r.Capabilities&Deny != 0 {
		r.Capabilities = Deny
	}
	return nil
}

func wrapTTL(v any) (time.Duration, error) {
	switch v := v.(type) {
	case nil:
		return 0, nil
	case int:
		return param.ParseDuration(strconv.Itoa(v))
	case float64:
		return param.ParseDuration(strconv.FormatFloat(v, 'f', -1, 64) + "s")
	case string:
		return param.ParseDuration(v)
	}
	return 0, fmt.Errorf("%v is no duration", v)
}

func lowerKeys(m map[string][]any) map[string][]any {
	if m == nil {
		return nil
	}
	out := make(map[string][]any, len(m))
	for k, v := range m {
		out[strings.ToLower(k)] = v
	}
	return out
}

// DecodeText undoes the base64 in which old clients send a policy, and returns
// any other text as it is.
func DecodeText(text string) string {
	if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
		return string(raw)
	}
	return text
}
