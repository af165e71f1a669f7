package cluster

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"arca/internal/errs"
)

// A mute listener takes connections, and says nothing.
func mute(t *testing.T) (address string, conns chan net.Conn) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // it ends whatever happens
	conns = make(chan net.Conn, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	return l.Addr().String(), conns
}

// TestLineToAnother has a leader be gone without a word, which another follows: who asks that one does not wait for the former, and nor does who asked that.
func TestLineToAnother(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	here, next := newWeb(t, ring, "here"), newWeb(t, ring, "next")
	gone, conns := mute(t)
	start := time.Now()
	first := make(chan error, 1)
	go func() {
		_, err := here.lineTo(t.Context(), gone)
		first <- err
	}()
	out := <-conns
	defer func() { _ = out.Close() }() // it ends whatever happens
	brief, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := here.lineTo(brief, gone); !errs.Is(err, errs.Unavailable) {
		t.Errorf("who waits for a moment only: %v", err)
	}
	l, err := here.lineTo(t.Context(), next.listeners[0].Addr().String())
	if err != nil || !l.to(next.listeners[0].Addr().String()) {
		t.Fatalf("the next leader: %v", err)
	}
	if err := <-first; !errs.Is(err, errs.Unavailable) {
		t.Errorf("who waits for the former leader: %v", err)
	}
	if took := time.Since(start); took > handshakeTimeout/2 {
		t.Errorf("it took %v", took)
	}
	_ = out.SetReadDeadline(start.Add(2 * handshakeTimeout)) // else the read fails anyway
	if _, err := io.Copy(io.Discard, out); err != nil && time.Since(start) > handshakeTimeout {
		t.Errorf("the connection to the former leader is open: %v", err)
	}
	select {
	case <-conns:
		t.Error("there were two connections to the former leader")
	default:
	}
}

// TestLineIsOne has many ask the leader at once: over one connection.
func TestLineIsOne(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	here, leader := newWeb(t, ring, "here"), newWeb(t, ring, "leader")
	to := leader.listeners[0].Addr().String()
	var work sync.WaitGroup
	var mu sync.Mutex
	got := map[*line]int{}
	for range 50 {
		work.Go(func() {
			l, err := here.lineTo(t.Context(), to)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[l]++
		})
	}
	work.Wait()
	if len(got) != 1 {
		t.Errorf("they have %d connections", len(got))
	}
	here.mu.Lock()
	defer here.mu.Unlock()
	if n := len(here.conns); n != 1 {
		t.Errorf("%d connections are open", n)
	}
}

// TestLineEnds has a node be sealed while it reaches out for the leader.
func TestLineEnds(t *testing.T) {
	t.Parallel()
	here := newWeb(t, newRing(t), "here")
	gone, conns := mute(t)
	start := time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := here.lineTo(t.Context(), gone)
		done <- err
	}()
	out := <-conns
	defer func() { _ = out.Close() }() // it ends whatever happens
	here.close()
	if err := <-done; err == nil {
		t.Error("there is a connection")
	}
	if _, err := here.lineTo(t.Context(), gone); err == nil {
		t.Error("there is a connection of a node that is sealed")
	}
	if took := time.Since(start); took > handshakeTimeout/2 {
		t.Errorf("it took %v", took)
	}
}
