package core

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/activity"
	"arca/internal/engine"
	"arca/internal/storage"
	"arca/internal/telemetry"
	"arca/internal/token"
)

// meters are the metrics of the way of a request, found once.
type meters struct {
	registry                                            *telemetry.Registry // nil: nothing is measured
	handled, logins, auditedRequests, auditedResponses  *telemetry.Timer
	failedRequests, failedResponses, limited, lockedOut *telemetry.Counter

	leasesLimited                  *telemetry.Counter
	get, list, put                 *telemetry.Timer // of the barrier
	opened, created, looked        *telemetry.Timer
	checked, fetched               *telemetry.Timer
	registered, renewed, takenBack *telemetry.Timer
	expired, notExpired            *telemetry.Counter

	routes  sync.Map     // of routeID to *telemetry.Timer
	tokens  sync.Map     // of tokenID to *telemetry.Counter
	evicted atomic.Int64 // as the registry had it when routes and tokens were forgotten last
	usage   atomic.Pointer[[]counted]
}

type routeID struct {
	op    engine.Operation
	mount string // its id
}

// A tokenID is what the counters of tokens that are made tell apart.
type tokenID struct{ ns, method, mount, ttl, kind string }

func newMeters(r *telemetry.Registry, c *Core) *meters {
	m := &meters{registry: r}
	if r == nil {
		return m
	}
	m.handled = r.Timer(nil, "core", "handle_request")
	m.logins = r.Timer(nil, "core", "handle_login_request")
	m.auditedRequests, m.auditedResponses = r.Timer(nil, "audit", "log_request"), r.Timer(nil, "audit", "log_response")
	m.failedRequests, m.failedResponses = r.Counter(nil, "audit", "log_request_failure"), r.Counter(nil, "audit", "log_response_failure")
	m.leasesLimited = r.Counter(nil, "quota", "lease_count", "violation")
	m.limited = r.Counter(nil, "quota", "rate_limit", "violation")
	m.lockedOut = r.Counter(nil, "core", "user_lockouts")
	m.get, m.list, m.put = r.Timer(nil, "barrier", "get"), r.Timer(nil, "barrier", "list"), r.Timer(nil, "barrier", "put")
	m.opened, m.created, m.looked = r.Timer(nil, "core", "post_unseal"), r.Timer(nil, "token", "create"), r.Timer(nil, "token", "lookup")
	m.checked, m.fetched = r.Timer(nil, "core", "check_token"), r.Timer(nil, "core", "fetch_acl_and_token")
	m.registered, m.renewed, m.takenBack = r.Timer(nil, "expire", "register"), r.Timer(nil, "expire", "renew"), r.Timer(nil, "expire", "revoke")
	m.expired, m.notExpired = r.Counter(nil, "expire", "lease_expiration"), r.Counter(nil, "expire", "lease_expiration", "error")
	r.Gauges(func(set func(string, float64, ...telemetry.Label)) {
		truth := map[bool]float64{true: 1}
		a := c.active.Load()
		set("core.unsealed", truth[a != nil])
		set("core.active", truth[a != nil])
		set("core.in_flight_requests", float64(c.flights.count()))
		if a != nil {
			set("core.locked_users", float64(len(a.LockedUsers("", "", time.Now()))))
		}
		if c.seal != nil {
			for name, healthy := range c.seal.Health() {
				set("seal.healthy", truth[healthy], telemetry.Label{Name: "seal", Value: name})
			}
		}
		if list := m.usage.Load(); list != nil {
			for _, g := range *list {
				set(g.name, float64(g.value), g.labels...)
			}
		}
	})
	return m
}

// done notes how long a request took, as a whole and at its mount.
func (m *meters) done(h *handling) {
	if m.registry == nil {
		return
	}
	now := time.Now()
	if h.route != nil && h.route.Login {
		m.logins.At(h.now, now)
	} else {
		m.handled.At(h.now, now)
	}
	if h.entry != nil {
		m.route(h).At(h.now, now)
	}
}

// clock is the time, where anything is measured.
func (m *meters) clock() (now time.Time) {
	if m.registry != nil {
		now = time.Now()
	}
	return now
}

// route is the timer of an operation at a mount: "route.read.secret-".
func (m *meters) route(h *handling) *telemetry.Timer {
	m.forget()
	id := routeID{h.req.Op, h.entry.ID}
	if t, ok := m.routes.Load(id); ok {
		return t.(*telemetry.Timer) //nolint:forcetypeassert // nothing else is put there
	}
	path := strings.NewReplacer("/", "-", ".", "-").Replace(h.ns.Path + h.entry.Path)
	t := m.registry.Timer(nil, "route", h.req.Op.String(), path)
	if t.Counts() { // else there are too many mounts to remember
		m.routes.Store(id, t)
	}
	return t
}

// forget lets go of what was found before the registry gave the place of some metrics to others.
func (m *meters) forget() {
	if n := m.registry.Evictions(); m.evicted.Load() != n && m.evicted.Swap(n) != n {
		m.routes.Clear()
		m.tokens.Clear()
	}
}

// made is the counter of tokens like one that was made: "token.creation".
func (m *meters) made(id tokenID) *telemetry.Counter {
	m.forget()
	if c, ok := m.tokens.Load(id); ok {
		return c.(*telemetry.Counter) //nolint:forcetypeassert // nothing else is put there
	}
	c := m.registry.Counter([]telemetry.Label{
		{Name: "namespace", Value: id.ns},
		{Name: "auth_method", Value: id.method},
		{Name: "mount_point", Value: id.mount},
		{Name: "creation_ttl", Value: id.ttl},
		{Name: "token_type", Value: id.kind},
	}, "token", "creation")
	if c.Counts() { // else there are too many kinds to remember
		m.tokens.Store(id, c)
	}
	return c
}

// whenDone has fn run when what the request made is durable; of an attempt that
// fails it is dropped.
func whenDone(call *engine.Call, fn func()) {
	if call.Tx.Writable() {
		call.Tx.OnCommit(fn)
		return
	}
	call.After(fn) // a batch token: nothing is stored
}

// CountToken counts a token that a request has made.
func (a *Active) CountToken(call *engine.Call, e *token.Entry, m *engine.Mount, nsPath string) {
	whenDone(call, func() {
		a.Makers.Count(activity.Maker{
			Kind: activity.Tokens, Namespace: nsPath, Mount: m.Path, Role: roleOf(e), Client: e.DisplayName, EntityID: e.EntityID,
		}, call.Now)
		if all := a.core.meters; all.registry != nil {
			all.made(tokenID{namespaceLabel(nsPath), m.Type, m.Path, telemetry.Age(e.CreationTTL), e.Type.String()}).Add(1)
		}
	})
}

// namespaceLabel is what a namespace is called in labels.
func namespaceLabel(path string) string {
	if path == "" {
		return "root"
	}
	return strings.TrimSuffix(path, "/")
}

// CountLease counts a lease that a request has made.
func (h *handling) countLease(m *engine.Mount, ttl time.Duration) {
	r := h.c.meters.registry
	ns := namespaceLabel(h.ns.Path)
	who := activity.Maker{Kind: activity.Leases, Namespace: h.ns.Path, Mount: m.Path, Role: h.call.Path}
	if h.tok != nil {
		who.Client, who.EntityID = h.tok.DisplayName, h.tok.EntityID
	}
	whenDone(h.call, func() {
		h.a.Makers.Count(who, h.now)
		if r == nil {
			return
		}
		r.Counter([]telemetry.Label{
			{Name: "namespace", Value: ns},
			{Name: "secret_engine", Value: m.Type},
			{Name: "mount_point", Value: m.Path},
			{Name: "creation_ttl", Value: telemetry.Age(ttl)},
		}, "secret", "lease", "creation").Add(1)
	})
}

// measure takes the times of the store behind the barrier.
func (m *meters) measure(b storage.Backend) storage.Backend {
	if m.registry == nil {
		return b
	}
	return measured{b, m}
}

type measured struct {
	storage.Backend
	m *meters
}

// Get implements storage.Backend.
func (b measured) Get(ctx context.Context, key string) ([]byte, error) {
	defer b.m.get.Since(time.Now())
	return b.Backend.Get(ctx, key)
}

// Scan implements storage.Backend.
func (b measured) Scan(ctx context.Context, o storage.ScanOptions) (storage.Iterator, error) {
	defer b.m.list.Since(time.Now())
	return b.Backend.Scan(ctx, o)
}

// Apply implements storage.Backend.
func (b measured) Apply(ctx context.Context, batch storage.Batch) error {
	defer b.m.put.Since(time.Now())
	return b.Backend.Apply(ctx, batch)
}

// ApplyShow implements storage.Shower.
func (b measured) ApplyShow(ctx context.Context, batch storage.Batch, show func() error) error {
	defer b.m.put.Since(time.Now())
	return storage.ApplyShow(ctx, b.Backend, batch, show)
}

// Snapshot implements storage.Backend.
func (b measured) Snapshot(ctx context.Context) (storage.Snapshot, error) {
	s, err := b.Backend.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return measuredSnapshot{s, b.m}, nil
}

type measuredSnapshot struct {
	storage.Snapshot
	m *meters
}

// Get implements storage.Snapshot.
func (s measuredSnapshot) Get(ctx context.Context, key string) ([]byte, error) {
	defer s.m.get.Since(time.Now())
	return s.Snapshot.Get(ctx, key)
}

// Scan implements storage.Snapshot.
func (s measuredSnapshot) Scan(ctx context.Context, o storage.ScanOptions) (storage.Iterator, error) {
	defer s.m.list.Since(time.Now())
	return s.Snapshot.Scan(ctx, o)
}

// Metrics is where this node's metrics are kept; nil when they are not.
func (c *Core) Metrics() *telemetry.Registry { return c.meters.registry }

// MakeToken stores a new token, or seals a batch token, and returns its id.
func (a *Active) MakeToken(tx storage.Tx, e *token.Entry, id string) (string, error) {
	defer a.core.meters.created.Since(a.core.meters.clock())
	if err := a.boundToken(tx, e); err != nil {
		return "", err
	}
	return a.Tokens.Create(tx, e, id)
}
