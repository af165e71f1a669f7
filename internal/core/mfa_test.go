package core_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pquerna/otp/totp"

	"arca/internal/arcatest"
)

// guarded is a server on which ann's logins need a code.
type guarded struct {
	*arcatest.Server
	t              *testing.T
	method, entity string
	secret         string
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{Server: arcatest.New(t, arcatest.Config{}), t: t}
	g.Must("POST", "sys/auth/userpass", g.Root, map[string]any{"type": "userpass"})
	g.Must("POST", "auth/userpass/users/ann", g.Root, map[string]any{"password": "correct", "token_policies": "p"})
	out := g.Must("POST", "auth/userpass/login/ann", "", map[string]any{"password": "correct"})
	g.entity, _ = arcatest.Dig(out, "auth", "entity_id").(string)
	out = g.Must("POST", "identity/mfa/method/totp", g.Root, map[string]any{"issuer": "I", "method_name": "codes", "skew": 0})
	g.method, _ = arcatest.Dig(out, "data", "method_id").(string)
	out = g.Must("POST", "identity/mfa/method/totp/admin-generate", g.Root, map[string]any{"method_id": g.method, "entity_id": g.entity})
	text, _ := arcatest.Dig(out, "data", "url").(string)
	u, err := url.Parse(text)
	if err != nil || u.Query().Get("secret") == "" {
		t.Fatalf("url %q: %v", text, err)
	}
	g.secret = u.Query().Get("secret")
	g.Must("POST", "identity/mfa/login-enforcement/all", g.Root, map[string]any{"mfa_method_ids": g.method, "auth_method_types": "userpass"})
	return g
}

// code is the code at a time.
func (g *guarded) code(at time.Time) string {
	g.t.Helper()
	code, err := totp.GenerateCode(g.secret, at)
	if err != nil {
		g.t.Fatal(err)
	}
	return code
}

// begin logs in with the password and returns the id under which the login waits.
func (g *guarded) begin() string {
	g.t.Helper()
	out := g.Must("POST", "auth/userpass/login/ann", "", map[string]any{"password": "correct"})
	if tok := arcatest.Dig(out, "auth", "client_token"); tok != "" {
		g.t.Fatalf("a token without a code: %v", out)
	}
	id, _ := arcatest.Dig(out, "auth", "mfa_requirement", "mfa_request_id").(string)
	return id
}

func (g *guarded) validate(id, code string) (int, map[string]any) {
	return g.Do("POST", "sys/mfa/validate", "", map[string]any{"mfa_request_id": id, "mfa_payload": map[string]any{g.method: []string{code}}})
}

func (g *guarded) move(from, to string) {
	g.t.Helper()
	g.Must("POST", "sys/remount", g.Root, map[string]any{"from": from, "to": to})
}

// lockOut locks a user out of auth/userpass.
func (g *guarded) lockOut(name string) {
	for range 5 {
		g.Do("POST", "auth/userpass/login/"+name, "", map[string]any{"password": "wrong"})
	}
}

// A login whose token could not be made is finished later, with the same code.
func TestMFAFinishedLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t)
		g.Must("POST", "sys/quotas/lease-count/few", g.Root, map[string]any{"path": "auth/userpass", "max_leases": 1})
		time.Sleep(time.Second) // the token of newGuarded is counted
		id, code := g.begin(), g.code(time.Now())
		for range 12 { // more often than codes may be wrong
			if status, out := g.validate(id, code); status != 429 {
				t.Fatalf("beyond the quota: status %d: %v", status, out)
			}
		}
		g.Must("DELETE", "sys/quotas/lease-count/few", g.Root, nil)
		if status, out := g.validate(id, code); status != 200 {
			t.Errorf("without the quota: status %d: %v", status, out)
		}
		if status, out := g.validate(id, code); status != 400 {
			t.Errorf("once more: status %d: %v", status, out)
		}
	})
}

// A login that waits makes one token, with however many right codes it is finished at once.
func TestMFAOneTokenOfALogin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t)
		g.Must("POST", "identity/mfa/method/totp/"+g.method, g.Root, map[string]any{"issuer": "I", "skew": 1, "max_validation_attempts": 1000})
		for round := range 5 {
			time.Sleep(2 * time.Minute)
			id := g.begin()
			var wg sync.WaitGroup
			var let atomic.Int32
			for _, step := range []time.Duration{-30, 0, 30, -30, 0, 30} {
				code := g.code(time.Now().Add(step * time.Second))
				wg.Go(func() {
					if status, _ := g.validate(id, code); status == 200 {
						let.Add(1)
					}
				})
			}
			wg.Wait()
			if let.Load() != 1 {
				t.Fatalf("round %d: one login made %d tokens", round, let.Load())
			}
		}
	})
}

// A login with two factors takes both, a code only once, and forgets those who
// come too late.
func TestMFATwoPhases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t)
		id := g.begin()
		code := g.code(time.Now())
		status, out := g.validate(id, code)
		tok, _ := arcatest.Dig(out, "auth", "client_token").(string)
		if status != 200 || tok == "" {
			t.Fatalf("status %d: %v", status, out)
		}
		out = g.Must("GET", "auth/token/lookup-self", tok, nil)
		if arcatest.Dig(out, "data", "path") != "auth/userpass/login/ann" || arcatest.Dig(out, "data", "entity_id") != g.entity {
			t.Errorf("token %v", out)
		}
		if status, _ := g.validate(id, code); status != 400 {
			t.Errorf("a finished login again: status %d", status)
		}
		if status, _ := g.validate(g.begin(), code); status != 403 {
			t.Errorf("the code again: status %d", status)
		}
		time.Sleep(time.Minute)
		id = g.begin()
		if status, _ := g.validate(id, g.code(time.Now().Add(-time.Minute))); status != 403 {
			t.Errorf("an old code: status %d", status)
		}
		late := g.begin()
		time.Sleep(6 * time.Minute)
		if status, _ := g.validate(late, g.code(time.Now())); status != 400 {
			t.Errorf("a login that waited too long: status %d", status)
		}
		// Who is switched off meanwhile does not get in.
		id = g.begin()
		g.Must("POST", "identity/entity/id/"+g.entity, g.Root, map[string]any{"disabled": true})
		if status, out := g.validate(id, g.code(time.Now())); status != 400 {
			t.Errorf("an entity switched off: status %d: %v", status, out)
		}
	})
}

// Wrong codes lock the entity's method for a while, also when they come at once.
func TestMFAGuessing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t)
		id := g.begin()
		var wg sync.WaitGroup
		var let atomic.Int32
		right := g.code(time.Now())
		for i := range 50 {
			wg.Go(func() {
				code := strings.Repeat("0", 5) + string(rune('0'+i%10))
				if code == right {
					return
				}
				if status, _ := g.validate(id, code); status != 403 {
					let.Add(1)
				}
			})
		}
		wg.Wait()
		if let.Load() != 0 {
			t.Errorf("%d wrong codes were not refused", let.Load())
		}
		if status, _ := g.validate(id, right); status != 403 {
			t.Errorf("the right code after too many wrong ones: status %d", status)
		}
		time.Sleep(5*time.Minute + time.Second)
		if status, out := g.validate(g.begin(), g.code(time.Now())); status != 200 {
			t.Errorf("after the wait: status %d: %v", status, out)
		}
	})
}

// A code is good for one login, however many come with it at once.
func TestMFAOnceInParallel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t)
		g.Must("POST", "identity/mfa/method/totp/"+g.method, g.Root, map[string]any{"issuer": "I", "skew": 0, "max_validation_attempts": 1000})
		code := g.code(time.Now())
		var wg sync.WaitGroup
		var let atomic.Int32
		for range 10 {
			id := g.begin()
			wg.Go(func() {
				if status, _ := g.validate(id, code); status == 200 {
					let.Add(1)
				}
			})
		}
		wg.Wait()
		if let.Load() != 1 {
			t.Errorf("one code let %d logins in", let.Load())
		}
	})
}

// Enforcements by group and entity, by a name, and of another namespace's method.
func TestMFAEnforcements(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.Must("DELETE", "identity/mfa/login-enforcement/all", g.Root, nil)
	g.Must("POST", "auth/userpass/login/ann", "", map[string]any{"password": "correct"})
	out := g.Must("POST", "identity/group", g.Root, map[string]any{"member_entity_ids": g.entity})
	group := arcatest.Dig(out, "data", "id")
	g.Must("POST", "identity/mfa/login-enforcement/grp", g.Root, map[string]any{"mfa_method_ids": g.method, "identity_group_ids": group})
	g.begin()
	if code, out := g.Do("DELETE", "identity/mfa/method/totp/"+g.method, g.Root, nil); code != 500 {
		t.Errorf("a method in use was deleted: %d %v", code, out)
	}
	if code, _ := g.Do("POST", "identity/mfa/method/duo", g.Root, map[string]any{"secret_key": "s"}); code != 400 {
		t.Errorf("a method that is not supported: %d", code)
	}
	g.Must("POST", "sys/namespaces/ns1", g.Root, nil)
	if code, _ := g.Do("POST", "ns1/sys/mfa/validate", "", map[string]any{"mfa_request_id": g.begin()}); code != 400 {
		t.Errorf("a login of another namespace: %d", code)
	}
	if code, _ := g.Do("GET", "ns1/identity/mfa/method/totp/"+g.method, g.Root, nil); code != 404 {
		t.Errorf("a method of another namespace: %d", code)
	}
	// An entity that is gone takes its secret along.
	g.Must("DELETE", "identity/entity/id/"+g.entity, g.Root, nil)
	g.Must("POST", "auth/userpass/login/ann", "", map[string]any{"password": "correct"})
}

// Whoever has a secret keeps logging in with it when its method changes.
func TestMFAMethodChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t)
		g.Must("POST", "identity/mfa/method/totp/"+g.method, g.Root, map[string]any{
			"issuer": "I", "period": 90, "digits": 8, "algorithm": "SHA512", "skew": 0,
		})
		time.Sleep(time.Minute)
		if status, out := g.validate(g.begin(), g.code(time.Now())); status != 200 {
			t.Errorf("status %d: %v", status, out)
		}
	})
}

// An enforcement holds in the namespaces below its own.
func TestMFABelow(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.Must("POST", "sys/namespaces/team", g.Root, nil)
	g.Must("POST", "team/sys/auth/userpass", g.Root, map[string]any{"type": "userpass"})
	g.Must("POST", "team/auth/userpass/users/bob", g.Root, map[string]any{"password": "correct"})
	code, out := g.Do("POST", "team/auth/userpass/login/bob", "", map[string]any{"password": "correct"})
	if tok, _ := arcatest.Dig(out, "auth", "client_token").(string); tok != "" {
		t.Errorf("%d: a token without a second factor: %v", code, out)
	}
	g.Must("POST", "sys/namespaces/sub", g.Root, nil, "X-Vault-Namespace", "team")
	g.Must("POST", "team/sub/sys/auth/userpass", g.Root, map[string]any{"type": "userpass"})
	g.Must("POST", "team/sub/identity/mfa/login-enforcement/own", g.Root, map[string]any{"mfa_method_ids": g.method, "auth_method_types": "userpass"})
	g.Must("DELETE", "identity/mfa/login-enforcement/all", g.Root, nil)
	if code, out := g.Do("DELETE", "identity/mfa/method/totp/"+g.method, g.Root, nil); code != 500 {
		t.Errorf("a method that is in use below was deleted: %d %v", code, out)
	}
	out = g.Must("POST", "team/auth/userpass/login/bob", "", map[string]any{"password": "correct"})
	if tok, _ := arcatest.Dig(out, "auth", "client_token").(string); tok == "" {
		t.Errorf("no token without an enforcement: %v", out)
	}
}

// What a login was granted before it waited for its second factor is judged once
// more: no token is made of what the method would not grant any more.
func TestMFAJudgedAgain(t *testing.T) {
	t.Parallel()
	user := func(g *guarded, more map[string]any) {
		body := map[string]any{"password": "correct", "token_policies": "p"}
		for k, v := range more {
			body[k] = v
		}
		g.Must("POST", "auth/userpass/users/ann", g.Root, body)
	}
	for _, c := range []struct {
		name      string
		meanwhile func(g *guarded)
		want      int
	}{
		{"nothing", func(*guarded) {}, 200},
		{"the user is gone", func(g *guarded) { g.Must("DELETE", "auth/userpass/users/ann", g.Root, nil) }, 400},
		{"other policies", func(g *guarded) { user(g, map[string]any{"token_policies": "q"}) }, 400},
		{"fewer policies", func(g *guarded) { user(g, map[string]any{"token_no_default_policy": true}) }, 400},
		{"other addresses", func(g *guarded) { user(g, map[string]any{"token_bound_cidrs": "10.0.0.0/8"}) }, 403},
		{"addresses that hold the client's", func(g *guarded) { user(g, map[string]any{"token_bound_cidrs": "192.0.2.0/24"}) }, 200},
		{"a shorter life", func(g *guarded) { user(g, map[string]any{"token_ttl": "90s", "token_num_uses": 3}) }, 200},
		{"the enforcement is gone, and nothing must be shown", func(g *guarded) { g.Must("DELETE", "identity/mfa/login-enforcement/all", g.Root, nil) }, 400},
		{"the method is gone", func(g *guarded) { g.Must("DELETE", "sys/auth/userpass", g.Root, nil) }, 400},
		{"the mount is moved", func(g *guarded) { g.move("auth/userpass", "auth/up") }, 400},
		{"the mount is moved below itself", func(g *guarded) {
			g.move("auth/userpass", "auth/up")
			g.move("auth/up", "auth/userpass/login")
		}, 400},
		{"the mount is moved, and another is at its path", func(g *guarded) {
			g.move("auth/userpass", "auth/up")
			g.Must("POST", "sys/auth/userpass", g.Root, map[string]any{"type": "userpass"})
			user(g, nil)
		}, 400},
		{"the mount is moved to and fro", func(g *guarded) {
			g.move("auth/userpass", "auth/up")
			g.move("auth/up", "auth/userpass")
		}, 200},
		{"another mount is moved", func(g *guarded) {
			g.Must("POST", "sys/auth/other", g.Root, map[string]any{"type": "userpass"})
			g.move("auth/other", "auth/another")
		}, 200},
		{"the user is locked out", func(g *guarded) { g.lockOut("ann") }, 403},
		{"the user was locked out, and is let in again", func(g *guarded) {
			g.lockOut("ann")
			accessor := arcatest.Dig(g.Must("GET", "sys/auth/userpass", g.Root, nil), "data", "accessor")
			g.Must("POST", fmt.Sprintf("sys/locked-users/%s/unlock/ann", accessor), g.Root, nil)
		}, 200},
		{"the lockout is switched off", func(g *guarded) {
			g.lockOut("ann")
			g.Must("POST", "sys/auth/userpass/tune", g.Root, map[string]any{"user_lockout_config": map[string]any{"lockout_disable": true}})
		}, 200},
		{"another user is locked out", func(g *guarded) {
			g.Must("POST", "auth/userpass/users/bob", g.Root, map[string]any{"password": "correct"})
			g.lockOut("bob")
		}, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGuarded(t)
				id := g.begin()
				c.meanwhile(g)
				status, out := g.validate(id, g.code(time.Now()))
				if status != c.want {
					t.Fatalf("status %d: %v", status, out)
				}
				tok, _ := arcatest.Dig(out, "auth", "client_token").(string)
				if (tok != "") != (status == 200) {
					t.Fatalf("token %q: %v", tok, out)
				}
				if tok == "" {
					return
				}
				data, _ := g.Must("GET", "auth/token/lookup-self", tok, nil)["data"].(map[string]any)
				switch c.name {
				case "a shorter life":
					if fmt.Sprintf("%v %v", data["creation_ttl"], data["num_uses"]) != "90 2" {
						t.Errorf("token %v", data)
					}
				case "addresses that hold the client's":
					if got := fmt.Sprint(arcatest.Dig(data, "bound_cidrs")); got != "[192.0.2.0/24]" {
						t.Errorf("bound to %s", got)
					}
				}
			})
		})
	}
}

// The addresses of a secret id stay with a login that waits, within those of its role.
func TestMFAJudgedAgainRole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t)
		g.Must("POST", "sys/auth/approle", g.Root, map[string]any{"type": "approle"})
		g.Must("POST", "auth/approle/role/r", g.Root, map[string]any{"token_policies": "p"})
		role := arcatest.Dig(g.Must("GET", "auth/approle/role/r/role-id", g.Root, nil), "data", "role_id")
		secret := arcatest.Dig(g.Must("POST", "auth/approle/role/r/secret-id", g.Root, map[string]any{"token_bound_cidrs": "192.0.0.0/16,::1/128"}), "data", "secret_id")
		login := func() map[string]any {
			return g.Must("POST", "auth/approle/login", "", map[string]any{"role_id": role, "secret_id": secret})
		}
		entity, _ := arcatest.Dig(login(), "auth", "entity_id").(string)
		validate := g.SecondFactor("approle", entity)
		begin := func() string {
			id, _ := arcatest.Dig(login(), "auth", "mfa_requirement", "mfa_request_id").(string)
			return id
		}
		id := begin()
		g.Must("POST", "auth/approle/role/r", g.Root, map[string]any{"token_bound_cidrs": "192.0.2.0/24,10.0.0.0/8"})
		status, out := validate(id)
		tok, _ := arcatest.Dig(out, "auth", "client_token").(string)
		if status != 200 {
			t.Fatalf("status %d: %v", status, out)
		}
		out = g.Must("GET", "auth/token/lookup-self", tok, nil)
		if got := fmt.Sprint(arcatest.Dig(out, "data", "bound_cidrs")); got != "[192.0.2.0/24]" {
			t.Errorf("bound to %s", got)
		}
		time.Sleep(time.Minute)
		for _, change := range []map[string]any{{"token_policies": "q"}, {"token_bound_cidrs": "10.0.0.0/8"}} {
			g.Must("POST", "auth/approle/role/r", g.Root, map[string]any{"token_policies": "p", "token_bound_cidrs": ""})
			id = begin()
			g.Must("POST", "auth/approle/role/r", g.Root, change)
			if status, out := validate(id); status != 400 && status != 403 {
				t.Errorf("%v: status %d: %v", change, status, out)
			}
		}
	})
}
