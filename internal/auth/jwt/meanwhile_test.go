package jwt_test

import (
	"net/http"
	"net/url"
	"testing"

	"arca/internal/arcatest"
)

// Who was checked by a role that has changed meanwhile is not let in.
func TestRoleChangedMeanwhile(t *testing.T) {
	t.Parallel()
	s, p := arcatest.New(t, arcatest.Config{}), newProvider(t)
	s.Must("POST", "sys/auth/oidc", s.Root, map[string]any{"type": "oidc"})
	s.Must("POST", "auth/oidc/config", s.Root, map[string]any{
		"oidc_discovery_url": p.URL, "oidc_discovery_ca_pem": p.ca(), "oidc_client_id": "cid", "oidc_client_secret": "very-secret",
	})
	role := func(audience string) {
		s.Must("POST", "auth/oidc/role/r", s.Root, map[string]any{
			"role_type": "jwt", "user_claim": "sub", "bound_audiences": audience, "allowed_redirect_uris": "http://localhost:8250/oidc/callback",
		})
		s.Must("POST", "auth/oidc/role/web", s.Root, map[string]any{
			"user_claim": "sub", "bound_audiences": audience + ",cid", "allowed_redirect_uris": "http://localhost:8250/oidc/callback",
		})
	}
	role("app")
	s.Restart() // so that keys are fetched again
	serve := p.Config.Handler
	change := func(path string) {
		p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == path {
				role("other")
			}
			serve.ServeHTTP(w, r)
		})
	}
	change("/keys")
	if code, out := login(s, "oidc", p.sign(claims(nil))); code != 403 {
		t.Errorf("a token of the audience that was: status %d: %v", code, out)
	}
	role("app")
	if code, out := login(s, "oidc", p.sign(claims(nil))); code != 200 {
		t.Errorf("status %d: %v", code, out)
	}
	change("/token")
	out := s.Must("POST", "auth/oidc/oidc/auth_url", "", map[string]any{"role": "web", "redirect_uri": "http://localhost:8250/oidc/callback"})
	text, _ := arcatest.Dig(out, "data", "auth_url").(string)
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	back := func(code string) int {
		status, _ := s.Do("GET", "auth/oidc/oidc/callback?"+url.Values{"state": {u.Query().Get("state")}, "code": {code}}.Encode(), "", nil)
		return status
	}
	p.mu.Lock()
	p.codes["good"] = claims(map[string]any{"iss": p.URL, "aud": "cid", "nonce": u.Query().Get("nonce")})
	p.mu.Unlock()
	if code := back(""); code != 400 {
		t.Errorf("without a code: status %d", code)
	}
	if code := back("good"); code != 403 {
		t.Errorf("a login by the role that was: status %d", code)
	}
	// Without a code nothing had ended, nor with a role that changed.
	p.Config.Handler = serve
	if code := back("good"); code != 200 {
		t.Errorf("status %d", code)
	}
	if code := back("good"); code != 400 {
		t.Errorf("the state again: status %d", code)
	}
}

// Claims that are numbers are held to all of their digits.
func TestLargeNumbers(t *testing.T) {
	t.Parallel()
	s, p := arcatest.New(t, arcatest.Config{}), newProvider(t)
	s.Must("POST", "sys/auth/jwt", s.Root, map[string]any{"type": "jwt"})
	s.Must("POST", "auth/jwt/config", s.Root, map[string]any{"jwt_validation_pubkeys": p.pem(t)})
	s.Must("POST", "auth/jwt/role/r", s.Root, map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": "app", "bound_claims": map[string]any{"org": []any{int64(9007199254740993), "x"}},
	})
	for org, want := range map[int64]int{9007199254740993: 200, 9007199254740992: 400, 9007199254740994: 400} {
		if code, out := login(s, "jwt", p.sign(claims(map[string]any{"org": org}))); code != want {
			t.Errorf("%d: status %d: %v", org, code, out)
		}
	}
}
