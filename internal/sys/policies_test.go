package sys_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"arca/internal/arcatest"
)

// refused reports whether a request fails with this code and text.
func refused(t *testing.T, s *arcatest.Server, method, path, token string, body any, code int, text string, headers ...string) {
	t.Helper()
	got, out := s.Do(method, path, token, body, headers...)
	if got != code || !strings.Contains(fmt.Sprint(out["errors"]), text) {
		t.Errorf("%s %s: %d %v, want %d %s", method, path, got, out, code, text)
	}
}

// Nobody changes the policy of wrapping tokens, and nobody else has it: who could
// write it would have all that they write into it by wrapping an answer.
func TestWrappingPolicyIsTheHallsOwn(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/namespaces/team", s.Root, nil)
	evil := map[string]any{"policy": `path "*" { capabilities = ["sudo", "read", "update", "list"] }`}
	for _, ns := range []string{"", "team"} {
		for _, name := range []string{"response-wrapping", "Response-Wrapping", "root", "control-group"} {
			want := fmt.Sprintf("cannot update %q policy", strings.ToLower(name))
			for _, at := range []string{"sys/policies/acl/", "sys/policy/"} {
				refused(t, s, "PUT", at+name, s.Root, evil, 400, want, "X-Vault-Namespace", ns)
			}
		}
		refused(t, s, "DELETE", "sys/policies/acl/response-wrapping", s.Root, nil, 400, "cannot delete", "X-Vault-Namespace", ns)
		out := s.Must("GET", "sys/policies/acl/response-wrapping", s.Root, nil, "X-Vault-Namespace", ns)
		if text := fmt.Sprint(arcatest.Dig(out, "data", "policy")); !strings.Contains(text, "cubbyhole/response") {
			t.Errorf("in %q: %s", ns, text)
		}
	}
	// A wrapped answer is unwrapped.
	out := s.Must("POST", "sys/wrapping/wrap", s.Root, map[string]any{"a": "b"}, "X-Vault-Wrap-TTL", "60")
	id, _ := arcatest.Dig(out, "wrap_info", "token").(string)
	if out = s.Must("POST", "sys/wrapping/unwrap", id, nil); fmt.Sprint(arcatest.Dig(out, "data", "a")) != "b" {
		t.Errorf("unwrapped: %v", out)
	}
}

// Internal policies are given to nobody, by whatever way.
func TestInternalPoliciesAreNotAssigned(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/auth/userpass", s.Root, map[string]any{"type": "userpass"})
	login := func(user string) (int, map[string]any) {
		return s.Do("POST", "auth/userpass/login/"+user, "", map[string]any{"password": "p"})
	}
	for _, name := range []string{"response-wrapping", "control-group"} {
		want := fmt.Sprintf("cannot assign policy %q", name)
		refused(t, s, "POST", "auth/token/create", s.Root, map[string]any{"policies": name}, 400, want)

		s.Must("POST", "auth/userpass/users/own", s.Root, map[string]any{"password": "p", "token_policies": strings.ToUpper(name)})
		if code, out := login("own"); code != 400 || !strings.Contains(fmt.Sprint(out), want) {
			t.Errorf("a user's own: %d %v", code, out)
		}

		s.Must("POST", "auth/userpass/users/"+name, s.Root, map[string]any{"password": "p"})
		out := s.Must("POST", "auth/userpass/login/"+name, "", map[string]any{"password": "p"})
		before, _ := arcatest.Dig(out, "auth", "client_token").(string)
		entity := arcatest.Dig(out, "auth", "entity_id")
		s.Must("POST", "identity/group", s.Root, map[string]any{"name": name, "policies": name, "member_entity_ids": entity})
		if code, out := login(name); code != 400 || !strings.Contains(fmt.Sprint(out), want) {
			t.Errorf("by a group: %d %v", code, out)
		}
		out = s.Must("POST", "sys/capabilities", s.Root, map[string]any{"token": before, "path": "cubbyhole/response"})
		if got := fmt.Sprint(arcatest.Dig(out, "data", "capabilities")); strings.Contains(got, "create") && !strings.Contains(got, "list") {
			t.Errorf("what a token has of it: %s", got)
		}
	}
}

// The OpenAPI document tells strangers nothing of mounts, not even how many there are.
func TestOpenAPIForStrangers(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	for i := range 201 {
		s.Must("POST", fmt.Sprintf("sys/mounts/kv%d", i), s.Root, map[string]any{"type": "kv"})
	}
	if code, out := s.Do("GET", "sys/internal/specs/openapi", "", nil); code != 200 {
		t.Errorf("a stranger: %d %v", code, out)
	}
	refused(t, s, "GET", "sys/internal/specs/openapi", s.Root, nil, 413, "generic_mount_paths=true")
}

// Patterns of a role are of policy names, which have no case.
func TestRoleGlobsHaveNoCase(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("PUT", "sys/policies/acl/admin-x", s.Root, map[string]any{"policy": `path "a" { capabilities = ["read"] }`})
	s.Must("POST", "auth/token/roles/no", s.Root, map[string]any{"disallowed_policies_glob": "Admin-*, Admin-*"})
	refused(t, s, "POST", "auth/token/create/no", s.Root, map[string]any{"policies": "admin-x"}, 400, "is disallowed by this role")
	refused(t, s, "POST", "auth/token/create/no", s.Root, map[string]any{"policies": "ADMIN-X"}, 400, "is disallowed by this role")
	s.Must("POST", "auth/token/roles/yes", s.Root, map[string]any{"allowed_policies_glob": []string{"ADMIN-*"}})
	s.Must("POST", "auth/token/create/yes", s.Root, map[string]any{"policies": "Admin-X"})
	out := s.Must("GET", "auth/token/roles/no", s.Root, nil)
	got, _ := arcatest.Dig(out, "data", "disallowed_policies_glob").([]any)
	if !slices.Equal(got, []any{"admin-*"}) {
		t.Errorf("as it is shown: %v", got)
	}
}

// What one asks of capabilities has bounds, however it is written.
func TestCapabilitiesBounds(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	many := strings.Repeat("a,", 1000) + "a"
	for _, c := range []struct {
		name  string
		paths any
		want  string // of the error; "" is none
	}{
		{"the most", strings.TrimSuffix(many, ",a"), ""},
		{"many", many, "at most 1000 paths"},
		{"long", []string{strings.Repeat("a", 300_000)}, "262144 bytes"},
		{"a million", strings.Repeat("a,", 1_000_000), "more than 10000 members"},
	} {
		for _, path := range []string{"sys/capabilities", "sys/capabilities-self"} {
			code, out := s.Do("POST", path, s.Root, map[string]any{"token": s.Root, "paths": c.paths})
			if got := fmt.Sprint(out["errors"]); c.want == "" && code != 200 || c.want != "" && (code != 400 || !strings.Contains(got, c.want)) {
				t.Errorf("%s, %s: %d %.200s", path, c.name, code, got)
			}
		}
	}
}
