// Package redirect decides to which addresses a browser may be sent back after a
// login.
package redirect

import (
	"net"
	"net/url"
	"slices"
)

// Allowed reports whether to is one of the addresses, or one of these on another
// port of the user's own machine (RFC 8252, section 7.3).
func Allowed(addresses []string, to string) bool {
	if slices.Contains(addresses, to) {
		return true
	}
	u, err := url.Parse(to)
	if err != nil || !loopback(u.Hostname()) {
		return false
	}
	u.Host = u.Hostname()
	return slices.ContainsFunc(addresses, func(text string) bool {
		a, err := url.Parse(text)
		if err != nil || !loopback(a.Hostname()) {
			return false
		}
		a.Host = a.Hostname()
		return a.String() == u.String()
	})
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
