package test

import (
	"archive/zip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// S4-5: a release is vault_<version>_linux_<arch>.zip with one executable,
// vault. `make dist` makes it for arm64 too, which is left out here for time.
func TestRelease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dist := exec.Command("../tools/dist.sh", dir, runtime.GOARCH)
	dist.Env = append(os.Environ(), "VERSION=1.2.3", "LDFLAGS=-s -w")
	if out, err := dist.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	archive, err := zip.OpenReader(filepath.Join(dir, "vault_1.2.3_linux_"+runtime.GOARCH+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if len(archive.File) != 1 || archive.File[0].Name != "vault" || archive.File[0].Mode() != 0o755 {
		t.Fatalf("got %+v", archive.File)
	}
	in, err := archive.File[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	text, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	vault := filepath.Join(dir, "vault")
	if err := os.WriteFile(vault, text, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(vault, "version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "(arca 1.2.3)") {
		t.Errorf("got %q, %v", out, err)
	}
}
