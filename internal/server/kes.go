package server

import (
	"crypto/x509"
	"log/slog"
	"net"
	"time"

	"arca/internal/config"
	"arca/internal/kes"
	"arca/internal/listener"
	"arca/internal/namespace"
	"arca/internal/version"
)

const defaultProxyHeader = "X-Tls-Client-Cert"

// openKES opens a listener "kes", whose door makes requests of KES's API into
// calls of a mount of the type kes.
func (n *node) openKES(stanza *config.Listener, forward *forwarder) error {
	s := withKESTimes(stanza)
	where := namespace.Canonical(s.Namespace)
	inside := kes.Inside{Core: n.core, Namespace: where, Mount: s.Mount + "/"}
	if forward != nil {
		inside.Forward = forward.forward
	}
	state := &kes.State{Keys: inside, Access: inside, Settings: map[string]kes.Setting{}, Proxies: map[string]bool{}, ProxyHeader: s.ProxyIDsHeader}
	if state.ProxyHeader == "" {
		state.ProxyHeader = defaultProxyHeader
	}
	for path, c := range s.API {
		if !kes.IsCall(path) {
			n.log.Named("kes").Warn("there is no such call of KES's API", "path", path, "at", c.Pos.String())
		}
		state.Settings[path] = kes.Setting{Timeout: c.Timeout, SkipAuth: c.SkipAuth}
	}
	for _, id := range s.ProxyIDs {
		state.Proxies[id] = true
	}
	var l *listener.Listener // open before the first request is read
	if s.TLSRequireClient {
		state.Verify = func(chain []*x509.Certificate) error { return l.VerifyClient(chain) }
	}
	failures := &kes.Stream{}
	log := slog.New(kes.NewTee(n.log.Named("kes").Handler(), failures))
	door := kes.New(kes.Config{Version: version.Arca, Log: log, Errors: failures}, state)
	var err error
	l, err = listener.Open(listener.Config{
		Stanza: s, Handler: door, Log: n.log.Named("listener"),
		Refused: func(remote net.Addr, why error) { door.Refused(remote.String(), why) },
	})
	if err != nil {
		return err
	}
	n.kes = append(n.kes, door)
	n.listeners = append(n.listeners, l)
	return nil
}

// withKESTimes gives the listener KES's time-outs where the configuration has none. An
// answer's is for clients that do not read it; those who follow logs have their own.
func withKESTimes(stanza *config.Listener) *config.Listener {
	s := *stanza
	for _, t := range []struct {
		set **time.Duration
		to  time.Duration
	}{
		{&s.ReadHeaderTimeout, 5 * time.Second}, {&s.WriteTimeout, 30 * time.Second}, {&s.IdleTimeout, 90 * time.Second},
	} {
		if *t.set == nil {
			*t.set = &t.to
		}
	}
	return &s
}
