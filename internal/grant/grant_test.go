package grant

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"arca/internal/engine"
)

func names(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("p", i))
	}
	return out
}

func ptr[T any](v T) *T { return &v }

func TestApply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		p    Params
		l    Legacy
		want string // token_ttl, token_policies, token_type, older names; or the error
	}{
		{name: "nothing", want: "0 [] default []"},
		{name: "newer", p: Params{TTL: ptr(time.Minute), Policies: ptr([]string{"B", "a", " a "})}, want: "60 [a b] default []"},
		{name: "older", l: Legacy{TTL: ptr(time.Minute), Policies: ptr([]string{"a"})}, want: "60 [a] default [ttl policies]"},
		{name: "both", p: Params{TTL: ptr(time.Hour)}, l: Legacy{TTL: ptr(time.Minute)}, want: "3600 [] default []"},
		{name: "ttl", p: Params{TTL: ptr(time.Hour), MaxTTL: ptr(time.Minute)}, want: "'token_ttl' cannot be greater than 'token_max_ttl'"},
		{name: "type", p: Params{Type: ptr("x")}, want: `invalid 'token_type' value "x"`},
		{name: "useless type", p: Params{Type: ptr("default-batch")}, want: "0 [] batch []"},
		{name: "periodic batch", p: Params{Type: ptr("batch"), Period: ptr(time.Minute)}, want: "'token_type' cannot be 'batch' or 'default_batch' when set to generate periodic tokens"},
		{name: "counted batch", p: Params{Type: ptr("batch"), NumUses: ptr(1)}, want: "'token_type' cannot be 'batch' or 'default_batch' when set to generate tokens with limited use count"},
		{name: "many policies", p: Params{Policies: ptr(names(1001))}, want: "a token has at most 1000 policies, these are 1001: put rules together, or give them by groups"},
		{name: "a long policy", l: Legacy{Policies: ptr([]string{strings.Repeat("a", 513)})}, want: `the name of a policy has at most 512 bytes, "` + strings.Repeat("a", 40) + `"... has 513`},
		{name: "many addresses", p: Params{BoundCIDRs: ptr(make([]string, 1001))}, want: "at most 1000 addresses and CIDR blocks can bind tokens, these are 1001"},
		{name: "uses", p: Params{NumUses: ptr(-1)}, want: "'token_num_uses' cannot be negative"},
		{name: "address", p: Params{BoundCIDRs: ptr([]string{"here"})}, want: `error parsing address "here": Unable to convert "here" to an IPv4 or IPv6 address, or a UNIX Socket`},
	} {
		g := Grant{}
		_, err := g.Apply(&c.p, &c.l)
		out := map[string]any{}
		g.Show(out)
		got := fmt.Sprint(out["token_ttl"], " ", out["token_policies"], " ", out["token_type"], " ", g.Old)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// What is not given stays, and a newer name takes the place of an older one.
func TestPartial(t *testing.T) {
	t.Parallel()
	g := Grant{}
	steps := []struct {
		p Params
		l Legacy
	}{
		{l: Legacy{Policies: ptr([]string{"old"}), BoundCIDRs: ptr([]string{"10.0.0.0/8", "::1"})}},
		{p: Params{TTL: ptr(time.Minute)}},
		{p: Params{Policies: ptr([]string{"new"})}},
	}
	for _, s := range steps {
		if _, err := g.Apply(&s.p, &s.l); err != nil {
			t.Fatal(err)
		}
	}
	out := map[string]any{}
	g.Show(out)
	if got := fmt.Sprint(out["token_policies"], out["token_ttl"], out["bound_cidrs"], out["policies"]); got != "[new] 60 [10.0.0.0/8 ::1] <nil>" {
		t.Error(got)
	}
	auth := g.Auth()
	if auth.TTL != time.Minute || !slices.Equal(auth.Policies, []string{"new"}) || auth.Type != engine.TokenDefault || len(auth.BoundCIDRs) != 2 {
		t.Errorf("%+v", auth)
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	list, err := ParsePrefixes([]string{"10.0.0.0/8", "127.0.0.1", "", "fe80::/10"})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "11.1.2.3": false, "127.0.0.1": true, "127.0.0.2": false, "::ffff:10.1.2.3": true, "fe80::1%eth0": true, "::1": false,
	} {
		if got := Within(list, netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %t", addr, got)
		}
	}
	if !Within(nil, netip.Addr{}) || Within(list, netip.Addr{}) {
		t.Error("without a bound all may come, with one nobody whose address is unknown")
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	g := Grant{Policies: []string{"a", "b"}}
	if !g.Covers([]string{"b", "default", "a"}) || g.Covers([]string{"a"}) || g.Covers([]string{"a", "b", "c"}) {
		t.Error("policies are compared wrongly")
	}
}
