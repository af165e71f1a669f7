package raft

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Raft's library sends its log to a node that cannot be reached after pauses that double, to ten seconds, and nothing ends such a pause; and where an attempt has failed it makes the next one only
// when there is something new, or after commitTime. So a node that is there again, and hears its leader, would lack what was written for that long: it answers no read meanwhile, and where
// another node ends then nobody can write. And a write under way when connections end waits, although all nodes are there. So what the library sends of the log is sent until it has
// come to the node (deliver), and where its pipeline ends there is something new (resume).

// returns tell that a node answers again.
type returns struct {
	mu   sync.Mutex
	wait map[raft.ServerID]chan struct{} // closed when the node has answered
}

// answer returns what is closed when a node has answered.
func (r *returns) answer(id raft.ServerID) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wait == nil {
		r.wait = map[raft.ServerID]chan struct{}{}
	}
	if r.wait[id] == nil {
		r.wait[id] = make(chan struct{})
	}
	return r.wait[id]
}

// answered says that a node has answered.
func (r *returns) answered(id raft.ServerID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.wait[id]; c != nil {
		close(c)
		delete(r.wait, id)
	}
}

// all says that any node may answer.
func (r *returns) all() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.wait {
		close(c)
	}
	clear(r.wait)
}

// deliver sends something. What is of the log is sent again until it has come to the node, or need not: that has another address, is no member, or this node leads no more in the term. The node
// takes the same twice for once.
func (in *inlet) deliver(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	for pause := deliverPause; ; {
		if in.hangs() {
			return errDiskHangs
		}
		err := in.Transport.AppendEntries(id, to, args, resp)
		if ofLog := args.PrevLogEntry > 0 || len(args.Entries) > 0; err == nil || !ofLog {
			return err
		}
		answer, again := in.returns.answer(id), time.Duration(0)
		if o := in.others.of(id, args.Term); o.heard && o.at >= in.lately() { // it is there: a connection has ended
			again = pause
			pause = min(2*pause, deliverRest)
		} else {
			pause = deliverPause
		}
		if !in.await(answer, again, func() bool { return in.leads(id, to, args.Term) }) {
			return err
		}
	}
}

// deliverPause is how long a leader waits until it sends again to a node that answers heartbeats, which becomes twice as long each time, to deliverRest.
const (
	deliverPause = 5 * time.Millisecond
	deliverRest  = 320 * time.Millisecond
)

// await waits for something, or for a while, where that is not 0, as long as it is of use, and reports whether it is.
func (in *inlet) await(what <-chan struct{}, most time.Duration, use func() bool) bool {
	look := time.NewTicker(awaitLook)
	defer look.Stop()
	var over <-chan time.Time
	if most > 0 {
		t := time.NewTimer(most)
		defer t.Stop()
		over = t.C
	}
	for use() {
		select {
		case <-what:
			return use()
		case <-over:
			return use()
		case <-look.C:
		case <-in.left:
			return false
		}
	}
	return false
}

// awaitLook is how often a leader looks whether a node that cannot be reached is to be sent something still.
const awaitLook = 100 * time.Millisecond

// resume has raft send to all what they lack, in a moment, as its pipeline to one of them has ended.
func (in *inlet) resume() {
	if in.resuming.Swap(true) {
		return
	}
	in.watching.Go(func() { // raft waits, when it ends, for who calls this
		t := time.NewTimer(resumePause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-in.left:
			return
		}
		in.resuming.Store(false)
		in.renew()
	})
}

// resumePause is how long a leader waits until it sends again where a pipeline has ended: others end in the same moment, and what is new is an entry.
const resumePause = 20 * time.Millisecond

// renew has raft send to all what they lack, if it leads.
func (r *running) renew() {
	if r.raft.State() == raft.Leader {
		r.raft.Barrier(enqueueTimeout) // nobody waits for it
	}
}

// leadsTo reports whether this node leads in a term, and raft sends its log to a node at an address.
func (s *Store) leadsTo(r *running, id raft.ServerID, to raft.ServerAddress, term uint64) bool {
	return r.raft.State() == raft.Leader && r.raft.CurrentTerm() == term &&
		slices.ContainsFunc(s.servers(r), func(srv raft.Server) bool { return srv.ID == id && srv.Address == to })
}
