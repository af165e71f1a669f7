package identity

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// Group finds a group by its id. The error is ErrNotFound when there is none.
func (s *Store) Group(tx storage.Tx, ns, id string) (*Group, error) {
	if !ValidID(id) {
		return nil, ErrNotFound
	}
	return get(s.groups, tx, groupKey(ns, id))
}

// GroupByName finds a group by its name, in any case.
func (s *Store) GroupByName(tx storage.Tx, ns, name string) (*Group, error) {
	id, err := get(s.texts, tx, groupNameKey(ns, name))
	if err != nil {
		return nil, err
	}
	return s.Group(tx, ns, id)
}

// GroupByAlias finds an external group by its name at an auth mount, in any case.
func (s *Store) GroupByAlias(tx storage.Tx, ns, accessor, name string) (*Group, error) {
	if !ValidID(accessor) || len(name) > maxNameBytes {
		return nil, ErrNotFound
	}
	id, err := s.factor(tx, groupFactorDir(ns, accessor), name)
	if err != nil {
		return nil, err
	}
	return s.Group(tx, ns, id)
}

// GroupByAliasID finds the group that has an alias.
func (s *Store) GroupByAliasID(tx storage.Tx, ns, aliasID string) (*Group, error) {
	if !ValidID(aliasID) {
		return nil, ErrNotFound
	}
	id, err := get(s.texts, tx, groupAliasKey(ns, aliasID))
	if err != nil {
		return nil, err
	}
	return s.Group(tx, ns, id)
}

// GroupIDs lists the ids of groups in order.
func (s *Store) GroupIDs(tx storage.Tx, ns, after string, limit int) ([]string, error) {
	return tx.List(dir(ns)+"g/", after, limit)
}

// GroupNames lists the names of groups.
func (s *Store) GroupNames(tx storage.Tx, ns, after string, limit int) ([]string, error) {
	return tx.Names(dir(ns)+"gn/", after, limit)
}

// GroupAliasIDs lists the ids of the aliases of groups.
func (s *Store) GroupAliasIDs(tx storage.Tx, ns, after string, limit int) ([]string, error) {
	return tx.List(dir(ns)+"ga/", after, limit)
}

// NewGroup makes the record of a group, not yet stored.
func (s *Store) NewGroup(ns string, now time.Time) *Group {
	return &Group{ID: NewID(ns), Name: newName("group", ns), Created: now, NamespaceID: ns}
}

// PutGroup stores a group that replaces old, which is nil for a new one.
func (s *Store) PutGroup(tx storage.Tx, old, g *Group, now time.Time) error {
	if err := checkName("name", g.Name); err != nil {
		return err
	}
	if err := checkMetadata(g.Metadata); err != nil {
		return err
	}
	if err := checkPolicies(g.Policies); err != nil {
		return err
	}
	if old == nil || groupNameKey(g.NamespaceID, old.Name) != groupNameKey(g.NamespaceID, g.Name) {
		if other, err := s.GroupByName(tx, g.NamespaceID, g.Name); err == nil && other.ID != g.ID {
			return errs.New(errs.Invalid, "group name is already in use")
		} else if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if old != nil {
			if err := tx.Delete(groupNameKey(g.NamespaceID, old.Name)); err != nil {
				return err
			}
		}
	}
	if err := tx.Put(groupNameKey(g.NamespaceID, g.Name), []byte(g.ID)); err != nil {
		return err
	}
	return s.write(tx, g, now)
}

func (s *Store) write(tx storage.Tx, g *Group, now time.Time) error {
	g.Version, g.Rev, g.Updated = 1, newRev(), now
	g.ModifyIndex++
	return put(tx, groupKey(g.NamespaceID, g.ID), g)
}

// SetMembers makes entities the direct members of a group, and no others. They
// may be of any namespace.
func (s *Store) SetMembers(tx storage.Tx, g *Group, entityIDs []string) error {
	members, err := s.Members(tx, g.NamespaceID, g.ID)
	if err != nil {
		return err
	}
	have, want := set(members), set(entityIDs)
	var come, leave []string
	for id := range want {
		if have[id] {
			continue
		}
		if _, err := s.Entity(tx, NamespaceOf(id), id); errors.Is(err, ErrNotFound) {
			return errs.List(errs.Failed, "invalid entity ID \""+id+"\"")
		} else if err != nil {
			return err
		}
		come = append(come, id)
	}
	for id := range have {
		if !want[id] {
			leave = append(leave, id)
		}
	}
	if len(come)+len(leave) > maxChanged {
		return errs.New(errs.Invalid, "one request changes at most %d members of a group; the group can grow and shrink by several, or be deleted", maxChanged)
	}
	for _, id := range leave {
		if err := s.unlist(tx, g.ID, id); err != nil {
			return err
		}
		if err := tx.Delete(memberDir(g.NamespaceID, g.ID) + id); err != nil {
			return err
		}
	}
	for _, id := range come {
		if err := s.list(tx, g.ID, id); err != nil {
			return err
		}
		if err := tx.Put(memberDir(g.NamespaceID, g.ID)+id, []byte{1}); err != nil {
			return err
		}
	}
	return s.setCount(tx, g.ID, len(want))
}

func set(list []string) map[string]bool {
	out := make(map[string]bool, len(list))
	for _, s := range list {
		out[s] = true
	}
	return out
}

// Members lists the entities that are direct members of a group.
func (s *Store) Members(tx storage.Tx, ns, group string) ([]string, error) {
	return tx.List(memberDir(ns, group), "", 0)
}

// DirectGroups lists the groups of which an entity is a direct member.
func (s *Store) DirectGroups(tx storage.Tx, entity string) ([]string, error) {
	list, err := get(s.lists, tx, memberOfKey(NamespaceOf(entity), entity))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return *list, nil
}

// Count is how many entities are direct members of a group.
func (s *Store) Count(tx storage.Tx, ns, group string) (int, error) {
	text, err := get(s.texts, tx, memberCount(ns, group))
	if err == nil {
		return strconv.Atoi(text)
	}
	if !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	n := 0
	for _, err := range tx.Keys(memberDir(ns, group), "") {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

func (s *Store) setCount(tx storage.Tx, group string, n int) error {
	key := memberCount(NamespaceOf(group), group)
	if n == 0 {
		return tx.Delete(key)
	}
	return tx.Put(key, []byte(strconv.Itoa(n)))
}

// isMember reports whether an entity is a direct member of a group.
func isMember(tx storage.Tx, group, entity string) (bool, error) {
	_, err := tx.Get(memberDir(NamespaceOf(group), group) + entity)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// join makes an entity a member of a group, on both sides.
func (s *Store) join(tx storage.Tx, group, entity string) error {
	if in, err := isMember(tx, group, entity); err != nil || in {
		return err
	}
	if err := s.list(tx, group, entity); err != nil {
		return err
	}
	n, err := s.Count(tx, NamespaceOf(group), group)
	if err != nil {
		return err
	}
	if err := tx.Put(memberDir(NamespaceOf(group), group)+entity, []byte{1}); err != nil {
		return err
	}
	return s.setCount(tx, group, n+1)
}

// list notes that an entity is in a group, on the entity's side.
func (s *Store) list(tx storage.Tx, group, entity string) error {
	list, err := s.DirectGroups(tx, entity)
	if err != nil || slices.Contains(list, group) {
		return err
	}
	own := NamespaceOf(entity)
	if err := s.room(tx, own, list, group); errs.Is(err, errs.Invalid) {
		if list, err = s.living(tx, list); err != nil {
			return err
		}
		if err := s.room(tx, own, list, group); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	list = append(slices.Clone(list), group)
	slices.Sort(list)
	return put(tx, memberOfKey(own, entity), list)
}

// living leaves out groups that are gone with their namespaces, which nobody has
// taken off the lists of members elsewhere.
func (s *Store) living(tx storage.Tx, groups []string) ([]string, error) {
	out := make([]string, 0, len(groups))
	for _, id := range groups {
		if _, err := s.Group(tx, NamespaceOf(id), id); err == nil {
			out = append(out, id)
		} else if !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	return out, nil
}

// leave ends a membership, on both sides.
func (s *Store) leave(tx storage.Tx, group, entity string) error {
	if err := s.forget(tx, group, entity); err != nil {
		return err
	}
	return s.unlist(tx, group, entity)
}

// forget ends a membership on the group's side.
func (s *Store) forget(tx storage.Tx, group, entity string) error {
	if in, err := isMember(tx, group, entity); err != nil || !in {
		return err // the group may be gone
	}
	n, err := s.Count(tx, NamespaceOf(group), group)
	if err != nil {
		return err
	}
	if err := tx.Delete(memberDir(NamespaceOf(group), group) + entity); err != nil {
		return err
	}
	return s.setCount(tx, group, n-1)
}

// unlist ends a membership on the entity's side.
func (s *Store) unlist(tx storage.Tx, group, entity string) error {
	list, err := s.DirectGroups(tx, entity)
	if err != nil {
		return err
	}
	list = without(list, group)
	key := memberOfKey(NamespaceOf(entity), entity)
	if len(list) == 0 {
		return tx.Delete(key)
	}
	return put(tx, key, list)
}

// SetMemberGroups makes groups the direct members of a group that has just been
// stored, and no others, and returns the group as it now is. Circles are refused.
func (s *Store) SetMemberGroups(tx storage.Tx, g *Group, ids []string) (*Group, error) {
	want, have := set(ids), set(g.Members)
	if len(want) > maxWithin {
		return nil, errs.New(errs.Invalid, "a group has at most %d groups in it", maxWithin)
	}
	var come []string
	for id := range want {
		if !have[id] {
			come = append(come, id)
		}
	}
	slices.Sort(come)
	if err := s.checkWithin(tx, g, come); err != nil {
		return nil, err
	}
	change := func(id string, fn func(m *Group) error) error {
		m, err := s.Group(tx, NamespaceOf(id), id)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		c := m.Clone()
		if err := fn(c); err != nil {
			return err
		}
		// What it is in is no change of the group itself, and others' doing.
		return put(tx, groupKey(c.NamespaceID, c.ID), c)
	}
	for _, id := range g.Members {
		if want[id] {
			continue
		}
		err := change(id, func(m *Group) error {
			m.Parents = without(m.Parents, g.ID)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, id := range come {
		err := change(id, func(m *Group) error {
			m.Parents = without(m.Parents, g.ID)
			if err := s.room(tx, m.NamespaceID, m.Parents, g.ID); errs.Is(err, errs.Invalid) {
				if m.Parents, err = s.living(tx, m.Parents); err != nil {
					return err
				}
				if err := s.room(tx, m.NamespaceID, m.Parents, g.ID); err != nil {
					return err
				}
			} else if err != nil {
				return err
			}
			m.Parents = append(m.Parents, g.ID)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	c := g.Clone()
	c.Members = slices.Sorted(maps.Keys(want))
	return c, put(tx, groupKey(c.NamespaceID, c.ID), c)
}

// checkWithin refuses groups that do not exist, and those that g is in, which
// would make a circle. It goes down from them: what is in a group is
// for its administrator alone to say, what a group is in is not.
func (s *Store) checkWithin(tx storage.Tx, g *Group, ids []string) error {
	type step struct{ id, from string }
	queue := make([]step, 0, len(ids))
	for _, id := range ids {
		if _, err := s.Group(tx, NamespaceOf(id), id); errors.Is(err, ErrNotFound) {
			return errs.List(errs.Failed, "invalid member group ID \""+id+"\"")
		} else if err != nil {
			return err
		}
		queue = append(queue, step{id, id})
	}
	seen := map[string]bool{}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		if at.id == g.ID {
			return errs.New(errs.Invalid, "cyclic relationship detected for member group ID %q", at.from)
		}
		if seen[at.id] {
			continue
		}
		if seen[at.id] = true; len(seen) > maxAbove {
			return errs.New(errs.Invalid, "the member group %s has more than %d others in it", at.from, maxAbove)
		}
		m, err := s.Group(tx, NamespaceOf(at.id), at.id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		for _, id := range m.Members {
			queue = append(queue, step{id, at.from})
		}
	}
	return nil
}

func without(list []string, id string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == id })
}

// PutGroupAlias sets the alias of an external group, in place of the one it has.
func (s *Store) PutGroupAlias(tx storage.Tx, g *Group, a Alias, now time.Time) (*Group, error) {
	if err := checkName("alias name", a.Name); err != nil {
		return nil, err
	}
	ns := g.NamespaceID
	if other, err := s.GroupByAlias(tx, ns, a.MountAccessor, a.Name); err == nil && other.ID != g.ID {
		return nil, errs.New(errs.Invalid, "alias %q belongs to another group already", a.Name)
	} else if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	if err := s.unindexGroup(tx, g); err != nil {
		return nil, err
	}
	if err := tx.Put(groupAliasKey(ns, a.ID), []byte(g.ID)); err != nil {
		return nil, err
	}
	if err := s.setFactor(tx, groupFactorDir(ns, a.MountAccessor), a.Name, g.ID); err != nil {
		return nil, err
	}
	c := g.Clone()
	a.Updated = now
	c.Alias = &a
	return c, s.write(tx, c, now)
}

func (s *Store) unindexGroup(tx storage.Tx, g *Group) error {
	if g.Alias == nil {
		return nil
	}
	if err := tx.Delete(groupAliasKey(g.NamespaceID, g.Alias.ID)); err != nil {
		return err
	}
	return s.dropFactor(tx, groupFactorDir(g.NamespaceID, g.Alias.MountAccessor), g.Alias.Name, g.ID)
}

// DeleteGroupAlias takes a group's alias away.
func (s *Store) DeleteGroupAlias(tx storage.Tx, g *Group, now time.Time) error {
	if err := s.unindexGroup(tx, g); err != nil {
		return err
	}
	c := g.Clone()
	c.Alias = nil
	return s.write(tx, c, now)
}

// DeleteGroup removes a group; its members lose its policies at once. However many
// they are, they are not touched: ids are never used again, and the lists of
// members forget those of groups that are gone when they are full.
func (s *Store) DeleteGroup(tx storage.Tx, g *Group, now time.Time) error {
	ns := g.NamespaceID
	if err := tx.DeletePrefix(memberDir(ns, g.ID)); err != nil {
		return err
	}
	if err := tx.Delete(memberCount(ns, g.ID)); err != nil {
		return err
	}
	if _, err := s.SetMemberGroups(tx, g, nil); err != nil {
		return err
	}
	for _, id := range g.Parents {
		p, err := s.Group(tx, NamespaceOf(id), id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		c := p.Clone()
		c.Members = without(c.Members, g.ID)
		if err := s.write(tx, c, now); err != nil {
			return err
		}
	}
	if err := s.unindexGroup(tx, g); err != nil {
		return err
	}
	if err := tx.Delete(groupNameKey(ns, g.Name)); err != nil {
		return err
	}
	return tx.Delete(groupKey(ns, g.ID))
}

// RefreshGroups makes an entity a member of those external groups whose aliases
// at a mount are given, and of no other external groups of that mount, or of none:
// no login could take an entity out of a group that has lost its alias.
func (s *Store) RefreshGroups(tx storage.Tx, ns, entity, accessor string, aliases []Alias) error {
	var want []string
	for _, a := range aliases {
		g, err := s.GroupByAlias(tx, ns, accessor, a.Name)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		want = append(want, g.ID)
	}
	have, err := s.DirectGroups(tx, entity)
	if err != nil {
		return err
	}
	for _, id := range have {
		g, err := s.Group(tx, NamespaceOf(id), id)
		if errors.Is(err, ErrNotFound) { // gone with its namespace
			if err := s.leave(tx, id, entity); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if g.External && (g.Alias == nil || g.Alias.MountAccessor == accessor) && !slices.Contains(want, id) {
			if err := s.leave(tx, id, entity); err != nil {
				return err
			}
		}
	}
	for _, id := range want {
		if !slices.Contains(have, id) {
			if err := s.join(tx, id, entity); err != nil {
				return err
			}
		}
	}
	return nil
}

func modeKey() string { return dir(namespace.RootID) + "mode" }

const modeAny = "any"

// AllNamespaces reports whether policies of groups hold for tokens of all
// namespaces, not only for those of namespaces above and below the group's.
func (s *Store) AllNamespaces(tx storage.Tx) (bool, error) {
	mode, err := get(s.texts, tx, modeKey())
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return mode == modeAny, err
}

// SetAllNamespaces decides what AllNamespaces reports.
func (s *Store) SetAllNamespaces(tx storage.Tx, all bool) error {
	if !all {
		return tx.Delete(modeKey())
	}
	return tx.Put(modeKey(), []byte(modeAny))
}
