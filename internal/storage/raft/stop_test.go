package raft_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	hraft "github.com/hashicorp/raft"

	"arca/internal/storage"
	"arca/internal/storage/raft"
)

// TestStopDuringRestore has the active node be stopped while a snapshot is restored on it: the process does not end by a panic of raft's library, and the node has the
// state of before or that of the snapshot when it is started again.
func TestStopDuringRestore(t *testing.T) {
	const slow = time.Second // to read what was uploaded, a piece at a time, and to go over to the state
	for after := slow / 4; after < 5*slow; after += slow / 4 {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := raft.Config{}.WithFS(slowFS{vfs.NewMem(), slow})
				m := newMember(t, "node1", cfg)
				restoring := false
				m.store.Bind(raft.Events{
					Follow: func() { m.leads.Store(false); m.db.Follow() },
					Lead:   func() { m.db.Lead(); m.leads.Store(true) },
					Applied: func(ch storage.Change) error {
						if restoring {
							time.Sleep(slow)
						}
						return m.db.Applied(ch)
					},
				})
				m.start(true)
				c := &cluster{t: t, members: []*member{m}}
				defer func() { c.close() }()
				c.leader()
				c.write(20)
				var file bytes.Buffer
				if err := m.store.WriteArchive(&file, func(b []byte) ([]byte, error) { return b, nil }); err != nil {
					t.Fatal(err)
				}
				c.write(5)
				archive, err := m.store.ReadArchive(&file)
				if err != nil {
					t.Fatal(err)
				}
				restoring = true
				restored := make(chan error, 1)
				go func() { restored <- m.store.Restore(archive) }()
				time.Sleep(after)
				began := time.Now()
				m.store.Stop()
				if took := time.Since(began); took > 2*slow {
					t.Errorf("it stops after %v", took)
				}
				err = <-restored
				t.Log("restored:", err)
				if err := archive.Close(); err != nil {
					t.Error(err)
				}
				m.restart()
				n, errOf := counter(t.Context(), c.leader().db)
				if errOf != nil || n != 20 && (n != 25 || err == nil) {
					t.Errorf("restored: %v, and the node has %d, %v", err, n, errOf)
				}
				c.write(5)
				c.check(n+5, n+5)
			})
		})
	}
}

// TestStopUnderWrites has a node be stopped while it writes, again and again: a stop ends also where an entry is committed in that moment.
func TestStopUnderWrites(t *testing.T) {
	m := newMember(t, "node1", raft.Config{}.WithFS(vfs.NewMem()))
	for i := range 1000 {
		m.leads.Store(false)
		m.start(i == 0)
		for !m.leads.Load() {
			time.Sleep(100 * time.Microsecond)
		}
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			for {
				if _, err := increment(t.Context(), m.db); err != nil {
					return
				}
			}
		}()
		time.Sleep(500*time.Microsecond + time.Duration(i)*time.Microsecond)
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			m.store.Stop()
		}()
		select {
		case <-stopped:
			<-wrote
		case <-time.After(20 * time.Second):
			t.Fatalf("the stop after %d others does not end", i)
		}
	}
	m.close()
}

// TestStopWithoutMost has a node be stopped that has just been elected, and can commit nothing: it waits for nothing that is not to come.
func TestStopWithoutMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{})
		defer c.close()
		old := c.leader()
		_, term := old.store.Elected()
		time.Sleep(5 * time.Second) // all have all
		for _, m := range c.members {
			m.busy.Store(true)
		}
		old.underway.Go(func() { _ = old.store.StepDown("") })
		var next *member
		for ; next == nil; time.Sleep(time.Millisecond) {
			for _, m := range c.members {
				if leads, its := m.store.Elected(); leads && its > term {
					next = m
				}
			}
		}
		began := time.Now()
		next.store.Stop()
		if took := time.Since(began); next.leads.Load() || took > 50*time.Millisecond {
			t.Errorf("it stops after %v", took)
		}
	})
}

// TestStopDuringChange has a node be stopped that was asked to change the members while its state machine was busy: raft's library forgets that where it ends first, so a stop waits for the
// machine.
func TestStopDuringChange(t *testing.T) {
	for range 8 {
		synctest.Test(t, func(t *testing.T) {
			m := newMember(t, "node1", raft.Config{}.WithFS(vfs.NewMem()))
			m.start(true)
			defer m.close()
			c := &cluster{t: t, members: []*member{m}}
			c.leader()
			m.underway.Go(func() {
				_ = m.store.ApplyShow(t.Context(), storage.Batch{{Kind: storage.Put, Key: "x"}}, func() error { time.Sleep(time.Second); return nil })
			})
			time.Sleep(100 * time.Millisecond)
			m.underway.Go(func() { _ = m.store.Add("node2", "node2") })
			time.Sleep(100 * time.Millisecond)
			m.store.Stop()
		})
	}
}

// TestStopDuringStepDown has a node be stopped that was told to hand over while it wrote its log: raft's library says nothing to that any more, and who has told it so hears all the same
// that the node has ended.
func TestStopDuringStepDown(t *testing.T) {
	const slow = 500 * time.Millisecond
	var pause atomic.Int64
	c := &cluster{t: t}
	defer func() { c.close() }()
	for i, id := range []string{"node1", "node2", "node3"} {
		m := newMember(t, id, raft.Config{}.WithFS(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if i == 0 && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) && strings.Contains(op.Path, "/wal/") {
				time.Sleep(time.Duration(pause.Load()))
			}
			return nil
		}))))
		m.start(i == 0)
		c.members = append(c.members, m)
	}
	c.gather()
	l := c.leader()
	pause.Store(int64(slow))
	l.underway.Go(func() {
		ctx, cancel := context.WithTimeout(t.Context(), slow/10)
		defer cancel()
		_, _ = increment(ctx, l.db)
	})
	time.Sleep(slow / 5) // it gave up, and raft is not through
	told := make(chan struct{})
	go func() {
		defer close(told)
		_ = l.store.StepDown("")
	}()
	time.Sleep(slow / 5)
	l.store.Stop()
	select {
	case <-told:
	case <-time.After(20 * time.Second):
		t.Error("it is not told that the node has ended")
	}
}

// A trickle gives a byte of a snapshot after the other, for minutes.
type trickle struct{ given *atomic.Int64 }

// Read implements io.Reader.
func (r trickle) Read(b []byte) (int, error) {
	<-time.After(10 * time.Millisecond) // of the bubble that the test runs in
	if r.given.Add(1) > 10_000 {
		return 0, io.ErrUnexpectedEOF
	}
	b[0] = 0
	return 1, nil
}

// TestStopDuringReceive has a follower be stopped while it is sent a large snapshot: it does not wait for the rest of it.
func TestStopDuringReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, raft.Config{})
		defer c.close()
		c.write(5)
		leader, m := c.members[0], c.members[1]
		meta, _, err := leader.store.Present()
		if err != nil {
			t.Fatal(err)
		}
		_, term := leader.store.Last()
		req := &hraft.InstallSnapshotRequest{
			RPCHeader:       hraft.RPCHeader{ProtocolVersion: hraft.ProtocolVersionMax, ID: []byte(leader.id), Addr: []byte(leader.id)},
			SnapshotVersion: meta.Version, Term: term, LastLogIndex: meta.Index + 1000, LastLogTerm: meta.Term, Size: 1 << 30,
			Configuration: hraft.EncodeConfiguration(meta.Configuration), ConfigurationIndex: meta.ConfigurationIndex,
		}
		var given atomic.Int64
		var sends sync.WaitGroup
		sends.Go(func() {
			_ = leader.transport.InstallSnapshot(hraft.ServerID(m.id), hraft.ServerAddress(m.id), req, new(hraft.InstallSnapshotResponse), trickle{&given}) // it is not taken
		})
		time.Sleep(time.Second)
		if given.Load() == 0 {
			t.Fatal("nothing is received: this shows nothing")
		}
		began := time.Now()
		m.store.Stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it stops after %v", took)
		}
		sends.Wait()
	})
}
