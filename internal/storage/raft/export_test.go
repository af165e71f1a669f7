package raft

import (
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// WithFS has a store in memory use another file system.
func (c Config) WithFS(fs vfs.FS) Config {
	c.fs = fs
	return c
}

// Elected reports whether raft has this node lead, and in which term.
func (s *Store) Elected() (leads bool, term uint64) {
	r := s.running.Load()
	if r == nil {
		return false, 0
	}
	term = r.raft.CurrentTerm()
	return r.raft.State() == raft.Leader && r.raft.CurrentTerm() == term, term
}

// Hurried reports whether this node takes the leader for gone.
func (s *Store) Hurried() bool { return s.running.Load().hurried.Load() }

// Stall has nobody notice that this node ceases to lead, as if what watches that were not run for a while, until resume is called.
func (s *Store) Stall() (resume func()) {
	s.mode.Lock()
	return s.mode.Unlock
}

// Forget has the log of a node that is stopped begin with an entry that is not the one behind the state.
func (s *Store) Forget(state, first uint64) error {
	begin, err := s.logs.FirstIndex()
	if err != nil {
		return err
	}
	if err := s.logs.DeleteRange(begin, state); err != nil {
		return err
	}
	return s.logs.StoreLog(&raft.Log{Index: first, Term: 9, Type: raft.LogNoop})
}

// Beating has looked be told when it is asked whether a heartbeat may be looked at, and again when that is over, with the answer.
func (s *Store) Beating(looked func(settled bool)) {
	in := s.running.Load().inlet
	in.beats.Lock()
	defer in.beats.Unlock()
	was := in.settled
	in.settled = func(term uint64) bool {
		is := was(term)
		looked(is)
		return is
	}
}

// Present is the state, as it would be sent to another node.
func (s *Store) Present() (*raft.SnapshotMeta, []byte, error) {
	meta, from, err := s.snaps.Open(presentID)
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(from)
	return meta, data, errors.Join(err, from.Close())
}
