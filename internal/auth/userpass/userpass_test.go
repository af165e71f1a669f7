package userpass_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"arca/internal/arcatest"
	"arca/internal/core"
)

func mounted(t *testing.T, cfg core.Config) *arcatest.Server {
	t.Helper()
	s := arcatest.New(t, arcatest.Config{Core: cfg})
	s.Must("POST", "sys/auth/userpass", s.Root, map[string]any{"type": "userpass"})
	return s
}

// addUser makes a user with a hash that is quickly computed.
func addUser(t *testing.T, s *arcatest.Server, name, password string, more map[string]any) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	body := map[string]any{"password_hash": string(hash)}
	for k, v := range more {
		body[k] = v
	}
	s.Must("POST", "auth/userpass/users/"+name, s.Root, body)
}

func login(s *arcatest.Server, name, password string) int {
	code, _ := s.Do("POST", "auth/userpass/login/"+name, "", map[string]any{"password": password})
	return code
}

func TestLockout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mounted(t, core.Config{Lockouts: []core.Lockout{
			{Type: "all", Threshold: 9, Duration: time.Hour, CounterReset: time.Hour},
			{Type: "userpass", Threshold: 3, Duration: 10 * time.Minute, CounterReset: 5 * time.Minute},
		}})
		for _, name := range []string{"ann", "bob"} {
			addUser(t, s, name, "good", nil)
		}
		try := func(password string, want int) {
			t.Helper()
			if code := login(s, "ann", password); code != want {
				t.Errorf("%s password: %d, want %d", password, code, want)
			}
		}
		try("bad", 400)
		try("bad", 400)
		try("good", 200) // forgets the two
		try("bad", 400)
		try("bad", 400)
		time.Sleep(6 * time.Minute) // so long that they do not count any more; of the bubble
		try("bad", 400)
		try("bad", 400)
		try("bad", 400)
		try("good", 403)
		if code := login(s, "ANN", "good"); code != 403 {
			t.Errorf("another spelling of a locked name: %d", code)
		}
		if code := login(s, "bob", "good"); code != 200 {
			t.Errorf("another user: %d", code)
		}
		out := s.Must("GET", "sys/locked-users", s.Root, nil)
		if got := fmt.Sprint(arcatest.Dig(out, "data", "total")); got != "1" {
			t.Errorf("locked: %v", out)
		}
		time.Sleep(11 * time.Minute)
		try("good", 200)
		for range 5 {
			try("", 500) // no password is no wrong one
		}
		try("good", 200)
		for range 3 {
			try("bad", 400)
		}
		accessor := arcatest.Dig(s.Must("GET", "sys/auth", s.Root, nil), "data", "userpass/", "accessor")
		s.Must("POST", fmt.Sprintf("sys/locked-users/%v/unlock/ann", accessor), s.Root, nil)
		try("good", 200)
	})
}

// A mount's own rule comes before those of the configuration.
func TestLockoutOff(t *testing.T) {
	t.Parallel()
	s := mounted(t, core.Config{})
	addUser(t, s, "ann", "good", nil)
	s.Must("POST", "sys/auth/userpass/tune", s.Root, map[string]any{"user_lockout_config": map[string]any{"lockout_disable": true}})
	for range 20 {
		login(s, "ann", "bad")
	}
	if code := login(s, "ann", "good"); code != 200 {
		t.Errorf("locked though that is switched off: %d", code)
	}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	s := mounted(t, core.Config{})
	for _, c := range []struct {
		name string
		body map[string]any
		want string
	}{
		{"long", map[string]any{"password": strings.Repeat("p", 73)}, "72 bytes"},
		{"nohash", map[string]any{"password_hash": "x"}, "no bcrypt hash"},
		{"cidr", map[string]any{"password": "p", "token_bound_cidrs": "here"}, "error parsing address"},
	} {
		code, out := s.Do("POST", "auth/userpass/users/"+c.name, s.Root, c.body)
		if code != 400 || !strings.Contains(fmt.Sprint(out["errors"]), c.want) {
			t.Errorf("%s: %d %v", c.name, code, out)
		}
		if code, _ := s.Do("GET", "auth/userpass/users/"+c.name, s.Root, nil); code != 404 {
			t.Errorf("%s was made: %d", c.name, code)
		}
	}
	addUser(t, s, "root", "p", map[string]any{"token_policies": "root"})
	if code := login(s, "root", "p"); code != 400 {
		t.Errorf("a root token by a password: %d", code)
	}
	// The password does not come back in any form.
	out := s.Must("GET", "auth/userpass/users/root", s.Root, nil)
	for name := range arcatest.Dig(out, "data").(map[string]any) {
		if strings.Contains(name, "pass") || strings.Contains(name, "hash") {
			t.Errorf("shown: %s", name)
		}
	}
}

// A renewal holds the token to what its user has now.
func TestRenewal(t *testing.T) {
	t.Parallel()
	s := mounted(t, core.Config{})
	addUser(t, s, "ann", "p", map[string]any{"token_policies": "a", "token_ttl": "10m", "token_max_ttl": "1h"})
	id := arcatest.Dig(s.Must("POST", "auth/userpass/login/ann", "", map[string]any{"password": "p"}), "auth", "client_token").(string)
	s.Must("POST", "auth/userpass/users/ann", s.Root, map[string]any{"token_ttl": "5m", "token_max_ttl": "6m"})
	out := s.Must("POST", "auth/token/renew-self", id, map[string]any{"increment": "1h"})
	if got := fmt.Sprint(arcatest.Dig(out, "auth", "lease_duration")); got != "359" && got != "360" {
		t.Errorf("renewed for %s s", got)
	}
	s.Must("POST", "auth/userpass/users/ann/policies", s.Root, map[string]any{"token_policies": "a,b"})
	if code, out := s.Do("POST", "auth/token/renew-self", id, nil); code != 400 || !strings.Contains(fmt.Sprint(out), "policies have changed") {
		t.Errorf("renewed with other policies: %d %v", code, out)
	}
}

// What a name that does not exist is compared with is a hash, as costly as any.
func TestUnknownNamesCostTheSame(t *testing.T) {
	t.Parallel()
	s := mounted(t, core.Config{})
	s.Must("POST", "auth/userpass/users/ann", s.Root, map[string]any{"password": "p"})
	took := func(name string) time.Duration {
		best := time.Hour
		for range 3 {
			start := time.Now()
			if code := login(s, name, "wrong"); code != 400 {
				t.Fatal(code)
			}
			best = min(best, time.Since(start))
		}
		return best
	}
	there, not := took("ann"), took("nobody")
	if not*4 < there {
		t.Errorf("a name that exists takes %v, another %v", there, not)
	}
}

// TestGuessesAtOnce sends many wrong passwords at a time: as many are looked at as the threshold says, and then not even
// the right one is good.
func TestGuessesAtOnce(t *testing.T) {
	s := mounted(t, core.Config{Lockouts: []core.Lockout{{Type: "userpass", Threshold: 3, Duration: time.Hour, CounterReset: time.Hour}}})
	addUser(t, s, "ann", "good", nil)
	var work sync.WaitGroup
	var told atomic.Int64
	for range 40 {
		work.Go(func() {
			if login(s, "ann", "bad") == 400 {
				told.Add(1)
			}
		})
	}
	work.Wait()
	if n := told.Load(); n != 3 {
		t.Errorf("%d guesses were told that they are wrong, want 3", n)
	}
	if code := login(s, "ann", "good"); code != 403 {
		t.Errorf("the right password of a locked user: %d", code)
	}
}

// TestUnlock frees a name in any spelling; names that do not exist are locked out alike.
func TestUnlock(t *testing.T) {
	s := mounted(t, core.Config{Lockouts: []core.Lockout{{Type: "userpass", Threshold: 3, Duration: time.Hour, CounterReset: time.Hour}}})
	addUser(t, s, "ann", "good", nil)
	for name, want := range map[string]string{"ann": "[400 400 400 403 403]", "nobody": "[400 400 400 403 403]"} {
		var codes []int
		for range 5 {
			codes = append(codes, login(s, name, "bad"))
		}
		if got := fmt.Sprint(codes); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	mounts := s.Must("GET", "sys/auth", s.Root, nil)
	s.Must("POST", fmt.Sprintf("sys/locked-users/%v/unlock/ANN", arcatest.Dig(mounts, "data", "userpass/", "accessor")), s.Root, nil)
	if code := login(s, "ann", "good"); code != 200 {
		t.Errorf("after the unlocking: %d", code)
	}
}

func TestHashTooDear(t *testing.T) {
	s := mounted(t, core.Config{})
	const salted = "$7EqJtq98hPqEX7fNZaFWoOa8x0DkLnpEDSUE.Vn5IzbDnY7oP6rVe"
	for cost, want := range map[string]int{"$2a$14": 204, "$2a$15": 400, "$2a$31": 400} {
		if code, _ := s.Do("POST", "auth/userpass/users/u", s.Root, map[string]any{"password_hash": cost + salted}); code != want {
			t.Errorf("%s: %d, want %d", cost, code, want)
		}
	}
}
