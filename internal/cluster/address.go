package cluster

import (
	"context"
	"maps"
	"time"

	"arca/internal/errs"
)

// relocate gives a member the address that it says it has. Another member that has that one keeps it while it may be there: the first is told nothing
// then, and tries again by its next echo. When it is the first that answers there, the other is not, wherever it is: it stays a member without an
// address, until it says where it is. So nodes that come up with each other's addresses all get what they say.
func (n *Node) relocate(ctx context.Context, id, to string) error {
	err := n.cfg.Store.Move(id, to)
	if errs.Is(err, errs.Conflict) {
		if is := n.answersAt(ctx, to); is != id {
			n.park(id, to, is)
			return nil
		}
		if err = n.cfg.Store.Vacate(to, id); err == nil {
			err = n.cfg.Store.Move(id, to)
		}
	}
	if err != nil {
		return err
	}
	n.mu.Lock()
	delete(n.parked, id)
	n.mu.Unlock()
	n.log.Info("a node has another address now", "node", id, "address", to)
	return nil
}

// park tells once that a member does not get an address.
func (n *Node) park(id, to, answers string) {
	n.mu.Lock()
	told := n.parked[id] == to
	n.parked[id] = to
	n.mu.Unlock()
	if !told {
		n.log.Warn("a node says that it has the address of another member: it gets it when the other is heard elsewhere, or does not answer there any more",
			"node", id, "address", to, "answers", answers)
	}
}

// settle has this node, which leads, stand at its own address in the configuration: nobody else tells it of a new one.
func (n *Node) settle(r *running) {
	for _, p := range n.peers() {
		if p.ID != n.cfg.NodeID || p.Address == n.cfg.Address || n.cfg.Address == "" {
			continue
		}
		ctx, cancel := context.WithTimeout(r.ctx, dialTimeout)
		err := n.relocate(ctx, p.ID, n.cfg.Address)
		cancel()
		if err != nil {
			n.log.Warn("take this node's new address into the configuration of the cluster", "address", n.cfg.Address, "error", err)
		}
	}
}

// answersTimeout is how long a node may take to show at an address that it is there.
const answersTimeout = 2 * time.Second

// answersAt is the id of the unsealed node of this cluster that answers at an address, as its certificate says; "" where none does.
func (n *Node) answersAt(ctx context.Context, to string) string {
	id, _ := n.shownAt(ctx, to)
	return id
}

// shownAt is the id and the mark of the unsealed node of this cluster that answers at an address.
func (n *Node) shownAt(ctx context.Context, to string) (id, its string) {
	r := n.running.Load()
	if r == nil {
		return "", ""
	}
	ctx, cancel := context.WithTimeout(ctx, answersTimeout)
	defer cancel()
	c, err := r.web.dial(ctx, protoAsk, "", to)
	if err != nil {
		return "", ""
	}
	defer func() { _ = c.Close() }() // nothing was asked
	return node(c.ConnectionState()), mark(c.ConnectionState())
}

// double reports whether a member says at one address, as the process with a mark, that it is there, while another process with its id answers at the address
// that it has. An id is one node's: as two, it would acknowledge by one what the other does not have, and vote twice.
func (n *Node) double(ctx context.Context, id, says, its, has string) bool {
	is, other := n.shownAt(ctx, has)
	if is != id || other == its {
		return false
	}
	n.mu.Lock()
	told := n.doubles[id] == says
	n.doubles[id] = says
	n.mu.Unlock()
	if !told {
		n.log.Error("two nodes of this cluster have the same node_id: the one at the address that the cluster knows counts; stop the other, and give it another node_id and an empty folder",
			"node", id, "known", has, "other", says)
	}
	return true
}

// justNow is how long a member that was heard is taken to be there: longer than two of its echoes are apart.
const justNow = 2*echoEvery + time.Second

// Admit makes a new node a member, at a cluster address. Whatever had its id before is gone: a node that has lost its log
// must not vote as the one that had it. Likewise, whoever had its address is no member any more. So it is refused, with an error of the kind Conflict,
// while another has the id or the address.
func (n *Node) Admit(ctx context.Context, id, clusterAddr string) error {
	to, err := HostPort(clusterAddr)
	if err != nil {
		return err
	}
	n.admitting.Lock() // two with the same id, or address, might both find it free
	defer n.admitting.Unlock()
	if id == n.cfg.NodeID {
		return errs.New(errs.Conflict, "the node %q is the active one: give the new node another node_id", id)
	}
	if err := n.free(ctx, id, to); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // nobody was asked who is there, perhaps
		return errs.New(errs.Unavailable, "the node %q was not let in: %w", id, err)
	}
	if err := n.cfg.Store.Remove(id); err != nil {
		return err
	}
	n.mu.Lock()
	delete(n.known, id)
	n.mu.Unlock()
	if err := n.cfg.Store.Add(id, to); err != nil {
		return err
	}
	n.mu.Lock()
	maps.DeleteFunc(n.admitted, func(_ string, at time.Time) bool { return time.Since(at) > justNow })
	n.admitted[id] = time.Now()
	n.mu.Unlock()
	n.log.Info("a node joins the cluster", "node", id, "address", to)
	return nil
}

// free checks that no member is removed that is there when a node joins with an id and an address. One that joins answers nowhere yet: it has no
// certificate. A member with both the same is the same node, which has lost its folder; it need not wait until the old one is long unheard.
func (n *Node) free(ctx context.Context, id, to string) error {
	if is := n.answersAt(ctx, to); is != "" {
		return errs.New(errs.Conflict, "the node %q of this cluster answers at %q: the new node needs a cluster_addr of its own", is, to)
	}
	for _, p := range n.peers() {
		switch {
		case p.ID != id && p.Address != to, p.ID == id && p.Address == to:
			continue
		case p.ID == n.cfg.NodeID:
			return errs.New(errs.Conflict, "the address %q is that of the active node: the new node needs a cluster_addr of its own", to)
		case p.ID == id && n.answersAt(ctx, p.Address) == id:
			return errs.New(errs.Conflict, "a node %q of this cluster answers at %q: give the new node another node_id", id, p.Address)
		}
		n.mu.Lock()
		last := n.since // who was not heard has had no time for it before that
		if at, ok := n.admitted[p.ID]; ok && at.After(last) {
			last = at // nor has who was only just let in
		}
		if i, ok := n.known[p.ID]; ok {
			last = i.Heard
		}
		n.mu.Unlock()
		if ago := time.Since(last); ago < justNow {
			return errs.New(errs.Conflict, "the node %q at %q may still be there: if it is not, join again in %s",
				p.ID, p.Address, (justNow-ago).Round(time.Second)+time.Second)
		}
	}
	return nil
}
