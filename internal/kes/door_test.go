package kes

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"arca/internal/kes/cache"
	"arca/internal/kes/identity"
	"arca/internal/kes/policy"
	"arca/internal/kes/store"
	"arca/internal/kes/store/memory"
	"arca/internal/logging"
)

// testKeys are keys in memory, whose store may fail.
type testKeys struct {
	Cached
	fails error
	panic bool
}

func (k *testKeys) Encrypt(ctx context.Context, by Caller, name string, plaintext, context []byte) ([]byte, error) {
	if k.panic {
		panic("broken")
	}
	if k.fails != nil {
		return nil, k.fails
	}
	return k.Cached.Encrypt(ctx, by, name, plaintext, context)
}

func (k *testKeys) Status(ctx context.Context, by Caller) (time.Duration, error) {
	if k.fails != nil {
		return 0, k.fails
	}
	return k.Cached.Status(ctx, by)
}

// rig is a door with who asks it.
type rig struct {
	door  *Door
	state *State
	keys  *testKeys
	log   *bytes.Buffer
	certs map[string]*x509.Certificate // admin, user, proxy, stranger
}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	r := &rig{keys: &testKeys{Cached: Cached{cache.New(&memory.Store{}, cache.Expiry{})}}, log: &bytes.Buffer{}, certs: map[string]*x509.Certificate{}}
	for _, who := range []string{"admin", "user", "proxy", "stranger"} {
		c, err := identity.NewAPIKey().Certificate(time.Now())
		if err != nil {
			tb.Fatal(err)
		}
		r.certs[who] = c.Leaf
	}
	p, err := policy.New([]string{"/v1/key/*", "/v1/log/audit"}, []string{"/v1/key/*/secret"}, time.Now(), "me")
	if err != nil {
		tb.Fatal(err)
	}
	r.state = &State{
		Keys: r.keys,
		Access: Fixed{Set: &policy.Set{
			Policies: map[string]*policy.Policy{"p": p}, Identities: map[string]string{identity.Of(r.certs["user"]): "p"},
			Admin: identity.Of(r.certs["admin"]), Since: time.Now(),
		}},
		Proxies: map[string]bool{identity.Of(r.certs["proxy"]): true}, ProxyHeader: "X-Tls-Client-Cert",
	}
	r.door = New(Config{Version: "test", Log: slog.New(slog.NewTextHandler(r.log, nil))}, r.state)
	return r
}

// do sends a request as somebody ("" is nobody).
func (r *rig) do(who, method, path, body string, headers ...string) (int, map[string]any) {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.TLS = &tls.ConnectionState{}
	if c := r.certs[who]; c != nil {
		req.TLS.PeerCertificates = []*x509.Certificate{c}
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	r.door.ServeHTTP(w, req)
	var out map[string]any
	_ = json.Unmarshal(w.Body.Bytes(), &out) // not every answer is JSON
	return w.Code, out
}

// TestOrder checks which station refuses a request that is wrong in several ways,
// and with which text. S0-51, S1-1.
func TestOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if code, out := r.do("user", "PUT", "/v1/key/create/k", ""); code != 200 {
		t.Fatal(code, out)
	}
	for _, c := range []struct {
		who, method, path, body string
		code                    int
		says                    string
	}{
		{"", "GET", "/v1/nothing", "", 404, "not found"},
		{"stranger", "GET", "/v1/key/create/k", "", 405, "method not allowed: this call is a PUT"},
		{"", "PUT", "/v1/key/create/k", "", 400, "no client certificate, but this call needs one"},
		{"stranger", "PUT", "/v1/key/create/..", "", 307, ""},
		{"stranger", "PUT", "/v1/key/create/a%2Fb", "", 403, "not authorized: insufficient permissions"},
		{"user", "PUT", "/v1/key/create/a%2Fb", "", 400, "invalid name: it may have letters, digits, '-' and '_' only"},
		{"user", "PUT", "/v1/key/encrypt/none", "{", 400, "the body is not the JSON that this call takes"},
		{"user", "PUT", "/v1/key/encrypt/none", "{}", 404, "key does not exist"},
		{"user", "PUT", "/v1/key/create/k", "", 400, "key already exists"},
		{"user", "PUT", "/v1/key/decrypt/k", `{"ciphertext":"AAAA"}`, 400, "decryption failed: ciphertext is not authentic"},
		{"user", "PUT", "/v1/key/decrypt/secret", `{}`, 403, "not authorized: insufficient permissions"},
		{"user", "PUT", "/v1/key/bulk/decrypt/secret", `[]`, 403, "not authorized: insufficient permissions"},
		{"user", "GET", "/v1/status", "", 403, "not authorized: insufficient permissions"},
		{"admin", "GET", "/v1/policy/read/none", "", 404, "policy does not exist"},
		{"admin", "GET", "/v1/identity/describe/none", "", 404, "identity does not exist"},
		{"stranger", "GET", "/v1/identity/self/describe", "", 404, "identity does not exist"},
		{"user", "GET", "/v1/key/list", "", 307, ""},
		{"user", "HEAD", "/v1/key/list/", "", 405, ""},
	} {
		code, out := r.do(c.who, c.method, c.path, c.body)
		if says, _ := out["message"].(string); code != c.code || c.says != "" && says != c.says {
			t.Errorf("%s %s as %s: %d %q; want %d %q", c.method, c.path, c.who, code, says, c.code, c.says)
		}
	}
}

// TestStoreFailures tells the client no more than that; the log tells why.
func TestStoreFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err   error
		code  int
		ready int
	}{
		{errors.New("cause of it"), 502, 502},
		{&store.UnreachableError{Err: errors.New("cause of it")}, 502, 504},
		{&cache.BadEntryError{Name: "k", Err: errors.New("cause of it")}, 502, 502},
		{context.DeadlineExceeded, 504, 504},
	} {
		r := newRig(t)
		r.keys.fails = c.err
		code, out := r.do("user", "PUT", "/v1/key/generate/k", "{}")
		if says, _ := out["message"].(string); code != c.code || says == "" || strings.Contains(says, "cause") {
			t.Errorf("%v: %d %q", c.err, code, says)
		}
		if code, _ := r.do("admin", "GET", "/v1/ready", ""); code != c.ready {
			t.Errorf("%v: ready answers %d", c.err, code)
		}
		if !strings.Contains(r.log.String(), c.err.Error()) || !strings.Contains(r.log.String(), "req.path=/v1/key/generate/k") {
			t.Errorf("the log has %s", r.log)
		}
		code, out = r.do("admin", "GET", "/v1/status", "")
		if code != 200 || out["keystore_unreachable"] != true || out["keystore_unavailable"] != true || out["keystore_latency"] != nil {
			t.Errorf("%v: status %d %v", c.err, code, out)
		}
	}
	r := newRig(t)
	r.keys.panic = true
	if code, out := r.do("user", "PUT", "/v1/key/generate/k", "{}"); code != 500 || out["message"] == "" {
		t.Errorf("a panic becomes %d %v", code, out)
	}
}

// TestProxy takes the client from the header of a proxy, in all forms, and from
// nobody else's.
func TestProxy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const header = "X-Tls-Client-Cert"
	forms := func(who string) []string {
		der := r.certs[who].Raw
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		b := base64.StdEncoding.EncodeToString(der)
		return []string{url.QueryEscape(text), url.PathEscape(text), b, ":" + b + ":"}
	}
	for i, form := range forms("user") {
		name := "k" + string(rune('0'+i))
		if code, out := r.do("proxy", "PUT", "/v1/key/create/"+name, "", header, form); code != 200 {
			t.Errorf("form %d: %d %v", i, code, out)
		}
		if _, out := r.do("admin", "GET", "/v1/key/describe/"+name, ""); out["created_by"] != identity.Of(r.certs["user"]) {
			t.Errorf("form %d: made by %v", i, out["created_by"])
		}
		if code, _ := r.do("stranger", "PUT", "/v1/key/create/x", "", header, form); code != 403 {
			t.Errorf("a stranger forwards: %d", code)
		}
	}
	for _, form := range forms("stranger") {
		if code, _ := r.do("proxy", "PUT", "/v1/key/create/x", "", header, form); code != 403 {
			t.Errorf("forwarded stranger: %d", code)
		}
	}
	for _, bad := range []string{"", "rubbish", "%zz", "BEGIN", url.QueryEscape("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), strings.Repeat("A", maxForwarded+4)} {
		if code, _ := r.do("proxy", "PUT", "/v1/key/create/x", "", header, bad); code != 400 {
			t.Errorf("%.20q: %d", bad, code)
		}
	}
	good := forms("user")[0]
	if code, _ := r.do("proxy", "PUT", "/v1/key/create/x", "", header, good, header, good); code != 400 {
		t.Errorf("twice: %d", code)
	}
	if code, _ := r.do("proxy", "GET", "/version", ""); code != 200 {
		t.Errorf("the proxy's own: %d", code)
	}
	r.state.Verify = func([]*x509.Certificate) error { return errors.New("untrusted") }
	if code, _ := r.do("proxy", "PUT", "/v1/key/create/x", "", header, good); code != 403 {
		t.Errorf("not verified: %d", code)
	}
}

// TestSwap exchanges the state under load: nobody uses a state that is retired.
func TestSwap(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if code, _ := r.do("user", "PUT", "/v1/key/create/k", ""); code != 200 {
		t.Fatal(code)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if code, out := r.do("user", "PUT", "/v1/key/generate/k", "{}"); code != 200 {
					t.Errorf("%d %v", code, out)
					return
				}
			}
		})
	}
	for range 100 {
		next := &State{Keys: &testKeys{Cached: r.keys.Cached}, Access: r.state.Access}
		old := r.door.Swap(next)
		old.Retire()
		old.Keys = nil // who uses it now, panics
	}
	close(stop)
	wg.Wait()
}

// TestCounted counts what was answered to those who may ask.
func TestCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, c := range []struct{ who, method, path string }{
		{"user", "PUT", "/v1/key/create/k"},
		{"user", "PUT", "/v1/key/create/k"},
		{"user", "GET", "/v1/key/create/k"},
		{"", "PUT", "/v1/key/create/k"},
		{"stranger", "PUT", "/v1/key/create/k"},
		{"admin", "GET", "/v1/status"},
		{"user", "GET", "/v1/nothing"},
	} {
		r.do(c.who, c.method, c.path, "")
	}
	w := &exposition{}
	r.door.writeMetrics(w)
	text := w.b.String()
	for _, line := range []string{
		"kes_http_request_success{code=\"200\"} 1\n", "kes_http_request_error{code=\"400\"} 1\n", "kes_http_request_active 0\n",
		"kes_http_response_time_count 2\n", "kes_http_response_time_bucket{le=\"+Inf\"} 2\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("%q is not in\n%s", line, text)
		}
	}
	if strings.Contains(text, "kes_http_request_failure") {
		t.Error("a family without samples is shown")
	}
}

// TestStreams ends with the stream, bounds listeners, and loses what a listener
// is too slow for.
func TestStreams(t *testing.T) {
	t.Parallel()
	s := &Stream{}
	l, leave, err := s.listen()
	if err != nil {
		t.Fatal(err)
	}
	line := []byte("x\n")
	room := maxBehind / (len(line) + eventCost)
	for range room + 10 {
		s.Send(line)
	}
	if len(l.waiting) != room || s.Events() != uint64(room+10) {
		t.Errorf("%d waiting of %d", len(l.waiting), s.Events())
	}
	leave()
	for range maxListeners {
		if _, _, err := s.listen(); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.listen(); err == nil {
		t.Error("any number may listen")
	}
	s.Close()
	if s.Followed() {
		t.Error("closed, and followed")
	}
}

// TestAudit has every request, refused ones too, without secrets.
func TestAudit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	out := &bytes.Buffer{}
	sink := logging.NewSink(out, nil)
	r.door.cfg.Audit.SetOutput(sink)
	secret := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("s"), 32))
	r.do("user", "PUT", "/v1/key/import/k", `{"key":"`+secret+`","cipher":"AES256"}`)
	r.do("stranger", "PUT", "/v1/key/create/k", "")
	r.do("user", "PUT", "/v1/key/encrypt/k", `{"plaintext":"`+secret+`"}`)
	sink.Flush(time.Minute)
	var codes []int
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		codes = append(codes, e.Response.Code)
	}
	if len(codes) != 3 || codes[0] != 200 || codes[1] != 403 || codes[2] != 200 {
		t.Errorf("codes %v", codes)
	}
	if strings.Contains(out.String(), secret) || strings.Contains(r.log.String(), secret) {
		t.Error("a log has the secret")
	}
}

// FuzzBody throws bodies at all calls that take one: an answer each, never 5xx,
// and never a plaintext that was not asked for.
func FuzzBody(f *testing.F) {
	r := newRig(f)
	if code, out := r.do("user", "PUT", "/v1/key/create/k", ""); code != 200 {
		f.Fatal(code, out)
	}
	for _, b := range []string{
		"", "null", "{}", "[]", `{"plaintext":"eA==","context":null}`, `{"PlainText":[1,2,3]} trailing`, `{"ciphertext":"AAAA"}`,
		`[{"ciphertext":"AAAA","context":"AA=="}]`, `{"key":"AAAA","cipher":"AES256"}`, `{"bytes":"AAAA"}`, `{"message":5}`, `{"a":{"a":{"a":1}}}`,
	} {
		f.Add([]byte(b))
	}
	calls := []string{"import/new", "encrypt/k", "generate/k", "decrypt/k", "hmac/k", "bulk/decrypt/k"}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, c := range calls {
			code, out := r.do("user", "PUT", "/v1/key/"+c, string(body))
			if code >= 500 || code >= 400 && out["message"] == "" {
				t.Errorf("%s %q: %d %v", c, body, code, out)
			}
		}
		_ = r.keys.Cache.Delete(t.Context(), "new") // or there was none
	})
}

// FuzzPath throws paths at the door.
func FuzzPath(f *testing.F) {
	r := newRig(f)
	for _, p := range []string{"/v1/key/list/*", "/v1/key/create/a", "//", "/v1/key/describe/../x", "/v1/key/list/a~b", "/v1/policy/read/p"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || !strings.HasPrefix(path, "/") {
			return
		}
		req := &http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{r.certs["admin"]}}}
		if strings.HasPrefix(u.Path, "/v1/log/") {
			return // endless
		}
		w := httptest.NewRecorder()
		r.door.ServeHTTP(w, req.WithContext(t.Context()))
		if w.Code >= 500 {
			t.Errorf("%q: %d %s", path, w.Code, w.Body)
		}
		if w.Code == http.StatusTemporaryRedirect && strings.HasPrefix(w.Header().Get("Location"), "//") {
			t.Errorf("%q leads to another host: %s", path, w.Header().Get("Location"))
		}
	})
}

func FuzzForwarded(f *testing.F) {
	r := newRig(f)
	f.Add(base64.StdEncoding.EncodeToString(r.certs["user"].Raw))
	f.Add("-----BEGIN%20CERTIFICATE-----")
	f.Fuzz(func(t *testing.T, value string) {
		if c, err := parseForwarded(value); (c == nil) == (err == nil) {
			t.Errorf("%q: %v, %v", value, c, err)
		}
	})
}

func BenchmarkGenerate(b *testing.B) {
	r := newRig(b)
	r.do("user", "PUT", "/v1/key/create/k", "")
	for b.Loop() {
		if code, _ := r.do("user", "PUT", "/v1/key/generate/k", "{}"); code != 200 {
			b.Fatal(code)
		}
	}
}
