package sys_test

import (
	"fmt"
	"strings"
	"testing"

	"arca/internal/arcatest"
	"arca/internal/engine"
	"arca/internal/errs"
)

// Quotas go where their mounts go, with what was counted, and end with them and with their namespaces.
func TestQuotasFollowMounts(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	for _, ns := range []string{"n", "nn"} { // the same names in three namespaces
		s.Must("POST", "sys/namespaces/"+ns, s.Root, nil)
	}
	spaces := []string{"", "n/", "nn/"}
	for _, ns := range spaces {
		s.Must("POST", ns+"sys/mounts/kv", s.Root, map[string]any{"type": "kv"})
		s.Must("POST", ns+"sys/mounts/kv3", s.Root, map[string]any{"type": "kv"})
		s.Must("POST", ns+"sys/auth/userpass", s.Root, map[string]any{"type": "userpass"})
		s.Must("POST", ns+"auth/userpass/users/bob", s.Root, map[string]any{"password": "pw"})
		tag := strings.Trim(ns, "/")
		for name, path := range map[string]string{"m": "kv", "s": "kv/data/*", "o": "kv3/", "l": "auth/userpass/login/bob"} {
			s.Must("POST", "sys/quotas/rate-limit/"+name+tag, s.Root, map[string]any{"path": ns + path, "rate": 2, "interval": "1h", "block_interval": "1h"})
		}
		s.Must("POST", "sys/quotas/lease-count/c"+tag, s.Root, map[string]any{"path": ns + "auth/userpass/", "max_leases": 1})
	}
	s.Must("POST", "sys/quotas/rate-limit/ns", s.Root, map[string]any{"path": "n/", "rate": 1000})
	s.Must("POST", "sys/quotas/rate-limit/ns2", s.Root, map[string]any{"path": "nn/", "rate": 1000})
	s.Must("POST", "sys/quotas/rate-limit/all", s.Root, map[string]any{"rate": 100000})
	asks := func(path string) int { code, _ := s.Do("GET", path, s.Root, nil); return code }
	login := func(at string) int {
		code, _ := s.Do("POST", at+"/login/bob", "", map[string]any{"password": "pw"})
		return code
	}
	want := func(what string, got any, want string) {
		t.Helper()
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %s", what, got, want)
		}
	}
	paths := func() string {
		var out []string
		for _, kind := range []string{"rate-limit", "lease-count"} {
			_, list := s.Do("LIST", "sys/quotas/"+kind, s.Root, nil)
			names, _ := arcatest.Dig(list, "data", "keys").([]any)
			for _, name := range names {
				got := s.Must("GET", fmt.Sprintf("sys/quotas/%s/%s", kind, name), s.Root, nil)
				out = append(out, fmt.Sprint(name, "=", arcatest.Dig(got, "data", "path")))
			}
		}
		return strings.Join(out, " ")
	}
	before := paths()
	want("a login", login("n/auth/userpass"), "200")
	want("one asks", asks("n/kv/x"), "404")

	// The namespace n moves two of its mounts, the others stay as they are.
	move := func(from, to string) {
		t.Helper()
		s.Must("POST", "sys/remount", s.Root, map[string]any{"from": from, "to": to}, nsHeader, "n")
	}
	move("kv", "team/kv2")
	move("auth/userpass", "auth/up")
	want("paths", paths(), strings.NewReplacer("mn=n/kv ", "mn=n/team/kv2 ", "sn=n/kv/data", "sn=n/team/kv2/data",
		"ln=n/auth/userpass/login", "ln=n/auth/up/login", "cn=n/auth/userpass/", "cn=n/auth/up/").Replace(before))
	want("who asked before", fmt.Sprint(asks("n/team/kv2/x"), asks("n/team/kv2/x")), "404 429")
	want("below", fmt.Sprint(asks("n/team/kv2/data/x"), asks("n/team/kv2/data/x"), asks("n/team/kv2/data/x")), "404 404 429")
	want("others", fmt.Sprint(asks("n/kv3/x"), asks("kv/x"), asks("nn/kv/x")), "404 404 404")
	awaitCount(t, s, "cn", "0") // the moved mount's tokens are revoked
	want("a login where the mount is", login("n/auth/up"), "200")
	awaitCount(t, s, "cn", "1")
	want("another, which is one too many", login("n/auth/up"), "429")
	move("team/kv2", "kv") // nobody gets a fresh interval
	want("moved to and fro", asks("n/kv/x"), "429")
	move("kv", "team/kv2")
	// A new mount at the old path is a new one.
	s.Must("POST", "n/sys/mounts/kv", s.Root, map[string]any{"type": "kv"})
	want("a new mount", fmt.Sprint(asks("n/kv/x"), asks("n/kv/x"), asks("n/kv/x")), "404 404 404")

	// A move that is refused changes nothing.
	moved := paths()
	if code, _ := s.Do("POST", "sys/remount", s.Root, map[string]any{"from": "kv3", "to": "kv"}, nsHeader, "n"); code != 400 {
		t.Errorf("a move to a path in use: %d", code)
	}
	want("after a move that was refused", paths(), moved)

	// A mount that is disabled takes its own along.
	s.Must("DELETE", "sys/mounts/team/kv2", s.Root, nil, nsHeader, "n")
	s.Must("DELETE", "sys/auth/up", s.Root, nil, nsHeader, "n")
	want("after their end", paths(), "all= l=auth/userpass/login/bob lnn=nn/auth/userpass/login/bob m=kv mnn=nn/kv ns=n/ ns2=nn/ o=kv3/ on=n/kv3/ onn=nn/kv3/ "+
		"s=kv/data/* snn=nn/kv/data/* c=auth/userpass/ cnn=nn/auth/userpass/")
	s.Must("POST", "sys/mounts/team/kv2", s.Root, map[string]any{"type": "kv"}, nsHeader, "n")
	want("a new mount of its name", fmt.Sprint(asks("n/team/kv2/x"), asks("n/team/kv2/x"), asks("n/team/kv2/x")), "404 404 404")

	// And so does a namespace, of which one with a longer name is none.
	s.Must("DELETE", "sys/namespaces/n", s.Root, nil)
	want("after the namespace's end", paths(), "all= l=auth/userpass/login/bob lnn=nn/auth/userpass/login/bob m=kv mnn=nn/kv ns2=nn/ o=kv3/ onn=nn/kv3/ "+
		"s=kv/data/* snn=nn/kv/data/* c=auth/userpass/ cnn=nn/auth/userpass/")
}

// Rate limits hold for what a sealed node serves, too; by default not for health checks and the way to unseal.
func TestQuotasOfWhatIsServedSealed(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/namespaces/n", s.Root, nil)
	do := func(text string, headers ...string) int {
		t.Helper()
		method, path, _ := strings.Cut(text, " ")
		var body any
		if method == "PUT" {
			body = map[string]any{"key": "00", "nonce": "x"}
		}
		code, _ := s.Do(method, path, "bad", body, headers...)
		return code
	}
	exempt := []string{"GET sys/health", "GET sys/seal-status", "GET sys/generate-root/attempt", "PUT sys/generate-root/update", "PUT sys/unseal"}
	bound := []string{
		"PUT sys/seal", "PUT sys/step-down", "GET sys/leader", "GET sys/init", "PUT sys/init", "GET sys/rekey/init", "PUT sys/rekey/update",
		"DELETE sys/rekey/init", "PUT sys/rekey-recovery-key/update", "GET sys/seal-backend-status",
	}
	check := func(when string, list []string, limited bool) {
		t.Helper()
		for _, text := range list {
			if code := do(text); (code == 429) != limited {
				t.Errorf("%s: %s: status %d", when, text, code)
			}
		}
	}
	check("without a quota", append(bound, exempt...), false)
	s.Must("POST", "sys/quotas/rate-limit/all", s.Root, map[string]any{"rate": 2, "interval": "1h"})
	for i, want := range []int{200, 200, 429} {
		if code := do("GET sys/leader"); code != want {
			t.Fatalf("%d: status %d, want %d", i, code, want)
		}
	}
	check("beyond the quota", bound, true)
	check("beyond the quota", exempt, false)
	if code := do("GET sys/seal-status", nsHeader, "n"); code != 200 {
		t.Errorf("seal-status of a namespace: %d", code)
	}
	if s.Core.Sealed() {
		t.Fatal("sealed")
	}
	if err := s.Core.Shut(); err != nil {
		t.Fatal(err)
	}
	check("sealed", append(bound, exempt...), false)
}

// A request that a door hands in again, as no active node was known, counts once.
func TestQuotasCountOnce(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/mounts/kv", s.Root, map[string]any{"type": "kv"})
	s.Must("POST", "sys/quotas/rate-limit/all", s.Root, map[string]any{"rate": 2, "interval": "1h"})
	for _, path := range []string{"sys/leader", "kv/a"} {
		req := &engine.Request{ID: "1", Op: engine.OpRead, Path: path, Token: s.Root}
		for range 5 {
			if _, err := s.Core.Handle(t.Context(), req); errs.Is(err, errs.Limited) {
				t.Fatalf("%s: %v", path, err)
			}
		}
	}
	if _, err := s.Core.Handle(t.Context(), &engine.Request{ID: "2", Op: engine.OpRead, Path: "kv/a", Token: s.Root}); !errs.Is(err, errs.Limited) {
		t.Errorf("the third: %v", err)
	}
}

// Which paths no rate limit bounds is configured, for what a sealed node serves, too.
func TestQuotasExemptServedSealed(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/quotas/config", s.Root, map[string]any{"rate_limit_exempt_paths": []string{"sys/leader", "sys/quotas/"}})
	s.Must("POST", "sys/quotas/rate-limit/sys", s.Root, map[string]any{"path": "sys/", "rate": 100, "interval": "1h"})
	s.Must("POST", "sys/quotas/rate-limit/init", s.Root, map[string]any{"path": "sys/init", "rate": 1, "interval": "1h"})
	s.Must("POST", "sys/quotas/rate-limit/rekey", s.Root, map[string]any{"path": "sys/rekey/*", "rate": 1, "interval": "1h"})
	s.Must("POST", "sys/quotas/rate-limit/health", s.Root, map[string]any{"path": "sys/health", "rate": 1, "interval": "1h"})
	for i, c := range []struct {
		path string
		want int
	}{
		{"sys/leader", 200},
		{"sys/init", 200},
		{"sys/init", 429},
		{"sys/rekey/init", 200},
		{"sys/rekey/verify", 429},
		{"sys/health", 200},
		{"sys/health", 429},
		{"sys/seal-status", 200},
	} {
		if code, out := s.Do("GET", c.path, "", nil); code != c.want {
			t.Errorf("%d: %s: status %d: %v, want %d", i, c.path, code, out, c.want)
		}
	}
	s.Must("POST", "sys/quotas/config", s.Root, map[string]any{"rate_limit_exempt_paths": []string{"sys/health", "sys/quotas/"}})
	s.Must("GET", "sys/health", "", nil)
}
