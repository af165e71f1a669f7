package storetest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
)

// A Fake stands in for a service that keeps values and speaks JSON.
type Fake struct {
	mu     sync.Mutex
	Values map[string]string // guarded by mu, which is held while Serve runs
	// Serve answers one request; in is its body.
	Serve func(f *Fake, r *http.Request, in map[string]any) (code int, out any)
}

// Start starts the service, for as long as the test.
func (f *Fake) Start(t *testing.T) (url string) {
	t.Helper()
	f.Values = map[string]string{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		var in map[string]any
		_ = json.Unmarshal(body, &in) // forms are none
		code, out := f.Serve(f, r, in)
		w.WriteHeader(code)
		if out != nil {
			_ = json.NewEncoder(w).Encode(out)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// Names returns the names of the values in their order.
func (f *Fake) Names() []string {
	out := make([]string, 0, len(f.Values))
	for n := range f.Values {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// Create keeps a value unless there is one.
func (f *Fake) Create(name, value string) bool {
	if _, ok := f.Values[name]; ok {
		return false
	}
	f.Values[name] = value
	return true
}

// Text returns a member of a body that is a text.
func Text(in map[string]any, name string) string {
	s, _ := in[name].(string)
	return s
}
