package gcp

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"arca/internal/kes/store"
	"arca/internal/kes/store/rest"
	"arca/internal/kes/store/storetest"
)

type obj = map[string]any

func serve(f *storetest.Fake, r *http.Request, in map[string]any) (int, any) {
	const dir = "/v1/projects/p/secrets"
	rest, ok := strings.CutPrefix(r.URL.Path, dir)
	switch {
	case r.URL.Path == "/token":
		return 200, obj{"access_token": "t", "expires_in": 3600}
	case r.URL.Path == "/":
		return 404, nil
	case r.Header.Get("Authorization") != "Bearer t" || !ok:
		return 401, obj{"error": obj{"message": "no", "status": "UNAUTHENTICATED"}}
	case rest == "" && r.Method == http.MethodPost:
		if !f.Create(r.URL.Query().Get("secretId"), "") {
			return 409, obj{"error": obj{"message": "exists", "status": "ALREADY_EXISTS"}}
		}
		return 200, obj{}
	case rest == "":
		list, next := []obj{}, ""
		for _, n := range f.Names() {
			if n > r.URL.Query().Get("pageToken") {
				if len(list) == 2 {
					next = strings.TrimPrefix(storetest.Text(list[1], "name"), "projects/1/secrets/")
					break
				}
				list = append(list, obj{"name": "projects/1/secrets/" + n})
			}
		}
		return 200, obj{"secrets": list, "nextPageToken": next}
	}
	name := strings.TrimPrefix(rest, "/")
	if name, ok := strings.CutSuffix(name, ":addVersion"); ok {
		payload, _ := in["payload"].(obj)
		if f.Values[name] != "" {
			return 200, obj{"name": "projects/1/secrets/" + name + "/versions/2"}
		}
		f.Values[name] = storetest.Text(payload, "data")
		return 200, obj{"name": "projects/1/secrets/" + name + "/versions/1"}
	}
	name, access := strings.CutSuffix(name, "/versions/1:access")
	value, there := f.Values[name]
	switch {
	case !there, access && value == "":
		return 404, obj{"error": obj{"status": "NOT_FOUND"}}
	case access:
		return 200, obj{"payload": obj{"data": value}}
	}
	delete(f.Values, name)
	return 200, obj{}
}

func TestStore(t *testing.T) {
	f := &storetest.Fake{Serve: serve}
	endpoint := f.Start(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	cfg := Config{ProjectID: "p", Endpoint: endpoint, Email: "me@p", KeyID: "k", Key: strings.ReplaceAll(text, "\n", `\n`)}
	c, err := findCredentials(cfg, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	c.scopes = []string{"s"}
	checkAssertion(t, c, &key.PublicKey)
	c.TokenURI = endpoint + "/token"
	token, life, err := c.token(t.Context(), "")
	if err != nil || token != "t" || life != time.Hour {
		t.Errorf("token %q for %v, %v", token, life, err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/none")
	if _, err := Open(t.Context(), Config{ProjectID: "p", Endpoint: endpoint}); err == nil {
		t.Error("opened without the credentials that the environment names")
	}
	// The machine's credentials.
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GCE_METADATA_HOST", u.Host)
	f.Serve = func(f *storetest.Fake, r *http.Request, in map[string]any) (int, any) {
		if strings.HasPrefix(r.URL.Path, "/computeMetadata/") && r.Header.Get("Metadata-Flavor") == "Google" {
			return 200, obj{"access_token": "t", "expires_in": 3600}
		}
		return serve(f, r, in)
	}
	s, err := Open(t.Context(), Config{ProjectID: "p", Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	storetest.TestStore(t, s, storetest.Config{})
}

func checkAssertion(t *testing.T, c *credentials, key *rsa.PublicKey) {
	t.Helper()
	jwt, err := c.assertion(time.Unix(1000, 0))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(jwt, ".")
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) != nil {
		t.Error("the assertion is not signed")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims obj
	if err != nil || json.Unmarshal(raw, &claims) != nil || claims["iss"] != "me@p" || claims["aud"] != tokenURI || claims["scope"] != "s" {
		t.Errorf("claims %s", raw)
	}
}

// TestHostile stands the service's outages and lies.
func TestHostile(t *testing.T) {
	f := &storetest.Fake{Serve: func(f *storetest.Fake, r *http.Request, in map[string]any) (int, any) {
		if strings.HasPrefix(r.URL.Path, "/computeMetadata/") {
			return 200, obj{"access_token": "t", "expires_in": 3600}
		}
		return serve(f, r, in)
	}}
	endpoint := f.Start(t)
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("GCE_METADATA_HOST", u.Host)
	storetest.TestHostile(t, storetest.Hostile{
		URL: endpoint,
		Open: func(url string) (store.Store, error) {
			return Open(t.Context(), Config{ProjectID: "p", Endpoint: url})
		},
	})
}

// TestLostAnswers makes a key whose secret was made, or got its version, by a question
// whose answer was lost, or by a server that was cut off; a second server is none the wiser.
func TestLostAnswers(t *testing.T) {
	for _, lost := range []string{"secret", "version", "left empty", "nothing, but another is faster"} {
		t.Run(lost, func(t *testing.T) {
			once := true
			f := &storetest.Fake{Serve: func(f *storetest.Fake, r *http.Request, in map[string]any) (int, any) {
				if lost[0] == 'n' && strings.HasSuffix(r.URL.Path, ":addVersion") {
					f.Values["k"] = "b3RoZXI="
				}
				code, out := serve(f, r, in)
				secret := r.Method == http.MethodPost && r.URL.Query().Get("secretId") != ""
				version := strings.HasSuffix(r.URL.Path, ":addVersion")
				if once && (lost == "secret" && secret || lost == "version" && version) {
					once = false
					return 503, nil
				}
				return code, out
			}}
			endpoint := f.Start(t)
			web, err := rest.NewHTTP(rest.TLS{})
			if err != nil {
				t.Fatal(err)
			}
			s := &Store{cfg: Config{ProjectID: "p", Endpoint: endpoint}, pause: time.Millisecond}
			s.session.Get = func(context.Context, string) (string, time.Duration, error) { return "t", time.Hour, nil }
			s.client = &rest.Client{Base: endpoint, HTTP: web, Retries: 2, Prepare: s.prepare, Again: s.again}
			if lost == "left empty" {
				f.Create("k", "")
			}
			err = s.Create(t.Context(), "k", []byte("value"))
			if lost[0] == 'n' {
				if !errors.Is(err, store.ErrExists) {
					t.Errorf("another's key: %v", err)
				}
				return
			}
			if err != nil {
				t.Error(err)
			}
			if got, err := s.Get(t.Context(), "k"); err != nil || string(got) != "value" {
				t.Errorf("%q, %v", got, err)
			}
			if err := s.Create(t.Context(), "k", []byte("value")); !errors.Is(err, store.ErrExists) {
				t.Errorf("once more: %v", err)
			}
		})
	}
}
