package cluster

import (
	"arca/internal/errs"
	"arca/internal/storage/raft"
)

// Removed reports whether this node was taken out of the cluster: the leader has said so, or nobody leads this node, and the last that it heard of
// is a cluster without it. That it is still led says nothing: a leader that could not reach it when it was removed goes on for half a minute.
// A server that shares nothing, for which n is nil, was not.
func (n *Node) Removed() bool {
	if n == nil || n.running.Load() == nil || n.cfg.Store == nil {
		return false
	}
	if n.expelled.Load() {
		return true
	}
	if id, _ := n.part.Leader(); id != "" {
		return false
	}
	peers := n.cfg.Store.Peers()
	for _, p := range peers {
		if p.ID == n.cfg.NodeID {
			return false
		}
	}
	return len(peers) > 0
}

var errRemoved = errs.New(errs.NotActive, "this node was removed from its cluster: ask another one; to have it join again, give it an empty folder")

// NoLeader says why there is no node to send to what only the active one can serve.
func (n *Node) NoLeader() error {
	if n.Removed() {
		return errRemoved
	}
	return raft.ErrNoLeader
}
