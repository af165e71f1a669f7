package sys_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"arca/internal/arcatest"
)

const explained = `# web

path "kv/a" { capabilities = ["create"] }
path "kv/+/b" {
  capabilities = ["read", "update"]
  allowed_parameters = { k = ["v"] }
  denied_parameters = { z = [] }
  required_parameters = ["k"]
}
path "kv/w" {
  capabilities = ["read"]
  min_wrapping_ttl = "10s"
}
path "kv/no" { capabilities = ["deny"] }
path "kv/{{identity.entity.name}}/*" { capabilities = ["read"] }
path "sys/audit" { capabilities = ["read"] }
path "sys/mounts/*" { capabilities = ["read"] }
path "sys/mounts/+/tune" { capabilities = ["update"] }
`

// What is answered is what the request itself meets: each case is asked about
// and then done.
func TestExplain(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/mounts/kv", s.Root, object{"type": "kv"})
	s.Must("POST", "sys/namespaces/team", s.Root, nil)
	s.Must("PUT", "sys/policies/acl/web", s.Root, object{"policy": explained})
	tok := arcatest.Dig(s.Must("POST", "auth/token/create", s.Root, object{"policies": []string{"web", "gone"}}), "auth", "client_token").(string)
	cases := []struct {
		name, op, path, method string
		params                 object
		ns                     string
		reason                 string
		line                   int
	}{
		{name: "no rule", op: "read", path: "kv/x", reason: "no_rule"},
		{name: "denied", op: "read", path: "kv/no", reason: "denied", line: 14},
		{name: "capability", op: "read", path: "kv/a", reason: "missing_capability", line: 3},
		{name: "value", op: "write", path: "kv/q/b", params: object{"k": "w"}, reason: "parameter_value_not_allowed", line: 4},
		{name: "not allowed", op: "update", path: "kv/q/b", params: object{"k": "v", "x": 1}, reason: "parameter_not_allowed", line: 4},
		{name: "denied parameter", op: "update", path: "kv/q/b", params: object{"k": "v", "z": 1}, reason: "parameter_denied", line: 4},
		{name: "required", op: "update", path: "kv/q/b", params: object{"x": "v"}, reason: "parameter_required", line: 4},
		{name: "wrapping", op: "read", path: "kv/w", reason: "wrap_ttl", line: 10},
		{name: "sudo", op: "read", path: "sys/audit", reason: "sudo_required", line: 16},
		{name: "namespace", op: "read", path: "kv/a", ns: "other", reason: "namespace_unreachable"},
		{name: "below", op: "read", path: "kv/a", ns: "team", reason: "no_rule"},
		{name: "overridden", op: "read", path: "sys/mounts/kv/tune", reason: "missing_capability", line: 18},
		{name: "allowed", op: "read", path: "auth/token/lookup-self", reason: "allowed"},
		{name: "no token", op: "read", path: "sys/health", reason: "no_token_needed"},
	}
	for _, c := range cases {
		in := object{"operation": c.op, "path": c.path, "parameters": c.params, "namespace": c.ns}
		self := s.Must("POST", "sys/policies/explain-self", tok, in)
		in["token"] = tok
		other := s.Must("POST", "sys/policies/explain", s.Root, in)
		for who, out := range map[string]map[string]any{"self": self, "other": other} {
			if got := arcatest.Dig(out, "data", "reason"); got != c.reason {
				t.Errorf("%s, %s: reason %v, want %s: %v", c.name, who, got, c.reason, out["data"])
			}
			rules, _ := arcatest.Dig(out, "data", "rules").([]any)
			if c.line > 0 && (len(rules) != 1 || fmt.Sprint(rules[0].(map[string]any)["line"]) != fmt.Sprint(c.line) || rules[0].(map[string]any)["policy"] != "web") {
				t.Errorf("%s, %s: rules %v, want line %v", c.name, who, rules, c.line)
			}
			if m, _ := arcatest.Dig(out, "data", "missing_policies").([]any); c.ns != "other" && !slices.Equal(m, []any{"gone"}) {
				t.Errorf("%s, %s: missing policies %v", c.name, who, m)
			}
		}
		method := map[string]string{"read": "GET", "write": "PUT", "update": "PUT"}[c.op]
		var headers []string
		if c.ns != "" {
			headers = []string{nsHeader, c.ns}
		}
		var body any
		if c.params != nil {
			body = c.params
		}
		code, _ := s.Do(method, c.path, tok, body, headers...)
		allowed := arcatest.Dig(self, "data", "allowed") == true
		if refused := code == 403 || c.ns == "other"; refused == allowed {
			t.Errorf("%s: explained as allowed %v, but the request has status %d", c.name, allowed, code)
		}
	}
}

func TestExplainSubjects(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/namespaces/team", s.Root, nil)
	s.Must("PUT", "sys/policies/acl/web", s.Root, object{"policy": explained})
	ask := func(in object, headers ...string) any {
		t.Helper()
		in["operation"], in["path"] = "read", "kv/ann/x"
		return arcatest.Dig(s.Must("POST", "sys/policies/explain", s.Root, in, headers...), "data", "reason")
	}
	entity := arcatest.Dig(s.Must("POST", "identity/entity", s.Root, object{"name": "ann", "policies": "web"}), "data", "id").(string)
	want := func(what string, got any, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %s", what, got, want)
		}
	}
	want("entity", ask(object{"entity_id": entity}), "allowed")
	want("policies, without entity", ask(object{"policies": "web"}), "no_rule")
	want("a namespace below has policies of its own", ask(object{"policies": "web"}, nsHeader, "team"), "no_rule")
	want("entity of the namespace above", ask(object{"entity_id": entity}, nsHeader, "team"), "entity_gone")
	s.Must("POST", "identity/entity/id/"+entity, s.Root, object{"disabled": true})
	want("disabled", ask(object{"entity_id": entity}), "entity_disabled")
	made := s.Must("POST", "auth/token/create", s.Root, object{"policies": "default"})
	accessor := arcatest.Dig(made, "auth", "accessor").(string)
	want("accessor", ask(object{"accessor": accessor}), "no_rule")
	s.Must("POST", "auth/token/revoke-accessor", s.Root, object{"accessor": accessor})
	want("revoked", ask(object{"accessor": accessor}), "token_invalid")

	tok := arcatest.Dig(s.Must("POST", "auth/token/create", s.Root, nil), "auth", "client_token").(string)
	low := arcatest.Dig(s.Must("POST", "auth/token/create", s.Root, object{"policies": "default"}), "auth", "client_token").(string)
	must(t, s, 403, "POST", "sys/policies/explain", low, object{"token": tok, "operation": "read", "path": "x"})
	must(t, s, 400, "POST", "sys/policies/explain", s.Root, object{"token": tok, "accessor": "a", "operation": "read", "path": "x"})
	must(t, s, 400, "POST", "sys/policies/explain", s.Root, object{"policies": "root", "operation": "read", "path": "x"}, nsHeader, "team")
	must(t, s, 400, "POST", "sys/policies/explain", s.Root, object{"policies": strings.Repeat("p,", 1000) + "p", "operation": "read", "path": "x"})
	must(t, s, 400, "POST", "sys/policies/explain-self", low, object{"operation": "fly", "path": "x"})
}

// Who asks for their own token sees rules of the token's own namespace; of others, which
// give something by their groups, only the names of policies.
func TestExplainSelfElsewhere(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/namespaces/team", s.Root, nil)
	s.Must("POST", "sys/auth/userpass", s.Root, object{"type": "userpass"})
	s.Must("POST", "auth/userpass/users/ann", s.Root, object{"password": "p", "token_policies": "own"})
	login := s.Must("POST", "auth/userpass/login/ann", "", object{"password": "p"})
	tok := arcatest.Dig(login, "auth", "client_token").(string)
	s.Must("PUT", "sys/policies/acl/own", s.Root, object{"policy": `path "team/kv/own" { capabilities = ["read"] }`})
	s.Must("PUT", "sys/policies/acl/theirs", s.Root, object{"policy": `path "kv/secret-name" {
  capabilities        = ["read"]
  min_wrapping_ttl    = "77s"
}
path "kv/with" {
  capabilities        = ["update"]
  required_parameters = ["hidden"]
}`}, nsHeader, "team")
	s.Must("POST", "identity/group", s.Root, object{"name": "g", "policies": "theirs", "member_entity_ids": arcatest.Dig(login, "auth", "entity_id")}, nsHeader, "team")
	ask := func(path, as string, in object) map[string]any {
		t.Helper()
		out := s.Must("POST", path, as, in)
		return out["data"].(map[string]any)
	}
	own := ask("sys/policies/explain-self", tok, object{"operation": "read", "path": "team/kv/own"})
	if rule := own["rules"].([]any)[0].(map[string]any); rule["path"] != "team/kv/own" || rule["line"] == nil {
		t.Errorf("a rule of one's own namespace: %v", own)
	}
	for _, c := range []struct{ op, path, reason string }{
		{"read", "team/kv/secret-name", "wrap_ttl"},
		{"update", "team/kv/with", "parameter_required"},
	} {
		in := object{"operation": c.op, "path": c.path}
		got := ask("sys/policies/explain-self", tok, in)
		rules, _ := got["rules"].([]any)
		if got["reason"] != c.reason || len(rules) != 1 || fmt.Sprint(rules[0]) != "map[namespace:team/ policy:theirs]" {
			t.Errorf("%s: %v", c.path, got)
		}
		if text := fmt.Sprint(got); strings.Contains(text, "hidden") || strings.Contains(text, "77") {
			t.Errorf("a rule of another namespace shows: %v", got)
		}
		in["token"] = tok
		if rule := ask("sys/policies/explain", s.Root, in)["rules"].([]any)[0].(map[string]any); rule["line"] == nil {
			t.Errorf("%s, for who may read it: %v", c.path, rule)
		}
	}
}
