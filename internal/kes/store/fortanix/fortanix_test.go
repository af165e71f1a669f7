package fortanix

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"arca/internal/kes/store"
	"arca/internal/kes/store/storetest"
)

type obj = map[string]any

func serve(f *storetest.Fake, r *http.Request, in map[string]any) (int, any) {
	switch p := r.URL.Path; {
	case p == "/sys/v1/health", p == "/sys/v1/session/terminate":
		return 204, nil
	case r.Header.Get("Authorization") != "Basic key":
		return 401, obj{"message": "Unauthorized"}
	case p == "/sys/v1/session/auth":
		return 200, obj{"access_token": "session"}
	case p == objects && r.Method == http.MethodPut:
		if in["obj_type"] != "OPAQUE" || in["group_id"] != "g" || !f.Create(storetest.Text(in, "name"), storetest.Text(in, "value")) {
			return 409, obj{"message": "sobject already exists"}
		}
		return 201, obj{"kid": "kid-" + storetest.Text(in, "name")}
	case p == objects+"/export":
		name := storetest.Text(in, "name")
		value, ok := f.Values[name]
		if !ok {
			return 404, obj{"message": "sobject does not exist"}
		}
		return 200, obj{"kid": "kid-" + name, "value": value, "enabled": name != "off"}
	case p == objects:
		list := []obj{}
		for _, n := range f.Names() {
			if n > r.URL.Query().Get("start") && len(list) < 2 {
				list = append(list, obj{"name": n})
			}
		}
		return 200, list
	default:
		delete(f.Values, strings.TrimPrefix(p, objects+"/kid-"))
		return 204, nil
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	f := &storetest.Fake{Serve: serve}
	url := f.Start(t)
	s, err := Open(t.Context(), Config{Endpoint: url, Key: "key", GroupID: "g"})
	if err != nil {
		t.Fatal(err)
	}
	storetest.TestStore(t, s, storetest.Config{})
	if err := s.Create(t.Context(), "off", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), "off"); err == nil {
		t.Errorf("a disabled object is read: %q", got)
	}
	for _, bad := range []Config{{}, {Endpoint: url}, {Endpoint: url, Key: "other"}} {
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
			return Open(t.Context(), Config{Endpoint: url, Key: "key", GroupID: "g"})
		},
		Honest: func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/sys/v1/session") },
	})
}

// TestLostAnswer makes a key whose answer is lost on the way: the next question finds
// the key, which is one's own, and not so one that somebody else has made.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for _, others := range []bool{false, true} {
		first := true
		f := &storetest.Fake{Serve: func(f *storetest.Fake, r *http.Request, in map[string]any) (int, any) {
			put := r.Method == http.MethodPut
			if put && first && others {
				first = false
				f.Create(storetest.Text(in, "name"), "b3RoZXI=")
				return 503, nil
			}
			code, out := serve(f, r, in)
			if put && first {
				first = false
				return 503, nil
			}
			return code, out
		}}
		s, err := Open(t.Context(), Config{Endpoint: f.Start(t), Key: "key", GroupID: "g"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Create(t.Context(), "k", []byte("x")); (err == nil) == others || others && !errors.Is(err, store.ErrExists) {
			t.Errorf("another's %v: %v", others, err)
		}
	}
}
