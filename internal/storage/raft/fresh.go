package raft

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"arca/internal/errs"
)

// A lease is the time for which no other node can lead: until it ends the leader's state is the newest there is.
type lease struct {
	mu    sync.Mutex
	until time.Time
	check *check // under way; nil if none
}

// A check asks the other voters once, for all who wait.
type check struct {
	done chan struct{}
	err  error
}

// end takes the lease away.
func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = time.Time{}
}

// ErrNoLeader says that a node cannot tell what the newest state is.
var ErrNoLeader error = errs.New(errs.NotActive, "this node does not know of an active node: try again in a moment")

// Fresh returns when the state that can be read on this node, the leader, is known to hold all that was acknowledged
// before the call. While requests come it costs a look at the clock.
func (s *Store) Fresh(ctx context.Context) error {
	for {
		l, r := s.leading.Load(), s.running.Load()
		if l == nil || r == nil {
			return ErrNoLeader
		}
		now := time.Now()
		s.lease.mu.Lock()
		left := s.lease.until.Sub(now)
		if left > leaseTime/2 {
			s.lease.mu.Unlock()
			return nil
		}
		c := s.lease.check
		if c == nil {
			c = &check{done: make(chan struct{})}
			s.lease.check = c
			r.work.Go(func() { s.renew(r, l, c) })
		}
		s.lease.mu.Unlock()
		if left > 0 {
			return nil
		}
		select {
		case <-c.done:
			if c.err != nil {
				return c.err
			}
		case <-ctx.Done():
			return contextErr(ctx)
		}
	}
}

// renew asks whether most voters still take this node for the leader of its term.
func (s *Store) renew(r *running, l *leadership, c *check) {
	start := time.Now()
	err := r.raft.VerifyLeader().Error()
	s.lease.mu.Lock()
	defer s.lease.mu.Unlock()
	s.lease.check = nil
	switch {
	case err != nil:
		c.err = errs.New(errs.NotActive, "this node may not be the active one any more: %w", err)
	case s.leading.Load() != l || r.raft.CurrentTerm() != l.term:
		c.err = ErrNoLeader
	default:
		s.lease.until = start.Add(leaseTime)
	}
	close(c.done)
}

// A Mark is how far the leader was, when most voters had confirmed that it leads.
type Mark struct {
	Index, Term uint64 // of the newest entry in its state
	Leadership  uint64 // term of the leader
	ID, Address string // of the leader
}

// Mark returns how far a node must be to have all that was acknowledged before the call. Only the leader knows.
func (s *Store) Mark(ctx context.Context) (Mark, error) {
	l, r := s.leading.Load(), s.running.Load()
	if l == nil || r == nil {
		return Mark{}, ErrNoLeader
	}
	s.mu.Lock()
	at := s.at
	s.mu.Unlock()
	m := Mark{Index: at.index, Term: at.term, Leadership: l.term, ID: s.cfg.NodeID, Address: string(r.inlet.LocalAddr())}
	if err := s.Fresh(ctx); err != nil {
		return Mark{}, err
	}
	return m, nil
}

// Await returns when this node has all that m marks.
//
// Raft's leader tells its followers what is committed with the next entries, or after some 50 ms. A Mark is the leader's
// word for it, so this node is told at once, as if by the leader: an append without entries, that says no more than the
// leader did. Where the entry has not come yet, the append is refused, and tried again when it has.
func (s *Store) Await(ctx context.Context, m Mark) error {
	for {
		s.mu.Lock()
		if s.reachAt >= m.Index {
			s.mu.Unlock()
			return nil
		}
		if s.progress == nil {
			s.progress = make(chan struct{})
		}
		progress := s.progress
		s.mu.Unlock()
		r := s.running.Load()
		if r == nil {
			return ErrNoLeader
		}
		stored := s.logs.more()
		if r.raft.LastIndex() >= m.Index {
			s.commit(r, m)
		}
		select {
		case <-progress:
		case <-stored:
		case <-r.done:
			return ErrNoLeader
		case <-ctx.Done():
			return contextErr(ctx)
		}
	}
}

// commit tells this node's raft what the leader says of the log.
func (s *Store) commit(r *running, m Mark) {
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(m.ID), Addr: []byte(m.Address)}
	select {
	case <-r.inlet.say(&raft.AppendEntriesRequest{
		RPCHeader: header, Term: m.Leadership, Leader: []byte(m.Address), //nolint:staticcheck // as raft's leaders fill it
		PrevLogEntry: m.Index, PrevLogTerm: m.Term, LeaderCommitIndex: m.Index,
	}):
	case <-r.done:
	}
}
