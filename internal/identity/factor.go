package identity

import (
	"context"
	"errors"
	"strings"

	"arca/internal/namespace"
	"arca/internal/storage"
)

// Names of aliases are one regardless of case. Indexes have them in lower case. What
// was stored by earlier versions has them as they were given until Fold has been there,
// and is found by its exact name until then. Of two whose names differ in nothing but
// case each stays whose it was.

// foldedAtOnce bounds what one transaction of Fold looks at.
const foldedAtOnce = 200

// foldedKey is there once all names of all namespaces are in lower case.
func foldedKey() string { return dir(namespace.RootID) + "lower" }

// MarkFolded says of a new store that Fold has nothing to do.
func (s *Store) MarkFolded(tx storage.Tx) error { return tx.Put(foldedKey(), []byte{1}) }

// Fold brings the names of all aliases into lower case, some at a time, and is nothing
// once that is done. What it did before an error stays done; it can be called again.
// Logins do not wait for it.
func (s *Store) Fold(ctx context.Context, db *storage.DB) error {
	done := false
	err := db.View(ctx, func(tx storage.Tx) error {
		_, err := tx.Get(foldedKey())
		done = err == nil
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		return err
	})
	if done || err != nil {
		return err
	}
	for ns := namespace.RootID; ns != ""; {
		for _, index := range []string{"gf/", "ef/"} {
			if err := s.foldIndex(ctx, db, dir(ns)+index); err != nil {
				return err
			}
		}
		err := db.View(ctx, func(tx storage.Tx) (err error) {
			ns, err = s.namespaces.Next(tx, ns)
			return err
		})
		if err != nil {
			return err
		}
	}
	return db.Update(ctx, s.MarkFolded)
}

// foldIndex looks for names to fold without a part in what others write, and then
// changes no more than these.
func (s *Store) foldIndex(ctx context.Context, db *storage.DB, prefix string) error {
	for after, more := "", true; more; {
		var upper []string
		err := db.View(ctx, func(tx storage.Tx) error {
			more = false
			seen := 0
			for key, err := range tx.Keys(prefix, after) {
				if err != nil {
					return err
				}
				if foldedFactor(prefix, key) != key {
					upper = append(upper, key)
				}
				after = key
				if seen++; seen == foldedAtOnce {
					more = true
					break
				}
			}
			return nil
		})
		if err == nil && len(upper) > 0 {
			err = db.Update(ctx, func(tx storage.Tx) error { return foldKeys(tx, prefix, upper) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// foldedFactor is the key of an index with its name in lower case.
func foldedFactor(prefix, key string) string {
	accessor, name, _ := strings.Cut(key[len(prefix):], "/")
	return prefix + accessor + "/" + strings.ToLower(name)
}

func foldKeys(tx storage.Tx, prefix string, keys []string) error {
	for _, key := range keys {
		to, err := tx.Get(key)
		if errors.Is(err, storage.ErrNotFound) {
			continue // it has gone meanwhile
		}
		if err != nil {
			return err
		}
		folded := foldedFactor(prefix, key)
		if _, err := tx.Get(folded); err == nil {
			continue // another's
		} else if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if err := tx.Put(folded, to); err != nil {
			return err
		}
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
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
