package raft

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"arca/internal/errs"
)

// StepDown gives the leadership to another voter, to that with an id or, if that is "", to one of those that answer. It
// returns when this node does not lead any more; when nobody takes over it leads on, with an error.
func (s *Store) StepDown(id string) error {
	r := s.running.Load()
	if r == nil {
		return errVoid
	}
	if s.leading.Load() == nil && r.raft.State() != raft.Leader {
		return errVoid
	}
	if s.alone(r) {
		return errs.New(errs.Precondition, "there is no other voter that could take over")
	}
	if s.heir(r, id, nil) == nil {
		return errNoHeir
	}
	s.drain()
	s.follow() // first: the lease must not outlive the leader
	err := s.pass(r, id)
	s.askAgain()
	if err != nil {
		return errs.New(errs.Unavailable, "hand over the leadership: %w", err)
	}
	return nil
}

// errNoHeir is of another kind than that there is no other voter: who has told the node to step down is to find it in the log.
var errNoHeir error = errs.New(errs.Unavailable, "no other voter can take over: none answers, or those that do have not taken what was written")

// pass has another voter take over, that with an id or, if that is "", the best one; where that fails at once, the next best is told, so that one that was stopped a moment ago
// costs no election. It returns when this node does not lead any more, or nobody has taken over.
func (s *Store) pass(r *running, id string) error {
	tried := map[raft.ServerID]bool{}
	until := s.clock.Now() + heartbeatTime*time.Duration(s.cfg.Multiplier) // as long as raft waits for one
	err := errNoHeir
	for s.clock.Now() < until {
		to := s.heir(r, id, tried)
		if to == nil {
			break
		}
		tried[to.ID] = true
		if !s.unasked(r, to.ID, until) {
			continue
		}
		for err = s.handOver(r, to); errors.Is(err, raft.ErrLeadershipTransferInProgress) && s.clock.Now() < until; err = s.handOver(r, to) {
			if !r.pause(passAgain) { // raft answers a moment before it has ended the attempt of before
				return raft.ErrRaftShutdown
			}
		}
		if err == nil || errors.Is(err, raft.ErrRaftShutdown) {
			return err
		}
		if r.raft.State() != raft.Leader { // who was told by another, or has asked by itself, was faster
			return nil
		}
	}
	return err
}

// unasked waits until raft need not ask the replication of a node whether that has all of the log, for as long as until, and reports whether that is so. Where it may have asked before in this term, and
// heard nothing, that question may be there still, whatever the node has taken since.
func (s *Store) unasked(r *running, id raft.ServerID, until time.Duration) bool {
	for term := r.raft.CurrentTerm(); ; {
		if o := s.others.of(id, term); o.need == 0 || o.matched >= r.raft.LastIndex() {
			return true
		}
		if s.clock.Now() >= until || !r.pause(passAgain) {
			return false
		}
	}
}

// passAgain is how long a hand-over waits for the one before it to end, or for a node to take what is under way.
const passAgain = 5 * time.Millisecond

// handOver tells a voter to take over, and waits until that is done or has failed.
func (s *Store) handOver(r *running, to *raft.Server) error {
	term := r.raft.CurrentTerm()
	s.lease.handOver(term)
	s.others.told(to.ID, term, r.raft.LastIndex())
	answer := make(chan error, 1)
	go func() { answer <- r.raft.LeadershipTransferToServer(to.ID, to.Address).Error() }()
	err := r.wait(answer)
	s.others.told(to.ID, term, r.raft.LastIndex()) // an entry may have come before raft heard of it
	return err
}

// heir chooses who is to take over: the voter with an id (raft itself would have one without a vote stand for election, and nobody lead) or, if that is "", of those that have answered of late and were not tried the one that has taken most of this leader's
// log; nil is nobody. Of several it is the next one in the configuration: two whose disks are full do not take turns. Raft's own choice could be one that was told before.
func (s *Store) heir(r *running, id string, tried map[raft.ServerID]bool) (to *raft.Server) {
	servers, term := s.servers(r), r.raft.CurrentTerm()
	since := s.lately()
	own := slices.IndexFunc(servers, func(srv raft.Server) bool { return string(srv.ID) == s.cfg.NodeID })
	var most uint64
	for n := range servers {
		srv := &servers[(own+1+n)%len(servers)]
		could := srv.Suffrage == raft.Voter && string(srv.ID) != s.cfg.NodeID
		o := s.others.of(srv.ID, term)
		switch {
		case !could, tried[srv.ID], o.matched < o.need:
		case id != "":
			if string(srv.ID) == id {
				return srv
			}
		case !o.heard, o.at < since:
		case to == nil || o.matched > most:
			to, most = srv, o.matched
		}
	}
	return to
}

// lately is since when something must have been sent that a node has answered, by Store.clock, for that to be there.
func (s *Store) lately() time.Duration {
	return s.clock.Now() - 2*beatTime*time.Duration(s.cfg.Multiplier)
}

// others is what a leader knows of other nodes in its term.
//
// Who was told to take over, and has not taken what the leader had written by then, is not told to again until it has, and lacks nothing else: raft's library asks the replication of a node that lacks something,
// which goes on until the node has taken what it is sent, to say when that is, and remembers one such question. A second one keeps the library from anything else that a leader does, for as long as the node takes nothing
// (its disk fails, or is full, or it is gone), and the leader goes on being heard: nobody could write any more. Where the leadership ends meanwhile the library may be kept so for ever, whenever it leads again.
type others struct {
	mu   sync.Mutex
	term uint64
	all  map[raft.ServerID]other
}

type other struct {
	heard   bool
	at      time.Duration // when the newest that it has answered was sent, by Store.clock
	matched uint64        // up to where its log is certain to be the leader's
	need    uint64        // up to where it has to be so before it can be told to take over
}

// note has what is known of a node be changed, by what is of a term. With that of a later leadership all begins anew.
func (o *others) note(id raft.ServerID, term uint64, change func(*other)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if term > o.term {
		o.term, o.all = term, map[raft.ServerID]other{}
	}
	if term == o.term {
		of := o.all[id]
		change(&of)
		o.all[id] = of
	}
}

// of is what is known of a node.
func (o *others) of(id raft.ServerID, term uint64) other {
	o.mu.Lock()
	defer o.mu.Unlock()
	if term != o.term {
		return other{}
	}
	return o.all[id]
}

// answered notes that a node has answered what was sent at a time.
func (o *others) answered(id raft.ServerID, term uint64, sent time.Duration) {
	o.note(id, term, func(of *other) { of.heard, of.at = true, max(of.at, sent) })
}

// took notes that a node has taken what it was sent.
func (o *others) took(id raft.ServerID, args *raft.AppendEntriesRequest) {
	o.note(id, args.Term, func(of *other) { of.matched = max(of.matched, args.PrevLogEntry+uint64(len(args.Entries))) })
}

// told notes that a node is told to take over, while the leader's log leads up to an entry.
func (o *others) told(id raft.ServerID, term, last uint64) {
	o.note(id, term, func(of *other) { of.need = last })
}

// drainTime is how long a leader that hands over waits for the write under way.
const drainTime = time.Second

// drain lets the write under way come to its end, and no other begin, so that the one who made it learns its outcome.
func (s *Store) drain() {
	l := s.leading.Load()
	if l == nil {
		return
	}
	l.handing.Store(true)
	t := time.NewTimer(drainTime)
	defer t.Stop()
	select {
	case s.applies <- struct{}{}:
		<-s.applies
	case <-l.over:
	case <-t.C:
	}
}
