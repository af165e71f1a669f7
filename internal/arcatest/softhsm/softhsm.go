// Package softhsm makes PKCS#11 tokens for tests.
package softhsm

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"arca/internal/arcatest"
)

// What a token is called, and its user's PIN.
const (
	Label = "arca"
	PIN   = "1234"
)

// New makes a token of its own in SoftHSM, for the process, and returns SoftHSM's library. The test is left out where there
// is no SoftHSM.
func New(t *testing.T) (lib string) {
	t.Helper()
	tool, err := exec.LookPath("softhsm2-util")
	if err != nil {
		arcatest.Absent(t, "softhsm2-util is not installed")
	}
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			lib = path
		}
	}
	if lib == "" {
		arcatest.Absent(t, "libsofthsm2.so is not found")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command(tool, "--init-token", "--free", "--label", Label, "--pin", PIN, "--so-pin", "5678").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return lib
}
