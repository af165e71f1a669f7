package kes

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/kes/policy"
	"arca/internal/logging"
)

// TestStalledOutput makes requests while nobody reads the audit log: none waits for
// it, what found no room is counted and told, and what comes later is whole.
func TestStalledOutput(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	read, write := io.Pipe()
	told := make(chan uint64, 1)
	sink := logging.NewSink(write, func(lost uint64) { told <- lost })
	r.door.cfg.Audit.SetOutput(sink)
	long := strings.Repeat("x", maxTold)
	n := 0
	for ; sink.Lost() == 0; n++ {
		if code, _ := r.do("user", "GET", "/v1/key/describe/"+long, ""); code != 400 {
			t.Fatal(code)
		}
		if n > 2*logging.MaxWaiting/len(long) {
			t.Fatal("nothing is lost, and nothing is read")
		}
	}
	w := &exposition{}
	r.door.writeMetrics(w)
	if !strings.Contains(w.b.String(), "kes_log_audit_lost 1\n") {
		t.Error("the metrics do not tell of the loss")
	}
	sink.Flush(time.Millisecond) // returns although nobody reads
	var got bytes.Buffer
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(&got, read) })
	if lost := <-told; lost != 1 {
		t.Errorf("told of %d", lost)
	}
	r.do("user", "GET", "/v1/key/describe/last", "")
	sink.Flush(time.Minute)
	_ = write.Close()
	reading.Wait()
	lines := strings.Split(strings.TrimSpace(got.String()), "\n")
	if len(lines) != n || !strings.Contains(lines[len(lines)-1], "/v1/key/describe/last") {
		t.Errorf("%d lines of %d, the last is %.100s", len(lines), n, lines[len(lines)-1])
	}
}

// fickle is an Access that may deny everything at any time.
type fickle struct {
	Access
	denies atomic.Bool
}

func (f *fickle) Authorize(ctx context.Context, by Caller) error {
	if f.denies.Load() {
		return policy.ErrDenied
	}
	return f.Access.Authorize(ctx, by)
}

// TestStreamsAskAgain ends the stream of a log when whoever follows it may not any
// more: at once when the state is another, else with the next beat.
func TestStreamsAskAgain(t *testing.T) {
	t.Parallel()
	follow := func(r *rig) (done chan struct{}, cancel func()) {
		ctx, cancel := context.WithCancel(context.Background())
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/log/audit", nil)
		req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{r.certs["user"]}}
		done = make(chan struct{})
		go func() {
			defer close(done)
			r.door.ServeHTTP(httptest.NewRecorder(), req)
		}()
		synctest.Wait()
		return done, cancel
	}
	ended := func(done chan struct{}) bool {
		synctest.Wait()
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
	t.Run("reload", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			done, cancel := follow(r)
			defer cancel()
			old := r.door.Swap(&State{Keys: r.keys, Access: r.state.Access})
			old.Retire() // the stream does not hold it
			if ended(done) {
				t.Error("it ended although it may go on")
			}
			r.door.Swap(&State{Keys: r.keys, Access: Fixed{Set: &policy.Set{}}}).Retire()
			if !ended(done) {
				t.Error("it goes on although nobody may")
			}
		})
	})
	t.Run("revoked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			access := &fickle{Access: r.state.Access}
			r.door.Swap(&State{Keys: r.keys, Access: access})
			done, cancel := follow(r)
			defer cancel()
			time.Sleep(3 * beatEvery)
			if ended(done) {
				t.Fatal("it ended although it may go on")
			}
			access.denies.Store(true)
			time.Sleep(beatEvery)
			if !ended(done) {
				t.Error("it goes on although the identity is gone")
			}
		})
	})
}

// TestFollowersAreBounded makes requests of strangers with long paths while one who
// follows the audit log does not read: what waits for him stays small, and what he gets
// then is whole, and ends with the log.
func TestFollowersAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.door.cfg.Audit
	l, leave, err := s.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	path := "/" + strings.Repeat("\x01", 2*maxTold)
	n := maxBehind / maxTold
	for range n {
		r.door.ServeHTTP(httptest.NewRecorder(), &http.Request{
			Method: http.MethodGet, URL: &url.URL{Path: path}, RemoteAddr: "192.0.2.1:1", Header: http.Header{}, Body: http.NoBody,
		})
	}
	waiting, bytes := len(l.waiting), 0
	for _, e := range l.waiting {
		if bytes += len(e); len(e) > 8*maxTold {
			t.Fatalf("an event of %d bytes", len(e))
		}
	}
	if bytes > maxBehind || bytes < maxBehind/2 || waiting == n {
		t.Errorf("%d events of %d wait, of %d bytes", waiting, n, bytes)
	}
	s.Close()
	for i := range waiting {
		var e event
		raw, last := l.take()
		if json.Unmarshal(raw, &e) != nil || last != (i == waiting-1) {
			t.Fatalf("event %d: %v, %.100s", i, last, raw)
		}
	}
	if e, _ := l.take(); e != nil || l.size != 0 {
		t.Errorf("%d bytes are left", l.size)
	}
}

// TestFollowersGetAll follows the audit log, and gets an event for each request:
// redirects, too.
func TestFollowersGetAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/log/audit", nil)
		req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{r.certs["user"]}}
		w := httptest.NewRecorder()
		var following sync.WaitGroup
		following.Go(func() { r.door.ServeHTTP(w, req) })
		synctest.Wait()
		for _, path := range []string{"/v1/key/describe/none", "/nothing", "/v1/key/list", "/v1//key/list/", "/v1/key/list/"} {
			r.do("user", "GET", path, "")
		}
		r.door.Close()
		following.Wait()
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(w.Body.String()), "\n") {
			var e event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(e.Request.Path, " ", e.Response.Code))
		}
		want := []string{"/v1/log/audit 200", "/v1/key/describe/none 404", "/nothing 404", "/v1/key/list 307", "/v1//key/list/ 307", "/v1/key/list/ 200"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
