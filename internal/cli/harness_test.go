package cli

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A fake is a server that answers fixed bodies by "METHOD /path" and keeps what
// it was asked. It stands in for a real one where only the command's own part
// is under test; the conformance scenarios run against the real server.
type fake struct {
	*httptest.Server
	answers map[string]answer

	mu       sync.Mutex
	requests []string // "METHOD /path?query body"
	headers  []http.Header
}

type answer struct {
	status int
	body   string
}

func newFake(t *testing.T, answers map[string]answer) *fake {
	t.Helper()
	f := &fake{answers: answers}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // the client's own bytes
	f.mu.Lock()
	f.requests = append(f.requests, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
	f.headers = append(f.headers, r.Header.Clone())
	f.mu.Unlock()
	a, ok := f.answers[r.Method+" "+strings.TrimPrefix(r.URL.RequestURI(), "/v1/")]
	if !ok {
		a = answer{403, `{"errors":["permission denied"]}`}
	}
	if a.status == 0 {
		a.status = 200
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body) // the client may have gone
}

// last returns the last request seen.
func (f *fake) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.requests) == 0 {
		return ""
	}
	return f.requests[len(f.requests)-1]
}

// result is what a run left behind.
type result struct {
	code        int
	out, stderr string
}

// vault runs a command line with a home of its own.
func vault(t *testing.T, env []string, stdin string, args ...string) result {
	t.Helper()
	home := t.TempDir()
	return vaultAt(t, home, env, stdin, args...)
}

func vaultAt(t *testing.T, home string, env []string, stdin string, args ...string) result {
	t.Helper()
	var out, stderr bytes.Buffer
	code := Run(context.Background(), Config{
		Name: "vault", Args: args, Env: append([]string{"HOME=" + home}, env...),
		Stdio: Stdio{In: strings.NewReader(stdin), Out: &out, Err: &stderr},
	})
	return result{code, out.String(), stderr.String()}
}

func (f *fake) env(more ...string) []string {
	return append([]string{"VAULT_ADDR=" + f.URL, "VAULT_TOKEN=root"}, more...)
}

// shown replaces the fake's address, for comparison with texts.
func (f *fake) shown(s string) string { return strings.ReplaceAll(s, f.URL, "{{addr}}") }

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
