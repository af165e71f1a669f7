package test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
)

// A browser keeps cookies, follows redirects and the header Refresh.
type browser struct {
	t    *testing.T
	http *http.Client
}

func (b *browser) read(res *http.Response, err error) (*url.URL, string) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		b.t.Fatal(err)
	}
	if _, to, ok := strings.Cut(res.Header.Get("Refresh"), "url="); ok {
		u, err := res.Request.URL.Parse(to)
		if err != nil {
			b.t.Fatal(err)
		}
		return b.read(b.http.Get(u.String()))
	}
	return res.Request.URL, string(body)
}

func (b *browser) post(to string, fields map[string]string) (*url.URL, string) {
	b.t.Helper()
	form := url.Values{}
	for k, v := range fields {
		form.Set(k, v)
	}
	req, err := http.NewRequest(http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.read(b.http.Do(req))
}

// S3-50: a login through the browser at a provider of OpenID Connect, which is this
// same server: the page of the provider asks for a login, too, and sends back.
func TestBrowserLogin(t *testing.T) {
	t.Parallel()
	n := newNode(t, t.TempDir(), "ui = true\n"+fileStorage)
	base := strings.TrimSuffix(n.url, "/v1/")
	n.must("POST", "sys/auth/userpass", map[string]any{"type": "userpass"})
	n.must("POST", "auth/userpass/users/ann", map[string]any{"password": "correct", "token_policies": "sso"})
	n.must("POST", "sys/policies/acl/sso", map[string]any{"policy": `path "identity/oidc/provider/p/authorize" { capabilities = ["read", "update"] }`})
	back := base + "/ui/vault/auth/oidc/oidc/callback"
	n.must("POST", "identity/oidc/client/arca", map[string]any{"redirect_uris": back, "assignments": "allow_all"})
	client := n.must("GET", "identity/oidc/client/arca", nil)["data"].(map[string]any)
	n.must("POST", "identity/oidc/provider/p", map[string]any{"allowed_client_ids": client["client_id"], "issuer": base})
	n.must("POST", "sys/auth/oidc", map[string]any{"type": "oidc"})
	n.must("POST", "auth/oidc/config", map[string]any{
		"oidc_discovery_url": base + "/v1/identity/oidc/provider/p", "oidc_client_id": client["client_id"], "oidc_client_secret": client["client_secret"],
		"default_role": "any", "jwt_supported_algs": "RS256",
	})
	n.must("POST", "auth/oidc/role/any", map[string]any{"user_claim": "sub", "allowed_redirect_uris": back, "token_policies": "default"})

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t, &http.Client{Jar: jar, Timeout: patience}}
	at, page := b.post(base+"/ui/login/oidc", map[string]string{"role": "none"})
	if !strings.Contains(page, "role") || at.Path != "/ui/login/oidc" {
		t.Errorf("a role that does not exist: %s: %s", at, page)
	}
	at, page = b.post(base+"/ui/login/oidc", nil)
	if at.Path != "/ui/vault/identity/oidc/provider/p/authorize" || !strings.Contains(page, `name="password"`) {
		t.Fatalf("the provider shows no login: %s: %s", at, page)
	}
	at, page = b.post(base+"/ui/login", map[string]string{"method": "userpass", "username": "ann", "password": "wrong", "next": at.RequestURI()})
	if at.Path != "/ui/login" || !strings.Contains(page, "/ui/vault/identity/oidc/provider/p/authorize") {
		t.Fatalf("after a wrong password it is not known where to go on: %s: %s", at, page)
	}
	_, page = b.post(base+"/ui/login/oidc", nil)
	next := strings.ReplaceAll(strings.SplitN(strings.SplitN(page, `name="next" value="`, 2)[1], `"`, 2)[0], "&amp;", "&")
	at, page = b.post(base+"/ui/login", map[string]string{"method": "userpass", "username": "ann", "password": "correct", "next": next})
	if at.Path != "/ui/secrets" || !strings.Contains(page, "Log out") {
		t.Fatalf("the login does not end among the secrets: %s: %s", at, page)
	}

	// The callback is good once, and only for who began.
	_, page = b.post(base+"/ui/login/oidc", nil) // logged in: it goes through without a question
	if !strings.Contains(page, "Log out") {
		t.Errorf("a second login: %s", page)
	}
	other := &browser{t, &http.Client{Timeout: patience}}
	if _, page = other.read(other.http.Get(back + "?state=x&code=y")); !strings.Contains(page, "not begun here") {
		t.Errorf("a callback of somebody else: %s", page)
	}
}
