package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/param"
)

func mustParse(tb testing.TB, texts ...string) []*Policy {
	tb.Helper()
	var ps []*Policy
	for i, text := range texts {
		p, err := Parse(fmt.Sprintf("p%d", i+1), text)
		if err != nil {
			tb.Fatalf("%s: %v", text, err)
		}
		ps = append(ps, p)
	}
	return ps
}

// path writes one block.
func path(p string, caps ...string) string {
	return fmt.Sprintf("path %q { capabilities = [\"%s\"] }\n", p, strings.Join(caps, `", "`))
}

func TestAllows(t *testing.T) {
	t.Parallel()
	const (
		read, list, create = engine.OpRead, engine.OpList, engine.OpCreate
		update, patch, del = engine.OpUpdate, engine.OpPatch, engine.OpDelete
	)
	kes := path("kv/*", "create", "read", "delete")
	cases := []struct {
		name     string
		policies []string
		op       engine.Operation
		path     string
		want     bool
		from     string // names of the policies whose rule decided
	}{
		{"nothing", nil, read, "a", false, ""},
		{"S0-24 create", []string{kes}, create, "kv/a", true, "p1"},
		{"S0-24 read", []string{kes}, read, "kv/a", true, "p1"},
		{"S0-24 no update", []string{kes}, update, "kv/a", false, "p1"},
		{"S0-24 no list", []string{kes}, list, "kv/", false, "p1"},
		{"S4-34 data", []string{path("secret/*", "read")}, read, "secret/data/x", true, "p1"},
		{"S4-34 metadata", []string{path("secret/*", "read")}, read, "secret/metadata/x", true, "p1"},
		{"S4-34 no list", []string{path("secret/*", "read")}, list, "secret/metadata/", false, "p1"},
		{"S4-36 no write", []string{path("secret/*", "read")}, update, "secret/data/x", false, "p1"},
		{"patch", []string{path("secret/*", "patch")}, patch, "secret/data/x", true, "p1"},
		{"patch is no update", []string{path("secret/*", "update")}, patch, "secret/data/x", false, "p1"},
		{"delete", []string{path("a", "delete")}, del, "a", true, "p1"},

		{"exact", []string{path("a/b", "read")}, read, "a/b", true, "p1"},
		{"not below", []string{path("a/b", "read")}, read, "a/b/c", false, ""},
		{"not beside", []string{path("a/b", "read")}, read, "a/bc", false, ""},
		{"a prefix within a segment", []string{path("a/b*", "read")}, read, "a/bc/d", true, "p1"},
		{"a prefix matches itself", []string{path("a/*", "read")}, read, "a/", true, "p1"},
		{"but not without its slash", []string{path("a/*", "read")}, read, "a", false, ""},
		{"everything", []string{path("*", "read")}, read, "a/b", true, "p1"},

		{"an exact path beats a pattern", []string{path("a/*", "read"), path("a/b", "list")}, read, "a/b", false, "p2"},
		{"the longer prefix wins", []string{path("a/*", "read"), path("a/b/*", "deny")}, read, "a/b/c", false, "p2"},
		{"also when it grants", []string{path("a/*", "deny"), path("a/b/*", "read")}, read, "a/b/c", true, "p2"},
		{"deny beats at the same path", []string{path("a", "read"), path("a", "deny"), path("a", "read")}, read, "a", false, "p1 p2 p3"},
		{"the same path is the union", []string{path("a", "read"), path("a", "list")}, read, "a", true, "p1 p2"},
		{"the other half", []string{path("a", "read"), path("a", "list")}, list, "a", true, "p1 p2"},
		{"within one policy, too", []string{path("a", "read") + path("a", "list")}, list, "a", true, "p1"},

		{"a segment", []string{path("a/+/c", "read")}, read, "a/b/c", true, "p1"},
		{"one only", []string{path("a/+/c", "read")}, read, "a/b/b/c", false, ""},
		{"no shorter path", []string{path("a/+/c", "read")}, read, "a/b", false, ""},
		{"no longer path", []string{path("a/+", "read")}, read, "a/b/", false, ""},
		{"a segment, then anything", []string{path("a/+/*", "read")}, read, "a/b/c/d", true, "p1"},
		{"anything needs its slash", []string{path("a/+/*", "read")}, read, "a/b", false, ""},
		{"a segment, then a prefix", []string{path("a/+/c*", "read")}, read, "a/b/cd/e", true, "p1"},
		{"a plus that is text", []string{path("a/b+/+", "read")}, read, "a/b+/c", true, "p1"},
		{"a plus that is text stands for itself", []string{path("a/b+/+", "read")}, read, "a/bx/c", false, ""},

		// https://developer.hashicorp.com/vault/docs/concepts/policies#priority-matching
		{"P1: the first wildcard comes earlier", []string{path("+/b/c", "deny"), path("a/+/c", "read")}, read, "a/b/c", true, "p2"},
		{"P1 for a prefix", []string{path("a/*", "deny"), path("a/b/+", "read")}, read, "a/b/c", true, "p2"},
		{"P1 against a prefix", []string{path("a/+/c", "read"), path("a/b*", "deny")}, read, "a/b/c", false, "p2"},
		{"P2: it ends with *", []string{path("a/+/*", "deny"), path("a/+/c", "read")}, read, "a/b/c", true, "p2"},
		{"P2 for a prefix", []string{path("a/*", "deny"), path("a/+/c", "read")}, read, "a/b/c", true, "p2"},
		{"P3: it has more +", []string{path("a/+/+/d", "deny"), path("a/+/c/d", "read")}, read, "a/b/c/d", true, "p2"},
		{"P3 against a prefix", []string{path("a/+/*", "read"), path("a/*", "deny")}, read, "a/b/c", false, "p2"},
		{"P4: it is shorter", []string{path("a/+/*", "deny"), path("a/+/c*", "read")}, read, "a/b/cd", true, "p2"},
		{"P5: it comes earlier", []string{path("a/+/b/+", "deny"), path("a/+/c/+", "read")}, read, "a/x/c/y", true, "p2"},

		{"list with a slash", []string{path("a/", "list")}, list, "a/", true, "p1"},
		{"list without", []string{path("a", "list")}, list, "a/", true, "p1"},
		{"the one with a slash first", []string{path("a/", "deny"), path("a", "list")}, list, "a/", false, "p1"},
		{"only for lists", []string{path("a", "read")}, read, "a/", false, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := Compile(mustParse(t, c.policies...), nil).Allows(&Request{Op: c.op, Path: c.path})
			if v.Allowed != c.want {
				t.Errorf("%s %s: got %t, want %t", c.op, c.path, v.Allowed, c.want)
			}
			from := ""
			if v.Rule != nil {
				from = strings.Join(v.Rule.From, " ")
			}
			if from != c.from {
				t.Errorf("decided by %q, want %q", from, c.from)
			}
		})
	}
}

func TestRootAndHelp(t *testing.T) {
	t.Parallel()
	root := Compile([]*Policy{{Name: RootName}}, nil)
	if v := root.Allows(&Request{Op: engine.OpDelete, Path: "x"}); !v.Allowed || !v.Sudo || !v.Root || !root.Root() {
		t.Errorf("root got %+v", v)
	}
	if got := root.Capabilities("x"); !slices.Equal(got, []string{"root"}) {
		t.Errorf("root has %q", got)
	}
	a := Compile(mustParse(t, path("a", "read", "sudo")), nil)
	if v := a.Allows(&Request{Op: engine.OpHelp, Path: "x"}); !v.Allowed {
		t.Error("help was refused")
	}
	if v := a.Allows(&Request{Op: engine.OpRead, Path: "a"}); !v.Sudo {
		t.Error("sudo was not granted")
	}
	if v := a.Allows(&Request{Op: engine.OpUpdate, Path: "a"}); v.Allowed {
		t.Error("sudo alone allowed an update")
	}
}

func TestParameters(t *testing.T) {
	t.Parallel()
	rule := func(text string) string { return `path "a" { capabilities = ["update", "delete"] ` + text + " }" }
	cases := []struct {
		name     string
		policies []string
		body     string
		want     bool
	}{
		{"allowed", []string{rule(`allowed_parameters = { "x" = [] }`)}, `{"x":1}`, true},
		{"not named", []string{rule(`allowed_parameters = { "x" = [] }`)}, `{"x":1,"y":2}`, false},
		{"case of names", []string{rule(`allowed_parameters = { "X" = ["v"] }`)}, `{"x":"v"}`, true},
		{"case of the request", []string{rule(`denied_parameters = { "x" = [] }`)}, `{"X":1}`, false},
		{"any name", []string{rule(`allowed_parameters = { "*" = [] }`)}, `{"z":1}`, true},
		{"any name, one bound", []string{rule(`allowed_parameters = { "*" = [], "x" = ["v"] }`)}, `{"x":"w","z":1}`, false},
		{"value", []string{rule(`allowed_parameters = { "x" = ["v"] }`)}, `{"x":"v"}`, true},
		{"other value", []string{rule(`allowed_parameters = { "x" = ["v"] }`)}, `{"x":"w"}`, false},
		{"beginning", []string{rule(`allowed_parameters = { "x" = ["v*"] }`)}, `{"x":"vw"}`, true},
		{"end", []string{rule(`allowed_parameters = { "x" = ["*v"] }`)}, `{"x":"wv"}`, true},
		{"middle", []string{rule(`allowed_parameters = { "x" = ["*v*"] }`)}, `{"x":"wvw"}`, true},
		{"a star within is text", []string{rule(`allowed_parameters = { "x" = ["a*b"] }`)}, `{"x":"axb"}`, false},
		{"a star alone is text", []string{rule(`allowed_parameters = { "x" = ["*"] }`)}, `{"x":"v"}`, false},
		{"itself", []string{rule(`allowed_parameters = { "x" = ["*"] }`)}, `{"x":"*"}`, true},
		{"truth", []string{rule(`allowed_parameters = { "x" = [true] }`)}, `{"x":true}`, true},
		{"untruth", []string{rule(`allowed_parameters = { "x" = [true] }`)}, `{"x":false}`, false},
		{"numbers never match", []string{rule(`allowed_parameters = { "x" = [1] }`)}, `{"x":1}`, false},
		{"a list", []string{rule(`allowed_parameters = { "x" = [["a", "b"]] }`)}, `{"x":["a","b"]}`, true},
		{"another list", []string{rule(`allowed_parameters = { "x" = [["a", "b"]] }`)}, `{"x":["b","a"]}`, false},
		{"denied", []string{rule(`denied_parameters = { "x" = [] }`)}, `{"x":1}`, false},
		{"others", []string{rule(`denied_parameters = { "x" = [] }`)}, `{"y":1}`, true},
		{"denied value", []string{rule(`denied_parameters = { "x" = ["v*"] }`)}, `{"x":"vv"}`, false},
		{"value not denied", []string{rule(`denied_parameters = { "x" = ["v*"] }`)}, `{"x":"w"}`, true},
		{"all denied", []string{rule(`denied_parameters = { "*" = [] } allowed_parameters = { "x" = [] }`)}, `{"x":1}`, false},
		{"deny before allow", []string{rule(`denied_parameters = { "x" = [] } allowed_parameters = { "x" = [], "y" = [] }`)}, `{"x":1}`, false},
		{"no parameters", []string{rule(`allowed_parameters = { "x" = ["v"] }`)}, `{}`, true},
		{"required", []string{rule(`required_parameters = ["x"]`)}, `{"x":null}`, true},
		{"missing", []string{rule(`required_parameters = ["x", "y"]`)}, `{"x":1}`, false},
		{"required in another case", []string{rule(`required_parameters = ["X"]`)}, `{"x":1}`, true},
		{"not in the request's other case", []string{rule(`required_parameters = ["x"]`)}, `{"X":1}`, false},
		{"merged: no values is any value", []string{rule(`allowed_parameters = { "x" = ["v"] }`), rule(`allowed_parameters = { "x" = [] }`)}, `{"x":"w"}`, true},
		{"merged: the union of values", []string{rule(`allowed_parameters = { "x" = ["v"] }`), rule(`allowed_parameters = { "x" = ["w"] }`)}, `{"x":"w"}`, true},
		{"merged: names", []string{rule(`allowed_parameters = { "x" = [] }`), rule(`allowed_parameters = { "y" = [] }`)}, `{"x":1,"y":1}`, true},
		{"merged: denials add up", []string{rule(`denied_parameters = { "x" = [] }`), rule(`denied_parameters = { "y" = [] }`)}, `{"y":1}`, false},
		{"merged: one without bounds does not lift them", []string{rule(`allowed_parameters = { "x" = [] }`), rule(``)}, `{"y":1}`, false},
		{"merged: required add up", []string{rule(`required_parameters = ["x"]`), rule(`required_parameters = ["y"]`)}, `{"x":1}`, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			body, err := param.ParseObject([]byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			ps := mustParse(t, c.policies...)
			before := show(ps[0].Rules)
			a := Compile(ps, nil)
			if got := a.Allows(&Request{Op: engine.OpUpdate, Path: "a", Params: body}).Allowed; got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
			if !a.Allows(&Request{Op: engine.OpDelete, Path: "a", Params: body}).Allowed {
				t.Error("parameters counted for a delete")
			}
			if got := show(ps[0].Rules); got != before {
				t.Errorf("compiling changed the policy to %s", got)
			}
		})
	}
}

func TestWrappingBounds(t *testing.T) {
	t.Parallel()
	rule := func(text string) string { return `path "a" { capabilities = ["read"] ` + text + " }" }
	cases := []struct {
		name     string
		policies []string
		ttl      time.Duration
		want     bool
	}{
		{"none asked, none needed", []string{rule("")}, 0, true},
		{"asked, not needed", []string{rule("")}, time.Hour, true},
		{"too short", []string{rule(`min_wrapping_ttl = "1m"`)}, time.Second, false},
		{"not at all", []string{rule(`min_wrapping_ttl = "1m"`)}, 0, false},
		{"long enough", []string{rule(`min_wrapping_ttl = "1m"`)}, time.Minute, true},
		{"too long", []string{rule(`max_wrapping_ttl = "1m"`)}, time.Hour, false},
		{"max demands wrapping", []string{rule(`max_wrapping_ttl = "1m"`)}, 0, false},
		{"within", []string{rule(`min_wrapping_ttl = 1 max_wrapping_ttl = "1m"`)}, time.Minute, true},
		{"merged: the lesser", []string{rule(`max_wrapping_ttl = "1m"`), rule(`max_wrapping_ttl = "10s"`)}, time.Minute, false},
		{"merged: that of one", []string{rule(""), rule(`min_wrapping_ttl = "1m"`)}, 0, false},
		{"merged into nothing", []string{rule(`min_wrapping_ttl = "1m"`), rule(`max_wrapping_ttl = "10s"`)}, 30 * time.Second, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := Compile(mustParse(t, c.policies...), nil)
			if got := a.Allows(&Request{Op: engine.OpRead, Path: "a", WrapTTL: c.ttl}).Allowed; got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	a := Compile(mustParse(t, path("a/*", "read", "update")+path("a/b", "deny")+path("c", "list")+`path "d" {}`), nil)
	for p, want := range map[string]string{
		"a/x": "read update", "a/b": "deny", "c": "list", "c/": "list", "d": "deny", "e": "deny", "": "deny",
	} {
		if got := strings.Join(a.Capabilities(p), " "); got != want {
			t.Errorf("%q: got %s, want %s", p, got, want)
		}
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	ps := mustParse(t, path("u/{{identity.entity.id}}/*", "read")+path("g/{{x}}", "read"))
	none := Compile(ps, nil)
	if got := none.Capabilities("u/{{identity.entity.id}}/a"); !slices.Equal(got, []string{"deny"}) {
		t.Errorf("an unresolved path grants %v", got)
	}
	own := Compile(ps, func(p string) (string, bool) {
		return strings.Replace(p, "{{identity.entity.id}}", "e1", 1), !strings.Contains(p, "{{x}}")
	})
	if !own.Allows(&Request{Op: engine.OpRead, Path: "u/e1/a"}).Allowed || own.Allows(&Request{Op: engine.OpRead, Path: "u/e2/a"}).Allowed {
		t.Error("the resolved path does not count")
	}
}

// What a template stands for is text: it never is a wildcard, and a rule that
// denies does not get lost because of it.
func TestTemplateValues(t *testing.T) {
	t.Parallel()
	text := path("kv/*", "read") + path("kv/{{v}}", "deny") + path("pre/*", "read") + path("pre/{{v}}*", "deny") +
		path("wild/*", "read") + path("wild/+/{{v}}", "deny") + path("op*", "read") + path("open/+/{{v}}*", "deny") + path("wild/+/+", "list")
	for _, value := range []string{"*", "+", "a*", "*/b", "+/x", "a/+", "plain", "a/*/b"} {
		a := Compile(mustParse(t, text), func(p string) (string, bool) { return strings.ReplaceAll(p, "{{v}}", value), true })
		for path, want := range map[string]bool{
			"kv/" + value: false, "kv/other": true, "kv/aX": true,
			"pre/" + value: false, "pre/" + value + "x": false, "pre/other": true,
			"wild/z/" + value: false, "wild/z/other": false, "wild/z/other/y": true,
			"open/z/" + value: false, "open/z/" + value + "x": false, "open/z/other": true,
		} {
			if got := a.Allows(&Request{Op: engine.OpRead, Path: path}).Allowed; got != want {
				t.Errorf("value %q, path %q: %t, want %t", value, path, got, want)
			}
		}
		if !strings.Contains(value, "/") && value != "+" && slices.Equal(a.Capabilities("wild/z/"+value), a.Capabilities("wild/z/other")) {
			t.Errorf("value %q was taken for a wildcard", value)
		}
	}
}

// A value with a slash moves no rule: what it grants is gone, there and where it would
// narrow another, and what it denies stays denied.
func TestTemplateValuesWithSlash(t *testing.T) {
	t.Parallel()
	text := path("kv/data/{{v}}/*", "read", "update") + path("kv/data/{{v}}", "read") + path("kv/+/x/{{v}}/*", "read", "sudo") +
		path("wide/*", "read", "update") + path("wide/{{v}}/audit/*", "read") + path("own/{{v}}/*", "read") + path("own/alice/private/*", "list") +
		path("dir/{{a/b}}/*", "read")
	at := func(value string) *ACL {
		return Compile(mustParse(t, text), func(p string) (string, bool) {
			return strings.ReplaceAll(strings.ReplaceAll(p, "{{v}}", value), "{{a/b}}", "fine"), true
		})
	}
	a, plain := at("alice/private"), at("alice")
	for _, c := range []struct {
		op          engine.Operation
		path        string
		want, alone bool // with the slash, and without one
	}{
		{engine.OpRead, "kv/data/alice/private/x", false, true},
		{engine.OpRead, "kv/data/alice/private", false, true},
		{engine.OpRead, "kv/data/alice", false, true},
		{engine.OpRead, "kv/data/alice/x", false, true},
		{engine.OpRead, "kv/data/x/alice/private/k", false, true},
		{engine.OpRead, "wide/other", true, true},
		{engine.OpUpdate, "wide/alice/private/audit/x", false, true},
		{engine.OpUpdate, "wide/alice/audit/x", true, false},
		{engine.OpList, "own/alice/private/x", true, true},
		{engine.OpRead, "dir/fine/x", true, true},
	} {
		for acl, want := range map[*ACL]bool{a: c.want, plain: c.alone} {
			if got := acl.Allows(&Request{Op: c.op, Path: c.path}).Allowed; got != want {
				t.Errorf("with a slash %v, %s %s: %v, want %v", acl == a, c.op, c.path, got, want)
			}
		}
	}
	x := a.Explain(&Request{Op: engine.OpRead, Path: "kv/data/alice/private/x"})
	if len(x.Void) == 0 || x.Void[0].Resolved != "kv/data/alice/private/*" {
		t.Errorf("the explanation: %+v", x)
	}
}

func TestSegments(t *testing.T) {
	t.Parallel()
	for path, want := range map[string][]string{
		"":                {""},
		"a":               {"a"},
		"a/+/b/":          {"a", "+", "b", ""},
		"a/{{x/y}}/b":     {"a", "{{x/y}}", "b"},
		"{{x/y}}z{{/}}/b": {"{{x/y}}z{{/}}", "b"},
		"a/{{x/y":         {"a", "{{x/y"},
		"a}}/{{b}}/c":     {"a}}", "{{b}}", "c"},
	} {
		if got := segments(path); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

// Which mounts a caller may see: those in which something is granted.
func TestBelow(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, policy, mount string
		want                bool
	}{
		{"nothing", path("a/*", "read"), "b/", false},
		{"the mount", path("b/*", "read"), "b/", true},
		{"without the star", path("b/", "list"), "b/", true},
		{"without the slash", path("b", "list"), "b/", true},
		{"an exact path", path("b/c/d", "read"), "b/", true},
		{"a prefix below", path("b/c*", "read"), "b/", true},
		{"a prefix over it", path("*", "read"), "b/", true},
		{"half a name", path("b*", "read"), "bc/", true},
		{"another mount's beginning", path("bc/*", "read"), "b/", false},
		{"denied", path("b/*", "deny"), "b/", false},
		{"denied within everything", path("*", "read") + path("b/*", "deny"), "b/", false},
		{"granted within the denied", path("b/*", "deny") + path("b/c", "read"), "b/", true},
		{"a prefix within the denied", path("b/*", "deny") + path("b/c/*", "read"), "b/", true},
		{"nothing granted", `path "b/*" { capabilities = [] }`, "b/", false},
		{"S4-36", path("secret/*", "read"), "secret/", true},
		{"segments", path("+/data/*", "read"), "b/", true},
		{"segments below", path("b/+/d", "read"), "b/", true},
		{"segments of others", path("a/+/d", "read"), "b/", false},
		{"segments that are too few", path("+", "read"), "b/c/", false},
		{"segments over two", path("+/+/x", "read"), "b/c/", true},
		{"a denial beats segments", path("+/*", "read") + path("b/*", "deny"), "b/", false},
		{"segments beat a denial", path("b/+/x", "read") + path("*", "deny"), "b/", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := Compile(mustParse(t, c.policy), nil).Below(c.mount); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}

func TestGlob(t *testing.T) {
	t.Parallel()
	cases := []struct {
		pattern, s string
		want       bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"*", "", true},
		{"a*", "abc", true},
		{"*c", "abc", true},
		{"a*c", "abc", true},
		{"a*c", "ac", true},
		{"a*a", "a", false},
		{"*b*", "abc", true},
		{"a*b*c", "aXbYc", true},
		{"a*b*c", "aXcYb", false},
		{"**", "x", true},
	}
	for _, c := range cases {
		if got := Glob(c.pattern, c.s); got != c.want {
			t.Errorf("%q %q: got %t, want %t", c.pattern, c.s, got, c.want)
		}
	}
}

// A naive evaluator: regular expressions for matching, and the documented
// order of priority by comparing every pair.
type naive []naiveRule

type naiveRule struct {
	text string
	caps Capability
	re   *regexp.Regexp
	// Of patterns.
	pattern bool
	first   int
	star    bool
	plus    int
}

func newNaive(policies [][]string, caps map[string][]Capability) naive {
	merged := map[string]Capability{}
	for i, texts := range policies {
		for _, text := range texts {
			merged[text] |= caps[text][i]
		}
	}
	var n naive
	for text, c := range merged {
		if c&Deny != 0 {
			c = Deny
		}
		r := naiveRule{text: text, caps: c, first: len(text)}
		body, star := strings.CutSuffix(text, "*")
		r.star = star
		re := "^"
		for i, part := range strings.Split(body, "/") {
			if i > 0 {
				re += "/"
			}
			if part == "+" {
				r.plus++
				re += "[^/]*"
			} else {
				re += regexp.QuoteMeta(part)
			}
		}
		if star {
			r.first = len(body)
			re += ".*"
		}
		if r.plus > 0 {
			r.first = strings.Index(text, "+")
		}
		r.re = regexp.MustCompile(re + "$")
		r.pattern = star || r.plus > 0
		n = append(n, r)
	}
	return n
}

func (n naive) find(path string, list bool) *naiveRule {
	for _, p := range []string{path, strings.TrimSuffix(path, "/")} {
		for i := range n {
			if !n[i].pattern && n[i].text == p {
				return &n[i]
			}
		}
		if !list {
			break
		}
	}
	var best *naiveRule
	for i := range n {
		if r := &n[i]; r.pattern && r.re.MatchString(path) && (best == nil || best.lower(r)) {
			best = r
		}
	}
	return best
}

// lower is https://developer.hashicorp.com/vault/docs/concepts/policies#priority-matching.
func (r *naiveRule) lower(o *naiveRule) bool {
	switch {
	case r.first != o.first:
		return r.first < o.first
	case r.star != o.star:
		return r.star
	case r.plus != o.plus:
		return r.plus > o.plus
	case len(r.text) != len(o.text):
		return len(r.text) < len(o.text)
	}
	return r.text < o.text
}

// The compiled ACL says what the naive evaluator says, for random policies.
func TestAgainstNaive(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	segments := []string{"a", "b", "ab", "+", "+", ""}
	some := func() string {
		parts := make([]string, 1+rng.IntN(3))
		for i := range parts {
			parts[i] = segments[rng.IntN(len(segments)-1)]
		}
		p := strings.Join(parts, "/")
		switch rng.IntN(4) {
		case 0:
			if !strings.HasSuffix(p, "+") {
				p += "*"
			}
		case 1:
			p += "/*"
		case 2:
			p += "/"
		}
		return p
	}
	var paths []string
	plain := []string{"", "a", "b", "ab", "abx"}
	for _, x := range plain[1:] {
		paths = append(paths, x)
		for _, y := range plain {
			paths = append(paths, x+"/"+y)
			for _, z := range plain {
				paths = append(paths, x+"/"+y+"/"+z)
				if y != "" {
					paths = append(paths, x+"/"+y+"/"+z+"/c")
				}
			}
		}
	}
	ops := map[engine.Operation]Capability{engine.OpRead: Read, engine.OpList: List, engine.OpUpdate: Update}
	for round := range 300 {
		texts := make([][]string, 1+rng.IntN(3))
		caps := map[string][]Capability{}
		var hcl []string
		for i := range texts {
			text := ""
			for range 1 + rng.IntN(5) {
				p := some()
				c := []Capability{Read, List, Update, Deny, Read | List, 0}[rng.IntN(6)]
				if caps[p] == nil {
					caps[p] = make([]Capability, len(texts))
				}
				caps[p][i] |= c
				texts[i] = append(texts[i], p)
				text += fmt.Sprintf("path %q { capabilities = [%s] }\n", p, quoted(c.Names()))
			}
			hcl = append(hcl, text)
		}
		ref := newNaive(texts, caps)
		acl := Compile(mustParse(t, hcl...), nil)
		visible := map[string]bool{}
		for _, p := range paths {
			for op, bit := range ops {
				r := ref.find(p, op == engine.OpList)
				want := r != nil && r.caps&bit != 0
				v := acl.Allows(&Request{Op: op, Path: p})
				if v.Allowed != want {
					t.Fatalf("seed %d round %d: %s %q: got %t, want %t by\n%s", seed, round, op, p, v.Allowed, want, strings.Join(hcl, "\n"))
				}
				if want && strings.Contains(p, "/") {
					mount, _, _ := strings.Cut(p, "/")
					visible[mount] = true
				}
			}
			want := []string{"deny"}
			if r := ref.find(p, true); r != nil && r.caps&^Deny != 0 {
				want = r.caps.Names()
			}
			if got := acl.Capabilities(p); !slices.Equal(got, want) {
				t.Fatalf("seed %d round %d: %q has %v, want %v by\n%s", seed, round, p, got, want, strings.Join(hcl, "\n"))
			}
		}
		for mount := range maps.Keys(visible) {
			if !acl.Below(mount + "/") {
				t.Fatalf("seed %d round %d: %s/ is not visible by\n%s", seed, round, mount, strings.Join(hcl, "\n"))
			}
		}
	}
}

func quoted(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return `"` + strings.Join(names, `", "`) + `"`
}

func BenchmarkAllows(b *testing.B) {
	text := path("kv1/*", "read", "create", "update") + path("kv2/data/*", "read") + path("team/+/config", "read") +
		path("sys/wrapping/unwrap", "update") + Default
	a := Compile(mustParse(b, text), nil)
	for _, p := range []string{"kv2/data/app/config", "sys/wrapping/unwrap", "team/x/config", "nowhere/at/all"} {
		b.Run(strings.ReplaceAll(p, "/", "-"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				a.Allows(&Request{Op: engine.OpRead, Path: p})
			}
		})
	}
}
