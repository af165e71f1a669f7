package identity

import (
	"errors"
	"strings"

	"arca/internal/storage"
)

// Names of aliases are one regardless of case. Indexes have them in lower case; what
// was stored by earlier versions has them as they were given, and is
// found so: of two whose names differ in nothing but case each stays whose it was.

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
