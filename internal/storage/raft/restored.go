package raft

import (
	"errors"

	"github.com/hashicorp/raft"

	"arca/internal/errs"
)

// errDoubt is the answer to a read of a state of which it is not known that the cluster has taken it.
var errDoubt = errs.New(errs.NotActive, "a snapshot was restored, and this node does not know yet whether the cluster has taken it: try again in a moment")

func (s *Store) doubted() doubt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doubt
}

// Restored reports whether the state is a snapshot that was restored, of which this node does not know whether the cluster has taken it.
func (s *Store) Restored() bool { return s.doubted() != (doubt{}) }

// vouched reports whether the state, that is as far as m, is one that the cluster has taken: it is if m, the leader's word,
// is of it or of what came after, or if raft knows that something after it is committed.
func (s *Store) vouched(m Mark) bool {
	d := s.doubted()
	if d == (doubt{}) || m.Index > d.index || m.Index == d.index && m.Term == d.term {
		return true
	}
	r := s.running.Load()
	return r != nil && r.raft.CommitIndex() > d.index
}

// intercept keeps from raft what it would wrongly act on, and reports whether it did. What raft is to have is returned, as it can take it.
func (s *Store) intercept(r *running, call raft.RPC) (on raft.RPC, kept bool) {
	switch req := call.Command.(type) {
	case *raft.AppendEntriesRequest:
		s.calm(r)
		if s.refuseOlder(r, call, req) {
			return call, true
		}
		if s.logs.gone(req.PrevLogEntry) {
			call.Respond(&raft.AppendEntriesResponse{Term: r.raft.CurrentTerm(), LastLog: s.position().index, NoRetryBackoff: true}, nil)
			return call, true
		}
		call.Command = s.anchored(req)
	case *raft.InstallSnapshotRequest:
		return call, refuseBorrowed(r, call, req) || s.refuseLate(r, call, req)
	case *raft.TimeoutNowRequest:
		return call, s.refuseTransfer(r, call, req)
	}
	return call, false
}

// refuseTransfer refuses to be elected at the word of a node that is not the leader of this node's term: who led before may
// have sent it long ago. An election by transfer is the one for which voters break the promise that the leader of now rests its lease on.
func (s *Store) refuseTransfer(r *running, call raft.RPC, req *raft.TimeoutNowRequest) bool {
	term := r.raft.CurrentTerm() // first: the leader is not of an earlier one
	_, leader := r.raft.LeaderWithID()
	handed, told := handedIn(req)
	if leader == "" || leader != raft.ServerID(req.ID) || told && handed != term || s.logs.believed.Load() > 0 {
		call.Respond(nil, errors.New("this node follows another leader, or none, or one of another term, or lacks what that one has: it does not take over"))
		return true
	}
	r.inlet.heir.Store(term + 1)
	return false
}

// refuseOlder refuses what comes of a leader that does not have the restored state that this node has: raft would
// store that leader's entries beside a state that they do not belong to, and skip those that it takes for applied.
//
// The log of a leader that has the state begins behind it. One that does not is asked from its log's beginning on. Where that is gone it
// sends a snapshot, which takes the state's place; where it is there this node cannot be brought back.
func (s *Store) refuseOlder(r *running, call raft.RPC, req *raft.AppendEntriesRequest) bool {
	d, term := s.doubted(), r.raft.CurrentTerm()
	switch {
	case d == (doubt{}), req.Term <= d.term, req.Term < term:
		return false // that term's leader restored it; and raft refuses who leads no more
	case req.PrevLogEntry == 0 && len(req.Entries) == 0:
		return false // that it leads is all that it says
	case req.PrevLogEntry > d.index, req.PrevLogEntry == d.index && req.PrevLogTerm == d.term:
		return false
	case req.PrevLogEntry == 0:
		s.leave(errs.New(errs.Unavailable, "a snapshot was restored on this node, but the cluster goes on without it, and its state cannot be "+
			"mended: remove the node from the cluster (operator raft remove-peer), empty its storage folder, and join it anew"))
	}
	call.Respond(&raft.AppendEntriesResponse{Term: term, NoRetryBackoff: true}, nil) // LastLog is 0
	return true
}

// given looks at a state that has taken the place of another, in a log that raft empties next. Raft's library goes on believing in the end of that log where the state
// ends before it: it would refuse what follows on the state, as it looks for the entry before that, be sent the state again, and so on. So it is told that the entries in which
// it believes are others than a leader's, until it has some of these. By what it believes it votes meanwhile, as it did before it got the state: nothing that was
// acknowledged rests on the state alone. But it must not stand for election, as it has not what it would say that it has.
//
// In the place of a state in doubt that would not be safe: who believes in entries behind that state could be one of most, for a leader that has them.
func (s *Store) given(before doubt, at position) {
	r := s.running.Load()
	if r == nil || before != (doubt{}) && at.index == before.index && at.term == before.term {
		return
	}
	switch last := r.raft.LastIndex(); {
	case at.index > last:
		s.logs.believed.Store(0)
		return
	case before == (doubt{}):
		s.logs.believed.Store(last)
		return
	}
	s.leave(errs.New(errs.Unavailable, "a snapshot was restored on this node, but the cluster goes on without it; the node has the cluster's state again: start arca again"))
}
