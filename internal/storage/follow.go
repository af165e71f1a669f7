package storage

import (
	"context"
	"errors"

	"arca/internal/errs"
)

// ErrNotActive refuses an Update of a DB whose backend another node writes to at present. Nothing was written.
var ErrNotActive error = errs.New(errs.NotActive, "this node is not the active one")

// Follow hands the right to write to another node: Updates that are not yet on their way to the backend fail with
// ErrNotActive, and it returns when no Apply is under way. From then on, until Lead, the state moves by Applied only. It
// also ends the failure after an Apply whose outcome was not known: should that batch be in the backend's log after all,
// it comes by Applied like a stranger's.
//
// The backend must see to it that an Apply under way returns. No watcher may call it.
func (db *DB) Follow() {
	db.mu.Lock()
	if db.gen.Load() == nil || errors.Is(db.err, ErrClosed) || errors.Is(db.err, ErrNotActive) {
		db.mu.Unlock()
		return
	}
	db.err = ErrNotActive
	rest := db.queue
	db.queue = nil
	if db.room != nil {
		close(db.room)
		db.room = nil
	}
	for db.flushing {
		db.idle.Wait()
	}
	db.mu.Unlock()
	db.forget()
	for _, b := range rest {
		b.err = ErrNotActive
		b.finish()
	}
}

// forget takes back what is not in the backend, and makes every Update that is running begin anew.
func (db *DB) forget() {
	db.publishing.Lock()
	defer db.publishing.Unlock()
	snap, err := db.backend.Snapshot(context.Background())
	if err != nil {
		snap = brokenSnapshot{err}
	}
	db.mu.Lock()
	if db.gen.Load() == nil { // closed meanwhile
		db.mu.Unlock()
		_ = snap.Close()
		return
	}
	db.pending = 0
	old := db.rollback(snap)
	db.mu.Unlock()
	old.release()
}

// Lead lets Updates begin again after Follow. Whoever calls it has seen to it that Applied was told of all that others
// have written, and that nobody else writes.
func (db *DB) Lead() {
	db.mu.Lock()
	defer db.mu.Unlock()
	if errors.Is(db.err, ErrNotActive) {
		db.err = nil
	}
}
