package listener

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"arca/internal/config"
	"arca/internal/errs"
)

// bind opens the socket.
func bind(s *config.Listener) (net.Listener, error) {
	if s.Type == "unix" {
		return bindUnix(s)
	}
	l, err := net.Listen("tcp", s.Address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errs.New(errs.Invalid, "the address is in use by another process")
	}
	if errors.Is(err, syscall.EACCES) {
		return nil, errs.New(errs.Invalid, "this user may not listen there (ports below 1024 need CAP_NET_BIND_SERVICE): %w", err)
	}
	return l, err
}

func bindUnix(s *config.Listener) (net.Listener, error) {
	if err := removeStale(s.Address); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", s.Address)
	if err != nil {
		return nil, err
	}
	if err := admit(s); err != nil {
		_ = l.Close() // the first error says what is wrong
		return nil, err
	}
	return l, nil
}

// removeStale removes the socket that a killed server left behind. One that
// somebody answers at stays.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode()&fs.ModeSocket == 0 {
		return errs.New(errs.Invalid, "there is a file of that name which is no socket")
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close() // only asked whether somebody is there
		return errs.New(errs.Invalid, "the socket is in use by another process")
	}
	return os.Remove(path)
}

// admit sets owner, group and mode of the socket.
func admit(s *config.Listener) error {
	uid, gid := -1, -1
	var err error
	if s.SocketUser != "" {
		if uid, err = lookUp(s.SocketUser, func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		}); err != nil {
			return errs.New(errs.Invalid, "socket_user: %w", err)
		}
	}
	if s.SocketGroup != "" {
		if gid, err = lookUp(s.SocketGroup, func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		}); err != nil {
			return errs.New(errs.Invalid, "socket_group: %w", err)
		}
	}
	if uid >= 0 || gid >= 0 {
		if err := os.Chown(s.Address, uid, gid); err != nil {
			return err
		}
	}
	if s.SocketMode == "" {
		return nil
	}
	mode, err := strconv.ParseUint(s.SocketMode, 8, 32)
	if err != nil || mode > 0o777 {
		return errs.New(errs.Invalid, `socket_mode must be octal, such as "0660", not %q`, s.SocketMode)
	}
	return os.Chmod(s.Address, fs.FileMode(mode))
}

// lookUp takes a number or a name.
func lookUp(name string, find func(string) (string, error)) (int, error) {
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	id, err := find(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(id)
}

// nets are addresses and ranges that are trusted.
type nets []netip.Prefix

func parseNets(texts []string) (nets, error) {
	var out nets
	for _, t := range texts {
		if ap, err := netip.ParseAddrPort(t); err == nil { // Vault's dev listener writes it with a port
			t = ap.Addr().String()
		}
		if a, err := netip.ParseAddr(strings.Trim(t, "[]")); err == nil {
			a = a.Unmap().WithZone("")
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nil, errs.New(errs.Invalid, "%q is neither an address nor a range such as 10.0.0.0/8", t)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// has reports whether host:port is trusted.
func (n nets) has(hostport string) bool {
	ap, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return false
	}
	a := ap.Addr().Unmap().WithZone("")
	for _, p := range n {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
