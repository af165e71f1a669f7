package pebble_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

func putOne(t *testing.T, s *pebble.Store, key, value string) {
	t.Helper()
	if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: key, Value: []byte(value)}}); err != nil {
		t.Fatal(err)
	}
}

func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	s, err := pebble.Open(pebble.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", fi.Mode(), err)
	}
	putOne(t, s, "k", "v")
	refused(t, pebble.Config{Dir: dir}, errs.Unavailable, "in use by another process", dir)
	if err := s.Checkpoint(dir + ".copy"); err != nil {
		t.Fatal(err)
	}
	putOne(t, s, "k", "w")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{dir: "w", dir + ".copy": "v"} {
		s := open(t, pebble.Config{Dir: dir})
		if got, err := s.Get(t.Context(), "k"); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", dir, got, err)
		}
	}
}

func TestFolderRelative(t *testing.T) {
	t.Chdir(t.TempDir())
	open(t, pebble.Config{Dir: "data"})
	open(t, pebble.Config{Dir: "./other/data/"})
}

func refused(t *testing.T, cfg pebble.Config, kind errs.Kind, texts ...string) {
	t.Helper()
	s, err := pebble.Open(cfg)
	if err == nil {
		_ = s.Close()
		t.Fatal("opened")
	}
	if !errs.Is(err, kind) {
		t.Errorf("kind %v, want %v", errs.KindOf(err), kind)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
}

func TestFolderRefused(t *testing.T) {
	made := func(t *testing.T) string {
		dir := t.TempDir()
		s, err := pebble.Open(pebble.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		putOne(t, s, "k", "v")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Run("foreign", func(t *testing.T) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))
		refused(t, pebble.Config{Dir: dir}, errs.Invalid, "notes.txt", dir, "empty or a new folder")
		if names, _ := os.ReadDir(dir); len(names) != 1 {
			t.Errorf("it wrote to it: %v", names)
		}
	})
	t.Run("no path", func(t *testing.T) { refused(t, pebble.Config{}, errs.Invalid, "path") })
	t.Run("file", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "f")
		must(t, os.WriteFile(name, nil, 0o600))
		refused(t, pebble.Config{Dir: name}, errs.Unavailable, name)
	})
	t.Run("other version", func(t *testing.T) {
		dir := made(t)
		must(t, os.WriteFile(filepath.Join(dir, "arca.storage"), []byte("arca storage 9\n"), 0o600))
		refused(t, pebble.Config{Dir: dir}, errs.Invalid, "another version", dir)
	})
	t.Run("vanished", func(t *testing.T) {
		dir := made(t)
		for _, name := range glob(t, dir, "*") {
			if filepath.Base(name) != "arca.storage" {
				must(t, os.Remove(name))
			}
		}
		refused(t, pebble.Config{Dir: dir}, errs.Unavailable, "damaged", dir)
	})
	t.Run("manifest lost", func(t *testing.T) {
		dir := made(t)
		for _, name := range glob(t, dir, "MANIFEST*") {
			must(t, os.Remove(name))
		}
		refused(t, pebble.Config{Dir: dir}, errs.Unavailable, "damaged", dir)
	})
	t.Run("manifest overwritten", func(t *testing.T) {
		dir := made(t)
		for _, name := range glob(t, dir, "MANIFEST*") {
			must(t, os.WriteFile(name, []byte(strings.Repeat("x", 400)), 0o600))
		}
		refused(t, pebble.Config{Dir: dir}, errs.Unavailable, dir)
	})
	t.Run("not permitted", func(t *testing.T) {
		if os.Getuid() == 0 {
			t.Skip("root may do everything")
		}
		dir := made(t)
		must(t, os.Chmod(dir, 0))
		refused(t, pebble.Config{Dir: dir}, errs.Unavailable, dir)
	})
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatal(pattern, names, err)
	}
	return names
}

// smallDisk is a file system with a settable amount of free space.
type smallDisk struct {
	vfs.FS
	free *uint64
}

func (d smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: *d.free, TotalBytes: 1 << 30}, nil
}

func TestNearlyFull(t *testing.T) {
	free := uint64(1 << 30)
	s := open(t, pebble.Config{Dir: "d", FS: smallDisk{vfs.NewMem(), &free}})
	db := storage.Open(s, storage.Config{})
	defer db.Close()
	write := func(value string) error {
		return db.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("k", []byte(value)) })
	}
	if err := write("1"); err != nil {
		t.Fatal(err)
	}
	free = 1 << 20
	big := strings.Repeat("x", 2<<20) // large enough to make it look
	err := write(big)
	if !errors.Is(err, storage.ErrNotApplied) || !strings.Contains(err.Error(), "full") {
		t.Errorf("got %v", err)
	}
	if err := write("2"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("got %v", err)
	}
	s.GiveUp() // nothing waits: that is no reason to take nothing any more
	free = 1 << 30
	if err := write("3"); err != nil {
		t.Errorf("after making room: %v", err)
	}
	if got, err := s.Get(t.Context(), "k"); err != nil || string(got) != "3" {
		t.Errorf("got %q, %v", got, err)
	}
}
