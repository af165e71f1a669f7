package server

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	"arca/internal/config"
)

// apiAddr is the address that the node tells others: the configured one, or
// that of its first listener.
func (n *node) apiAddr() string {
	first := slices.IndexFunc(n.cfg.Listeners, func(l config.Listener) bool { return l.Type != "kes" })
	if n.cfg.APIAddr != "" || first < 0 {
		return n.cfg.APIAddr
	}
	s := &n.cfg.Listeners[first]
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
	if port == "0" && len(n.listeners) > first { // the system has chosen one
		_, port, _ = net.SplitHostPort(n.listeners[first].Addr().String())
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
