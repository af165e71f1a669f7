package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

func newDB(tb testing.TB) *storage.DB {
	tb.Helper()
	b, err := pebble.Open(pebble.Config{Memory: true})
	if err != nil {
		tb.Fatal(err)
	}
	db := storage.Open(b, storage.Config{})
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
		if err := b.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

func write(tb testing.TB, db *storage.DB, fn func(tx storage.Tx) error) {
	tb.Helper()
	if err := db.Update(tb.Context(), fn); err != nil {
		tb.Fatal(err)
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	s := NewStore(db)
	write(t, db, func(tx storage.Tx) error { return s.Put(tx, "root", "Team-A", path("a", "read")) })
	err := db.View(t.Context(), func(tx storage.Tx) error {
		for _, name := range []string{"team-a", "TEAM-A"} {
			p, err := s.Get(tx, "root", name)
			if err != nil || p.Name != "team-a" || len(p.Rules) != 1 {
				t.Errorf("%s: %+v, %v", name, p, err)
			}
		}
		if _, err := s.Get(tx, "root", "other"); !errs.Is(err, errs.NotFound) {
			t.Errorf("a policy that is not there: %v", err)
		}
		if p, err := s.Get(tx, "root", "ROOT"); err != nil || p.Name != RootName {
			t.Errorf("root: %+v, %v", p, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, fn := range map[string]func(tx storage.Tx) error{
		"write root":            func(tx storage.Tx) error { return s.Put(tx, "root", "Root", path("a", "read")) },
		"write what is no HCL":  func(tx storage.Tx) error { return s.Put(tx, "root", "x", "path") },
		"delete root":           func(tx storage.Tx) error { return s.Delete(tx, "root", "root") },
		"delete default":        func(tx storage.Tx) error { return s.Delete(tx, "root", "Default") },
		"delete that of wraps":  func(tx storage.Tx) error { return s.Delete(tx, "root", WrappingName) },
		"write no password":     func(tx storage.Tx) error { return PutPassword(t.Context(), tx, "root", "x", "length = 1") },
		"an impossible passwor": func(tx storage.Tx) error { return PutPassword(t.Context(), tx, "root", "x", impossible) },
	} {
		if err := db.Update(t.Context(), fn); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const impossible = `length = 100
rule "charset" { charset = "abcdefghijklmnopqrstuvwxyz" }
rule "charset" { charset = "0" min-chars = 90 }`

func TestList(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	s := NewStore(db)
	write(t, db, func(tx storage.Tx) error {
		for _, name := range []string{DefaultName, "zoo", "ant"} {
			if err := s.Put(tx, "root", name, path("a", "read")); err != nil {
				return err
			}
		}
		return tx.Put(dir("root")+WrappingName, []byte(`{"v":1}`)) // of an earlier version
	})
	for _, c := range []struct {
		after string
		limit int
		want  string
	}{
		{"", 0, "ant default root zoo"},
		{"", 2, "ant default"},
		{"default", 1, "root"},
		{"b", 0, "default root zoo"},
		{"zoo", 0, ""},
	} {
		err := db.View(t.Context(), func(tx storage.Tx) error {
			names, err := s.List(tx, "root", c.after, c.limit)
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("after %q, %d: got %s, want %s", c.after, c.limit, got, c.want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

type subject string

func (s subject) Version() string { return string(s) }

func (s subject) Resolve(_, p string) (string, bool) {
	return strings.ReplaceAll(p, "{{identity.entity.id}}", string(s)), true
}

// An ACL is shared while its policies stay, and never older than they are.
func TestACLCache(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	s := NewStore(db)
	put := func(name, text string) {
		t.Helper()
		write(t, db, func(tx storage.Tx) error { return s.Put(tx, "root", name, text) })
	}
	acl := func(who Subject, names ...string) (a *ACL) {
		t.Helper()
		err := db.View(t.Context(), func(tx storage.Tx) (err error) {
			a, err = s.ACL(tx, []Set{{NamespaceID: "root", Names: names}}, who)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	put("one", path("a", "read"))
	put("two", path("u/{{identity.entity.id}}", "read"))
	first := acl(nil, "gone", "one", "two")
	if again := acl(nil, "one", "two"); again != first {
		t.Error("the same policies were compiled twice")
	}
	if got := acl(nil, "one"); got == first {
		t.Error("other policies gave the same ACL")
	}
	ann, bob := acl(subject("ann"), "two"), acl(subject("bob"), "two")
	if ann == bob || !slices.Equal(ann.Capabilities("u/ann"), []string{"read"}) || !slices.Equal(bob.Capabilities("u/ann"), []string{"deny"}) {
		t.Error("callers share what is resolved by who they are")
	}
	put("one", path("a", "list"))
	if got := acl(nil, "one", "two").Capabilities("a"); !slices.Equal(got, []string{"list"}) {
		t.Errorf("after the change: %v", got)
	}
	write(t, db, func(tx storage.Tx) error { return s.Delete(tx, "root", "one") })
	if got := acl(nil, "one", "two").Capabilities("a"); !slices.Equal(got, []string{"deny"}) {
		t.Errorf("after the end: %v", got)
	}
	if !acl(nil, "one", RootName).Root() {
		t.Error("root is not root")
	}
}

func inRoot(ps ...*Policy) []placed {
	out := make([]placed, len(ps))
	for i, p := range ps {
		out[i].Policy = p
	}
	return out
}

// The cache is bounded by what it holds, not only by the number of ACLs.
func TestACLCacheBounds(t *testing.T) {
	t.Parallel()
	c := newACLCache()
	var text strings.Builder
	for i := range 3000 {
		text.WriteString(path(fmt.Sprint("p", i), "read"))
	}
	for i := range 200 {
		ps := mustParse(t, path(fmt.Sprint(i), "read"))
		if i == 0 {
			ps = mustParse(t, text.String())
		}
		c.get(inRoot(ps...), nil)
		if i > 0 {
			c.get(inRoot(append(ps, mustParse(t, path("x", "read"))...)...), nil)
		}
		if c.rules > maxRules || len(c.acls) > maxACLs {
			t.Fatalf("%d rules in %d ACLs", c.rules, len(c.acls))
		}
	}
	big := mustParse(t, text.String())
	for i := range 2 * maxRules / 3000 {
		c.get(inRoot(big[0], &Policy{Name: fmt.Sprint(i)}), nil)
		if c.rules > maxRules {
			t.Fatalf("%d rules in %d ACLs", c.rules, len(c.acls))
		}
	}
	sum := 0
	for _, a := range c.acls {
		sum += a.acl.size()
	}
	if sum != c.rules {
		t.Errorf("%d rules are counted as %d", sum, c.rules)
	}
}

func BenchmarkACLCacheHit(b *testing.B) {
	db := newDB(b)
	s := NewStore(db)
	write(b, db, func(tx storage.Tx) error {
		for _, name := range []string{"default", "team"} {
			if err := s.Put(tx, "root", name, Default); err != nil {
				return err
			}
		}
		return nil
	})
	b.ReportAllocs()
	err := db.View(context.Background(), func(tx storage.Tx) error {
		for b.Loop() {
			if _, err := s.ACL(tx, []Set{{NamespaceID: "root", Names: []string{"default", "team"}}}, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// In a closed namespace nothing is allowed, whatever policies of others say.
func TestClosedNamespace(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	s := NewStore(db)
	write(t, db, func(tx storage.Tx) error {
		return s.Put(tx, "root", "all", path("*", "read")+path("a/b", "read", "sudo"))
	})
	var a *ACL
	err := db.View(t.Context(), func(tx storage.Tx) (err error) {
		a, err = s.ACL(tx, []Set{{NamespaceID: "root", Names: []string{"all"}}, {NamespaceID: "Tenant", Path: "a/", Closed: true}}, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"a/b": "deny", "a/": "deny", "ab/c": "read", "a": "read"} {
		if got := a.Capabilities(path); got[0] != want {
			t.Errorf("%s: %v, want %s", path, got, want)
		}
	}
	if a.Below("a/kv/") || !a.Below("b/kv/") {
		t.Error("what can be seen does not follow")
	}
	if x := a.Explain(&Request{Op: engine.OpRead, Path: "a/b"}); x.Allowed || x.Why != Denied {
		t.Errorf("%+v", x)
	}
}

// A policy of wrapping tokens that an earlier version let be changed means nothing:
// the built-in rules count, and for wrapping tokens only.
func TestChangedWrappingPolicyIsIgnored(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	s := NewStore(db)
	write(t, db, func(tx storage.Tx) error {
		return tx.Put(dir("root")+WrappingName, []byte(`{"v":1,"policy":"path \"*\" { capabilities = [\"sudo\", \"read\"] }"}`))
	})
	err := db.View(t.Context(), func(tx storage.Tx) error {
		if p, err := s.Get(tx, "root", WrappingName); err != nil || p.Text != Wrapping {
			t.Errorf("read: %+v, %v", p, err)
		}
		proposed := map[string]*Policy{WrappingName: mustParse(t, path("*", "read"))[0]}
		for _, wrapping := range []bool{true, false} {
			sets := []Set{{NamespaceID: "root", Names: []string{WrappingName}, Wrapping: wrapping}}
			acl, err := s.ACL(tx, sets, nil)
			if err != nil {
				return err
			}
			other, err := s.Proposed(tx, sets, nil, "root", proposed)
			if err != nil {
				return err
			}
			for _, a := range []*ACL{acl, other} {
				if a.Allows(&Request{Op: engine.OpRead, Path: "secret/a"}).Allowed {
					t.Errorf("wrapping %v: the stored text counts", wrapping)
				}
				if got := a.Allows(&Request{Op: engine.OpRead, Path: "cubbyhole/response"}).Allowed; got != wrapping {
					t.Errorf("wrapping %v: the built-in rule counts: %v", wrapping, got)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
