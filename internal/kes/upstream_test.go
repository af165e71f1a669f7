package kes

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/kes/cache"
	"arca/internal/kes/identity"
	"arca/internal/kes/policy"
	"arca/internal/kes/store/memory"
	"arca/internal/kes/store/rest"
	"arca/internal/logging"
)

// far is another KES server, and how to reach it with an API key.
type far struct {
	srv *httptest.Server
	cfg UpstreamConfig
	lie atomic.Pointer[http.HandlerFunc] // answers instead

	door *Door
}

func newFar(t *testing.T, allow ...string) *far {
	t.Helper()
	k := identity.NewAPIKey()
	p, err := policy.New(allow, nil, time.Now(), "")
	if err != nil {
		t.Fatal(err)
	}
	door := New(Config{Version: "far"}, &State{
		Keys:   Cached{cache.New(&memory.Store{}, cache.Expiry{})},
		Access: Fixed{Set: &policy.Set{Policies: map[string]*policy.Policy{"p": p}, Identities: map[string]string{k.Identity(): "p"}}},
	})
	f := &far{door: door}
	f.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l := f.lie.Load(); l != nil {
			_, _ = io.Copy(io.Discard, r.Body) // so that the server sees the client leave
			(*l)(w, r)
			return
		}
		door.ServeHTTP(w, r)
	}))
	f.srv.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert}
	f.srv.StartTLS()
	t.Cleanup(f.srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	f.cfg = UpstreamConfig{Endpoints: []string{f.srv.URL}, APIKey: k.Text(), TLS: rest.TLS{CA: ca}}
	return f
}

// near is a door in front of another server.
func near(t *testing.T, cfg UpstreamConfig) *rig {
	t.Helper()
	u, err := OpenUpstream(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	r := newRig(t)
	r.state = &State{Keys: u, Access: r.state.Access}
	r.door = New(Config{Version: "near", Log: slog.New(slog.NewTextHandler(r.log, nil))}, r.state)
	return r
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// TestUpstream makes all calls on keys that another server has.
func TestUpstream(t *testing.T) {
	t.Parallel()
	r := near(t, newFar(t, "/v1/key/*").cfg)
	want := func(code int, method, path, body, says string) map[string]any {
		t.Helper()
		got, out := r.do("user", method, path, body)
		if text, _ := out["message"].(string); got != code || text != says {
			t.Errorf("%s %s: %d %v; want %d %q", method, path, got, out, code, says)
		}
		return out
	}
	want(200, "PUT", "/v1/key/create/a", "", "")
	want(400, "PUT", "/v1/key/create/a", "", "key already exists")
	secret := b64(bytes.Repeat([]byte{7}, 32))
	want(200, "PUT", "/v1/key/import/b", `{"key":"`+secret+`","cipher":"ChaCha20"}`, "")
	if out := want(200, "GET", "/v1/key/describe/b", "", ""); out["algorithm"] != "ChaCha20" {
		t.Errorf("described: %v", out)
	}
	want(404, "GET", "/v1/key/describe/none", "", "key does not exist")
	if out := want(200, "GET", "/v1/key/list/", "", ""); fmt.Sprint(out["names"]) != "[a b]" {
		t.Errorf("listed: %v", out)
	}
	out := want(200, "PUT", "/v1/key/generate/a", `{"context":"AAEC"}`, "")
	sealed, plain := out["ciphertext"].(string), out["plaintext"]
	if got := want(200, "PUT", "/v1/key/decrypt/a", `{"ciphertext":"`+sealed+`","context":"AAEC"}`, ""); got["plaintext"] != plain {
		t.Errorf("decrypted: %v", got)
	}
	want(400, "PUT", "/v1/key/decrypt/a", `{"ciphertext":"`+sealed+`"}`, "decryption failed: ciphertext is not authentic")
	want(400, "PUT", "/v1/key/decrypt/b", `{"ciphertext":"`+sealed+`","context":"AAEC"}`, "decryption failed: ciphertext is not authentic")
	want(400, "PUT", "/v1/key/decrypt/a", `{}`, "decryption failed: ciphertext is not authentic")
	if out := want(200, "PUT", "/v1/key/encrypt/a", `{"plaintext":""}`, ""); want(200, "PUT", "/v1/key/decrypt/a", `{"ciphertext":"`+out["ciphertext"].(string)+`"}`, "")["plaintext"] != "" {
		t.Error("an empty plaintext")
	}
	if out := want(200, "PUT", "/v1/key/hmac/a", `{"message":"AA=="}`, ""); len(out["hmac"].(string)) != 44 {
		t.Errorf("HMAC: %v", out)
	}
	want(200, "PUT", "/v1/key/bulk/decrypt/a", `[{"ciphertext":"`+sealed+`","context":"AAEC"}]`, "")
	want(200, "DELETE", "/v1/key/delete/a", "", "")
	want(404, "DELETE", "/v1/key/delete/a", "", "key does not exist")
	want(404, "PUT", "/v1/key/generate/a", "", "key does not exist")
	if got, _ := r.do("admin", "GET", "/v1/ready", ""); got != 200 {
		t.Errorf("ready: %d", got)
	}
}

// TestUpstreamPages goes on where the other server's page ends.
func TestUpstreamPages(t *testing.T) {
	t.Parallel()
	f := newFar(t, "/v1/key/*")
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/key/list/k":
			_, _ = io.WriteString(w, `{"names":["k1","k2"],"continue_at":"k~3"}`)
		case "/v1/key/list/k~3":
			_, _ = io.WriteString(w, `{"names":["k3"]}`)
		case "/v1/key/list/kkk":
			_, _ = io.WriteString(w, `{"names":["kkk1"],"continue_at":"~z"}`)
		}
	})
	f.lie.Store(&page)
	r := near(t, f.cfg)
	_, out := r.do("user", "GET", "/v1/key/list/k", "")
	at, _ := out["continue_at"].(string)
	if _, next := r.do("user", "GET", "/v1/key/list/"+at, ""); fmt.Sprint(out["names"], next["names"]) != "[k1 k2] [k3]" {
		t.Errorf("%v, then %v", out, next)
	}
	if code, out := r.do("user", "GET", "/v1/key/list/kkk", ""); code != 200 || fmt.Sprint(out) != "map[names:[kkk1]]" {
		t.Errorf("a page that goes on elsewhere: %d %v", code, out)
	}
}

// TestUpstreamRefuses tells a client nothing of what this server may not do there.
func TestUpstreamRefuses(t *testing.T) {
	t.Parallel()
	r := near(t, newFar(t, "/v1/key/create/*").cfg)
	r.do("user", "PUT", "/v1/key/create/a", "")
	if code, out := r.do("user", "PUT", "/v1/key/generate/a", ""); code != 502 || !strings.Contains(r.log.String(), "this server's identity") {
		t.Errorf("%d %v, log %s", code, out, r.log)
	}
}

// TestUpstreamFails asks another server when one is gone, and says so when all are.
func TestUpstreamFails(t *testing.T) {
	t.Parallel()
	f, g := newFar(t, "/v1/key/*"), newFar(t, "/v1/key/*")
	g.cfg.APIKey = f.cfg.APIKey
	both := f.cfg
	pool := filepath.Join(t.TempDir(), "both.pem")
	var cas []byte
	for _, x := range []*far{f, g} {
		b, err := os.ReadFile(x.cfg.TLS.CA)
		if err != nil {
			t.Fatal(err)
		}
		cas = append(cas, b...)
	}
	if err := os.WriteFile(pool, cas, 0o600); err != nil {
		t.Fatal(err)
	}
	both.Endpoints, both.TLS.CA = []string{g.srv.URL, f.srv.URL}, pool
	r := near(t, both)
	g.srv.CloseClientConnections()
	g.srv.Close()
	if code, out := r.do("user", "PUT", "/v1/key/create/a", ""); code != 200 {
		t.Errorf("with one of two gone: %d %v", code, out)
	}
	f.srv.CloseClientConnections()
	f.srv.Close()
	if code, _ := r.do("user", "PUT", "/v1/key/generate/a", ""); code != 502 {
		t.Errorf("with both gone: %d", code)
	}
	if code, _ := r.do("admin", "GET", "/v1/ready", ""); code != 504 {
		t.Errorf("ready with both gone: %d", code)
	}
}

// TestUpstreamLies neither crashes nor hangs nor tells what a lying server says.
func TestUpstreamLies(t *testing.T) {
	t.Parallel()
	f := newFar(t, "/v1/key/*")
	u, err := OpenUpstream(t.Context(), f.cfg)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "c2VjcmV0LXRoYXQtYS1zZXJ2aWNlLXJlcGVhdHM="
	for name, l := range map[string]http.HandlerFunc{
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		},
		"silent": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"cut":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"null":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "null") },
		"types": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"names":5,"plaintext":{},"ciphertext":[1],"hmac":null,"algorithm":5}`)
		},
		"short": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"names":["zz",""],"continue_at":"a","plaintext":null,"ciphertext":"AAAA","hmac":"AAAA"}`)
		},
		"refuses": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"message":"`+secret+`"}`)
		},
	} {
		f.lie.Store(&l)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, sealErr := u.Encrypt(ctx, Caller{}, "k", []byte("plain"), nil)
		_, openErr := u.Decrypt(ctx, Caller{}, "k", []Sealed{{}})
		_, sumErr := u.HMAC(ctx, Caller{}, "k", nil)
		_, _, listErr := u.List(ctx, Caller{}, "k", "", 10)
		_, tellErr := u.Describe(ctx, Caller{}, "k")
		cancel()
		if sealErr == nil || openErr == nil || sumErr == nil {
			t.Errorf("%s: %v, %v, %v", name, sealErr, openErr, sumErr)
		}
		for _, err := range []error{sealErr, openErr, sumErr, listErr, tellErr} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestUpstreamConfig refuses what is wrong before it asks anybody.
func TestUpstreamConfig(t *testing.T) {
	t.Parallel()
	good := newFar(t).cfg
	for name, change := range map[string]func(*UpstreamConfig){
		"no address":     func(c *UpstreamConfig) { c.Endpoints = nil },
		"bad address":    func(c *UpstreamConfig) { c.Endpoints = []string{"ftp://x"} },
		"no identity":    func(c *UpstreamConfig) { c.APIKey = "" },
		"bad key":        func(c *UpstreamConfig) { c.APIKey = "kes:v1:AAAA" },
		"two identities": func(c *UpstreamConfig) { c.TLS.Cert, c.TLS.Key = "a", "b" },
		"nobody there":   func(c *UpstreamConfig) { c.Endpoints = []string{"https://127.0.0.1:1"} },
	} {
		cfg := good
		change(&cfg)
		if u, err := OpenUpstream(t.Context(), cfg); err == nil {
			t.Errorf("%s: opened %v", name, u)
		} else if strings.Contains(err.Error(), good.APIKey) {
			t.Errorf("%s: the error tells the key", name)
		}
	}
}

// TestLateBody says what was wrong.
func TestLateBody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req := httptest.NewRequest("PUT", "/v1/key/encrypt/k", late{})
	req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{r.certs["user"]}}
	w := httptest.NewRecorder()
	r.door.ServeHTTP(w, req)
	if w.Code != 400 || !strings.Contains(w.Body.String(), "in time") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

type late struct{}

func (late) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

// TestUnknownPathsAreAudited counts and reports what is none of the API's, too.
func TestUnknownPathsAreAudited(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var out bytes.Buffer
	sink := logging.NewSink(&out, nil)
	r.door.cfg.Audit.SetOutput(sink)
	r.do("user", "GET", "/v1/enclave/list", "")
	sink.Flush(time.Minute)
	var e event
	if err := json.Unmarshal(out.Bytes(), &e); err != nil || e.Response.Code != 404 || e.Request.Path != "/v1/enclave/list" || e.Request.Identity == "" {
		t.Errorf("%s, %v", out.Bytes(), err)
	}
}
