package socket

import (
	"net"

	"golang.org/x/sys/unix"
)

// HungUp reports whether the other side of a connection sends nothing more, or has gone. Nothing is read.
func HungUp(c net.Conn) bool {
	raw, err := system(c)
	if raw == nil || err != nil {
		return err != nil
	}
	over := false
	err = raw.Control(func(fd uintptr) {
		look := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(look, 0)
		over = err == nil && n > 0 && look[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return err != nil || over
}
