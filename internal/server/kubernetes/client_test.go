package kubernetes

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEndlessFiles has files named that have no end, or too late a one.
func TestEndlessFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, bytes.Repeat([]byte("#\n"), maxFile), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"/dev/zero": "no regular file", dir: "no regular file", large: "more than"} {
		if _, err := FromFile(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("kubeconfig %s: %v, want %q", file, err, want)
		}
		if _, err := data("", file, dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a certificate in %s: %v, want %q", file, err, want)
		}
		if _, err := readToken(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a token in %s: %v, want %q", file, err, want)
		}
	}
}
