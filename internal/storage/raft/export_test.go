package raft

import (
	"errors"

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

// LimitNotes has a store that is not started be able to write so many things about itself after on was called, as on a disk that fills up.
func (s *Store) LimitNotes(n int) (on func()) {
	l := &limited{StableStore: s.stable, left: -1}
	s.stable = l
	return func() { l.left = n }
}

type limited struct {
	raft.StableStore
	left int // below 0 for any number
}

var errNoRoom = errors.New("no room")

func (l *limited) take() bool {
	if l.left == 0 {
		return false
	}
	l.left--
	return true
}

func (l *limited) Set(key, v []byte) error {
	if !l.take() {
		return errNoRoom
	}
	return l.StableStore.Set(key, v)
}

func (l *limited) SetUint64(key []byte, v uint64) error {
	if !l.take() {
		return errNoRoom
	}
	return l.StableStore.SetUint64(key, v)
}
