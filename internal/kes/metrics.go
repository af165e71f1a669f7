package kes

import (
	"fmt"
	"net/http"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// buckets are the bounds of the response times, in seconds.
var buckets = [...]float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 3, 5, 10}

// metrics counts the requests for keys, policies and identities.
type metrics struct {
	codes  [600]atomic.Uint64 // by status
	active atomic.Int64
	times  [len(buckets)]atomic.Uint64 // by the first bucket that holds them
	total  atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

// count notes an answer. A refusal for want of rights is no answer of a call,
// also where the owner of the keys has judged.
func (m *metrics) count(code int, took time.Duration) {
	if code == http.StatusForbidden || code <= 0 || code >= len(m.codes) {
		return
	}
	m.codes[code].Add(1)
	m.total.Add(1)
	m.sum.Add(int64(took))
	for i, b := range buckets {
		if took.Seconds() <= b {
			m.times[i].Add(1)
			break
		}
	}
}

// showMetrics answers in Prometheus's text format, or in OpenMetrics where a
// client asks for that only.
func (d *Door) showMetrics(r *request) error {
	accept := r.http.Header.Get("Accept")
	open := strings.Contains(accept, "application/openmetrics-text") && !strings.Contains(accept, "text/plain")
	w := &exposition{open: open}
	d.writeMetrics(w)
	kind := "text/plain; version=0.0.4; charset=utf-8"
	if open {
		kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
		w.b.WriteString("# EOF\n")
	}
	r.written, r.code = true, http.StatusOK
	r.w.Header().Set("Content-Type", kind)
	_, _ = r.w.Write([]byte(w.b.String())) // the client is gone, or not
	return nil
}

func (d *Door) writeMetrics(w *exposition) {
	m := &d.metrics
	for _, group := range []struct {
		name, help string
		class      int
	}{
		{"kes_http_request_success", "Requests that succeeded.", 2},
		{"kes_http_request_error", "Requests that failed by the client's fault.", 4},
		{"kes_http_request_failure", "Requests that failed by the server's fault.", 5},
	} {
		first := true
		for code := group.class * 100; code < group.class*100+100; code++ {
			if n := m.codes[code].Load(); n > 0 {
				if first {
					w.head(group.name, "counter", group.help)
					first = false
				}
				w.line(w.counter(group.name), `code="`+strconv.Itoa(code)+`"`, float64(n))
			}
		}
	}
	w.gauge("kes_http_request_active", "Requests that are being served.", float64(m.active.Load()))
	w.head("kes_http_response_time", "histogram", "Response times in seconds.")
	below := uint64(0)
	for i, b := range buckets {
		below += m.times[i].Load()
		w.line("kes_http_response_time_bucket", `le="`+strconv.FormatFloat(b, 'g', -1, 64)+`"`, float64(below))
	}
	all := max(m.total.Load(), below)
	w.line("kes_http_response_time_bucket", `le="+Inf"`, float64(all))
	w.line("kes_http_response_time_sum", "", time.Duration(m.sum.Load()).Seconds())
	w.line("kes_http_response_time_count", "", float64(all))
	w.head("kes_log_error_events", "counter", "Events of the error log.")
	w.line(w.counter("kes_log_error_events"), "", float64(d.cfg.Errors.Events()))
	w.head("kes_log_audit_events", "counter", "Events of the audit log.")
	w.line(w.counter("kes_log_audit_events"), "", float64(d.cfg.Audit.Events()))
	if n := d.cfg.Audit.Lost(); n > 0 {
		w.head("kes_log_audit_lost", "counter", "Events of the audit log that its output did not take.")
		w.line(w.counter("kes_log_audit_lost"), "", float64(n))
	}
	mem := readMemory()
	threads := 0
	if p := pprof.Lookup("threadcreate"); p != nil {
		threads = p.Count()
	}
	w.gauge("kes_system_up_time", "Seconds since the start.", time.Since(d.started).Seconds())
	w.gauge("kes_system_num_cpu", "Processors of the machine.", float64(runtime.NumCPU()))
	w.gauge("kes_system_num_cpu_used", "Processors that are used.", float64(runtime.GOMAXPROCS(0)))
	w.gauge("kes_system_num_threads", "Threads that were made.", float64(threads))
	w.gauge("kes_system_mem_heap_used", "Bytes of objects on the heap.", float64(mem.heap))
	w.gauge("kes_system_mem_heap_objects", "Objects on the heap.", float64(mem.objects))
	w.gauge("kes_system_mem_stack_used", "Bytes of stacks.", float64(mem.stack))
}

// An exposition is a text in Prometheus's format or in OpenMetrics.
type exposition struct {
	b    strings.Builder
	open bool
}

func (w *exposition) head(name, kind, help string) {
	fmt.Fprintf(&w.b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// counter returns the name of a counter's sample.
func (w *exposition) counter(name string) string {
	if w.open {
		return name + "_total"
	}
	return name
}

func (w *exposition) gauge(name, help string, value float64) {
	w.head(name, "gauge", help)
	w.line(name, "", value)
}

func (w *exposition) line(name, label string, value float64) {
	w.b.WriteString(name)
	if label != "" {
		w.b.WriteString("{" + label + "}")
	}
	w.b.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}
