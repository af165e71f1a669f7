package identity

import (
	"fmt"
	"testing"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// Other namespaces, who may take an entity into their groups as they like, cannot
// push it out of those of its own.
func TestGroupsOfOthers(t *testing.T) {
	t.Parallel()
	db := storage.Open(storagetest.NewMap(), storage.Config{})
	defer db.Close()
	s := NewStore(db)
	now := time.Unix(1e9, 0).UTC()
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		e := s.NewEntity("root", now)
		if err := s.PutEntity(tx, nil, e, now); err != nil {
			return err
		}
		var full []string
		for i := range maxAway {
			g := s.NewGroup(fmt.Sprintf("Tenan%d", i%10), now)
			if err := s.PutGroup(tx, nil, g, now); err != nil {
				return err
			}
			full = append(full, g.ID)
		}
		if err := put(tx, memberOfKey("root", e.ID), full); err != nil {
			return err
		}
		theirs, ours := s.NewGroup("Tenan0", now), s.NewGroup("root", now)
		ours.Policies = []string{"ours"}
		for _, g := range []*Group{theirs, ours} {
			if err := s.PutGroup(tx, nil, g, now); err != nil {
				return err
			}
		}
		if err := s.SetMembers(tx, theirs, []string{e.ID}); !errs.Is(err, errs.Invalid) {
			t.Errorf("other namespaces may fill the list without end: %v", err)
		}
		if err := s.SetMembers(tx, ours, []string{e.ID}); err != nil {
			t.Errorf("the own group: %v", err)
		}
		// Groups that are gone with their namespace make room.
		if err := tx.Delete(groupKey(NamespaceOf(full[0]), full[0])); err != nil {
			return err
		}
		if err := s.SetMembers(tx, theirs, []string{e.ID}); err != nil {
			t.Errorf("a place is free: %v", err)
		}
		p, err := s.Person(tx, e.ID)
		if err == nil && len(p.PoliciesIn("root")) != 1 {
			t.Errorf("policies %v", p.PoliciesIn("root"))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
