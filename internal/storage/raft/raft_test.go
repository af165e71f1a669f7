package raft_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	hraft "github.com/hashicorp/raft"

	"arca/internal/storage"
	"arca/internal/storage/raft"
	"arca/internal/storage/storagetest"
)

// alone starts a store as a cluster of one, and returns when it leads.
func alone(t testing.TB, cfg raft.Config) *raft.Store {
	t.Helper()
	if cfg.NodeID == "" {
		cfg.NodeID = "node1"
	}
	s, err := raft.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	start(t, s)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func start(t testing.TB, s *raft.Store) {
	t.Helper()
	leads := make(chan struct{}, 8)
	s.Bind(raft.Events{Lead: func() { leads <- struct{}{} }})
	_, transport := hraft.NewInmemTransport(hraft.ServerAddress("127.0.0.1:1"))
	if err := s.Start(raft.StartOptions{Transport: transport, Bootstrap: !s.HasPeers()}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-leads:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody leads")
	}
}

func TestContract(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		storagetest.TestBackend(t, func(t *testing.T) storage.Backend { return alone(t, raft.Config{Memory: true}) })
	})
	t.Run("folder", func(t *testing.T) {
		storagetest.TestBackend(t, func(t *testing.T) storage.Backend { return alone(t, raft.Config{Dir: t.TempDir()}) })
	})
}

func put(t testing.TB, s storage.Backend, key, value string) {
	t.Helper()
	if err := s.Apply(context.Background(), storage.Batch{{Kind: storage.Put, Key: key, Value: []byte(value)}}); err != nil {
		t.Fatal(err)
	}
}

func wantValue(t testing.TB, s storage.Backend, key, want string) {
	t.Helper()
	v, err := s.Get(context.Background(), key)
	if err != nil || string(v) != want {
		t.Errorf("%s: %q, %v; want %q", key, v, err, want)
	}
}

// TestRestart opens a store again: what was written is there, also with a log that was shortened meanwhile.
func TestRestart(t *testing.T) {
	t.Parallel()
	cfg := raft.Config{Dir: t.TempDir(), NodeID: "node1", TrailingLogs: 5, SnapshotThreshold: 10, SnapshotInterval: 10 * time.Millisecond}
	for round := range 3 {
		s, err := raft.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		start(t, s)
		for i := range round * 40 {
			wantValue(t, s, fmt.Sprint("key", i), fmt.Sprint(i))
		}
		for i := round * 40; i < (round+1)*40; i++ {
			put(t, s, fmt.Sprint("key", i), fmt.Sprint(i))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAgain begins a leadership anew: what comes with the context of the one before is not written in it.
func TestAgain(t *testing.T) {
	t.Parallel()
	s, err := raft.Open(raft.Config{Memory: true, NodeID: "node1"})
	if err != nil {
		t.Fatal(err)
	}
	first, over := context.WithCancel(t.Context())
	leads := make(chan struct{}, 8)
	s.Bind(raft.Events{Lead: func() { leads <- struct{}{} }, Follow: over})
	_, transport := hraft.NewInmemTransport(hraft.ServerAddress("127.0.0.1:1"))
	if err := s.Start(raft.StartOptions{Transport: transport, Bootstrap: true}); err != nil {
		t.Fatal(err)
	}
	<-leads
	put(t, s, "a", "1")
	s.Again()
	<-leads
	if err := s.Apply(first, storage.Batch{{Kind: storage.Put, Key: "a", Value: []byte("2")}}); !errors.Is(err, storage.ErrNotApplied) {
		t.Errorf("what was begun before: %v", err)
	}
	wantValue(t, s, "a", "1")
	put(t, s, "a", "3")
	wantValue(t, s, "a", "3")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
