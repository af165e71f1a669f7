//go:build linux || darwin || freebsd

package socket

import (
	"errors"
	"net"
	"syscall"
)

// Stale reports whether a connection that nobody uses was closed by either side, or has been told something, which is that it will be.
func Stale(c net.Conn) bool {
	raw, err := system(c)
	if raw == nil || err != nil {
		return err != nil
	}
	quiet := false
	err = raw.Control(func(fd uintptr) { // Read would wait for the client's own reader, which may still listen
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR)
	})
	return err != nil || !quiet
}

// system is a connection as the system has it; nil for one that it does not have.
func system(c net.Conn) (syscall.RawConn, error) {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = over.NetConn()
	}
	sys, ok := c.(syscall.Conn)
	if !ok {
		return nil, nil //nolint:nilnil // there is none
	}
	return sys.SyscallConn()
}
