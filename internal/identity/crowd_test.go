package identity

import (
	"fmt"
	"sync"
	"testing"

	"arca/internal/storage"
)

// Many who log in for the first time, all into the same external group, get in;
// and the group knows how many they are.
func TestFirstLoginsAtOnce(t *testing.T) {
	t.Parallel()
	l := newLands(t)
	var g *Group
	l.update(func(tx storage.Tx) error {
		g = l.NewGroup("root", l.now)
		g.External = true
		if err := l.PutGroup(tx, nil, g, l.now); err != nil {
			return err
		}
		a := l.NewAlias("root", l.now)
		a.Name, a.MountAccessor = "Everyone", mount
		var err error
		g, err = l.PutGroupAlias(tx, g, a, l.now)
		return err
	})
	var all sync.WaitGroup
	const people = 200
	for i := range people {
		all.Go(func() {
			err := l.db.Update(t.Context(), func(tx storage.Tx) error {
				_, _, err := l.Login(tx, "root", &Login{
					HasGroups: true, Alias: Alias{Name: fmt.Sprint("user", i), MountAccessor: mount}, Groups: []Alias{{Name: "everyone"}},
				}, l.now)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	l.update(func(tx storage.Tx) error {
		members, err := l.Members(tx, "root", g.ID)
		if err != nil {
			return err
		}
		if n, err := l.Count(tx, "root", g.ID); err != nil || n != people || len(members) != people {
			t.Errorf("%d members, counted %d, %v", len(members), n, err)
		}
		return nil
	})
}
