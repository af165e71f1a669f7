package server

import (
	"context"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/api"
	"arca/internal/builtin"
	"arca/internal/cluster"
	"arca/internal/config"
	"arca/internal/config/source"
	"arca/internal/core"
	"arca/internal/kes"
	"arca/internal/listener"
	"arca/internal/logging"
	"arca/internal/memory"
	"arca/internal/mlock"
	"arca/internal/server/hsm"
	"arca/internal/server/kms"
	"arca/internal/server/registration"
	"arca/internal/server/seals"
	"arca/internal/server/stores"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
	"arca/internal/telemetry"
	"arca/internal/tracing"
	"arca/internal/ui"
	"arca/internal/version"
)

// A node is one server: what it was told, and the parts that it is made of.
type node struct {
	opts options
	env  Env
	cfg  *config.Config // as it was at the start

	shown     atomic.Pointer[config.Config] // as it was read last
	log       *logging.Log
	errOut    *logging.Sink // what the log writes to standard error: nobody may read it, and no request waits for that
	store     storage.Backend
	maxEntry  int // max_entry_size; 0 if not set
	core      *core.Core
	listeners []*listener.Listener
	kes       []*kes.Door
	dev       *devServer                   // nil in production
	nodeID    string                       // of raft storage
	cluster   *cluster.Node                // of raft storage or a database, else nil
	forwarded atomic.Pointer[http.Handler] // what serves the requests that other nodes forward
	pid       string                       // the file that was written, "" for none

	ctx    context.Context //nolint:containedctx // of the node's time; its attempts to join end with it
	cancel context.CancelFunc
	tries  sync.WaitGroup
	wish   wish

	registered  atomic.Pointer[registration.Service] // nil where nobody is told
	stopOpening func()                               // nil where key shares are needed
	stopMetrics context.CancelFunc                   // nil before there are any
	stopTraces  func()                               // nil when there are none; waits for the last
}

// flushTime is how long the end of a node waits for who reads its log.
const flushTime = time.Second

// open builds a node up to where it can serve. On an error nothing is left open.
func open(ctx context.Context, o *options, env Env) (n *node, err error) {
	n = &node{opts: *o, env: env}
	n.ctx, n.cancel = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if o.dev.on {
		n.dev = &devServer{}
	}
	cfg, warnings, err := n.configure()
	if err != nil {
		return n, err
	}
	n.cfg = cfg
	n.shown.Store(cfg)
	n.errOut = logging.NewSink(env.Err, func(lost uint64) {
		n.log.Named("server").Warn("lines of this log were lost: nobody read standard error", "lines", lost)
	})
	if n.log, err = logging.New(n.logConfig()); err != nil {
		return n, err
	}
	if os.Getenv("GOGC") == "" {
		memory.Tune(memory.Floor)
	}
	if !cfg.DisableMlock {
		if err := mlock.Lock(); err != nil {
			return n, err
		}
	}
	if err := n.openCore(); err != nil {
		return n, err
	}
	if err := n.openListeners(); err != nil {
		return n, err
	}
	if err := n.retryJoin(); err != nil {
		return n, err
	}
	if n.dev != nil {
		if err := n.setUpDev(ctx); err != nil {
			return n, err
		}
	}
	n.banner(warnings)
	return n, n.writePID()
}

// configure reads files, environment and flags, in this order.
func (n *node) configure() (*config.Config, []source.Warning, error) {
	cfg, warnings, err := config.Load(n.opts.configs)
	if err != nil {
		return nil, nil, err
	}
	if n.dev != nil {
		if err := n.dev.configure(cfg, &n.opts.dev); err != nil {
			return nil, nil, err
		}
	}
	if err := cfg.Overlay(n.env.Getenv); err != nil {
		return nil, nil, err
	}
	override(&cfg.LogLevel, n.opts.logLevel)
	override(&cfg.LogFormat, n.opts.logFormat)
	override(&cfg.LogFile, n.opts.logFile)
	override(&cfg.LogRotateAfter, n.opts.rotateAfter)
	override(&cfg.LogRotateBytes, n.opts.rotateBytes)
	override(&cfg.LogRotateKeep, n.opts.rotateKeep)
	if err := cfg.Check(); err != nil {
		return nil, nil, err
	}
	return cfg, warnings, nil
}

// override lets a flag that is set count more than the files.
func override[T comparable](to *T, v T) {
	var unset T
	if v != unset {
		*to = v
	}
}

func (n *node) logConfig() logging.Config {
	c := n.cfg
	return logging.Config{Level: c.LogLevel, Format: c.LogFormat, Out: n.errOut, File: logging.FileConfig{
		Path: c.LogFile, After: c.LogRotateAfter, Bytes: c.LogRotateBytes, Keep: c.LogRotateKeep,
	}}
}

func (n *node) openCore() error {
	cfg, s := n.cfg, n.cfg.Storage
	dir, typ := s.Path(), s.Type
	memory := strings.HasPrefix(typ, "inmem")
	switch {
	case typ == "raft":
		if err := n.openRaft(); err != nil {
			return err
		}
	case stores.Known(typ):
		if err := n.openShared(); err != nil {
			return err
		}
	default:
		b, err := pebble.Open(pebble.Config{Dir: dir, Memory: memory, Logger: n.log.Named("storage")})
		if err != nil {
			return err
		}
		n.store = b
	}
	modules := &hsm.Modules{}
	wrappers, err := seals.Open(cfg.Seals, n.env.Getenv, modules)
	if err != nil {
		return err
	}
	var catalog *builtin.Catalog
	c, err := core.New(core.Config{
		Backend: n.store, DB: n.limits(s), Cluster: n.cluster, Join: n.join, StorageType: typ, Log: n.log.Named("core"), Logs: n.log,
		DefaultTTL: cfg.DefaultLease, MaxTTL: cfg.MaxLease, CompatVersion: cfg.CompatVersion, ClusterName: cfg.ClusterName,
		APIAddr: n.apiAddr(), ClusterAddr: n.clusterAddr(), RawEndpoint: cfg.RawStorageEndpoint || n.dev != nil,
		DisableSealWrap: cfg.DisableSealwrap,
		Lockouts:        lockouts(cfg), Seals: wrappers, Managed: kms.New(kms.Config{Getenv: n.env.Getenv, Modules: modules, Libraries: cfg.KMSLibraries.Paths()}),
		Usage: core.Usage{
			Period: cfg.Telemetry.UsagePeriod(), Epsilon: cfg.Telemetry.Epsilon(), Buckets: cfg.Telemetry.LeaseBuckets,
			Namespaces: cfg.Telemetry.AddLeaseNamespaces, Most: cfg.Telemetry.MaximumGauge,
		},
		Metrics:       n.metrics(),
		Changed:       n.changed,
		Forbidden:     n.auditFile,
		AuditPrefixes: cfg.AllowAuditPrefixing,
		Traces:        n.traces(),
		ForwardRunner: n.runnerForwarder(),
		Bucket:        openBucket,
		Target:        n.openTarget,
		Introspection: cfg.IntrospectionEndpoint || n.dev != nil,
		Sanitized:     func() map[string]any { return n.shown.Load().Sanitized() },
		Catalog: func(c *core.Core) core.Catalog {
			catalog = builtin.New(c)
			return catalog
		},
	})
	if err != nil {
		return err
	}
	catalog.Bind(c)
	n.core = c
	if err := n.openRegistration(); err != nil {
		return err
	}
	n.openByItself()
	return nil
}

// openByItself lets the seals that can open the node do so, in the background:
// they are outside, and may take their time. Their tokens are kept alive until the
// server ends.
func (n *node) openByItself() {
	m := n.core.SealManager()
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { m.Keep(ctx) })
	work.Go(func() { m.KeepOpening(ctx) })
	n.stopOpening = func() { cancel(); work.Wait() }
}

// metrics is where the node's metrics are kept, and handed on to the servers that
// the configuration names.
func (n *node) metrics() *telemetry.Registry {
	t := &n.cfg.Telemetry
	retention := t.PrometheusRetention
	if _, set := t.Raw["prometheus_retention_time"]; t.Raw != nil && !set {
		retention = 24 * time.Hour
	}
	r := telemetry.New(telemetry.Config{
		Prefix: t.MetricsPrefix, Hostname: !t.DisableHostname, HostnameLabel: t.EnableHostnameLabel, Allowed: t.Allowed(), Retention: retention,
	})
	if t.StackdriverProject != "" {
		n.log.Named("telemetry").Warn("stackdriver is not supported: metrics go to statsite, statsd, dogstatsd, Circonus and Prometheus")
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.stopMetrics = cancel
	r.Start(ctx, telemetry.Sinks{
		Statsite: t.StatsiteAddr, Statsd: t.StatsdAddr, DogStatsD: t.DogStatsDAddr, DogStatsDTags: t.DogStatsDTags,
		Circonus: telemetry.Circonus{
			Token: t.CirconusToken, App: t.CirconusApp, URL: t.CirconusURL, Interval: t.CirconusInterval,
			SubmissionURL: t.CirconusSubmission, CheckID: t.CirconusCheckID, ForceActivation: t.CirconusForce, InstanceID: t.CirconusInstance,
			SearchTag: t.CirconusSearch, Tags: t.CirconusTags, CheckName: t.CirconusName,
			BrokerID: t.CirconusBroker, BrokerTag: t.CirconusSelect,
		},
	}, n.log.Named("telemetry"))
	return r
}

// traces hands traces on to the collector that the configuration or the
// environment names; nil when none does. What is wrong there stops nothing.
func (n *node) traces() *tracing.Tracer {
	log := n.log.Named("telemetry")
	cfg, err := tracing.FromEnv(tracing.Config{Endpoint: n.cfg.Telemetry.TracesEndpoint, Log: log}, os.Getenv)
	if err != nil {
		log.Error("no traces are sent", "error", err)
		return nil
	}
	if cfg.Endpoint == "" {
		return nil
	}
	if cfg.Service == "" {
		cfg.Service = "arca"
	}
	cfg.Version = version.Arca
	cfg.Instance, _ = os.Hostname() // empty where it cannot be had
	t := tracing.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.Run(ctx)
	}()
	n.stopTraces = func() { cancel(); <-done }
	return t
}

// lockouts are the rules of the configuration, as the core takes them.
func lockouts(cfg *config.Config) []core.Lockout {
	out := make([]core.Lockout, 0, len(cfg.Lockouts))
	for _, l := range cfg.Lockouts {
		out = append(out, core.Lockout(l))
	}
	return out
}

func (n *node) openListeners() error {
	extra, bodies := n.extraHeaders(), api.NewBudget(0)
	inner := api.Config{Core: n.core, Log: n.log.Named("api"), Bodies: bodies, MaxRequestDuration: n.cfg.DefaultMaxRequest, MaxRequestBytes: -1}
	var forward *forwarder
	if n.cluster != nil && !n.cluster.Alone() {
		forward = newForwarder(n.cluster)
		h := api.New(inner)
		n.forwarded.Store(&h)
	}
	for i := range n.cfg.Listeners {
		s := &n.cfg.Listeners[i]
		if s.Type == "kes" {
			if err := n.openKES(s, forward); err != nil {
				return err
			}
			continue
		}
		door := api.Config{
			Core: n.core, Log: n.log.Named("api"), Bodies: bodies, Metrics: n.core.Metrics(),
			MaxRequestDuration:     n.cfg.DefaultMaxRequest,
			CORS:                   n.cors,
			Headers:                listener.HeaderSetter(s, extra),
			RequireRequestHeader:   s.RequireHeader,
			UnauthenticatedMetrics: s.Telemetry.UnauthenticatedMetrics, UnauthenticatedInFlight: s.Profiling.InFlight || s.InFlight.Unauthenticated,
			UnauthenticatedProfiles: s.Profiling.Unauthenticated,
			DisallowMetrics:         s.Telemetry.DisallowMetrics, MetricsOnly: s.Telemetry.MetricsOnly,
		}
		if forward != nil {
			door.Forward, door.ActiveAddr = forward.forward, n.activeAddr
		}
		if t := s.ReadTimeout; t != nil {
			if door.BodyTimeout = *t; *t == 0 {
				door.BodyTimeout = -1
			}
		}
		if n.cfg.UI {
			inside := ui.Config{Core: n.core, Log: n.log.Named("ui"), Headers: n.uiHeaders}
			if forward != nil {
				inside.Forward = forward.forward
			}
			pages, err := ui.New(inside)
			if err != nil {
				return err
			}
			door.UI = pages
		}
		if s.MaxRequestSize != nil {
			door.MaxRequestBytes = *s.MaxRequestSize
		}
		if s.MaxRequestDuration != nil {
			door.MaxRequestDuration = *s.MaxRequestDuration
		}
		l, err := listener.Open(listener.Config{Stanza: s, Handler: api.New(door), Log: n.log.Named("listener")})
		if err != nil {
			return err
		}
		n.listeners = append(n.listeners, l)
	}
	return nil
}

// extraHeaders go with every answer.
func (n *node) extraHeaders() map[string]string {
	extra := map[string]string{}
	if n.cfg.HostnameHeader {
		if h, err := os.Hostname(); err == nil {
			extra["X-Vault-Hostname"] = h
		}
	}
	if n.cfg.RaftNodeIDHeader && n.nodeID != "" {
		extra["X-Vault-Raft-Node-ID"] = n.nodeID
	}
	return extra
}

// closeStore ends the core, and then the store below it, which nothing uses any
// more.
func (n *node) closeStore() {
	if n.stopOpening != nil {
		n.stopOpening()
	}
	n.cancel()
	n.tries.Wait()
	if n.core != nil {
		if err := n.core.Close(); err != nil {
			n.log.Named("core").Error("close", "error", err)
		}
	}
	if n.store != nil {
		if err := n.store.Close(); err != nil {
			n.log.Named("storage").Error("close", "error", err)
		}
	}
}

// stopTelemetry sends what is measured and not sent yet, for which it takes a
// short time.
func (n *node) stopTelemetry() {
	if n.stopTraces != nil {
		n.stopTraces()
	}
	if n.stopMetrics != nil {
		n.stopMetrics()
	}
}

// close gives back what is open. It may be called on a node that is not
// complete.
func (n *node) close() {
	for _, l := range n.listeners {
		_ = l.Close() // ends with the process anyway
	}
	n.closeStore()
	n.stopTelemetry()
	n.removePID()
	if n.log != nil {
		n.closeLog()
	}
}

// closeLog has the log written, if somebody reads it.
func (n *node) closeLog() {
	_ = n.log.Close() // nowhere to report it
	if n.errOut != nil {
		n.errOut.Flush(flushTime)
	}
}
