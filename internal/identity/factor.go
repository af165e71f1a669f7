package identity

import (
	"errors"
	"strings"

	"arca/internal/storage"
)

// Names of aliases are one regardless of case. Indexes have them in lower case. What
// was stored by earlier versions has them as they were given; logins bring it into the new
// form, some at a time. Of two whose names differ in nothing but case each stays whose
// it was.

// What is stored of how far that is: one of these with the last key that was looked
// at, or that all is done.
const (
	groupsFolded   = "g" // the fewer
	entitiesFolded = "e"
	allFolded      = "done"
	foldedAtOnce   = 200
)

func foldedKey(ns string) string { return dir(ns) + "folded" }

// fold brings some names of a namespace's aliases into lower case, until all are.
func (s *Store) fold(tx storage.Tx, ns string) error {
	at, err := get(s.texts, tx, foldedKey(ns))
	if at == allFolded || err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	after, entities := strings.CutPrefix(at, entitiesFolded)
	left := foldedAtOnce
	if !entities {
		last, err := s.foldUnder(tx, dir(ns)+"gf/", strings.TrimPrefix(at, groupsFolded), &left)
		if err != nil {
			return err
		}
		if last != "" {
			return tx.Put(foldedKey(ns), []byte(groupsFolded+last))
		}
		after = ""
	}
	last, err := s.foldUnder(tx, dir(ns)+"ef/", after, &left)
	if err != nil {
		return err
	}
	if last != "" {
		return tx.Put(foldedKey(ns), []byte(entitiesFolded+last))
	}
	return tx.Put(foldedKey(ns), []byte(allFolded))
}

// foldUnder goes through an index as long as some are left to do, and returns the
// last key that it looked at, or "" when it came to the end.
func (s *Store) foldUnder(tx storage.Tx, prefix, after string, left *int) (last string, err error) {
	var found []storage.Entry
	for entry, err := range tx.Scan(prefix, after) {
		if err != nil {
			return "", err
		}
		if *left == 0 {
			last = found[len(found)-1].Key
			break
		}
		*left--
		found = append(found, entry)
	}
	for _, entry := range found {
		accessor, name, _ := strings.Cut(entry.Key[len(prefix):], "/")
		folded := prefix + accessor + "/" + strings.ToLower(name)
		if folded == entry.Key {
			continue
		}
		if _, err := get(s.texts, tx, folded); err == nil {
			continue // another's
		} else if !errors.Is(err, ErrNotFound) {
			return "", err
		}
		if err := tx.Put(folded, entry.Value); err != nil {
			return "", err
		}
		if err := tx.Delete(entry.Key); err != nil {
			return "", err
		}
	}
	return last, nil
}

// factor finds what an index under dir has for a name.
func (s *Store) factor(tx storage.Tx, dir, name string) (string, error) {
	folded := strings.ToLower(name)
	if folded != name {
		if text, err := get(s.texts, tx, dir+name); !errors.Is(err, ErrNotFound) {
			return text, err
		}
	}
	return get(s.texts, tx, dir+folded)
}

// setFactor stores what a name leads to.
func (s *Store) setFactor(tx storage.Tx, dir, name, to string) error {
	folded := strings.ToLower(name)
	have, err := get(s.texts, tx, dir+folded)
	switch {
	case err == nil && have != to && folded != name:
		return tx.Put(dir+name, []byte(to)) // another's, from before names were folded
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	}
	return tx.Put(dir+folded, []byte(to))
}

// dropFactor removes a name that leads there.
func (s *Store) dropFactor(tx storage.Tx, dir, name, to string) error {
	for _, key := range []string{dir + name, dir + strings.ToLower(name)} {
		have, err := get(s.texts, tx, key)
		if errors.Is(err, ErrNotFound) || err == nil && have != to {
			continue
		}
		if err != nil {
			return err
		}
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}
