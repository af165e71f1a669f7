package sys_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"arca/internal/arcatest"
)

// A batch token is not counted, so a role that limits uses makes none: the
// limit must not be dropped in silence.
func TestBatchTokenOfLimitingRole(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	for _, c := range []struct{ name, member, policies, want string }{
		{"uses", "token_num_uses", "default", "cannot have \"token_num_uses\" set"},
		{"period", "token_period", "default", "cannot have \"token_period\" set"},
		{"root first", "token_num_uses", "root", "batch tokens cannot be root tokens"},
	} {
		role := "auth/token/roles/r"
		s.Must("POST", role, s.Root, map[string]any{"orphan": true, c.member: 60})
		code, out := s.Do("POST", "auth/token/create/r", s.Root, map[string]any{"type": "batch", "policies": c.policies})
		errors, _ := out["errors"].([]any)
		if code != 400 || len(errors) != 1 || !strings.Contains(errors[0].(string), c.want) {
			t.Errorf("%s: %d %v", c.name, code, out)
		}
		s.Must("DELETE", role, s.Root, nil)
	}
}

// A token lives no longer than it was asked for, whatever becomes of its role.
func TestExplicitMaxOutlivesRole(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	role := "auth/token/roles/r"
	s.Must("POST", role, s.Root, map[string]any{"token_explicit_max_ttl": "1h"})
	out := s.Must("POST", "auth/token/create/r", s.Root, map[string]any{"explicit_max_ttl": "2h"})
	if got := fmt.Sprint(arcatest.Dig(out, "auth", "lease_duration")); got != "3600" {
		t.Errorf("with both bounds: %s s", got)
	}
	id, _ := arcatest.Dig(out, "auth", "client_token").(string)
	s.Must("POST", role, s.Root, map[string]any{"token_explicit_max_ttl": 0})
	out = s.Must("POST", "auth/token/renew-self", id, map[string]any{"increment": "100h"})
	left, _ := strconv.Atoi(fmt.Sprint(arcatest.Dig(out, "auth", "lease_duration")))
	if left < 3600 || left > 7200 {
		t.Errorf("without the role's bound: %d s", left)
	}
}

// What anybody may ask is not kept for strangers; a login is.
func TestStrangersAreNotWrapped(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/auth/userpass", s.Root, map[string]any{"type": "userpass"})
	s.Must("POST", "auth/userpass/users/u", s.Root, map[string]any{"password": "p"})
	out := s.Must("GET", "sys/internal/ui/mounts", "", nil, "X-Vault-Wrap-TTL", "87600h")
	if arcatest.Dig(out, "wrap_info") != nil || arcatest.Dig(out, "data", "secret") == nil {
		t.Errorf("a stranger's answer: %v", out)
	}
	out = s.Must("POST", "auth/userpass/login/u", "", map[string]any{"password": "p"}, "X-Vault-Wrap-TTL", "60")
	if arcatest.Dig(out, "wrap_info", "token") == nil {
		t.Errorf("a login: %v", out)
	}
}

func TestPolicyNameWithBlank(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	for _, name := range []string{"%20root", "root%20", "a%09"} {
		if code, out := s.Do("PUT", "sys/policies/acl/"+name, s.Root, map[string]any{"policy": `path "a" { capabilities = ["read"] }`}); code != 400 {
			t.Errorf("%q: %d %v", name, code, out)
		}
	}
}

// Batch tokens, of which nothing is stored, end with the auth method that gave them;
// one that is moved keeps them.
func TestBatchTokensEndWithTheirMount(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/namespaces/a", s.Root, nil)
	for _, ns := range []string{"", "a"} {
		mount := func() string {
			s.Must("POST", "sys/auth/up", s.Root, map[string]any{"type": "userpass"}, nsHeader, ns)
			s.Must("POST", "auth/up/users/u", s.Root, map[string]any{"password": "p", "token_type": "batch"}, nsHeader, ns)
			out := s.Must("POST", "auth/up/login/u", "", map[string]any{"password": "p"}, nsHeader, ns)
			id, _ := arcatest.Dig(out, "auth", "client_token").(string)
			return id
		}
		valid := func(id string) bool {
			code, _ := s.Do("GET", "auth/token/lookup-self", id, nil, nsHeader, ns)
			return code == 200
		}
		id := mount()
		s.Must("POST", "sys/remount", s.Root, map[string]any{"from": "auth/up", "to": "auth/moved"}, nsHeader, ns)
		if !valid(id) {
			t.Errorf("in %q: not valid after a move", ns)
		}
		other := mount()
		s.Must("DELETE", "sys/auth/moved", s.Root, nil, nsHeader, ns)
		if valid(id) || !valid(other) {
			t.Errorf("in %q: valid without its mount: %v; another's: %v", ns, valid(id), valid(other))
		}
		s.Must("DELETE", "sys/auth/up", s.Root, nil, nsHeader, ns)
		mount()
		if valid(other) {
			t.Errorf("in %q: valid by a mount that took the place of its own", ns)
		}
	}
}

// A token has bounds, however it is made: each use of it reads its record and looks
// at all its policies.
func TestTokenBounds(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprint("p", i)
	}
	long := strings.Repeat("a", 40_000)
	pairs := map[string]string{}
	for i := range 100 {
		pairs[fmt.Sprint("k", i)] = strings.Repeat("v", 550)
	}
	s.Must("POST", "auth/token/roles/r", s.Root, map[string]any{"allowed_policies_glob": "*"})
	for _, c := range []struct {
		name, path string
		body       map[string]any
		want       string // of the error; "" is none
	}{
		{"many policies", "auth/token/create", map[string]any{"policies": many}, "at most 1000 policies"},
		{"many policies, with commas", "auth/token/create", map[string]any{"policies": strings.Join(many, ",")}, "at most 1000 policies"},
		{"many policies by a role", "auth/token/create/r", map[string]any{"policies": many}, "at most 1000 policies"},
		{"a role of many", "auth/token/roles/many", map[string]any{"allowed_policies": many}, "at most 1000 policies"},
		{"the most policies", "auth/token/create", map[string]any{"policies": many[:999]}, ""},
		{"a long policy", "auth/token/create", map[string]any{"policies": []string{long}}, "at most 512 bytes"},
		{"a long name", "auth/token/create", map[string]any{"display_name": long}, "display_name has at most 512 bytes"},
		{"much metadata", "auth/token/create", map[string]any{"meta": map[string]string{"a": long, "b": long}}, "of at most 65536"},
		{"much metadata of a batch token", "auth/token/create", map[string]any{"type": "batch", "policies": "default", "meta": map[string]string{"a": long, "b": long}}, "batch token would be longer"},
		{"as much metadata as Vault's documentation allows any", "auth/token/create", map[string]any{"meta": pairs}, ""},
	} {
		code, out := s.Do("POST", c.path, s.Root, c.body)
		errors := fmt.Sprint(out["errors"])
		if c.want == "" && code != 200 || c.want != "" && (code != 400 || !strings.Contains(errors, c.want)) {
			t.Errorf("%s: %d %.300s, want %q", c.name, code, errors, c.want)
		}
	}
	// What a token wraps is not a part of these.
	s.Must("POST", "sys/wrapping/wrap", s.Root, map[string]any{"a": long, "b": long}, "X-Vault-Wrap-TTL", "60")
	s.Must("POST", "sys/auth/approle", s.Root, map[string]any{"type": "approle"})
	s.Must("POST", "auth/approle/role/r", s.Root, map[string]any{"token_policies": "p"})
	if code, out := s.Do("POST", "auth/approle/role/r", s.Root, map[string]any{"token_policies": many}); code != 400 {
		t.Errorf("a role for logins with many policies: %d %v", code, out)
	}
	for _, c := range []struct {
		text string
		want int
	}{{`{"k":"` + long + `"}`, 400}, {`{"k":"` + long[:20_000] + `"}`, 200}} {
		if code, out := s.Do("POST", "auth/approle/role/r/secret-id", s.Root, map[string]any{"metadata": c.text}); code != c.want {
			t.Errorf("a secret id with %d bytes of metadata: %d %v", len(c.text), code, out["errors"])
		}
	}
}
