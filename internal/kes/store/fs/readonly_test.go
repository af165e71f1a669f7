package fs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestReadOnly has all keys of a folder after a crash, and leaves it as it is.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	names := left(t, dir, journalOld, 4)
	values := map[string][]byte{}
	for _, name := range names {
		value, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		values[name] = value
	}
	late := stored(t)
	err := errors.Join(os.Remove(filepath.Join(dir, names[0])), os.Truncate(filepath.Join(dir, names[1]), 5), os.Remove(filepath.Join(dir, names[2])),
		os.WriteFile(filepath.Join(dir, journalName), slices.Concat(tombstone(names[2], values[names[2]]), newRecord(kindCreate, "late", late)), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	s, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, next, err := s.List(t.Context(), "", "", 3)
	if want := []string{names[0], names[1], names[3]}; err != nil || !slices.Equal(got, want) || next != "late" {
		t.Errorf("got %v and %q, %v", got, next, err)
	}
	delete(values, names[2])
	values["late"] = late
	for name, want := range values {
		if got, err := s.Get(t.Context(), name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, err := range []error{s.Create(t.Context(), "new", late), s.Set(t.Context(), "new", late), s.Delete(t.Context(), names[3])} {
		if !errors.Is(err, errReadOnly) {
			t.Errorf("got %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if after := snapshot(t, dir); after != before {
		t.Errorf("the folder was\n%s\nand is\n%s", before, after)
	}
	missing := filepath.Join(dir, "missing")
	if _, err := OpenReadOnly(missing); err == nil {
		t.Error("a missing folder is opened")
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("a folder was made")
	}
}

func snapshot(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Name()+" "+info.ModTime().String()+" "...)
		out = append(append(out, content...), '\n')
	}
	return string(out)
}
