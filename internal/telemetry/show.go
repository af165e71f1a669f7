package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"arca/internal/errs"
)

// The JSON of sys/metrics, as go-metrics has it.
type (
	summary struct {
		Timestamp string
		Gauges    []shownGauge
		Points    []struct{}
		Counters  []shownSamples
		Samples   []shownSamples
	}
	shownGauge struct {
		Name   string
		Value  float64
		Labels map[string]string
	}
	shownSamples struct {
		Name   string
		Count  int
		Rate   float64
		Sum    float64
		Min    float64
		Max    float64
		Mean   float64
		Stddev float64
		Labels map[string]string
	}
)

func (r *Registry) shownLabels(in []Label) map[string]string {
	out := make(map[string]string, len(in))
	for _, l := range in {
		out[l.Name] = l.Value
	}
	if r.cfg.HostnameLabel {
		out["host"] = r.host
	}
	return out
}

// JSON tells the metrics of the last interval that is over.
func (r *Registry) JSON() ([]byte, error) {
	now := r.now()
	out := summary{
		Timestamp: now.UTC().Truncate(Interval).Format("2006-01-02 15:04:05 -0700 MST"),
		Gauges:    []shownGauge{}, Points: []struct{}{}, Counters: []shownSamples{}, Samples: []shownSamples{},
	}
	for _, g := range r.collect() {
		out.Gauges = append(out.Gauges, shownGauge{r.gaugeName(g.name), g.value, r.shownLabels(g.labels)})
	}
	for _, s := range r.all() {
		s.mu.Lock()
		s.roll(now)
		w := s.last
		if w.n == 0 {
			w = s.this
		}
		s.mu.Unlock()
		if w.n == 0 {
			continue
		}
		n := float64(w.n)
		v := shownSamples{
			Name: r.cfg.Prefix + "." + strings.Join(s.parts, "."), Count: w.n, Rate: w.sum / Interval.Seconds(), Sum: w.sum, Min: w.lowest, Max: w.most,
			Mean: w.sum / n, Labels: r.shownLabels(s.labels),
		}
		if w.n > 1 {
			v.Stddev = math.Sqrt(max(0, (n*w.squares-w.sum*w.sum)/(n*(n-1))))
		}
		if s.kind == counter {
			out.Counters = append(out.Counters, v)
		} else {
			out.Samples = append(out.Samples, v)
		}
	}
	return json.Marshal(out)
}

// all are the series that may be told, by name.
func (r *Registry) all() []*series {
	var out []*series
	r.series.Range(func(_, v any) bool {
		s := v.(*series) //nolint:forcetypeassert // nothing else is put there
		if r.allowed(strings.Join(s.parts, ".")) {
			out = append(out, s)
		}
		return true
	})
	slices.SortFunc(out, func(a, b *series) int {
		return strings.Compare(id(a.kind, a.labels, a.parts), id(b.kind, b.labels, b.parts))
	})
	return out
}

// ErrPrometheus is a request for a format that the configuration leaves off.
var ErrPrometheus = errs.New(errs.Invalid, "prometheus is not enabled")

// promName is a metric's name as Prometheus takes it.
func promName(name string) string {
	return strings.Map(func(c rune) rune {
		if c == '_' || c == ':' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			return c
		}
		return '_'
	}, name)
}

// Prometheus tells the metrics in the text format
// (https://prometheus.io/docs/instrumenting/exposition_formats/). Those that
// nothing was added to for longer than the retention time are left out.
func (r *Registry) Prometheus() ([]byte, error) {
	if r.cfg.Retention <= 0 {
		return nil, ErrPrometheus
	}
	now := r.now()
	var b bytes.Buffer
	last := ""
	head := func(name, kind string) {
		if name != last {
			fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, name, name, kind)
			last = name
		}
	}
	gauges := r.collect()
	slices.SortStableFunc(gauges, func(a, b gauge) int { return strings.Compare(a.name, b.name) })
	for _, g := range gauges {
		name := promName(r.gaugeName(g.name))
		head(name, "gauge")
		r.line(&b, name, g.labels, "", g.value)
	}
	for _, s := range r.all() {
		s.mu.Lock()
		s.roll(now)
		w, touched := s.last, s.touched
		if w.n == 0 {
			w = s.this
		}
		s.mu.Unlock()
		if now.Sub(touched) > r.cfg.Retention {
			continue
		}
		name := promName(r.cfg.Prefix + "." + strings.Join(s.parts, "."))
		if s.kind == counter {
			head(name, "counter")
			r.line(&b, name, s.labels, "", s.totalSum.load())
			continue
		}
		head(name, "summary")
		for _, q := range []float64{0.5, 0.9, 0.99} {
			r.line(&b, name, s.labels, strconv.FormatFloat(q, 'g', -1, 64), w.quantile(q))
		}
		r.line(&b, name+"_sum", s.labels, "", s.totalSum.load())
		r.line(&b, name+"_count", s.labels, "", float64(s.total.Load()))
	}
	return b.Bytes(), nil
}

func (r *Registry) line(b *bytes.Buffer, name string, labels []Label, quantile string, v float64) {
	b.WriteString(name)
	all := slices.Clone(labels)
	if r.cfg.HostnameLabel {
		all = append(all, Label{"host", r.host})
	}
	if quantile != "" {
		all = append(all, Label{"quantile", quantile})
	}
	for i, l := range all {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(promName(l.Name))
		b.WriteString(`="`)
		b.WriteString(strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(l.Value))
		b.WriteByte('"')
	}
	if len(all) > 0 {
		b.WriteByte('}')
	}
	b.WriteByte(' ')
	b.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
	b.WriteByte('\n')
}

// Age is how long a duration is, in the words of the label creation_ttl; 0 is for
// ever.
func Age(d time.Duration) string {
	if d == 0 {
		return "+Inf"
	}
	for _, step := range []struct {
		most time.Duration
		name string
	}{
		{time.Minute, "1m"},
		{10 * time.Minute, "10m"},
		{20 * time.Minute, "20m"},
		{time.Hour, "1h"},
		{2 * time.Hour, "2h"},
		{24 * time.Hour, "1d"},
		{48 * time.Hour, "2d"},
		{7 * 24 * time.Hour, "7d"},
		{30 * 24 * time.Hour, "30d"},
	} {
		if d <= step.most {
			return step.name
		}
	}
	return "+Inf"
}
