package cluster

import (
	"crypto/tls"
	"log/slog"
	"net"
	"testing"
	"time"

	"arca/internal/storage"
	"arca/internal/storage/raft"
)

// TestStopBesideOneThatHangs has the leader be stopped while a member takes connections and says nothing, or greets and says nothing more, as a process that stands still: it does
// not wait for that one.
func TestStopBesideOneThatHangs(t *testing.T) {
	for name, greets := range map[string]bool{"silent": false, "greets": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stopBesideOneThatHangs(t, greets)
		})
	}
}

func stopBesideOneThatHangs(t *testing.T, greets bool) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }() // nothing was said
	ring := newRing(t)
	p, err := newPass(ring, "here")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	w, err := openWeb(p, "here", nil, log)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	store, err := raft.Open(raft.Config{NodeID: "here", Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	leads := make(chan struct{})
	store.Bind(raft.Events{Follow: func() {}, Lead: func() { close(leads) }, Applied: func(storage.Change) error { return nil }})
	if err := store.Start(raft.StartOptions{Transport: newCarrier(w, log), Bootstrap: true}); err != nil {
		t.Fatal(err)
	}
	<-leads
	if err := store.Add("there", silent.Addr().String()); err != nil {
		t.Fatal(err)
	}
	c, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }() // likewise
	if greets {
		its, err := newPass(ring, "there")
		if err != nil {
			t.Fatal(err)
		}
		if err := tls.Server(c, its.server()).HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it stops after %v", took)
	}
}
