package raft

import (
	"errors"
	"io"

	"github.com/hashicorp/raft"
)

// What the state holds is committed: it is the same in the log of whoever leads now. Raft's library goes by the log alone, of which a snapshot
// leaves nothing, and so does the wrong thing with some of what comes late, or again.

// refuseLate answers a snapshot of which the state has everything, or will have by the log: one that was under way for long, or sent again as its answer was lost. Raft
// would go back to it, empty the log of what followed, and yet take the log's end for where it was: it would acknowledge what comes next and never be able to apply it.
func (s *Store) refuseLate(r *running, call raft.RPC, req *raft.InstallSnapshotRequest) bool {
	term := r.raft.CurrentTerm()
	if req.Term != term || !s.holds(req.LastLogIndex, req.LastLogTerm) {
		return false
	}
	answerSnapshot(call, &raft.InstallSnapshotResponse{Term: term, Success: true})
	return true
}

// refuseBorrowed refuses a snapshot of a later term than that in which its sender leads: who leads no more, and does not know it everywhere yet, sends the state that it has by
// now, of another leader. This node would have a state of a term that it does not know, and its votes look then as if they were from an earlier time.
func refuseBorrowed(r *running, call raft.RPC, req *raft.InstallSnapshotRequest) bool {
	if req.LastLogTerm <= req.Term {
		return false
	}
	answerSnapshot(call, &raft.InstallSnapshotResponse{Term: r.raft.CurrentTerm()})
	return true
}

// answerSnapshot answers a snapshot when all of it is read.
func answerSnapshot(call raft.RPC, answer *raft.InstallSnapshotResponse) {
	go func() { // beside what others say; ends with the connection, which the transport closes
		if call.Reader != nil {
			_, _ = io.Copy(io.Discard, call.Reader) // who sent it may have gone; its answer goes nowhere then
		}
		call.Respond(answer, nil)
	}()
}

// holds reports whether the state is one after an entry, or will be by the log: after that very one where that can be told. A state in doubt is no other's.
//
// Two logs that have an entry of the same index and term are the same up to it. So a node whose log has the entry that a snapshot ends with has acknowledged by right all
// up to it, has handed it to the state machine, perhaps, which goes on to apply it, and may have acknowledged more: its log must stay. Nobody removes the entry while
// it is looked at, as it is committed; and what the log shows is on the disk.
func (s *Store) holds(index, term uint64) bool {
	at, d := s.position(), s.doubted()
	var log raft.Log
	switch {
	case index == at.index:
		return term == at.term
	case d != doubt{}:
		return false
	case index > at.index:
		first, err := s.logs.FirstIndex()
		return err == nil && first <= at.index+1 && s.logs.believed.Load() == 0 && s.logs.GetLog(index, &log) == nil && log.Term == term
	}
	return s.logs.GetLog(index, &log) != nil || log.Term == term
}

// anchored has raft take entries that follow on the one that the state is after. Where the log begins behind that one raft knows it only as long as the log is empty:
// entries whose acknowledgement was lost would be refused when they come again, for a snapshot to be sent, and then be refused again. So would all be where raft
// believes that it has another log (see given).
func (s *Store) anchored(req *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	at := s.position()
	if req.PrevLogEntry == 0 || req.PrevLogEntry != at.index || req.PrevLogTerm != at.term {
		return req
	}
	var log raft.Log
	last, err := s.logs.LastIndex()
	if err != nil || last <= at.index && s.logs.believed.Load() == 0 || !errors.Is(s.logs.GetLog(at.index, &log), raft.ErrLogNotFound) {
		return req // raft can look itself
	}
	own := *req
	own.PrevLogEntry, own.PrevLogTerm = 0, 0 // nothing to look up
	own.LeaderCommitIndex = min(req.LeaderCommitIndex, at.index+uint64(len(req.Entries)))
	return &own
}
