package test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"arca/internal/arcatest"
)

// A client that others wrote, Debian's python3-hvac, goes through what one does
// with a server: see testdata/client.py.
func TestHVAC(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3" // Debian's, whatever else is on PATH
	if out, err := exec.Command(python, "-c", "import hvac").CombinedOutput(); err != nil {
		arcatest.Absent(t, "python3-hvac is not installed: run tools/packages.sh as root (%v %s)", err, out)
	}
	dir := t.TempDir()
	n := &node{t: t, dir: dir, config: fileStorage}
	n.start()
	client := exec.Command(python, "testdata/client.py", strings.TrimSuffix(n.url, "/v1/"), filepath.Join(dir, "audit.log"))
	client.Env = environment(dir, "PYTHONDONTWRITEBYTECODE=1")
	out, err := client.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
