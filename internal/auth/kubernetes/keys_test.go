package kubernetes_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"arca/internal/arcatest"
)

// A signing cluster stands in for one whose keys are published: it signs tokens,
// and serves its keys and the labels of namespaces to whom it likes.
type signing struct {
	*httptest.Server

	mu     sync.Mutex
	keys   map[string]*ecdsa.PrivateKey // guarded by mu, as is the rest
	admits func(bearer string) bool
	labels map[string]map[string]string
	asked  map[string]int // by path
	broken string         // answered in place of the keys
}

func newSigning(t *testing.T) *signing {
	t.Helper()
	c := &signing{keys: map[string]*ecdsa.PrivateKey{}, asked: map[string]int{}, labels: map[string]map[string]string{}, admits: func(string) bool { return true }}
	c.addKey(t, "one")
	c.Server = httptest.NewTLSServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

func (c *signing) addKey(t *testing.T, id string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.set(func() { c.keys[id] = key })
}

// set changes the cluster.
func (c *signing) set(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
}

func (c *signing) times(path string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[path]
}

const jwksPath = "/openid/v1/jwks"

func (c *signing) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[r.URL.Path]++
	if !c.admits(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if name, ok := strings.CutPrefix(r.URL.Path, "/api/v1/namespaces/"); ok && c.labels[name] != nil {
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Namespace", "metadata": map[string]any{"name": name, "labels": c.labels[name]}})
		return
	}
	switch {
	case r.URL.Path == "/apis/authentication.k8s.io/v1/tokenreviews":
		var in struct {
			Spec struct{ Token string } `json:"spec"`
		}
		_ = json.NewDecoder(r.Body).Decode(&in) // what is no token is not good
		parsed, err := jose.ParseSignedCompact(in.Spec.Token, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			return
		}
		var cl map[string]any
		_ = json.Unmarshal(parsed.UnsafePayloadWithoutVerification(), &cl) // as above
		fmt.Fprintf(w, `{"status":{"authenticated":true,"user":{"username":%q,"uid":"uid"}}}`, cl["sub"])
	case r.URL.Path == jwksPath && c.broken != "":
		fmt.Fprint(w, c.broken)
	case r.URL.Path == jwksPath:
		set := jose.JSONWebKeySet{}
		for id, key := range c.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"})
		}
		_ = json.NewEncoder(w).Encode(set)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (c *signing) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw}))
}

// sign makes a token of an account as clusters do today; more replaces claims.
func (c *signing) sign(t *testing.T, id, namespace, name string, more map[string]any) string {
	t.Helper()
	c.mu.Lock()
	key := c.keys[id]
	c.mu.Unlock()
	return signBy(t, key, id, namespace, name, more)
}

func signBy(t *testing.T, key any, id, namespace, name string, more map[string]any) string {
	t.Helper()
	cl := map[string]any{
		"iss": "https://cluster", "sub": "system:serviceaccount:" + namespace + ":" + name, "aud": []string{"vault"},
		"exp": time.Now().Add(time.Hour).Unix(), "nbf": time.Now().Unix(),
		"kubernetes.io": map[string]any{"namespace": namespace, "serviceaccount": map[string]any{"name": name, "uid": "uid"}},
	}
	for k, v := range more {
		if cl[k] = v; v == nil {
			delete(cl, k)
		}
	}
	raw, err := json.Marshal(cl)
	if err != nil {
		t.Fatal(err)
	}
	alg := jose.ES256
	if _, ok := key.([]byte); ok {
		alg = jose.HS256
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(raw)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// mountedWith makes a server with the method, of which config and role have more.
func (c *signing) mountedWith(t *testing.T, config, role map[string]any) *arcatest.Server {
	t.Helper()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/auth/kubernetes", s.Root, map[string]any{"type": "kubernetes"})
	conf := map[string]any{"kubernetes_host": c.URL, "kubernetes_ca_cert": c.ca(), "disable_local_ca_jwt": true}
	for k, v := range config {
		conf[k] = v
	}
	s.Must("POST", "auth/kubernetes/config", s.Root, conf)
	body := map[string]any{"bound_service_account_names": "app", "bound_service_account_namespaces": "ns", "audience": "vault", "token_policies": "p"}
	for k, v := range role {
		body[k] = v
	}
	s.Must("POST", "auth/kubernetes/role/r", s.Root, body)
	return s
}

func loginWith(s *arcatest.Server, jwt string) (int, map[string]any) {
	return s.Do("POST", "auth/kubernetes/login", "", map[string]any{"role": "r", "jwt": jwt})
}

// With the keys that a cluster publishes, it is asked for them once, and never
// about a token; what is not signed by it, or not for us, does not log in.
func TestPublishedKeys(t *testing.T) {
	t.Parallel()
	c := newSigning(t)
	s := c.mountedWith(t, map[string]any{"use_published_keys": true}, nil)
	if out := s.Must("GET", "auth/kubernetes/config", s.Root, nil); arcatest.Dig(out, "data", "use_published_keys") != true {
		t.Errorf("configuration: %v", out)
	}
	for range 3 {
		code, out := loginWith(s, c.sign(t, "one", "ns", "app", nil))
		if code != 200 || fmt.Sprint(arcatest.Dig(out, "auth", "policies")) != "[default p]" ||
			arcatest.Dig(out, "auth", "metadata", "service_account_name") != "app" {
			t.Fatalf("login: %d %v", code, out)
		}
	}
	if n := c.times(jwksPath); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := c.sign(t, "one", "ns", "app", nil)
	parts := strings.Split(good, ".")
	evil := strings.Split(c.sign(t, "one", "ns", "admin", nil), ".")
	for name, jwt := range map[string]string{
		"another's key":     signBy(t, other, "one", "ns", "app", nil),
		"no id of the key":  signBy(t, other, "", "ns", "app", nil),
		"no signature":      parts[0] + "." + parts[1] + ".",
		"other claims":      parts[0] + "." + evil[1] + "." + parts[2],
		"a secret key":      signBy(t, []byte("0123456789abcdef0123456789abcdef"), "one", "ns", "app", nil),
		"JSON around":       fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q,"x":".%s."}`, parts[0], parts[1], parts[2], evil[1]),
		"no end":            c.sign(t, "one", "ns", "app", map[string]any{"exp": nil}),
		"ended":             c.sign(t, "one", "ns", "app", map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"not yet":           c.sign(t, "one", "ns", "app", map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}),
		"another audience":  c.sign(t, "one", "ns", "app", map[string]any{"aud": "other"}),
		"another subject":   c.sign(t, "one", "ns", "app", map[string]any{"sub": "system:serviceaccount:ns:admin"}),
		"another account":   c.sign(t, "one", "ns", "admin", nil),
		"another namespace": c.sign(t, "one", "other", "app", nil),
	} {
		if code, out := loginWith(s, jwt); code != 403 {
			t.Errorf("%s: %d %v", name, code, out)
		}
	}
	if n := c.times("/apis/authentication.k8s.io/v1/tokenreviews"); n != 0 {
		t.Errorf("reviews were asked for %d times", n)
	}
	s.Must("POST", "auth/kubernetes/role/r", s.Root, map[string]any{"audience": ""})
	if code, out := loginWith(s, good); code != 403 || !strings.Contains(fmt.Sprint(out), "audience") {
		t.Errorf("a role without audience: %d %v", code, out)
	}
}

// A cluster that gives its keys to service accounts only is asked with the
// caller's token, and one caller's bad token keeps nobody else out.
func TestKeysForAccounts(t *testing.T) {
	t.Parallel()
	c := newSigning(t)
	good := c.sign(t, "one", "ns", "app", nil)
	c.set(func() { c.admits = func(bearer string) bool { return bearer == good } })
	s := c.mountedWith(t, map[string]any{"use_published_keys": true}, nil)
	for range 5 {
		if code, out := loginWith(s, c.sign(t, "one", "ns", "app", map[string]any{"aud": []string{"vault", "bad"}})); code != 503 {
			t.Fatalf("without keys: %d %v", code, out)
		}
	}
	if code, out := loginWith(s, good); code != 200 {
		t.Errorf("with the caller's token: %d %v", code, out)
	}
	// With a reviewer, it is the reviewer who asks, and nobody else.
	c2 := newSigning(t)
	c2.set(func() { c2.admits = func(bearer string) bool { return bearer == "reviewer" } })
	s = c2.mountedWith(t, map[string]any{"use_published_keys": true, "token_reviewer_jwt": "reviewer"}, nil)
	if code, out := loginWith(s, c2.sign(t, "one", "ns", "app", nil)); code != 200 {
		t.Errorf("with the reviewer's token: %d %v", code, out)
	}
	if n := c2.times(jwksPath); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// A token that names an unknown key does not make the cluster be asked at will.
func TestUnknownKeys(t *testing.T) {
	t.Parallel()
	c := newSigning(t)
	s := c.mountedWith(t, map[string]any{"use_published_keys": true}, nil)
	if code, _ := loginWith(s, c.sign(t, "one", "ns", "app", nil)); code != 200 {
		t.Fatal(code)
	}
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for i := range 50 {
		if code, _ := loginWith(s, signBy(t, foreign, fmt.Sprint("k", i), "ns", "app", nil)); code != 403 {
			t.Fatal(code)
		}
	}
	if most := 2 + int(time.Since(start)/(5*time.Second)); c.times(jwksPath) > most {
		t.Errorf("fetched %d times", c.times(jwksPath))
	}
}

// What is no set of keys is none.
func TestBrokenKeys(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"no JSON": "<html>", "no keys": `{"keys":[]}`, "secret key": `{"keys":[{"kty":"oct","kid":"one","k":"MDEyMzQ1Njc4OWFiY2RlZg"}]}`,
		"endless": strings.Repeat(" ", 2<<20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newSigning(t)
			c.set(func() { c.broken = answer })
			s := c.mountedWith(t, map[string]any{"use_published_keys": true}, nil)
			for _, jwt := range []string{c.sign(t, "one", "ns", "app", nil), signBy(t, []byte("0123456789abcdef0123456789abcdef"), "one", "ns", "app", nil)} {
				if code, out := loginWith(s, jwt); code < 400 {
					t.Errorf("%d %v", code, out)
				}
			}
		})
	}
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/auth/kubernetes", s.Root, map[string]any{"type": "kubernetes"})
	if code, out := s.Do("POST", "auth/kubernetes/config", s.Root, map[string]any{"kubernetes_host": "http://cluster", "use_published_keys": true}); code != 400 {
		t.Errorf("keys without TLS: %d %v", code, out)
	}
}

// A selector chooses namespaces by the labels that the cluster has for them, with
// and without published keys, beside those that are named.
func TestNamespaceSelector(t *testing.T) {
	t.Parallel()
	for name, published := range map[string]bool{"reviewed": false, "published keys": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newSigning(t)
			c.set(func() {
				c.labels = map[string]map[string]string{"team-a": {"vault": "yes"}, "team-b": {"vault": "no"}, "ns": {"vault": "no"}}
			})
			s := c.mountedWith(t, map[string]any{"use_published_keys": published, "token_reviewer_jwt": "reviewer"},
				map[string]any{"bound_service_account_namespaces": "ns", "bound_service_account_namespace_selector": `{"matchLabels":{"vault":"yes"}}`})
			try := func(namespace string, want int) {
				t.Helper()
				if code, out := loginWith(s, c.sign(t, "one", namespace, "app", nil)); code != want {
					t.Errorf("%s: %d %v", namespace, code, out)
				}
			}
			try("ns", 200)
			if c.times("/api/v1/namespaces/ns") != 0 {
				t.Error("labels were read for a namespace that is named")
			}
			try("team-a", 200)
			try("team-b", 403)
			try("gone", 403)
			try("a/../team-a", 403)
			s.Must("POST", "auth/kubernetes/role/r", s.Root, map[string]any{
				"bound_service_account_namespaces": []string{}, "bound_service_account_namespace_selector": "matchExpressions:\n- {key: vault, operator: In, values: ['no']}\n",
			})
			try("team-a", 403)
			try("team-b", 200)
			c.set(func() { c.labels["team-b"] = map[string]string{"vault": "yes"} })
			try("team-b", 403)
			c.set(func() { c.admits = func(bearer string) bool { return bearer == "" } })
			try("team-a", 403)
		})
	}
}

func TestSelectorsRefused(t *testing.T) {
	t.Parallel()
	c := newSigning(t)
	s := c.mountedWith(t, nil, nil)
	for text, want := range map[string]string{
		"{}": "neither", "matchLabels": "failed to parse", `{"matchLabel":{"a":"b"}}`: "failed to parse", `{"matchLabels":{"a":"b","a":"c"}}`: "failed to parse",
		`{"matchExpressions":[{"key":"a","operator":"Is"}]}`: "no operator", `{"matchExpressions":[{"key":"a","operator":"In"}]}`: "needs values",
		`{"matchExpressions":[{"key":"a","operator":"Exists","values":["b"]}]}`: "takes no values", `{"matchExpressions":[{"operator":"Exists"}]}`: "without key",
		strings.Repeat("a", 20<<10): "longer",
	} {
		code, out := s.Do("POST", "auth/kubernetes/role/r", s.Root, map[string]any{"bound_service_account_namespace_selector": text})
		if code != 400 || !strings.Contains(fmt.Sprint(out), want) {
			t.Errorf("%.40s: %d %v", text, code, out)
		}
	}
	code, out := s.Do("POST", "auth/kubernetes/role/none", s.Root, map[string]any{"bound_service_account_names": "a"})
	if code != 400 || !strings.Contains(fmt.Sprint(out), "can not be empty") {
		t.Errorf("neither names nor selector: %d %v", code, out)
	}
}

// Who was checked by an audience that the role no longer has is not let in.
func TestAudienceChangedMeanwhile(t *testing.T) {
	t.Parallel()
	c := newSigning(t)
	for _, published := range []bool{false, true} {
		s := c.mountedWith(t, map[string]any{"use_published_keys": published}, nil)
		jwt := c.sign(t, "one", "ns", "app", map[string]any{"aud": []string{"vault", "other"}})
		changed := false
		c.set(func() {
			c.admits = func(string) bool {
				if !changed {
					s.Must("POST", "auth/kubernetes/role/r", s.Root, map[string]any{"audience": "other"})
					changed = true
				}
				return true
			}
		})
		if code, out := loginWith(s, jwt); code != 403 || !changed {
			t.Errorf("published keys %t: %d %v", published, code, out)
		}
		if code, out := loginWith(s, jwt); code != 200 {
			t.Errorf("published keys %t, by the role as it is: %d %v", published, code, out)
		}
	}
}
