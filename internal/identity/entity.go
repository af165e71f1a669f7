package identity

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
)

// Entity finds an entity by its id. The error is ErrNotFound when there is none.
func (s *Store) Entity(tx storage.Tx, ns, id string) (*Entity, error) {
	if !ValidID(id) {
		return nil, ErrNotFound
	}
	return get(s.entities, tx, entityKey(ns, id))
}

// EntityByName finds an entity by its name, in any case.
func (s *Store) EntityByName(tx storage.Tx, ns, name string) (*Entity, error) {
	id, err := get(s.texts, tx, entityNameKey(ns, name))
	if err != nil {
		return nil, err
	}
	return s.Entity(tx, ns, id)
}

// EntityByAlias finds an entity by its name at an auth mount, in any case.
func (s *Store) EntityByAlias(tx storage.Tx, ns, accessor, name string) (*Entity, *Alias, error) {
	if !ValidID(accessor) || len(name) > maxNameBytes {
		return nil, nil, ErrNotFound
	}
	text, err := s.factor(tx, factorDir(ns, accessor), name)
	if err != nil {
		return nil, nil, err
	}
	id, aliasID, _ := strings.Cut(text, "/")
	return s.withAlias(tx, ns, id, aliasID)
}

// EntityByAliasID finds the entity that has an alias.
func (s *Store) EntityByAliasID(tx storage.Tx, ns, aliasID string) (*Entity, *Alias, error) {
	if !ValidID(aliasID) {
		return nil, nil, ErrNotFound
	}
	id, err := get(s.texts, tx, aliasKey(ns, aliasID))
	if err != nil {
		return nil, nil, err
	}
	return s.withAlias(tx, ns, id, aliasID)
}

func (s *Store) withAlias(tx storage.Tx, ns, id, aliasID string) (*Entity, *Alias, error) {
	e, err := s.Entity(tx, ns, id)
	if err != nil {
		return nil, nil, err
	}
	for i := range e.Aliases {
		if e.Aliases[i].ID == aliasID {
			return e, &e.Aliases[i], nil
		}
	}
	return nil, nil, ErrNotFound
}

// EntityIDs lists the ids of entities in order, those behind after.
func (s *Store) EntityIDs(tx storage.Tx, ns, after string, limit int) ([]string, error) {
	return tx.List(dir(ns)+"e/", after, limit)
}

// EntityNames lists the names of entities.
func (s *Store) EntityNames(tx storage.Tx, ns, after string, limit int) ([]string, error) {
	return tx.Names(dir(ns)+"en/", after, limit)
}

// AliasIDs lists the ids of the aliases of entities.
func (s *Store) AliasIDs(tx storage.Tx, ns, after string, limit int) ([]string, error) {
	return tx.List(dir(ns)+"ea/", after, limit)
}

// CountEntities counts up to limit entities.
func (s *Store) CountEntities(tx storage.Tx, ns string, limit int) (int, error) {
	n := 0
	for _, err := range tx.Keys(dir(ns)+"e/", "") {
		if err != nil {
			return 0, err
		}
		if n++; n == limit {
			break
		}
	}
	return n, nil
}

// NewEntity makes the record of an entity, not yet stored.
func (s *Store) NewEntity(ns string, now time.Time) *Entity {
	return &Entity{ID: NewID(ns), Name: newName("entity", ns), Created: now, NamespaceID: ns}
}

// PutEntity stores an entity that replaces old, which is nil for a new one.
func (s *Store) PutEntity(tx storage.Tx, old, e *Entity, now time.Time) error {
	if err := checkName("name", e.Name); err != nil {
		return err
	}
	if err := checkMetadata(e.Metadata); err != nil {
		return err
	}
	if err := checkPolicies(e.Policies); err != nil {
		return err
	}
	if len(e.Aliases) > maxAliases {
		return errs.New(errs.Invalid, "an entity has at most %d aliases", maxAliases)
	}
	if old == nil || entityNameKey(e.NamespaceID, old.Name) != entityNameKey(e.NamespaceID, e.Name) {
		if other, err := s.EntityByName(tx, e.NamespaceID, e.Name); err == nil && other.ID != e.ID {
			return errs.New(errs.Invalid, "entity name is already in use")
		} else if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if old != nil {
			if err := tx.Delete(entityNameKey(e.NamespaceID, old.Name)); err != nil {
				return err
			}
		}
	}
	if err := tx.Put(entityNameKey(e.NamespaceID, e.Name), []byte(e.ID)); err != nil {
		return err
	}
	e.Version, e.Rev, e.Updated = 1, newRev(), now
	return put(tx, entityKey(e.NamespaceID, e.ID), e)
}

// DeleteEntity removes an entity with its aliases and memberships. Tokens that
// carry its id are refused from then on.
func (s *Store) DeleteEntity(tx storage.Tx, e *Entity) error {
	ns := e.NamespaceID
	for i := range e.Aliases {
		if err := s.unindex(tx, ns, e.ID, &e.Aliases[i]); err != nil {
			return err
		}
	}
	for _, id := range e.MergedIDs {
		if err := tx.Delete(mergedKey(ns, id)); err != nil {
			return err
		}
	}
	direct, err := s.DirectGroups(tx, e.ID)
	if err != nil {
		return err
	}
	for _, g := range direct {
		if err := s.forget(tx, g, e.ID); err != nil {
			return err
		}
	}
	for _, key := range []string{memberOfKey(ns, e.ID), entityNameKey(ns, e.Name), entityKey(ns, e.ID)} {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) index(tx storage.Tx, ns, entityID string, a *Alias) error {
	if err := tx.Put(aliasKey(ns, a.ID), []byte(entityID)); err != nil {
		return err
	}
	return s.setFactor(tx, factorDir(ns, a.MountAccessor), a.Name, entityID+"/"+a.ID)
}

func (s *Store) unindex(tx storage.Tx, ns, entityID string, a *Alias) error {
	if err := tx.Delete(aliasKey(ns, a.ID)); err != nil {
		return err
	}
	return s.dropFactor(tx, factorDir(ns, a.MountAccessor), a.Name, entityID+"/"+a.ID)
}

// NewAlias makes the record of an alias, not yet stored.
func (s *Store) NewAlias(ns string, now time.Time) Alias { return Alias{ID: NewID(ns), Created: now} }

// PutAlias gives an entity an alias, new or in place of the one with its id, and
// returns the entity as it now is. The caller has made sure that no other entity
// has an alias of this name at this mount.
func (s *Store) PutAlias(tx storage.Tx, e *Entity, a Alias, now time.Time) (*Entity, error) {
	if err := checkName("alias name", a.Name); err != nil {
		return nil, err
	}
	if err := checkMetadata(a.Custom); err != nil {
		return nil, err
	}
	c := e.Clone()
	a.Updated = now
	at := slices.IndexFunc(c.Aliases, func(b Alias) bool { return b.ID == a.ID })
	if at >= 0 {
		if err := s.unindex(tx, e.NamespaceID, e.ID, &c.Aliases[at]); err != nil {
			return nil, err
		}
		c.Aliases[at] = a
	} else {
		c.Aliases = append(c.Aliases, a)
	}
	if err := s.index(tx, e.NamespaceID, e.ID, &a); err != nil {
		return nil, err
	}
	return c, s.PutEntity(tx, e, c, now)
}

// DeleteAlias takes an alias from its entity.
func (s *Store) DeleteAlias(tx storage.Tx, e *Entity, aliasID string, now time.Time) error {
	c := e.Clone()
	c.Aliases = slices.DeleteFunc(c.Aliases, func(a Alias) bool {
		return a.ID == aliasID
	})
	for i := range e.Aliases {
		if e.Aliases[i].ID == aliasID {
			if err := s.unindex(tx, e.NamespaceID, e.ID, &e.Aliases[i]); err != nil {
				return err
			}
		}
	}
	return s.PutEntity(tx, e, c, now)
}

// Merge moves the aliases and memberships of an entity to another one, under
// whose id the first is found from then on.
func (s *Store) Merge(tx storage.Tx, to, from *Entity, now time.Time) (*Entity, error) {
	ns := to.NamespaceID
	groups, err := s.DirectGroups(tx, from.ID)
	if err != nil {
		return nil, err
	}
	if groups, err = s.living(tx, groups); err != nil {
		return nil, err
	}
	if err := s.DeleteEntity(tx, from); err != nil {
		return nil, err
	}
	c := to.Clone()
	for _, a := range from.Aliases {
		a.MergedFrom = append(slices.Clone(a.MergedFrom), from.ID)
		if err := s.index(tx, ns, to.ID, &a); err != nil {
			return nil, err
		}
		c.Aliases = append(c.Aliases, a)
	}
	c.MergedIDs = append(append(slices.Clone(c.MergedIDs), from.ID), from.MergedIDs...)
	for _, id := range c.MergedIDs {
		if err := tx.Put(mergedKey(ns, id), []byte(to.ID)); err != nil {
			return nil, err
		}
	}
	for _, id := range groups {
		if err := s.join(tx, id, to.ID); err != nil {
			return nil, err
		}
	}
	return c, s.PutEntity(tx, to, c, now)
}

// A Login is what an auth method knows of who logs in.
type Login struct {
	Alias  Alias // name, mount and metadata
	Groups []Alias
	// HasGroups says that the method tells groups, even if there are none.
	HasGroups bool
}

// Login finds the entity of who logs in, or makes one, and brings its external
// groups up to date. It writes nothing when all is as it was. The error is
// ErrDisabled for an entity that is switched off.
func (s *Store) Login(tx storage.Tx, ns string, l *Login, now time.Time) (e *Entity, created bool, err error) {
	e, have, err := s.EntityByAlias(tx, ns, l.Alias.MountAccessor, l.Alias.Name)
	switch {
	case errors.Is(err, ErrNotFound):
		created = true
		e = s.NewEntity(ns, now)
		a := l.Alias
		a.ID, a.Created, a.Updated = NewID(ns), now, now
		if err := checkName("alias name", a.Name); err != nil {
			return nil, false, err
		}
		if err := s.index(tx, ns, e.ID, &a); err != nil {
			return nil, false, err
		}
		e.Aliases = []Alias{a}
		if err := s.PutEntity(tx, nil, e, now); err != nil {
			return nil, false, err
		}
	case err != nil:
		return nil, false, err
	case e.Disabled:
		return nil, false, ErrDisabled
	case !maps.Equal(have.Metadata, l.Alias.Metadata):
		a := *have
		a.Metadata = l.Alias.Metadata
		if e, err = s.PutAlias(tx, e, a, now); err != nil {
			return nil, false, err
		}
	}
	if !l.HasGroups {
		return e, created, nil
	}
	return e, created, s.RefreshGroups(tx, ns, e.ID, l.Alias.MountAccessor, l.Groups)
}
