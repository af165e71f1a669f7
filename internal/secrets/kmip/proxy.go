package kmip

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/pires/go-proxyproto"

	"arca/internal/errs"
)

// proxies reads addresses and networks.
func proxies(list []string) ([]netip.Prefix, error) {
	if len(list) > maxAddresses {
		return nil, errs.New(errs.Invalid, "proxy_protocol_authorized_addrs has at most %d addresses and networks", maxAddresses)
	}
	out := make([]netip.Prefix, 0, len(list))
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if !strings.Contains(text, "/") {
			var ip netip.Addr
			if ip, err = netip.ParseAddr(text); err == nil {
				p, err = ip.Unmap().WithZone("").Prefix(ip.Unmap().BitLen())
			}
		}
		if err != nil {
			return nil, errs.New(errs.Invalid, "proxy_protocol_authorized_addrs: %q is neither an address nor a network, such as 10.0.0.0/24", text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func isProxy(list []netip.Prefix, remote netip.AddrPort) bool {
	ip := remote.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// balanced reads whose connection a balancer hands on; nil when there are too many of that address. A header is read in
// both versions of the protocol; without one the connection is the balancer's own, as for its probes. A damaged one, or none within the time for
// a handshake, ends the connection with the first byte that is read.
func (v *server) balanced(c *connection, raw net.Conn) net.Conn {
	at := v.at.Load()
	told := proxyproto.NewConn(raw, proxyproto.WithPolicy(proxyproto.USE), proxyproto.SetReadHeaderTimeout(at.timeout))
	remote := addrOf(told) // which reads the header
	v.mu.Lock()
	defer v.mu.Unlock()
	from := addressOf(remote)
	if v.byAddress[from] >= at.maxByAddr {
		v.meters.event(at, connectionRefused, "max_connections_per_address")
		return nil
	}
	c.from = from
	v.byAddress[from]++
	return told
}

// addrOf is where a connection comes from. A header may tell of no address, or of one that is none of IP: then it is the balancer's.
func addrOf(c net.Conn) netip.AddrPort {
	if b, ok := c.(*proxyproto.Conn); ok {
		if a, ok := b.RemoteAddr().(*net.TCPAddr); ok && a != nil && a.AddrPort().IsValid() {
			return a.AddrPort()
		}
		c = b.Raw()
	}
	remote, _ := netip.ParseAddrPort(c.RemoteAddr().String()) // that of a TCP connection always is
	return remote
}
