package server

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
)

// apiAddr is the address that the node tells others: the configured one, or
// that of its first listener.
func (n *node) apiAddr() string {
	if n.cfg.APIAddr != "" || len(n.cfg.Listeners) == 0 {
		return n.cfg.APIAddr
	}
	s := &n.cfg.Listeners[0]
	scheme := "http://"
	if s.TLS() {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(s.Address)
	switch {
	case s.Type == "unix":
		return "unix://" + s.Address
	case err != nil:
		return scheme + s.Address
	}
	if port == "0" && len(n.listeners) > 0 { // the system has chosen one
		_, port, _ = net.SplitHostPort(n.listeners[0].Addr().String())
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = ownAddress()
	}
	return scheme + net.JoinHostPort(host, port)
}

// clusterAddr is the configured address for other nodes, or the API's with the
// next port.
func (n *node) clusterAddr() string {
	if n.cfg.ClusterAddr != "" || n.cfg.DisableClustering {
		return n.cfg.ClusterAddr
	}
	u, err := url.Parse(n.apiAddr())
	if err != nil || u.Port() == "" {
		return ""
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return ""
	}
	return "https://" + net.JoinHostPort(u.Hostname(), strconv.Itoa(port+1))
}

// ownAddress is a private address of this machine, for listeners on all
// addresses; without one it is loopback.
func ownAddress() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "127.0.0.1"
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is4() && p.Addr().IsPrivate() {
			return p.Addr().String()
		}
	}
	return "127.0.0.1"
}
