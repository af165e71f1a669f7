package approle_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/arcatest"
	"arca/internal/storage"
)

func text(t testing.TB, out map[string]any, keys ...string) string {
	t.Helper()
	s, ok := arcatest.Dig(out, keys...).(string)
	if !ok {
		t.Fatalf("no %v in %v", keys, out)
	}
	return s
}

func mounted(t testing.TB) *arcatest.Server {
	t.Helper()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/auth/approle", s.Root, map[string]any{"type": "approle"})
	return s
}

// ids makes a role with a secret id.
func ids(t testing.TB, s *arcatest.Server, role string, body, secret map[string]any) map[string]any {
	t.Helper()
	path := "auth/approle/role/" + role
	s.Must("POST", path, s.Root, body)
	id := text(t, s.Must("GET", path+"/role-id", s.Root, nil), "data", "role_id")
	return map[string]any{"role_id": id, "secret_id": text(t, s.Must("POST", path+"/secret-id", s.Root, secret), "data", "secret_id")}
}

// S0-27 to S0-32: the role of a KES server, written in two steps with the older
// names, gives a periodic token that is renewed for ever.
func TestServerRole(t *testing.T) {
	t.Parallel()
	s := mounted(t)
	const path = "auth/approle/role/kes-server"
	s.Must("POST", path, s.Root, map[string]any{"token_num_uses": "0", "secret_id_num_uses": "0", "period": "5m"})
	s.Must("POST", path, s.Root, map[string]any{"policies": "kes-policy"})
	role := s.Must("GET", path, s.Root, nil)
	for name, want := range map[string]string{
		"token_period": "300", "period": "300", "token_policies": "[kes-policy]", "policies": "[kes-policy]", "token_num_uses": "0",
	} {
		if got := fmt.Sprint(arcatest.Dig(role, "data", name)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	login := ids(t, s, "kes-server", nil, nil)
	auth := s.Must("POST", "auth/approle/login", "", login)
	if got := fmt.Sprint(arcatest.Dig(auth, "auth", "lease_duration"), arcatest.Dig(auth, "auth", "renewable")); got != "300true" {
		t.Errorf("token: %s", got)
	}
	id := text(t, auth, "auth", "client_token")
	again := s.Must("POST", "auth/token/renew-self", id, nil)
	if got := fmt.Sprint(arcatest.Dig(again, "auth", "lease_duration")); got != "300" {
		t.Errorf("renewed for %s", got)
	}
	// Trap T3: reading makes no secret id; the command line names what does.
	if code, out := s.Do("GET", path+"/secret-id", s.Root, nil); code != 405 {
		t.Errorf("read: %d %v", code, out)
	}
	s.Must("DELETE", path, s.Root, nil)
	if code, out := s.Do("POST", "auth/token/renew-self", id, nil); code != 400 || !strings.Contains(fmt.Sprint(out), "does not exist during renewal") {
		t.Errorf("renewed without its role: %d %v", code, out)
	}
	if code, _ := s.Do("POST", "auth/approle/login", "", login); code != 400 {
		t.Errorf("logged in without a role: %d", code)
	}
	s.Must("POST", path, s.Root, map[string]any{"role_id": login["role_id"]})
	if code, _ := s.Do("POST", "auth/approle/login", "", login); code != 400 {
		t.Errorf("a secret id survived its role: %d", code)
	}
}

// However many use a secret id at the same time, it is used as often as it may.
func TestUsesRaced(t *testing.T) {
	t.Parallel()
	s := mounted(t)
	login := ids(t, s, "r", map[string]any{"secret_id_num_uses": 7}, nil)
	var good atomic.Int32
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if code, _ := s.Do("POST", "auth/approle/login", "", login); code == 200 {
				good.Add(1)
			}
		})
	}
	wg.Wait()
	if n := good.Load(); n != 7 {
		t.Errorf("%d logins of 7", n)
	}
}

// commits counts what a function commits.
func commits(s *arcatest.Server, fn func()) uint64 {
	before := s.Core.Active().DB.Stats().Commits
	fn()
	return s.Core.Active().DB.Stats().Commits - before
}

// A login is one commit, and none where nothing has to be kept.
func TestCommits(t *testing.T) {
	t.Parallel()
	s := mounted(t)
	// An entity is made with the first login of a role.
	for _, c := range []struct {
		role string
		body map[string]any
		want uint64
	}{
		{"plain", nil, 1},
		{"counted", map[string]any{"secret_id_num_uses": 10}, 1},
		{"batch", map[string]any{"token_type": "batch"}, 0},
	} {
		login := ids(t, s, c.role, c.body, nil)
		s.Must("POST", "auth/approle/login", "", login)
		if n := commits(s, func() { s.Must("POST", "auth/approle/login", "", login) }); n != c.want {
			t.Errorf("%s: %d commits, want %d", c.role, n, c.want)
		}
	}
}

func contains(t *testing.T, s *arcatest.Server, value string) (key string) {
	t.Helper()
	err := s.Core.Active().DB.View(context.Background(), func(tx storage.Tx) error {
		for kv, err := range tx.Scan("", "") {
			if err != nil {
				return err
			}
			if strings.Contains(kv.Key, value) || bytes.Contains(kv.Value, []byte(value)) {
				key = kv.Key
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// No secret id lies in the store, and those whose time is over go by themselves
// as others are made.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mounted(t)
		login := ids(t, s, "r", map[string]any{"secret_id_ttl": "1h"}, nil)
		if key := contains(t, s, login["secret_id"].(string)); key != "" {
			t.Errorf("a secret id lies at %s", key)
		}
		for range 9 {
			s.Must("POST", "auth/approle/role/r/secret-id", s.Root, nil)
		}
		time.Sleep(61 * time.Minute) // of the bubble
		if code, _ := s.Do("POST", "auth/approle/login", "", login); code != 400 {
			t.Errorf("logged in after the time: %d", code)
		}
		for range 3 {
			s.Must("POST", "auth/approle/role/r/secret-id", s.Root, nil)
		}
		list, _ := arcatest.Dig(s.Must("LIST", "auth/approle/role/r/secret-id", s.Root, nil), "data", "keys").([]any)
		if len(list) != 3 {
			t.Errorf("%d secret ids are left", len(list))
		}
	})
}

func TestLockout(t *testing.T) {
	t.Parallel()
	s := mounted(t)
	login := ids(t, s, "r", nil, nil)
	wrong := map[string]any{"role_id": login["role_id"], "secret_id": "wrong"}
	for range 5 {
		if code, _ := s.Do("POST", "auth/approle/login", "", wrong); code != 400 {
			t.Fatal(code)
		}
	}
	if code, _ := s.Do("POST", "auth/approle/login", "", login); code != 403 {
		t.Errorf("a locked role id: %d", code)
	}
	other := ids(t, s, "other", nil, nil)
	s.Must("POST", "auth/approle/login", "", other)
}

func BenchmarkLogin(b *testing.B) {
	s := mounted(b)
	login := ids(b, s, "r", map[string]any{"token_type": "batch"}, nil)
	b.ReportAllocs()
	for b.Loop() {
		s.Must("POST", "auth/approle/login", "", login)
	}
}

// Guesses count for the role id that is looked at, in whatever form it comes, and
// ids from files bring their line's end along.
func TestLockoutOfEveryForm(t *testing.T) {
	t.Parallel()
	s := mounted(t)
	login := ids(t, s, "r", map[string]any{"role_id": "7"}, nil)
	login["role_id"], login["secret_id"] = "\t7\n", fmt.Sprintf(" %s\n", login["secret_id"])
	out := s.Must("POST", "auth/approle/login", "", login)
	entity := text(t, out, "auth", "entity_id")
	if got := fmt.Sprint(arcatest.Dig(s.Must("GET", "identity/entity/id/"+entity, s.Root, nil), "data", "aliases")); !strings.Contains(got, " name:7]") {
		t.Errorf("the alias: %s", got)
	}
	for i, id := range []any{7, " 7", "7\n", 7, "7"} {
		if code, _ := s.Do("POST", "auth/approle/login", "", map[string]any{"role_id": id, "secret_id": i}); code != 400 {
			t.Errorf("guess %d: %d", i, code)
		}
	}
	for _, id := range []any{7, "7", "7 "} {
		login["role_id"] = id
		if code, _ := s.Do("POST", "auth/approle/login", "", login); code != 403 {
			t.Errorf("a locked role id as %q: %d", id, code)
		}
	}
	for path, body := range map[string]map[string]any{
		"role/r/role-id":          {"role_id": "x\n"},
		"role/new":                {"role_id": " x"},
		"role/r/custom-secret-id": {"secret_id": "x "},
	} {
		if code, out := s.Do("POST", "auth/approle/"+path, s.Root, body); code != 400 || !strings.Contains(fmt.Sprint(out), "blank") {
			t.Errorf("%s: %d %v", path, code, out)
		}
	}
}
