package kmip

import (
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Bounds on connections, where the configuration says nothing else.
const (
	maxConnections  = 10_000 // of a mount
	maxOfRole       = 1_000
	maxOfAddress    = 2_500 // of one client's address; of IPv6, of its network /64
	maxHandshakes   = 512   // under way at a time, of a mount
	maxHandshakesBy = 64    // ... of one address

	smallMessage = 64 << 10 // bytes, up to which a message is served whatever else is
	largeAtOnce  = 4        // messages of more bytes
)

// turn waits until a message of some bytes may be taken apart and served; over must be called after
// that. Taken apart, a message takes up to five times its bytes: of large ones that are there, all but
// a few wait. ok is false when too much time has passed, or the server ends.
func (v *server) turn(size int) (over func(), ok bool) {
	if size <= smallMessage {
		return func() {}, true
	}
	patience := time.NewTimer(messageTime)
	defer patience.Stop()
	select {
	case v.large <- struct{}{}:
		return func() { <-v.large }, true
	case <-patience.C:
	case <-v.ctx.Done():
	}
	return nil, false
}

// guarded serves a connection, which a panic ends: a mistake of ours must not end the others'.
func (v *server) guarded(serve func()) {
	defer func() {
		if r := recover(); r != nil {
			v.panicked(r)
		}
	}()
	serve()
}

// panicked logs a panic, and returns by what it is found in the log.
func (v *server) panicked(r any) (id string) {
	id = newUUID()
	v.host.Log().Error("a request ended in a panic", "id", id, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	return id
}

// addressOf is what the bound by address counts by.
func addressOf(a netip.AddrPort) string {
	ip := a.Addr().Unmap()
	if ip.Is6() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// A gate bounds the handshakes under way. When there are too many, the oldest of
// them ends, not the newest: those who open connections and say nothing do not shut
// out others, whose handshakes take milliseconds.
type gate struct {
	mu    sync.Mutex
	under []*connection  // guarded by mu; oldest first
	by    map[string]int // guarded by mu: how many of an address
}

func newGate() *gate { return &gate{by: map[string]int{}} }

// enter counts a handshake in, and ends another when there are too many.
func (g *gate) enter(c *connection) {
	g.mu.Lock()
	var evicted *connection
	if g.by[c.from] >= maxHandshakesBy {
		evicted = g.take(func(x *connection) bool { return x.from == c.from })
	} else if len(g.under) >= maxHandshakes {
		evicted = g.take(func(*connection) bool { return true })
	}
	g.under = append(g.under, c)
	g.by[c.from]++
	g.mu.Unlock()
	if evicted != nil {
		_ = evicted.raw.Close() // it has said nothing yet
	}
}

// leave counts a handshake out, which may have been ended.
func (g *gate) leave(c *connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.take(func(x *connection) bool { return x == c })
}

// take removes the first that fits. mu is held.
func (g *gate) take(fits func(*connection) bool) *connection {
	at := slices.IndexFunc(g.under, fits)
	if at < 0 {
		return nil
	}
	c := g.under[at]
	g.under = slices.Delete(g.under, at, at+1)
	if g.by[c.from]--; g.by[c.from] <= 0 {
		delete(g.by, c.from)
	}
	return c
}
