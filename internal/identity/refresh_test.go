package identity_test

import (
	"testing"
	"time"

	"arca/internal/errs"
	"arca/internal/identity"
	"arca/internal/namespace"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// A group that has lost its alias keeps nobody whom logins no longer name.
func TestRefreshWithoutAlias(t *testing.T) {
	t.Parallel()
	db := storage.Open(storagetest.NewMap(), storage.Config{})
	defer db.Close()
	s := identity.NewStore(db, namespace.NewStore(db))
	now := time.Unix(1e9, 0).UTC()
	login := &identity.Login{
		HasGroups: true, Alias: identity.Alias{Name: "ann", MountAccessor: accessor}, Groups: []identity.Alias{{Name: "ops"}},
	}
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		g := s.NewGroup("root", now)
		g.External, g.Policies = true, []string{"power"}
		if err := s.PutGroup(tx, nil, g, now); err != nil {
			return err
		}
		a := s.NewAlias("root", now)
		a.Name, a.MountAccessor = "ops", accessor
		g, err := s.PutGroupAlias(tx, g, a, now)
		if err != nil {
			return err
		}
		if _, _, err := s.Login(tx, "root", login, now); err != nil {
			return err
		}
		if err := s.DeleteGroupAlias(tx, g, now); err != nil {
			return err
		}
		login.Groups = nil
		e, _, err := s.Login(tx, "root", login, now)
		if err != nil {
			return err
		}
		p, err := s.Person(tx, e.ID)
		if err == nil && len(p.PoliciesIn("root")) != 0 {
			t.Errorf("policies %v, want none", p.PoliciesIn("root"))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Names that fold into one another without having the same lower case are two
// names, and no rename takes another's.
func TestRenameFolding(t *testing.T) {
	t.Parallel()
	db := storage.Open(storagetest.NewMap(), storage.Config{})
	defer db.Close()
	s := identity.NewStore(db, namespace.NewStore(db))
	now := time.Unix(1e9, 0).UTC()
	create := func(tx storage.Tx, name string) (*identity.Entity, error) {
		e := s.NewEntity("root", now)
		e.Name = name
		return e, s.PutEntity(tx, nil, e, now)
	}
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		short, err := create(tx, "s")
		if err != nil {
			return err
		}
		long, err := create(tx, "\u017f") // long s
		if err != nil {
			return err
		}
		c := short.Clone()
		c.Name = long.Name
		if err := s.PutEntity(tx, short, c, now); !errs.Is(err, errs.Invalid) {
			t.Errorf("renamed to the name of another: %v", err)
		}
		e, err := s.EntityByName(tx, "root", long.Name)
		if err == nil && e.ID != long.ID {
			t.Errorf("%q is %s, want %s", long.Name, e.ID, long.ID)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
