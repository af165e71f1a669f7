package raft

import (
	"github.com/hashicorp/raft"

	"arca/internal/errs"
	"arca/internal/storage/raft/wal"
)

// Raft's library ends the process by a panic where it cannot go on: when it cannot note a term, or cannot read an entry that is committed. That is right, as it
// would go on with less than others count on. But who runs the node must hear why, and what to do.

// end ends the process, or lets the library do it.
func (s *Store) end(why error) {
	s.log.Error("arca ends, as raft cannot go on", "error", why)
	if s.cfg.Exit != nil {
		s.cfg.Exit()
	}
}

// noted is the votes, as the library has them: it ends the process when a term cannot be noted.
type noted struct {
	*wal.Votes
	s *Store
}

var _ raft.StableStore = noted{}

// SetUint64 implements raft.StableStore.
func (n noted) SetUint64(key []byte, value uint64) error {
	note := func() error { return n.Votes.SetUint64(key, value) }
	if r := n.s.running.Load(); r != nil && string(key) == termKey && n.raises(value) {
		plain := note
		note = func() error { return r.inlet.raising(plain) }
	}
	err := note()
	switch {
	case err == nil || string(key) != termKey:
	case errs.Is(err, errs.Conflict):
		n.s.end(errs.New(errs.Unavailable, "two messages came beside one another, so that this node could forget a vote; start arca again: %w", err))
	default:
		n.s.end(errs.New(errs.Unavailable, "the term %d could not be noted, without which this node could vote twice; see to the disk of the storage folder, and start arca again: %w", value, err))
	}
	return err
}

// raises reports whether a term is later than the one that is noted.
func (n noted) raises(term uint64) bool {
	now, err := n.GetUint64([]byte(termKey))
	return err == nil && term > now
}

// unreadable looks at an entry that cannot be read. The library reads one that is committed to have it applied; but what a leader has written itself, which it has in memory.
func (s *Store) unreadable(index uint64, why error) {
	r := s.running.Load()
	if r == nil || s.leading.Load() != nil || index <= r.raft.AppliedIndex() || index > r.raft.CommitIndex() {
		return
	}
	s.end(errs.New(errs.Unavailable, "entry %d of the raft log, which is committed, cannot be read; see to the disk of the storage folder, and start arca again: %w", index, why))
}
