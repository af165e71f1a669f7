package raft

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"arca/internal/errs"
)

// A lease is the time for which no other node can lead: until it ends the leader's state is the newest there is.
//
// A voter that acknowledges an append grants no other node a vote for goneTime after; so the lease runs for leaseTime
// from the moment at which an append was sent that most voters have acknowledged, each its newest. When the answer comes
// does not count. (raft.VerifyLeader would not do: it takes an answer for one to its question that was sent before.) Nor do
// answers to heartbeats: a node gives them while it is about to vote for another.
//
// Who was told to take over is voted for all the same. Should it not come to lead, this node leads on in that term, without a
// lease: a read waits until most voters have acknowledged what was sent after it began.
//
// Times are those of Store.clock, which goes on while the machine is suspended: others elect a leader then.
type lease struct {
	mu     sync.Mutex
	term   uint64                          // of the leadership; 0 for none
	handed uint64                          // the last term in which another was told to take over
	most   time.Duration                   // when what most voters have acknowledged was sent; 0 for none
	acks   map[raft.ServerID]time.Duration // when what each voter has acknowledged was sent
	asked  time.Duration                   // when voters were asked last
	more   chan struct{}                   // closed when most grows, or the leadership ends; nil if nobody waits
}

// begin starts anew, in a term in which this node leads; 0 if it does not.
func (l *lease) begin(term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term, l.most, l.asked = term, 0, -askPause
	l.acks = map[raft.ServerID]time.Duration{}
	l.wake()
}

// handOver notes that another is told to take over in a term, of which a lease may not have begun yet.
func (l *lease) handOver(term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handed = max(l.handed, term)
}

// handedIn is the last term of which handOver was told.
func (l *lease) handedIn() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.handed
}

// left is how much of the lease is left, at now, for a read that began at a time; not above 0 for nothing.
func (l *lease) left(began, now time.Duration) time.Duration {
	switch {
	case l.most == 0, l.handed == l.term && l.most < began:
		return 0
	}
	return l.most + leaseTime - now
}

func (l *lease) wake() {
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
}

// extend counts the acknowledgements, at now. The caller holds mu.
func (l *lease) extend(self raft.ServerID, servers []raft.Server, now time.Duration) {
	sent := make([]time.Duration, 0, 8)
	for _, srv := range servers {
		switch {
		case srv.Suffrage != raft.Voter:
		case srv.ID == self:
			sent = append(sent, now)
		default:
			sent = append(sent, l.acks[srv.ID])
		}
	}
	if len(sent) == 0 {
		return
	}
	slices.SortFunc(sent, func(a, b time.Duration) int { return cmp.Compare(b, a) })
	if most := sent[len(sent)/2]; most > l.most {
		l.most = most
		l.wake()
	}
}

func (s *Store) servers(r *running) []raft.Server {
	return r.raft.GetConfiguration().Configuration().Servers
}

// heard takes a voter's acknowledgement of what this node sent as the leader of a term. It is one that its raft has given
// itself, between two other things.
func (s *Store) heard(r *running, id raft.ServerID, term uint64, sent time.Duration) {
	l := &s.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	if term != l.term || sent <= l.acks[id] {
		return
	}
	l.acks[id] = sent
	l.extend(raft.ServerID(s.cfg.NodeID), s.servers(r), s.clock.Now())
}

// ErrNoLeader says that a node cannot tell what the newest state is.
var ErrNoLeader error = errs.New(errs.NotActive, "this node does not know of an active node: try again in a moment")

// askPause is how long voters have to answer until they are asked again, and freshPatience how long a read waits for them.
const (
	askPause      = 50 * time.Millisecond
	freshPatience = time.Second
)

// Fresh returns when the state that can be read on this node, the leader, is known to hold all that was acknowledged, or
// shown by any node, before the call. While requests come it costs a look at the clock.
func (s *Store) Fresh(ctx context.Context) error {
	l, r := s.leading.Load(), s.running.Load()
	if l == nil || r == nil {
		return ErrNoLeader
	}
	if err := s.hold(ctx, r, l); err != nil {
		return err
	}
	index, _, err := s.committed(r)
	if err != nil {
		return err
	}
	for {
		progress := s.awaits(index)
		if progress == nil {
			return nil
		}
		select {
		case <-progress:
		case <-l.over:
			return ErrNoLeader
		case <-ctx.Done():
			return contextErr(ctx)
		}
	}
}

// hold returns while the lease lasts.
func (s *Store) hold(ctx context.Context, r *running, l *leadership) error {
	var patience *time.Timer
	began, pause := s.clock.Now(), askPause
	for now := began; ; now = s.clock.Now() {
		s.lease.mu.Lock()
		left := s.lease.left(began, now)
		if left <= leaseTime/2 && s.lease.term == l.term {
			servers := s.servers(r)
			s.lease.extend(raft.ServerID(s.cfg.NodeID), servers, now)
			if s.lease.handed == l.term {
				pause = askPause / 10 // each read needs an answer to what is asked after it began
			}
			if left = s.lease.left(began, now); left <= leaseTime/2 && now-s.lease.asked >= pause {
				s.lease.asked = now
				s.ask(r, l, servers)
			}
		}
		if left > 0 {
			s.lease.mu.Unlock()
			if r.raft.State() != raft.Leader || r.raft.CurrentTerm() != l.term { // this node itself may have voted for another since; l ends in a moment
				return ErrNoLeader
			}
			return nil
		}
		if s.lease.more == nil {
			s.lease.more = make(chan struct{})
		}
		more := s.lease.more
		s.lease.mu.Unlock()
		if patience == nil {
			patience = time.NewTimer(freshPatience)
			defer patience.Stop()
		}
		again := time.NewTimer(pause)
		select {
		case <-more:
		case <-again.C:
		case <-patience.C:
			again.Stop()
			return errs.New(errs.NotActive, "this node may not be the active one any more: most others do not answer")
		case <-l.over:
			again.Stop()
			return ErrNoLeader
		case <-ctx.Done():
			again.Stop()
			return contextErr(ctx)
		}
		again.Stop()
	}
}

// mostAsks bounds the questions to one node that has not answered.
const mostAsks = 4

// ask asks the other voters whether they take this node for the leader. What they answer comes by heard.
func (s *Store) ask(r *running, l *leadership, servers []raft.Server) {
	for _, srv := range servers {
		if srv.Suffrage != raft.Voter || string(srv.ID) == s.cfg.NodeID || !r.asks.take(srv.ID) {
			continue
		}
		r.work.Go(func() {
			defer r.asks.give(srv.ID)
			req := &raft.AppendEntriesRequest{
				RPCHeader: raft.RPCHeader{
					ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(s.cfg.NodeID), Addr: []byte(r.inlet.LocalAddr()),
				},
				Term: l.term, Leader: []byte(r.inlet.LocalAddr()), //nolint:staticcheck // as raft's leaders fill it
				LeaderCommitIndex: 1, // no news, but a heartbeat no more: its raft answers itself
			}
			if err := r.inlet.AppendEntries(srv.ID, srv.Address, req, new(raft.AppendEntriesResponse)); err != nil {
				s.log.Debug("ask whether this node leads", "node", string(srv.ID), "error", err)
			}
		})
	}
}

// asks counts questions that are not answered yet.
type asks struct {
	mu    sync.Mutex
	under map[raft.ServerID]int
}

func (a *asks) take(id raft.ServerID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.under == nil {
		a.under = map[raft.ServerID]int{}
	}
	if a.under[id] >= mostAsks {
		return false
	}
	a.under[id]++
	return true
}

func (a *asks) give(id raft.ServerID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.under[id]--
}

// committed returns the newest entry that raft knows to be committed and that leaves a trace in the state.
func (s *Store) committed(r *running) (index, term uint64, err error) {
	last := r.raft.CommitIndex()
	s.mu.Lock()
	at, reached := s.ran, s.reachAt
	s.mu.Unlock()
	from := max(at.index, reached)
	for i := last; i > from; i-- {
		var log raft.Log
		if err := s.logs.GetLog(i, &log); err != nil {
			s.mu.Lock()
			at := s.ran
			s.mu.Unlock()
			if at.index >= i { // by a snapshot, meanwhile
				return at.index, at.term, nil
			}
			return 0, 0, errs.New(errs.NotActive, "read entry %d of the raft log: %w", i, err)
		}
		if log.Type == raft.LogCommand || log.Type == raft.LogConfiguration {
			return log.Index, log.Term, nil
		}
	}
	if last > from && reached >= at.index {
		s.reached(last) // raft's own entries: nobody need look at them again
	}
	return at.index, at.term, nil
}

// awaits returns what is closed when the state has come nearer to an entry; nil when it is there.
func (s *Store) awaits(index uint64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reachAt >= index {
		return nil
	}
	if s.progress == nil {
		s.progress = make(chan struct{})
	}
	return s.progress
}

// A Mark is how far the log was committed, when most voters had confirmed that its author leads.
type Mark struct {
	Index, Term uint64 // of the newest entry that leaves a trace in the state
	Leadership  uint64 // term of the leader
	ID, Address string // of the leader
}

// Mark returns how far a node must be to have all that was acknowledged, or shown by any node, before the call. Only the
// leader knows.
func (s *Store) Mark(ctx context.Context) (Mark, error) {
	l, r := s.leading.Load(), s.running.Load()
	if l == nil || r == nil {
		return Mark{}, ErrNoLeader
	}
	if err := s.hold(ctx, r, l); err != nil {
		return Mark{}, err
	}
	index, term, err := s.committed(r)
	if err != nil {
		return Mark{}, err
	}
	return Mark{Index: index, Term: term, Leadership: l.term, ID: s.cfg.NodeID, Address: string(r.inlet.LocalAddr())}, nil
}

// Await returns when this node has all that m marks.
//
// Raft's leader tells its followers what is committed with the next entries, or after some 50 ms. A Mark is the leader's
// word for it, so this node is told at once, as if by the leader: an append without entries, that says no more than the
// leader did. Where the entry has not come yet, the append is refused, and tried again when it has.
func (s *Store) Await(ctx context.Context, m Mark) error {
	for {
		progress := s.awaits(m.Index)
		if progress == nil {
			if !s.vouched(m) {
				return errDoubt
			}
			return nil
		}
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
