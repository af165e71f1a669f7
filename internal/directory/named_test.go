package directory_test

import (
	"testing"

	"arca/internal/arcatest"
)

// Who may use the path of one name reaches nobody else by an id beside it.
func TestNameWithID(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"entity", "group"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := arcatest.New(t, arcatest.Config{})
			base := "identity/" + kind
			made := s.Must("POST", base, s.Root, map[string]any{"name": "other", "policies": "theirs"})
			id, _ := arcatest.Dig(made, "data", "id").(string)
			s.Must("POST", "sys/policies/acl/mine", s.Root, map[string]any{
				"policy": `path "` + base + `/name/mine" { capabilities = ["create", "read", "update", "delete"] }`,
			})
			auth := s.Must("POST", "auth/token/create", s.Root, map[string]any{"policies": []string{"mine"}})
			tok, _ := arcatest.Dig(auth, "auth", "client_token").(string)

			if code, out := s.Do("GET", base+"/name/mine?id="+id, tok, nil); code != 404 {
				t.Errorf("read: status %d: %v, want 404", code, out)
			}
			s.Must("POST", base+"/name/mine", tok, map[string]any{"id": id, "policies": "taken"})
			s.Must("DELETE", base+"/name/mine?id="+id, tok, nil)
			out := s.Must("GET", base+"/id/"+id, s.Root, nil)
			if name := arcatest.Dig(out, "data", "name"); name != "other" {
				t.Errorf("the other's name is %v", name)
			}
			if p, _ := arcatest.Dig(out, "data", "policies").([]any); len(p) != 1 || p[0] != "theirs" {
				t.Errorf("the other's policies are %v", p)
			}
			if code, _ := s.Do("GET", base+"/name/mine", s.Root, nil); code != 404 {
				t.Errorf("mine after its deletion: status %d, want 404", code)
			}
		})
	}
}
