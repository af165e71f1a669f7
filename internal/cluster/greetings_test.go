package cluster

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestSilentConnections has somebody open more connections than are waited for, and say nothing: members go on to talk, and others come in.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	open := func(id string) *web { return newWeb(t, ring, id) }
	here, member := open("here"), open("member")
	to := here.listeners[0].Addr().String()
	greet := func() (ours, theirs net.Conn) {
		t.Helper()
		ours, err := member.dial(t.Context(), protoAsk, "here", to)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case theirs = <-here.streams[protoAsk].conns:
		case <-time.After(handshakeTimeout):
			t.Fatal("a member does not come in")
		}
		return ours, theirs
	}
	talk := func(ours, theirs net.Conn) {
		t.Helper()
		_ = theirs.SetReadDeadline(time.Now().Add(handshakeTimeout)) // else the read fails anyway
		b := make([]byte, 1)
		if _, err := ours.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(theirs, b); err != nil {
			t.Error(err)
		}
	}
	before, beforeThere := greet()
	var silent []net.Conn
	for range 2 * maxHandshakes {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() }) // nothing was said
		silent = append(silent, c)
	}
	_ = silent[0].SetReadDeadline(time.Now().Add(handshakeTimeout / 2)) // else the read fails anyway
	if _, err := silent[0].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the first to say nothing: %v", err)
	}
	for range 3 {
		talk(greet())
	}
	talk(before, beforeThere)
	here.greetings.mu.Lock()
	defer here.greetings.mu.Unlock()
	if n := len(here.greetings.list); n > maxHandshakes {
		t.Errorf("%d connections are waited for", n)
	}
}

// calls is a connection from an address.
type calls struct {
	net.Conn
	from string
}

func (c *calls) RemoteAddr() net.Addr { return address(c.from) }

// Who opens many connections pushes out their own.
func TestGreetingsGiveWay(t *testing.T) {
	t.Parallel()
	var g greetings
	member, other := &calls{from: "10.0.0.2:4000"}, &calls{from: "[2001:db8::1]:4000"}
	for _, c := range []net.Conn{member, other} {
		if out := g.begin(c); out != nil {
			t.Fatal(out)
		}
	}
	for _, from := range []string{"10.0.0.3:5000", "[::ffff:10.0.0.3]:5000", "10.0.0.3:5001"} {
		for range maxHandshakes {
			if out, _ := g.begin(&calls{from: from}).(*calls); out == member || out == other {
				t.Fatal("somebody else's was closed")
			}
		}
	}
	for _, c := range g.list[:2] {
		g.end(c.conn)
	}
	if len(g.list) != maxHandshakes-2 {
		t.Errorf("%d are left", len(g.list))
	}
	for range maxHandshakes { // from addresses of one network, as many as one likes
		g.begin(&calls{from: "[2001:db8::2%eth0]:1"})
		g.begin(&calls{from: "[2001:db8::3]:1"})
	}
	if out, _ := g.begin(&calls{from: "of no form"}).(*calls); source(out) != source(other) {
		t.Errorf("%v was closed", out)
	}
}
