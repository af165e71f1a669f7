package entrust

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"arca/internal/kes/store"
	"arca/internal/kes/store/storetest"
)

type obj = map[string]any

func serve(f *storetest.Fake, r *http.Request, in map[string]any) (int, any) {
	action := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, api), "/")
	session := obj{"access_token": "t", "expires_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}
	switch {
	case action == "Login/v" && in["username"] == "u" && in["password"] == "p":
		return 200, session
	case r.Header.Get("X-Vault-Auth") != "t":
		return 401, obj{"error": "Invalid token"}
	case in["box_id"] != "b":
		return 404, obj{"error": "Box not found"}
	}
	name, id := storetest.Text(in, "name"), storetest.Text(in, "secret_id")
	value, there := f.Values[id]
	switch {
	case action == "GetBox":
		return 200, obj{}
	case action == "CreateSecret":
		if !f.Create(name, storetest.Text(in, "secret_data")) {
			return 409, obj{"error": "Secret already exists"}
		}
		return 200, obj{}
	case action == "ListSecretIds":
		list := []obj{{"name": ""}, {"name": "old", "expired": true}}
		next := ""
		for _, n := range f.Names() {
			if n > storetest.Text(in, "next_token") {
				if len(list) == 4 {
					next = storetest.Text(list[3], "name")
					break
				}
				list = append(list, obj{"name": n})
			}
		}
		return 200, obj{"Secrets": list, "next_token": next}
	case !there:
		return 404, obj{"error": "Secret not found"}
	case action == "CheckoutSecret":
		return 200, obj{"secret_data": value}
	case action == "DeleteSecret":
		delete(f.Values, id)
		return 200, obj{}
	}
	return 404, obj{"error": "no such call"}
}

func TestStore(t *testing.T) {
	t.Parallel()
	f := &storetest.Fake{Serve: serve}
	good := Config{Endpoint: f.Start(t), VaultID: "v", BoxID: "b", Username: "u", Password: "p"}
	s, err := Open(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	storetest.TestStore(t, s, storetest.Config{})
	for _, change := range []func(*Config){
		func(c *Config) { c.Endpoint = "" }, func(c *Config) { c.VaultID = "" }, func(c *Config) { c.BoxID = "" },
		func(c *Config) { c.Password = "" }, func(c *Config) { c.Password = "other" },
	} {
		bad := good
		change(&bad)
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
			return Open(t.Context(), Config{Endpoint: url, VaultID: "v", BoxID: "b", Username: "u", Password: "p"})
		},
		Honest: func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, api+"Login") },
	})
}
