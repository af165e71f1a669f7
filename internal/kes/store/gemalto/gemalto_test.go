package gemalto

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"arca/internal/kes/store"
	"arca/internal/kes/store/storetest"
)

type obj = map[string]any

func serve(f *storetest.Fake, r *http.Request, in map[string]any) (int, any) {
	path, ok := strings.CutPrefix(r.URL.Path, resources)
	switch {
	case r.URL.Path == "/api/v1/auth/tokens" && in["refresh_token"] == "refresh" && in["domain"] == "d":
		return 200, obj{"jwt": "t", "duration": 300}
	case r.URL.Path == "/":
		return 200, nil
	case r.Header.Get("Authorization") != "Bearer t" || !ok:
		return 401, obj{"codeDesc": "NCERRUnauthorized"}
	}
	name, export := strings.CutSuffix(strings.TrimPrefix(path, "/"), "/export")
	value, there := f.Values[name]
	switch {
	case r.Method == http.MethodPost && path == "":
		if in["dataType"] != "seed" || !f.Create(storetest.Text(in, "name"), storetest.Text(in, "material")) {
			return 409, obj{"codeDesc": "NCERRConflict"}
		}
		return 201, nil
	case r.Method == http.MethodGet && path == "":
		skip, _ := strconv.Atoi(r.URL.Query().Get("skip"))
		names := f.Names()
		list := []obj{}
		for _, n := range names[min(skip, len(names)):min(skip+2, len(names))] {
			list = append(list, obj{"name": n})
		}
		return 200, obj{"resources": list, "total": len(names)}
	case !there || r.URL.Query().Get("type") != "name":
		return 404, obj{"codeDesc": "NCERRResourceNotFound"}
	case export:
		return 200, obj{"material": value}
	case r.Method == http.MethodDelete:
		delete(f.Values, name)
		return 204, nil
	}
	return 405, nil
}

func TestStore(t *testing.T) {
	t.Parallel()
	f := &storetest.Fake{Serve: serve}
	url := f.Start(t)
	s, err := Open(t.Context(), Config{Endpoint: url, Token: "refresh", Domain: "d"})
	if err != nil {
		t.Fatal(err)
	}
	storetest.TestStore(t, s, storetest.Config{NoDeleteNotFound: true})
	for _, bad := range []Config{{}, {Endpoint: url}, {Endpoint: url, Token: "other"}} {
		if _, err := Open(t.Context(), bad); err == nil {
			t.Errorf("opened with %+v", bad)
		}
	}
}

// TestHostile stands the service's outages and lies.
func TestHostile(t *testing.T) {
	t.Parallel()
	f := &storetest.Fake{Serve: serve}
	storetest.TestHostile(t, storetest.Hostile{
		URL: f.Start(t),
		Open: func(url string) (store.Store, error) {
			return Open(t.Context(), Config{Endpoint: url, Token: "refresh", Domain: "d"})
		},
		Honest: func(r *http.Request) bool { return r.URL.Path == "/api/v1/auth/tokens" },
	})
}
