package raft_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	hraft "github.com/hashicorp/raft"

	"arca/internal/storage"
	"arca/internal/storage/clock"
	"arca/internal/storage/raft"
)

// A member is one node of a cluster in memory: a store with a DB over it.
type member struct {
	t         *testing.T
	id        string
	cfg       raft.Config
	store     *raft.Store
	db        *storage.DB
	transport *hraft.InmemTransport
	leads     atomic.Bool
	lag       atomic.Int64 // for how long others' answers are under way
	busy      atomic.Bool  // others answer its heartbeats only
	late      atomic.Bool  // some of what it sends comes late: see delaying
	untold    sync.Map     // how those fail, by their ids, that it tells to take over: refuses or hangs
	delays    sync.Mutex   // held while a message is made late
	underway  sync.WaitGroup
	beat      atomic.Pointer[func(hraft.RPC)] // takes heartbeats

	using chan struct{} // holds one value while TestRestores uses it, or restarts it
}

// A lagging transport has answers come late. As one over a network does, it has heartbeats taken beside all else.
type lagging struct {
	*hraft.InmemTransport
	m     *member
	calls chan hraft.RPC
	quit  chan struct{}
	once  *sync.Once
}

func newLagging(m *member) lagging {
	l := lagging{m.transport, m, make(chan hraft.RPC, 64), make(chan struct{}), new(sync.Once)}
	go l.run()
	return l
}

// SetHeartbeatHandler implements raft.Transport.
func (l lagging) SetHeartbeatHandler(handle func(hraft.RPC)) { l.m.beat.Store(&handle) }

// Consumer implements raft.Transport.
func (l lagging) Consumer() <-chan hraft.RPC { return l.calls }

// Close implements raft.WithClose.
func (l lagging) Close() error {
	l.once.Do(func() { close(l.quit) })
	return l.InmemTransport.Close()
}

func (l lagging) run() {
	for {
		select {
		case call := <-l.InmemTransport.Consumer():
			req, is := call.Command.(*hraft.AppendEntriesRequest)
			is = is && req.PrevLogEntry == 0 && req.PrevLogTerm == 0 && len(req.Entries) == 0 && req.LeaderCommitIndex == 0
			if handle := l.m.beat.Load(); is && handle != nil && *handle != nil {
				go (*handle)(call)
				continue
			}
			if _, is := call.Command.(*hraft.AppendEntriesRequest); is {
				call = l.answered(call)
			}
			select {
			case l.calls <- call:
			case <-l.quit:
				return
			}
		case <-l.quit:
			return
		}
	}
}

// answered has there be an answer where a node has none, as it ends: without one the pipeline of raft's transport in memory ends the process.
func (l lagging) answered(call hraft.RPC) hraft.RPC {
	to, answer := call.RespChan, make(chan hraft.RPCResponse, 1)
	call.RespChan = answer
	go func() {
		a := hraft.RPCResponse{Error: hraft.ErrTransportShutdown}
		select {
		case a = <-answer:
		case <-l.quit:
		}
		if a.Response == nil {
			a.Response = &hraft.AppendEntriesResponse{}
		}
		to <- a
	}()
	return call
}

// AppendEntries implements raft.Transport.
func (l lagging) AppendEntries(id hraft.ServerID, to hraft.ServerAddress, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) error {
	if l.m.busy.Load() && (args.PrevLogEntry > 0 || len(args.Entries) > 0 || args.LeaderCommitIndex > 0) {
		return errors.New("it does something else")
	}
	err := l.InmemTransport.AppendEntries(id, to, args, resp)
	time.Sleep(time.Duration(l.m.lag.Load()))
	return err
}

func newMember(t *testing.T, id string, cfg raft.Config) *member {
	cfg.NodeID, cfg.Memory = id, true
	m := &member{t: t, id: id, cfg: cfg, using: make(chan struct{}, 1)}
	m.open()
	return m
}

func (m *member) open() {
	var err error
	if m.store, err = raft.Open(m.cfg); err != nil {
		m.t.Fatal(err)
	}
	m.db = storage.Open(m.store, storage.Config{})
	m.db.Follow()
	m.store.Bind(raft.Events{
		Follow: func() { m.leads.Store(false); m.db.Follow() },
		Lead:   func() { m.db.Lead(); m.leads.Store(true) },
		Applied: func(ch storage.Change) error {
			if err := m.db.Applied(ch); !errors.Is(err, storage.ErrClosed) {
				return err
			}
			return nil
		},
	})
}

// restart ends a member, and starts it again, as newCluster has made it: with what is on its disk.
func (m *member) restart() {
	m.close()
	m.leads.Store(false)
	m.open()
	m.start(false)
}

func (m *member) start(bootstrap bool) {
	_, m.transport = hraft.NewInmemTransport(hraft.ServerAddress(m.id))
	if err := m.store.Start(raft.StartOptions{Transport: delaying{newLagging(m)}, Bootstrap: bootstrap}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *member) close() {
	m.underway.Wait()
	m.store.Stop()
	if err := m.db.Close(); err != nil {
		m.t.Error(err)
	}
	if err := m.store.Close(); err != nil {
		m.t.Error(err)
	}
}

// A cluster is members that can be cut off from each other.
type cluster struct {
	t       *testing.T
	members []*member
}

func newCluster(t *testing.T, n int, cfg raft.Config) *cluster {
	c := &cluster{t: t}
	for i := range n {
		m := newMember(t, fmt.Sprint("node", i+1), cfg.WithFS(vfs.NewMem()))
		m.start(i == 0)
		c.members = append(c.members, m)
	}
	c.connect(func(int, int) bool { return true })
	for !c.members[0].leads.Load() {
		time.Sleep(time.Millisecond)
	}
	for _, m := range c.members[1:] {
		if err := c.members[0].store.Add(m.id, m.id); err != nil {
			t.Fatal(err)
		}
		if err := c.members[0].store.Promote(m.id); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// connect lets those members talk to each other for which reach says so.
func (c *cluster) connect(reach func(from, to int) bool) {
	for i, from := range c.members {
		for j, to := range c.members {
			if i == j {
				continue
			}
			if reach(i, j) {
				from.transport.Connect(hraft.ServerAddress(to.id), to.transport)
			} else {
				from.transport.Disconnect(hraft.ServerAddress(to.id))
			}
		}
	}
}

func (c *cluster) leader() *member {
	for {
		for _, m := range c.members {
			if m.leads.Load() && m.store.Fresh(c.t.Context()) == nil {
				return m
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (c *cluster) close() {
	for _, m := range c.members {
		m.close()
	}
}

// increment adds one to a counter and keeps a key for each value it had, so that a lost or doubled commit is seen.
func increment(ctx context.Context, db *storage.DB) (n int, err error) {
	err = db.Update(ctx, func(tx storage.Tx) error {
		v, err := tx.Get("counter")
		if err != nil && !storage.IsNotFound(err) {
			return err
		}
		n, _ = strconv.Atoi(string(v))
		n++
		if err := tx.Put(fmt.Sprintf("at/%08d", n), []byte("x")); err != nil {
			return err
		}
		return tx.Put("counter", []byte(strconv.Itoa(n)))
	})
	return n, err
}

func counter(ctx context.Context, db *storage.DB) (n int, err error) {
	err = db.View(ctx, func(tx storage.Tx) error {
		v, err := tx.Get("counter")
		if storage.IsNotFound(err) {
			return nil
		}
		if err == nil {
			n, err = strconv.Atoi(string(v))
		}
		return err
	})
	return n, err
}

// A leader that steps down has one take over that answers, whoever else is a voter.
func TestStepDownToOneThatAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{})
		defer c.close()
		for i := range 6 {
			l := c.leader()
			out := slices.IndexFunc(c.members, func(m *member) bool { return m != l })
			if i%2 == 1 {
				out = slices.IndexFunc(c.members, func(m *member) bool { return m != l && m != c.members[out] })
			}
			if _, err := increment(t.Context(), l.db); err != nil {
				t.Fatal(err)
			}
			c.connect(func(from, to int) bool { return from != out && to != out })
			l.untold.Store(c.members[out].id, hangs)
			time.Sleep(2 * time.Second)
			start := time.Now()
			if err := l.store.StepDown(""); err != nil {
				t.Fatal(err)
			}
			if next := c.leader(); next == l || time.Since(start) > 500*time.Millisecond {
				t.Errorf("%s leads after %v; %s stepped down, and %s is cut off", next.id, time.Since(start), l.id, c.members[out].id)
			}
			c.connect(func(int, int) bool { return true })
			l.untold.Clear()
			time.Sleep(5 * time.Second)
		}
	})
}

// A snapshot that is restored is at the followers as soon as it is sent, not when raft next looks.
func TestRestoreIsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{})
		defer c.close()
		for i := range 3 {
			l := c.leader()
			want, err := increment(t.Context(), l.db)
			if err != nil {
				t.Fatal(err)
			}
			var file bytes.Buffer
			if err := l.store.WriteArchive(&file, func(b []byte) ([]byte, error) { return b, nil }); err != nil {
				t.Fatal(err)
			}
			if _, err := increment(t.Context(), l.db); err != nil {
				t.Fatal(err)
			}
			archive, err := l.store.ReadArchive(&file)
			if err != nil {
				t.Fatal(err)
			}
			if i == 2 { // most are enough
				out := slices.IndexFunc(c.members, func(m *member) bool { return m != l })
				c.connect(func(from, to int) bool { return from != out && to != out })
			}
			start := time.Now()
			if err := l.store.Restore(archive); err != nil {
				t.Fatal(err)
			}
			if err := archive.Close(); err != nil {
				t.Error(err)
			}
			l = c.leader()
			if took := time.Since(start); took > time.Second {
				t.Errorf("restored and led again after %v", took)
			}
			if n, err := counter(t.Context(), l.db); err != nil || n != want {
				t.Errorf("the counter is %d (%v), want %d", n, err, want)
			}
			c.connect(func(int, int) bool { return true })
			time.Sleep(5 * time.Second)
		}
	})
}

// TestCluster cuts nodes off, has messages come late, hands leadership over, and lets clients write and read through all nodes meanwhile: no write
// that was acknowledged is lost, none is done twice, and no read, at whichever node, misses one that was acknowledged
// before it began. ARCA_CLUSTER_SEEDS sets how many times, ARCA_CLUSTER_SEED repeats one.
func TestCluster(t *testing.T) {
	seeds(t, 2, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) { torment(t, seed) })
	})
}

// seeds runs something random so many times, or as often as ARCA_CLUSTER_SEEDS says; once, with that seed, where there is ARCA_CLUSTER_SEED.
func seeds(t *testing.T, n int, run func(t *testing.T, seed uint64)) {
	t.Helper()
	first := rand.Uint64()
	if s := os.Getenv("ARCA_CLUSTER_SEEDS"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	if s := os.Getenv("ARCA_CLUSTER_SEED"); s != "" {
		n = 1
		first, _ = strconv.ParseUint(s, 10, 64)
	}
	for i := range n {
		t.Run(fmt.Sprint(first+uint64(i)), func(t *testing.T) {
			run(t, first+uint64(i))
		})
	}
}

func torment(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	c := newCluster(t, 3, raft.Config{TrailingLogs: 20, SnapshotThreshold: 50, SnapshotInterval: time.Second})
	defer c.close()
	ctx, cancel := context.WithCancel(t.Context())
	var acked, tried, reads atomic.Int64 // acked is the highest that was acknowledged, or shown by any node
	grow := func(n int64) {
		for old := acked.Load(); old < n && !acked.CompareAndSwap(old, n); old = acked.Load() {
		}
	}
	var work sync.WaitGroup
	for _, m := range c.members {
		m.late.Store(rnd.IntN(2) == 0)
		for range 2 {
			work.Go(func() {
				for ctx.Err() == nil {
					once, stop := context.WithTimeout(ctx, 5*time.Second)
					tried.Add(1)
					n, err := increment(once, m.db)
					stop()
					if err == nil {
						grow(int64(n))
						time.Sleep(3 * time.Millisecond)
						continue
					}
					if !errors.Is(err, storage.ErrUncertain) {
						tried.Add(-1)
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		work.Go(func() {
			for ctx.Err() == nil {
				before := acked.Load()
				if n, err := c.read(ctx, m); err == nil {
					reads.Add(1)
					if int64(n) < before {
						t.Errorf("%s reads %d after %d was acknowledged or read", m.id, n, before)
					}
					grow(int64(n))
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	for range 12 {
		time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
		switch rnd.IntN(8) {
		case 6: // whoever leads is taken for gone
			for _, m := range c.members {
				if id, _ := m.store.Leader(); rnd.IntN(4) > 0 {
					m.underway.Go(func() { m.store.Gone(id, func() bool { return true }) })
				}
			}
		case 5:
			m := c.members[rnd.IntN(3)]
			m.late.Store(!m.late.Load())
			c.members[rnd.IntN(3)].lag.Store(int64(rnd.IntN(450)) * int64(time.Millisecond))
		case 0:
			c.connect(func(int, int) bool { return true })
		case 1: // one is cut off
			out := rnd.IntN(3)
			c.connect(func(i, j int) bool { return i != out && j != out })
		case 2: // one hears nothing, or is not heard
			from, to := rnd.IntN(3), rnd.IntN(3)
			c.connect(func(i, j int) bool { return i != from || j != to })
		case 3:
			for _, m := range c.members {
				if m.leads.Load() {
					_ = m.store.StepDown("") // nobody may be there to take over
				}
			}
		case 4:
			c.connect(func(int, int) bool { return false })
		case 7: // who leads is cut off, and has entries then that nobody else gets
			for out, m := range c.members {
				if m.leads.Load() {
					c.connect(func(i, j int) bool { return i != out && j != out })
					for range rnd.IntN(2000) {
						m.store.Raft().Barrier(0)
					}
				}
			}
		}
	}
	c.connect(func(int, int) bool { return true })
	for _, m := range c.members {
		m.lag.Store(0)
		m.punctual() // a late message may have an election held
	}
	// Who was cut off in the middle of an election may be of a later term, which ends that of the leader once more.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		tried.Add(1)
		_, err := increment(ctx, c.leader().db)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("write after all is well: %v", err)
			break
		}
	}
	cancel()
	work.Wait()
	c.check(int(acked.Load()), int(tried.Load()))
	t.Logf("%d acknowledged, %d reads", acked.Load(), reads.Load())
	if acked.Load() < 20 || reads.Load() < 20 {
		t.Errorf("only %d writes and %d reads succeeded", acked.Load(), reads.Load())
	}
}

// read reads linearizably at any node.
func (c *cluster) read(ctx context.Context, m *member) (int, error) {
	ctx, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	if m.leads.Load() {
		if err := m.store.Fresh(ctx); err != nil {
			return 0, err
		}
		return counter(ctx, m.db)
	}
	id, _ := m.store.Leader()
	for _, l := range c.members {
		if l.id != id {
			continue
		}
		mark, err := l.store.Mark(ctx)
		if err != nil {
			return 0, err
		}
		if err := m.store.Await(ctx, mark); err != nil {
			return 0, err
		}
		return counter(ctx, m.db)
	}
	return 0, raft.ErrNoLeader
}

// check waits until all nodes are alike, and compares them with what was acknowledged.
func (c *cluster) check(acked, tried int) {
	c.t.Helper()
	ctx := context.Background()
	l := c.leader()
	mark, err := l.store.Mark(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range c.members {
		if m != l {
			if err := m.store.Await(ctx, mark); err != nil {
				c.t.Fatal(err)
			}
		}
		n, err := counter(ctx, m.db)
		if err != nil || n < acked || n > tried {
			c.t.Errorf("%s: the counter is %d, %v; %d were acknowledged and %d tried", m.id, n, err, acked, tried)
		}
		err = m.db.View(ctx, func(tx storage.Tx) error {
			list, err := tx.List("at/", "", 0)
			if err != nil || len(list) != n {
				c.t.Errorf("%s: %d values of a counter that is %d, %v", m.id, len(list), n, err)
			}
			return nil
		})
		if err != nil {
			c.t.Error(err)
		}
	}
}

// TestSnapshotToFollower adds a node when the log's beginning is gone: it gets the state, and goes on from there.
func TestSnapshotToFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := raft.Config{TrailingLogs: 1, SnapshotThreshold: 10, SnapshotInterval: 10 * time.Millisecond}
		c := newCluster(t, 1, cfg)
		ctx := t.Context()
		for range 100 {
			if _, err := increment(ctx, c.members[0].db); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		m := newMember(t, "late", cfg)
		m.start(false)
		var before int
		if err := m.db.View(ctx, func(storage.Tx) error { // an old reader keeps its state
			c.members = append(c.members, m)
			c.connect(func(int, int) bool { return true })
			if err := c.members[0].store.Add(m.id, m.id); err != nil {
				t.Fatal(err)
			}
			for m.store.Committed() < c.members[0].store.Committed() {
				time.Sleep(time.Millisecond)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		before, _ = counter(ctx, c.members[0].db)
		if _, err := increment(ctx, c.members[0].db); err != nil {
			t.Fatal(err)
		}
		c.check(before+1, before+1)
		c.close()
	})
}

// TestSuspended has a leader's machine suspended for so long that another leads meanwhile: it answers no read from what it
// had, although its own clock says that its lease lasts.
func TestSuspended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var slept atomic.Int64
		base := time.Now()
		c := newCluster(t, 3, raft.Config{Memory: true, Clock: clock.Of(func() (ran, ahead time.Duration) {
			return time.Since(base), time.Duration(slept.Load())
		})})
		defer c.close()
		l := c.leader()
		if err := l.store.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.connect(func(from, to int) bool { return c.members[from] != l && c.members[to] != l })
		if err := l.store.Fresh(t.Context()); err != nil {
			t.Fatal("the lease does not last: this shows nothing")
		}
		slept.Store(int64(time.Minute))
		brief, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if l.store.Fresh(brief) == nil {
			t.Error("it answers as if no other could lead")
		}
		c.connect(func(int, int) bool { return true })
		c.leader()
	})
}

// freshSoon reports whether a member takes its state for the newest, within a time that is shorter than a lease.
func (m *member) freshSoon() bool {
	brief, cancel := context.WithTimeout(m.t.Context(), 100*time.Millisecond)
	defer cancel()
	return m.store.Fresh(brief) == nil
}

// TestHeartbeatsAreNoPromise has followers answer a leader's heartbeats only, as they do while they vote for another: it
// answers no read for that.
func TestHeartbeatsAreNoPromise(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{Memory: true})
		defer c.close()
		l := c.leader()
		l.busy.Store(true)
		time.Sleep(500 * time.Millisecond) // longer than a lease
		if l.freshSoon() {
			t.Error("a leader counted on heartbeats")
		}
		l.busy.Store(false)
		if !l.freshSoon() {
			t.Error("it is still not certain to lead")
		}
	})
}

// TestFailedHandOver has a leader hand over to one that does not answer: it leads on, but reads only what others have
// confirmed since, as who was told to take over is voted for by those that hear a leader, too.
func TestFailedHandOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{Memory: true})
		defer c.close()
		l := c.leader()
		to := slices.IndexFunc(c.members, func(m *member) bool { return m != l })
		c.connect(func(a, b int) bool { return a != to && b != to })
		if err := l.store.StepDown(c.members[to].id); err == nil {
			t.Fatal("it handed over to one that does not answer")
		}
		if l = c.leader(); !l.freshSoon() {
			t.Fatal("it does not lead on")
		}
		c.connect(func(a, b int) bool { return a == b })
		time.Sleep(time.Millisecond)
		if l.freshSoon() {
			t.Error("it answers a read that nobody else has confirmed")
		}
		c.connect(func(int, int) bool { return true })
		c.leader()
	})
}
