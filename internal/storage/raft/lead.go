package raft

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/raft/wal"
)

// running is a Store's part in the cluster.
type running struct {
	raft   *raft.Raft
	inlet  *inlet
	notify chan bool
	again  chan struct{} // asks watch whether raft leads
	done   chan struct{} // closed when this node leaves
	asks   asks
	work   sync.WaitGroup

	installs installs
	hung     atomic.Pointer[storing] // the write for which the disk did not answer, as was said last

	pacing  sync.Mutex
	hurried atomic.Bool // the pace is goneTime; set with pacing held
}

// pause waits, and reports whether this node takes part still.
func (r *running) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.done:
		return false
	}
}

// A leadership is the time in which this node may write: it has applied all that was committed before.
type leadership struct {
	term uint64
	over chan struct{} // closed when it ends

	handing atomic.Bool // to another, on purpose: nothing more is begun
}

// A pending is the Apply under way.
type pending struct {
	proposal
	show    func() error
	claimed bool // the state machine has it; guarded by the Store's mu
	done    chan struct{}
	err     error // set before done is closed
}

func (p *pending) finish(err error) {
	p.err = err
	close(p.done)
}

func (s *Store) waits(p proposal) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting != nil && s.waiting.proposal == p
}

// claim returns the Apply that waits for the entry, which it will be told of, or nil when nobody waits any more.
func (s *Store) claim(p proposal) *pending {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil || s.waiting.proposal != p {
		return nil
	}
	s.waiting.claimed = true
	return s.waiting
}

// abandon ends the wait for p, unless the state machine has it already. Then its entry, should it come, is a stranger's.
func (s *Store) abandon(p *pending) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == p {
		s.waiting = nil
	}
	return !p.claimed
}

// StartOptions say how a node takes part.
type StartOptions struct {
	Transport Transport // closed by Stop
	// Bootstrap begins a cluster of this node alone.
	Bootstrap bool
}

// Start takes part in the cluster until Stop. The node follows until Events.Lead is called.
func (s *Store) Start(o StartOptions) error {
	s.starts.Lock()
	defer s.starts.Unlock()
	if err := s.broken.get(); err != nil {
		return err
	}
	if s.running.Load() != nil {
		return errs.New(errs.Internal, "raft is started twice")
	}
	conf := s.raftConfig()
	r := &running{notify: make(chan bool), again: make(chan struct{}, 1), done: make(chan struct{})}
	conf.NotifyCh = r.notify
	r.inlet = newInlet(o.Transport)
	r.inlet.clock = s.clock
	r.inlet.heard = func(id raft.ServerID, term uint64, sent time.Duration) { s.heard(r, id, term, sent) }
	r.inlet.others = &s.others
	r.inlet.done = r.done
	r.inlet.settled = s.settled
	r.inlet.beaten = func() { s.calm(r) }
	r.inlet.intercept = func(call raft.RPC) (raft.RPC, bool) { return s.intercept(r, call) }
	r.inlet.patience = conf.ElectionTimeout
	r.inlet.ends = r.installs.ended
	r.inlet.leads = func(id raft.ServerID, to raft.ServerAddress, term uint64) bool { return s.leadsTo(r, id, to, term) }
	r.inlet.hangs = func() bool { return s.hangs(r) }
	r.inlet.renew, r.inlet.lately = r.renew, s.lately
	r.inlet.handed, r.inlet.follows, r.inlet.believes = s.lease.handedIn, s.follows, s.believes
	if err := s.mendLog(); err != nil {
		return err
	}
	if err := s.recover(r.inlet); err != nil {
		return err
	}
	if err := s.checkLog(); err != nil {
		return err
	}
	s.logs.believed.Store(0) // raft looks anew
	s.outlive()
	if o.Bootstrap {
		err := raft.BootstrapCluster(conf, s.logs, s.stable, s.snaps, r.inlet, raft.Configuration{Servers: []raft.Server{{
			Suffrage: raft.Voter, ID: raft.ServerID(s.cfg.NodeID), Address: r.inlet.LocalAddr(),
		}}})
		if err != nil {
			return errs.New(errs.Unavailable, "begin a raft cluster: %w", err)
		}
	}
	var err error
	if r.raft, err = raft.NewRaft(conf, fsm{s}, s.logs, noted{s.stable, s}, s.snaps, r.inlet); err != nil {
		return errs.New(errs.Unavailable, "start raft: %w", err)
	}
	s.running.Store(r)
	r.work.Go(r.inlet.run)
	r.work.Go(func() { s.watch(r) })
	if s.alone(r) {
		// There is nobody to wait for.
		header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(s.cfg.NodeID), Addr: []byte(r.inlet.LocalAddr())}
		if answer := <-r.inlet.say(&raft.TimeoutNowRequest{RPCHeader: header}); answer.Error != nil {
			s.log.Debug("this node is alone, and leads only when its time has come", "error", answer.Error)
		}
	}
	return nil
}

// follows reports whether this node hears a leader, and has promised it not to have another elected; or has less than raft believes (see given).
func (s *Store) follows() bool {
	r := s.running.Load()
	if r == nil {
		return false
	}
	_, leader := r.raft.LeaderWithID()
	return s.logs.believed.Load() > 0 || leader != "" && time.Since(r.raft.LastContact()) < heartbeatTime
}

// believes is another node that raft takes for the leader, as that speaks to this one; nil for none.
func (s *Store) believes() *raft.RPCHeader {
	id, address := s.Leader()
	if id == "" || id == s.cfg.NodeID {
		return nil
	}
	return &raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(address)}
}

// settled reports whether a heartbeat of a term can change nothing: this node follows in that term, or is beyond it.
func (s *Store) settled(term uint64) bool {
	r := s.running.Load()
	if r == nil {
		return false
	}
	noted, err := s.stable.GetUint64([]byte(termKey)) // does not rise while a heartbeat is looked at (inlet.raising), and is never below raft's
	now := r.raft.CurrentTerm()
	return term < now || err == nil && term == now && noted == now && r.raft.State() == raft.Follower
}

// outlive waits until no leader can rest on what this node promised before it was started: by this process or another.
func (s *Store) outlive() {
	if s.promised() {
		time.Sleep(time.Until(s.silent.Add(leaseTime)))
	}
}

// promised reports whether another node may have led this one. The state need not know of it: a crash may have taken from it what is in the log.
func (s *Store) promised() bool {
	s.mu.Lock()
	others := len(s.peers.conf.Servers) > 1
	s.mu.Unlock()
	v, err := s.survey()
	return others || err != nil || len(v.Peers) > 1
}

func (s *Store) raftConfig() *raft.Config {
	conf := raft.DefaultConfig()
	m := time.Duration(s.cfg.Multiplier)
	conf.LocalID = raft.ServerID(s.cfg.NodeID)
	conf.HeartbeatTimeout, conf.ElectionTimeout = heartbeatTime*m, heartbeatTime*m
	conf.LeaderLeaseTimeout, conf.CommitTimeout = stepDownTime*m, commitTime
	conf.MaxAppendEntries = maxAppend
	conf.TrailingLogs, conf.SnapshotThreshold, conf.SnapshotInterval = s.cfg.TrailingLogs, s.cfg.SnapshotThreshold, s.cfg.SnapshotInterval
	conf.NoSnapshotRestoreOnStart = true // the state is there
	conf.NoLegacyTelemetry = true
	conf.ShutdownOnRemove = false
	conf.Logger = NewLogger(s.log)
	return conf
}

// alone reports whether this node is the only voter.
func (s *Store) alone(r *running) bool {
	voters := 0
	for _, srv := range r.raft.GetConfiguration().Configuration().Servers {
		if srv.Suffrage != raft.Voter {
			continue
		}
		voters++
		if string(srv.ID) != s.cfg.NodeID {
			return false
		}
	}
	return voters == 1
}

// mendLog removes a log that ends before the state, or contradicts it: a crash came between a snapshot and the end of the
// log that it replaces. One that begins behind the state, and not with the entry after it, cannot be mended: raft would end the process.
func (s *Store) mendLog() error {
	first, err := s.logs.FirstIndex()
	if err != nil {
		return errs.New(errs.Unavailable, "read the raft log: %w", err)
	}
	last, err := s.logs.LastIndex()
	if err != nil {
		return errs.New(errs.Unavailable, "read the raft log: %w", err)
	}
	at := s.position()
	behind := last > 0 && first > at.index+1
	if behind && !s.isFormer(last) {
		return errs.New(errs.Failed, "the raft log begins with entry %d, and the state ends with entry %d: what lies between is lost here. %s", first, at.index, wal.Advice)
	}
	if last == 0 || at.index == 0 || at.index < first && !behind {
		return nil
	}
	if at.index <= last && !behind {
		var log raft.Log
		if err := s.logs.GetLog(at.index, &log); err != nil {
			return errs.New(errs.Unavailable, "read entry %d of the raft log: %w", at.index, err)
		}
		if log.Term == at.term {
			return nil
		}
	}
	s.log.Warn("the raft log is not the one that the state goes on with, and is begun anew", "state", at.index, "log", last)
	if err := s.logs.DeleteRange(first, last); err != nil {
		return errs.New(errs.Unavailable, "begin the raft log anew: %w", err)
	}
	return nil
}

// checkLog reads the entries that the state has not: raft would end the process if one could not be read. And it refuses votes from before the newest of
// them: raft notes a term before it takes an entry of it, so the file of the votes is an older one, and what the node voted since it could vote again.
func (s *Store) checkLog() error {
	last, err := s.logs.LastIndex()
	if err != nil {
		return errs.New(errs.Unavailable, "read the raft log: %w", err)
	}
	at := s.position()
	newest := at.term
	for i := at.index + 1; i <= last; i++ {
		var log raft.Log
		if err := s.logs.GetLog(i, &log); err != nil {
			return errs.New(errs.KindOf(err), "read entry %d of the raft log: %w", i, err)
		}
		newest = max(newest, log.Term)
	}
	term, err := s.stable.GetUint64([]byte(termKey))
	if err != nil {
		return errs.New(errs.Unavailable, "read the raft term: %w", err)
	}
	if term < newest {
		return errOldVotes(newest, term)
	}
	// Raft notes its term when it is started, and ends the process where it cannot.
	return s.stable.SetUint64([]byte(termKey), term)
}

func errOldVotes(newest, term uint64) error {
	return errs.New(errs.Failed, "the node has entries of term %d, and votes of term %d: these are from an earlier time. %s", newest, term, wal.Advice)
}

// Stop leaves: the node neither votes nor leads any more. It can still be read.
func (s *Store) Stop() {
	s.starts.Lock()
	defer s.starts.Unlock()
	r := s.running.Load()
	if r == nil {
		return
	}
	through := make(chan struct{})
	defer close(through)
	go s.giveUp(through)
	r.installs.end()
	s.follow()
	r.installs.under.Wait()
	r.answered()
	ended := r.raft.Shutdown()
	close(r.inlet.left)
	if t, is := r.inlet.Transport.(Parting); is {
		t.Part()
	}
	if err := ended.Error(); err != nil {
		s.log.Warn("stop raft", "error", err)
	}
	r.inlet.ended()
	close(r.done)
	r.work.Wait()
	s.follow() // should it have begun to lead since
	if err := r.inlet.Close(); err != nil {
		s.log.Warn("close the raft transport", "error", err)
	}
	s.silent = time.Now()
	s.running.Store(nil)
}

// giveUp ends the wait of a state machine whose disk is full, should a stop not come through because of it: what it holds up would
// never end otherwise. The store is broken then, until arca is started again, and all that was applied is there.
func (s *Store) giveUp(through <-chan struct{}) {
	t := time.NewTicker(stopPatience)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.state.Load().GiveUp()
		case <-through:
			return
		}
	}
}

// stopPatience is how long a stop waits for room on the disk.
const stopPatience = 3 * time.Second

// watch turns raft's notices of leadership into Lead and Follow.
func (s *Store) watch(r *running) {
	var caughtUp chan error
	var term uint64    // in which this node is catching up
	var said time.Time // when it was said last that it is not through
	catchUp := func() {
		ch, current := make(chan error, 1), r.raft.CurrentTerm()
		caughtUp, term = ch, current
		r.work.Go(func() {
			before := r.raft.CommitIndex()
			err := s.barrier(r, current)
			if err == nil {
				s.reached(before) // raft's own entries among them leave no trace in the state
			}
			if err != nil { // leadership is being handed over, for one
				r.pause(catchUpPause)
			}
			ch <- err
		})
	}
	for {
		select {
		case leads := <-r.notify:
			if caughtUp = nil; leads { // what it would say is of an earlier leadership
				catchUp()
			} else {
				s.follow()
			}
		case <-r.again:
			if caughtUp == nil && r.raft.State() == raft.Leader {
				catchUp()
			}
		case err := <-caughtUp:
			if caughtUp = nil; err == nil && r.raft.CurrentTerm() == term {
				s.lead(r, term)
			} else if r.raft.State() == raft.Leader {
				if time.Since(said) >= catchUpSilence {
					s.log.Warn("the new leader is not caught up yet", "error", err)
					said = time.Now()
				}
				catchUp()
			}
		case <-r.done:
			return
		}
	}
}

// barrier returns when all that was committed before is applied, or this node leads no more in the term. Where its disk is full it cannot
// be, and nobody else leads while this node does: it has another take over.
func (s *Store) barrier(r *running, term uint64) error {
	done := make(chan error, 1)
	if !r.ask(func() { done <- r.raft.Barrier(enqueueTimeout).Error() }) {
		return raft.ErrRaftShutdown
	}
	look := time.NewTicker(catchUpLook)
	defer look.Stop()
	var tried time.Time
	for {
		select {
		case err := <-done:
			return err
		case <-look.C:
		case <-r.done:
			return raft.ErrRaftShutdown
		}
		if r.raft.State() != raft.Leader || r.raft.CurrentTerm() != term {
			return raft.ErrLeadershipLost
		}
		if !s.state.Load().Full() || time.Since(tried) < giveWayPause {
			continue
		}
		tried = time.Now()
		s.log.Error("the disk is full: this node was elected and cannot take in what was written before, so another is to lead the cluster")
		go func() {
			if err := s.pass(r, ""); err != nil {
				s.log.Warn("no other node takes over", "error", err)
			}
		}()
	}
}

// catchUpLook is how often a new leader that is not caught up looks why.
const catchUpLook = time.Second

// catchUpSilence is how long nothing more is said of a leader that is not caught up: its log's disk may hang for long.
const catchUpSilence = 10 * time.Second

// catchUpPause is how long a leader that could not catch up waits until it tries again.
const catchUpPause = 20 * time.Millisecond

// askAgain has watch look whether raft leads, after a leadership ended otherwise than by raft's word.
func (s *Store) askAgain() {
	r := s.running.Load()
	if r == nil {
		return
	}
	select {
	case r.again <- struct{}{}:
	default:
	}
}

// lead begins this node's leadership of a term, in which it is caught up.
func (s *Store) lead(r *running, term uint64) {
	s.mode.Lock()
	defer s.mode.Unlock()
	if s.leading.Load() != nil || s.broken.get() != nil {
		return
	}
	l := &leadership{term: term, over: make(chan struct{})}
	s.lease.begin(l.term)
	s.leading.Store(l)
	s.pace(r, leaderTime)
	r.work.Go(func() { s.beat(r, l) })
	s.log.Info("this node leads the cluster", "term", l.term)
	if s.on.Lead != nil {
		s.on.Lead()
	}
}

func (s *Store) follow() {
	if s.leading.Load() == nil {
		return // mode may be held for long: by a state machine that waits for room on the disk
	}
	s.mode.Lock()
	defer s.mode.Unlock()
	s.followLocked()
}

// followLocked ends this node's leadership, if it has it. The caller holds mode.
func (s *Store) followLocked() {
	l := s.leading.Load()
	if l == nil {
		return
	}
	s.lease.begin(0) // before others can see that the leadership is over: it may be handed on then
	s.leading.Store(nil)
	close(l.over)
	if r := s.running.Load(); r != nil {
		s.pace(r, heartbeatTime)
	}
	s.log.Info("this node does not lead the cluster any more", "term", l.term)
	if s.on.Follow != nil {
		s.on.Follow()
	}
}

// Apply implements storage.Backend. Only the leader applies.
func (s *Store) Apply(ctx context.Context, ops storage.Batch) error {
	return s.ApplyShow(ctx, ops, func() error { return nil })
}

var _ storage.Shower = (*Store)(nil)

// ApplyShow implements storage.Shower. Other nodes may show an entry as soon as they hear that it is committed; so this
// one's readers wait for show, too, once raft says that (see Fresh).
func (s *Store) ApplyShow(ctx context.Context, ops storage.Batch, show func() error) error {
	s.applies <- struct{}{}
	defer func() { <-s.applies }()
	l, r := s.leading.Load(), s.running.Load()
	if l == nil || r == nil {
		if err := s.broken.get(); err != nil {
			return fmt.Errorf("%w: %w", storage.ErrNotApplied, err)
		}
		return errVoid
	}
	if l.handing.Load() {
		return errVoid
	}
	if ctx.Err() != nil { // looked at after leading: whose time has ended writes nothing in the next one
		return fmt.Errorf("%w: %w", storage.ErrNotApplied, contextErr(ctx))
	}
	s.mu.Lock()
	s.number++
	p := &pending{proposal: proposal{by: s.by, number: s.number, after: s.at.batch}, show: show, done: make(chan struct{})}
	s.mu.Unlock()
	data, err := p.encode(ops)
	if err != nil {
		return fmt.Errorf("%w: %w", storage.ErrNotApplied, err)
	}
	if err := s.state.Load().Room(2 * len(data)); err != nil { // in the log and in the state
		if !s.lost(s.state.Load()) {
			s.giveWay(r)
		}
		return err
	}
	s.mu.Lock()
	s.waiting = p
	s.mu.Unlock()
	return s.propose(ctx, r, l, p, data)
}

// giveWayPause is how long a leader that cannot write waits until it tries again to have another lead: that one's disk may
// be full, too.
const giveWayPause = 5 * time.Second

// giveWay hands the leadership over, since this node's disk is full. It reads on. The caller holds applies.
func (s *Store) giveWay(r *running) {
	now := time.Now()
	if now.Sub(s.gaveWay) < giveWayPause || s.alone(r) {
		return
	}
	s.gaveWay = now
	r.work.Go(func() {
		if err := s.StepDown(""); err != nil {
			s.log.Warn("this node cannot write, and no other takes over", "error", err)
			return
		}
		s.log.Warn("this node cannot write: another leads the cluster now")
	})
}

// propose gives the entry to raft, and waits until it is in the state.
func (s *Store) propose(ctx context.Context, r *running, l *leadership, p *pending, data []byte) error {
	defer s.abandon(p)
	failed := make(chan error, 1)
	apply := func() {
		if err := r.raft.Apply(data, 0).Error(); err != nil {
			failed <- err
		}
	}
	if !r.ask(apply) {
		return errVoid
	}
	var why error
	select {
	case <-p.done:
		return p.err
	case why = <-failed:
	case <-l.over:
		why = errVoidUnknown
	case <-ctx.Done():
		why = contextErr(ctx)
	}
	if !s.abandon(p) { // the state machine has it
		<-p.done
		return p.err
	}
	switch {
	case errors.Is(why, raft.ErrNotLeader), errors.Is(why, raft.ErrLeadershipTransferInProgress):
		// The entry was refused before it came into the log.
		return errVoid
	case errors.Is(why, errVoidUnknown):
		return why
	}
	// The DB above takes no writes any more, since it does not know the outcome. It learns that by applying what the log
	// holds, and begins anew then.
	r.installs.unlessOver(func() { r.work.Go(s.Again) })
	return errs.New(errs.Unavailable, "raft: %w", why)
}

// Again has this node, if it leads, begin that anew: Events.Follow, and Events.Lead when it has caught up, as long as raft
// does not choose another.
func (s *Store) Again() {
	s.follow()
	s.askAgain()
}

// hangTime is how long a leader waits for the disk of its log until it is not heard any more: longer than a disk that is only slow takes. stallTime is the same for its state, which may have to merge tables first. For each
// hangRate bytes it waits a second more: a large write would be tried on one slow disk after the other, and never come to its end.
const (
	hangTime  = 5 * time.Second
	stallTime = 30 * time.Second
	hangRate  = 1 << 20
)

// hangs reports whether the log waits for its disk, which neither takes what it is given nor fails, or the state does. Raft does nothing else meanwhile but to send heartbeats, by which others would follow it
// and nobody could write. So it is not to be heard: others elect one, and it sees that when the disk is there again. The only voter leads on, and is read.
func (s *Store) hangs(r *running) bool {
	w, ofState := s.logs.under.Load(), false
	if !s.late(w, hangTime) {
		w, ofState = s.replays.Load(), true
		if !s.late(w, stallTime) || s.state.Load().Full() { // it waits for room: see barrier
			return false
		}
	}
	if s.alone(r) {
		return false
	}
	if r.hung.Swap(w) != w {
		const unheard = " does not answer: this node is not heard as the leader any more, so that another can be elected"
		if ofState {
			s.log.Error("the disk of the raft state"+unheard, "since", w.since)
		} else {
			s.log.Error("the disk of the raft log"+unheard, "since", w.since)
		}
		r.installs.unlessOver(func() { r.work.Go(s.Again) }) // who waits here is told
	}
	return true
}

// late reports whether a write takes longer than it may.
func (s *Store) late(w *storing, most time.Duration) bool {
	return w != nil && time.Since(w.since) >= most*time.Duration(s.cfg.Multiplier)+time.Duration(w.bytes)*time.Second/hangRate
}

// errVoidUnknown is the answer to a write that was under way when another node took over.
var errVoidUnknown = errs.New(errs.Unavailable, "another node became the active one while this was written")

// Leading reports whether this node leads, and has the right to write.
func (s *Store) Leading() bool { return s.leading.Load() != nil }

// Leader returns id and address of the leader that this node knows of, or "".
func (s *Store) Leader() (id, address string) {
	r := s.running.Load()
	if r == nil {
		return "", ""
	}
	a, i := r.raft.LeaderWithID()
	return string(i), string(a)
}
