package jwt_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"arca/internal/arcatest"
)

// A provider is a stand-in for an OpenID Connect provider: it hands out its keys
// and answers to codes with the claims that were set for them.
type provider struct {
	*httptest.Server
	key     *ecdsa.PrivateKey
	fetched atomic.Int32
	hang    atomic.Pointer[chan struct{}] // requests wait for it

	mu    sync.Mutex
	codes map[string]map[string]any // claims by code
	seen  url.Values                // of the last exchange
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key, codes: map[string]map[string]any{}}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) serve(w http.ResponseWriter, r *http.Request) {
	reply := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	if wait := p.hang.Load(); wait != nil {
		<-*wait
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		reply(map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token",
			"jwks_uri": p.URL + "/keys", "userinfo_endpoint": p.URL + "/userinfo", "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	case "/keys":
		p.fetched.Add(1)
		reply(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	case "/token":
		if err := r.ParseForm(); err != nil {
			return
		}
		p.mu.Lock()
		claims := p.codes[r.Form.Get("code")]
		p.seen = r.Form
		p.mu.Unlock()
		if claims == nil {
			w.WriteHeader(http.StatusBadRequest)
			reply(map[string]any{"error": "invalid_grant"})
			return
		}
		w.Header().Set("Content-Type", "application/json")
		reply(map[string]any{"access_token": "at", "token_type": "Bearer", "expires_in": 60, "id_token": p.sign(claims)})
	case "/userinfo":
		w.Header().Set("Content-Type", "application/json")
		reply(map[string]any{"sub": "sam", "groups": []string{"ops"}, "email": "forged@example.com"})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (p *provider) sign(claims map[string]any) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: "k"}}, nil)
	if err != nil {
		panic(err)
	}
	raw, _ := json.Marshal(claims)
	sig, err := signer.Sign(raw)
	if err != nil {
		panic(err)
	}
	text, err := sig.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return text
}

func (p *provider) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
}

func (p *provider) pem(t *testing.T) string {
	t.Helper()
	raw, err := x509.MarshalPKIXPublicKey(p.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: raw}))
}

func claims(more map[string]any) map[string]any {
	out := map[string]any{"iss": "me", "sub": "sam", "aud": "app", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	for k, v := range more {
		out[k] = v
	}
	return out
}

func login(s *arcatest.Server, mount, token string) (int, map[string]any) {
	return s.Do("POST", "auth/"+mount+"/login", "", map[string]any{"role": "r", "jwt": token})
}

// Tokens that are not signed as they should be let nobody in.
func TestForged(t *testing.T) {
	t.Parallel()
	s, p := arcatest.New(t, arcatest.Config{}), newProvider(t)
	s.Must("POST", "sys/auth/jwt", s.Root, map[string]any{"type": "jwt"})
	s.Must("POST", "auth/jwt/config", s.Root, map[string]any{"jwt_validation_pubkeys": p.pem(t), "bound_issuer": "me"})
	s.Must("POST", "auth/jwt/role/r", s.Root, map[string]any{"role_type": "jwt", "user_claim": "sub", "bound_audiences": "app", "token_policies": "p"})
	if code, out := login(s, "jwt", p.sign(claims(nil))); code != 200 {
		t.Fatalf("status %d: %v", code, out)
	}
	part := func(v any) string {
		raw, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	none := part(map[string]any{"alg": "none"}) + "." + part(claims(nil)) + "."
	// HMAC with the public key as its secret.
	hs, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(p.pem(t))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := json.Marshal(claims(nil))
	sig, err := hs.Sign(raw)
	if err != nil {
		t.Fatal(err)
	}
	mac, _ := sig.CompactSerialize()
	good := p.sign(claims(nil))
	for name, token := range map[string]string{
		"none": none, "hmac": mac, "cut": good[:len(good)-4], "empty signature": good[:len(good)-86],
		"expired":   p.sign(claims(map[string]any{"exp": time.Now().Add(-time.Hour).Unix(), "iat": time.Now().Add(-2 * time.Hour).Unix()})),
		"issuer":    p.sign(claims(map[string]any{"iss": "other"})),
		"audience":  p.sign(claims(map[string]any{"aud": []string{"x"}})),
		"no name":   p.sign(claims(map[string]any{"sub": ""})),
		"long":      good + string(make([]byte, 64<<10)),
		"no claims": "e30.W10.e30",
	} {
		if code, out := login(s, "jwt", token); code < 400 {
			t.Errorf("%s: status %d: %v", name, code, out)
		}
	}
}

// Keys are fetched, kept, and fetched again no oftener than now and then; a
// provider that hangs holds up nobody else.
func TestFetchedKeys(t *testing.T) {
	t.Parallel()
	s, p := arcatest.New(t, arcatest.Config{}), newProvider(t)
	s.Must("POST", "sys/auth/jwt", s.Root, map[string]any{"type": "jwt"})
	s.Must("POST", "auth/jwt/config", s.Root, map[string]any{"oidc_discovery_url": p.URL, "oidc_discovery_ca_pem": p.ca()})
	s.Must("POST", "auth/jwt/role/r", s.Root, map[string]any{"role_type": "jwt", "user_claim": "sub", "bound_audiences": "app"})
	other := newProvider(t)
	for range 20 {
		if code, out := login(s, "jwt", p.sign(claims(nil))); code != 200 {
			t.Fatalf("status %d: %v", code, out)
		}
		if code, _ := login(s, "jwt", other.sign(claims(nil))); code != 400 {
			t.Fatalf("a token of another: status %d", code)
		}
	}
	if n := p.fetched.Load(); n > 3 {
		t.Errorf("keys were fetched %d times", n)
	}
	if code, _ := s.Do("POST", "auth/jwt/config", s.Root, map[string]any{"oidc_discovery_url": p.URL}); code != 400 {
		t.Errorf("a provider whose certificate nobody vouches for: status %d", code)
	}
	release := make(chan struct{})
	p.hang.Store(&release)
	done := make(chan struct{})
	go func() {
		defer close(done)
		code, _ := s.Do("POST", "auth/jwt/config", s.Root, map[string]any{"oidc_discovery_url": p.URL, "oidc_discovery_ca_pem": p.ca()})
		if code != 400 {
			t.Errorf("a provider that hangs: status %d", code)
		}
	}()
	s.Must("GET", "auth/token/lookup-self", s.Root, nil)
	close(release)
	<-done
}

// A login through the browser: S3-50.
func TestBrowser(t *testing.T) {
	t.Parallel()
	s, p := arcatest.New(t, arcatest.Config{}), newProvider(t)
	s.Must("POST", "sys/auth/oidc", s.Root, map[string]any{"type": "oidc"})
	s.Must("POST", "auth/oidc/config", s.Root, map[string]any{
		"oidc_discovery_url": p.URL, "oidc_discovery_ca_pem": p.ca(), "oidc_client_id": "cid", "oidc_client_secret": "very-secret", "default_role": "web",
	})
	s.Must("POST", "auth/oidc/role/web", s.Root, map[string]any{
		"user_claim": "sub", "allowed_redirect_uris": "http://localhost:8250/oidc/callback", "token_policies": "webp",
		"groups_claim": "groups", "claim_mappings": map[string]any{"email": "mail"},
	})
	begin := func(nonce string) url.Values {
		t.Helper()
		out := s.Must("POST", "auth/oidc/oidc/auth_url", "", map[string]any{"redirect_uri": "http://localhost:8250/oidc/callback", "client_nonce": nonce})
		text, _ := arcatest.Dig(out, "data", "auth_url").(string)
		u, err := url.Parse(text)
		if err != nil || u.Query().Get("state") == "" || u.Query().Get("code_challenge") == "" {
			t.Fatalf("auth_url %q: %v", text, err)
		}
		return u.Query()
	}
	back := func(q url.Values, code, nonce string) (int, map[string]any) {
		return s.Do("GET", "auth/oidc/oidc/callback?"+url.Values{"state": {q.Get("state")}, "code": {code}, "client_nonce": {nonce}}.Encode(), "", nil)
	}
	set := func(code, nonce string, more map[string]any) {
		c := claims(map[string]any{"iss": p.URL, "aud": "cid", "nonce": nonce, "email": "sam@example.com"})
		for k, v := range more {
			c[k] = v
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.codes[code] = c
	}
	q := begin("n1")
	set("good", q.Get("nonce"), nil)
	code, out := back(q, "good", "n1")
	meta, _ := arcatest.Dig(out, "auth", "metadata").(map[string]any)
	if code != 200 || meta["mail"] != "sam@example.com" || meta["role"] != "web" {
		t.Fatalf("status %d: %v", code, out)
	}
	if p.seen.Get("code_verifier") == "" {
		t.Error("the code was exchanged without a verifier")
	}
	// Another server over the same store, as after a fail-over, ends a login, too.
	q = begin("n1")
	set("moved", q.Get("nonce"), nil)
	s.Restart()
	if code, out := back(q, "moved", "n1"); code != 200 {
		t.Errorf("a login that began before: status %d: %v", code, out)
	}
	set("changed", q.Get("nonce"), nil)
	for name, state := range map[string]string{"cut": q.Get("state")[:60], "changed": q.Get("state")[:20] + "A" + q.Get("state")[21:], "none": "", "short": "st_AA", "long": "st_" + strings.Repeat("A", 9000)} {
		if code, out := back(url.Values{"state": {state}}, "changed", "n1"); code != 400 {
			t.Errorf("a state that was %s: status %d: %v", name, code, out)
		}
	}
	if code, _ := back(q, "good", "n1"); code != 400 {
		t.Errorf("the state again: status %d", code)
	}
	for name, c := range map[string]struct {
		nonce string
		more  map[string]any
	}{
		"the client's nonce": {"other", nil},
		"the token's nonce":  {"n2", map[string]any{"nonce": "x"}},
		"the audience":       {"n2", map[string]any{"aud": "someone"}},
		"the issuer":         {"n2", map[string]any{"iss": "https://evil.example.com"}},
		"the time":           {"n2", map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}},
	} {
		q := begin("n2")
		set(name, q.Get("nonce"), c.more)
		if code, out := back(q, name, c.nonce); code != 400 {
			t.Errorf("%s is wrong: status %d: %v", name, code, out)
		}
		set(name, q.Get("nonce"), nil)
		if code, _ := back(q, name, "n2"); code != 400 {
			t.Errorf("after %s was wrong, the login goes on", name)
		}
	}
	// A state belongs to the mount at which the login began.
	s.Must("POST", "sys/auth/two", s.Root, map[string]any{"type": "oidc"})
	s.Must("POST", "auth/two/config", s.Root, map[string]any{
		"oidc_discovery_url": p.URL, "oidc_discovery_ca_pem": p.ca(), "oidc_client_id": "cid", "oidc_client_secret": "very-secret",
	})
	q = begin("n3")
	set("three", q.Get("nonce"), nil)
	if code, _ := s.Do("GET", "auth/two/oidc/callback?"+url.Values{"state": {q.Get("state")}, "code": {"three"}, "client_nonce": {"n3"}}.Encode(), "", nil); code != 400 {
		t.Errorf("the state of another mount: status %d", code)
	}
	if out := s.Must("GET", "auth/oidc/config", s.Root, nil); strings.Contains(fmt.Sprint(out), "very-secret") {
		t.Errorf("the configuration shows its secret: %v", out)
	}
}
