package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"arca/internal/api"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/wire"
)

// TestForwardedHeader takes the client of a forwarded request, and that a door has made
// it, from the other node only: what the client itself sends counts for nothing.
func TestForwardedHeader(t *testing.T) {
	t.Parallel()
	cert := issue(t, "client", nil)
	for _, door := range []bool{true, false} {
		for _, known := range []bool{true, false} {
			r := httptest.NewRequest(http.MethodDelete, "/v1/x", nil)
			for _, name := range []string{remoteHeader, methodHeader, certHeader, doorHeader} {
				r.Header.Set(name, "forged")
			}
			r.Header.Set("X-Vault-Token", "t")
			if known {
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert.Leaf}}
			}
			ctx := t.Context()
			if door {
				ctx = engine.WithDoor(ctx)
			}
			at := httptest.NewRequest(http.MethodPost, "/v1/x", nil)
			at.Header = asForwarded(ctx, r)
			got := asClient(at)
			if engine.IsDoor(got.Context()) != door {
				t.Errorf("made by a door: %v, want %v", !door, door)
			}
			if got.Method != http.MethodDelete || got.RemoteAddr != r.RemoteAddr || (got.TLS != nil) != known {
				t.Errorf("%s from %s, TLS %v", got.Method, got.RemoteAddr, got.TLS)
			}
			if known && !got.TLS.PeerCertificates[0].Equal(cert.Leaf) {
				t.Error("another certificate")
			}
			if len(got.Header) != 1 || got.Header.Get("X-Vault-Token") != "t" {
				t.Errorf("the header is %v", got.Header)
			}
		}
	}
}

// away is a node that knows where another leads.
type away string

func (a away) LeaderAddress() (string, bool) { return string(a), true }
func (away) Leading() bool                   { return false }
func (away) NoLeader() error                 { return nil }

// TestForwardedBody sends on bodies that are not in memory: to another node than the first only if nothing was read of them, and none that no node reads.
func TestForwardedBody(t *testing.T) {
	t.Parallel()
	node := func(h http.HandlerFunc) (address string) {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s, done := &wire.Server{Handler: h, Fallback: &http.Server{ReadHeaderTimeout: time.Minute}}, make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		t.Cleanup(func() {
			_ = s.Close() // Serve tells
			if err := <-done; !errors.Is(err, wire.ErrClosed) {
				t.Error(err)
			}
		})
		return l.Addr().String()
	}
	leader := node(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %q %v", r.Header.Get(methodHeader), b, err) // the client tells
	})
	former := node(func(w http.ResponseWriter, r *http.Request) {
		_, _ = r.Body.Read(make([]byte, 1)) // there is one
		w.Header().Set(api.NotActiveHeader, "true")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	f := newForwarder(nil)
	dial := func(ctx context.Context, to string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", to)
	}
	f.client.Dial = dial
	f.streams.DialContext = func(ctx context.Context, _, to string) (net.Conn, error) { return dial(ctx, to) }
	t.Cleanup(f.streams.CloseIdleConnections)
	send := func(r *http.Request, to string) (string, error) {
		f.node = away(to)
		res, err := f.forward(t.Context(), r, nil)
		if err != nil {
			return "", err
		}
		defer func() { _ = res.Body.Close() }() // it was read
		b, err := io.ReadAll(res.Body)
		return string(b), err
	}
	post := func() *http.Request {
		return httptest.NewRequest(http.MethodPost, "/v1/x", io.NopCloser(strings.NewReader("text")))
	}
	if _, err := send(post(), former); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a body of which the former leader has something: %v", err)
	}
	r := post()
	if _, err := send(r, "127.0.0.1:1"); !errs.Is(err, errs.NotActive) {
		t.Fatalf("nobody listens: %v", err)
	}
	if got, err := send(r, leader); got != `POST "text" <nil>` || err != nil {
		t.Errorf("after that: %s, %v", got, err)
	}
	for _, to := range []string{former, leader} {
		r := httptest.NewRequest(http.MethodDelete, "/v1/x", strings.NewReader("text"))
		got, err := send(r, to)
		if to == former && !errs.Is(err, errs.NotActive) || to == leader && (got != `DELETE "" <nil>` || err != nil) {
			t.Errorf("a body that no node reads: %s, %v", got, err)
		}
	}
}

// TestLentBytes has what is lent be read by nobody once it was taken back: net/http's client may still be about to.
func TestLentBytes(t *testing.T) {
	t.Parallel()
	l := &lentBytes{from: []byte("abcdef")}
	b := make([]byte, 4)
	if n, err := l.Read(b); string(b[:n]) != "abcd" || err != nil {
		t.Errorf("read %q, %v", b[:n], err)
	}
	l.end()
	if b, err := io.ReadAll(l); len(b) > 0 || err != nil {
		t.Errorf("read %q, %v, of what was taken back", b, err)
	}
	if b, err := io.ReadAll(&lentBytes{from: []byte("abcdef")}); string(b) != "abcdef" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
}
