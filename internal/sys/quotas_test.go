package sys_test

import (
	"strings"
	"testing"

	"arca/internal/arcatest"
)

func TestQuotas(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/namespaces/a", s.Root, nil)
	s.Must("POST", "sys/mounts/kv", s.Root, map[string]any{"type": "kv"}, nsHeader, "a")
	s.Must("POST", "sys/auth/approle", s.Root, map[string]any{"type": "approle"})
	s.Must("POST", "auth/approle/role/r", s.Root, nil)
	for _, c := range []struct {
		name string
		body map[string]any
		want string
	}{
		{"a", map[string]any{"path": "a/kv/", "rate": 2, "interval": "1h"}, ""},
		{"b", map[string]any{"path": "a/kv", "rate": 5}, "exists under the name \"a\""},
		{"c", map[string]any{"path": "a/nosuch/", "rate": 5}, "invalid mount path"},
		{"d", map[string]any{"path": "auth/token/", "role": "x", "rate": 5}, "role-based"},
		{"e", map[string]any{"path": "auth/approle/", "role": "r", "rate": 1, "interval": "1h"}, ""},
		{"f", map[string]any{"path": "a/kv/", "rate": "NaN"}, "'rate' is invalid"},
		{"g", map[string]any{"path": "a/", "rate": 1000, "inheritable": true}, ""},
		{"h", map[string]any{"rate": 1, "role": "x"}, "'path' is required"},
	} {
		code, out := s.Do("POST", "sys/quotas/rate-limit/"+c.name, s.Root, c.body)
		if (code == 204) != (c.want == "") || !strings.Contains(firstError(out), c.want) {
			t.Errorf("%s: %d %v", c.name, code, out)
		}
	}
	s.Must("POST", "a/kv/x", s.Root, map[string]any{"k": "v"})
	s.Must("GET", "kv/x", s.Root, nil, nsHeader, "a")
	if code, out := s.Do("GET", "a/kv/x", s.Root, nil); code != 429 || !strings.Contains(firstError(out), "rate limit quota exceeded") {
		t.Errorf("a third request: %d %v", code, out)
	}
	s.Must("GET", "auth/token/lookup-self", s.Root, nil)

	id := field(t, s.Must("GET", "auth/approle/role/r/role-id", s.Root, nil), "data", "role_id")
	wrong := map[string]any{"role_id": id, "secret_id": "wrong"}
	for i, want := range []int{400, 429} {
		if code, _ := s.Do("POST", "auth/approle/login", "", wrong); code != want {
			t.Errorf("login %d: %d", i, code)
		}
	}
	if code, _ := s.Do("GET", "sys/quotas/config", s.Root, nil, nsHeader, "a"); code != 400 {
		t.Errorf("quotas of a namespace: %d", code)
	}
}
