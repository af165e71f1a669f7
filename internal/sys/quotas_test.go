package sys_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/arcatest"
)

func TestQuotas(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/namespaces/a", s.Root, nil)
	s.Must("POST", "sys/mounts/kv", s.Root, map[string]any{"type": "kv"}, nsHeader, "a")
	s.Must("POST", "sys/auth/approle", s.Root, map[string]any{"type": "approle"})
	s.Must("POST", "auth/approle/role/r", s.Root, nil)
	for _, c := range []struct {
		name string
		body map[string]any
		want string
	}{
		{"a", map[string]any{"path": "a/kv/", "rate": 2, "interval": "1h"}, ""},
		{"b", map[string]any{"path": "a/kv", "rate": 5}, "exists under the name \"a\""},
		{"c", map[string]any{"path": "a/nosuch/", "rate": 5}, "invalid mount path"},
		{"d", map[string]any{"path": "auth/token/", "role": "x", "rate": 5}, "role-based"},
		{"e", map[string]any{"path": "auth/approle/", "role": "r", "rate": 1, "interval": "1h"}, ""},
		{"f", map[string]any{"path": "a/kv/", "rate": "NaN"}, "'rate' is invalid"},
		{"g", map[string]any{"path": "a/", "rate": 1000, "inheritable": true}, ""},
		{"h", map[string]any{"rate": 1, "role": "x"}, "'path' is required"},
	} {
		code, out := s.Do("POST", "sys/quotas/rate-limit/"+c.name, s.Root, c.body)
		if (code == 204) != (c.want == "") || !strings.Contains(firstError(out), c.want) {
			t.Errorf("%s: %d %v", c.name, code, out)
		}
	}
	s.Must("POST", "a/kv/x", s.Root, map[string]any{"k": "v"})
	s.Must("GET", "kv/x", s.Root, nil, nsHeader, "a")
	if code, out := s.Do("GET", "a/kv/x", s.Root, nil); code != 429 || !strings.Contains(firstError(out), "rate limit quota exceeded") {
		t.Errorf("a third request: %d %v", code, out)
	}
	s.Must("GET", "auth/token/lookup-self", s.Root, nil)

	id := field(t, s.Must("GET", "auth/approle/role/r/role-id", s.Root, nil), "data", "role_id")
	wrong := map[string]any{"role_id": id, "secret_id": "wrong"}
	for i, want := range []int{400, 429} {
		if code, _ := s.Do("POST", "auth/approle/login", "", wrong); code != want {
			t.Errorf("login %d: %d", i, code)
		}
	}
	if code, _ := s.Do("GET", "sys/quotas/config", s.Root, nil, nsHeader, "a"); code != 400 {
		t.Errorf("quotas of a namespace: %d", code)
	}
}

// Entities are counted wherever they come from, and who has none has a rate of its own.
func TestQuotasByEntity(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/mounts/kv", s.Root, map[string]any{"type": "kv"})
	s.Must("POST", "sys/auth/userpass", s.Root, map[string]any{"type": "userpass"})
	s.Must("POST", "sys/policies/acl/p", s.Root, map[string]any{"policy": `path "kv/*" { capabilities = ["list"] }`})
	tokens := map[string]string{}
	for _, name := range []string{"ann", "ann2", "bob"} {
		user := strings.TrimSuffix(name, "2")
		s.Must("POST", "auth/userpass/users/"+user, s.Root, map[string]any{"password": "correct", "token_policies": "p"})
		tokens[name] = field(t, s.Must("POST", "auth/userpass/login/"+user, "", map[string]any{"password": "correct"}), "auth", "client_token")
	}
	for _, c := range []struct {
		body map[string]any
		want string
	}{
		{map[string]any{"group_by": "name"}, "'group_by' is invalid"},
		{map[string]any{"secondary_rate": 1}, "'secondary_rate' can only be set"},
		{map[string]any{"group_by": "none", "secondary_rate": 1}, "'secondary_rate' can only be set"},
		{map[string]any{"group_by": "entity_then_ip", "secondary_rate": -1}, "'secondary_rate' is invalid"},
		{map[string]any{"group_by": "entity_then_ip", "secondary_rate": 1, "interval": "1h"}, ""},
	} {
		c.body["rate"], c.body["path"] = 2, "kv/"
		code, out := s.Do("POST", "sys/quotas/rate-limit/kv", s.Root, c.body)
		if (code == 204) != (c.want == "") || !strings.Contains(firstError(out), c.want) {
			t.Errorf("%v: %d %v", c.body, code, out)
		}
	}
	got := s.Must("GET", "sys/quotas/rate-limit/kv", s.Root, nil)
	if by, rate := arcatest.Dig(got, "data", "group_by"), fmt.Sprint(arcatest.Dig(got, "data", "secondary_rate")); by != "entity_then_ip" || rate != "1" {
		t.Errorf("read: %v", got)
	}
	for i, c := range []struct {
		token string
		want  int
	}{
		{tokens["ann"], 404},
		{tokens["ann2"], 404},
		{tokens["ann"], 429},
		{tokens["bob"], 404},
		{s.Root, 404},
		{s.Root, 429},
		{"hvs.nobody", 429},
		{"", 429},
		{tokens["bob"], 404},
		{tokens["bob"], 429},
	} {
		if code, out := s.Do("LIST", "kv/none", c.token, nil); code != c.want {
			t.Errorf("%d: status %d: %v, want %d", i, code, out, c.want)
		}
	}
	// A login is nobody's yet, whatever token comes along.
	s.Must("POST", "sys/quotas/rate-limit/login", s.Root, map[string]any{
		"path": "auth/userpass", "rate": 100, "secondary_rate": 1, "group_by": "entity_then_none", "interval": "1h",
	})
	for i, want := range []int{400, 429} {
		if code, out := s.Do("POST", "auth/userpass/login/ann", tokens["ann"], map[string]any{"password": "wrong"}); code != want {
			t.Errorf("login %d: status %d: %v", i, code, out)
		}
	}
}

// awaitCount waits until a quota for leases counts n.
func awaitCount(t *testing.T, s *arcatest.Server, name, want string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		got := fmt.Sprint(arcatest.Dig(s.Must("GET", "sys/quotas/lease-count/"+name, s.Root, nil), "data", "counter"))
		if got == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s counts %s, want %s", name, got, want)
		}
	}
}

func TestLeaseCountQuotas(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/namespaces/a", s.Root, nil)
	s.Must("POST", "sys/auth/approle", s.Root, map[string]any{"type": "approle"})
	for _, r := range []string{"r", "q"} {
		s.Must("POST", "auth/approle/role/"+r, s.Root, map[string]any{"bind_secret_id": false, "secret_id_bound_cidrs": "0.0.0.0/0", "token_ttl": "1h"})
	}
	id := map[string]string{}
	for _, r := range []string{"r", "q"} {
		id[r] = field(t, s.Must("GET", "auth/approle/role/"+r+"/role-id", s.Root, nil), "data", "role_id")
	}
	login := func(r string) (int, map[string]any) {
		return s.Do("POST", "auth/approle/login", "", map[string]any{"role_id": id[r]})
	}
	must := func(r string) string {
		t.Helper()
		code, out := login(r)
		if code != 200 {
			t.Fatalf("login of %s: %d %v", r, code, out)
		}
		return field(t, out, "auth", "client_token")
	}
	first := must("r") // before there is a quota
	for _, c := range []struct {
		name string
		body map[string]any
		want string
	}{
		{"bad", map[string]any{"max_leases": 0}, "'max_leases' is invalid"},
		{"all", map[string]any{"max_leases": 1000}, ""},
		{"all2", map[string]any{"max_leases": 5}, "exists under the name \"all\""},
		{"mount", map[string]any{"path": "auth/approle", "max_leases": 3}, ""},
		{"role", map[string]any{"path": "auth/approle", "role": "q", "max_leases": 1}, ""},
		{"inherit", map[string]any{"path": "auth/token", "inheritable": true, "max_leases": 1}, "inheritable"},
		{"ns", map[string]any{"path": "a/", "inheritable": true, "max_leases": 2}, ""},
	} {
		code, out := s.Do("POST", "sys/quotas/lease-count/"+c.name, s.Root, c.body)
		if (code == 204) != (c.want == "") || !strings.Contains(firstError(out), c.want) {
			t.Errorf("%s: %d %v", c.name, code, out)
		}
	}
	got := s.Must("GET", "sys/quotas/lease-count/role", s.Root, nil)["data"]
	if text := fmt.Sprint(got); text != "map[counter:0 inheritable:false max_leases:1 name:role path:auth/approle role:q type:lease-count]" {
		t.Error(text)
	}
	awaitCount(t, s, "mount", "1") // what was there already
	second := must("r")
	must("r")
	code, out := login("r")
	if code != 429 || firstError(out) != `request path "auth/approle/login": lease count quota exceeded` {
		t.Errorf("one too many: %d %v", code, out)
	}
	must("q")
	if code, _ := login("q"); code != 429 {
		t.Errorf("one too many of a role: %d", code)
	}
	awaitCount(t, s, "mount", "3")
	awaitCount(t, s, "role", "1")
	// A root token is made all the same; batch tokens are refused, and do not count.
	s.Must("POST", "sys/quotas/lease-count/tokens", s.Root, map[string]any{"path": "auth/token", "max_leases": 1})
	batch := map[string]any{"type": "batch", "ttl": "1h", "policies": "default"}
	s.Must("POST", "auth/token/create", s.Root, batch)
	s.Must("POST", "auth/token/create", s.Root, map[string]any{"ttl": "1h", "policies": "default"})
	awaitCount(t, s, "tokens", "1")
	if code, _ := s.Do("POST", "auth/token/create", s.Root, batch); code != 429 {
		t.Errorf("a batch token beyond the quota: %d", code)
	}
	s.Must("POST", "auth/token/create", s.Root, nil)
	// Of a namespace; with it they go.
	for range 2 {
		s.Must("POST", "auth/token/create", s.Root, map[string]any{"ttl": "1h", "policies": "default"}, nsHeader, "a")
	}
	if code, _ := s.Do("POST", "auth/token/create", s.Root, map[string]any{"ttl": "1h", "policies": "default"}, nsHeader, "a"); code != 429 {
		t.Errorf("beyond the quota of a namespace: %d", code)
	}
	s.Must("DELETE", "sys/namespaces/a", s.Root, nil)
	if code, _ := s.Do("GET", "sys/quotas/lease-count/ns", s.Root, nil); code != 404 {
		t.Errorf("the quota of a namespace that is gone: %d", code)
	}

	// Revoking makes room, one by one and below a prefix, also after a restart.
	s.Must("POST", "auth/token/revoke-self", first, nil)
	awaitCount(t, s, "mount", "2")
	if err := s.Core.Shut(); err != nil {
		t.Fatal(err)
	}
	s.Unseal()
	awaitCount(t, s, "mount", "2")
	s.Must("POST", "auth/token/renew-self", second, nil)
	must("r")
	if code, _ := login("r"); code != 429 {
		t.Errorf("after a restart: %d", code)
	}
	// What counted for a quota that is gone counts for the next.
	s.Must("DELETE", "sys/quotas/lease-count/role", s.Root, nil)
	awaitCount(t, s, "mount", "4")
	s.Must("POST", "sys/quotas/lease-count/mount", s.Root, map[string]any{"path": "auth/approle", "max_leases": 5})
	awaitCount(t, s, "mount", "4")
	must("q")
	s.Must("POST", "sys/leases/revoke-prefix/auth/approle", s.Root, nil)
	awaitCount(t, s, "mount", "0")
	s.Must("LIST", "sys/quotas/lease-count", s.Root, nil)
}

// Of many at the same time no more are made than a quota allows, and those that
// expire make room.
func TestLeaseCountQuotaRaced(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/quotas/lease-count/all", s.Root, map[string]any{"max_leases": 10})
	var work sync.WaitGroup
	var made atomic.Int32
	for range 40 {
		work.Go(func() {
			if code, _ := s.Do("POST", "auth/token/create", s.Root, map[string]any{"ttl": "1s", "policies": "default"}); code == 200 {
				made.Add(1)
			}
		})
	}
	work.Wait()
	if made.Load() != 10 {
		t.Errorf("%d tokens were made", made.Load())
	}
	awaitCount(t, s, "all", "0")
}

// A quota of a role binds its logins in whatever form the role is named, and one of a
// path those in whatever case.
func TestQuotasOfNames(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	for _, m := range []string{"approle", "jwt", "kubernetes", "userpass", "ldap"} {
		s.Must("POST", "sys/auth/"+m, s.Root, map[string]any{"type": m})
	}
	s.Must("POST", "auth/approle/role/r7", s.Root, map[string]any{"role_id": "7"})
	for _, c := range []struct {
		name, path, role, login string
		bodies                  []map[string]any
	}{
		{"approle", "auth/approle", "R7", "auth/approle/login", []map[string]any{{"role_id": 7}, {"role_id": " 7"}, {"role_id": "7"}}},
		{"jwt", "auth/jwt", "7", "auth/jwt/login", []map[string]any{{"role": 7}, {"role": "7"}}},
		{"jwt2", "auth/jwt", "Web", "auth/jwt/login", []map[string]any{{"role": "WEB"}, {"role": "web"}}},
		{"kubernetes", "auth/kubernetes", "1", "auth/kubernetes/login", []map[string]any{{"role": true}, {"role": 1}}},
	} {
		s.Must("POST", "sys/quotas/rate-limit/"+c.name, s.Root, map[string]any{"path": c.path, "role": c.role, "rate": 1, "interval": "1h"})
		for i, body := range c.bodies {
			if code, out := s.Do("POST", c.login, "", body); (code == 429) != (i > 0) {
				t.Errorf("%s %v: %d %v", c.name, body, code, out)
			}
		}
		if code, out := s.Do("POST", c.login, "", map[string]any{"role": "other"}); code == 429 {
			t.Errorf("%s for another role: %d %v", c.name, code, out)
		}
	}
	if code, out := s.Do("POST", "sys/quotas/rate-limit/again", s.Root, map[string]any{"path": "auth/approle", "role": "r7", "rate": 1}); code != 400 {
		t.Errorf("another quota for the same role: %d %v", code, out)
	}
	for path, at := range map[string]string{
		"auth/userpass/login/Bob": "auth/userpass/login/", "auth/ldap/login/bo*": "auth/ldap/login/",
	} {
		s.Must("POST", "sys/quotas/rate-limit/p"+strings.Trim(strings.ReplaceAll(at, "/", "-"), "-"), s.Root, map[string]any{"path": path, "rate": 1, "interval": "1h"})
		for i, name := range []string{"bob", "BOB", "Bob"} {
			if code, out := s.Do("POST", at+name, "", map[string]any{"password": "x"}); (code == 429) != (i > 0) {
				t.Errorf("%s: %d %v", at+name, code, out)
			}
		}
	}
	// Where case counts, it counts.
	s.Must("POST", "sys/mounts/kv", s.Root, map[string]any{"type": "kv"})
	s.Must("POST", "sys/quotas/rate-limit/kv", s.Root, map[string]any{"path": "kv/Team", "rate": 1, "interval": "1h"})
	for range 3 {
		s.Must("POST", "kv/team", s.Root, map[string]any{"a": "b"})
	}
}

// A token counts for its entity where it is good only: those of another namespace, or of entities that are gone, are as no token.
func TestQuotaOfForeignTokens(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	for _, ns := range []string{"a", "b"} {
		s.Must("POST", "sys/namespaces/"+ns, s.Root, nil)
	}
	s.Must("POST", "sys/quotas/rate-limit/a", s.Root, map[string]any{"path": "a/", "rate": 2, "interval": "1h", "group_by": "entity_then_ip", "secondary_rate": 1})
	s.Must("POST", "sys/auth/userpass", s.Root, map[string]any{"type": "userpass"}, nsHeader, "b")
	codes := map[int]int{}
	for i := range 6 {
		user := fmt.Sprint("u", i)
		s.Must("POST", "auth/userpass/users/"+user, s.Root, map[string]any{"password": "x", "token_type": "batch"}, nsHeader, "b")
		out := s.Must("POST", "auth/userpass/login/"+user, "", map[string]any{"password": "x"}, nsHeader, "b")
		tok, _ := arcatest.Dig(out, "auth", "client_token").(string)
		id, _ := arcatest.Dig(out, "auth", "entity_id").(string)
		if i >= 3 {
			s.Must("DELETE", "identity/entity/id/"+id, s.Root, nil, nsHeader, "b")
		}
		for range 2 {
			code, _ := s.Do("GET", "sys/mounts", tok, nil, nsHeader, "a")
			codes[code]++
		}
	}
	if codes[403] != 1 || codes[429] != 11 {
		t.Errorf("answers %v", codes)
	}
}
