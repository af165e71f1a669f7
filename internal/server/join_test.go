package server

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"arca/internal/core"
)

// TestOneWish makes many requests to try on: each ends the one before.
func TestOneWish(t *testing.T) {
	t.Parallel()
	parent, cancel := context.WithCancel(t.Context())
	defer cancel()
	var w wish
	var before context.Context
	for range 10 {
		ctx, ok := w.replace(parent)
		if !ok || ctx.Err() != nil {
			t.Fatal(ok, ctx.Err())
		}
		if before != nil && before.Err() == nil {
			t.Fatal("the wish before goes on")
		}
		before = ctx
	}
	cancel()
	if _, ok := w.replace(parent); ok || before.Err() == nil {
		t.Error("a node that has ended goes on to try")
	}
}

// TestHostEndsConnections asks a node twice: the connection is closed in between.
func TestHostEndsConnections(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 2)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"data":{}}`)) }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	s.Start()
	defer s.Close()
	h, err := newHost(&core.JoinRequest{Address: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.ask(t.Context(), "challenge", nil, &challenge{}); err != nil {
			t.Fatal(err)
		}
		h.close()
		<-closed
	}
}

// TestReasonIsBounded has who is asked give a reason of a megabyte.
func TestReasonIsBounded(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"errors":["no ` + strings.Repeat("x", 1<<20) + `"]}`))
	}))
	defer s.Close()
	h, err := newHost(&core.JoinRequest{Address: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	err = h.ask(t.Context(), "challenge", nil, &challenge{})
	if err == nil || !strings.Contains(err.Error(), "403 to the wish to join: no x") || len(err.Error()) > 2*maxJoinText {
		t.Errorf("%.200s", err)
	}
}

// TestWrongScheme asks a node by http that speaks TLS.
func TestWrongScheme(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	h, err := newHost(&core.JoinRequest{Address: strings.Replace(s.URL, "https", "http", 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	err = h.ask(t.Context(), "challenge", nil, &challenge{})
	if err == nil || !strings.HasSuffix(err.Error(), "whether it begins with https or http") {
		t.Error(err)
	}
}
