package sys_test

import (
	"strings"
	"testing"

	"arca/internal/arcatest"
)

// A batch token is not counted, so a role that limits uses makes none: the
// limit must not be dropped in silence.
func TestBatchTokenOfLimitingRole(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	for _, c := range []struct{ name, member, policies, want string }{
		{"uses", "token_num_uses", "default", "cannot have \"token_num_uses\" set"},
		{"period", "token_period", "default", "cannot have \"token_period\" set"},
		{"root first", "token_num_uses", "root", "batch tokens cannot be root tokens"},
	} {
		role := "auth/token/roles/r"
		s.Must("POST", role, s.Root, map[string]any{"orphan": true, c.member: 60})
		code, out := s.Do("POST", "auth/token/create/r", s.Root, map[string]any{"type": "batch", "policies": c.policies})
		errors, _ := out["errors"].([]any)
		if code != 400 || len(errors) != 1 || !strings.Contains(errors[0].(string), c.want) {
			t.Errorf("%s: %d %v", c.name, code, out)
		}
		s.Must("DELETE", role, s.Root, nil)
	}
}
