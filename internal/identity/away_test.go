package identity

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// lands is a store with namespaces, in which groups are made.
type lands struct {
	*Store
	t   *testing.T
	db  *storage.DB
	now time.Time
	ids map[string]string // of namespaces, by path
}

func newLands(t *testing.T, paths ...[2]string) *lands {
	t.Helper()
	db := storage.Open(storagetest.NewMap(), storage.Config{})
	t.Cleanup(func() { _ = db.Close() })
	ns := namespace.NewStore(db)
	l := &lands{Store: NewStore(db, ns), t: t, db: db, now: time.Unix(1e9, 0).UTC(), ids: map[string]string{"": namespace.RootID}}
	l.update(func(tx storage.Tx) error {
		for _, p := range paths {
			parent, err := ns.ByID(tx, l.ids[p[0]])
			if err != nil {
				return err
			}
			n, err := ns.Create(tx, parent, p[1], nil)
			if err != nil {
				return err
			}
			l.ids[n.Path] = n.ID
		}
		return nil
	})
	return l
}

func (l *lands) update(fn func(tx storage.Tx) error) {
	l.t.Helper()
	if err := l.db.Update(l.t.Context(), fn); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lands) entity(tx storage.Tx, path string) *Entity {
	l.t.Helper()
	e := l.NewEntity(l.ids[path], l.now)
	if err := l.PutEntity(tx, nil, e, l.now); err != nil {
		l.t.Fatal(err)
	}
	return e
}

// group makes a group around an entity and groups, with a policy of its name.
func (l *lands) group(tx storage.Tx, path, name string, entity *Entity, within ...string) *Group {
	l.t.Helper()
	g := l.NewGroup(l.ids[path], l.now)
	g.Policies = []string{name}
	if name == "" {
		g.Policies = nil
	}
	if err := l.PutGroup(tx, nil, g, l.now); err != nil {
		l.t.Fatal(err)
	}
	if entity != nil {
		if err := l.SetMembers(tx, g, []string{entity.ID}); err != nil {
			l.t.Fatal(err)
		}
	}
	g, err := l.SetMemberGroups(tx, g, within)
	if err != nil {
		l.t.Fatal(err)
	}
	return g
}

// flood makes more groups around an entity than are looked at.
func (l *lands) flood(tx storage.Tx, path string, e *Entity) {
	l.t.Helper()
	for n := 0; n <= maxGuest; {
		first := l.group(tx, path, "flood", e)
		for range 24 {
			second := l.group(tx, path, "flood", nil, first.ID)
			for range 24 {
				l.group(tx, path, "flood", nil, second.ID)
				n++
			}
		}
	}
}

func (l *lands) person(e *Entity) *Person {
	l.t.Helper()
	var p *Person
	err := l.db.View(l.t.Context(), func(tx storage.Tx) (err error) {
		p, err = l.Person(tx, e.ID)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

// However many groups other namespaces make around an entity, those of its own
// and of the namespaces above hold, what they deny included; and a request looks
// at a bounded number.
func TestGroupsOfOthersPushNothingOut(t *testing.T) {
	t.Parallel()
	l := newLands(t, [2]string{"", "a"}, [2]string{"", "b"}, [2]string{"b/", "c"})
	var e *Entity
	l.update(func(tx storage.Tx) error {
		e = l.entity(tx, "b/")
		r1 := l.group(tx, "", "", e)
		r2 := l.group(tx, "", "", nil, r1.ID)
		l.group(tx, "", "no", nil, r2.ID)
		l.group(tx, "b/c/", "below", e)
		return nil
	})
	for range 3 {
		l.update(func(tx storage.Tx) error {
			l.flood(tx, "a/", e)
			return nil
		})
	}
	p := l.person(e)
	if got := p.PoliciesIn("root"); !slices.Equal(got, []string{"no"}) || len(p.Groups) != 4 || len(p.Crowded) != 0 {
		t.Errorf("policies %v by %d groups, crowded %v", got, len(p.Groups), p.Crowded)
	}
	if again := l.person(e); again != p {
		t.Error("the person was put together again")
	}
	// Nor do they make what is compiled for the person be made anew.
	l.update(func(tx storage.Tx) error {
		r1, err := l.Group(tx, "root", p.Direct[0])
		if err != nil {
			return err
		}
		l.group(tx, "a/", "", nil, r1.ID)
		return nil
	})
	if now := l.person(e); now.Version() != p.Version() {
		t.Error("a group of others around one of ours changes the person")
	}
	// Where policies hold everywhere, the namespace that overdoes it is closed.
	l.update(func(tx storage.Tx) error { return l.SetAllNamespaces(tx, true) })
	p = l.person(e)
	if got := p.PoliciesIn("root"); !slices.Equal(got, []string{"no"}) || len(p.Groups) > maxGuest+4 {
		t.Errorf("policies %v by %d groups", got, len(p.Groups))
	}
	if len(p.PoliciesIn(l.ids["b/c/"])) != 1 || !slices.Equal(p.Crowded, []string{l.ids["a/"]}) || len(p.PoliciesIn(l.ids["a/"])) != 0 {
		t.Errorf("crowded %v, want %s alone; policies there %v", p.Crowded, l.ids["a/"], p.PoliciesIn(l.ids["a/"]))
	}
}

// Nobody makes another namespace's groups unlookable by groups in their own child
// namespaces: those above come first.
func TestCrowdedFromBelow(t *testing.T) {
	t.Parallel()
	l := newLands(t, [2]string{"", "a"}, [2]string{"a/", "x"}, [2]string{"a/", "y"}, [2]string{"a/y/", "1"}, [2]string{"a/y/", "2"}, [2]string{"a/y/", "3"})
	var e *Entity
	l.update(func(tx storage.Tx) error {
		e = l.entity(tx, "")
		return nil
	})
	for _, path := range []string{"a/y/1/", "a/y/2/", "a/y/3/", "a/y/"} {
		l.update(func(tx storage.Tx) error {
			l.flood(tx, path, e)
			return nil
		})
	}
	l.update(func(tx storage.Tx) error {
		l.group(tx, "a/x/", "x", e)
		l.group(tx, "a/", "a", e)
		return nil
	})
	p := l.person(e)
	if len(p.PoliciesIn(l.ids["a/x/"])) != 1 || len(p.PoliciesIn(l.ids["a/"])) != 1 {
		t.Errorf("pushed out: crowded %v", p.Crowded)
	}
	if !slices.Contains(p.Crowded, l.ids["a/y/"]) || len(p.Groups) > maxBranch {
		t.Errorf("crowded %v, %d groups", p.Crowded, len(p.Groups))
	}
}

// Who fills up what an entity or group may be in leaves room for the namespaces
// that it belongs to.
func TestRoomForThoseAbove(t *testing.T) {
	t.Parallel()
	l := newLands(t, [2]string{"", "a"}, [2]string{"a/", "sub"}, [2]string{"", "b"})
	l.update(func(tx storage.Tx) error {
		e := l.entity(tx, "b/")
		in := l.group(tx, "b/", "", nil)
		list := func(path string, n int) {
			have, err := l.DirectGroups(tx, e.ID)
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				g := l.NewGroup(l.ids[path], l.now)
				if err := l.PutGroup(tx, nil, g, l.now); err != nil {
					t.Fatal(err)
				}
				have = append(have, g.ID)
			}
			if err := put(tx, memberOfKey(e.NamespaceID, e.ID), have); err != nil {
				t.Fatal(err)
			}
			c := in.Clone()
			c.Parents = have
			if err := l.write(tx, c, l.now); err != nil {
				t.Fatal(err)
			}
		}
		try := func(path string, want bool) {
			t.Helper()
			g := l.NewGroup(l.ids[path], l.now)
			if err := l.PutGroup(tx, nil, g, l.now); err != nil {
				t.Fatal(err)
			}
			first := l.SetMembers(tx, g, []string{e.ID})
			_, second := l.SetMemberGroups(tx, g, []string{in.ID})
			for _, err := range []error{first, second} {
				if want && err != nil || !want && !errs.Is(err, errs.Invalid) {
					t.Errorf("a group of %q: %v, want room: %t", path, err, want)
				}
			}
		}
		list("a/", maxGuestGroups-1)
		try("a/", true)
		try("a/", false)
		list("a/sub/", maxBranchGroups-maxGuestGroups-1)
		try("a/sub/", true)
		try("a/sub/", false)
		try("", true)
		try("b/", true)
		// Groups that are gone make room.
		have, err := l.DirectGroups(tx, e.ID)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(have, func(id string) bool { return NamespaceOf(id) == l.ids["a/"] })
		gone, err := l.Group(tx, l.ids["a/"], have[i])
		if err != nil {
			return err
		}
		if err := l.DeleteGroup(tx, gone, l.now); err != nil {
			return err
		}
		try("a/", true)
		return nil
	})
}

// Templates of a policy mean the groups of its namespace, whatever others call
// theirs.
func TestNamesOfGroupsOfOthers(t *testing.T) {
	t.Parallel()
	l := newLands(t, [2]string{"", "a"})
	var e *Entity
	var theirs *Group
	l.update(func(tx storage.Tx) error {
		e = l.entity(tx, "")
		theirs = l.NewGroup(l.ids["a/"], l.now)
		theirs.Name, theirs.Metadata = "eng", map[string]string{"team": "finance"}
		if err := l.PutGroup(tx, nil, theirs, l.now); err != nil {
			return err
		}
		return l.SetMembers(tx, theirs, []string{e.ID})
	})
	p := l.person(e)
	const path = "secret/{{identity.groups.names.eng.metadata.team}}/*"
	if got, ok := p.Resolve("root", path); ok {
		t.Errorf("the group of another namespace gives access to %s", got)
	}
	if got, ok := p.Resolve(l.ids["a/"], path); !ok || got != "secret/finance/*" {
		t.Errorf("in its own namespace: %q, %t", got, ok)
	}
	if got, ok := p.Resolve("root", "x/{{identity.groups.ids."+theirs.ID+".name}}"); !ok || got != "x/eng" {
		t.Errorf("by its id: %q, %t", got, ok)
	}
}

// Whoever asks for a group by its id learns of members in any namespace.
func TestInGroup(t *testing.T) {
	t.Parallel()
	l := newLands(t, [2]string{"", "a"}, [2]string{"", "b"})
	l.update(func(tx storage.Tx) error {
		e := l.entity(tx, "b/")
		a1 := l.group(tx, "a/", "", e)
		a2 := l.group(tx, "a/", "", nil, a1.ID)
		b1 := l.group(tx, "b/", "", e)
		r1 := l.group(tx, "", "", nil, b1.ID)
		other := l.group(tx, "a/", "", nil)
		p, err := l.Person(tx, e.ID)
		if err != nil {
			return err
		}
		for g, want := range map[*Group]bool{a1: true, a2: true, b1: true, r1: true, other: false} {
			if in, err := l.InGroup(tx, p, []string{"x", g.ID}); err != nil || in != want {
				t.Errorf("in %s: %t, %v; want %t", g.ID, in, err, want)
			}
		}
		return nil
	})
}

// The number of a group's members is kept, however they come and go; a group goes
// in one step, however many they are.
func TestManyMembers(t *testing.T) {
	t.Parallel()
	l := newLands(t)
	var g *Group
	var e *Entity
	count := func() (n int) {
		l.t.Helper()
		err := l.db.View(t.Context(), func(tx storage.Tx) (err error) {
			n, err = l.Count(tx, "root", g.ID)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	l.update(func(tx storage.Tx) error {
		e = l.entity(tx, "")
		g = l.group(tx, "", "", e)
		return nil
	})
	if n := count(); n != 1 {
		t.Errorf("%d members, want 1", n)
	}
	l.update(func(tx storage.Tx) error { // as an earlier version left it
		return tx.Delete(memberCount("root", g.ID))
	})
	for part := range 2 {
		l.update(func(tx storage.Tx) error {
			for i := range 33_000 {
				if err := tx.Put(fmt.Sprintf("%s%d-%d", memberDir("root", g.ID), part, i), []byte{1}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	l.update(func(tx storage.Tx) error { return l.DeleteEntity(tx, e) })
	if n := count(); n != 66_000 {
		t.Errorf("%d members, want 66000", n)
	}
	err := l.db.Update(t.Context(), func(tx storage.Tx) error { return l.SetMembers(tx, g, nil) })
	if !errs.Is(err, errs.Invalid) {
		t.Errorf("66,000 members went in one request: %v", err)
	}
	l.update(func(tx storage.Tx) error { return l.DeleteGroup(tx, g, l.now) })
	err = l.db.View(t.Context(), func(tx storage.Tx) error {
		for key, err := range tx.Keys("", "") {
			t.Errorf("left %s, %v", key, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestBranch(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"", "a/", "a/"},
		{"", "a/b/", "a/"},
		{"a/", "a/b/c/", "a/b/"},
		{"a/b/", "a/bc/d/", "a/bc/"},
		{"a/b/", "x/", "x/"},
		{"a/b/c/", "a/x/y/", "a/x/"},
		{"ab/", "a/", "a/"},
	} {
		if got := branch(c[0], c[1]); got != c[2] {
			t.Errorf("branch of %q from %q is %q, want %q", c[1], c[0], got, c[2])
		}
	}
}
