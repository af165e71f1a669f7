//go:build !linux

package fs

import (
	"os"
	"testing"
)

func pipe(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func disk(t *testing.T, _ string) {
	t.Helper()
	t.Skip("no disk of its own")
}
