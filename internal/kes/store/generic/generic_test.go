package generic

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"arca/internal/kes/store"
	"arca/internal/kes/store/storetest"
)

type obj = map[string]any

func serve(f *storetest.Fake, r *http.Request, in map[string]any) (int, any) {
	name := strings.TrimPrefix(r.URL.Path, "/v1/key/")
	value, there := f.Values[name]
	switch {
	case r.URL.Path == "/":
		return 404, nil
	case r.Method == http.MethodPost:
		if !f.Create(name, storetest.Text(in, "bytes")) {
			return 400, obj{"message": "key already exists"}
		}
		return 201, nil
	case !there:
		return 404, obj{"message": "key does not exist"}
	case r.Method == http.MethodGet:
		return 200, obj{"bytes": value}
	}
	delete(f.Values, name)
	return 200, nil
}

func TestStore(t *testing.T) {
	t.Parallel()
	f := &storetest.Fake{Serve: serve}
	inner := f.Start(t)
	// A listing is lines, which the stand-in cannot answer.
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/key" {
			for _, n := range f.Names() {
				_ = json.NewEncoder(w).Encode(obj{"name": n})
			}
			_, _ = w.Write([]byte(`{"last":true}`))
			return
		}
		req, err := http.NewRequestWithContext(r.Context(), r.Method, inner+r.URL.Path, r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		w.WriteHeader(res.StatusCode)
		var any json.RawMessage
		if json.NewDecoder(res.Body).Decode(&any) == nil {
			_, _ = w.Write(any)
		}
	}))
	t.Cleanup(srv.Close)
	s, err := Open(t.Context(), Config{Endpoint: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	storetest.TestStore(t, s, storetest.Config{})
	if _, err := Open(t.Context(), Config{}); err == nil {
		t.Error("opened without an address")
	}
}

// TestHostile stands the service's outages and lies.
func TestHostile(t *testing.T) {
	t.Parallel()
	f := &storetest.Fake{Serve: serve}
	storetest.TestHostile(t, storetest.Hostile{
		URL:  f.Start(t),
		Open: func(url string) (store.Store, error) { return Open(t.Context(), Config{Endpoint: url}) },
	})
}
