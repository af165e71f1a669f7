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
// to the leader allows, and raft, which need not wait by chance for as long again. Where the leader was heard meanwhile, ended looks again: what came before the end
// may have been heard late, from behind a slow disk. It returns when all that is over.
func (s *Store) Gone(id string, ended func() bool) {
	r := s.running.Load()
	if r == nil {
		return
	}
	for range goneLooks {
		if !s.impatient(r, id) || !ended() {
			return
		}
	}
}

// goneLooks is how often Gone takes a leader for gone that is heard then: one that can be dialled by nobody here is heard as before.
const goneLooks = 3

// impatient waits as long as this node's promise to a leader lasts that is gone, and has another elected then. It reports whether the leader was heard meanwhile,
// so that it did not.
func (s *Store) impatient(r *running, id string) (heard bool) {
	last := r.raft.LastContact()
	if is, _ := s.Leader(); is != id || id == s.cfg.NodeID || r.hurried.Load() {
		return false
	}
	wait := time.Until(last.Add(goneTime*time.Duration(s.cfg.Multiplier))) + rand.N(goneSpread) //nolint:gosec // spreads elections
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.done:
		return false
	}
	r.pacing.Lock()
	defer r.pacing.Unlock()
	if is, _ := s.Leader(); is != id {
		return false
	}
	if !r.raft.LastContact().Equal(last) {
		return true
	}
	s.log.Warn("the process of the active node has ended: another is elected", "node", id)
	s.paceLocked(r, goneTime)
	return false
}

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
