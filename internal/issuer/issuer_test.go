package issuer_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"arca/internal/arcatest"
)

// A shop is a server with an application that sends its users to it, and ann,
// who has an entity with policies.
type shop struct {
	*arcatest.Server
	t                    *testing.T
	ann, entity          string
	clientID, clientSecr string
}

const redirect = "https://app.example.com/cb"

func newShop(t *testing.T, kind string) *shop {
	t.Helper()
	s := &shop{Server: arcatest.New(t, arcatest.Config{}), t: t}
	s.Must("POST", "sys/auth/userpass", s.Root, map[string]any{"type": "userpass"})
	s.Must("POST", "sys/policies/acl/rich", s.Root, map[string]any{"policy": `path "sys/mounts" { capabilities = ["read"] } path "identity/oidc/*" { capabilities = ["read", "update"] }`})
	s.Must("POST", "auth/userpass/users/ann", s.Root, map[string]any{"password": "correct"})
	out := s.Must("POST", "auth/userpass/login/ann", "", map[string]any{"password": "correct"})
	s.ann, _ = arcatest.Dig(out, "auth", "client_token").(string)
	s.entity, _ = arcatest.Dig(out, "auth", "entity_id").(string)
	s.Must("POST", "identity/entity/id/"+s.entity, s.Root, map[string]any{"policies": "rich", "metadata": map[string]any{"team": "blue"}})
	s.Must("POST", "identity/oidc/key/k", s.Root, map[string]any{
		"algorithm": "EdDSA", "allowed_client_ids": "*", "rotation_period": "1h", "verification_ttl": "2h",
	})
	s.Must("POST", "identity/oidc/scope/team", s.Root, map[string]any{"template": `{"team":{{identity.entity.metadata.team}}}`})
	s.Must("POST", "identity/oidc/client/shop", s.Root, map[string]any{
		"redirect_uris": redirect, "assignments": "allow_all", "key": "k", "client_type": kind, "id_token_ttl": "1h",
	})
	out = s.Must("GET", "identity/oidc/client/shop", s.Root, nil)
	s.clientID, _ = arcatest.Dig(out, "data", "client_id").(string)
	s.clientSecr, _ = arcatest.Dig(out, "data", "client_secret").(string)
	s.Must("POST", "identity/oidc/provider/p", s.Root, map[string]any{"allowed_client_ids": s.clientID, "scopes_supported": "team"})
	return s
}

func (s *shop) authorize(more url.Values) (int, map[string]any) {
	q := url.Values{
		"scope": {"openid team"}, "response_type": {"code"}, "client_id": {s.clientID}, "redirect_uri": {redirect}, "state": {"st"}, "nonce": {"nn"},
	}
	for k, v := range more {
		q[k] = v
	}
	return s.Do("GET", "identity/oidc/provider/p/authorize?"+q.Encode(), s.ann, nil)
}

func (s *shop) code(more url.Values) string {
	s.t.Helper()
	status, out := s.authorize(more)
	code, _ := out["code"].(string)
	if status != 200 || code == "" {
		s.t.Fatalf("authorize: status %d: %v", status, out)
	}
	return code
}

func (s *shop) exchange(code string, more map[string]any) (int, map[string]any) {
	in := map[string]any{
		"grant_type": "authorization_code", "code": code, "redirect_uri": redirect, "client_id": s.clientID, "client_secret": s.clientSecr,
	}
	for k, v := range more {
		in[k] = v
	}
	return s.Do("POST", "identity/oidc/provider/p/token", "", in)
}

func (s *shop) userinfo(token string) (int, map[string]any) {
	return s.Do("GET", "identity/oidc/provider/p/userinfo", "", nil, "Authorization", "Bearer "+token)
}

// keys fetches the public keys at a path.
func (s *shop) keys(path string) jose.JSONWebKeySet {
	s.t.Helper()
	raw, err := json.Marshal(s.Must("GET", path, "", nil))
	if err != nil {
		s.t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(raw, &set); err != nil {
		s.t.Fatal(err)
	}
	return set
}

func verify(t *testing.T, set jose.JSONWebKeySet, text string) map[string]any {
	t.Helper()
	tok, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range set.Keys {
		claims := map[string]any{}
		if !key.IsPublic() {
			t.Error("a private key was published")
		}
		if tok.Claims(key, &claims) == nil {
			return claims
		}
	}
	return nil
}

// S3-50: a login of an application's user, from the code to the end of the tokens.
func TestProvider(t *testing.T) {
	t.Parallel()
	s := newShop(t, "confidential")
	code := s.code(nil)
	status, out := s.exchange(code, nil)
	access, _ := out["access_token"].(string)
	id, _ := out["id_token"].(string)
	if status != 200 || access == "" {
		t.Fatalf("status %d: %v", status, out)
	}
	claims := verify(t, s.keys("identity/oidc/provider/p/.well-known/keys"), id)
	if claims["sub"] != s.entity || claims["aud"] != s.clientID || claims["nonce"] != "nn" || claims["team"] != "blue" {
		t.Errorf("claims %v", claims)
	}
	if status, out := s.userinfo(access); status != 200 || out["sub"] != s.entity || out["team"] != "blue" {
		t.Errorf("userinfo: status %d: %v", status, out)
	}
	// It is good for nothing else, whatever ann may do.
	for _, path := range []string{"sys/mounts", "auth/token/lookup-self", "cubbyhole/x", "identity/oidc/provider/p"} {
		if status, _ := s.Do("GET", path, access, nil); status != 403 {
			t.Errorf("GET %s with an access token: status %d", path, status)
		}
	}
	if status, _ := s.userinfo(s.ann); status != 401 {
		t.Errorf("userinfo with another token: status %d", status)
	}
	if status, _ := s.exchange(code, nil); status != 400 {
		t.Errorf("the code again: status %d", status)
	}
	if status, _ := s.exchange(s.code(nil), map[string]any{"client_secret": ""}); status != 401 {
		t.Errorf("without the secret: status %d", status)
	}
	code = s.code(nil)
	s.Must("POST", "identity/entity/id/"+s.entity, s.Root, map[string]any{"disabled": true})
	if status, _ := s.exchange(code, nil); status != 400 {
		t.Errorf("an entity switched off: status %d", status)
	}
	if status, _ := s.userinfo(access); status != 400 {
		t.Errorf("userinfo of an entity switched off: status %d", status)
	}
}

// A code is good after a fail-over, and for no longer than five minutes.
func TestCodeIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, "confidential")
		code, late := s.code(nil), s.code(nil)
		s.Restart()
		if status, out := s.exchange(code, nil); status != 200 {
			t.Errorf("status %d: %v", status, out)
		}
		time.Sleep(5 * time.Minute)
		if status, _ := s.exchange(late, nil); status != 400 {
			t.Errorf("an old code: status %d", status)
		}
	})
}

// A key verifies for as long as tokens of its clients and roles last.
func TestVerificationTTL(t *testing.T) {
	t.Parallel()
	s := newShop(t, "confidential")
	s.Must("POST", "identity/oidc/key/short", s.Root, map[string]any{"allowed_client_ids": "*", "verification_ttl": "2h", "rotation_period": "1h"})
	c := map[string]any{"key": "short", "id_token_ttl": "2h"}
	s.Must("POST", "identity/oidc/client/two", s.Root, c)
	if status, out := s.Do("POST", "identity/oidc/key/short", s.Root, map[string]any{"verification_ttl": "90m"}); status != 400 {
		t.Errorf("a verification_ttl below that of tokens: status %d: %v", status, out)
	}
	s.Must("POST", "identity/oidc/client/two", s.Root, map[string]any{"id_token_ttl": "1h"})
	s.Must("POST", "identity/oidc/key/short", s.Root, map[string]any{"verification_ttl": "90m"})
}

// Public clients show that they are the ones who asked (RFC 7636).
func TestPKCE(t *testing.T) {
	t.Parallel()
	s := newShop(t, "public")
	verifier := strings.Repeat("v", 50)
	sum := sha256.Sum256([]byte(verifier))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	s256 := url.Values{"code_challenge": {challenge}, "code_challenge_method": {"S256"}}
	if status, _ := s.authorize(nil); status != 400 {
		t.Errorf("without a challenge: status %d", status)
	}
	if status, out := s.exchange(s.code(s256), map[string]any{"code_verifier": verifier}); status != 200 {
		t.Errorf("status %d: %v", status, out)
	}
	for _, v := range []string{"", challenge, strings.Repeat("w", 50)} {
		if status, _ := s.exchange(s.code(s256), map[string]any{"code_verifier": v}); status != 400 {
			t.Errorf("verifier %q: status %d", v, status)
		}
	}
}

// A code is good for one exchange, however many come with it at once.
func TestCodeOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t, "confidential")
	code := s.code(nil)
	var wg sync.WaitGroup
	var good atomic.Int32
	for range 20 {
		wg.Go(func() {
			if status, _ := s.exchange(code, nil); status == 200 {
				good.Add(1)
			}
		})
	}
	wg.Wait()
	if good.Load() != 1 {
		t.Errorf("one code was changed %d times", good.Load())
	}
}

// Keys rotate when they sign, the next one is known before, and tokens of a
// retired one are verified as long as was said.
func TestRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, "confidential")
		s.Must("POST", "identity/oidc/role/r", s.Root, map[string]any{"key": "k", "ttl": "2h"})
		const keys = "identity/oidc/.well-known/keys"
		token := func() string {
			t.Helper()
			out := s.Must("GET", "identity/oidc/token/r", s.ann, nil)
			text, _ := arcatest.Dig(out, "data", "token").(string)
			return text
		}
		before := s.keys(keys)
		first := token()
		time.Sleep(61 * time.Minute)
		second := token()
		if verify(t, before, second) == nil {
			t.Error("a token is signed with a key that was not published before")
		}
		if verify(t, s.keys(keys), first) == nil {
			t.Error("a token of the retired key is no longer verified")
		}
		active := func(text string) any {
			return s.Must("POST", "identity/oidc/introspect", s.ann, map[string]any{"token": text})["active"]
		}
		if active(first) != true || active(second) != true {
			t.Error("good tokens are called bad")
		}
		time.Sleep(2*time.Hour + time.Minute)
		if verify(t, s.keys(keys), first) != nil {
			t.Error("a token of the retired key is verified for ever")
		}
		if active(first) != false {
			t.Error("an old token is called good")
		}
		s.Must("POST", "identity/oidc/key/k/rotate", s.Root, map[string]any{"verification_ttl": 0})
		if verify(t, s.keys(keys), second) != nil {
			t.Error("a key that shall no longer verify does")
		}
	})
}
