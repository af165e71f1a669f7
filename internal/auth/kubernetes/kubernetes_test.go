package kubernetes_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/arcatest"
)

// A stand-in for a cluster's API: it answers TokenReviews, and notes what came.
type standIn struct {
	*httptest.Server
	answer atomic.Pointer[func(w http.ResponseWriter, token string)]
	bearer atomic.Pointer[string]
	asked  atomic.Int32
}

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	s := &standIn{}
	s.set(s.good)
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		bearer := r.Header.Get("Authorization")
		s.bearer.Store(&bearer)
		var in struct {
			Spec struct{ Token string } `json:"spec"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		(*s.answer.Load())(w, in.Spec.Token)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *standIn) set(fn func(w http.ResponseWriter, token string)) { s.answer.Store(&fn) }

// good says that a token is what it says.
func (s *standIn) good(w http.ResponseWriter, token string) {
	raw, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	var c map[string]any
	_ = json.Unmarshal(raw, &c) // what is no token is not good
	fmt.Fprintf(w, `{"status":{"authenticated":true,"user":{"username":%q,"uid":%q}}}`,
		c["sub"], c["kubernetes.io/serviceaccount/service-account.uid"])
}

func (s *standIn) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

func token(namespace, name string) string {
	raw, _ := json.Marshal(map[string]any{
		"sub": "system:serviceaccount:" + namespace + ":" + name, "kubernetes.io/serviceaccount/namespace": namespace,
		"kubernetes.io/serviceaccount/service-account.name": name, "kubernetes.io/serviceaccount/service-account.uid": "uid-" + name,
	})
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"RS256"}`)) + "." + part(raw) + "." + part([]byte("signature"))
}

// S4-40 to S4-46: the homelab guide's method, by API and as the command line
// sends it: a CA with \n, names as a text, the older policies and ttl, and a
// login that the cluster reviews. The cluster is a stand-in.
func TestGuide(t *testing.T) {
	t.Parallel()
	k := newStandIn(t)
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/auth/kubernetes", s.Root, map[string]any{"type": "kubernetes", "description": "Kubernetes auth"})
	s.Must("POST", "auth/kubernetes/config", s.Root, map[string]any{
		"token_reviewer_jwt": "reviewer", "kubernetes_host": k.URL, "kubernetes_ca_cert": k.ca(), "disable_iss_validation": "true",
	})
	s.Must("POST", "auth/kubernetes/role/external-secrets", s.Root, map[string]any{
		"bound_service_account_names": "external-secrets", "bound_service_account_namespaces": "external-secrets",
		"policies": []string{"readonly"}, "ttl": "24h",
	})
	login := func(jwt string) (int, map[string]any) {
		return s.Do("POST", "auth/kubernetes/login", "", map[string]any{"role": "external-secrets", "jwt": jwt})
	}
	good := token("external-secrets", "external-secrets")
	code, out := login(good)
	if code != 200 || fmt.Sprint(arcatest.Dig(out, "auth", "policies")) != "[default readonly]" || fmt.Sprint(arcatest.Dig(out, "auth", "lease_duration")) != "86400" {
		t.Fatalf("login: %d %v", code, out)
	}
	if got := *k.bearer.Load(); got != "Bearer reviewer" {
		t.Errorf("reviewed by %s", got)
	}
	id := arcatest.Dig(out, "auth", "client_token").(string)
	s.Must("GET", "auth/token/lookup-self", id, nil) // S4-49: allowed by default
	for _, bad := range []string{"", "x", "a.b.c", good[:20], token("other", "external-secrets"), token("external-secrets", "other"), strings.Repeat("a", 1<<17)} {
		if code, out := login(bad); code < 400 {
			t.Errorf("logged in with %.40q: %v", bad, out)
		}
	}
	conf := s.Must("GET", "auth/kubernetes/config", s.Root, nil)
	if strings.Contains(fmt.Sprint(conf), "reviewer]") || arcatest.Dig(conf, "data", "token_reviewer_jwt_set") != true {
		t.Errorf("configuration: %v", conf)
	}
}

// Whatever a cluster answers but that the token is good and whose it is refuses.
func TestAnswers(t *testing.T) {
	t.Parallel()
	k := newStandIn(t)
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/auth/kubernetes", s.Root, map[string]any{"type": "kubernetes"})
	s.Must("POST", "auth/kubernetes/config", s.Root, map[string]any{"kubernetes_host": k.URL, "kubernetes_ca_cert": k.ca(), "disable_local_ca_jwt": true})
	s.Must("POST", "auth/kubernetes/role/r", s.Root, map[string]any{"bound_service_account_names": "*", "bound_service_account_namespaces": "*"})
	body := map[string]any{"role": "r", "jwt": token("ns", "a")}
	s.Must("POST", "auth/kubernetes/login", "", body)
	if got := *k.bearer.Load(); got != "Bearer "+token("ns", "a") {
		t.Errorf("without a reviewer, asked with %s", got)
	}
	for name, answer := range map[string]string{
		"nothing": "", "no JSON": "<html>", "no": `{"status":{"authenticated":false}}`,
		"another": `{"status":{"authenticated":true,"user":{"username":"system:serviceaccount:ns:b","uid":"uid-a"}}}`,
		"renamed": `{"status":{"authenticated":true,"user":{"username":"system:serviceaccount:ns:a","uid":"uid-b"}}}`,
		"a user":  `{"status":{"authenticated":true,"user":{"username":"ns:a","uid":"uid-a"}}}`,
		"error":   `{"status":{"authenticated":true,"error":"x","user":{"username":"system:serviceaccount:ns:a","uid":"uid-a"}}}`,
		"endless": strings.Repeat(" ", 2<<20),
	} {
		k.set(func(w http.ResponseWriter, _ string) { fmt.Fprint(w, answer) })
		if code, out := s.Do("POST", "auth/kubernetes/login", "", body); code != 403 {
			t.Errorf("%s: %d %v", name, code, out)
		}
	}
	k.set(func(w http.ResponseWriter, _ string) {
		w.WriteHeader(500)
		fmt.Fprint(w, `{"status":{"authenticated":true}}`)
	})
	if code, _ := s.Do("POST", "auth/kubernetes/login", "", body); code != 403 {
		t.Errorf("a failing cluster: %d", code)
	}
	k.Close()
	if code, out := s.Do("POST", "auth/kubernetes/login", "", body); code != 403 || strings.Contains(fmt.Sprint(out), "signature") {
		t.Errorf("no cluster: %d %v", code, out)
	}
}

// A cluster that hangs holds up its own logins only, and neither sealing nor
// others' requests.
func TestHangingCluster(t *testing.T) {
	t.Parallel()
	k := newStandIn(t)
	release := make(chan struct{})
	k.set(func(http.ResponseWriter, string) { <-release })
	defer close(release)
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/auth/kubernetes", s.Root, map[string]any{"type": "kubernetes"})
	s.Must("POST", "auth/kubernetes/config", s.Root, map[string]any{"kubernetes_host": k.URL, "kubernetes_ca_cert": k.ca(), "disable_local_ca_jwt": true})
	s.Must("POST", "auth/kubernetes/role/r", s.Root, map[string]any{"bound_service_account_names": "*", "bound_service_account_namespaces": "*"})
	body := map[string]any{"role": "r", "jwt": token("ns", "a")}
	const logins = 70
	codes := make(chan int, logins)
	for range logins {
		go func() {
			code, _ := s.Do("POST", "auth/kubernetes/login", "", body)
			codes <- code
		}()
	}
	for range 6 { // those beyond the bound are refused at once
		if code := <-codes; code != 503 {
			t.Errorf("beyond the bound: %d", code)
		}
	}
	s.Must("POST", "sys/mounts/kv", s.Root, map[string]any{"type": "kv"})
	s.Must("POST", "kv/x", s.Root, map[string]any{"a": "b"})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	sealed := make(chan error, 1)
	go func() { sealed <- s.Core.Shut() }()
	select {
	case err := <-sealed:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Error("sealing waits for a cluster")
	}
	for range logins - 6 {
		if code := <-codes; code < 400 {
			t.Errorf("logged in by a cluster that said nothing: %d", code)
		}
	}
}
