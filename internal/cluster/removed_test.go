package cluster

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"arca/internal/barrier"
	"arca/internal/storage"
	"arca/internal/storage/raft"
)

// A led part is that of a node which hears of a leader all the time.
type led struct {
	member
	id, address string
}

func (l led) Leading() bool            { return false }
func (l led) Leader() (id, to string)  { return l.id, l.address }
func (led) Last() (index, term uint64) { return 1, 1 }

// listening makes a node that listens at an address of this machine, and takes no part in anything yet.
func listening(t *testing.T, ring *barrier.Keyring, id string) (*Node, *running) {
	t.Helper()
	store, err := raft.Open(raft.Config{NodeID: id, Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPass(ring, id)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{pass: p}
	if r.web, err = openWeb(p, "", []string{"127.0.0.1:0"}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	r.web.address = r.web.listeners[0].Addr().String()
	n := New(Config{Store: store, NodeID: id, Address: r.web.address})
	r.ctx, r.cancel = context.WithCancel(context.Background())
	n.running.Store(r)
	t.Cleanup(func() {
		r.cancel()
		r.web.close()
		r.work.Wait()
		store.Stop()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return n, r
}

// A server that shares nothing is asked, too: while it is sealed it looks like a standby for a moment.
func TestNobodyIsRemoved(t *testing.T) {
	t.Parallel()
	if (*Node)(nil).Removed() {
		t.Error("a server without a cluster was removed from it")
	}
}

// TestRemovedIsTold removes a node that its leader goes on to send heartbeats to, as it does for a while to one that was away when it was removed.
func TestRemovedIsTold(t *testing.T) {
	t.Parallel()
	ring, err := barrier.NewKeyring(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	first, r := listening(t, ring, "first")
	first.cfg.Store.Bind(raft.Events{
		Follow: func() {}, Lead: func() {}, Applied: func(storage.Change) error { return nil },
	})
	if err := first.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.work.Go(func() {
		for {
			c, err := r.web.streams[protoAsk].Accept()
			if err != nil {
				return
			}
			r.work.Go(func() { first.serve(r.ctx, c) })
		}
	})
	second, r2 := listening(t, ring, "second")
	second.part = led{id: "first", address: first.cfg.Address}
	r2.work.Go(func() { second.echo(r2) })
	await := func(want bool) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(30 * time.Second); second.Removed() != want; <-tick.C {
			if time.Now().After(end) {
				t.Fatalf("waited in vain for removed to be %t", want)
			}
		}
	}
	await(true)
	if err := first.cfg.Store.Add("second", second.cfg.Address); err != nil {
		t.Fatal(err)
	}
	await(false)
	if err := first.cfg.Store.Remove("second"); err != nil {
		t.Fatal(err)
	}
	await(true)
}

// TestRemovedGetsNoVote removes a node while autopilot, and an echo from another address, are about to act on what they saw before.
func TestRemovedGetsNoVote(t *testing.T) {
	t.Parallel()
	store, err := raft.Open(raft.Config{NodeID: "first", Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		store.Stop()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	n := New(Config{Store: store, NodeID: "first", Address: "first"})
	store.Bind(raft.Events{Follow: func() {}, Lead: func() {}, Applied: func(storage.Change) error { return nil }})
	if err := n.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := store.Add("gone", "gone"); err != nil {
		t.Fatal(err)
	}
	if err := store.Remove("gone"); err != nil {
		t.Fatal(err)
	}
	for name, late := range map[string]func() error{
		"a vote":          func() error { return handler{store.Raft(), store}.AddVoter("gone", "gone", 0, 0).Error() },
		"another address": func() error { return store.Move("gone", "elsewhere") },
	} {
		if err := late(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if peers := store.Peers(); len(peers) != 1 {
			t.Errorf("%s that comes late makes the cluster %v", name, peers)
		}
	}
}

// TestBootstrapTells has who is told that a node leads take its time: the node is not said to lead before, as what is written then would be refused.
func TestBootstrapTells(t *testing.T) {
	t.Parallel()
	n, _ := listening(t, newRing(t), "alone")
	told := make(chan struct{})
	n.Bind(Events{Follow: func() {}, Applied: func(storage.Change) error { return nil }, Lead: func() {
		<-time.After(50 * time.Millisecond)
		close(told)
	}})
	if err := n.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-told:
	default:
		t.Error("who is told does not know yet")
	}
}
