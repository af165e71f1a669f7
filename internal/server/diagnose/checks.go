package diagnose

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"arca/internal/config"
	"arca/internal/listener"
	"arca/internal/mlock"
	"arca/internal/server/hsm"
	seal "arca/internal/server/seals"
	"arca/internal/server/stores"
)

const (
	fewFiles      = 1024
	littleSpace   = 1 << 30
	expiresSoon   = 30 * 24 * time.Hour
	storageMarker = "arca.storage"
)

func system() []*Check {
	return []*Check{openFiles()}
}

func openFiles() *Check {
	const name = "Check Open File Limits"
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return warn(name, "", "%v", err)
	}
	if limit.Cur <= fewFiles && limit.Max <= fewFiles { // Go raises it to Max by itself
		return warn(name, "Raise it: ulimit -n 65536, or LimitNOFILE=65536 in the systemd unit.", "this process may open %d files; each client takes one", limit.Max)
	}
	return good(name, "this process may open %d files", limit.Max)
}

// permissions looks whether others may change the configuration.
func permissions(paths []string) []*Check {
	var out []*Check
	for _, p := range paths {
		fi, err := os.Stat(p)
		if err != nil {
			continue // reading it has failed, or will
		}
		if fi.Mode().Perm()&0o002 != 0 && fi.Mode()&fs.ModeSticky == 0 {
			out = append(out, warn("Check File Permissions", "chmod o-w "+p, "everybody may write to %s", p))
		}
	}
	return out
}

func memoryLock(cfg *config.Config) *Check {
	const name = "Check mlock"
	if cfg.DisableMlock {
		if swapOn() {
			return warn(name, "Switch swap off or encrypt it, or remove disable_mlock.", "memory is not locked, and this system has swap")
		}
		return good(name, "memory is not locked; this system has no swap")
	}
	if err := mlock.Check(); err != nil {
		return bad(name, err)
	}
	return good(name, "memory can be locked")
}

func swapOn() bool {
	text, err := os.ReadFile("/proc/swaps")
	return err == nil && strings.Count(strings.TrimSpace(string(text)), "\n") > 0
}

func storage(cfg *config.Config, env *Env) []*Check {
	var out []*Check
	if env.Storage != nil {
		for _, err := range env.Storage(cfg, env.Getenv) {
			out = append(out, bad("Check Storage Stanza", err))
		}
	}
	return append(out, folder(cfg.Storage)...)
}

// folder looks at where the storage keeps what it keeps.
func folder(s *config.Storage) []*Check {
	if s == nil {
		return []*Check{bad("Create Storage Backend", errors.New("no storage is configured"))}
	}
	if stores.Known(s.Type) {
		return []*Check{good("Create Storage Backend", "storage %q is a database: it is asked when the server starts", s.Type)}
	}
	if s.Path() == "" {
		return []*Check{good("Create Storage Backend", "storage %q keeps nothing on disk", s.Type)}
	}
	path := s.Path()
	out := []*Check{writable(path)}
	if out[0].Status == Failure {
		return out
	}
	states, _ := filepath.Glob(filepath.Join(path, "state-*")) // of raft; the pattern is good
	for _, dir := range append(states, path, filepath.Join(path, "data")) {
		if _, err := os.Stat(filepath.Join(dir, storageMarker)); err == nil {
			out = append(out, unlocked(filepath.Join(dir, "LOCK")))
		}
	}
	return append(out, space(path))
}

// writable looks at the folder, or at the nearest one above it that exists.
func writable(path string) *Check {
	const name = "Check Folder Access"
	dir, err := filepath.Abs(path)
	if err != nil {
		return bad(name, err)
	}
	for {
		fi, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir):
			dir = filepath.Dir(dir)
			continue
		case err != nil:
			return bad(name, err)
		case !fi.IsDir():
			return bad(name, fmt.Errorf("%s is not a folder", dir))
		}
		if err := unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
			return bad(name, fmt.Errorf("this user may not write to %s: %w", dir, err))
		}
		if abs, _ := filepath.Abs(path); dir != abs {
			return good(name, "%s does not exist yet and will be made", path)
		}
		if fi.Mode().Perm()&0o077 != 0 {
			return warn(name, "chmod 700 "+path, "other users may look into %s (what lies there is encrypted)", path)
		}
		return good(name, "%s can be read and written", path)
	}
}

// unlocked asks whether another process has locked a file, without locking it.
func unlocked(path string) *Check {
	const name = "Check Storage Is Free"
	f, err := os.Open(path) //nolint:gosec // the operator's storage
	if errors.Is(err, fs.ErrNotExist) {
		return good(name, "no server has it open")
	}
	if err != nil {
		return bad(name, err)
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return warn(name, "", "cannot tell: %v", err)
	}
	if lock.Type != unix.F_UNLCK {
		return warn(name, "Stop it before starting another.", "process %d has it open", lock.Pid)
	}
	return good(name, "no server has it open")
}

func space(path string) *Check {
	const name = "Check Disk Space"
	dir, err := filepath.Abs(path)
	if err != nil {
		return bad(name, err)
	}
	var st unix.Statfs_t
	for err = unix.Statfs(dir, &st); errors.Is(err, syscall.ENOENT) && dir != filepath.Dir(dir); err = unix.Statfs(dir, &st) {
		dir = filepath.Dir(dir)
	}
	if err != nil {
		return warn(name, "", "%s: %v", dir, err)
	}
	free, total := st.Bavail*uint64(st.Bsize), st.Blocks*uint64(st.Bsize)
	if free < littleSpace || total > 0 && free < total/20 {
		return warn(name, "A server whose disk is full refuses writes. Make room or move the storage.",
			"%s has %d MB free of %d MB", dir, free>>20, total>>20)
	}
	return good(name, "%s has %d MB free of %d MB", dir, free>>20, total>>20)
}

func addresses(cfg *config.Config) []*Check {
	var out []*Check
	for _, a := range []struct{ name, value string }{{"api_addr", cfg.APIAddr}, {"cluster_addr", cfg.ClusterAddr}} {
		name := "Check " + a.name
		if a.value == "" {
			if cfg.Storage != nil && cfg.Storage.Type == "raft" {
				out = append(out, warn(name, "Set it, so that other nodes and clients find this one.", "%s is not set", a.name))
			}
			continue
		}
		u, err := url.Parse(a.value)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			out = append(out, bad(name, fmt.Errorf("%q is no address such as https://10.0.0.1:8200", a.value)))
			continue
		}
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsUnspecified() {
			out = append(out, warn(name, "Set the address of this machine; that of a listener may be 0.0.0.0.", "nobody can reach this node at %s", a.value))
			continue
		}
		out = append(out, good(name, "%s", a.value))
	}
	return out
}

func listeners(cfg *config.Config, skipTLS bool) []*Check {
	var out []*Check
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		c := &Check{Name: fmt.Sprintf("Check %s on %s", l.Name(), l.Address)}
		switch {
		case skipTLS, l.Type == "unix":
		case l.TLS():
			c.add(certificate(l)...)
		default:
			c.add(warn("Check Listener TLS", "Set tls_cert_file and tls_key_file, unless only this machine or a TLS proxy reaches it.",
				"TLS is disabled: secrets and tokens travel in clear"))
		}
		c.add(bindable(l))
		out = append(out, c)
	}
	return out
}

func bindable(l *config.Listener) *Check {
	const name = "Check Address"
	if l.Type == "unix" {
		return writable(filepath.Dir(l.Address))
	}
	s, err := net.Listen("tcp", l.Address)
	if err != nil {
		return bad(name, err)
	}
	_ = s.Close() // only tried
	return good(name, "%s is free", l.Address)
}

// certificate looks at a listener's certificate and key.
func certificate(l *config.Listener) []*Check {
	const name = "Check Listener TLS"
	if l.TLSCertFile == "" || l.TLSKeyFile == "" {
		return nil // the settings' check tells
	}
	pair, err := listener.LoadPair(l.TLSCertFile, l.TLSKeyFile)
	if err != nil {
		return []*Check{bad(name, err)}
	}
	out := []*Check{good(name, "certificate and key of %s fit together", l.TLSCertFile)}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return []*Check{bad(name, err)}
	}
	switch now := time.Now(); {
	case now.After(cert.NotAfter):
		out = append(out, &Check{Name: "Check Certificate Dates", Status: Failure, Message: fmt.Sprintf("%s has expired on %s", l.TLSCertFile, cert.NotAfter.Format(time.DateOnly))})
	case now.Before(cert.NotBefore):
		out = append(out, &Check{Name: "Check Certificate Dates", Status: Failure, Message: fmt.Sprintf("%s is not valid before %s", l.TLSCertFile, cert.NotBefore.Format(time.DateOnly))})
	case now.Add(expiresSoon).After(cert.NotAfter):
		out = append(out, warn("Check Certificate Dates", "Renew it; SIGHUP makes the server read it.", "%s expires on %s", l.TLSCertFile, cert.NotAfter.Format(time.DateOnly)))
	}
	if len(cert.DNSNames)+len(cert.IPAddresses) == 0 {
		out = append(out, warn("Check Certificate Names", "Make one with subject alternative names; clients do not look at the common name.", "%s names no host", l.TLSCertFile))
	}
	if fi, err := os.Stat(l.TLSKeyFile); err == nil && fi.Mode().Perm()&0o004 != 0 {
		out = append(out, warn("Check Key Permissions", "chmod o-r "+l.TLSKeyFile, "everybody may read the private key %s", l.TLSKeyFile))
	}
	return out
}

// seals makes the seals that open by themselves, and has each encrypt and decrypt.
func seals(cfg *config.Config, getenv func(string) string) []*Check {
	const name = "Create Seal"
	wrappers, err := seal.Open(cfg.Seals, getenv, &hsm.Modules{})
	if err != nil {
		return []*Check{bad(name, err)}
	}
	var out []*Check
	for i := range wrappers {
		w := &wrappers[i]
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		err := seal.Try(ctx, w)
		cancel()
		switch {
		case w.Disabled:
			out = append(out, good(name, "%s: is being left", w.Name))
		case err != nil:
			out = append(out, bad(name, fmt.Errorf("seal %q: %w", w.Name, err)))
		default:
			out = append(out, good(name, "%s: encrypts and decrypts", w.Name))
		}
	}
	if len(out) == 0 {
		out = append(out, good(name, "shamir: the server is opened by key shares"))
	}
	return out
}
