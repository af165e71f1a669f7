package test

import (
	"fmt"
	"slices"
	"testing"

	"arca/internal/arcatest/database"
)

func consulStanza(url, path, more string) string {
	return fmt.Sprintf("storage \"consul\" {\n  address = %q\n  path = %q\n  session_ttl = \"10s\"\n%s}\n", url, path, more)
}

// newConsul is the address of Consul, where it can be had, or of what stands in for it.
func newConsul(t *testing.T) string {
	t.Helper()
	if program := database.FindConsul(); program != "" {
		return database.NewConsul(t, program).Address()
	}
	return database.NewConsulStandIn(t).URL
}

// TestCrashConsul is TestCrash on Consul; one server, which does not wait for the session of the one before it.
func TestCrashConsul(t *testing.T) {
	t.Parallel()
	crashTest(t, "disable_mlock = true\n"+consulStanza(newConsul(t), "vault/", "  ha_enabled = \"false\"\n")+plainListener)
}

// TestPairConsul: servers share Consul without being told to, as with Vault, and are registered there.
func TestPairConsul(t *testing.T) {
	t.Parallel()
	s := database.NewConsulStandIn(t)
	testPair(t, newPair(t, consulStanza(s.URL, "vault", "")))
	if told := s.Told(); !slices.Contains(told, "/v1/agent/service/register") {
		t.Errorf("the servers are not registered: %q", told)
	}
}
