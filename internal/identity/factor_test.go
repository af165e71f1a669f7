package identity

import (
	"errors"
	"fmt"
	"strings"
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
		if err := tx.Put(foldedKey("root"), []byte(allFolded)); err != nil { // as if it were not done
			return err
		}
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

// Logins bring what earlier versions stored into the new form, some at a time, and
// then find it in any case.
func TestFold(t *testing.T) {
	t.Parallel()
	l := newLands(t)
	const n = 2*foldedAtOnce + 50
	l.update(func(tx storage.Tx) error {
		for i := range n {
			e := l.entity(tx, "")
			for _, key := range []string{factorDir("root", mount) + fmt.Sprint("User", i), groupFactorDir("root", ldapAt) + fmt.Sprint("Group", i)} {
				if err := tx.Put(key, []byte(e.ID+"/x")); err != nil {
					return err
				}
			}
		}
		return tx.Put(factorDir("root", mount)+"user7", []byte("other/y"))
	})
	left := func() (upper int) {
		err := l.db.View(t.Context(), func(tx storage.Tx) error {
			for key, err := range tx.Keys(dir("root"), "") {
				if err != nil {
					return err
				}
				if strings.Contains(key, "/User") || strings.Contains(key, "/Group") {
					upper++
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return upper
	}
	before := left()
	for range 10 {
		l.update(func(tx storage.Tx) error {
			_, _, err := l.Login(tx, "root", &Login{Alias: Alias{Name: "ann", MountAccessor: mount}}, l.now)
			return err
		})
		now := left()
		if before-now > foldedAtOnce {
			t.Errorf("one login moved %d", before-now)
		}
		before = now
	}
	if before != 1 { // User7, as there is a user7
		t.Errorf("%d are left", before)
	}
	l.update(func(tx storage.Tx) error {
		for name, want := range map[string]string{"user7": "other/y", "User7": "", "USER8": ""} {
			got, err := l.factor(tx, factorDir("root", mount), name)
			if err != nil || want != "" && got != want || got == "other/y" && want == "" {
				t.Errorf("%s leads to %s, %v", name, got, err)
			}
		}
		return nil
	})
}
