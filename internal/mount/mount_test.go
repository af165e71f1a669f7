package mount

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

type fake struct{ name string }

func (f fake) Type() string           { return f.name }
func (f fake) Routes() []engine.Route { return nil }

type hall struct{ fake }

func (hall) Hall() {}

type runner struct{ fake }

func (runner) Run(context.Context, engine.Host) {}

type catalog struct{}

func (catalog) Find(_ bool, typ string, options map[string]string) (engine.Engine, *engine.Table, bool) {
	switch typ {
	case "kv":
		return fake{"kv" + options["version"]}, engine.NewTable(nil), true
	case "system":
		return hall{fake{typ}}, engine.NewTable(nil), true
	case "runs":
		return runner{fake{typ}}, engine.NewTable(nil), true
	}
	return nil, nil, false
}

type bench struct {
	t       testing.TB
	backend *storagetest.Failing
	db      *storage.DB
	table   *Table
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, backend: storagetest.NewFailing(storagetest.NewMap())}
	b.open()
	t.Cleanup(func() { _ = b.db.Close() }) // closed already after a failure
	return b
}

func (b *bench) open() {
	b.db = storage.Open(b.backend, storage.Config{})
	b.table = NewTable(b.db, TableConfig{Catalog: catalog{}, DefaultTTL: 24 * time.Hour, MaxTTL: 48 * time.Hour})
}

func (b *bench) update(fn func(tx storage.Tx) error) {
	b.t.Helper()
	if err := b.db.Update(context.Background(), fn); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) view(fn func(tx storage.Tx) error) {
	b.t.Helper()
	if err := b.db.View(context.Background(), fn); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) create(paths ...string) {
	b.t.Helper()
	b.update(func(tx storage.Tx) error {
		for _, p := range paths {
			if _, err := b.table.Create(context.Background(), tx, "root", Row{Path: p, Type: "kv"}); err != nil {
				return err
			}
		}
		return nil
	})
}

// route is the mount's path and the rest of the path, with a bar between.
func (b *bench) route(path string) (got string) {
	b.t.Helper()
	b.view(func(tx storage.Tx) error {
		e, rest, err := b.table.Route(tx, "root", path)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			got = "none"
		case err != nil:
			return err
		default:
			got = e.Path + "|" + rest
		}
		return nil
	})
	return got
}

func TestRoute(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	deep := strings.Repeat("d/", MaxSegments)
	b.create("secret/", "team/a/", "team/b/", "auth/token/", "auth/team/x/", deep)
	for path, want := range map[string]string{
		"secret/a/b":                        "secret/|a/b",
		"secret/":                           "secret/|",
		"secret":                            "secret/|",
		"secretx/a":                         "none",
		"secre":                             "none",
		"team":                              "none",
		"team/":                             "none",
		"team/a":                            "team/a/|",
		"team/a/x":                          "team/a/|x",
		"team/c/x":                          "none",
		"auth/token/self":                   "auth/token/|self",
		"auth/team/x/y":                     "auth/team/x/|y",
		"auth/":                             "none",
		"":                                  "none",
		"/":                                 "none",
		"//secret/a":                        "none",
		deep + "x":                          deep + "|x",
		strings.Repeat("x/", 100_000) + "y": "none",
	} {
		if got := b.route(path); got != want {
			t.Errorf("%.40q: got %.80s, want %.80s", path, got, want)
		}
	}
	err := b.db.Update(t.Context(), func(tx storage.Tx) error {
		_, err := b.table.Create(t.Context(), tx, "root", Row{Path: "e/" + deep, Type: "kv"})
		return err
	})
	if !errs.Is(err, errs.Invalid) {
		t.Errorf("too deep a mount: %v", err)
	}
}

func TestEntry(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.update(func(tx storage.Tx) error {
		e, err := b.table.Create(t.Context(), tx, "root", Row{
			Path: "secret/", Type: "kv", Options: map[string]string{"version": "2"}, Config: Config{MaxTTL: time.Hour, TokenType: "batch"},
		})
		if err != nil {
			return err
		}
		if e.Engine != (fake{"kv2"}) || e.Hall || e.Auth() || !strings.HasPrefix(e.Accessor, "kv_") || len(e.Accessor) != 11 || len(e.ID) != 36 {
			t.Errorf("got %+v", e)
		}
		if m := e.Mount; m.DefaultTTL != time.Hour || m.MaxTTL != time.Hour || m.TokenType != engine.TokenBatch || m.NamespaceID != "root" {
			t.Errorf("the engine's view is %+v", m)
		}
		same, err := b.table.ByAccessor(tx, "root", e.Accessor)
		if err != nil || same.ID != e.ID {
			t.Errorf("by accessor: %+v, %v", same, err)
		}
		if _, err := b.table.ByAccessor(tx, "root", "kv_0"); !errs.Is(err, errs.NotFound) {
			t.Errorf("by an accessor of nobody: %v", err)
		}
		sys, err := b.table.Create(t.Context(), tx, "root", Row{Path: "sys/", Type: "system"})
		if err != nil || !sys.Hall || sys.Mount.DefaultTTL != 24*time.Hour || sys.Mount.MaxTTL != 48*time.Hour {
			t.Errorf("sys is %+v, %v", sys, err)
		}
		gone, err := b.table.Create(t.Context(), tx, "root", Row{Path: "auth/old/", Type: "gone"})
		if err != nil || gone.Engine != nil || !gone.Auth() || !strings.HasPrefix(gone.Accessor, "auth_gone_") {
			t.Errorf("of an unknown type: %+v, %v", gone, err)
		}
		return nil
	})
	for name, want := range map[string]engine.TokenType{
		"service": engine.TokenService, "batch": engine.TokenBatch, "default-service": engine.TokenDefaultService,
		"default-batch": engine.TokenDefaultBatch, "": engine.TokenDefault, "x": engine.TokenDefault,
	} {
		if got := ParseTokenType(name); got != want {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
	}
	for in, want := range map[string]string{"": "", "/": "", "a": "a/", "/a/": "a/", "//a/b": "a/b/"} {
		if got := Canonical(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// S0-22: mounts never lie within one another.
func TestInUse(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("a/b/", "c/")
	for path, want := range map[string]string{
		"a/b/": "a/b/", "a/b/c/": "a/b/", "a/": "a/b/", "c/": "c/", "c/x/y/": "c/", "b/": "", "a/bc/": "", "a/c/": "", "cd/": "",
	} {
		b.view(func(tx storage.Tx) error {
			got, err := b.table.InUse(tx, "root", path)
			if got != want {
				t.Errorf("%s: got %q, want %q", path, got, want)
			}
			return err
		})
	}
}

// What a commit changes, the next request sees.
func TestChanges(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	get := func(path string) (e *Entry) {
		t.Helper()
		b.view(func(tx storage.Tx) (err error) {
			e, err = b.table.Get(tx, "root", path)
			return err
		})
		return e
	}
	if got := b.route("a/x"); got != "none" { // remembered as absent
		t.Fatal(got)
	}
	b.create("a/")
	if got := b.route("a/x"); got != "a/|x" {
		t.Errorf("after it was made: %s", got)
	}
	first := get("a/")
	if get("a/") != first {
		t.Error("it was decoded twice")
	}
	row := first.Row
	row.Description = "new"
	b.update(func(tx storage.Tx) error { _, err := b.table.Update(tx, row); return err })
	if e := get("a/"); e.Description != "new" || e.Mount.Description != "new" || e.Seq != 1 || first.Description != "" {
		t.Errorf("after the change: %+v", e)
	}
	b.update(func(tx storage.Tx) error { return tx.Put(first.Prefix+"key", []byte("v")) })
	b.update(func(tx storage.Tx) error { return b.table.Move(tx, get("a/"), "b/c/") })
	if b.route("a/x") != "none" || b.route("b/c/x") != "b/c/|x" {
		t.Error("after the move the old path counts")
	}
	moved := get("b/c/")
	b.view(func(tx storage.Tx) error {
		same, err := b.table.ByAccessor(tx, "root", first.Accessor)
		if err != nil || same.Path != "b/c/" || same.ID != first.ID {
			t.Errorf("by accessor: %+v, %v", same, err)
		}
		return nil
	})
	err := b.db.Update(t.Context(), func(tx storage.Tx) error { return b.table.Move(tx, moved, strings.Repeat("d/", MaxSegments+1)) })
	if !errs.Is(err, errs.Invalid) {
		t.Errorf("a move too deep: %v", err)
	}
	b.update(func(tx storage.Tx) error { return b.table.Delete(tx, moved) })
	b.view(func(tx storage.Tx) error {
		for k, err := range tx.Keys("", "") {
			t.Errorf("left: %s, %v", k, err)
		}
		return nil
	})
	if got := b.route("b/c/x"); got != "none" {
		t.Errorf("after its end: %s", got)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("z/", "auth/b/", "a/", "auth/a/", "authx/")
	for auth, want := range map[bool]string{false: "a/ authx/ z/", true: "auth/a/ auth/b/"} {
		b.view(func(tx storage.Tx) error {
			list, err := b.table.List(tx, "root", auth)
			var got []string
			for _, e := range list {
				got = append(got, e.Path)
			}
			if strings.Join(got, " ") != want {
				t.Errorf("got %q, want %s", got, want)
			}
			return err
		})
	}
}

// Two that want the same place at once: one gets it.
func TestConcurrentCreate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	taken := errors.New("taken")
	results := make(chan error, 8)
	for i := range cap(results) {
		path := []string{"a/", "a/b/", "a/b/c/"}[i%3]
		go func() {
			results <- b.db.Update(t.Context(), func(tx storage.Tx) error {
				used, err := b.table.InUse(tx, "root", path)
				if err != nil {
					return err
				}
				if used != "" {
					return taken
				}
				_, err = b.table.Create(t.Context(), tx, "root", Row{Path: path, Type: "kv"})
				return err
			})
		}()
	}
	made := 0
	for range cap(results) {
		switch err := <-results; {
		case err == nil:
			made++
		case !errors.Is(err, taken):
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("%d were made", made)
	}
}

// Whatever write fails, a mount is there as a whole or not at all.
func TestFailingStore(t *testing.T) {
	t.Parallel()
	for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.Lost, storagetest.After} {
		b := newBench(t)
		b.create("old/")
		b.backend.FailNth(1, fault)
		err := b.db.Update(t.Context(), func(tx storage.Tx) error {
			e, err := b.table.Get(tx, "root", "old/")
			if err != nil {
				return err
			}
			return b.table.Move(tx, e, "new/")
		})
		if err == nil {
			t.Error("no error")
		}
		_ = b.db.Close() // it has failed
		b.open()
		want := "old/"
		if fault == storagetest.After {
			want = "new/"
		}
		b.view(func(tx storage.Tx) error {
			list, err := b.table.List(tx, "root", false)
			if err != nil {
				return err
			}
			same, err := b.table.ByAccessor(tx, "root", list[0].Accessor)
			if err != nil || len(list) != 1 || list[0].Path != want || same.Path != want {
				t.Errorf("fault %d: %d mounts, %+v, %v", fault, len(list), same, err)
			}
			return nil
		})
	}
}

// Mounts cost nothing until they are used: opening a store with many reads none.
func TestManyMounts(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const n = 10_000
	b.update(func(tx storage.Tx) error {
		for i := range n {
			if _, err := b.table.Create(t.Context(), tx, "root", Row{Path: fmt.Sprintf("team/%d/", i), Type: "kv"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	b.backend.FailReads(true)
	b.open()
	b.backend.FailReads(false)
	if got := b.route("team/9999/x"); got != "team/9999/|x" {
		t.Errorf("got %s", got)
	}
}

func FuzzRoute(f *testing.F) {
	for _, s := range []string{"", "/", "a", "a/", "a/b/c", "//", "auth/x/y", "\x00", strings.Repeat("a/", 40)} {
		f.Add(s)
	}
	b := newBench(f)
	b.create("a/", "b/c/", "auth/x/")
	f.Fuzz(func(t *testing.T, path string) {
		err := b.db.View(t.Context(), func(tx storage.Tx) error {
			e, rest, err := b.table.Route(tx, "root", path)
			if errors.Is(err, storage.ErrNotFound) {
				return nil
			}
			if err == nil && e.Path+rest != path && e.Path != path+"/" {
				t.Fatalf("%q is %q and %q", path, e.Path, rest)
			}
			return err
		})
		if err != nil {
			t.Fatalf("%q: %v", path, err)
		}
	})
}

func BenchmarkRoute(b *testing.B) {
	m := newBench(b)
	m.create("secret/", "team/a/b/")
	b.ReportAllocs()
	m.view(func(tx storage.Tx) error {
		for b.Loop() {
			if _, _, err := m.table.Route(tx, "root", "team/a/b/data/x"); err != nil {
				return err
			}
		}
		return nil
	})
}

// Mounts that were made before their engine ran are listed once, in all namespaces.
func TestEnterRunning(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	namespaces := namespace.NewStore(b.db)
	const many = 2*enteredAtOnce + 3
	b.update(func(tx storage.Tx) error {
		n, err := namespaces.Create(tx, namespace.Root(), "a", nil)
		if err != nil {
			return err
		}
		for i := range many {
			ns := namespace.RootID
			if i%2 == 1 {
				ns = n.ID
			}
			for _, typ := range []string{"runs", "kv"} {
				if _, err := b.table.Create(t.Context(), tx, ns, Row{Path: fmt.Sprintf("%s%d/", typ, i), Type: typ}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	running := func() (n int) {
		b.view(func(tx storage.Tx) error {
			list, err := b.table.Running(tx, "runs")
			n = len(list)
			return err
		})
		return n
	}
	if n := running(); n != many {
		t.Errorf("%d are listed as they are made", n)
	}
	for _, want := range []int{many, 0} { // what is marked as done is not done again
		b.update(func(tx storage.Tx) error { return tx.DeletePrefix(RunDir) })
		if err := b.table.EnterRunning(t.Context(), b.db, namespaces); err != nil {
			t.Fatal(err)
		}
		if n := running(); n != want {
			t.Errorf("%d are listed, want %d", n, want)
		}
	}
}
