package mount

import (
	"context"
	"errors"

	"arca/internal/engine"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// enteredKey is there once all mounts of engines that run are listed in RunDir.
const enteredKey = "n/" + namespace.RootID + "/run-entered"

const enteredAtOnce = 256

// EnterRunning lists in RunDir the mounts of engines that run but did not when they
// were made, as cert in early versions. It looks through all mounts once, without a
// part in what others write; afterwards it costs a look at one key.
func (t *Table) EnterRunning(ctx context.Context, db *storage.DB, namespaces *namespace.Store) error {
	done := false
	err := db.View(ctx, func(tx storage.Tx) error {
		_, err := tx.Get(enteredKey)
		done = err == nil
		if errors.Is(err, storage.ErrNotFound) {
			err = nil
		}
		return err
	})
	if done || err != nil {
		return err
	}
	for ns := namespace.RootID; ns != ""; {
		if err := t.enterRunning(ctx, db, ns); err != nil {
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
	return db.Update(ctx, func(tx storage.Tx) error { return tx.Put(enteredKey, []byte{1}) })
}

func (t *Table) enterRunning(ctx context.Context, db *storage.DB, ns string) error {
	for after, more := "", true; more; {
		var missing []string // paths
		err := db.View(ctx, func(tx storage.Tx) error {
			more = false
			for kv, err := range tx.Scan(dir(ns), after) {
				if err != nil {
					return err
				}
				e, _, err := t.decode(kv.Key, kv.Value)
				if err != nil {
					return err
				}
				after = kv.Key
				if _, runs := e.Engine.(engine.Runner); !runs {
					continue
				}
				if _, err := tx.Get(runKey(e)); errors.Is(err, storage.ErrNotFound) {
					missing = append(missing, e.Path)
				} else if err != nil {
					return err
				}
				if more = len(missing) == enteredAtOnce; more {
					break
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(missing) == 0 {
			continue
		}
		err = db.Update(ctx, func(tx storage.Tx) error {
			for _, path := range missing {
				e, err := t.get(tx, ns, path)
				if errors.Is(err, storage.ErrNotFound) { // it is gone, or was moved, which has entered it
					continue
				}
				if err != nil {
					return err
				}
				if _, runs := e.Engine.(engine.Runner); !runs {
					continue
				}
				if err := tx.Put(runKey(e), []byte(e.Path)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
