package sys_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/arcatest"
	"arca/internal/storage"
)

const nsHeader = "X-Vault-Namespace"

// firstError is the first text of an answer's errors.
func firstError(out map[string]any) string {
	list, _ := out["errors"].([]any)
	if len(list) == 0 {
		return ""
	}
	return fmt.Sprint(list[0])
}

func field(t *testing.T, out map[string]any, keys ...string) string {
	t.Helper()
	text, ok := arcatest.Dig(out, keys...).(string)
	if !ok {
		t.Fatalf("no %v in %v", keys, out)
	}
	return text
}

// S0-54, S3-49: a namespace has policies, mounts and tokens of its own, reached
// by header and by path, and tokens reach down, never up or sideways.
func TestNamespacesAreApart(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	for _, ns := range []string{"a", "b"} {
		s.Must("POST", "sys/namespaces/"+ns, s.Root, nil)
		s.Must("POST", "sys/mounts/kv", s.Root, map[string]any{"type": "kv"}, nsHeader, ns)
		s.Must("POST", "kv/x", s.Root, map[string]any{"of": ns}, nsHeader, ns)
		s.Must("POST", "sys/policies/acl/all", s.Root,
			map[string]any{"policy": `path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }`}, nsHeader, ns)
	}
	s.Must("POST", "sys/namespaces/c", s.Root, nil, nsHeader, "a")
	s.Must("POST", "a/c/sys/mounts/kv", s.Root, map[string]any{"type": "kv"})
	s.Must("POST", "a/c/kv/x", s.Root, map[string]any{"of": "c"})

	tokens := map[string]string{"root": s.Root}
	for name, body := range map[string]map[string]any{
		"service": {"policies": []string{"all"}},
		"batch":   {"policies": []string{"all"}, "type": "batch"},
	} {
		tokens[name] = field(t, s.Must("POST", "auth/token/create", s.Root, body, nsHeader, "a"), "auth", "client_token")
	}
	if id := tokens["service"]; strings.Count(id, ".") != 2 {
		t.Errorf("a namespace's token does not name it: %s", id)
	}
	for _, c := range []struct {
		token, method, path, ns string
		code                    int
		of                      string
	}{
		{"service", "GET", "kv/x", "a", 200, "a"},
		{"service", "GET", "a/kv/x", "", 200, "a"},
		{"service", "GET", "kv/x", "a/c", 200, "c"},
		{"service", "GET", "c/kv/x", "a", 200, "c"},
		{"service", "GET", "kv/x", "b", 403, ""},
		{"service", "GET", "b/kv/x", "", 403, ""},
		{"service", "GET", "sys/mounts", "", 403, ""},
		{"service", "GET", "sys/mounts", "b", 403, ""},
		{"service", "GET", "sys/policies/acl/all", "b", 403, ""},
		{"service", "POST", "sys/seal", "", 403, ""},
		{"service", "POST", "sys/seal", "a", 400, ""},
		{"service", "GET", "sys/raw/", "a", 404, ""}, // not enabled; never a way into the store
		{"service", "GET", "sys/audit", "a", 400, ""},
		{"root", "POST", "sys/decode-token", "a", 400, ""},
		{"root", "GET", "sys/ha-status", "a", 400, ""},
		{"service", "POST", "auth/token/create", "b", 403, ""},
		{"service", "GET", "auth/token/lookup-self", "b", 200, ""},
		{"batch", "GET", "kv/x", "a", 200, "a"},
		{"batch", "GET", "kv/x", "a/c", 200, "c"},
		{"batch", "GET", "kv/x", "b", 403, ""},
		{"root", "GET", "kv/x", "b", 200, "b"},
		{"root", "GET", "kv/x", "", 404, ""},
		{"root", "GET", "kv/x", "nosuch", 404, ""},
		{"root", "GET", "kv/x", "A", 404, ""},
	} {
		var headers []string
		if c.ns != "" {
			headers = []string{nsHeader, c.ns}
		}
		code, out := s.Do(c.method, c.path, tokens[c.token], nil, headers...)
		of, _ := arcatest.Dig(out, "data", "of").(string)
		if code != c.code || of != c.of {
			t.Errorf("%s %s %s in %q: %d %v", c.token, c.method, c.path, c.ns, code, out)
		}
	}
	// By accessor, too, only downwards.
	acc := field(t, s.Must("POST", "auth/token/create", s.Root, map[string]any{"policies": "default"}, nsHeader, "b"), "auth", "accessor")
	if code, out := s.Do("POST", "auth/token/revoke-accessor", tokens["service"], map[string]any{"accessor": acc}, nsHeader, "a"); code != 200 ||
		!strings.Contains(fmt.Sprint(out["warnings"]), "No token found") {
		t.Errorf("revoked a token of another namespace: %d %v", code, out)
	}
	s.Must("POST", "auth/token/lookup-accessor", s.Root, map[string]any{"accessor": acc}, nsHeader, "b")
}

// A policy's name means nothing in another namespace: what a token holds above
// gives it no policy of the same name below.
func TestPoliciesOfTheSameName(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/namespaces/a", s.Root, nil)
	s.Must("POST", "sys/policies/acl/admin", s.Root, map[string]any{"policy": `path "a/auth/token/*" { capabilities = ["update"] }`})
	s.Must("POST", "sys/policies/acl/admin", s.Root, map[string]any{"policy": `path "*" { capabilities = ["sudo", "read", "update"] }`}, nsHeader, "a")
	s.Must("POST", "auth/token/roles/open", s.Root, map[string]any{"orphan": true}, nsHeader, "a")
	weak := field(t, s.Must("POST", "auth/token/create", s.Root, map[string]any{"policies": "admin"}), "auth", "client_token")
	for _, path := range []string{"auth/token/create", "auth/token/create/open"} {
		code, out := s.Do("POST", path, weak, map[string]any{"policies": "admin"}, nsHeader, "a")
		if code != 400 || !strings.Contains(firstError(out), "subset of parent") {
			t.Errorf("%s: %d %v", path, code, out)
		}
		out = s.Must("POST", path, weak, nil, nsHeader, "a")
		if got := fmt.Sprint(arcatest.Dig(out, "auth", "policies")); got != "[default]" {
			t.Errorf("%s: inherited %s", path, got)
		}
		code, out = s.Do("POST", path, s.Root, nil, nsHeader, "a")
		if code != 400 || !strings.Contains(firstError(out), "non-root namespace") {
			t.Errorf("%s by root: %d %v", path, code, out)
		}
	}
	// An id of the caller's choice names the namespace, too, and is found there.
	id := field(t, s.Must("POST", "auth/token/create", s.Root, map[string]any{"policies": "default", "id": "mine"}, nsHeader, "a"), "auth", "client_token")
	if !strings.HasPrefix(id, "mine.") {
		t.Errorf("chosen id became %s", id)
	}
	s.Must("GET", "auth/token/lookup-self", id, nil, nsHeader, "a")
}

// A token's renewal keeps to its own namespace's bounds, wherever it is asked for.
func TestRenewSelfElsewhere(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/namespaces/a", s.Root, nil)
	s.Must("POST", "sys/mounts/auth/token/tune", s.Root, map[string]any{"max_lease_ttl": "1h"}, nsHeader, "a")
	id := field(t, s.Must("POST", "auth/token/create", s.Root, map[string]any{"policies": []string{"default"}, "ttl": "10m"}, nsHeader, "a"),
		"auth", "client_token")
	for _, headers := range [][]string{{nsHeader, "a"}, nil} {
		out := s.Must("POST", "auth/token/renew-self", id, map[string]any{"increment": "100h"}, headers...)
		ttl := fmt.Sprint(arcatest.Dig(out, "auth", "lease_duration"))
		if d, err := time.ParseDuration(ttl + "s"); err != nil || d > time.Hour {
			t.Errorf("renewed in %v for %s s", headers, ttl)
		}
	}
}

func TestNamespaceNames(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/mounts/taken", s.Root, map[string]any{"type": "kv"})
	s.Must("POST", "sys/mounts/deep/er", s.Root, map[string]any{"type": "kv"})
	s.Must("POST", "sys/namespaces/ns", s.Root, nil)
	for _, c := range []struct{ path, want string }{
		{"sys/namespaces/taken", "path is already in use at taken/"},
		{"sys/namespaces/deep", "path is already in use at deep/er/"},
		{"sys/namespaces/+", "means something else"},
		{"sys/namespaces/a*", "means something else"},
		{"sys/namespaces/" + strings.Repeat("n", 129), "longer than 128 bytes"},
		{"sys/namespaces/identity", "reserved path"},
		{"sys/mounts/ns", "path is already in use at ns/"},
		{"sys/mounts/ns/kv", "path is already in use at ns/"},
	} {
		code, out := s.Do("POST", c.path, s.Root, map[string]any{"type": "kv"})
		if code != 400 || !strings.Contains(firstError(out), c.want) {
			t.Errorf("%s: %d %v", c.path, code, out)
		}
	}
	path := ""
	for range 33 {
		code, out := s.Do("POST", "sys/namespaces/n", s.Root, nil, nsHeader, path)
		if code != 200 {
			if strings.Count(path, "/") != 32 || !strings.Contains(firstError(out), "32 deep") {
				t.Errorf("at %q: %d %v", path, code, out)
			}
			break
		}
		path += "n/"
	}
}

// A locked namespace answers nothing, and neither does what lies below, until
// its key or a root token opens it.
func TestNamespaceLock(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/namespaces/a", s.Root, nil)
	s.Must("POST", "sys/namespaces/b", s.Root, nil, nsHeader, "a")
	id := field(t, s.Must("POST", "auth/token/create", s.Root, map[string]any{"policies": []string{"default"}}, nsHeader, "a/b"), "auth", "client_token")
	key := field(t, s.Must("POST", "sys/namespaces/api-lock/lock/a", s.Root, nil), "data", "unlock_key")
	for _, headers := range [][]string{{nsHeader, "a"}, {nsHeader, "a/b"}, nil} {
		if code, out := s.Do("GET", "auth/token/lookup-self", id, nil, headers...); code != 503 {
			t.Errorf("in %v: %d %v", headers, code, out)
		}
	}
	if code, out := s.Do("POST", "sys/namespaces/api-lock/unlock", id, map[string]any{"unlock_key": key}, nsHeader, "a"); code != 403 {
		t.Errorf("unlocked without a right to: %d %v", code, out)
	}
	s.Must("POST", "sys/namespaces/api-lock/unlock", s.Root, map[string]any{"unlock_key": key}, nsHeader, "a")
	s.Must("GET", "auth/token/lookup-self", id, nil, nsHeader, "a/b")
	s.Must("POST", "sys/namespaces/api-lock/lock", s.Root, nil, nsHeader, "a/b")
	s.Must("POST", "sys/namespaces/api-lock/unlock/b", s.Root, nil, nsHeader, "a") // a root token needs no key
	if code, out := s.Do("POST", "sys/namespaces/api-lock/lock", s.Root, nil); code != 400 {
		t.Errorf("locked the root: %d %v", code, out)
	}
}

// What a locked namespace wrapped stays shut, too, when a request elsewhere names
// the wrapping token in its body.
func TestNamespaceLockHoldsWrapped(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/namespaces/a", s.Root, nil)
	s.Must("POST", "sys/namespaces/b", s.Root, nil, nsHeader, "a")
	for _, format := range []string{"", "jwt"} {
		id := field(t, s.Must("POST", "sys/wrapping/wrap", s.Root, map[string]any{"k": "v"}, nsHeader, "a/b",
			"X-Vault-Wrap-TTL", "60", "X-Vault-Wrap-Format", format), "wrap_info", "token")
		s.Must("POST", "sys/namespaces/api-lock/lock/a", s.Root, nil)
		for _, path := range []string{"sys/wrapping/lookup", "sys/wrapping/unwrap", "sys/wrapping/rewrap"} {
			if code, out := s.Do("POST", path, s.Root, map[string]any{"token": id}); code != 503 {
				t.Errorf("%s of a locked namespace's token (format %q): %d %v", path, format, code, out)
			}
		}
		s.Must("POST", "sys/namespaces/api-lock/unlock/a", s.Root, nil)
		s.Must("POST", "sys/wrapping/unwrap", s.Root, map[string]any{"token": id})
	}
}

// Deleting a namespace makes its tokens and paths invalid at once, and nothing
// of it stays in the store.
func TestNamespaceDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := arcatest.New(t, arcatest.Config{})
		keys := func() map[string]bool {
			all := map[string]bool{}
			err := s.Core.Active().DB.View(context.Background(), func(tx storage.Tx) error {
				for key, err := range tx.Keys("", "") {
					if err != nil {
						return err
					}
					all[key] = true
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		synctest.Wait() // until what a node does once has been done
		before := keys()
		s.Must("POST", "sys/namespaces/a", s.Root, map[string]any{"custom_metadata": map[string]any{"k": "v"}})
		s.Must("POST", "sys/mounts/kv", s.Root, map[string]any{"type": "kv"}, nsHeader, "a")
		for i := range 100 {
			s.Must("POST", fmt.Sprintf("kv/x%d", i), s.Root, map[string]any{"a": "b"}, nsHeader, "a")
		}
		var ids []string
		for range 20 {
			ids = append(ids, field(t, s.Must("POST", "auth/token/create", s.Root,
				map[string]any{"policies": []string{"default"}, "no_parent": true, "ttl": "1h"}, nsHeader, "a"), "auth", "client_token"))
		}
		for range 70 { // whose parent lives on in another namespace
			ids = append(ids, field(t, s.Must("POST", "auth/token/create", s.Root,
				map[string]any{"policies": []string{"default"}, "ttl": "1h"}, nsHeader, "a"), "auth", "client_token"))
		}
		batch := field(t, s.Must("POST", "auth/token/create", s.Root, map[string]any{"policies": []string{"default"}, "type": "batch"}, nsHeader, "a"),
			"auth", "client_token")
		s.Must("DELETE", "sys/namespaces/a", s.Root, nil)
		for _, id := range append(ids, batch) {
			if code, out := s.Do("GET", "auth/token/lookup-self", id, nil); code != 403 {
				t.Errorf("a token of a deleted namespace: %d %v", code, out)
			}
		}
		s.Must("POST", "sys/namespaces/a", s.Root, nil) // the name is free at once
		if code, _ := s.Do("GET", "kv/x1", s.Root, nil, nsHeader, "a"); code != 404 {
			t.Errorf("the new namespace has the old one's mount: %d", code)
		}
		s.Must("DELETE", "sys/namespaces/a", s.Root, nil)
		time.Sleep(2 * time.Hour) // until all is removed and the tokens' times are over; of the bubble
		synctest.Wait()
		for key := range keys() {
			if !before[key] {
				t.Errorf("left: %s", key)
			}
		}
	})
}
