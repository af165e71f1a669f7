package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"arca/internal/arcatest/database"
	"arca/internal/config"
	"arca/internal/seal"
	"arca/internal/storage"
	"arca/internal/storage/raft"
)

func sealConfig(cluster string) []byte {
	return fmt.Appendf(nil, `{"version":1,"type":"shamir","shares":1,"threshold":1,"root":"AA==","cluster_id":%q}`, cluster)
}

// A bench is a folder with storages and the file that names two of them.
type bench struct {
	t    *testing.T
	dir  string
	from *config.Storage
	to   *config.Storage
	env  map[string]string
}

func (b *bench) file(name string) *config.Storage {
	return &config.Storage{Type: "file", Options: map[string]string{"path": filepath.Join(b.dir, name)}}
}

func (b *bench) raft(name string) *config.Storage {
	return &config.Storage{Type: "raft", Options: map[string]string{"path": filepath.Join(b.dir, name), "node_id": "one"}}
}

// in does something to a store, which is made if there is none.
func (b *bench) in(s *config.Storage, do func(b storage.Backend) error) {
	b.t.Helper()
	o := opener{node: "a test", clusterAddr: "https://127.0.0.1:8201", log: slog.New(slog.DiscardHandler)}
	to, err := o.ours(b.t.Context(), s, toFill)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := errors.Join(do(to), to.close()); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) put(s *config.Storage, key string, value []byte) {
	b.t.Helper()
	b.in(s, func(to storage.Backend) error {
		return to.Apply(b.t.Context(), storage.Batch{{Kind: storage.Put, Key: key, Value: value}})
	})
}

func (b *bench) mark(s *config.Storage, to, id string) {
	b.t.Helper()
	b.in(s, func(from storage.Backend) error {
		_, err := seal.MarkMigrated(b.t.Context(), from, to, id)
		return err
	})
}

// run runs the command from b.from to b.to, and wants an exit code and a text.
func (b *bench) run(code int, want string, args ...string) {
	b.t.Helper()
	text := "cluster_addr = \"https://127.0.0.1:8201\"\n"
	for name, s := range map[string]*config.Storage{"storage_source": b.from, "storage_destination": b.to} {
		text += fmt.Sprintf("%s %q {\n", name, s.Type)
		for k, v := range s.Options {
			text += fmt.Sprintf("  %s = %q\n", k, v)
		}
		text += "}\n"
	}
	file := filepath.Join(b.dir, "migrate.hcl")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	var out bytes.Buffer
	got := Command(b.t.Context(), append([]string{"-config=" + file}, args...), func(name string) string { return b.env[name] }, &out, &out)
	if got != code || !strings.Contains(out.String(), want) {
		b.t.Errorf("%v: %d %s, want %d %s", args, got, out.String(), code, want)
	}
}

const (
	givenBack = "servers can be started on the source again"
	notIt     = "it is not the target"
)

// TestReset gives a marked source back, unless the target may have all.
func TestReset(t *testing.T) {
	t.Parallel()
	b := &bench{t: t, dir: t.TempDir()}
	b.from, b.to = b.file("a"), b.file("b")
	mine := sealConfig("c")
	b.run(2, "there is no storage", "-reset")
	b.in(b.from, func(storage.Backend) error { return nil })
	b.run(2, "the source has no seal configuration", "-reset") // perhaps it is the target of the migration
	b.put(b.from, seal.ConfigKey, mine)
	b.run(0, "There is no migration lock to reset", "-reset")
	b.in(b.from, func(from storage.Backend) error {
		was, err := seal.MarkMigrated(t.Context(), from, "file", "first")
		if !bytes.Equal(was, mine) {
			t.Errorf("got %s", was)
		}
		if _, again := seal.MarkMigrated(t.Context(), from, "etcd", "second"); again == nil {
			t.Error("it was marked twice")
		}
		return err
	})
	b.run(2, "this storage was migrated to file")
	b.run(2, "there is no storage", "-reset") // it is elsewhere, and may be complete
	b.in(b.to, func(storage.Backend) error { return nil })
	b.run(2, notIt, "-reset")
	b.put(b.to, seal.TargetKey, []byte("another"))
	b.run(2, notIt, "-reset")
	b.put(b.to, seal.TargetKey, nil)
	b.run(2, notIt, "-reset")
	b.put(b.to, seal.ConfigKey, mine)
	b.put(b.to, seal.TargetKey, []byte("first"))
	b.run(2, "the migration is complete", "-reset")
	b.put(b.to, seal.ConfigKey, sealConfig("d"))
	b.run(2, notIt+": it is initialised, and of another cluster", "-reset")
	b.put(b.to, seal.ConfigKey, mine)
	b.mark(b.to, "etcd", "later")
	b.run(2, "was itself migrated, to etcd", "-reset")
	b.to = b.file("c")
	b.put(b.to, seal.ConfigKey, mine)
	b.mark(b.to, "file", "first")
	b.run(2, notIt+": it is the source, or a copy of it", "-reset")
	b.to = b.from
	b.run(2, "is that of the source", "-reset")
	b.to = b.file("d")
	b.put(b.to, seal.TargetKey, []byte("first"))
	b.in(b.from, func(from storage.Backend) error { return seal.MarkDone(t.Context(), from) })
	b.run(2, "the migration is complete", "-reset")
	b.run(1, "only beside -reset", "-target-lost")
	b.run(0, givenBack, "-reset", "-target-lost")
	b.mark(b.from, "postgresql", "first")
	b.run(2, `was migrated to "postgresql", not to "file"`, "-reset")
	b.run(0, givenBack, "-reset", "-target-lost")
	b.mark(b.from, "file", "")
	b.run(2, notIt, "-reset") // whatever is there
	b.put(b.to, seal.TargetKey, nil)
	b.run(2, notIt, "-reset")
	b.run(0, givenBack, "-reset", "-target-lost")
	b.mark(b.from, "file", "first")
	b.put(b.to, seal.TargetKey, []byte("first"))
	moved := b.file("moved") // to another machine
	if err := os.CopyFS(moved.Path(), os.DirFS(b.to.Path())); err != nil {
		t.Fatal(err)
	}
	b.to = moved
	b.run(0, givenBack, "-reset")
	b.in(b.from, func(from storage.Backend) error {
		got, err := from.Get(t.Context(), seal.ConfigKey)
		if !bytes.Equal(got, mine) {
			t.Errorf("there is %s", got)
		}
		return err
	})
	b.to = b.file("e")
	b.run(0, "Success! All of the keys have been migrated: 1")
}

// TestResetKinds gives a source back whose target is a node of raft, or a database; a source that is a node with a peers.json keeps
// that when it is refused.
func TestResetKinds(t *testing.T) {
	t.Parallel()
	pg := database.NewPostgres(t)
	database := func() *config.Storage {
		return &config.Storage{Type: "postgresql", Options: map[string]string{"connection_url": pg.NewDatabase()}}
	}
	b := &bench{t: t, dir: t.TempDir()}
	for _, c := range []struct {
		name            string
		from, to, wrong *config.Storage
	}{
		{"raft", b.file("a"), b.raft("b"), b.raft("c")},
		{"database", b.file("d"), database(), database()},
		{"from raft", b.raft("e"), b.file("f"), b.file("g")},
		{"from a database", database(), b.file("h"), b.file("i")},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bench{t: t, dir: t.TempDir(), from: c.from, to: c.wrong}
			b.put(c.from, seal.ConfigKey, sealConfig("c"))
			b.put(c.wrong, "k", []byte("v"))
			b.put(c.to, seal.TargetKey, []byte("it"))
			b.mark(c.from, c.to.Type, "it")
			peers := filepath.Join(c.from.Options["path"], "peers.json")
			if c.from.Type == "raft" {
				if err := raft.WritePeers(c.from.Options["path"], raft.Peer{ID: "one", Address: "127.0.0.1:8201", Voter: true}); err != nil {
					t.Fatal(err)
				}
				b.run(2, "has a peers.json")
			}
			b.run(2, notIt, "-reset")
			if c.from.Type == "raft" {
				if _, err := os.Stat(peers); err != nil {
					t.Errorf("it was used up: %v", err)
				}
			}
			b.to = c.to
			b.run(0, givenBack, "-reset")
			if _, err := os.Stat(peers); err == nil {
				t.Error("the node began, and peers.json is still there")
			}
			b.mark(c.from, c.to.Type, "again")
			b.put(c.to, seal.ConfigKey, sealConfig("c"))
			b.run(2, "the migration is complete", "-reset")
		})
	}
	empty := database()
	b.from, b.to = b.file("j"), empty
	b.put(b.from, seal.ConfigKey, sealConfig("c"))
	b.mark(b.from, "postgresql", "it")
	b.run(2, "there is no table", "-reset")
	b.from, b.to = empty, b.file("k")
	b.run(2, "there is no table", "-reset")
	b.run(2, "there is no table")
}

// TestFolderHangs has a folder that does not open: the command ends with a word on why.
func TestFolderHangs(t *testing.T) {
	t.Parallel()
	b := &bench{t: t, dir: t.TempDir()}
	b.from, b.to = b.file("a"), b.file("b")
	b.put(b.from, seal.ConfigKey, sealConfig("c"))
	b.mark(b.from, "file", "it")
	if err := os.Mkdir(b.to.Options["path"], 0o700); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(b.to.Options["path"], "arca.storage") // who opens it to read waits for a writer
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	o := opener{log: slog.New(slog.DiscardHandler)}
	done := make(chan error, 1)
	go func() {
		_, err := o.open(ctx, b.to, toLookAt)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "does not open, as when its file system hangs") {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it does not end")
	}
	w, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		_, _ = io.WriteString(w, "x")
		_ = w.Close()
	}
}
