package vault

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/kes/store"
	"arca/internal/kes/store/storetest"
)

// guide is the policies that the guide gives a KES server, for K/V version 1 and
// 2; lists need one right more in version 1.
const (
	guideV1 = `path "kv/*" { capabilities = ["create", "read", "delete", "list"] }`
	guideV2 = `path "kv/data/*" { capabilities = ["create", "read"] }
path "kv/metadata/*" { capabilities = ["list", "delete"] }`
)

// front is an arca behind HTTP that can fail.
type front struct {
	*arcatest.Server
	url      string
	status   atomic.Int64 // if set, what every key call gets
	requests atomic.Int64
	logins   atomic.Int64
}

func serve(t *testing.T) *front {
	t.Helper()
	f := &front{Server: arcatest.New(t, arcatest.Config{})}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		if strings.HasSuffix(r.URL.Path, "/login") {
			f.logins.Add(1)
		}
		if code := f.status.Load(); code != 0 && strings.HasPrefix(r.URL.Path, "/v1/kv") {
			w.WriteHeader(int(code))
			return
		}
		f.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

func (f *front) configure(t *testing.T, version, policy string) Config {
	t.Helper()
	f.Must("POST", "sys/mounts/kv", f.Root, map[string]any{"type": "kv", "options": map[string]string{"version": strings.TrimPrefix(version, "v")}})
	f.Must("POST", "sys/policies/acl/kes", f.Root, map[string]any{"policy": policy})
	f.Must("POST", "sys/auth/approle", f.Root, map[string]any{"type": "approle"})
	f.Must("POST", "auth/approle/role/kes", f.Root, map[string]any{"policies": "kes", "period": "5m"})
	id := f.Must("GET", "auth/approle/role/kes/role-id", f.Root, nil)["data"].(map[string]any)["role_id"].(string)
	secret := f.Must("POST", "auth/approle/role/kes/secret-id", f.Root, nil)["data"].(map[string]any)["secret_id"].(string)
	return Config{Endpoint: f.url + "/", Version: version, AppRole: &AppRole{ID: id, Secret: secret}}
}

func open(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestStore keeps keys in an arca, with the rights that the guide gives. S0-24,
// S0-25, S0-42, S0-53.
func TestStore(t *testing.T) {
	t.Parallel()
	for version, policy := range map[string]string{"v1": guideV1, "v2": guideV2} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			f := serve(t)
			cfg := f.configure(t, version, policy)
			cfg.Prefix = "tenant/one"
			s := open(t, cfg)
			// Migration overwrites, for which version 1 needs update.
			f.Must("POST", "sys/policies/acl/kes", f.Root, map[string]any{"policy": strings.ReplaceAll(policy, `"create"`, `"create", "update"`)})
			storetest.TestStore(t, s, storetest.Config{NoDeleteNotFound: true})
			if got := f.logins.Load(); got != 1 {
				t.Errorf("%d logins", got)
			}
		})
	}
}

// TestReplicas lets servers race for names with the rights of the guide: nothing
// is overwritten. S0-52.
func TestReplicas(t *testing.T) {
	t.Parallel()
	for version, policy := range map[string]string{"v1": guideV1, "v2": guideV2} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			f := serve(t)
			cfg := f.configure(t, version, policy)
			a, b := open(t, cfg), open(t, cfg)
			for i := range 20 {
				name := "k" + string(rune('a'+i))
				results := make(chan error, 2)
				for _, s := range []*Store{a, b} {
					go func() { results <- s.Create(t.Context(), name, []byte(s.token.Load().text)) }()
				}
				one, two := <-results, <-results
				if (one == nil) == (two == nil) || one != nil && one != store.ErrExists || two != nil && two != store.ErrExists { //nolint:errorlint // the very value
					t.Errorf("%s: %v and %v", name, one, two)
				}
			}
		})
	}
}

// TestTokenReplaced goes on when its token is revoked; a right that lacks does
// not make it log in again and again.
func TestTokenReplaced(t *testing.T) {
	t.Parallel()
	f := serve(t)
	s := open(t, f.configure(t, "v1", guideV1))
	old := s.token.Load()
	aged := *old
	aged.got = time.Now().Add(-time.Minute)
	s.token.Store(&aged)
	f.Must("POST", "auth/token/revoke", f.Root, map[string]any{"token": old.text})
	if err := s.Create(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if s.token.Load().text == old.text || f.logins.Load() != 2 {
		t.Errorf("%d logins", f.logins.Load())
	}
	f.Must("POST", "sys/policies/acl/kes", f.Root, map[string]any{"policy": `path "other" { capabilities = ["read"] }`})
	for range 5 {
		if err := s.Create(t.Context(), "k2", []byte("v")); err == nil {
			t.Error("created without the right")
		}
	}
	if f.logins.Load() != 2 {
		t.Errorf("%d logins for want of a right", f.logins.Load())
	}
}

// TestSealed fails at once, and says which it is. S0-45.
func TestSealed(t *testing.T) {
	t.Parallel()
	f := serve(t)
	s := open(t, f.configure(t, "v1", guideV1))
	f.Must("PUT", "sys/seal", f.Root, nil)
	if _, err := s.Status(t.Context()); !store.IsUnreachable(err) {
		t.Errorf("status: %v", err)
	}
	before := f.requests.Load()
	if err := s.Create(t.Context(), "k", []byte("v")); !store.IsUnreachable(err) || f.requests.Load() != before {
		t.Errorf("create: %v", err)
	}
	f.Unseal()
	if _, err := s.Status(t.Context()); err != nil {
		t.Errorf("status: %v", err)
	}
	if err := s.Create(t.Context(), "k", []byte("v")); err != nil {
		t.Errorf("create: %v", err)
	}
}

// TestHostile lets the server answer anything: errors, and nothing of the answer
// in them.
func TestHostile(t *testing.T) {
	t.Parallel()
	answers := []string{
		`{"data":{"k":5}}`, `{"data":{"other":"x"}}`, `{"data":[]}`, `[]`, `null`, `"x"`, ``, `{"data":{"k":"vault:v1:AAAA"}}`,
		`{"data":{"data":null}}`, `<html>`, "\x00\xff", `{"data":{"keys":[1,2]}}`,
	}
	var answer atomic.Pointer[string]
	const secret = "s3cr3ts3cr3ts3cr3ts3cr3ts3cr3t"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/login"):
			_, _ = w.Write([]byte(`{"auth":{"client_token":"t"}}`))
		case strings.HasSuffix(r.URL.Path, "/health"):
		case r.Method == http.MethodPut:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"errors":["bad value ` + secret + `"]}`))
		default:
			_, _ = w.Write([]byte(*answer.Load()))
		}
	}))
	t.Cleanup(srv.Close)
	for _, version := range []string{"v1", "v2"} {
		s := open(t, Config{Endpoint: srv.URL, Version: version, AppRole: &AppRole{ID: "a", Secret: "b"}})
		for _, a := range answers {
			answer.Store(&a)
			if got, err := s.Get(t.Context(), "k"); err == nil {
				t.Errorf("%s: %q is read as %q", version, a, got)
			}
			_, _, _ = s.List(t.Context(), "", "", 10)
			err := s.Create(t.Context(), "k", []byte(secret))
			if err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("%s: create: %v", version, err)
			}
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := Config{Endpoint: "https://127.0.0.1:1", AppRole: &AppRole{ID: "a", Secret: "b"}}
	for name, change := range map[string]func(*Config){
		"no endpoint":   func(c *Config) { c.Endpoint = "" },
		"bad endpoint":  func(c *Config) { c.Endpoint = "ftp://x" },
		"version":       func(c *Config) { c.Version = "v3" },
		"no login":      func(c *Config) { c.AppRole = nil },
		"two logins":    func(c *Config) { c.Kubernetes = &Kubernetes{Role: "r", JWT: "j"} },
		"empty secret":  func(c *Config) { c.AppRole = &AppRole{ID: "a"} },
		"transit":       func(c *Config) { c.Transit = &Transit{} },
		"nothing there": func(*Config) {},
	} {
		cfg := good
		change(&cfg)
		if _, err := Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// TestLies stands a server's outages and lies.
func TestLies(t *testing.T) {
	t.Parallel()
	for version, policy := range map[string]string{"v1": guideV1, "v2": guideV2} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			f := serve(t)
			cfg := f.configure(t, version, policy)
			storetest.TestHostile(t, storetest.Hostile{
				URL: f.url,
				Open: func(url string) (store.Store, error) {
					cfg.Endpoint = url
					return Open(t.Context(), cfg)
				},
				// What these answer stops all calls, as it should.
				Honest: func(r *http.Request) bool {
					return strings.HasPrefix(r.URL.Path, "/v1/sys/") || strings.HasPrefix(r.URL.Path, "/v1/auth/")
				},
			})
		})
	}
}
