package core_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/arcatest"
	"arca/internal/engine"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

type object = map[string]any

// A lender is an engine that leases secrets, as databases do.
type lender struct {
	mu      sync.Mutex
	out     map[string]bool // user names that exist
	broken  bool            // revoking fails
	tried   int             // attempts to revoke
	n       int
	refuses bool // renewing fails
}

var (
	_ engine.Renewer = (*lender)(nil)
	_ engine.Revoker = (*lender)(nil)
)

func (*lender) Type() string { return "lender" }

func (l *lender) Routes() []engine.Route {
	return []engine.Route{
		engine.Read("creds/{role}", l.give), engine.Read("config", func(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
			return &engine.Response{Data: object{}}, nil
		}),
	}
}

type giveIn struct {
	Role string `api:"role"`
}

func (l *lender) give(_ context.Context, call *engine.Call, in giveIn) (*engine.Response, error) {
	if !call.Tx.Writable() {
		return nil, storage.ErrReadOnly // a user is made once
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	user := fmt.Sprintf("%s-%d", in.Role, l.n)
	l.out[user] = true
	return &engine.Response{Data: object{"username": user}, Lease: &engine.Lease{
		Kind: "user", Internal: object{"user": user}, TTL: time.Hour, MaxTTL: 3 * time.Hour, Renewable: in.Role != "fixed",
	}}, nil
}

func (l *lender) Renew(_ context.Context, _ *engine.Call, lease *engine.Lease) (*engine.Response, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuses || !l.out[lease.Internal["user"].(string)] {
		return nil, errors.New("the user cannot be kept")
	}
	return nil, nil
}

func (l *lender) Revoke(_ context.Context, _ *engine.Call, lease *engine.Lease) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tried++
	if l.broken {
		return errors.New("the database does not answer")
	}
	delete(l.out, lease.Internal["user"].(string))
	return nil
}

func (l *lender) set(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
}

func (l *lender) users() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.out)
}

// lending runs a test within a bubble of synctest, on a server with a lender at db/.
func lending(t *testing.T, fn func(t *testing.T, s *arcatest.Server, l *lender)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lender{out: map[string]bool{}}
		s := arcatest.New(t, arcatest.Config{Backend: storagetest.NewMap(), Engines: []engine.Engine{l}})
		s.Must("POST", "sys/mounts/db", s.Root, object{"type": "lender"})
		fn(t, s, l)
	})
}

// pass lets time go by in the bubble.
func pass(d time.Duration) {
	time.Sleep(d) // the time of the bubble
	synctest.Wait()
}

func give(s *arcatest.Server, token, role string) (id string) {
	out := s.Must("GET", "db/creds/"+role, token, nil)
	id, _ = out["lease_id"].(string)
	return id
}

func newToken(s *arcatest.Server, body object) (id, accessor string) {
	out := s.Must("POST", "auth/token/create", s.Root, body)
	id, _ = arcatest.Dig(out, "auth", "client_token").(string)
	accessor, _ = arcatest.Dig(out, "auth", "accessor").(string)
	return id, accessor
}

func policyFor(s *arcatest.Server, name, text string) {
	s.Must("PUT", "sys/policies/acl/"+name, s.Root, object{"policy": text})
}

func expect(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestLeaseLife(t *testing.T) {
	lending(t, func(t *testing.T, s *arcatest.Server, l *lender) {
		out := s.Must("GET", "db/creds/r", s.Root, nil)
		id, _ := out["lease_id"].(string)
		expect(t, "duration", out["lease_duration"], 3600)
		expect(t, "renewable", out["renewable"], true)
		pass(30 * time.Minute)
		for _, path := range []string{"sys/leases/lookup"} {
			got := s.Must("PUT", path, s.Root, object{"lease_id": id})
			expect(t, "ttl", arcatest.Dig(got, "data", "ttl"), 1800)
			expect(t, "renewable", arcatest.Dig(got, "data", "renewable"), true)
		}
		// Client traps: the legacy paths, too.
		got := s.Must("PUT", "sys/renew/"+id, s.Root, object{"increment": "2h"})
		expect(t, "renewed for", got["lease_duration"], 7200)
		expect(t, "lease", got["lease_id"], id)
		got = s.Must("PUT", "sys/leases/renew", s.Root, object{"lease_id": id, "increment": "5h"})
		expect(t, "no longer than its maximum", got["lease_duration"], 9000)
		pass(2*time.Hour + 29*time.Minute)
		expect(t, "users", l.users(), 1)
		pass(2 * time.Minute)
		expect(t, "users at the end", l.users(), 0)
		if code, _ := s.Do("PUT", "sys/leases/lookup", s.Root, object{"lease_id": id}); code != 400 {
			t.Errorf("an ended lease: %d", code)
		}
		if code, _ := s.Do("PUT", "sys/leases/renew", s.Root, object{"lease_id": id}); code != 400 {
			t.Errorf("renewing it: %d", code)
		}
		fixed := give(s, s.Root, "fixed")
		if code, _ := s.Do("PUT", "sys/leases/renew", s.Root, object{"lease_id": fixed}); code != 400 {
			t.Errorf("renewing what is not renewable: %d", code)
		}
		l.set(func() { l.refuses = true })
		if code, _ := s.Do("PUT", "sys/leases/renew", s.Root, object{"lease_id": give(s, s.Root, "r")}); code != 500 {
			t.Errorf("a renewal that the engine refuses: %d", code)
		}
	})
}

func TestLeaseRevocation(t *testing.T) {
	lending(t, func(t *testing.T, s *arcatest.Server, l *lender) {
		s.Must("PUT", "sys/leases/revoke", s.Root, object{"lease_id": give(s, s.Root, "a")})
		s.Must("PUT", "sys/revoke/"+give(s, s.Root, "a"), s.Root, nil)
		expect(t, "users", l.users(), 0)
		s.Must("PUT", "sys/leases/revoke", s.Root, object{"lease_id": "db/creds/a/none"}) // gone already

		for _, role := range []string{"a", "a", "b"} {
			give(s, s.Root, role)
		}
		got := s.Must("LIST", "sys/leases/lookup/db/creds/", s.Root, nil)
		expect(t, "list", arcatest.Dig(got, "data", "keys"), []any{"a/", "b/"})
		s.Must("PUT", "sys/leases/revoke-prefix/db/creds/a", s.Root, nil)
		expect(t, "users", l.users(), 1)

		l.set(func() { l.broken = true })
		if code, _ := s.Do("PUT", "sys/leases/revoke-prefix/db", s.Root, nil); code != 500 {
			t.Errorf("what the engine cannot revoke: %d", code)
		}
		if code, _ := s.Do("DELETE", "sys/mounts/db", s.Root, nil); code != 500 {
			t.Errorf("a mount whose leases cannot be revoked: %d", code)
		}
		got = s.Must("LIST", "sys/leases/lookup/db/creds/", s.Root, nil)
		expect(t, "still there", arcatest.Dig(got, "data", "keys"), []any{"b/"})
		s.Must("PUT", "sys/revoke-force/db", s.Root, nil)
		if code, _ := s.Do("LIST", "sys/leases/lookup/db/creds/", s.Root, nil); code != 404 {
			t.Errorf("leases after force: %d", code)
		}
		l.set(func() { l.broken = false })
		give(s, s.Root, "c")
		s.Must("DELETE", "sys/mounts/db", s.Root, nil)
		expect(t, "users after the mount", l.users(), 1) // the one that force gave up
	})
}

// A lease that cannot be revoked is tried six times, with growing pauses.
func TestIrrevocableLease(t *testing.T) {
	lending(t, func(t *testing.T, s *arcatest.Server, l *lender) {
		id := give(s, s.Root, "r")
		other := give(s, s.Root, "fixed")
		l.set(func() { l.broken = true })
		pass(time.Hour + time.Second)
		if l.tried == 0 {
			t.Fatal("it was not tried")
		}
		if code, _ := s.Do("PUT", "sys/leases/renew", s.Root, object{"lease_id": id}); code != 400 {
			t.Errorf("an expired lease was renewed: %d", code)
		}
		pass(time.Hour)
		tried := l.tried
		pass(24 * time.Hour)
		if l.tried != tried {
			t.Errorf("it is tried for ever: %d times", l.tried)
		}
		got := s.Must("GET", "sys/leases?type=irrevocable", s.Root, nil)
		expect(t, "irrevocable", arcatest.Dig(got, "data", "lease_count"), 2)
		got = s.Must("GET", "sys/leases/count?type=irrevocable", s.Root, nil)
		expect(t, "counted", arcatest.Dig(got, "data", "lease_count"), 2)
		if code, _ := s.Do("PUT", "sys/leases/renew", s.Root, object{"lease_id": id}); code != 400 {
			t.Errorf("an irrevocable lease was renewed: %d", code)
		}
		mounts := s.Must("GET", "sys/mounts", s.Root, nil)
		accessor := fmt.Sprint(arcatest.Dig(mounts, "data", "db/", "accessor"))
		expect(t, "counts", arcatest.Dig(s.Must("GET", "sys/leases/count?type=irrevocable", s.Root, nil), "data", "counts"), object{accessor: 2})
		for _, c := range []struct {
			query              string
			code, listed, warn int
		}{
			{"", 200, 2, 0},
			{"&limit=none", 200, 2, 0},
			{"&force=true&limit=1", 200, 2, 0},
			{"&limit=1", 200, 1, 1},
			{"&limit=2", 200, 2, 0},
			{"&limit=0", 400, 0, 0},
			{"&limit=x", 400, 0, 0},
		} {
			code, out := s.Do("GET", "sys/leases?type=irrevocable"+c.query, s.Root, nil)
			leases, _ := arcatest.Dig(out, "data", "leases").([]any)
			warnings, _ := out["warnings"].([]any)
			expect(t, "list"+c.query, fmt.Sprint(code, len(leases), len(warnings)), fmt.Sprint(c.code, c.listed, c.warn))
			if c.code == 200 {
				expect(t, "count of the list"+c.query, arcatest.Dig(out, "data", "lease_count"), 2)
				expect(t, "mount", leases[0].(object)["mount_id"], accessor)
			}
		}
		l.set(func() { l.broken = false })
		s.Must("PUT", "sys/leases/revoke", s.Root, object{"lease_id": id})
		s.Must("PUT", "sys/leases/revoke", s.Root, object{"lease_id": other})
		expect(t, "users", l.users(), 0)
		got = s.Must("GET", "sys/leases?type=irrevocable", s.Root, nil)
		expect(t, "left", arcatest.Dig(got, "data", "lease_count"), 0)
	})
}

// The leases of a token end with it, however it ends, and with its parents.
func TestLeasesOfTokens(t *testing.T) {
	lending(t, func(t *testing.T, s *arcatest.Server, l *lender) {
		policyFor(s, "db", `path "db/*" { capabilities = ["read"] } path "auth/token/create" { capabilities = ["update"] }`)
		give(s, s.Root, "root")
		parent, _ := newToken(s, object{"policies": []string{"db"}, "ttl": "10h"})
		out := s.Must("POST", "auth/token/create", parent, object{"ttl": "10h"})
		child, _ := arcatest.Dig(out, "auth", "client_token").(string)
		for range 100 { // more than the background does at once
			give(s, child, "c")
		}
		short, _ := newToken(s, object{"policies": []string{"db"}, "ttl": "10m"})
		give(s, short, "s")
		limited, _ := newToken(s, object{"policies": []string{"db"}, "num_uses": 1})
		give(s, limited, "l")
		synctest.Wait()
		expect(t, "users", l.users(), 102) // that of the last use is gone
		pass(11 * time.Minute)
		expect(t, "users after the short token", l.users(), 101)
		s.Must("POST", "auth/token/revoke", s.Root, object{"token": parent})
		synctest.Wait()
		expect(t, "users after the parent", l.users(), 1)
		batch, _ := newToken(s, object{"policies": []string{"db"}, "type": "batch"})
		if code, _ := s.Do("GET", "db/creds/b", batch, nil); code != 400 {
			t.Errorf("a batch token got a lease: %d", code)
		}
	})
}

// Leases outlive sealing, and those that became due meanwhile end afterwards.
func TestLeasesAfterSeal(t *testing.T) {
	lending(t, func(t *testing.T, s *arcatest.Server, l *lender) {
		give(s, s.Root, "r")
		s.Must("PUT", "sys/seal", s.Root, nil)
		pass(2 * time.Hour)
		expect(t, "users while sealed", l.users(), 1)
		s.Unseal()
		synctest.Wait()
		expect(t, "users", l.users(), 0)
	})
}

// Many leases cost a request nothing: they are taken back in the background.
func TestManyLeases(t *testing.T) {
	lending(t, func(t *testing.T, s *arcatest.Server, l *lender) {
		lend := func(n int) {
			for range n {
				give(s, s.Root, "r")
			}
		}
		lend(600)
		l.set(func() { l.tried = 0; l.broken = true })
		code, out := s.Do("PUT", "sys/leases/revoke-prefix/db", s.Root, nil)
		expect(t, "answer", code, 202)
		expect(t, "warnings", len(out["warnings"].([]any)), 1)
		time.Sleep(time.Microsecond)     // the time of the bubble
		later := give(s, s.Root, "late") // is not meant
		pass(time.Second)
		expect(t, "tried, and left", fmt.Sprint(l.tried >= 600, l.users()), "true 601")
		l.set(func() { l.broken = false })
		pass(time.Minute)
		expect(t, "users", l.users(), 1)
		s.Must("PUT", "sys/leases/revoke", s.Root, object{"lease_id": later})

		// What nobody could revoke is tried once more.
		lend(600)
		l.set(func() { l.broken = true })
		pass(3 * time.Hour)
		got := s.Must("GET", "sys/leases/count?type=irrevocable", s.Root, nil)
		expect(t, "irrevocable", arcatest.Dig(got, "data", "lease_count"), 600)
		s.Must("PUT", "sys/leases/revoke-prefix/db", s.Root, nil)
		pass(time.Minute)
		got = s.Must("GET", "sys/leases/count?type=irrevocable", s.Root, nil)
		expect(t, "irrevocable again", arcatest.Dig(got, "data", "lease_count"), 600)
		l.set(func() { l.broken = false })
		s.Must("PUT", "sys/leases/revoke-prefix/db", s.Root, nil)
		pass(time.Minute)
		expect(t, "users", l.users(), 0)

		lend(600)
		l.set(func() { l.broken = true })
		code, _ = s.Do("PUT", "sys/leases/revoke-force/db", s.Root, nil)
		expect(t, "answer with force", code, 202)
		pass(time.Second)
		code, _ = s.Do("LIST", "sys/leases/lookup/db/creds/", s.Root, nil)
		expect(t, "leases after force", code, 404)
	})
}

// A mount with many leases ends with the request that disables it, and is there for its
// engine until the last is taken back.
func TestMountOfManyLeases(t *testing.T) {
	lending(t, func(t *testing.T, s *arcatest.Server, l *lender) {
		for range 600 {
			give(s, s.Root, "r")
		}
		id := give(s, s.Root, "r")
		l.set(func() { l.broken = true })
		code, _ := s.Do("DELETE", "sys/mounts/db", s.Root, nil)
		expect(t, "answer", code, 202)
		code, _ = s.Do("DELETE", "sys/mounts/db", s.Root, nil)
		expect(t, "once more", code, 202)
		for _, c := range []struct {
			method, path string
			body         object
			want         int
		}{
			{"GET", "db/creds/r", nil, 404},
			{"PUT", "sys/leases/renew", object{"lease_id": id}, 400},
			{"POST", "sys/mounts/db", object{"type": "kv"}, 400},
			{"POST", "sys/remount", object{"from": "db", "to": "db2"}, 400},
			{"GET", "sys/mounts/db", nil, 200},
		} {
			if code, out := s.Do(c.method, c.path, s.Root, c.body); code != c.want {
				t.Errorf("%s %s of a mount that ends: %d %v, want %d", c.method, c.path, code, out, c.want)
			}
		}
		pass(3 * time.Hour) // longer than it is tried
		expect(t, "users", l.users(), 601)
		code, _ = s.Do("GET", "sys/mounts/db", s.Root, nil)
		expect(t, "a mount whose leases cannot be taken back", code, 200)
		l.set(func() { l.broken = false })
		code, _ = s.Do("DELETE", "sys/mounts/db", s.Root, nil) // which tries all once more
		expect(t, "again", code, 202)
		pass(2 * time.Minute)
		expect(t, "users", l.users(), 0)
		code, _ = s.Do("GET", "sys/mounts/db", s.Root, nil)
		expect(t, "the mount", code, 400)
		s.Must("POST", "sys/mounts/db", s.Root, object{"type": "kv"})
	})
}

// A mount with very many leases is not moved before they are taken back: none is lost.
func TestMoveOfManyLeases(t *testing.T) {
	lending(t, func(t *testing.T, s *arcatest.Server, l *lender) {
		for range 600 {
			give(s, s.Root, "r")
		}
		code, _ := s.Do("POST", "sys/remount", s.Root, object{"from": "db", "to": "moved"})
		expect(t, "moving very many leases", code, 400)
		expect(t, "users", l.users(), 600)
		s.Must("PUT", "sys/leases/revoke-prefix/db", s.Root, nil)
		pass(time.Minute)
		expect(t, "users", l.users(), 0)
		s.Must("POST", "sys/remount", s.Root, object{"from": "db", "to": "moved"})
		s.Must("GET", "moved/creds/r", s.Root, nil)
		expect(t, "users", l.users(), 1)
	})
}

// Those of namespaces below are told of when they are asked for.
func TestIrrevocableBelow(t *testing.T) {
	lending(t, func(t *testing.T, s *arcatest.Server, l *lender) {
		const ns = "X-Vault-Namespace"
		give(s, s.Root, "r")
		for _, path := range []string{"a", "b"} {
			s.Must("POST", "sys/namespaces/"+path, s.Root, nil)
		}
		s.Must("POST", "sys/namespaces/c", s.Root, nil, ns, "a")
		s.Must("POST", "sys/mounts/db", s.Root, object{"type": "lender"}, ns, "a/c")
		s.Must("GET", "db/creds/r", s.Root, nil, ns, "a/c")
		l.set(func() { l.broken = true })
		pass(3 * time.Hour)
		for _, c := range []struct {
			in, query string
			want      int
		}{{"", "", 1}, {"", "&include_child_namespaces=true", 2}, {"a", "", 0}, {"a", "&include_child_namespaces=true", 1}, {"b", "&include_child_namespaces=true", 0}} {
			for _, path := range []string{"sys/leases", "sys/leases/count"} {
				out := s.Must("GET", path+"?type=irrevocable"+c.query, s.Root, nil, ns, c.in)
				expect(t, path+" of "+c.in+c.query, arcatest.Dig(out, "data", "lease_count"), c.want)
			}
		}
	})
}
