package cluster

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// partPause is how long the end of a process takes to close all that it has open, one after the other.
const partPause = 30 * time.Millisecond

// parted is told that a connection by which another node's raft spoke to this one has ended.
func (n *Node) parted(ctx context.Context, id string) {
	if n.looking.CompareAndSwap(false, true) {
		defer n.looking.Store(false)
		if n.ended(ctx, id) {
			n.cfg.Store.Gone(id, func() bool { return n.ended(ctx, id) })
		}
	}
}

// ended reports whether a node is the leader and nobody listens at its address any more: its process has ended, then; it was killed, say. Another can be elected
// without waiting until it would be missed. A network that is cut, or a machine that is gone, does not answer so.
func (n *Node) ended(ctx context.Context, id string) bool {
	leader, to := n.part.Leader()
	if id != leader || to == "" {
		return false
	}
	t := time.NewTimer(partPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return false
	}
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, "tcp", to)
	if err == nil {
		_ = c.Close() // it is there, and has closed one of several connections
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
