package storage

import "sync/atomic"

type stats struct {
	commits, batches, conflicts atomic.Uint64
}

// Stats are counts since Open.
type Stats struct {
	Commits   uint64 // durable commits of this DB
	Batches   uint64 // Apply calls that carried them
	Conflicts uint64 // runs of an Update that had to be repeated or given up
}

// Stats returns the present counts.
func (db *DB) Stats() Stats {
	return Stats{
		Commits:   db.stats.commits.Load(),
		Batches:   db.stats.batches.Load(),
		Conflicts: db.stats.conflicts.Load(),
	}
}
