// Package telemetry measures what the server does and tells it: at sys/metrics, in
// two formats, and to statsite, statsd, DogStatsD or Circonus. Names and kinds are
// those of https://developer.hashicorp.com/vault/docs/internals/telemetry.
//
// What is measured on the way of a request costs some atomic additions; it is put
// together when somebody asks. Only where the configuration names a server that
// takes metrics is each of them handed on, by the library's sinks, which queue and
// drop what cannot be sent: no such server holds up a request.
package telemetry

import (
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-metrics"
)

// Interval is for how long values are put together, as Vault does.
const Interval = 10 * time.Second

// maxSeries bounds how many metrics are kept; more are not counted. Those that
// were not touched for an idle time make room, looked for once in a while.
const (
	maxSeries  = 10_000
	idle       = time.Hour
	evictEvery = time.Minute
)

// A Label tells one series of a metric from another.
type Label struct{ Name, Value string }

// Config says what is told and how.
type Config struct {
	Prefix        string // "": vault
	Hostname      bool   // put the name of the machine into the names of gauges
	HostnameLabel bool   // ... or as a label
	// Allowed decides which metrics are told by their names, nil all.
	Allowed func(name string) bool
	// Retention is how long metrics are kept for Prometheus; 0 switches that
	// format off.
	Retention time.Duration
}

// A Registry keeps the metrics of one server. Safe for concurrent use.
type Registry struct {
	cfg    Config
	host   string
	now    func() time.Time
	series sync.Map // of id to *series
	count  atomic.Int64
	sinks  atomic.Pointer[[]metrics.MetricSink]
	// evicted is how often room was made.
	evicted atomic.Int64
	// sending is read-held by those who hand values on.
	sending sync.RWMutex

	mu     sync.Mutex
	swept  time.Time                                                 // guarded by mu: when room was looked for last
	gauges []func(set func(name string, v float64, labels ...Label)) // guarded by mu
}

// New makes a registry.
func New(cfg Config) *Registry {
	if cfg.Prefix == "" {
		cfg.Prefix = "vault"
	}
	host, _ := os.Hostname() // empty where it cannot be had
	return &Registry{cfg: cfg, host: host, now: time.Now}
}

type kind uint8

const (
	counter kind = iota
	sample
)

// A series is the values of one metric with one set of labels: those of this
// interval, of the one before, and since the start.
type series struct {
	kind   kind
	parts  []string
	labels []Label

	gone     atomic.Bool   // it is not kept any more
	total    atomic.Uint64 // how often, since the start
	totalSum atomicFloat

	mu         sync.Mutex
	from       time.Time // guarded by mu, as all below
	this, last window
	touched    time.Time
}

// A window is an interval's values.
type window struct {
	n            int
	sum, squares float64
	lowest, most float64
	buckets      [buckets]uint32 // of samples, by their size
}

type atomicFloat struct{ bits atomic.Uint64 }

func (f *atomicFloat) add(v float64) {
	for {
		old := f.bits.Load()
		if f.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

func (f *atomicFloat) load() float64 { return math.Float64frombits(f.bits.Load()) }

// buckets of a sample: four for each doubling, from a microsecond in milliseconds
// on.
const (
	buckets    = 160
	leastValue = 0.001
)

func bucketOf(v float64) int {
	if v <= leastValue {
		return 0
	}
	return min(int(math.Log2(v/leastValue)*4), buckets-1)
}

func valueOf(bucket int) float64 { return leastValue * math.Exp2((float64(bucket)+0.5)/4) }

func (w *window) add(k kind, v float64) {
	if w.n == 0 || v < w.lowest {
		w.lowest = v
	}
	if w.n == 0 || v > w.most {
		w.most = v
	}
	w.n++
	w.sum += v
	w.squares += v * v
	if k == sample {
		w.buckets[bucketOf(v)]++
	}
}

// quantile is about the value below which a part q of the samples lies.
func (w *window) quantile(q float64) float64 {
	rank := uint32(math.Ceil(q * float64(w.n)))
	seen := uint32(0)
	for i, n := range w.buckets {
		if seen += n; seen >= rank && n > 0 {
			return min(max(valueOf(i), w.lowest), w.most)
		}
	}
	return math.NaN()
}

func (s *series) add(v float64, now time.Time) {
	s.total.Add(1)
	s.totalSum.add(v)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roll(now)
	s.touched = now
	s.this.add(s.kind, v)
}

// roll begins a new interval when the time has come. mu is held.
func (s *series) roll(now time.Time) {
	at := now.Truncate(Interval)
	switch {
	case at.Equal(s.from):
		return
	case at.Sub(s.from) == Interval:
		s.last = s.this
	default:
		s.last = window{}
	}
	s.this, s.from = window{}, at
}

// A Counter counts; a Timer notes how long things take.
type (
	Counter struct{ meter }
	Timer   struct{ meter }
)

// A meter is a metric that is found once. One that was not touched for long may be
// kept no more, and is found anew.
type meter struct {
	r      *Registry
	kind   kind
	parts  []string
	labels []Label
	s      atomic.Pointer[series]
}

func (m *meter) set(r *Registry, k kind, labels []Label, parts []string) {
	m.r, m.kind, m.parts, m.labels = r, k, parts, labels
	m.s.Store(r.find(k, labels, parts))
}

// series is where values go, nil when there are too many metrics.
func (m *meter) series() *series {
	s := m.s.Load()
	if s != nil && s.gone.Load() {
		s = m.r.find(m.kind, m.labels, m.parts)
		m.s.Store(s)
	}
	return s
}

// Counter finds or makes a counter; parts make its name ("token", "creation").
func (r *Registry) Counter(labels []Label, parts ...string) *Counter {
	c := &Counter{}
	c.set(r, counter, labels, parts)
	return c
}

// Timer finds or makes a timer.
func (r *Registry) Timer(labels []Label, parts ...string) *Timer {
	t := &Timer{}
	t.set(r, sample, labels, parts)
	return t
}

// Counts reports whether what the counter counts is kept: not so when there are
// too many metrics.
func (c *Counter) Counts() bool { return c != nil && c.series() != nil }

// Add counts n more. A nil counter counts nothing.
func (c *Counter) Add(n int) {
	if c == nil {
		return
	}
	s := c.series()
	if s == nil {
		return
	}
	s.add(float64(n), c.r.now())
	c.r.forward(func(sink metrics.MetricSink) {
		sink.IncrCounterWithLabels(c.r.key(s.parts), float32(n), c.r.labels(s.labels))
	}, s.parts)
}

// Counts reports whether what the timer notes is kept: not so when there are too
// many metrics.
func (t *Timer) Counts() bool { return t != nil && t.series() != nil }

// Since notes the time since began. A nil timer notes nothing.
func (t *Timer) Since(began time.Time) {
	if t.Counts() {
		t.At(began, t.r.now())
	}
}

// At notes the time from began to now.
func (t *Timer) At(began, now time.Time) {
	if t == nil {
		return
	}
	s := t.series()
	if s == nil {
		return
	}
	ms := float64(now.Sub(began)) / float64(time.Millisecond)
	s.add(ms, now)
	t.r.forward(func(sink metrics.MetricSink) {
		sink.AddSampleWithLabels(t.r.key(s.parts), float32(ms), t.r.labels(s.labels))
	}, s.parts)
}

func id(k kind, labels []Label, parts []string) string {
	var b strings.Builder
	b.WriteByte(byte(k))
	for _, p := range parts {
		b.WriteString(p)
		b.WriteByte('.')
	}
	for _, l := range labels {
		b.WriteByte(0)
		b.WriteString(l.Name)
		b.WriteByte('=')
		b.WriteString(l.Value)
	}
	return b.String()
}

func (r *Registry) find(k kind, labels []Label, parts []string) *series {
	if r == nil {
		return nil
	}
	key := id(k, labels, parts)
	if have, ok := r.series.Load(key); ok {
		return have.(*series) //nolint:forcetypeassert // nothing else is put there
	}
	if r.count.Load() >= maxSeries && !r.makeRoom() {
		return nil
	}
	have, there := r.series.LoadOrStore(key, &series{kind: k, parts: slices.Clone(parts), labels: slices.Clone(labels), touched: r.now()})
	if !there {
		r.count.Add(1)
	}
	return have.(*series) //nolint:forcetypeassert // nothing else is put there
}

// makeRoom lets go of the metrics that were not touched for long, if that was not
// tried just now, and reports whether there is room.
func (r *Registry) makeRoom() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if now.Sub(r.swept) < evictEvery {
		return r.count.Load() < maxSeries
	}
	r.swept = now
	r.series.Range(func(key, v any) bool {
		s := v.(*series) //nolint:forcetypeassert // nothing else is put there
		s.mu.Lock()
		old := now.Sub(s.touched) > idle
		s.mu.Unlock()
		if old {
			s.gone.Store(true)
			r.series.Delete(key)
			r.count.Add(-1)
		}
		return true
	})
	r.evicted.Add(1)
	return r.count.Load() < maxSeries
}

// Evictions counts how often metrics were let go of: who remembers meters by what
// they measure, may forget them then.
func (r *Registry) Evictions() int64 { return r.evicted.Load() }

// Gauges registers fn to tell values that are as they are when asked for. It must
// not take long.
func (r *Registry) Gauges(fn func(set func(name string, v float64, labels ...Label))) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gauges = append(r.gauges, fn)
}

// A gauge is a value at one moment.
type gauge struct {
	name   string
	value  float64
	labels []Label
}

func (r *Registry) collect() []gauge {
	r.mu.Lock()
	fns := slices.Clone(r.gauges)
	r.mu.Unlock()
	var out []gauge
	set := func(name string, v float64, labels ...Label) {
		if r.allowed(name) && len(out) < maxSeries {
			out = append(out, gauge{name, v, labels})
		}
	}
	runtimeGauges(set)
	for _, fn := range fns {
		fn(set)
	}
	return out
}

func runtimeGauges(set func(name string, v float64, labels ...Label)) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	set("runtime.num_goroutines", float64(runtime.NumGoroutine()))
	set("runtime.alloc_bytes", float64(m.Alloc))
	set("runtime.sys_bytes", float64(m.Sys))
	set("runtime.malloc_count", float64(m.Mallocs))
	set("runtime.free_count", float64(m.Frees))
	set("runtime.heap_objects", float64(m.HeapObjects))
	set("runtime.total_gc_pause_ns", float64(m.PauseTotalNs))
	set("runtime.total_gc_runs", float64(m.NumGC))
}

func (r *Registry) allowed(name string) bool {
	return r.cfg.Allowed == nil || r.cfg.Allowed(r.cfg.Prefix+"."+name)
}

func (r *Registry) key(parts []string) []string { return append([]string{r.cfg.Prefix}, parts...) }

func (r *Registry) labels(in []Label) []metrics.Label {
	out := make([]metrics.Label, 0, len(in)+1)
	for _, l := range in {
		out = append(out, metrics.Label{Name: l.Name, Value: l.Value})
	}
	if r.cfg.HostnameLabel {
		out = append(out, metrics.Label{Name: "host", Value: r.host})
	}
	return out
}

// forward hands a value on to the servers that take metrics, if there are any.
func (r *Registry) forward(fn func(metrics.MetricSink), parts []string) {
	if r.sinks.Load() == nil || !r.allowed(strings.Join(parts, ".")) {
		return
	}
	r.sending.RLock() // a sink that is shut down must not be sent to
	defer r.sending.RUnlock()
	sinks := r.sinks.Load()
	if sinks == nil {
		return
	}
	for _, s := range *sinks {
		fn(s)
	}
}

// gaugeName is the name of a gauge, with that of the machine where wanted.
func (r *Registry) gaugeName(name string) string {
	if r.cfg.Hostname && !r.cfg.HostnameLabel && r.host != "" {
		name = r.host + "." + name
	}
	return r.cfg.Prefix + "." + name
}
