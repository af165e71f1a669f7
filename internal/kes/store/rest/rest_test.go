package rest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/kes/store"
)

// answers is a transport that says the same every time.
type answers struct {
	code  int
	body  string
	err   error
	asked atomic.Int64
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	a.asked.Add(1)
	if a.err != nil {
		return nil, a.err
	}
	w := httptest.NewRecorder()
	w.WriteHeader(a.code)
	_, _ = w.WriteString(a.body)
	res := w.Result()
	res.Request = r
	return res, nil
}

// TestRetries asks again where that may help, and nowhere else.
func TestRetries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers     *answers
		want        int64
		unreachable bool
	}{
		"success":        {&answers{code: 200, body: "{}"}, 1, false},
		"not found":      {&answers{code: 404}, 1, false},
		"failure":        {&answers{code: 503}, 3, false},
		"nobody there":   {&answers{err: errors.New("refused")}, 3, true},
		"no JSON":        {&answers{code: 200, body: "<html>"}, 1, false},
		"too large":      {&answers{code: 200, body: strings.Repeat(" ", maxAnswer+1)}, 1, false},
		"forbidden once": {&answers{code: 403}, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := Client{Base: "https://x", HTTP: &http.Client{Transport: c.answers}, Retries: 2, Again: func(context.Context, int) bool { return true }}
				start := time.Now()
				var out struct{}
				err := client.Do(t.Context(), Request{Method: http.MethodGet, Path: "/", Out: &out})
				if (err == nil) != (name == "success") || store.IsUnreachable(err) != c.unreachable {
					t.Errorf("got %v", err)
				}
				if n := c.answers.asked.Load(); n != c.want {
					t.Errorf("asked %d times", n)
				}
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// FuzzRedact takes out what could be a secret, whatever is around it.
func FuzzRedact(f *testing.F) {
	f.Add("bad value ", " here")
	f.Add("\x00\xff", "=")
	f.Fuzz(func(t *testing.T, before, behind string) {
		const secret = "c2VjcmV0LXRoYXQtYS1zZXJ2aWNlLXJlcGVhdHM="
		if got := Redact(before + secret + behind); strings.Contains(got, secret) || len(got) > 300 || strings.ContainsAny(got, "\n\r\x00") {
			t.Errorf("%q", got)
		}
	})
}

// TestRedirects takes what proves who we are, and bodies, to no other host, unless that
// is a Vault's.
func TestRedirects(t *testing.T) {
	t.Parallel()
	var got atomic.Value
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Get("X-Vault-Auth")) }))
	defer other.Close()
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL+"/", http.StatusTemporaryRedirect)
		case "/near":
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		}
	}))
	defer first.Close()
	web, err := NewHTTP(TLS{})
	if err != nil {
		t.Fatal(err)
	}
	c := Client{Base: first.URL, HTTP: web, Prepare: func(r *http.Request, _ []byte) error {
		r.Header.Set("X-Vault-Auth", "token")
		return nil
	}}
	defer c.Close()
	ask := func(path string) error {
		return c.Do(t.Context(), Request{Method: http.MethodPost, Path: path, In: map[string]string{"secret": "s"}})
	}
	if err := ask("/near"); err != nil {
		t.Errorf("on the same host: %v", err)
	}
	var status *StatusError
	if err := ask("/away"); !errors.As(err, &status) || status.Code != http.StatusTemporaryRedirect || got.Load() != nil {
		t.Errorf("got %v, and the other %v", err, got.Load())
	}
	FollowStandbys(web)
	if err := ask("/away"); err != nil || got.Load() != "token" {
		t.Errorf("a standby: %v, and the other %v", err, got.Load())
	}
	r := httptest.NewRequest(http.MethodGet, "http://a/", nil)
	via := httptest.NewRequest(http.MethodGet, "https://a/", nil)
	if err := sameSafety(r, []*http.Request{via}); !errors.Is(err, http.ErrUseLastResponse) {
		t.Errorf("in clear: %v", err)
	}
}

// TestSameServer compares where URLs lead, not how they are written.
func TestSameServer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"https://keys.example/v1", "https://keys.example:443/v2", true},
		{"https://Keys.Example", "https://keys.example", true},
		{"http://keys.example", "https://keys.example", true},
		{"http://keys.example:80", "https://keys.example:443", true},
		{"https://[::1]:7373", "https://[::1]:7373/a", true},
		{"https://keys.example", "https://keys.example:7373", false},
		{"https://keys.example", "https://keys.example.org", false},
		{"https://keys.example", "https://example", false},
		{"http://keys.example:7373", "https://keys.example:7374", false},
		{"http://keys.example:7373", "https://keys.example", false},
	} {
		a, err := url.Parse(c.a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := url.Parse(c.b)
		if err != nil {
			t.Fatal(err)
		}
		if got := sameServer(a, b); got != c.same {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}

// TestBase takes addresses, with paths and without, and no others; it repeats no password.
func TestBase(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"https://keys.example": "https://keys.example", "http://127.0.0.1:8200/": "http://127.0.0.1:8200", "keys.example:443": "https://keys.example:443",
		"https://[::1]:7373/a/b/": "https://[::1]:7373/a/b", "https://keys.example/a%3Fb%23c%40": "https://keys.example/a%3Fb%23c%40", "https://x/a@b": "https://x/a@b",
		"": "", "ftp://x": "", "https://": "", "https://x?": "", "https://x?a=pa55word": "", "https://x/p?": "", "https://x#": "", "https://x/p#pa55word": "", "x/p#": "", "https://x/p/?#": "",
		"https://user:pa55word@x": "", "user:pa55word@x": "", "https://user:pa55word%zz@x": "", "https://user:pa55://word@x": "", "ftp://user:pa55word@x": "",
	} {
		got, err := Base(endpoint, "endpoint")
		if got != want || (err == nil) != (want != "") || err != nil && strings.Contains(err.Error(), "pa55") {
			t.Errorf("%q: got %q, %v", endpoint, got, err)
		}
	}
}
