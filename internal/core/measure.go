package core

import (
	"strings"
	"sync"
	"time"

	"arca/internal/engine"
	"arca/internal/telemetry"
	"arca/internal/token"
)

// meters are the metrics of the way of a request, found once.
type meters struct {
	registry                                            *telemetry.Registry // nil: nothing is measured
	handled, logins, auditedRequests, auditedResponses  *telemetry.Timer
	failedRequests, failedResponses, limited, lockedOut *telemetry.Counter

	routes sync.Map // of routeID to *telemetry.Timer
}

type routeID struct {
	op    engine.Operation
	mount string // its id
}

func newMeters(r *telemetry.Registry, c *Core) *meters {
	m := &meters{registry: r}
	if r == nil {
		return m
	}
	m.handled = r.Timer(nil, "core", "handle_request")
	m.logins = r.Timer(nil, "core", "handle_login_request")
	m.auditedRequests, m.auditedResponses = r.Timer(nil, "audit", "log_request"), r.Timer(nil, "audit", "log_response")
	m.failedRequests, m.failedResponses = r.Counter(nil, "audit", "log_request_failure"), r.Counter(nil, "audit", "log_response_failure")
	m.limited = r.Counter(nil, "quota", "rate_limit", "violation")
	m.lockedOut = r.Counter(nil, "core", "user_lockouts")
	r.Gauges(func(set func(string, float64, ...telemetry.Label)) {
		truth := map[bool]float64{true: 1}
		a := c.active.Load()
		set("core.unsealed", truth[a != nil])
		set("core.active", truth[a != nil])
		set("core.in_flight_requests", float64(c.flights.count()))
		if a != nil {
			set("core.locked_users", float64(len(a.LockedUsers("", "", time.Now()))))
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

// route is the timer of an operation at a mount: "route.read.secret-".
func (m *meters) route(h *handling) *telemetry.Timer {
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

// CountToken counts a token that a request has made.
func (a *Active) CountToken(call *engine.Call, e *token.Entry, m *engine.Mount, nsPath string) {
	r := a.core.meters.registry
	if r == nil {
		return
	}
	call.After(func() {
		ns := strings.TrimSuffix(nsPath, "/")
		if ns == "" {
			ns = "root"
		}
		r.Counter([]telemetry.Label{
			{Name: "namespace", Value: ns},
			{Name: "auth_method", Value: m.Type},
			{Name: "mount_point", Value: m.Path},
			{Name: "creation_ttl", Value: telemetry.Age(e.CreationTTL)},
			{Name: "token_type", Value: e.Type.String()},
		}, "token", "creation").Add(1)
	})
}

// Metrics is where this node's metrics are kept; nil when they are not.
func (c *Core) Metrics() *telemetry.Registry { return c.meters.registry }
