package identity

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"arca/internal/storage"
)

const (
	mount  = "auth_userpass_1"
	ldapAt = "auth_ldap_1"
)

// Names of aliases are one regardless of case, as in Vault.
func TestAliasInAnyCase(t *testing.T) {
	t.Parallel()
	l := newLands(t)
	l.update(func(tx storage.Tx) error {
		login := func(name string) (string, bool) {
			e, made, err := l.Login(tx, "root", &Login{Alias: Alias{Name: name, MountAccessor: mount}}, l.now)
			if err != nil {
				t.Fatal(err)
			}
			return e.ID, made
		}
		first, made := login("Alice")
		again, madeAgain := login("aLICE")
		if !made || madeAgain || again != first {
			t.Errorf("two entities: %s, %s", first, again)
		}
		e, a, err := l.EntityByAlias(tx, "root", mount, "alice")
		if err != nil || e.ID != first || a.Name != "Alice" {
			t.Errorf("%+v, %v: the name stays as it came first", a, err)
		}
		if err := l.DeleteEntity(tx, e); err != nil {
			return err
		}
		if _, _, err := l.EntityByAlias(tx, "root", mount, "Alice"); !errors.Is(err, ErrNotFound) {
			t.Errorf("still there: %v", err)
		}
		return nil
	})
}

// What an earlier version stored is found, and of two that differ in nothing but
// case each stays whose it was.
func TestAliasesOfEarlierVersions(t *testing.T) {
	t.Parallel()
	l := newLands(t)
	l.update(func(tx storage.Tx) error {
		store := func(name string) *Entity { // as it was done
			e := l.entity(tx, "")
			c := e.Clone()
			c.Aliases = []Alias{{ID: NewID("root"), Name: name, MountAccessor: mount}}
			for key, to := range map[string]string{
				aliasKey("root", c.Aliases[0].ID): e.ID, factorDir("root", mount) + name: e.ID + "/" + c.Aliases[0].ID,
			} {
				if err := tx.Put(key, []byte(to)); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.PutEntity(tx, e, c, l.now); err != nil {
				t.Fatal(err)
			}
			return c
		}
		upper, lower, alone := store("Bob"), store("bob"), store("Carol")
		for name, want := range map[string]*Entity{"Bob": upper, "bob": lower, "BOB": lower, "Carol": alone} {
			for range 2 { // the second time it has been written anew
				e, made, err := l.Login(tx, "root", &Login{
					Alias: Alias{Name: name, MountAccessor: mount, Metadata: map[string]string{"n": newRev()}},
				}, l.now)
				if err != nil || made || e.ID != want.ID {
					t.Errorf("%s is %s, %v; want %s", name, e.ID, err, want.ID)
				}
			}
		}
		if e, _, err := l.EntityByAlias(tx, "root", mount, "carol"); err != nil || e.ID != alone.ID {
			t.Errorf("once written, it has its name in lower case: %v", err)
		}
		for _, id := range []string{upper.ID, alone.ID} {
			e, err := l.Entity(tx, "root", id)
			if err != nil {
				return err
			}
			if err := l.DeleteEntity(tx, e); err != nil {
				return err
			}
		}
		if e, _, err := l.EntityByAlias(tx, "root", mount, "Bob"); err != nil || e.ID != lower.ID {
			t.Errorf("the other one went, too: %v", err)
		}
		return nil
	})
}

// A directory that gives names of groups in lower case finds the alias that an
// administrator wrote otherwise.
func TestExternalGroupInAnyCase(t *testing.T) {
	t.Parallel()
	l := newLands(t)
	l.update(func(tx storage.Tx) error {
		g := l.NewGroup("root", l.now)
		g.External, g.Policies = true, []string{"power"}
		if err := l.PutGroup(tx, nil, g, l.now); err != nil {
			return err
		}
		a := l.NewAlias("root", l.now)
		a.Name, a.MountAccessor = "Engineering", ldapAt
		g, err := l.PutGroupAlias(tx, g, a, l.now)
		if err != nil {
			return err
		}
		login := &Login{HasGroups: true, Alias: Alias{Name: "ann", MountAccessor: ldapAt}, Groups: []Alias{{Name: "engineering"}, {Name: "ENGINEERING"}}}
		e, _, err := l.Login(tx, "root", login, l.now)
		if err != nil {
			return err
		}
		p, err := l.Person(tx, e.ID)
		if err != nil || len(p.PoliciesIn("root")) != 1 {
			t.Errorf("policies %v, %v", p.PoliciesIn("root"), err)
		}
		if n, err := l.Count(tx, "root", g.ID); err != nil || n != 1 {
			t.Errorf("%d members, %v", n, err)
		}
		login.Groups = nil
		if _, _, err := l.Login(tx, "root", login, l.now); err != nil {
			return err
		}
		if n, err := l.Count(tx, "root", g.ID); err != nil || n != 0 {
			t.Errorf("%d members, %v", n, err)
		}
		if err := l.DeleteGroupAlias(tx, g, l.now); err != nil {
			return err
		}
		_, err = l.GroupByAlias(tx, "root", ldapAt, "Engineering")
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("still there: %v", err)
		}
		return nil
	})
}

// older stores names in two indexes as earlier versions did.
func (l *lands) older(ns string, groups, entities int) {
	l.t.Helper()
	l.update(func(tx storage.Tx) error {
		for prefix, n := range map[string]int{groupFactorDir(ns, ldapAt) + "Group": groups, factorDir(ns, mount) + "User": entities} {
			for i := range n {
				if err := tx.Put(fmt.Sprint(prefix, i), []byte("one/x")); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// upper are the names in indexes that are not in lower case.
func (l *lands) upper() (list []string) {
	l.t.Helper()
	err := l.db.View(l.t.Context(), func(tx storage.Tx) error {
		for key, err := range tx.Keys("n/", "") {
			if err != nil {
				return err
			}
			if strings.Contains(key, "/User") || strings.Contains(key, "/Group") {
				list = append(list, key)
			}
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return list
}

// What earlier versions stored comes into the new form, in every namespace, however
// many there are, a bounded number in a transaction; and is then found in any case.
func TestFold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ groups, entities int }{
		{0, 0}, {0, 1}, {1, 0}, {foldedAtOnce, 1}, {foldedAtOnce, 0}, {foldedAtOnce - 1, foldedAtOnce}, {2 * foldedAtOnce, 2*foldedAtOnce + 50},
	} {
		t.Run(fmt.Sprint(c.groups, "+", c.entities), func(t *testing.T) {
			t.Parallel()
			l := newLands(t, [2]string{"", "a"}, [2]string{"a/", "b"})
			for _, ns := range l.ids {
				l.older(ns, c.groups, c.entities)
			}
			root := l.ids[""]
			l.update(func(tx storage.Tx) error { return tx.Put(factorDir(root, mount)+"user7", []byte("other/y")) })
			var writes atomic.Int64
			defer l.db.Watch("", func(ch storage.Change) {
				writes.Add(1)
				if len(ch.Keys) > 2*foldedAtOnce {
					t.Errorf("one transaction wrote %d keys", len(ch.Keys))
				}
			})()
			for range 2 {
				if err := l.Fold(t.Context(), l.db); err != nil {
					t.Fatal(err)
				}
			}
			want := ""
			if c.entities > 7 {
				want = factorDir(root, mount) + "User7" // there is a user7
			}
			if got := strings.Join(l.upper(), " "); got != want {
				t.Errorf("left: %s; want %s", got, want)
			}
			l.update(func(tx storage.Tx) error {
				for name, want := range map[string]string{"user7": "other/y", "USER7": "other/y", "USER0": "one/x"} {
					if c.entities == 0 && want == "one/x" {
						continue
					}
					if got, err := l.factor(tx, factorDir(root, mount), name); err != nil || got != want {
						t.Errorf("%s leads to %s, %v", name, got, err)
					}
				}
				return nil
			})
			before := writes.Load()
			if err := l.Fold(t.Context(), l.db); err != nil || writes.Load() != before {
				t.Errorf("it writes when all is done: %v", err)
			}
		})
	}
}

// Logins write nothing for names of others: none stands against another.
func TestLoginFoldsNothing(t *testing.T) {
	t.Parallel()
	l := newLands(t)
	login := func(tx storage.Tx) error {
		_, _, err := l.Login(tx, "root", &Login{Alias: Alias{Name: "ann", MountAccessor: mount}}, l.now)
		return err
	}
	l.older("root", 3*foldedAtOnce, 1)
	l.update(login)
	defer l.db.Watch("", func(ch storage.Change) { t.Errorf("a login wrote %q", ch.Keys) })()
	l.update(login)
}

// Fold goes on beside those who log in, and neither takes an alias from the other.
func TestFoldBesideLogins(t *testing.T) {
	t.Parallel()
	l := newLands(t)
	const people = 50
	ids := make([]string, people)
	login := func(tx storage.Tx, i int) (*Entity, error) {
		e, _, err := l.Login(tx, "root", &Login{Alias: Alias{
			Name: fmt.Sprint("User", i), MountAccessor: mount, Metadata: map[string]string{"n": newRev()},
		}}, l.now)
		return e, err
	}
	l.update(func(tx storage.Tx) error {
		for i := range people {
			e, err := login(tx, i)
			if err != nil {
				return err
			}
			ids[i] = e.ID
			at := factorDir("root", mount)
			if err := tx.Delete(at + fmt.Sprint("user", i)); err != nil {
				return err
			}
			if err := tx.Put(at+fmt.Sprint("User", i), []byte(e.ID+"/"+e.Aliases[0].ID)); err != nil {
				return err
			}
		}
		return nil
	})
	var all sync.WaitGroup
	all.Go(func() {
		if err := l.Fold(t.Context(), l.db); err != nil {
			t.Error(err)
		}
	})
	for i, id := range ids {
		all.Go(func() {
			err := l.db.Update(t.Context(), func(tx storage.Tx) error {
				e, err := login(tx, i)
				if err == nil && e.ID != id {
					return fmt.Errorf("User%d is %s, was %s", i, e.ID, id)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if left := l.upper(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
