//go:build !linux

package socket

import "net"

// HungUp reports whether the other side of a connection sends nothing more, or has gone, where one can look for that.
func HungUp(net.Conn) bool { return false }
