// Package listener opens the addresses at which the server is reached: TCP and
// unix sockets, with TLS, the PROXY protocol, X-Forwarded-For and bounds in
// time and size. It knows nothing of what is served there.
//
//	l, err := listener.Open(listener.Config{Stanza: &cfg.Listeners[0], Handler: door, Log: log})
//	go l.Serve()
//	l.Reload()        // new certificates, for connections from now on
//	l.Shutdown(ctx)   // no new requests; those inside end
//
// The settings and their defaults are those of Vault's tcp and unix listeners
// (https://developer.hashicorp.com/vault/docs/configuration/listener).
package listener

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"

	"arca/internal/config"
	"arca/internal/errs"
	"arca/internal/wire"
)

// Defaults of Vault's listener.
const (
	defaultReadHeader = 10 * time.Second
	defaultRead       = 30 * time.Second
	defaultIdle       = 5 * time.Minute

	maxHeaderBytes = 256 << 10
)

// Config of a Listener. Stanza must have passed config's checks.
type Config struct {
	Stanza  *config.Listener
	Handler http.Handler
	Log     *slog.Logger // nil discards
	// Refused, if set, is told of handshakes that failed for want of a client's
	// certificate that is trusted.
	Refused func(remote net.Addr, why error)
}

// A Listener is an open address.
type Listener struct {
	stanza *config.Listener
	log    *slog.Logger
	net    net.Listener
	srv    *wire.Server
	certs  *certs // nil without TLS
}

// Open opens the address. Connections wait until Serve is called. Errors are
// of kind Invalid and name the listener.
func Open(cfg Config) (*Listener, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Listener{stanza: cfg.Stanza, log: cfg.Log}
	handler, err := forwarded(cfg.Stanza, cfg.Handler)
	if err != nil {
		return nil, l.wrap(err)
	}
	if cfg.Stanza.TLS() {
		if l.certs, err = newCerts(cfg.Stanza); err != nil {
			return nil, l.wrap(err)
		}
	}
	if l.net, err = bind(cfg.Stanza); err != nil {
		return nil, l.wrap(err)
	}
	if l.net, err = proxied(cfg.Stanza, l.net); err != nil {
		_ = l.net.Close() // the first error says what is wrong
		return nil, l.wrap(err)
	}
	l.srv = &wire.Server{
		Handler:           handler,
		ReadHeaderTimeout: or(cfg.Stanza.ReadHeaderTimeout, defaultReadHeader),
		ReadTimeout:       or(cfg.Stanza.ReadTimeout, defaultRead),
		WriteTimeout:      or(cfg.Stanza.WriteTimeout, 0),
		IdleTimeout:       or(cfg.Stanza.IdleTimeout, defaultIdle),
		Log:               cfg.Log,
		Refused:           cfg.Refused,
	}
	l.srv.Fallback = &http.Server{
		ReadHeaderTimeout: l.srv.ReadHeaderTimeout,
		ReadTimeout:       l.srv.ReadTimeout,
		WriteTimeout:      l.srv.WriteTimeout,
		IdleTimeout:       l.srv.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(errorLog{cfg.Log}, "", 0),
	}
	if l.certs != nil {
		l.srv.TLS = l.certs.config()
	}
	return l, nil
}

func or(d *time.Duration, def time.Duration) time.Duration {
	if d == nil {
		return def
	}
	return *d
}

func (l *Listener) wrap(err error) error {
	return errs.New(errs.Invalid, "%s: listener %q on %s: %w", l.stanza.Pos, l.stanza.Type, l.stanza.Address, err)
}

// Addr is the address that was opened, which tells the port chosen for :0.
func (l *Listener) Addr() net.Addr { return l.net.Addr() }

// Stanza is the configuration of the listener.
func (l *Listener) Stanza() *config.Listener { return l.stanza }

// Serve serves until Shutdown or Close; then it returns nil.
func (l *Listener) Serve() error {
	err := l.srv.Serve(l.net)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return l.wrap(err)
}

// Shutdown closes the address and waits for the requests inside, until ctx
// ends; then it cuts them off.
func (l *Listener) Shutdown(ctx context.Context) error {
	err := l.srv.Shutdown(ctx)
	if err != nil {
		_ = l.srv.Close() // the first error says why
	}
	return err
}

// Close closes the address and cuts off all connections.
func (l *Listener) Close() error {
	err := l.srv.Close()
	if netErr := l.net.Close(); err == nil && !errors.Is(netErr, net.ErrClosed) {
		err = netErr
	}
	return err
}

// Reload reads the certificate, its key and the authorities of clients again.
// If one is bad, all stay as they are. Connections are not touched.
func (l *Listener) Reload() error {
	if l.certs == nil {
		return nil
	}
	if err := l.certs.load(); err != nil {
		return l.wrap(err)
	}
	return nil
}

// proxied makes a listener that takes the client's address from the PROXY
// protocol.
func proxied(s *config.Listener, in net.Listener) (net.Listener, error) {
	var policy proxyproto.ConnPolicyFunc
	switch s.ProxyBehavior {
	case "":
		return in, nil
	case "use_always":
		policy = func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) { return proxyproto.USE, nil }
	case "allow_authorized", "deny_unauthorized":
		trusted, err := parseNets(s.ProxyAddrs)
		if err != nil {
			return in, errs.New(errs.Invalid, "proxy_protocol_authorized_addrs: %w", err)
		}
		if len(trusted) == 0 {
			return in, errs.New(errs.Invalid, "proxy_protocol_behavior %q needs proxy_protocol_authorized_addrs", s.ProxyBehavior)
		}
		policy = func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			switch {
			case trusted.has(o.Upstream.String()):
				return proxyproto.USE, nil
			case s.ProxyBehavior == "allow_authorized":
				return proxyproto.IGNORE, nil
			}
			return proxyproto.REJECT, proxyproto.ErrInvalidUpstream // closes the connection
		}
	default:
		return in, errs.New(errs.Invalid, "there is no proxy_protocol_behavior %q; there are use_always, allow_authorized and deny_unauthorized",
			s.ProxyBehavior)
	}
	return &proxyproto.Listener{Listener: in, ConnPolicy: policy, ReadHeaderTimeout: defaultReadHeader}, nil
}

// errorLog passes on what net/http has to say. Handshakes that fail are the
// client's affair and would fill the log.
type errorLog struct{ log *slog.Logger }

func (e errorLog) Write(p []byte) (int, error) {
	text := strings.TrimSpace(string(p))
	switch {
	case strings.Contains(text, "TLS handshake error"), strings.Contains(text, "URL query contains semicolon"):
		e.log.Debug("connection refused", "reason", strings.TrimPrefix(text, "http: "))
	case strings.Contains(text, "panic serving"):
		e.log.Error("a request ended in a panic", "reason", text)
	default:
		e.log.Warn("http", "reason", text)
	}
	return len(p), nil
}
