package sys_test

import (
	"fmt"
	"testing"

	"arca/internal/arcatest"
)

// Policies, entities, groups, and users and groups of ldap have names with slashes,
// as in Vault; listings show them whole.
func TestNamesWithSlashes(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/auth/ldap", s.Root, map[string]any{"type": "ldap"})
	s.Must("POST", "auth/ldap/config", s.Root, map[string]any{"url": "ldap://127.0.0.1:1"})
	rules := `path "kv/*" { capabilities = ["read"] }`
	password := "length = 8\nrule \"charset\" { charset = \"abc\" }"
	for _, c := range []struct {
		dir, list string
		body      map[string]any
		member    string // that an answer to a read has
	}{
		{"sys/policies/acl/", "sys/policies/acl", map[string]any{"policy": rules}, "policy"},
		{"sys/policy/", "sys/policy", map[string]any{"policy": rules}, "rules"},
		{"sys/policies/password/", "sys/policies/password", map[string]any{"policy": password}, "policy"},
		{"identity/entity/name/", "identity/entity/name", map[string]any{"policies": "p"}, "id"},
		{"identity/group/name/", "identity/group/name", map[string]any{"policies": "p"}, "id"},
		{"auth/ldap/users/", "auth/ldap/users", map[string]any{"policies": "p"}, "policies"},
		{"auth/ldap/groups/", "auth/ldap/groups", map[string]any{"policies": "p"}, "policies"},
	} {
		for _, name := range []string{"team/dev", "team", "team/dev/x"} {
			s.Must("POST", c.dir+name, s.Root, c.body)
		}
		for _, name := range []string{"team/dev", "team", "team/dev/x"} {
			if out := s.Must("GET", c.dir+name, s.Root, nil); arcatest.Dig(out, "data", c.member) == nil {
				t.Errorf("%s%s: %v", c.dir, name, out)
			}
		}
		listed := func(after string, limit int) string {
			out := s.Must("GET", fmt.Sprintf("%s?list=true&after=%s&limit=%d", c.list, after, limit), s.Root, nil)
			return fmt.Sprint(arcatest.Dig(out, "data", "keys"))
		}
		if got := listed("s", 3); got != "[team team/dev team/dev/x]" {
			t.Errorf("%s: %s", c.list, got)
		}
		if got := listed("team", 1); got != "[team/dev]" {
			t.Errorf("%s, a page: %s", c.list, got)
		}
		s.Must("DELETE", c.dir+"team/dev", s.Root, nil)
		if code, _ := s.Do("GET", c.dir+"team/dev", s.Root, nil); code != 404 {
			t.Errorf("%s, deleted: %d", c.list, code)
		}
		s.Must("GET", c.dir+"team/dev/x", s.Root, nil)
		for _, method := range []string{"GET", "DELETE"} {
			if code, out := s.Do(method, c.dir, s.Root, nil); code != 404 && code != 405 {
				t.Errorf("%s %s without a name: %d %v", method, c.dir, code, out)
			}
		}
	}
	if out := s.Must("GET", "sys/policies/password/team/dev/x/generate", s.Root, nil); len(fmt.Sprint(arcatest.Dig(out, "data", "password"))) != 8 {
		t.Errorf("a password: %v", out)
	}
	// Made without a path, and found by one; policies of such names count, and bind.
	s.Must("POST", "identity/entity", s.Root, map[string]any{"name": "A/b"})
	if out := s.Must("GET", "identity/entity/name/a/B", s.Root, nil); arcatest.Dig(out, "data", "name") != "A/b" {
		t.Errorf("an entity: %v", out)
	}
	s.Must("POST", "sys/policies/acl/lead", s.Root, map[string]any{"policy": `path "sys/policies/acl/team/*" { capabilities = ["read"] }`})
	out := s.Must("POST", "auth/token/create", s.Root, map[string]any{"policies": "lead, team/dev/x"})
	id, _ := arcatest.Dig(out, "auth", "client_token").(string)
	s.Must("GET", "sys/policies/acl/team/dev/x", id, nil)
	for _, path := range []string{"sys/policies/acl/team", "sys/policies/acl/lead"} {
		if code, _ := s.Do("GET", path, id, nil); code != 403 {
			t.Errorf("%s: %d", path, code)
		}
	}
	s.Must("POST", "sys/mounts/kv", s.Root, map[string]any{"type": "kv"})
	s.Must("POST", "kv/a", s.Root, map[string]any{"a": "b"})
	s.Must("GET", "kv/a", id, nil)
}

// Who chooses a name with a slash does not choose what a rule is about.
func TestTemplateOfNameWithSlash(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/mounts/kv", s.Root, map[string]any{"type": "kv"})
	s.Must("POST", "kv/bob/private/k", s.Root, map[string]any{"a": "b"})
	s.Must("POST", "sys/policies/acl/own", s.Root, map[string]any{"policy": `path "kv/{{identity.entity.name}}/*" { capabilities = ["read"] }`})
	s.Must("POST", "sys/auth/userpass", s.Root, map[string]any{"type": "userpass"})
	s.Must("POST", "auth/userpass/users/u", s.Root, map[string]any{"password": "p", "token_policies": "own"})
	out := s.Must("POST", "auth/userpass/login/u", "", map[string]any{"password": "p"})
	id, _ := arcatest.Dig(out, "auth", "client_token").(string)
	entity := fmt.Sprint(arcatest.Dig(out, "auth", "entity_id"))
	for name, want := range map[string]int{"bob/private": 403, "bob": 200} {
		s.Must("POST", "identity/entity/id/"+entity, s.Root, map[string]any{"name": name})
		if code, _ := s.Do("GET", "kv/bob/private/k", id, nil); code != want {
			t.Errorf("as %s: %d, want %d", name, code, want)
		}
	}
	s.Must("GET", "auth/token/lookup-self", id, nil)
}
