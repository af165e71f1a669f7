package config

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLoadMigration has the environment change the source only.
func TestLoadMigration(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "migrate.hcl")
	stanza := func(name, url string) string {
		return name + " \"postgresql\" {\n  connection_url = \"" + url + "\"\n}\n"
	}
	if err := os.WriteFile(file, []byte(stanza("storage_source", "a")+stanza("storage_destination", "b")), 0o600); err != nil {
		t.Fatal(err)
	}
	m, _, err := LoadMigration(file, func(name string) string { return map[string]string{"VAULT_PG_CONNECTION_URL": "env"}[name] })
	if err != nil {
		t.Fatal(err)
	}
	if from, to := m.Source.Options["connection_url"], m.Destination.Options["connection_url"]; from != "env" || to != "b" {
		t.Errorf("from %q to %q", from, to)
	}
}
