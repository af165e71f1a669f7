package storage

import (
	"context"
	"sync/atomic"
)

// A generation is one durable state: the backend's snapshot after a batch, shared by all who read it.
type generation struct {
	db   *DB
	seq  uint64 // the last commit it holds
	snap Snapshot
	refs atomic.Int64 // the DB's own while it is the newest, and one for each reader
}

func newGeneration(db *DB, seq uint64, snap Snapshot) *generation {
	g := &generation{db: db, seq: seq, snap: snap}
	g.refs.Store(1)
	return g
}

// acquire returns the newest generation with a reference for the caller, or nil when the DB is closed.
func (db *DB) acquire() *generation {
	for {
		g := db.gen.Load()
		if g == nil {
			return nil
		}
		// A generation without references is being released: there is a newer one, or none.
		for n := g.refs.Load(); n > 0; n = g.refs.Load() {
			if g.refs.CompareAndSwap(n, n+1) {
				return g
			}
		}
	}
}

func (g *generation) release() {
	if g.refs.Add(-1) == 0 {
		_ = g.snap.Close() // closing a snapshot frees memory; there is nothing to do about a failure
		g.db.gens.Done()
	}
}

// brokenSnapshot answers every read with an error.
type brokenSnapshot struct{ err error }

func (b brokenSnapshot) Get(context.Context, string) ([]byte, error) { return nil, b.err }

func (b brokenSnapshot) Scan(context.Context, ScanOptions) (Iterator, error) { return nil, b.err }

func (b brokenSnapshot) Close() error { return nil }
