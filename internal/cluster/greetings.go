package cluster

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// maxHandshakes is how many connections there may be whose other side has not shown yet that it belongs to the cluster.
const maxHandshakes = 128

// greetings are these connections. Anybody can open them and say nothing; so when there are too many, one of them gives way to
// the next: the oldest of whoever has most. A member that calls from elsewhere is not pushed out, and one that calls from
// there has its turn. Who has shown a certificate of the cluster is not among them.
type greetings struct {
	mu   sync.Mutex
	list []greeting // the oldest first
}

type greeting struct {
	conn net.Conn
	from netip.Prefix
}

// begin takes in a connection, and returns the one that gives way, which the caller closes; nil for none.
func (g *greetings) begin(c net.Conn) (out net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.list) >= maxHandshakes {
		i := g.dispensable()
		out = g.list[i].conn
		g.list = slices.Delete(g.list, i, i+1)
	}
	g.list = append(g.list, greeting{c, source(c)})
	return out
}

// end lets a connection go: it has ended, or belongs to a member.
func (g *greetings) end(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = slices.DeleteFunc(g.list, func(o greeting) bool { return o.conn == c })
}

// dispensable is the oldest of the source that has most.
func (g *greetings) dispensable() (oldest int) {
	count := map[netip.Prefix]int{}
	most := 0
	for _, o := range g.list {
		count[o.from]++
		most = max(most, count[o.from])
	}
	return slices.IndexFunc(g.list, func(o greeting) bool { return count[o.from] == most })
}

// source is whom a connection is counted for: an address, or what one customer usually has of IPv6, 64 bits. The zero value is all whose address is not known.
func source(c net.Conn) netip.Prefix {
	at, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := at.Addr().Unmap().WithZone(""), 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // such numbers of bits exist
	return p
}
