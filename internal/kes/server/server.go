// Package server is the stand-alone KES server: what `kes server` runs. It has no
// state of its own but a cache: keys lie in a key store, all else in the
// configuration file.
//
// Run reads the file, opens the key store, makes the keys that the file names,
// and serves until it is told to stop. A hang-up signal reads the file again and
// exchanges policies, keys, key store, cache, certificate and log levels at once,
// without dropping a request; if anything is wrong with it, all stays as it was.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"arca/internal/errs"
	"arca/internal/kes"
	"arca/internal/kes/cache"
	"arca/internal/kes/config"
	"arca/internal/kes/identity"
	"arca/internal/kes/key"
	"arca/internal/kes/policy"
	"arca/internal/kes/store"
	"arca/internal/kes/store/memory"
	"arca/internal/logging"
	process "arca/internal/memory"
	"arca/internal/mlock"
	"arca/internal/version"
	"arca/internal/wire"
)

// Times of the server's life.
const (
	headerTime = 5 * time.Second
	idleTime   = 90 * time.Second
	writeTime  = 30 * time.Second // for an answer
	drainTime  = time.Second
	settleTime = 500 * time.Millisecond
	storeTime  = 30 * time.Second // to open the key store and make the named keys
)

// Options are what the command line says.
type Options struct {
	Address string // overrides the file's
	Config  string // the file
	Dev     bool   // no file: keys in memory, and an API key that may do everything
	Auth    string // "on" or "off" overrides the file's tls.auth
	Mlock   bool
}

// An Env is what the server touches besides.
type Env struct {
	Out, Err io.Writer
	Lookup   func(name string) (string, bool)
}

// node is one running server.
type node struct {
	opts Options
	env  Env
	log  *slog.Logger

	level  slog.LevelVar // of the error log
	out    *logging.Sink // standard output: the banner and the audit log
	err    *logging.Sink // standard error: the error log
	audit  *kes.Stream
	errors *kes.Stream
	door   *kes.Door
	tls    atomic.Pointer[tls.Config]
	srv    *wire.Server
	devKey *identity.APIKey

	mu  sync.Mutex // held while the parts are exchanged
	now *parts     // guarded by mu
}

// parts are what one reading of the configuration made.
type parts struct {
	cfg   *config.Config
	state *kes.State
	store opened
	cache *cache.Cache // of a key store; nil in front of another server
	tls   *serverTLS
	stop  context.CancelFunc
	done  sync.WaitGroup
}

// Run serves until ctx ends or a signal comes, and returns nil then.
func Run(ctx context.Context, opts Options, env Env) error {
	signals := make(chan os.Signal, 4)
	// A log whose reader is gone ends no key server: SIGPIPE is taken, and ignored.
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer signal.Stop(signals)
	if opts.Mlock {
		if err := mlock.Lock(); err != nil {
			return fmt.Errorf("--mlock: %w", withoutVaultsOption(err))
		}
	}
	n, err := newNode(ctx, opts, env)
	if err != nil {
		return err
	}
	defer n.flush()
	defer func() { n.now.close() }()
	listener, err := net.Listen("tcp", n.now.cfg.Address)
	if err != nil {
		return err
	}
	n.banner(listener.Addr().(*net.TCPAddr))
	return n.serve(ctx, listener, signals)
}

// newNode makes a server that does not serve yet; its parts are to be closed.
func newNode(ctx context.Context, opts Options, env Env) (*node, error) {
	n := &node{opts: opts, env: env, audit: &kes.Stream{}, errors: &kes.Stream{}}
	n.out = logging.NewSink(env.Out, func(lost uint64) {
		n.log.Warn("standard output was not read in time: audit events are lost", "events", lost)
	})
	n.err = logging.NewSink(env.Err, func(lost uint64) {
		n.log.Warn("standard error was not read in time: events of the error log are lost", "events", lost)
	})
	n.log = slog.New(kes.NewTee(slog.NewTextHandler(n.err, &slog.HandlerOptions{Level: &n.level}), n.errors))
	p, err := n.build(ctx)
	if err != nil {
		n.flush()
		return nil, err
	}
	n.now = p
	n.tls.Store(p.tls.config)
	n.door = kes.New(kes.Config{Version: version.Arca, Log: n.log, Audit: n.audit, Errors: n.errors}, p.state)
	n.levels(p.cfg)
	return n, nil
}

// flush waits for a moment until the logs are written.
func (n *node) flush() {
	n.out.Flush(drainTime)
	n.err.Flush(drainTime)
}

func (n *node) serve(ctx context.Context, listener net.Listener, signals <-chan os.Signal) error {
	n.srv = &wire.Server{
		Handler:           n.door,
		TLS:               &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: n.currentTLS},
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       0, // the door bounds each call
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		Log:               n.log,
		Fallback: &http.Server{
			ReadHeaderTimeout: headerTime,
			WriteTimeout:      writeTime,
			IdleTimeout:       idleTime,
			MaxHeaderBytes:    128 << 10,
			ErrorLog:          log.New(io.Discard, "", 0),
		},
	}
	failed := make(chan error, 1)
	var serving sync.WaitGroup
	serving.Go(func() { failed <- n.srv.Serve(listener) })
	ctx, cancel := context.WithCancel(ctx)
	serving.Go(func() { n.watchCertificate(ctx) })
	serving.Go(func() { n.settle(ctx) })
	defer serving.Wait()
	defer cancel()
	for {
		select {
		case err := <-failed:
			if errors.Is(err, wire.ErrClosed) {
				return nil
			}
			return err
		case <-ctx.Done():
			n.stop()
			return nil
		case s := <-signals:
			if s == syscall.SIGPIPE {
				continue
			}
			if s != syscall.SIGHUP {
				n.stop()
				return nil
			}
			serving.Go(func() { // a key store that does not answer must not keep the server from stopping
				if err := n.reload(ctx); err != nil && ctx.Err() == nil {
					fmt.Fprintf(n.err, "Error: reload the configuration: %v\n", err)
				}
			})
		}
	}
}

func (n *node) currentTLS(*tls.ClientHelloInfo) (*tls.Config, error) { return n.tls.Load(), nil }

// settle gives back, a moment after the start, what only that has needed.
func (n *node) settle(ctx context.Context) {
	if n.opts.Mlock {
		return
	}
	select {
	case <-time.After(settleTime):
		if err := process.ReleaseProgram(); err != nil {
			n.log.Debug("give back the program's pages", "error", err)
		}
	case <-ctx.Done():
	}
}

// stop lets the requests inside end, for a moment; streams end at once.
func (n *node) stop() {
	n.door.Close()
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if n.srv.Shutdown(ctx) != nil {
		_ = n.srv.Close() // whatever is left is cut off
	}
}

// build makes all parts anew. What it began is ended if it fails.
func (n *node) build(ctx context.Context) (*parts, error) {
	cfg, err := n.configure()
	if err != nil {
		return nil, err
	}
	p := &parts{cfg: cfg}
	if n.opts.Dev {
		p.tls, err = devTLS()
	} else {
		p.tls, err = newTLS(cfg)
	}
	if err != nil {
		return nil, err
	}
	p.tls.warn(n.log)
	opening, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	running, stop := context.WithCancel(context.Background())
	p.stop = stop
	keys, err := n.openKeys(opening, running, p)
	if err != nil {
		stop()
		return nil, err
	}
	for _, name := range cfg.Keys {
		err := key.CheckKnown(name) // it may be there
		if err == nil {
			err = keys.Create(opening, kes.Caller{Identity: cfg.Admin}, name, nil, key.Default())
		}
		if err != nil && !errors.Is(err, store.ErrExists) {
			p.close()
			return nil, fmt.Errorf("make the key %q: %w", name, err)
		}
	}
	p.state = &kes.State{
		Keys: keys, Access: kes.Fixed{Set: cfg.Policies, Log: n.log}, Settings: map[string]kes.Setting{},
		Proxies: map[string]bool{}, ProxyHeader: cfg.TLS.ProxyHeader, Verify: p.tls.verify,
	}
	for path, a := range cfg.API {
		p.state.Settings[path] = kes.Setting(a)
	}
	for _, id := range cfg.TLS.Proxies {
		p.state.Proxies[id] = true
	}
	return p, nil
}

// openKeys opens the key store with a cache in front, which ends with running; or
// another KES server, which has the keys.
func (n *node) openKeys(ctx, running context.Context, p *parts) (kes.Keys, error) {
	if other, yes := p.cfg.KeyStore.Upstream(n.log); yes && !n.opts.Dev {
		u, err := kes.OpenUpstream(ctx, other)
		if err != nil {
			return nil, err
		}
		p.store = u
		return u, nil
	}
	var keys store.Store = &memory.Store{}
	if !n.opts.Dev {
		var err error
		if keys, err = p.cfg.KeyStore.Open(ctx, n.log); err != nil {
			return nil, err
		}
	}
	p.store = keys
	c := cache.New(keys, cache.Expiry(p.cfg.Cache))
	p.cache = c
	p.done.Go(func() { c.Run(running) })
	return kes.Cached{Cache: c}, nil
}

// opened is what has the keys: a key store or another server.
type opened interface {
	String() string
	Close() error
}

// configure reads the file, and what the command line sets above it.
func (n *node) configure() (*config.Config, error) {
	if n.opts.Dev {
		return n.devConfig()
	}
	cfg, err := config.Read(n.opts.Config, n.env.Lookup)
	if err != nil {
		return nil, err
	}
	if n.opts.Address != "" {
		if err := config.CheckAddress(n.opts.Address); err != nil {
			return nil, errs.New(errs.Invalid, "--addr: %w", err)
		}
		cfg.Address = n.opts.Address
	}
	if n.opts.Auth != "" {
		cfg.TLS.Verify = n.opts.Auth == "on"
	}
	return cfg, nil
}

func (n *node) devConfig() (*config.Config, error) {
	if n.devKey == nil {
		n.devKey = identity.NewAPIKey()
	}
	id := n.devKey.Identity()
	cfg := &config.Config{
		Address: "127.0.0.1:7373", Admin: id, TLS: config.TLS{Verify: n.opts.Auth == "on"},
		Policies: &policy.Set{Admin: id, Since: time.Now().UTC()},
	}
	if n.opts.Address != "" {
		cfg.Address = n.opts.Address
	}
	if err := config.CheckAddress(cfg.Address); err != nil {
		return nil, errs.New(errs.Invalid, "--addr: %w", err)
	}
	return cfg, nil
}

// reload exchanges all parts, or none. It returns when the old ones are not used any
// more, for which nobody else has to wait.
func (n *node) reload(ctx context.Context) error {
	if n.opts.Dev {
		return nil // there is no file
	}
	old, replaced, err := n.exchange(ctx)
	if err != nil {
		return err
	}
	n.log.Info("configuration reloaded")
	replaced.Retire()
	old.close()
	return nil
}

// exchange puts new parts in the place of the old, which it returns with the state that
// requests may still use.
func (n *node) exchange(ctx context.Context) (*parts, *kes.State, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, err := n.build(ctx)
	if err != nil {
		return nil, nil, err
	}
	if p.cfg.Address != n.now.cfg.Address {
		n.log.Warn("the address changes with a restart only", "address", p.cfg.Address)
	}
	old := n.now
	n.now = p
	n.tls.Store(p.tls.config)
	if old.cache != nil {
		old.cache.Bequeath(p.cache)
	}
	n.levels(p.cfg)
	return old, n.door.Swap(p.state), nil
}

// levels sets what the logs print.
func (n *node) levels(cfg *config.Config) {
	n.level.Set(cfg.ErrorLog)
	out := n.out
	if cfg.AuditLog > slog.LevelInfo {
		out = nil
	}
	n.audit.SetOutput(out)
}

// close ends the parts when no request uses them any more.
func (p *parts) close() {
	p.stop()
	p.done.Wait()
	_ = p.store.Close() // there is nothing to be saved
}
