package kes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stalling is a body that stands still after its beginning, until it is let go.
type stalling struct {
	begin io.Reader
	let   chan struct{}
}

func (s *stalling) Read(p []byte) (int, error) {
	if n, err := s.begin.Read(p); err == nil {
		return n, nil
	}
	<-s.let
	return 0, io.ErrUnexpectedEOF
}

// timed notes the deadlines that the door sets.
type timed struct {
	*httptest.ResponseRecorder
	mu          sync.Mutex
	read, write time.Time // guarded by mu
}

func (w *timed) SetReadDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read = t
	return nil
}

func (w *timed) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write = t
	return nil
}

// TestLargeBodies sends many large bodies that never end: one client holds no more
// than its share of the places, bodies that have only begun hold none, and each has
// to come soon.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		if code, _ := r.do("user", "PUT", "/v1/key/create/k", ""); code != 200 {
			t.Fatal(code)
		}
		let := make(chan struct{})
		var sending sync.WaitGroup
		var first *timed
		send := func(who, begin string) *timed {
			w := &timed{ResponseRecorder: httptest.NewRecorder()}
			ctx, cancel := context.WithCancel(context.Background())
			req := httptest.NewRequestWithContext(ctx, http.MethodPut, "/v1/key/encrypt/k", &stalling{strings.NewReader(begin), let})
			req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{r.certs[who]}}
			sending.Go(func() {
				defer cancel()
				r.door.ServeHTTP(w, req)
			})
			return w
		}
		for range 100 {
			send("user", `{"plaintext":"`)
		}
		synctest.Wait()
		if n := len(r.door.large.all); n != 0 {
			t.Errorf("bodies that have begun hold %d places", n)
		}
		large := `{"plaintext":"` + strings.Repeat("A", 2*smallBody)
		began := time.Now()
		for i := range 100 {
			if w := send("user", large); i == 0 {
				synctest.Wait()
				first = w
			}
		}
		synctest.Wait()
		if n := len(r.door.large.all); n != maxLargeEach {
			t.Errorf("one client holds %d places", n)
		}
		if first.read.After(began.Add(bodyTime)) {
			t.Errorf("a large body may take %v", first.read.Sub(began))
		}
		if code, out := r.do("admin", "PUT", "/v1/key/encrypt/k", large+`"}`); code != 200 {
			t.Errorf("another client: %d %v", code, out)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("another client waited %v", took)
		}
		time.Sleep(usualTimeout) // who got no place is told so
		close(let)
		sending.Wait()
		if n := len(r.door.large.all); n != 0 || len(r.door.large.clients) != 0 {
			t.Errorf("%d places and %d clients are left", n, len(r.door.large.clients))
		}
	})
}

// TestPlaces gives each client its share, and all of them no more than there are.
func TestPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(3, 2)
		var leave []func()
		for i, who := range []string{"a", "a", "a", "b", "b"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			h, err := p.take(ctx, who, nil)
			cancel()
			if want := i == 0 || i == 1 || i == 3; (err == nil) != want {
				t.Errorf("%d, %s: %v", i, who, err)
			}
			if err == nil {
				leave = append(leave, h.leave)
			}
		}
		for _, l := range leave {
			l()
		}
		if len(p.all) != 0 || len(p.clients) != 0 {
			t.Errorf("%d places and %d clients are left", len(p.all), len(p.clients))
		}
	})
}

// TestSlowBody gives one large body that comes slowly all of the call's time, as long as
// nobody waits for its place; then a little more.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		if code, _ := r.do("user", "PUT", "/v1/key/create/k", ""); code != 200 {
			t.Fatal(code)
		}
		let := make(chan struct{})
		var sending sync.WaitGroup
		send := func() *timed {
			w := &timed{ResponseRecorder: httptest.NewRecorder()}
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/v1/key/encrypt/k",
				&stalling{strings.NewReader(`{"plaintext":"` + strings.Repeat("A", 2*smallBody)), let})
			req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{r.certs["user"]}}
			sending.Go(func() { r.door.ServeHTTP(w, req) })
			synctest.Wait()
			return w
		}
		until := func(w *timed) time.Duration {
			w.mu.Lock()
			defer w.mu.Unlock()
			return time.Until(w.read)
		}
		first := send()
		if left := until(first); left != usualTimeout {
			t.Errorf("alone, it has %v", left)
		}
		time.Sleep(bodyTime + time.Second)
		for range maxLargeEach - 1 {
			send()
		}
		if left := until(first); left != usualTimeout-bodyTime-time.Second {
			t.Errorf("while there are places, it has %v", left)
		}
		last := send()
		if left := until(first); left != leftTime {
			t.Errorf("while another waits, it has %v", left)
		}
		if left := until(last); left != usualTimeout {
			t.Errorf("who waits has %v", left)
		}
		close(let)
		sending.Wait()
		if n := len(r.door.large.holds); n != 0 {
			t.Errorf("%d holds are left", n)
		}
	})
}
