package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"arca/internal/seal"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

// TestReset gives a marked source back, unless the target has all.
func TestReset(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := []byte(`{"version":1,"type":"shamir","shares":1,"threshold":1,"root":"AA==","cluster_id":"c"}`)
	in := func(name string, do func(b storage.Backend) error) {
		t.Helper()
		b, err := pebble.Open(pebble.Config{Dir: filepath.Join(dir, name)})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(do(b), b.Close()); err != nil {
			t.Fatal(err)
		}
	}
	put := func(b storage.Backend) error {
		return b.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: seal.ConfigKey, Value: config}})
	}
	file := filepath.Join(dir, "migrate.hcl")
	text := fmt.Sprintf("storage_source \"file\" { path = %q }\nstorage_destination \"file\" { path = %q }\n", filepath.Join(dir, "a"), filepath.Join(dir, "b"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(want string, args ...string) {
		t.Helper()
		var out bytes.Buffer
		Command(t.Context(), append([]string{"-config=" + file}, args...), func(string) string { return "" }, &out, &out)
		if !strings.Contains(out.String(), want) {
			t.Errorf("%v: got %s, want %s", args, out.String(), want)
		}
	}
	in("a", put)
	run("There is no migration lock to reset", "-reset")
	in("a", func(b storage.Backend) error {
		was, err := seal.MarkMigrated(t.Context(), b, "file", "first")
		if !bytes.Equal(was, config) {
			t.Errorf("got %s", was)
		}
		if _, again := seal.MarkMigrated(t.Context(), b, "etcd", "second"); again == nil {
			t.Error("it was marked twice")
		}
		return err
	})
	run("this storage was migrated to file")
	run("there is no storage", "-reset") // it is elsewhere, and may be complete
	of := func(id string) func(b storage.Backend) error {
		return func(b storage.Backend) error {
			return b.Apply(t.Context(), storage.Batch{{Kind: storage.Delete, Key: seal.ConfigKey}, {Kind: storage.Put, Key: seal.TargetKey, Value: []byte(id)}})
		}
	}
	in("b", func(storage.Backend) error { return nil })
	run("this is not the target", "-reset")
	in("b", of("another"))
	run("this is not the target", "-reset")
	in("b", put)
	run("the migration is complete", "-reset")
	in("b", of("first"))
	in("a", func(b storage.Backend) error { return seal.MarkDone(t.Context(), b) })
	run("the migration is complete", "-reset")
	run("only beside -reset", "-target-lost")
	run("servers can be started on the source again", "-reset", "-target-lost")
	again := func(to string) {
		in("a", func(b storage.Backend) error {
			_, err := seal.MarkMigrated(t.Context(), b, to, "later")
			return err
		})
	}
	again("postgresql")
	run(`was migrated to "postgresql", not to "file"`, "-reset")
	run("servers can be started on the source again", "-reset", "-target-lost")
	again("file")
	run("this is not the target", "-reset")
	in("b", of("later"))
	run("servers can be started on the source again", "-reset")
	if err := os.RemoveAll(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	in("a", func(b storage.Backend) error {
		got, err := b.Get(t.Context(), seal.ConfigKey)
		if !bytes.Equal(got, config) {
			t.Errorf("there is %s", got)
		}
		return err
	})
	run("Success! All of the keys have been migrated: 1")
}
