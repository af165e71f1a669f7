package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// S3-50: a login through the browser; the browser is a request to the address that
// the server was told.
func TestLoginOIDC(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	defer wg.Wait()
	var mu sync.Mutex
	var nonce, page string // guarded by mu
	back := func(redirect, code string) {
		defer wg.Done()
		res, err := http.Get(redirect + "?" + url.Values{"state": {"st"}, "code": {code}}.Encode()) //nolint:noctx // our own listener
		if err != nil {
			t.Error(err)
			return
		}
		res.Body.Close()
		mu.Lock()
		defer mu.Unlock()
		page = res.Status
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/auth_url"):
			var in struct {
				Redirect string `json:"redirect_uri"`
				Nonce    string `json:"client_nonce"`
				Role     string `json:"role"`
			}
			if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Nonce == "" {
				t.Errorf("auth_url: %+v, %v", in, err)
			}
			mu.Lock()
			nonce = in.Nonce
			mu.Unlock()
			if in.Role == "none" {
				_, _ = w.Write([]byte(`{"data":{"auth_url":""}}`)) // the client sees what is missing
				return
			}
			wg.Add(1)
			go back(in.Redirect, in.Role)
			_, _ = w.Write([]byte(`{"data":{"auth_url":"https://login.example.com/authorize"}}`)) // as above
		case strings.HasSuffix(r.URL.Path, "/oidc/callback"):
			q := r.URL.Query()
			mu.Lock()
			defer mu.Unlock()
			if q.Get("client_nonce") != nonce || q.Get("state") != "st" {
				t.Errorf("callback: %v", q)
			}
			if q.Get("code") == "bad" {
				w.WriteHeader(http.StatusBadRequest)
				_, _ = w.Write([]byte(`{"errors":["Vault login failed."]}`)) // as above
				return
			}
			_, _ = w.Write([]byte(`{"auth":{"client_token":"hvs.made","accessor":"a","policies":["default"],"token_policies":["default"]}}`)) // as above
		}
	}))
	defer server.Close()
	login := func(role string) result {
		return vault(t, []string{"VAULT_ADDR=" + server.URL}, "", "login", "-method=oidc", "-no-store", "-field=token",
			"skip_browser=true", "port=0", "listenaddress=127.0.0.1", "callbackhost=127.0.0.1", "role="+role)
	}
	if r := login("good"); r.code != 0 || strings.TrimSpace(r.out) != "hvs.made" || !strings.Contains(r.stderr, "https://login.example.com/authorize") {
		t.Errorf("%+v", r)
	}
	wg.Wait()
	if !strings.HasPrefix(page, "200") {
		t.Errorf("the browser saw %s", page)
	}
	if r := login("bad"); r.code != 2 || !strings.Contains(r.stderr, "Vault login failed.") {
		t.Errorf("%+v", r)
	}
	if r := login("none"); r.code != 2 || !strings.Contains(r.stderr, "unable to authorize role") {
		t.Errorf("%+v", r)
	}
}
