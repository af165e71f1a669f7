package api_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"arca/internal/arcatest"
)

// discard is a writer of answers that keeps nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

const benchPolicy = `path "kv1/*" { capabilities = ["create","read","update","delete","list"] }
path "kv2/*" { capabilities = ["create","read","update","delete","list","patch"] }
path "auth/token/*" { capabilities = ["create","read","update"] }
path "sys/wrapping/*" { capabilities = ["create","read","update"] }
path "team/+/config" { capabilities = ["read"] }`

// BenchmarkHandle measures a request without its transport: door, hall, room.
func BenchmarkHandle(b *testing.B) {
	s := arcatest.New(b, arcatest.Config{})
	s.Must("POST", "sys/mounts/kv1", s.Root, map[string]any{"type": "kv"})
	s.Must("POST", "sys/mounts/kv2", s.Root, map[string]any{"type": "kv-v2"})
	s.Must("PUT", "sys/policies/acl/bench", s.Root, map[string]any{"policy": benchPolicy})
	token, _ := arcatest.Dig(s.Must("POST", "auth/token/create", s.Root, map[string]any{"policies": []string{"bench"}}), "auth", "client_token").(string)
	s.Must("POST", "sys/auth/approle", s.Root, map[string]any{"type": "approle"})
	s.Must("POST", "auth/approle/role/r", s.Root, map[string]any{"token_policies": "bench"})
	login := fmt.Sprintf(`{"role_id":%q,"secret_id":%q}`,
		arcatest.Dig(s.Must("GET", "auth/approle/role/r/role-id", s.Root, nil), "data", "role_id"),
		arcatest.Dig(s.Must("POST", "auth/approle/role/r/secret-id", s.Root, nil), "data", "secret_id"))
	secret := fmt.Sprintf(`{"username":"svc","password":"%s"}`, strings.Repeat("n", 260))
	for i := range 1000 {
		s.Must("POST", fmt.Sprintf("kv1/app/k%d", i), token, secret)
		s.Must("POST", fmt.Sprintf("kv2/data/app/k%d", i), token, `{"data":`+secret+`}`)
	}
	for _, c := range []struct{ name, method, path, body string }{
		{"health", "GET", "sys/health", ""},
		{"lookup-self", "GET", "auth/token/lookup-self", ""},
		{"kv1-read", "GET", "kv1/app/k%d", ""},
		{"kv2-read", "GET", "kv2/data/app/k%d", ""},
		{"kv1-write", "POST", "kv1/w/k%d", secret},
		{"kv2-write", "POST", "kv2/data/w/k%d", `{"data":` + secret + `}`},
		{"kv2-list1000", "LIST", "kv2/metadata/app", ""},
		{"token-create", "POST", "auth/token/create", `{"ttl":"1h"}`},
		{"approle-login", "POST", "auth/approle/login", login},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			w := &discard{h: http.Header{}}
			h := http.Header{"X-Vault-Token": {token}}
			n := 0
			for b.Loop() {
				n++
				path := c.path
				if strings.Contains(path, "%d") {
					path = fmt.Sprintf(path, n%1000)
				}
				r := &http.Request{Method: c.method, URL: &url.URL{Path: "/v1/" + path}, Header: h, RemoteAddr: "127.0.0.1:1234"}
				if c.body != "" {
					r.Body = io.NopCloser(bytes.NewReader([]byte(c.body)))
					r.ContentLength = int64(len(c.body))
				}
				clear(w.h)
				s.Handler.ServeHTTP(w, r)
			}
		})
	}
}
