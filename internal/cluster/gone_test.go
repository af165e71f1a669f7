package cluster

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestParted has raft's connections with another node end: who that was is told, once it is so and not while it is there.
func TestParted(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	open := func(id string) *web { return newWeb(t, ring, id) }
	here, there := open("here"), open("there")
	told := make(chan string, 8)
	here.streams[protoRaft].parted = func(_ context.Context, id string) { told <- id }
	c, err := there.streams[protoRaft].Dial(raft.ServerAddress("here"+whomSep+here.listeners[0].Addr().String()), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := here.streams[protoRaft].Accept()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case id := <-told:
		t.Errorf("the connection with %q has ended, it is said", id)
	default:
	}
	_ = c.Close()
	if _, err := mine.Read(make([]byte, 1)); err == nil {
		t.Error("a connection that was closed says something")
	}
	_ = mine.Close()
	if id := <-told; id != "there" {
		t.Errorf("the connection with %q has ended, it is said", id)
	}
}

// TestEnded takes a leader for gone where nobody listens at its address, and nobody else.
func TestEnded(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := New(Config{NodeID: "here"})
	n.part = led{id: "leader", address: l.Addr().String()}
	if n.ended(t.Context(), "leader") {
		t.Error("a leader that listens is taken for gone")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n.ended(t.Context(), "another") {
		t.Error("one that does not lead is taken for the leader")
	}
	given, cancel := context.WithCancel(t.Context())
	cancel()
	if n.ended(given, "leader") {
		t.Error("nobody was asked, and the leader is taken for gone")
	}
	if !n.ended(t.Context(), "leader") {
		t.Error("nobody listens at the leader's address, and it is not taken for gone")
	}
}
