package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"

	"arca/internal/kes/config"
	"arca/internal/kes/identity"
	"arca/internal/version"
)

// banner tells on standard output what serves, and where.
func (n *node) banner(addr *net.TCPAddr) {
	cfg := n.now.cfg
	var b strings.Builder
	row := func(name string, values ...string) {
		for _, v := range values {
			fmt.Fprintf(&b, "%-11s %s\n", name, v)
			name = ""
		}
	}
	row("Version", fmt.Sprintf("arca %s (KES)  %s/%s", version.Arca, runtime.GOOS, runtime.GOARCH))
	row("KeyStore", n.now.store.String())
	row("Endpoints", endpoints(addr)...)
	b.WriteString("\n")
	switch {
	case n.devKey != nil:
		row("API Key", n.devKey.Text())
		row("Admin", n.devKey.Identity())
	case identity.Is(cfg.Admin):
		row("Admin", cfg.Admin)
	default:
		row("Admin", "<disabled>")
	}
	auth := "off   clients need a certificate, which nobody has to have signed"
	if cfg.TLS.Verify {
		auth = "on    clients need a certificate that can be verified"
	}
	row("Auth", auth)
	lock := "off"
	if n.opts.Mlock {
		lock = "on"
	}
	row("Mem Lock", lock)
	row("Logs", "error: "+level(cfg.ErrorLog)+", on standard error", "audit: "+level(cfg.AuditLog)+", on standard output")
	if n.devKey != nil {
		b.WriteString("\nA development server: its keys end with it. For the other terminal:\n\n")
		fmt.Fprintf(&b, "   export KES_SERVER=%s\n   export KES_API_KEY=%s\n   kes key create my-key -k\n", endpoints(addr)[0], n.devKey.Text())
	}
	b.WriteString("\n")
	_, _ = n.out.Write([]byte(b.String())) // it does not fail
}

func level(l slog.Level) string {
	if l >= config.Off {
		return "off"
	}
	return l.String()
}

// endpoints returns every address at which the server is reached.
func endpoints(addr *net.TCPAddr) []string {
	if !addr.IP.IsUnspecified() {
		return []string{"https://" + addr.String()}
	}
	out := []string{}
	all, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range all {
			ip, ok := a.(*net.IPNet)
			if ok && (ip.IP.To4() != nil || addr.IP.To4() == nil) && !ip.IP.IsLinkLocalUnicast() {
				out = append(out, "https://"+net.JoinHostPort(ip.IP.String(), fmt.Sprint(addr.Port)))
			}
		}
	}
	if len(out) == 0 {
		out = append(out, "https://"+addr.String())
	}
	return out
}

// withoutVaultsOption takes the advice out of an error that is for Vault's
// configuration.
func withoutVaultsOption(err error) error {
	lines := strings.Split(err.Error(), "\n")
	kept := lines[:0]
	for _, l := range lines {
		if !strings.Contains(l, "disable_mlock") {
			kept = append(kept, l)
		}
	}
	return errors.New(strings.Join(kept, "\n"))
}
