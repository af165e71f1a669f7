package server

import (
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"arca/internal/errs"
)

// writePID writes the process's id where the configuration asks for it.
func (n *node) writePID() error {
	if n.cfg.PIDFile == "" {
		return nil
	}
	if err := os.WriteFile(n.cfg.PIDFile, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil { //nolint:gosec // for others to read
		return errs.New(errs.Invalid, "pid_file: %w", err)
	}
	n.pid = n.cfg.PIDFile
	return nil
}

func (n *node) removePID() {
	if n.pid != "" {
		_ = os.Remove(n.pid) // a stale file does no harm
		n.pid = ""
	}
}

// notify tells systemd the state of the service (sd_notify(3)). Without
// NOTIFY_SOCKET, or should it fail, nothing happens.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if strings.HasPrefix(path, "@") { // abstract
		path = "\x00" + path[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	_, _ = c.Write([]byte(state)) // nobody is to be told
	_ = c.Close()
}

// monotonicMicros is the time that systemd wants with RELOADING=1.
func monotonicMicros() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return t.Nano() / 1000
}
