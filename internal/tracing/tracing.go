// Package tracing tells a collector, in OpenTelemetry's protocol, how long requests
// take and where: OTLP over HTTP with JSON, by https://opentelemetry.io/docs/specs/otlp.
// The few kinds of spans that arca has need no more than these lines, where the
// SDK would make the program a sixth larger.
//
// Tracing is off unless a collector is named. A request waits for nothing here:
// what cannot be sent is dropped. Spans name mounts, routes and namespaces, never
// what a path's last parts, parameters or answers say.
package tracing

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds.
const (
	maxQueued   = 4096 // spans that wait to be sent
	maxBatch    = 512  // spans of one message
	maxChildren = 64   // spans of one request
	sendEvery   = 5 * time.Second
	lastSend    = 2 * time.Second // for what waits at the end
	maxAnswer   = 64 << 10        // of the collector, in bytes
)

// Config of a Tracer.
type Config struct {
	Endpoint string // URL to post to, such as http://localhost:4318/v1/traces
	Headers  map[string]string
	Service  string // service.name
	Version  string // service.version
	Instance string // service.instance.id
	// Parent has a caller that is traced, or not, decide for its requests (the samplers
	// parentbased_…). Anybody can claim to be traced.
	Parent bool
	// Ratio of the other requests that are traced, from 0 to 1.
	Ratio float64
	// Timeout of one message; 0: 10 s.
	Timeout time.Duration
	Client  *http.Client // nil: one of its own
	Log     *slog.Logger
}

// A Tracer makes spans and sends them. A nil Tracer makes none.
type Tracer struct {
	cfg     Config
	bound   uint64 // of the random numbers whose requests are traced
	queue   chan *record
	dropped atomic.Int64
	seed    sync.Mutex
	random  []byte
}

// New makes a Tracer; Run must be called for anything to be sent.
func New(cfg Config) *Tracer {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tracer{cfg: cfg, queue: make(chan *record, maxQueued)}
	switch {
	case cfg.Ratio >= 1:
		t.bound = math.MaxUint64
	case cfg.Ratio > 0:
		t.bound = uint64(cfg.Ratio * math.MaxUint64)
	}
	return t
}

type ids struct {
	trace  [16]byte
	span   [8]byte
	parent [8]byte // zero: none
}

// A Span is one thing that takes time. A nil Span notes nothing. It belongs to one
// goroutine.
type Span struct {
	t        *Tracer
	root     *Span
	children int // of the root
	over     bool
	record   record
}

// record is a span as it is sent.
type record struct {
	ids
	name       string
	kind       int // as in the protocol
	start, end time.Time
	attributes []attribute
	failed     bool
	message    string
}

type attribute struct{ key, value string }

// Kinds of spans, as in the protocol.
const (
	internal = 1
	server   = 2
)

// Start begins the span of a request; nil when it is not traced. parent is the header
// traceparent of W3C's Trace Context.
func (t *Tracer) Start(name, parent string, now time.Time) *Span {
	if t == nil {
		return nil
	}
	id, sampled, ok := parse(parent)
	if !ok {
		t.fill(id.trace[:])
	}
	if ok && t.cfg.Parent {
		if !sampled {
			return nil
		}
	} else if binary.BigEndian.Uint64(id.trace[8:]) > t.bound || t.bound == 0 {
		return nil
	}
	id.parent = id.span
	t.fill(id.span[:])
	s := &Span{t: t, record: record{ids: id, name: name, kind: server, start: now}}
	s.root = s
	return s
}

// fill makes random ids, many at a time.
func (t *Tracer) fill(id []byte) {
	t.seed.Lock()
	defer t.seed.Unlock()
	if len(t.random) < len(id) {
		t.random = make([]byte, 1024)
		_, _ = rand.Read(t.random) // never fails
	}
	copy(id, t.random)
	t.random = t.random[len(id):]
}

// parse reads a traceparent: "00-<32 hex>-<16 hex>-<2 hex>", of this or a later
// version.
func parse(s string) (id ids, sampled, ok bool) {
	if len(s) < 55 || len(s) > 255 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" || s[:2] == "00" && len(s) != 55 || len(s) > 55 && s[55] != '-' {
		return ids{}, false, false
	}
	var version, flags [1]byte
	for from, into := range map[int][]byte{0: version[:], 3: id.trace[:], 36: id.span[:], 53: flags[:]} {
		text := s[from : from+2*len(into)]
		if _, err := hex.Decode(into, []byte(text)); err != nil || strings.ToLower(text) != text {
			return ids{}, false, false
		}
	}
	if id.trace == [16]byte{} || id.span == [8]byte{} {
		return ids{}, false, false
	}
	return id, flags[0]&1 == 1, true
}

// Child begins a span within s.
func (s *Span) Child(name string, now time.Time) *Span {
	if s == nil || s.root.children >= maxChildren {
		return nil
	}
	s.root.children++
	c := &Span{t: s.t, root: s.root, record: record{ids: s.record.ids, name: name, kind: internal, start: now}}
	c.record.parent = s.record.span
	s.t.fill(c.record.span[:])
	return c
}

// Name names the span anew.
func (s *Span) Name(name string) {
	if s != nil {
		s.record.name = name
	}
}

// Set notes an attribute; an empty value is none.
func (s *Span) Set(key, value string) {
	if s != nil && value != "" {
		s.record.attributes = append(s.record.attributes, attribute{key, value})
	}
}

// Fail notes that what the span is about failed, and by which kind of error.
func (s *Span) Fail(kind string) {
	if s != nil {
		s.record.failed, s.record.message = true, kind
	}
}

// End ends the span; what comes behind the first end does nothing.
func (s *Span) End(now time.Time) {
	if s == nil || s.over {
		return
	}
	s.over = true
	s.record.end = now
	select {
	case s.t.queue <- &s.record:
	default:
		s.t.dropped.Add(1)
	}
}

// Run sends what ends until ctx is done, and then what waits.
func (t *Tracer) Run(ctx context.Context) {
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	var batch []*record
	ill := false
	send := func(ctx context.Context) {
		if len(batch) == 0 {
			return
		}
		n := len(batch)
		err := t.send(ctx, batch)
		batch = batch[:0]
		if err != nil {
			t.dropped.Add(int64(n))
			if !ill {
				t.cfg.Log.Warn("traces cannot be sent", "error", err)
			}
		} else if lost := t.dropped.Swap(0); lost > 0 {
			t.cfg.Log.Warn("traces are sent again", "lost_spans", lost)
		}
		ill = err != nil
	}
	for {
		select {
		case r := <-t.queue:
			if batch = append(batch, r); len(batch) >= maxBatch {
				send(ctx)
			}
		case <-tick.C:
			send(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSend)
			defer cancel()
			for len(t.queue) > 0 && len(batch) < maxBatch {
				batch = append(batch, <-t.queue)
			}
			send(last)
			return
		}
	}
}

// What is sent, by opentelemetry-proto's JSON mapping.
type (
	message struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   resource     `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	resource struct {
		Attributes []keyValue `json:"attributes"`
	}
	scopeSpans struct {
		Scope scope      `json:"scope"`
		Spans []sentSpan `json:"spans"`
	}
	scope struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	sentSpan struct {
		TraceID    string     `json:"traceId"`
		SpanID     string     `json:"spanId"`
		ParentID   string     `json:"parentSpanId,omitempty"`
		Name       string     `json:"name"`
		Kind       int        `json:"kind"`
		Start      int64      `json:"startTimeUnixNano,string"`
		End        int64      `json:"endTimeUnixNano,string"`
		Attributes []keyValue `json:"attributes,omitempty"`
		Status     status     `json:"status"`
	}
	status struct {
		Code    int    `json:"code,omitempty"` // 2: error
		Message string `json:"message,omitempty"`
	}
	keyValue struct {
		Key   string    `json:"key"`
		Value textValue `json:"value"`
	}
	textValue struct {
		Text string `json:"stringValue"`
	}
)

const statusError = 2

func values(list []attribute) []keyValue {
	out := make([]keyValue, 0, len(list))
	for _, a := range list {
		if a.value != "" {
			out = append(out, keyValue{a.key, textValue{a.value}})
		}
	}
	return out
}

func (t *Tracer) encode(batch []*record) ([]byte, error) {
	spans := make([]sentSpan, len(batch))
	for i, r := range batch {
		s := sentSpan{
			TraceID: hex.EncodeToString(r.trace[:]), SpanID: hex.EncodeToString(r.span[:]), Name: r.name, Kind: r.kind,
			Start: r.start.UnixNano(), End: r.end.UnixNano(), Attributes: values(r.attributes),
		}
		if r.parent != [8]byte{} {
			s.ParentID = hex.EncodeToString(r.parent[:])
		}
		if r.failed {
			s.Status = status{statusError, r.message}
		}
		spans[i] = s
	}
	about := []attribute{{"service.name", t.cfg.Service}, {"service.version", t.cfg.Version}, {"service.instance.id", t.cfg.Instance}}
	return json.Marshal(message{[]resourceSpans{{resource{values(about)}, []scopeSpans{{scope{"arca", t.cfg.Version}, spans}}}}})
}

func (t *Tracer) send(ctx context.Context, batch []*record) error {
	body, err := t.encode(batch)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.cfg.Endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	for k, v := range t.cfg.Headers {
		req.Header.Set(k, v)
	}
	res, err := t.cfg.Client.Do(req)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer)) // so that the connection is kept
	_ = res.Body.Close()                                            // it was read
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answered %s", res.Status)
	}
	return nil
}
