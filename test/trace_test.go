package test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
)

// Requests reach a collector of OpenTelemetry, with what takes time in them, and
// nothing of what they are about.
func TestTraces(t *testing.T) {
	t.Parallel()
	bodies := make(chan []byte, 100)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		bodies <- body
	}))
	t.Cleanup(s.Close)
	n := newNode(t, t.TempDir(), fileStorage+"telemetry { otlp_traces_endpoint = \""+s.URL+"/v1/traces\" }\n")
	n.must("POST", "sys/mounts/apps", map[string]any{"type": "kv"})
	n.must("POST", "apps/very-secret-name", map[string]any{"password": "correct-horse"}, "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	n.get("apps/very-secret-name")
	n.signal(syscall.SIGTERM) // the last are sent before it ends
	n.ended()
	close(bodies)
	type span struct {
		TraceID, SpanID, ParentSpanID, Name string
	}
	var spans []span
	for body := range bodies {
		for _, secret := range []string{"very-secret-name", "correct-horse", n.root} {
			if strings.Contains(string(body), secret) {
				t.Errorf("a trace tells %q", secret)
			}
		}
		var m struct {
			ResourceSpans []struct {
				ScopeSpans []struct{ Spans []span }
			}
		}
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		spans = append(spans, m.ResourceSpans[0].ScopeSpans[0].Spans...)
	}
	var root span
	for _, s := range spans {
		if s.ParentSpanID == "00f067aa0ba902b7" {
			root = s
		}
	}
	if root.Name != "update kv/{path...}" {
		t.Fatalf("%+v in %+v", root, spans)
	}
	inside := ""
	for _, s := range spans {
		if s.TraceID == root.TraceID && s.ParentSpanID == root.SpanID {
			inside += s.Name + " "
		}
	}
	if inside != "authorize handle " {
		t.Errorf("inside: %s", inside)
	}
}
