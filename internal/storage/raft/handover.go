package raft

import (
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
	ready := s.leading.Load() != nil
	if !ready && r.raft.State() != raft.Leader {
		return errVoid
	}
	if s.alone(r) {
		return errs.New(errs.Precondition, "there is no other voter that could take over")
	}
	to, furthest := s.successor(r, id)
	if furthest || !ready && id == "" { // who answers is not known before this node is caught up, and it may never be: see barrier
		to = s.furthest(r)
	}
	if to == nil {
		return errs.New(errs.Precondition, "no other voter can take over: none answers, or those that do have not taken what was written")
	}
	s.drain()
	s.follow() // first: the lease must not outlive the leader
	err := s.handOver(r, to)
	s.askAgain()
	if err != nil {
		return errs.New(errs.Unavailable, "hand over the leadership: %w", err)
	}
	return nil
}

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

// successor chooses who takes over: the voter with an id or, if that is "", one that has answered of late; nil is nobody.
// When all have, it had better be the furthest.
func (s *Store) successor(r *running, id string) (to *raft.Server, furthest bool) {
	servers, term := s.servers(r), r.raft.CurrentTerm()
	since := s.clock.Now() - 2*beatTime*time.Duration(s.cfg.Multiplier)
	s.lease.mu.Lock()
	defer s.lease.mu.Unlock()
	furthest = id == ""
	for i, srv := range servers {
		last, answered := s.lease.heard[srv.ID]
		switch {
		case srv.Suffrage != raft.Voter || string(srv.ID) == s.cfg.NodeID:
			if id != "" && string(srv.ID) == id { // raft refuses it, and says why
				return &servers[i], false
			}
		case !s.others.take(srv.ID, term):
			furthest = false
		case id != "":
			if string(srv.ID) == id {
				return &servers[i], false
			}
		case !answered, last < since:
			furthest = false
		case to == nil || last > s.lease.heard[to.ID]:
			to = &servers[i]
		}
	}
	return to, furthest
}

// furthest is the voter whose log leads furthest, as far as they have said, of those that can be told to take over; nil for none. Of several it is the next one in the
// configuration: two whose disks are full do not take turns. Raft's own choice could be one that was told before.
func (s *Store) furthest(r *running) (to *raft.Server) {
	servers, term := s.servers(r), r.raft.CurrentTerm()
	var most uint64
	own := slices.IndexFunc(servers, func(srv raft.Server) bool { return string(srv.ID) == s.cfg.NodeID })
	for n := range servers {
		i := (own + 1 + n) % len(servers)
		srv := servers[i]
		if srv.Suffrage != raft.Voter || string(srv.ID) == s.cfg.NodeID || !s.others.take(srv.ID, term) {
			continue
		}
		if last := s.others.reached(srv.ID, term); to == nil || last > most {
			to, most = &servers[i], last
		}
	}
	return to
}

// others is up to where the logs of other nodes lead, as they say whenever they answer in a term.
//
// Who was told to take over, and is not as far as the leader was then, is not told to again until it is: raft's library asks a node's replication, which goes on until the node has taken what it is
// sent, to say when that is, and remembers one such question. A second one keeps the library from anything else that a leader does, for as long as the node takes nothing
// (its disk fails, or is full), and the leader goes on being heard: nobody could write any more.
type others struct {
	mu   sync.Mutex
	term uint64
	last map[raft.ServerID]uint64
	need map[raft.ServerID]uint64 // how far those have to come that were told to take over
}

// in goes over to a later term, with whose leadership all begins anew. The caller holds mu.
func (o *others) in(term uint64) (present bool) {
	if term > o.term {
		o.term, o.last, o.need = term, map[raft.ServerID]uint64{}, map[raft.ServerID]uint64{}
	}
	return term == o.term
}

// reach notes up to where a node's log leads.
func (o *others) reach(id raft.ServerID, term, last uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.in(term) {
		o.last[id] = last
	}
}

// reached is up to where a node's log leads, as it has said; 0 if it has said nothing.
func (o *others) reached(id raft.ServerID, term uint64) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.in(term) {
		return 0
	}
	return o.last[id]
}

// told notes that a node is told to take over, while the leader's log leads up to an entry.
func (o *others) told(id raft.ServerID, term, last uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.in(term) {
		o.need[id] = last
	}
}

// take reports whether a node can be told to take over.
func (o *others) take(id raft.ServerID, term uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.in(term) || o.last[id] >= o.need[id]
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
