package raft_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"arca/internal/storage"
	"arca/internal/storage/raft"
)

// TestFullFollowerLeads has a node elected whose disk is full, and whose state machine waits for room therefore: another leads soon.
func TestFullFollowerLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		c := newCluster(t, 2, raft.Config{})
		f := newMember(t, "full", raft.Config{}.WithFS(diskOf(&full)))
		f.start(false)
		c.members = append(c.members, f)
		c.connect(func(int, int) bool { return true })
		l := c.leader()
		if err := l.store.Add(f.id, f.id); err != nil {
			t.Fatal(err)
		}
		if err := l.store.Promote(f.id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		full.Store(true)
		for i := range 40 { // until the state machine waits
			err := l.db.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(fmt.Sprint("fill", i), make([]byte, 100_000)) })
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		mark, err := l.store.Mark(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		brief, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if f.store.Await(brief, mark) == nil {
			t.Fatal("the full node has all that was written: this shows nothing")
		}
		if err := l.store.StepDown(f.id); err != nil {
			t.Fatal(err)
		}
		wrote := false
		for start := time.Now(); !wrote && time.Since(start) < 30*time.Second; time.Sleep(100 * time.Millisecond) {
			for _, m := range c.members {
				if m.leads.Load() {
					_, err := increment(t.Context(), m.db)
					wrote = wrote || err == nil
				}
			}
		}
		if !wrote {
			t.Error("nobody takes a write after 30 s")
		}
		full.Store(false)
		time.Sleep(5 * time.Second)
		mark, err = c.leader().store.Mark(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := f.store.Await(t.Context(), mark); err != nil {
			t.Errorf("with room again: %v", err)
		}
		c.close()
	})
}

// TestStopFull stops a node whose state machine waits for room on the disk.
func TestStopFull(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	s, err := raft.Open(raft.Config{NodeID: "node1", Memory: true}.WithFS(diskOf(&full)))
	if err != nil {
		t.Fatal(err)
	}
	start(t, s)
	put(t, s, "k", "v")
	full.Store(true)
	brief, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var wrote sync.WaitGroup
	wrote.Go(func() {
		for i := range 40 {
			if s.Apply(brief, storage.Batch{{Kind: storage.Put, Key: fmt.Sprint("fill", i), Value: make([]byte, 100_000)}}) != nil {
				return
			}
		}
	})
	<-brief.Done()
	stopped := make(chan struct{})
	go func() { s.Stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(30 * time.Second):
		t.Error("the node cannot be stopped")
		full.Store(false)
		<-stopped
	}
	wrote.Wait()
	wantValue(t, s, "k", "v")
	full.Store(false)
	if s.Err() == nil {
		t.Error("the store does not say that it is broken: the disk was not full, and this shows nothing")
	}
	_ = s.Close() // it says so, too
}

// TestStopFullSettling stops a node whose snapshot waits for room on the disk, and whose state machine waits for the snapshot.
func TestStopFullSettling(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	often := raft.Config{NodeID: "node1", Memory: true, TrailingLogs: 5, SnapshotThreshold: 5, SnapshotInterval: 20 * time.Millisecond}
	s, err := raft.Open(often.WithFS(diskOf(&full)))
	if err != nil {
		t.Fatal(err)
	}
	start(t, s)
	put(t, s, "k", "v")
	full.Store(true)
	brief, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var wrote sync.WaitGroup
	wrote.Go(func() {
		for i := range 20 {
			_ = s.Apply(brief, storage.Batch{{Kind: storage.Put, Key: fmt.Sprint("fill", i), Value: []byte("x")}}) // as long as there is room
			time.Sleep(20 * time.Millisecond)
		}
	})
	time.Sleep(2 * time.Second)
	began := time.Now()
	stopped := make(chan struct{})
	go func() { s.Stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(30 * time.Second):
		t.Error("the node cannot be stopped")
		full.Store(false)
		<-stopped
	}
	t.Logf("stopped after %v", time.Since(began))
	wrote.Wait()
	full.Store(false)
	if s.Err() == nil {
		t.Error("the store does not say that it is broken: nothing waited for the disk, and this shows nothing")
	}
	_ = s.Close() // it says so, too
}

// diskOf is a disk in memory that takes no write while full, but to the log: that has room in its segment, and none is needed for votes.
func diskOf(full *atomic.Bool) vfs.FS {
	return errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpRemove && !strings.Contains(op.Path, "/wal/") {
			return syscall.ENOSPC
		}
		return nil
	}))
}
