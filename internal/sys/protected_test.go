package sys_test

import (
	"strings"
	"testing"

	"arca/internal/arcatest"
	"arca/internal/core"
)

// Vault's documentation lists the paths that demand sudo of a policy (concepts/policies,
// "Root protected API endpoints"; sys/leases and the listing of a type of plugins are on
// the list of its client library). Those of engines that are not here (pki), of
// replication, and of clusters (step-down, snapshot-auto) are left out.
var protected = []struct{ path, methods string }{
	{"auth/token/accessors", "LIST"},
	{"sys/audit", "GET"},
	{"sys/audit/x", "POST DELETE"},
	{"sys/auth/x", "GET POST DELETE"},
	{"sys/auth/token/tune", "GET POST"},
	{"sys/config/auditing/request-headers", "GET"},
	{"sys/config/auditing/request-headers/x", "GET POST DELETE"},
	{"sys/config/cors", "GET POST DELETE"},
	{"sys/config/ui/headers", "LIST"},
	{"sys/config/ui/headers/x", "POST DELETE"},
	{"sys/internal/inspect/router/root", "GET"},
	{"sys/leases", "GET"},
	{"sys/leases/lookup/x", "LIST"},
	{"sys/leases/revoke-force/x", "POST"},
	{"sys/leases/revoke-prefix/x", "POST"},
	{"sys/plugins/catalog/auth", "LIST"},
	{"sys/plugins/catalog/auth/userpass", "GET POST DELETE"},
	{"sys/raw/x", "GET POST DELETE"},
	{"sys/raw/", "LIST"},
	{"sys/remount", "POST"},
	{"sys/rotate", "POST"},
	{"sys/seal", "POST"}, // last: with sudo it seals
}

func TestProtected(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{Core: core.Config{Introspection: true, RawEndpoint: true}})
	holder := func(name, capabilities string) string {
		s.Must("PUT", "sys/policies/acl/"+name, s.Root, object{"policy": `path "*" { capabilities = ["create", "read", "update", "delete", "list", "patch"` + capabilities + `] }`})
		out := s.Must("POST", "auth/token/create", s.Root, object{"policies": name, "no_parent": true})
		return arcatest.Dig(out, "auth", "client_token").(string)
	}
	without, with := holder("without", ""), holder("with", `, "sudo"`)
	for _, p := range protected {
		for method := range strings.FieldsSeq(p.methods) {
			if code, out := s.Do(method, p.path, without, object{}); code != 403 {
				t.Errorf("%s %s without sudo: %d %v", method, p.path, code, out)
			}
			if code, out := s.Do(method, p.path, with, object{}); code == 403 || code == 405 {
				t.Errorf("%s %s with sudo: %d %v", method, p.path, code, out)
			}
		}
	}
	s.Unseal()
	for _, in := range []object{{"period": "1h"}, {"no_parent": true}} {
		if code, out := s.Do("POST", "auth/token/create", without, in); code != 400 || !strings.Contains(out["errors"].([]any)[0].(string), "root or sudo privileges required") {
			t.Errorf("a token with %v without sudo: %d %v", in, code, out)
		}
	}
}
