package identity_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"arca/internal/identity"
	"arca/internal/namespace"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// A world is what the store should hold, kept in maps.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	db      *storage.DB
	store   *identity.Store
	now     time.Time
	alias   map[string]string          // alias name: entity id
	members map[string]map[string]bool // group id: entity ids
	inside  map[string]map[string]bool // group id: group ids
	policy  map[string]string          // entity or group id: its policy
	merged  map[string]string
}

const accessor = "auth_x_1"

func (w *world) update(fn func(tx storage.Tx) error) {
	w.t.Helper()
	if err := w.db.Update(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func pick[V any](w *world, m map[string]V) (string, bool) {
	keys := slices.Sorted(maps.Keys(m))
	if len(keys) == 0 {
		return "", false
	}
	return keys[w.rng.IntN(len(keys))], true
}

func (w *world) entities() map[string]bool {
	out := map[string]bool{}
	for _, id := range w.alias {
		out[id] = true
	}
	return out
}

func (w *world) login() {
	name := fmt.Sprintf("user%d", w.rng.IntN(12))
	w.update(func(tx storage.Tx) error {
		e, created, err := w.store.Login(tx, "root", &identity.Login{Alias: identity.Alias{Name: name, MountAccessor: accessor}}, w.now)
		if err != nil {
			return err
		}
		if want := w.alias[name]; created != (want == "") || !created && want != e.ID {
			w.t.Errorf("login of %s: %s, made: %t; want %s", name, e.ID, created, want)
		}
		w.alias[name] = e.ID
		return nil
	})
}

func (w *world) setPolicy() {
	id, ok := pick(w, w.entities())
	if !ok {
		return
	}
	p := fmt.Sprintf("p%d", w.rng.IntN(1000))
	w.update(func(tx storage.Tx) error {
		e, err := w.store.Entity(tx, "root", id)
		if err != nil {
			return err
		}
		c := e.Clone()
		c.Policies = []string{p}
		return w.store.PutEntity(tx, e, c, w.now)
	})
	w.policy[id] = p
}

func (w *world) newGroup() {
	if len(w.members) > 8 {
		return
	}
	w.update(func(tx storage.Tx) error {
		g := w.store.NewGroup("root", w.now)
		g.Policies = []string{fmt.Sprintf("g%d", w.rng.IntN(1000))}
		w.members[g.ID], w.inside[g.ID], w.policy[g.ID] = map[string]bool{}, map[string]bool{}, g.Policies[0]
		return w.store.PutGroup(tx, nil, g, w.now)
	})
}

func (w *world) subset(of map[string]bool) map[string]bool {
	out := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(of)) {
		if w.rng.IntN(3) == 0 {
			out[id] = true
		}
	}
	return out
}

func (w *world) setMembers() {
	id, ok := pick(w, w.members)
	if !ok {
		return
	}
	w.members[id] = w.subset(w.entities())
	w.update(func(tx storage.Tx) error {
		g, err := w.store.Group(tx, "root", id)
		if err != nil {
			return err
		}
		return w.store.SetMembers(tx, g, slices.Sorted(maps.Keys(w.members[id])))
	})
}

// reaches reports whether group is in one of what is inside id, at any depth.
func (w *world) reaches(id, group string) bool {
	for in := range w.inside[id] {
		if in == group || w.reaches(in, group) {
			return true
		}
	}
	return false
}

func (w *world) setInside() {
	id, ok := pick(w, w.members)
	if !ok {
		return
	}
	all := map[string]bool{}
	for g := range w.members {
		all[g] = true
	}
	want := w.subset(all)
	circle := want[id]
	for g := range want {
		circle = circle || w.reaches(g, id)
	}
	err := w.db.Update(w.t.Context(), func(tx storage.Tx) error {
		g, err := w.store.Group(tx, "root", id)
		if err != nil {
			return err
		}
		_, err = w.store.SetMemberGroups(tx, g, slices.Sorted(maps.Keys(want)))
		return err
	})
	if (err != nil) != circle {
		w.t.Fatalf("%v into %s: %v, a circle: %t", want, id, err, circle)
	}
	if !circle {
		w.inside[id] = want
	}
}

func (w *world) deleteGroup() {
	id, ok := pick(w, w.members)
	if !ok {
		return
	}
	delete(w.members, id)
	delete(w.inside, id)
	for _, in := range w.inside {
		delete(in, id)
	}
	w.update(func(tx storage.Tx) error {
		g, err := w.store.Group(tx, "root", id)
		if err != nil {
			return err
		}
		return w.store.DeleteGroup(tx, g, w.now)
	})
}

func (w *world) deleteEntity() {
	id, ok := pick(w, w.entities())
	if !ok {
		return
	}
	maps.DeleteFunc(w.alias, func(_, e string) bool { return e == id })
	maps.DeleteFunc(w.merged, func(_, to string) bool { return to == id })
	for _, m := range w.members {
		delete(m, id)
	}
	w.update(func(tx storage.Tx) error {
		e, err := w.store.Entity(tx, "root", id)
		if err != nil {
			return err
		}
		return w.store.DeleteEntity(tx, e)
	})
}

func (w *world) merge() {
	from, ok := pick(w, w.entities())
	to, _ := pick(w, w.entities())
	if !ok || from == to {
		return
	}
	for name, id := range w.alias {
		if id == from {
			w.alias[name] = to
		}
	}
	for _, m := range w.members {
		if m[from] {
			delete(m, from)
			m[to] = true
		}
	}
	for old, into := range w.merged {
		if into == from {
			w.merged[old] = to
		}
	}
	w.merged[from] = to
	w.update(func(tx storage.Tx) error {
		f, err := w.store.Entity(tx, "root", from)
		if err != nil {
			return err
		}
		t, err := w.store.Entity(tx, "root", to)
		if err != nil {
			return err
		}
		_, err = w.store.Merge(tx, t, f, w.now)
		return err
	})
}

// groupsOf are the groups of an entity by the model.
func (w *world) groupsOf(id string) map[string]bool {
	out := map[string]bool{}
	for g, m := range w.members {
		if !m[id] {
			continue
		}
		out[g] = true
		for above := range w.members {
			if w.reaches(above, g) {
				out[above] = true
			}
		}
	}
	return out
}

func (w *world) check() {
	w.t.Helper()
	err := w.db.View(w.t.Context(), func(tx storage.Tx) error {
		n, err := w.store.CountEntities(tx, "root", 1000)
		if err != nil || n != len(w.entities()) {
			w.t.Errorf("%d entities, %v; want %d", n, err, len(w.entities()))
		}
		for id := range w.entities() {
			groups := w.groupsOf(id)
			want := []string{}
			if p := w.policy[id]; p != "" {
				want = append(want, p)
			}
			for g := range groups {
				want = append(want, w.policy[g])
			}
			for range 2 { // the second is the one that was kept
				p, err := w.store.Person(tx, id)
				if err != nil {
					return err
				}
				if got := identity.CleanPolicies(want); !slices.Equal(p.PoliciesIn("root"), got) || len(p.Groups) != len(groups) {
					w.t.Errorf("%s has %v by %d groups, want %v by %d", id, p.PoliciesIn("root"), len(p.Groups), got, len(groups))
				}
			}
		}
		for old, into := range w.merged {
			if p, err := w.store.Person(tx, old); err != nil || p.Entity.ID != into {
				w.t.Errorf("merged %s is %+v, %v; want %s", old, p, err, into)
			}
		}
		for name, id := range w.alias {
			if e, _, err := w.store.EntityByAlias(tx, "root", accessor, name); err != nil || e.ID != id {
				w.t.Errorf("alias %s: %+v, %v; want %s", name, e, err, id)
			}
		}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
}

// Random operations leave the store as they leave maps.
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		db := storage.Open(storagetest.NewMap(), storage.Config{})
		w := &world{
			t: t, rng: rand.New(rand.NewPCG(seed, 1)), db: db, store: identity.NewStore(db, namespace.NewStore(db)), now: time.Unix(1e9, 0).UTC(),
			alias: map[string]string{}, members: map[string]map[string]bool{}, inside: map[string]map[string]bool{},
			policy: map[string]string{}, merged: map[string]string{},
		}
		steps := []func(){w.login, w.login, w.login, w.setPolicy, w.newGroup, w.setMembers, w.setInside, w.setInside, w.deleteGroup, w.deleteEntity, w.merge}
		for range 120 {
			steps[w.rng.IntN(len(steps))]()
			w.check()
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		for id := range w.entities() {
			w.update(func(tx storage.Tx) error {
				e, err := w.store.Entity(tx, "root", id)
				if err != nil {
					return err
				}
				return w.store.DeleteEntity(tx, e)
			})
		}
		for id := range w.members {
			w.update(func(tx storage.Tx) error {
				g, err := w.store.Group(tx, "root", id)
				if err != nil {
					return err
				}
				return w.store.DeleteGroup(tx, g, w.now)
			})
		}
		w.update(func(tx storage.Tx) error {
			for key, err := range tx.Keys("", "") {
				t.Errorf("seed %d: left %s, %v", seed, key, err)
			}
			return nil
		})
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func FuzzResolve(f *testing.F) {
	for _, s := range []string{
		"a/{{identity.entity.name}}/*", "{{", "}}", "{{identity.entity.metadata.a}}", "{{identity.groups.names.a.b.id}}", "{{ identity.entity.id }}x",
		"{{identity.entity.aliases.auth_x_1.name}}", "{{identity.groups.ids.g.metadata.k}}", "{{{{}}}}",
	} {
		f.Add(s, "value")
		f.Add(s, "*")
		f.Add(s, "a/+/b")
	}
	f.Fuzz(func(t *testing.T, path, value string) {
		p := &identity.Person{
			Entity: &identity.Entity{ID: "e", Name: value, Metadata: map[string]string{"a": value}},
			Groups: []*identity.Group{{ID: "g", NamespaceID: "root", Name: "a.b", Metadata: map[string]string{"k": value}}},
		}
		out, ok := p.Resolve("root", path)
		if ok && strings.Contains(path, "{{identity.entity.name}}") && value != "" && !strings.Contains(out, value) {
			t.Errorf("%q with %q became %q", path, value, out)
		}
	})
}

// A person who is switched off or gone is nobody.
func TestNobody(t *testing.T) {
	t.Parallel()
	db := storage.Open(storagetest.NewMap(), storage.Config{})
	defer db.Close()
	s := identity.NewStore(db, namespace.NewStore(db))
	now := time.Unix(1e9, 0).UTC()
	login := &identity.Login{Alias: identity.Alias{Name: "ann", MountAccessor: accessor}}
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		e, _, err := s.Login(tx, "root", login, now)
		if err != nil {
			return err
		}
		c := e.Clone()
		c.Disabled = true
		if err := s.PutEntity(tx, e, c, now); err != nil {
			return err
		}
		if _, err := s.Person(tx, e.ID); !errors.Is(err, identity.ErrDisabled) {
			t.Errorf("a person switched off: %v", err)
		}
		if _, _, err := s.Login(tx, "root", login, now); !errors.Is(err, identity.ErrDisabled) {
			t.Errorf("logged in though switched off: %v", err)
		}
		for _, id := range []string{"", "x", "../e/" + e.ID, e.ID + "/"} {
			if _, err := s.Person(tx, id); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("%q: %v", id, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
