package raft_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	hraft "github.com/hashicorp/raft"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/raft"
)

// A wire is a member's transport that keeps the snapshots which it sends to node3, and loses an answer to what follows them.
type wire struct {
	lagging

	mu   sync.Mutex
	sent []sentSnapshot
	lose bool // the next answer to entries that are sent after a snapshot
}

type sentSnapshot struct {
	args hraft.InstallSnapshotRequest
	data []byte
}

// InstallSnapshot implements raft.Transport.
func (w *wire) InstallSnapshot(
	id hraft.ServerID, to hraft.ServerAddress, args *hraft.InstallSnapshotRequest, resp *hraft.InstallSnapshotResponse, data io.Reader,
) error {
	all, err := io.ReadAll(data)
	if err != nil {
		return err
	}
	if id == "node3" {
		w.mu.Lock()
		w.sent = append(w.sent, sentSnapshot{*args, all})
		w.mu.Unlock()
	}
	return w.lagging.InstallSnapshot(id, to, args, resp, bytes.NewReader(all))
}

// AppendEntries implements raft.Transport.
func (w *wire) AppendEntries(id hraft.ServerID, to hraft.ServerAddress, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) error {
	err := w.lagging.AppendEntries(id, to, args, resp)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && id == "node3" && len(args.Entries) > 0 && len(w.sent) > 0 && w.lose {
		w.lose = false
		return errors.New("the answer is lost")
	}
	return err
}

func (w *wire) snapshots() []sentSnapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent
}

// wired makes a cluster whose first node leads and sends by a wire, and a third member that is cut off until what it lacks is gone from the log.
func wired(t *testing.T) (c *cluster, w *wire) {
	cfg := raft.Config{TrailingLogs: 5, SnapshotThreshold: 10, SnapshotInterval: 10 * time.Millisecond}
	c = &cluster{t: t}
	for i, id := range []string{"node1", "node2", "node3"} {
		m := newMember(t, id, cfg)
		_, m.transport = hraft.NewInmemTransport(hraft.ServerAddress(id))
		l := newLagging(m)
		var by raft.Transport = l
		if i == 0 {
			w = &wire{lagging: l}
			by = w
		}
		if err := m.store.Start(raft.StartOptions{Transport: by, Bootstrap: i == 0}); err != nil {
			t.Fatal(err)
		}
		c.members = append(c.members, m)
	}
	c.gather()
	c.connect(func(a, b int) bool { return a != 2 && b != 2 })
	c.write(100)
	return c, w
}

// gather has the first node lead, and all others be members with votes.
func (c *cluster) gather() {
	c.connect(func(int, int) bool { return true })
	l := c.leader()
	for _, m := range c.members[1:] {
		if err := errors.Join(l.store.Add(m.id, m.id), l.store.Promote(m.id)); err != nil {
			c.t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
}

// write has the first node, which leads, write so often.
func (c *cluster) write(n int) {
	c.t.Helper()
	for range n {
		ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
		_, err := increment(ctx, c.members[0].db)
		cancel()
		if err != nil {
			c.t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestLateSnapshot has a snapshot come once more, long after it was sent: what was written since stays where it is.
func TestLateSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := wired(t)
		defer c.close()
		c.connect(func(int, int) bool { return true })
		time.Sleep(5 * time.Second)
		sent := w.snapshots()
		if len(sent) == 0 {
			t.Fatal("no snapshot was sent: this shows nothing")
		}
		late := sent[len(sent)-1]
		c.write(20)
		before := c.members[2].store.Applied()
		if before <= late.args.LastLogIndex {
			t.Fatal("nothing came after the snapshot: this shows nothing")
		}
		err := c.members[0].transport.InstallSnapshot("node3", "node3", &late.args, &hraft.InstallSnapshotResponse{}, bytes.NewReader(late.data))
		t.Log("it was answered:", err)
		if now := c.members[2].store.Applied(); now < before {
			t.Errorf("the state went back from entry %d to %d", before, now)
		}
		c.write(20)
		c.check(140, 140)
	})
}

// TestLateSnapshotBeforeState has a snapshot come late to a node whose log has all of it, and more that it has acknowledged, but whose state machine is slow: the log stays.
func TestLateSnapshotBeforeState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, raft.Config{})
		defer c.close()
		slow := newMember(t, "slow", raft.Config{})
		var pause atomic.Int64
		slow.store.Bind(raft.Events{
			Follow: func() { slow.leads.Store(false); slow.db.Follow() },
			Lead:   func() { slow.db.Lead(); slow.leads.Store(true) },
			Applied: func(ch storage.Change) error {
				time.Sleep(time.Duration(pause.Load()))
				return slow.db.Applied(ch)
			},
		})
		slow.start(false)
		c.members = append(c.members, slow)
		c.gather()
		c.write(5)
		time.Sleep(5 * time.Second)
		pause.Store(int64(10 * time.Second))
		c.write(10)
		leader := c.members[0]
		meta, data, err := leader.store.Present()
		if err != nil {
			t.Fatal(err)
		}
		c.write(10)
		end, term := leader.store.Last()
		for last := uint64(0); last < end; time.Sleep(time.Millisecond) {
			last, _ = slow.store.Last()
		}
		if n, err := counter(t.Context(), slow.db); err != nil || n >= 15 {
			t.Fatalf("the state has %d, %v: this shows nothing", n, err)
		}
		var answer hraft.InstallSnapshotResponse
		err = leader.transport.InstallSnapshot("slow", "slow", &hraft.InstallSnapshotRequest{
			RPCHeader:       hraft.RPCHeader{ProtocolVersion: hraft.ProtocolVersionMax, ID: []byte(leader.id), Addr: []byte(leader.id)},
			SnapshotVersion: meta.Version, Term: term, LastLogIndex: meta.Index, LastLogTerm: meta.Term, Size: meta.Size,
			Configuration: hraft.EncodeConfiguration(meta.Configuration), ConfigurationIndex: meta.ConfigurationIndex,
		}, &answer, bytes.NewReader(data))
		t.Log("it was answered:", answer, err)
		c.connect(func(a, b int) bool { return a != 2 && b != 2 }) // nobody mends it
		pause.Store(0)
		time.Sleep(30 * time.Second)
		if last, its := slow.store.Last(); last < end || its != term {
			t.Errorf("the log ends with entry %d of term %d, and %d of term %d was acknowledged", last, its, end, term)
		}
		c.connect(func(int, int) bool { return true })
		c.write(20)
		c.check(45, 45)
	})
}

// TestBorrowedSnapshot has a snapshot come that is of a later term than its sender: the node does not take it.
func TestBorrowedSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := wired(t)
		defer c.close()
		c.connect(func(int, int) bool { return true })
		time.Sleep(5 * time.Second)
		sent := w.snapshots()
		if len(sent) == 0 {
			t.Fatal("no snapshot was sent: this shows nothing")
		}
		borrowed := sent[len(sent)-1]
		borrowed.args.LastLogIndex, borrowed.args.LastLogTerm = borrowed.args.LastLogIndex+1000, borrowed.args.Term+1
		before := c.members[2].store.Applied()
		var answer hraft.InstallSnapshotResponse
		if err := c.members[0].transport.InstallSnapshot("node3", "node3", &borrowed.args, &answer, bytes.NewReader(borrowed.data)); err != nil || answer.Success {
			t.Errorf("it was taken, or %v", err)
		}
		if now := c.members[2].store.Applied(); now != before {
			t.Errorf("the state went from entry %d to %d", before, now)
		}
		c.write(20)
		c.check(120, 120)
	})
}

// TestAnswerLostAfterSnapshot has the answer be lost to the first entries that follow a snapshot, while a third node is away: they are sent again, and taken.
func TestAnswerLostAfterSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := wired(t)
		defer c.close()
		w.mu.Lock()
		w.lose = true
		before := len(w.sent)
		w.mu.Unlock()
		c.connect(func(a, b int) bool { return a != 1 && b != 1 })
		c.write(20)
		time.Sleep(5 * time.Second)
		w.mu.Lock()
		lost := !w.lose
		w.mu.Unlock()
		if !lost {
			t.Fatal("no answer was lost: this shows nothing")
		}
		c.connect(func(int, int) bool { return true })
		c.check(120, 120)
		if n := len(w.snapshots()) - before; n > 2 {
			t.Errorf("the state was sent %d times", n)
		}
	})
}

// TestGapBehindState has a log lack what follows the state: the node says so, and the process goes on.
func TestGapBehindState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMember(t, "one", raft.Config{})
		defer m.close()
		m.start(true)
		for !m.leads.Load() {
			time.Sleep(time.Millisecond)
		}
		for range 5 {
			if _, err := increment(t.Context(), m.db); err != nil {
				t.Fatal(err)
			}
		}
		m.store.Stop()
		at := m.store.Applied()
		if err := m.store.Forget(at, at+3); err != nil {
			t.Fatal(err)
		}
		_, transport := hraft.NewInmemTransport("one")
		if err := m.store.Start(raft.StartOptions{Transport: transport}); !errs.Is(err, errs.Failed) {
			t.Errorf("it started: %v", err)
		}
	})
}

// A slowFS takes its time to read a snapshot that was uploaded.
type slowFS struct {
	vfs.FS
	reads time.Duration
}

// Open implements vfs.FS.
func (s slowFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.Open(name, opts...)
	if err == nil && strings.Contains(name, "upload") {
		return slowFile{f, s.reads}, nil
	}
	return f, err
}

type slowFile struct {
	vfs.File
	reads time.Duration
}

// Read implements io.Reader.
func (f slowFile) Read(p []byte) (int, error) {
	time.Sleep(f.reads)
	return f.File.Read(p)
}

// TestShortenedDuringRestore has raft be about to shorten the log while a snapshot is restored: it goes on from the restored state.
func TestShortenedDuringRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t}
		defer c.close()
		for i := range 3 {
			m := newMember(t, fmt.Sprint("node", i), raft.Config{}.WithFS(slowFS{vfs.NewMem(), time.Second}))
			m.start(i == 0)
			c.members = append(c.members, m)
		}
		c.gather()
		l := c.members[0]
		c.write(20)
		var file bytes.Buffer
		if err := l.store.WriteArchive(&file, func(b []byte) ([]byte, error) { return b, nil }); err != nil {
			t.Fatal(err)
		}
		archive, err := l.store.ReadArchive(&file)
		if err != nil {
			t.Fatal(err)
		}
		c.write(5)
		var shortened hraft.SnapshotFuture
		var both sync.WaitGroup
		both.Go(func() {
			time.Sleep(time.Second / 2)
			shortened = l.store.Raft().Snapshot()
			t.Log("shorten the log:", shortened.Error())
		})
		if err := l.store.Restore(archive); err != nil {
			t.Error(err)
		}
		both.Wait()
		if err := archive.Close(); err != nil {
			t.Error(err)
		}
		c.leader()
		c.write(5)
		c.check(25, 25)
	})
}
