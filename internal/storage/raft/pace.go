package raft

import (
	"math/rand/v2"
	"time"
)

// pace sets after how much silence this node, should it follow, would elect another leader; it sends heartbeats ten to five
// times in that time. A leader's own patience is of no use to it, and may be longer: so it sends fewer.
func (s *Store) pace(r *running, d time.Duration) {
	r.pacing.Lock()
	defer r.pacing.Unlock()
	s.paceLocked(r, d)
}

// paceLocked is pace for who holds pacing.
func (s *Store) paceLocked(r *running, d time.Duration) {
	r.hurried.Store(d == goneTime)
	c := r.raft.ReloadableConfig()
	c.HeartbeatTimeout, c.ElectionTimeout = d*time.Duration(s.cfg.Multiplier), d*time.Duration(s.cfg.Multiplier)
	if err := r.raft.ReloadConfig(c); err != nil {
		s.log.Warn("set the pace of heartbeats", "error", err)
	}
}

// Gone says that the process of a node has ended, for all that can be seen from here. Should it lead, this node has another elected as soon as its own promise
// to the leader allows, and raft, which need not wait by chance for as long again. Where the leader was heard meanwhile, or just after, ended looks again: what came before
// the end may have been heard late, from behind a slow disk. It returns when all that is over.
func (s *Store) Gone(id string, ended func() bool) {
	r := s.running.Load()
	if r == nil {
		return
	}
	for range goneLooks {
		heard, last := s.impatient(r, id)
		if heard = heard || !last.IsZero() && s.heardLate(r, id, last); !heard || !ended() {
			return
		}
	}
}

// goneLooks is how often Gone takes a leader for gone that is heard then: one that can be dialled by nobody here is heard as before.
const goneLooks = 3

// impatient waits as long as this node's promise to a leader lasts that is gone, and has another elected then. It reports whether the leader was heard meanwhile,
// so that it did not; else last is when it was heard last, zero where nothing was done.
func (s *Store) impatient(r *running, id string) (heard bool, last time.Time) {
	last = r.raft.LastContact()
	if is, _ := s.Leader(); is != id || id == s.cfg.NodeID {
		return false, time.Time{}
	}
	wait := time.Until(last.Add(goneTime*time.Duration(s.cfg.Multiplier))) + rand.N(goneSpread) //nolint:gosec // spreads elections
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.done:
		return false, time.Time{}
	}
	r.pacing.Lock()
	defer r.pacing.Unlock()
	if is, _ := s.Leader(); is != id {
		return false, time.Time{}
	}
	if !r.raft.LastContact().Equal(last) {
		return true, last
	}
	s.log.Warn("the process of the active node has ended: another is elected", "node", id)
	if r.hurried.Load() {
		s.paceLocked(r, heartbeatTime) // raft looks at once only where its patience becomes less
	}
	s.paceLocked(r, goneTime)
	return false, last
}

// heardLate reports whether a leader that was given up is heard all the same before raft has given it up: that was under way within this node, perhaps. Raft would wait
// by chance from then on.
func (s *Store) heardLate(r *running, id string, last time.Time) bool {
	over := time.NewTimer(goneTime * time.Duration(s.cfg.Multiplier))
	defer over.Stop()
	look := time.NewTicker(lateLook)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-over.C:
			return false
		case <-r.done:
			return false
		}
		if is, _ := s.Leader(); is != id {
			return false
		}
		if !r.raft.LastContact().Equal(last) {
			return true
		}
	}
}

// lateLook is how often heardLate looks.
const lateLook = 20 * time.Millisecond

// calm ends what Gone has begun: there is a leader.
func (s *Store) calm(r *running) {
	if !r.hurried.Load() {
		return
	}
	r.pacing.Lock()
	defer r.pacing.Unlock()
	if r.hurried.Load() { // and this node does not lead
		s.paceLocked(r, heartbeatTime)
	}
}

// beat has all followers hear this leader at the same time. Raft's own heartbeats have a timer for each follower, and it is the timers that an idle
// cluster's time goes to; they are set to times by which these have come.
func (s *Store) beat(r *running, l *leadership) {
	t := time.NewTicker(beatTime * time.Duration(s.cfg.Multiplier))
	defer t.Stop()
	for {
		select {
		case <-t.C:
			r.raft.VerifyLeader() // raft forgets it when most have answered; what comes of it raft sees to
		case <-l.over:
			return
		case <-r.done:
			return
		}
	}
}
