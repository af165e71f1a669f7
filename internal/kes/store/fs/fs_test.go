package fs

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"arca/internal/kes/store"
	"arca/internal/kes/store/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "a", "b"), nil)
	if err != nil {
		t.Fatal(err)
	}
	storetest.TestStore(t, s, storetest.Config{})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the folder: %v, %v", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestTwoServers lets two stores share a folder: of two creations one wins.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Create(t.Context(), "k", []byte("a")); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "k", []byte("b")); err != store.ErrExists { //nolint:errorlint // the very value
		t.Errorf("got %v", err)
	}
}

// TestLeftovers removes what a crash left, with a listing after an hour, and lists it never.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old, young := filepath.Join(dir, unfinished+"old"), filepath.Join(dir, unfinished+"young")
	for _, p := range []string{old, young, filepath.Join(dir, "not a key")} {
		if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if names, _, err := s.List(t.Context(), "", "", 10); err != nil || len(names) != 0 {
		t.Errorf("listed: %v, %v", names, err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("the old one is there")
	}
	if _, err := os.Stat(young); err != nil {
		t.Error("another server's is gone")
	}
}

func TestNamesStayInside(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "..", "../x", "a/b", ".hidden", "a\x00b", `a\b`} {
		if err := s.Create(t.Context(), name, nil); err == nil {
			t.Errorf("%q is taken", name)
		}
		if _, err := s.Get(t.Context(), name); err == nil {
			t.Errorf("%q is read", name)
		}
		if err := s.Delete(t.Context(), name); err == nil {
			t.Errorf("%q is deleted", name)
		}
	}
}

func TestMissingFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	s, err := Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Status(t.Context()); !store.IsUnreachable(err) {
		t.Errorf("status: %v", err)
	}
	if _, err := s.Get(t.Context(), "k"); !store.IsUnreachable(err) {
		t.Errorf("get: %v", err)
	}
	if err := s.Create(t.Context(), "k", nil); !store.IsUnreachable(err) {
		t.Errorf("create: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), file, nil); err == nil {
		t.Error("a file is taken for a folder")
	}
}
