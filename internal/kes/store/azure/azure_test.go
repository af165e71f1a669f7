package azure

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/kes/store"
	"arca/internal/kes/store/storetest"
)

type obj = map[string]any

// serve is a vault that keeps what was deleted until it is purged, and takes a
// moment for it.
func serve() func(f *storetest.Fake, r *http.Request, in map[string]any) (int, any) {
	deleted, busy := map[string]bool{}, map[string]bool{}
	conflict := func(code string) (int, any) { return 409, obj{"error": obj{"innererror": obj{"code": code}}} }
	return func(f *storetest.Fake, r *http.Request, in map[string]any) (int, any) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token"):
			return 200, obj{"access_token": "t", "expires_in": 3600}
		case r.URL.Path == "/":
			return 401, nil
		case r.Header.Get("Authorization") != "Bearer t" || r.URL.Query().Get("api-version") == "":
			return 401, obj{}
		case r.URL.Path == "/secrets":
			list := []obj{}
			link := ""
			for _, n := range f.Names() {
				if n > r.URL.Query().Get("after") {
					if len(list) == 2 {
						id := storetest.Text(list[1], "id")
						link = "https://elsewhere.example/secrets?api-version=7.4&after=" + id[strings.LastIndexByte(id, '/')+1:]
						break
					}
					list = append(list, obj{"id": "https://x/secrets/" + n, "attributes": obj{"enabled": true}})
				}
			}
			return 200, obj{"value": list, "nextLink": link}
		}
		if name, ok := strings.CutPrefix(r.URL.Path, "/deletedsecrets/"); ok {
			if !busy[name] { // the first time
				busy[name] = true
				return conflict("ObjectIsBeingDeleted")
			}
			delete(deleted, name)
			delete(busy, name)
			return 204, nil
		}
		name := strings.TrimPrefix(r.URL.Path, "/secrets/")
		if r.Method == http.MethodPut {
			if deleted[name] {
				return conflict("ObjectIsDeletedButRecoverable")
			}
			f.Values[name] = storetest.Text(in, "value")
			return 200, obj{}
		}
		name, listing := strings.CutSuffix(name, "/versions")
		name, _, _ = strings.Cut(name, "/")
		value, there := f.Values[name]
		switch {
		case !there && listing:
			return 200, obj{"value": []obj{}}
		case !there:
			return 404, obj{}
		case listing:
			return 200, obj{"value": []obj{
				{"id": "https://x/secrets/" + name + "/new", "attributes": obj{"enabled": true, "created": 2}},
				{"id": "https://x/secrets/" + name + "/old", "attributes": obj{"enabled": name != "off", "created": 1}},
			}}
		case r.Method == http.MethodDelete:
			delete(f.Values, name)
			deleted[name] = true
			return 200, obj{}
		case !strings.HasSuffix(r.URL.Path, "/old"):
			return 404, obj{}
		}
		return 200, obj{"value": value}
	}
}

func TestStore(t *testing.T) {
	f := &storetest.Fake{Serve: serve()}
	url := f.Start(t)
	t.Setenv("AZURE_AUTHORITY_HOST", url)
	s, err := Open(t.Context(), Config{Endpoint: url, TenantID: "t", ClientID: "c", ClientSecret: "s"})
	if err != nil {
		t.Fatal(err)
	}
	s.pause = time.Millisecond
	storetest.TestStore(t, s, storetest.Config{NoAtomicCreate: true})
	f.Create("off", "x")
	if got, err := s.Get(t.Context(), "off"); err == nil {
		t.Errorf("a disabled secret is read: %q", got)
	}
	if _, err := Open(t.Context(), Config{Endpoint: url, TenantID: "t"}); err == nil {
		t.Error("opened with half of the credentials")
	}
	for endpoint, want := range map[string]string{
		"https://x.vault.azure.net": "https://vault.azure.net", "https://x.vault.azure.cn": "https://vault.azure.cn", url: "https://vault.azure.net",
	} {
		if got := (&credentials{cfg: Config{Endpoint: endpoint}}).resource(); got != want {
			t.Errorf("tokens for %s are for %s", endpoint, got)
		}
	}
	for domain, want := range map[string]string{
		"vault.azure.cn": "https://vault.azure.cn", "https://vault.azure.cn/": "https://vault.azure.cn", "management.azure.com": "https://vault.azure.net",
	} {
		if got := (&credentials{cfg: Config{Endpoint: url, Domain: domain}}).resource(); got != want {
			t.Errorf("tokens for a vault of %s behind an address of its own are for %s", domain, got)
		}
	}
}

// TestHostile stands the service's outages and lies.
func TestHostile(t *testing.T) {
	f := &storetest.Fake{Serve: serve()}
	url := f.Start(t)
	t.Setenv("AZURE_AUTHORITY_HOST", url)
	storetest.TestHostile(t, storetest.Hostile{
		URL: url,
		Open: func(url string) (store.Store, error) {
			return Open(t.Context(), Config{Endpoint: url, TenantID: "t", ClientID: "c", ClientSecret: "s"})
		},
	})
}

// TestTurns has many make one key at a time, on one server: one does. The service's times
// are whole seconds, and it lists versions in any order.
func TestTurns(t *testing.T) {
	var values []string
	f := &storetest.Fake{Serve: func(_ *storetest.Fake, r *http.Request, in map[string]any) (int, any) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token"):
			return 200, obj{"access_token": "t", "expires_in": 3600}
		case r.Method == http.MethodPut:
			values = append(values, storetest.Text(in, "value"))
			return 200, obj{}
		case strings.HasSuffix(r.URL.Path, "/versions"):
			list := []obj{}
			for i := range slices.Backward(values) {
				list = append(list, obj{"id": fmt.Sprintf("https://x/secrets/k/%d", i), "attributes": obj{"enabled": true, "created": 1}})
			}
			return 200, obj{"value": list}
		case strings.HasPrefix(r.URL.Path, "/secrets/k/"):
			at, err := strconv.Atoi(r.URL.Path[len("/secrets/k/"):])
			if err != nil {
				return 400, nil
			}
			return 200, obj{"value": values[at]}
		}
		return 401, nil
	}}
	url := f.Start(t)
	t.Setenv("AZURE_AUTHORITY_HOST", url)
	cfg := Config{Endpoint: url, TenantID: "t", ClientID: "c", ClientSecret: "s"}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	var made atomic.Int32
	for i := range 8 {
		wait.Go(func() {
			switch err := s.Create(t.Context(), "k", []byte(fmt.Sprint("value", i))); {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, store.ErrExists):
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if made.Load() != 1 || len(values) != 1 {
		t.Errorf("%d of 8 creations succeeded; there are %q", made.Load(), values)
	}
	// Another server was faster, and its version counts.
	values = nil
	f.Serve = func(serve func(*storetest.Fake, *http.Request, map[string]any) (int, any)) func(*storetest.Fake, *http.Request, map[string]any) (int, any) {
		return func(f *storetest.Fake, r *http.Request, in map[string]any) (int, any) {
			if r.Method == http.MethodPut {
				values = append(values, "another's")
			}
			return serve(f, r, in)
		}
	}(f.Serve)
	if err := s.Create(t.Context(), "k", []byte("mine")); !errors.Is(err, store.ErrExists) {
		t.Errorf("after another's: %v", err)
	}
}
