package tracing

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const traced = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func collector(t *testing.T, got chan<- message, code int) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Key") != "k" {
			t.Errorf("%v, headers %v", err, r.Header)
		}
		w.WriteHeader(code)
		got <- m
	}))
	t.Cleanup(s.Close)
	return s
}

// A request of a traced caller, with what happens in it, reaches the collector
// when the tracer ends at the latest.
func TestSend(t *testing.T) {
	t.Parallel()
	got := make(chan message, 10)
	s := collector(t, got, http.StatusOK)
	tr := New(Config{Endpoint: s.URL, Headers: map[string]string{"X-Key": "k"}, Service: "arca", Version: "1", Parent: true})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { tr.Run(ctx); close(done) }()
	now := time.Unix(1_700_000_000, 0)
	root := tr.Start("read", traced, now)
	child := root.Child("audit", now.Add(time.Millisecond))
	child.Fail("unavailable")
	child.End(now.Add(2 * time.Millisecond))
	root.Set("mount", "secret/")
	root.Set("empty", "")
	root.Name("read secret/")
	root.End(now.Add(3 * time.Millisecond))
	cancel()
	<-done
	m := <-got
	r := m.ResourceSpans[0]
	spans := r.ScopeSpans[0].Spans
	if len(spans) != 2 || r.Resource.Attributes[0].Value.Text != "arca" {
		t.Fatalf("%+v", m)
	}
	c, p := spans[0], spans[1]
	if p.TraceID != traced[3:35] || p.ParentID != traced[36:52] || p.Kind != server || p.Name != "read secret/" || len(p.Attributes) != 1 ||
		p.End-p.Start != 3e6 || p.Status.Code != 0 {
		t.Errorf("%+v", p)
	}
	if c.TraceID != p.TraceID || c.ParentID != p.SpanID || c.Status.Code != statusError || c.Status.Message != "unavailable" {
		t.Errorf("%+v", c)
	}
}

// A collector that hangs or refuses costs no request anything, and memory is bounded.
func TestIllCollector(t *testing.T) {
	t.Parallel()
	tr := New(Config{Endpoint: "http://127.0.0.1:1", Ratio: 1})
	for range maxQueued + 10 {
		tr.Start("x", "", time.Now()).End(time.Now())
	}
	if tr.dropped.Load() != 10 || len(tr.queue) != maxQueued {
		t.Errorf("%d dropped", tr.dropped.Load())
	}
	got := make(chan message, 1)
	s := collector(t, got, http.StatusTeapot)
	tr = New(Config{Endpoint: s.URL, Headers: map[string]string{"X-Key": "k"}})
	if err := tr.send(t.Context(), []*record{{}}); err == nil || !strings.Contains(err.Error(), "418") {
		t.Error(err)
	}
}

func TestSampling(t *testing.T) {
	t.Parallel()
	off, on, half := New(Config{Parent: true}), New(Config{Parent: true, Ratio: 1}), New(Config{Ratio: 0.5})
	now := time.Now()
	if off.Start("x", "", now) != nil || on.Start("x", "", now) == nil {
		t.Error("the ratio does not count")
	}
	if off.Start("x", traced, now) == nil || on.Start("x", traced[:53]+"00", now) != nil {
		t.Error("the caller does not count")
	}
	if New(Config{}).Start("x", traced, now) != nil {
		t.Error("a caller decides whom nobody asks")
	}
	n := 0
	for range 1000 {
		if half.Start("x", "", now) != nil {
			n++
		}
	}
	if n < 400 || n > 600 {
		t.Errorf("%d of 1000", n)
	}
	var none *Tracer
	s := none.Start("x", traced, now) // nothing of it does anything
	s.Set("a", "b")
	s.Child("y", now).End(now)
	s.Fail("z")
	s.End(now)
	root, made := on.Start("x", "", now), 0
	for range 2 * maxChildren {
		if root.Child("y", now) != nil {
			made++
		}
	}
	if made != maxChildren {
		t.Errorf("%d children", made)
	}
}

func TestEnv(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env      map[string]string
		endpoint string
		ratio    float64
		fails    string
	}{
		"nothing":     {nil, "", 0, ""},
		"base":        {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces", 1, ""},
		"traces":      {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://d/x"}, "http://d/x", 1, ""},
		"off":         {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, "", 0, ""},
		"ratio":       {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, "http://c/v1/traces", 0.25, ""},
		"bad ratio":   {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "NaN"}, "", 0, "from 0 to 1"},
		"bad sampler": {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_SAMPLER": "x"}, "", 0, "none of"},
		"no url":      {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4317"}, "", 0, "must be a URL"},
		"grpc":        {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "", 0, "http/json"},
		"bad headers": {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_HEADERS": "secret"}, "", 0, "name=value"},
		"no ca":       {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nosuch"}, "", 0, "nosuch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, err := FromEnv(Config{}, func(k string) string { return c.env[k] })
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || cfg.Endpoint != c.endpoint || cfg.Ratio != c.ratio {
				t.Errorf("%+v, %v", cfg, err)
			}
		})
	}
	h, err := parseHeaders("api-key=a%20b, x = y")
	if err != nil || h["api-key"] != "a b" || h["x"] != "y" {
		t.Errorf("%v %v", h, err)
	}
}

func FuzzTraceparent(f *testing.F) {
	f.Add(traced)
	f.Add("01" + traced[2:] + "-more")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		id, sampled, ok := parse(s)
		if !ok && (sampled || id != ids{}) || ok && (id.trace == [16]byte{} || id.span == [8]byte{}) {
			t.Errorf("%q: %v", s, id)
		}
	})
}
