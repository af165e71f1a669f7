package telemetry

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func filled(t *testing.T, cfg Config) *Registry {
	t.Helper()
	r := New(cfg)
	timer := r.Timer(nil, "core", "handle_request")
	now := time.Now()
	for i := range 100 {
		timer.At(now.Add(-time.Duration(i+1)*time.Millisecond), now)
	}
	r.Counter([]Label{{"mount", `a"b\c`}}, "token", "creation").Add(3)
	r.Gauges(func(set func(string, float64, ...Label)) { set("core.unsealed", 1) })
	return r
}

// S3-54, S3-56: both formats tell what was measured.
func TestFormats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := filled(t, Config{Retention: time.Hour})
		time.Sleep(Interval)
		raw, err := r.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var out summary
		if err := json.Unmarshal(raw, &out); err != nil {
			t.Fatal(err)
		}
		if len(out.Samples) != 1 || out.Samples[0].Name != "vault.core.handle_request" || out.Samples[0].Count != 100 || out.Samples[0].Max != 100 {
			t.Errorf("samples %+v", out.Samples)
		}
		if len(out.Counters) != 1 || out.Counters[0].Sum != 3 || out.Counters[0].Labels["mount"] != `a"b\c` {
			t.Errorf("counters %+v", out.Counters)
		}
		prom, err := r.Prometheus()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"# TYPE vault_core_handle_request summary\n", "vault_core_handle_request_count 100\n", "vault_core_handle_request_sum 5050\n",
			"# TYPE vault_token_creation counter\nvault_token_creation{mount=\"a\\\"b\\\\c\"} 3\n", "# TYPE vault_core_unsealed gauge\nvault_core_unsealed 1\n",
			"vault_runtime_num_goroutines ",
		} {
			if !strings.Contains(string(prom), want) {
				t.Errorf("no %q in\n%s", want, prom)
			}
		}
		// Values are of their interval; sums are for ever.
		time.Sleep(3 * Interval)
		raw, _ = r.JSON()
		if strings.Contains(string(raw), "handle_request") {
			t.Error("an old interval is told as the last")
		}
		if prom, _ = r.Prometheus(); !strings.Contains(string(prom), "vault_core_handle_request_count 100\n") {
			t.Error("the sum is gone")
		}
		time.Sleep(2 * time.Hour)
		if prom, _ = r.Prometheus(); strings.Contains(string(prom), "handle_request") {
			t.Error("a metric is told longer than the retention time")
		}
	})
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	var w window
	for i := range 1000 {
		w.add(sample, float64(i+1)/10)
	}
	for q, want := range map[float64]float64{0.5: 50, 0.9: 90, 0.99: 99} {
		if got := w.quantile(q); got < want*0.8 || got > want*1.2 {
			t.Errorf("%g: %g, want about %g", q, got, want)
		}
	}
}

func TestOff(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}).Prometheus(); err == nil {
		t.Error("a format that is off")
	}
	var r *Registry
	r.Counter(nil, "x").Add(1)
	r.Timer(nil, "x").Since(time.Now())
	r.Gauges(nil)
	some := New(Config{Allowed: func(name string) bool { return name == "vault.b" }, Retention: time.Hour})
	some.Counter(nil, "a").Add(1)
	some.Counter(nil, "b").Add(1)
	if raw, _ := some.Prometheus(); strings.Contains(string(raw), "vault_a") || !strings.Contains(string(raw), "vault_b 1") {
		t.Errorf("filtered:\n%s", raw)
	}
}

// Names from outside cannot fill the memory.
func TestBounded(t *testing.T) {
	t.Parallel()
	r := New(Config{})
	for i := range maxSeries + 100 {
		r.Counter(nil, "a", strings.Repeat("x", i%50), string(rune(i))).Add(1)
	}
	if n := r.count.Load(); n > maxSeries {
		t.Errorf("%d series", n)
	}
}

// S3-53, S3-55: a name that does not resolve stops nothing, and one that does gets
// the metrics.
func TestSinks(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := New(Config{})
	r.Start(ctx, Sinks{Statsite: l.Addr().String(), DogStatsD: "no-such-host.invalid:8125", Statsd: "no-such-host.invalid:8125"}, slog.New(slog.DiscardHandler))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var once sync.Once
	stop := time.AfterFunc(20*time.Second, func() { conn.Close() })
	defer stop.Stop()
	go func() {
		for ctx.Err() == nil {
			r.Counter(nil, "token", "creation").Add(1)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "vault.token.creation:1") {
			once.Do(cancel)
			return
		}
	}
	t.Error("the counter did not arrive")
}

func BenchmarkTimer(b *testing.B) {
	r := New(Config{})
	timer := r.Timer(nil, "core", "handle_request")
	began := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			timer.At(began, began.Add(time.Millisecond))
		}
	})
}

// Metrics that nobody touches make room for others, and come back when somebody
// does.
func TestRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		held := r.Counter(nil, "held")
		held.Add(1)
		for i := range maxSeries + 10 {
			r.Timer(nil, "a", strconv.Itoa(i)).At(time.Now(), time.Now())
		}
		late := r.Timer(nil, "late")
		if late.Counts() || r.Evictions() != 1 {
			t.Errorf("there is room in a full house; %d evictions", r.Evictions())
		}
		time.Sleep(idle + time.Second)
		if late = r.Timer(nil, "late"); !late.Counts() || r.Evictions() != 2 {
			t.Errorf("no room after an idle time; %d evictions", r.Evictions())
		}
		if n := len(r.all()); n != 1 {
			t.Errorf("%d metrics are left", n)
		}
		held.Add(2)
		if all := r.all(); len(all) != 2 || all[0].parts[0] != "held" || all[0].total.Load() != 1 {
			t.Errorf("%+v", all)
		}
	})
}

// Circonus is sent what is measured.
func TestCirconus(t *testing.T) {
	t.Parallel()
	got := make(chan string, 100)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		select {
		case got <- string(body):
		default:
		}
		_, _ = io.WriteString(w, `{"stats":1}`)
	}))
	defer plain.Close()
	r := filled(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r.Start(ctx, Sinks{Circonus: Circonus{SubmissionURL: plain.URL, Interval: "100ms"}}, slog.New(slog.DiscardHandler))
	for body := range got {
		if strings.Contains(body, "core`unsealed") {
			return
		}
	}
}
