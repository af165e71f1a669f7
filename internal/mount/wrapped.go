package mount

import (
	"context"
	"errors"
	"strings"

	"arca/internal/namespace"
	"arca/internal/storage"
)

const wrappedAtOnce = 256

// Wrapped calls fn for each mount with seal_wrap, of all namespaces, until fn fails. A mount that is moved meanwhile may be
// passed over, or come twice.
func (t *Table) Wrapped(ctx context.Context, db *storage.DB, namespaces *namespace.Store, fn func(*Entry) error) error {
	for ns := namespace.RootID; ns != ""; {
		if err := t.wrappedOf(ctx, db, ns, fn); err != nil {
			return err
		}
		err := db.View(ctx, func(tx storage.Tx) (err error) {
			ns, err = namespaces.Next(tx, ns)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) wrappedOf(ctx context.Context, db *storage.DB, ns string, fn func(*Entry) error) error {
	for after, more := "", true; more; {
		var found []*Entry
		err := db.View(ctx, func(tx storage.Tx) error {
			more = false
			for kv, err := range tx.Scan(dir(ns), after) {
				if err != nil {
					return err
				}
				after = kv.Key
				e, _, err := t.decode(kv.Key, kv.Value)
				if err != nil {
					return err
				}
				if e.SealWrap && !e.Hall {
					found = append(found, e)
				}
				if more = len(found) == wrappedAtOnce; more {
					break
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, e := range found {
			if err := fn(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Owner is the mount to whose data a key of the store belongs, nil where there is none. It looks through the mounts of the
// key's namespace.
func (t *Table) Owner(tx storage.Tx, key string) (*Entry, error) {
	ns, rest, _ := strings.Cut(strings.TrimPrefix(key, "n/"), "/")
	id, _, ok := strings.Cut(strings.TrimPrefix(rest, "m/"), "/")
	if !ok || !strings.HasPrefix(key, DataPrefix(ns, id)) {
		return nil, nil
	}
	for kv, err := range tx.Scan(dir(ns), "") {
		if err != nil {
			return nil, err
		}
		e, _, err := t.decode(kv.Key, kv.Value)
		if err != nil {
			return nil, err
		}
		if e.ID == id {
			return e, nil
		}
	}
	return nil, nil
}

// WantsWrap reports whether a mount has seal_wrap. It looks through all of them. What it finds is not remembered in the store:
// a server of an older release, which leads in the course of an upgrade, makes mounts and knows nothing of that.
func (t *Table) WantsWrap(ctx context.Context, db *storage.DB, namespaces *namespace.Store) (bool, error) {
	err := t.Wrapped(ctx, db, namespaces, func(*Entry) error { return errFound })
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

var errFound = errors.New("mount: one is found")
