package ui_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"arca/internal/arcatest"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/ui"
)

// A browser is a client with cookies that follows redirects.
type browser struct {
	t    *testing.T
	http *http.Client
	url  string
}

func newBrowser(t *testing.T, s *arcatest.Server) *browser {
	t.Helper()
	return browse(t, ui.Config{Core: s.Core})
}

// A standby leaves everything to the active node.
type standby struct{}

// Handle implements ui.Core.
func (standby) Handle(context.Context, *engine.Request) (*engine.Response, error) {
	return nil, errs.New(errs.NotActive, "this node is a standby")
}

// newStandbyBrowser is a browser at a node that forwards to s.
func newStandbyBrowser(t *testing.T, s *arcatest.Server) *browser {
	t.Helper()
	return browse(t, ui.Config{Core: standby{}, Forward: func(ctx context.Context, r *http.Request, body []byte) (*http.Response, error) {
		r = r.Clone(ctx)
		r.Body = io.NopCloser(bytes.NewReader(body))
		w := httptest.NewRecorder()
		s.Handler.ServeHTTP(w, r)
		return w.Result(), nil
	}})
}

// both runs a test at the active node and at a standby.
func both(t *testing.T, test func(t *testing.T, open func(*testing.T, *arcatest.Server) *browser)) {
	t.Run("active", func(t *testing.T) { t.Parallel(); test(t, newBrowser) })
	t.Run("standby", func(t *testing.T) { t.Parallel(); test(t, newStandbyBrowser) })
}

func browse(t *testing.T, cfg ui.Config) *browser {
	t.Helper()
	h, err := ui.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, &http.Client{Jar: jar}, server.URL}
}

func (b *browser) do(req *http.Request) (int, string) {
	b.t.Helper()
	res, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "script") {
		b.t.Errorf("%s: policy %q", req.URL.Path, csp)
	}
	return res.StatusCode, string(body)
}

func (b *browser) get(path string) (int, string) {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodGet, b.url+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(req)
}

func (b *browser) post(path string, fields ...string) (int, string) {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	req, err := http.NewRequest(http.MethodPost, b.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.do(req)
}

// want checks a page's status and that it has all texts.
func want(t *testing.T, code int, body string, wantCode int, texts ...string) {
	t.Helper()
	if code != wantCode {
		t.Errorf("status %d, want %d:\n%s", code, wantCode, body)
	}
	for _, text := range texts {
		if !strings.Contains(body, text) {
			t.Errorf("no %q in:\n%s", text, body)
		}
	}
}

// S3-13: the interface of a sealed server takes unseal keys and unseals. From
// nothing to a sealed server again, by forms only.
func TestLife(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{Sealed: true})
	b := newBrowser(t, s)
	code, body := b.get("/ui/")
	want(t, code, body, 200, "Initialise")
	code, body = b.post("/ui/init", "shares", "2", "threshold", "3")
	want(t, code, body, 400, "Initialise", `role="alert"`)
	code, body = b.post("/ui/init", "shares", "3", "threshold", "2")
	want(t, code, body, 200, "Unseal key 0", "Initial root token")
	keys := regexp.MustCompile(`<code>([^<]+)</code>`).FindAllStringSubmatch(body, -1)
	if len(keys) != 4 {
		t.Fatalf("%d keys in:\n%s", len(keys), body)
	}
	unescape := func(i int) string { return strings.ReplaceAll(keys[i][1], "&#43;", "+") }

	code, body = b.get("/ui/secrets")
	want(t, code, body, 200, "Unseal", "0 of 2 given")
	code, body = b.post("/ui/unseal", "key", "rubbish")
	want(t, code, body, 400, `role="alert"`, "0 of 2 given")
	code, body = b.post("/ui/unseal", "key", unescape(2))
	want(t, code, body, 200, "1 of 2 given", "Forget")
	code, body = b.post("/ui/unseal/reset")
	want(t, code, body, 200, "0 of 2 given")
	b.post("/ui/unseal", "key", unescape(0))
	code, body = b.post("/ui/unseal", "key", " "+unescape(1)+" ")
	want(t, code, body, 200, "Log in")

	code, body = b.post("/ui/login", "method", "token", "token", "hvs.wrong")
	want(t, code, body, 400, "permission denied", "Log in")
	code, body = b.post("/ui/login", "method", "token", "token", unescape(3))
	want(t, code, body, 200, "Secrets", "cubbyhole/", "Log out")
	code, body = b.post("/ui/seal")
	want(t, code, body, 200, "Unseal", "0 of 2 given")
}

func loggedIn(t *testing.T, open func(*testing.T, *arcatest.Server) *browser) (*arcatest.Server, *browser) {
	t.Helper()
	s := arcatest.New(t, arcatest.Config{})
	b := open(t, s)
	if code, body := b.post("/ui/login", "method", "token", "token", s.Root); code != 200 {
		t.Fatal(body)
	}
	return s, b
}

func TestSecrets(t *testing.T) { both(t, seeSecrets) }

func seeSecrets(t *testing.T, open func(*testing.T, *arcatest.Server) *browser) {
	for _, version := range []string{"1", "2"} {
		s, b := loggedIn(t, open)
		code, body := b.post("/ui/secrets/enable", "path", "kv", "version", version)
		want(t, code, body, 200, `href="/ui/kv/kv/"`)
		code, body = b.post("/ui/secrets/enable", "path", "kv", "version", version)
		want(t, code, body, 400, "path is already in use at kv/")
		code, body = b.post("/ui/kv/kv/", "do", "open", "name", "team/a b%<x>")
		want(t, code, body, 200, "There is no such secret yet", "kv/team/a b%&lt;x&gt;")
		const at = "/ui/kv/kv/team/a%20b%25%3Cx%3E"
		code, body = b.post(at, "do", "save", "version", "0", "json", `{"user": "ann", "n": 12345678901234567890, "h": "<script>"}`)
		want(t, code, body, 200, "ann", "12345678901234567890", "&lt;script&gt;")
		if strings.Contains(body, "<script>") {
			t.Error("a value became markup")
		}
		code, body = b.post(at, "do", "save", "json", "[1]")
		want(t, code, body, 400, "must be a JSON object", "[1]")
		code, body = b.get("/ui/kv/kv/")
		want(t, code, body, 200, ">team/<")
		code, body = b.get("/ui/kv/kv/team/")
		want(t, code, body, 200, at)
		if version == "2" { // what somebody else has written meanwhile is not lost
			s.Must("POST", "kv/data/team/a%20b%25%3Cx%3E", s.Root, map[string]any{"data": map[string]any{"user": "bob"}})
			code, body = b.post(at, "do", "save", "version", "1", "json", `{"user": "eve"}`)
			want(t, code, body, 400, "check-and-set", "eve")
		}
		code, body = b.post(at, "do", "delete")
		want(t, code, body, 200, "kv/team/")
	}
}

func TestPoliciesAndAccess(t *testing.T) { both(t, seePoliciesAndAccess) }

func seePoliciesAndAccess(t *testing.T, open func(*testing.T, *arcatest.Server) *browser) {
	_, b := loggedIn(t, open)
	code, body := b.post("/ui/policies", "name", "team")
	want(t, code, body, 200, "There is no such policy yet")
	code, body = b.post("/ui/policies/team", "do", "save", "policy", "path \"x\" {\r\n capabilities = [\"nothing\"]\r\n}")
	want(t, code, body, 400, `role="alert"`, "nothing")
	code, body = b.post("/ui/policies/team", "do", "save", "policy", `path "x" { capabilities = ["read"] }`)
	want(t, code, body, 200, ">team<", ">default<")
	code, body = b.get("/ui/policies/team")
	want(t, code, body, 200, "capabilities = [&#34;read&#34;]")
	code, body = b.post("/ui/policies/team", "do", "delete")
	if want(t, code, body, 200, ">default<"); strings.Contains(body, ">team<") {
		t.Error("a deleted policy is listed")
	}
	// S3-50: namespaces are made under Access, and chosen at login.
	code, body = b.post("/ui/access/namespaces", "name", "dev")
	want(t, code, body, 200, "<li>dev/</li>", "token/")
	code, body = b.post("/ui/access/namespaces", "name", "sys")
	want(t, code, body, 400, "reserved", "dev/")
	// S3-17: AppRole is enabled by the interface, too.
	code, body = b.post("/ui/access/enable", "type", "approle", "path", "")
	want(t, code, body, 200, "<td>approle/</td>")
	code, body = b.post("/ui/access/enable", "type", "nosuch")
	want(t, code, body, 400, "nosuch")
	code, body = b.post("/ui/logout")
	want(t, code, body, 200, "Log in")
}

func TestLoginInNamespace(t *testing.T) { both(t, seeLoginInNamespace) }

func seeLoginInNamespace(t *testing.T, open func(*testing.T, *arcatest.Server) *browser) {
	s := arcatest.New(t, arcatest.Config{})
	b := open(t, s)
	s.Must("POST", "sys/namespaces/dev", s.Root, nil)
	code, body := b.post("/ui/login", "method", "token", "token", s.Root, "namespace", "/dev")
	want(t, code, body, 200, "in dev/", "ns_cubbyhole")
	code, body = b.post("/ui/access/namespaces", "name", "inner")
	want(t, code, body, 200, "inner/")
	s.Must("GET", "sys/namespaces/inner", s.Root, nil, "X-Vault-Namespace", "dev")
}

// A login that needs a second factor asks for it, as often as it takes.
func TestSecondFactor(t *testing.T) { both(t, seeSecondFactor) }

func seeSecondFactor(t *testing.T, open func(*testing.T, *arcatest.Server) *browser) {
	s := arcatest.New(t, arcatest.Config{})
	b := open(t, s)
	s.Must("POST", "sys/auth/userpass", s.Root, map[string]any{"type": "userpass"})
	s.Must("POST", "auth/userpass/users/ann", s.Root, map[string]any{"password": "correct"})
	entity := arcatest.Dig(s.Must("POST", "auth/userpass/login/ann", "", map[string]any{"password": "correct"}), "auth", "entity_id")
	method, _ := arcatest.Dig(s.Must("POST", "identity/mfa/method/totp", s.Root, map[string]any{"issuer": "I"}), "data", "method_id").(string)
	out := s.Must("POST", "identity/mfa/method/totp/admin-generate", s.Root, map[string]any{"method_id": method, "entity_id": entity})
	key, err := otp.NewKeyFromURL(fmt.Sprint(arcatest.Dig(out, "data", "url")))
	if err != nil {
		t.Fatal(err)
	}
	s.Must("POST", "identity/mfa/login-enforcement/all", s.Root, map[string]any{"mfa_method_ids": method, "auth_method_types": "userpass"})
	code, body := b.post("/ui/login", "method", "userpass", "username", "ann", "password", "correct")
	want(t, code, body, 200, "Second factor", "<legend>all</legend>", method)
	hidden := regexp.MustCompile(`name="waiting" value="([^"]*)"`).FindStringSubmatch(body)
	if hidden == nil {
		t.Fatal(body)
	}
	waiting := html.UnescapeString(hidden[1])
	code, body = b.post("/ui/login/factor", "waiting", waiting, "method", method, "code", "000")
	want(t, code, body, 400, "Second factor", `role="alert"`, method)
	code, body = b.post("/ui/login/factor", "waiting", "{", "method", method, "code", "000")
	want(t, code, body, 400, "incomplete")
	passcode, err := totp.GenerateCode(key.Secret(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	code, body = b.post("/ui/login/factor", "waiting", waiting, "method", method, "code", passcode)
	want(t, code, body, 200, "Secrets", "Log out")
}

// What comes from another site, or carries no session, does nothing.
func TestRefused(t *testing.T) { both(t, seeRefused) }

func seeRefused(t *testing.T, open func(*testing.T, *arcatest.Server) *browser) {
	s, b := loggedIn(t, open)
	for _, header := range [][2]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://elsewhere.example"}} {
		req, err := http.NewRequest(http.MethodPost, b.url+"/ui/seal", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(header[0], header[1])
		if code, _ := b.do(req); code != http.StatusForbidden || s.Core.Sealed() {
			t.Errorf("%v: status %d, sealed: %t", header, code, s.Core.Sealed())
		}
	}
	code, body := b.get("/ui/kv/sys/seal")
	want(t, code, body, 400, `role="alert"`)
	code, body = b.post("/ui/login", "method", "userpass", "mount", "x/../../sys", "username", "a", "password", "b")
	want(t, code, body, 400, "dot segment")
	code, body = b.get("/ui/secrets")
	want(t, code, body, 200, "Secrets") // who is logged in stays so
	code, body = b.get("/ui/nowhere")
	want(t, code, body, 404, "no such page")
	code, body = b.post("/ui/login/oidc", "mount", "oidc", "next", "/ui/vault/identity/oidc/provider/p/authorize?state="+strings.Repeat("x", 4000))
	want(t, code, body, 400, "too long")
	stranger := open(t, s)
	for _, path := range []string{"/ui/secrets", "/ui/policies", "/ui/access", "/ui/kv/cubbyhole/x", "/ui/seal"} {
		code, body := stranger.get(path)
		want(t, code, body, 200, "Log in")
	}
	if code, body := stranger.post("/ui/seal"); code != 200 || s.Core.Sealed() {
		t.Errorf("sealed by nobody: %d %s", code, body)
	}
	code, body = stranger.post("/ui/login", "method", "userpass", "mount", "x/../../sys", "username", "a", "password", "b")
	want(t, code, body, 400, "dot segment")
	// Whatever a cookie holds, it is a session or none.
	for _, value := range []string{"", "%", "e30", base64.RawURLEncoding.EncodeToString([]byte(`{"t":"x","n":"../"}`))} {
		req, err := http.NewRequest(http.MethodGet, stranger.url+"/ui/secrets", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Cookie", "arca-ui="+value)
		if code, _ := stranger.do(req); code >= 500 {
			t.Errorf("cookie %q: %d", value, code)
		}
	}
}
