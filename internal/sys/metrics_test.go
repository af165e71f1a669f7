package sys_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/core"
	"arca/internal/telemetry"
)

// S3-54, S3-56: what dashboards look for is there, under Vault's names, also what
// takes a walk over the store.
func TestMetricsOfUse(t *testing.T) {
	t.Parallel()
	r := telemetry.New(telemetry.Config{Retention: time.Hour})
	s := arcatest.New(t, arcatest.Config{Core: core.Config{Metrics: r, Usage: core.Usage{Period: time.Hour, Namespaces: true}}})
	s.Must("POST", "sys/namespaces/a", s.Root, nil)
	s.Must("POST", "sys/mounts/secret", s.Root, map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	s.Must("POST", "sys/mounts/old", s.Root, map[string]any{"type": "kv"}, nsHeader, "a")
	s.Must("POST", "secret/data/a", s.Root, map[string]any{"data": map[string]any{"k": "v"}})
	s.Must("POST", "old/x", s.Root, map[string]any{"k": "v"}, nsHeader, "a")
	s.Must("POST", "old/y", s.Root, map[string]any{"k": "v"}, nsHeader, "a")
	s.Must("POST", "auth/token/create", s.Root, map[string]any{"ttl": "5m"})
	s.Must("POST", "identity/entity", s.Root, map[string]any{"name": "e"})
	// Counting begins with the unsealing.
	if err := s.Core.Shut(); err != nil {
		t.Fatal(err)
	}
	s.Unseal()
	var text string
	missing := func() string {
		w := httptest.NewRecorder()
		req := httptest.NewRequest("GET", "/v1/sys/metrics?format=prometheus", nil)
		req.Header.Set("X-Vault-Token", s.Root)
		s.Handler.ServeHTTP(w, req)
		text = w.Body.String()
		for _, m := range []string{
			"# TYPE vault_barrier_get summary", "# TYPE vault_barrier_put summary", "# TYPE vault_barrier_list summary", "vault_core_post_unseal_count 2",
			"vault_token_create_count 2", "vault_token_lookup_count", "vault_token_creation{", `namespace="root",mount_point="secret/"} 1`,
			`namespace="a",mount_point="old/"} 2`, `vault_token_count{`, `namespace="root"} 2`, "vault_identity_num_entities{",
			`vault_identity_entity_count{`, "vault_expire_num_leases{", "vault_expire_leases_by_expiration{", "# TYPE vault_secret_kv_count gauge",
		} {
			if !strings.Contains(text, m) {
				return m
			}
		}
		return ""
	}
	for end := time.Now().Add(10 * time.Second); missing() != ""; {
		if time.Now().After(end) {
			t.Fatalf("no %q in\n%s", missing(), text)
		}
	}
}
