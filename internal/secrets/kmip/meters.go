package kmip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/telemetry"
	"arca/internal/ttlv"
)

// What sys/metrics tells of the listeners of this node; docs/monitoring.md has the
// names. Scopes and roles are named until there are many: the rest counts as one.
const (
	maxMetered  = 1000 // series that name a scope and a role, between two clearings; as many again that do not
	meteredAnew = time.Hour
	otherName   = "other"
)

// Events of connections, by the ends of their names.
const (
	connectionAccepted = "connection.accepted"
	connectionRefused  = "connection.refused"
	handshakeFailed    = "handshake.failure"
	unauthenticated    = "authentication.failure"
	malformed          = "request.malformed"
)

// A meterID is what series are told apart by. What a metric does not have is "".
type meterID struct {
	name, namespace, mount string
	scope, role            string
	operation              uint32
	reason                 string // or result
}

// meters are the metrics of a node, each found once. The zero value keeps nothing.
type meters struct {
	registry *telemetry.Registry
	found    sync.Map // of meterID to *telemetry.Counter or *telemetry.Timer
	scoped   atomic.Int64
	plain    atomic.Int64
	cleared  atomic.Int64 // when found was, in Unix seconds
}

// meter begins to measure, once for the life of the node: the registry keeps what was
// registered.
func (s *servers) meter(r *telemetry.Registry) {
	if r == nil || s.meters.registry == r {
		return
	}
	s.meters.registry = r
	r.Gauges(s.gauges)
}

func (v *place) namespace() string {
	if v.NamespacePath == "" {
		return "root"
	}
	return strings.TrimSuffix(v.NamespacePath, "/")
}

func (m *meters) id(name string, at *place) meterID {
	return meterID{name: name, namespace: at.namespace(), mount: at.Mount.Path}
}

// event counts what came to a connection, or a message before it was one.
func (m *meters) event(at *place, name, reason string) {
	if m.registry == nil || at == nil {
		return
	}
	id := m.id(name, at)
	id.reason = reason
	m.count(id)
}

// limited counts a message that was above a rate.
func (m *meters) limited(at *place, conn *connection) {
	if m.registry == nil {
		return
	}
	id := m.id("request.limited", at)
	id.scope, id.role = conn.names[0], conn.names[1]
	m.count(id)
}

// request counts the operations of a message that was answered, by how they ended, and
// notes how long it took as a whole. outcomes are those of the answer, nil where all is
// well.
func (m *meters) request(at *place, conn *connection, msg *message, outcomes []outcome, began time.Time) {
	if m.registry == nil {
		return
	}
	id := m.id("operation", at)
	id.scope, id.role = conn.names[0], conn.names[1]
	whole := len(outcomes) == 1 && outcomes[0].op == 0 // none was tried
	kind := msg.items[0].metered()
	for i := range msg.items {
		if id.operation = msg.items[i].metered(); id.operation != kind {
			kind = mixed
		}
		switch {
		case outcomes == nil:
			id.reason = "success"
		case whole:
			id.reason = "failure"
		case i >= len(outcomes): // what follows a failure is not tried
			continue
		case outcomes[i].reason != 0:
			id.reason = "failure"
		case outcomes[i].status == ttlv.ResultStatusOperationUndone:
			id.reason = "undone"
		default:
			id.reason = "success"
		}
		m.count(id)
	}
	for _, e := range outcomes {
		if e.reason != 0 {
			id := m.id("operation.failure", at)
			id.reason = ttlv.EnumName(ttlv.TagResultReason, e.reason)
			m.count(id)
		}
	}
	id = m.id("request", at)
	id.operation = kind
	if t, ok := m.find(id, true).(*telemetry.Timer); ok {
		t.At(began, time.Now())
	}
}

// mixed stands for the operation of a message that has several, unknown for one that is
// not served: what clients make up makes no series.
const (
	unknown uint32 = 0
	mixed   uint32 = 1 << 31
)

func (it *item) metered() uint32 {
	if it.op == nil {
		return unknown
	}
	return it.code
}

func (m *meters) count(id meterID) {
	if c, ok := m.find(id, false).(*telemetry.Counter); ok {
		c.Add(1)
	}
}

// find is the counter, or the timer, of an id; nil when there are too many.
func (m *meters) find(id meterID, timer bool) any {
	if have, ok := m.found.Load(id); ok {
		return have
	}
	now := time.Now().Unix()
	if last := m.cleared.Load(); now-last > int64(meteredAnew/time.Second) && m.cleared.CompareAndSwap(last, now) {
		m.found.Clear() // the registry keeps those that are used
		m.scoped.Store(0)
		m.plain.Store(0)
	}
	budget := &m.plain
	if id.scope != "" && id.scope != otherName {
		budget = &m.scoped
	}
	if budget.Add(1) > maxMetered {
		budget.Add(-1)
		if budget == &m.plain {
			return nil
		}
		id.scope, id.role = otherName, otherName
		return m.find(id, timer)
	}
	parts := append([]string{"kmip"}, strings.Split(id.name, ".")...)
	var made any
	if timer {
		made = m.registry.Timer(id.labels(), parts...)
	} else {
		made = m.registry.Counter(id.labels(), parts...)
	}
	have, _ := m.found.LoadOrStore(id, made)
	return have
}

// labels are those of a series.
func (id *meterID) labels() []telemetry.Label {
	out := []telemetry.Label{{Name: "namespace", Value: id.namespace}, {Name: "mount_point", Value: id.mount}}
	add := func(name, value string) {
		if value != "" {
			out = append(out, telemetry.Label{Name: name, Value: value})
		}
	}
	add("scope", id.scope)
	add("role", id.role)
	if id.name == "operation" || id.name == "request" {
		switch id.operation {
		case unknown:
			add("operation", "unknown")
		case mixed:
			add("operation", "several")
		default:
			add("operation", ttlv.EnumName(ttlv.TagOperation, id.operation))
		}
	}
	if id.name == "operation" {
		add("result", id.reason)
	} else {
		add("reason", id.reason)
	}
	return out
}

// whyNoHandshake is the label for a handshake that failed.
func whyNoHandshake(c *tls.Conn, err error) string {
	var (
		unverified *tls.CertificateVerificationError
		noTLS      tls.RecordHeaderError
		alert      *net.OpError
		invalid    x509.CertificateInvalidError
		stranger   x509.UnknownAuthorityError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed): // ours; or it was the oldest of too many
		return "closed"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "client_went"
	case errors.As(err, &noTLS):
		return "no_tls"
	case errors.As(err, &unverified):
		switch {
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			return "certificate_expired"
		case errors.As(err, &stranger):
			return "certificate_unknown_authority"
		}
		return "certificate_invalid"
	case errors.As(err, &alert):
		return "refused_by_client" // by an alert, or the connection broke
	}
	switch state := c.ConnectionState(); {
	case state.Version == 0:
		return "no_common_version"
	case state.CipherSuite == 0:
		return "no_common_cipher_suite"
	}
	return "certificate_missing" // or what it signs is wrong
}
