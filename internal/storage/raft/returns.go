package raft

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// returns tell that a node answers again.
//
// Raft's library sends its log to a node that cannot be reached after pauses that double, to ten seconds, and nothing ends such a pause. So a node that is there again, and hears its leader, would
// lack what was written for that long: it answers no read meanwhile, and where another node ends then nobody can write. So what the library asks of a node that cannot be reached fails when
// the node has answered a heartbeat: there has been one failure then, and the pause is short.
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

// unreached waits until a node that could not be reached has answered, or need not: it has another address, is no member, or this node leads no more in the term.
func (in *inlet) unreached(id raft.ServerID, to raft.ServerAddress, term uint64) {
	answer := in.returns.answer(id)
	look := time.NewTicker(unreachedLook)
	defer look.Stop()
	for in.leads(id, to, term) {
		select {
		case <-answer:
			return
		case <-look.C:
		case <-in.left:
			return
		}
	}
}

// unreachedLook is how often a leader looks whether a node that cannot be reached is to be sent something still.
const unreachedLook = 100 * time.Millisecond

// leadsTo reports whether this node leads in a term, and raft sends its log to a node at an address.
func (s *Store) leadsTo(r *running, id raft.ServerID, to raft.ServerAddress, term uint64) bool {
	return r.raft.State() == raft.Leader && r.raft.CurrentTerm() == term &&
		slices.ContainsFunc(s.servers(r), func(srv raft.Server) bool { return srv.ID == id && srv.Address == to })
}
