package server

import (
	"os"
	"path/filepath"
	"testing"

	"arca/internal/config"
)

// An audit device cannot write where programs or settings are read from, by
// whatever name.
func TestAuditFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, d := range []string{"plugin/a", "conf.d", "log"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "main.hcl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for to, name := range map[string]string{"plugin": "link", "log/none": "broken", "log": "fine"} {
		if err := os.Symlink(filepath.Join(dir, to), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	n := &node{
		cfg: &config.Config{
			Listeners: config.Listeners{{ListenerTLS: config.ListenerTLS{TLSKeyFile: filepath.Join(dir, "tls.key")}}},
		},
		opts: options{configs: []string{filepath.Join(dir, "main.hcl"), filepath.Join(dir, "conf.d")}},
	}
	n.cfg.PluginDirectory = filepath.Join(dir, "link")
	for path, allowed := range map[string]bool{
		"log/a.log": true, "fine/a.log": true, "log/new/folder/a.log": true, "a.log": true, "plugins/a.log": true,
		"plugin": false, "plugin/x": false, "plugin/a/b/c": false, "link/x": false, "log/../plugin/x": false,
		"conf.d/a.hcl": false, "main.hcl": false, "broken": false, "tls.key": false, "tls.keys": true, "broken/x": false,
	} {
		if err := n.auditFile(filepath.Join(dir, path)); (err == nil) != allowed {
			t.Errorf("%s: %v", path, err)
		}
	}
}
