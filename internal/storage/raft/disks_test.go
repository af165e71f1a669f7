package raft_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	hraft "github.com/hashicorp/raft"

	"arca/internal/storage"
	"arca/internal/storage/raft"
)

// What befalls a disk.
const (
	well      = iota
	syncsFail // nothing is durable any more
	allFails  // nothing is written any more
)

// A ward is a member of a cluster and its disk.
type ward struct {
	*member
	disk  *vfs.MemFS
	ails  atomic.Int32
	slow  atomic.Int64 // how long its log's disk takes for a sync
	ended atomic.Bool  // it has ended its process
	line  *line        // of newLined

	using chan struct{} // holds one value while its store is used or changed; no mutex, since virtual time does not go on beside one
}

// lockless is a MemFS whose Lock cannot come into a deadlock with CrashClone: MemFS takes a read lock twice there.
type lockless struct{ *vfs.MemFS }

// Lock implements vfs.FS.
func (lockless) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// An unpiped transport sends one thing after the other: the pipeline of raft's transport in memory ends the process where a node has no answer.
type unpiped struct{ delaying }

// AppendEntriesPipeline implements raft.Transport.
func (unpiped) AppendEntriesPipeline(hraft.ServerID, hraft.ServerAddress) (hraft.AppendPipeline, error) {
	return nil, hraft.ErrPipelineReplicationNotSupported
}

// start opens the member's store, and has it take part.
func (w *ward) start(bootstrap bool) {
	w.open()
	_, w.transport = hraft.NewInmemTransport(hraft.ServerAddress(w.id))
	if err := w.store.Start(raft.StartOptions{Transport: unpiped{delaying{newLagging(w.member)}}, Bootstrap: bootstrap}); err != nil {
		w.t.Fatal(err)
	}
}

// mount has the member use its disk.
func (w *ward) mount(cfg raft.Config) {
	ails, slow := &w.ails, &w.slow
	cfg.NodeID, cfg.Memory = w.id, true
	cfg.Exit = func() { w.ended.Store(true); runtime.Goexit() }
	w.cfg = cfg.WithFS(errorfs.Wrap(lockless{w.disk}, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !strings.Contains(op.Path, "/wal") { // the state's: Pebble's goroutines that meet such an error end only with the process
			return nil
		}
		syncs := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
		writes := op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileWriteAt || op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpRename
		if syncs && !strings.HasSuffix(op.Path, "/votes") { // beside which others wait for a mutex, and virtual time does not go on
			time.Sleep(time.Duration(slow.Load()))
		}
		if ill := ails.Load(); syncs && ill != well || writes && ill == allFails {
			return syscall.EIO
		}
		return nil
	})))
}

// again starts the member anew, on what is on its disk or, after a power cut, on what was durable and some of the rest.
func (w *ward) again(cfg raft.Config, cut *rand.Rand) {
	w.using <- struct{}{}
	defer func() { <-w.using }()
	if cut != nil {
		w.ails.Store(allFails) // what is written from here on is lost, so nobody may be told that it is there
		w.disk = w.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: cut.IntN(101), RNG: cut})
	}
	w.underway.Wait()
	w.store.Stop()
	_ = w.db.Close()    // its disk may be ill
	_ = w.store.Close() // likewise
	w.leads.Store(false)
	w.ended.Store(false)
	w.ails.Store(well)
	w.mount(cfg)
	w.start(false)
}

// TestDisks has the disks of logs fail, and processes and machines end, all at once too, while clients write: what was acknowledged is there when all is well again, once.
// ARCA_CLUSTER_SEEDS sets how many times, ARCA_CLUSTER_SEED repeats one.
func TestDisks(t *testing.T) {
	seeds(t, 2, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) { ail(t, seed) })
	})
}

func ail(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	cfg := raft.Config{TrailingLogs: 20, SnapshotThreshold: 50, SnapshotInterval: time.Second}
	c, wards := newWards(t, 3, cfg)
	defer c.close()
	all := func(int, int) bool { return true }
	ctx, cancel := context.WithCancel(t.Context())
	var acked, tried atomic.Int64
	var work sync.WaitGroup
	for _, w := range wards {
		work.Go(func() {
			for ctx.Err() == nil {
				w.using <- struct{}{}
				once, stop := context.WithTimeout(ctx, time.Second)
				tried.Add(1)
				n, err := increment(once, w.db)
				stop()
				<-w.using
				pause := 25 * time.Millisecond
				if err != nil {
					pause = 50 * time.Millisecond
					if !errors.Is(err, storage.ErrUncertain) {
						tried.Add(-1)
					}
				}
				for old := acked.Load(); err == nil && old < int64(n) && !acked.CompareAndSwap(old, int64(n)); old = acked.Load() {
				}
				time.Sleep(pause)
			}
		})
	}
	done := map[string]int{}
	// mend starts those anew that say that they are to be.
	mend := func() {
		for _, w := range wards {
			if w.ended.Load() || w.store.Err() != nil {
				done["started anew"]++
				w.again(cfg, nil)
			}
		}
		c.connect(all)
	}
	for range 10 {
		time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
		w := wards[rnd.IntN(3)]
		switch rnd.IntN(5) {
		case 0:
			w.ails.Store(syncsFail)
			done["syncs fail"]++
		case 1:
			w.ails.Store(allFails)
			done["all fails"]++
		case 2:
			w.again(cfg, nil)
			done["stop and start"]++
		case 3:
			w.again(cfg, rnd)
			done["power cut"]++
		case 4:
			for _, w := range wards {
				w.again(cfg, rnd)
			}
			done["power cut of all"]++
		}
		c.connect(all)
		time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
		for _, w := range wards {
			w.ails.Store(well)
		}
		mend()
	}
	// A state whose disk failed takes nothing more, and it shows when the next entry comes.
	for range 20 {
		time.Sleep(500 * time.Millisecond)
		mend()
	}
	cancel()
	work.Wait()
	c.check(int(acked.Load()), int(tried.Load()))
	t.Logf("%d acknowledged, %v", acked.Load(), done)
	if acked.Load() < 20 {
		t.Errorf("only %d writes succeeded", acked.Load())
	}
}

// TestFolderIsDurable cuts the power after the first entry, in a folder that was made with the one above it, or by somebody a moment before: with nothing that was not
// synced, the entry is there.
func TestFolderIsDurable(t *testing.T) {
	for name, disk := range map[string]func() *vfs.MemFS{
		"made": vfs.NewCrashableMem,
		"there before": func() *vfs.MemFS {
			fs := vfs.NewCrashableMem()
			if err := fs.MkdirAll("arca", 0o700); err != nil {
				t.Fatal(err)
			}
			return fs
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { folderIsDurable(t, disk()) })
		})
	}
}

func folderIsDurable(t *testing.T, disk *vfs.MemFS) {
	w := &ward{member: &member{t: t, id: "node1"}, disk: disk, using: make(chan struct{}, 1)}
	w.mount(raft.Config{})
	w.start(true)
	c := &cluster{t: t, members: []*member{w.member}}
	n, err := increment(t.Context(), c.leader().db)
	if err != nil {
		t.Fatal(err)
	}
	left := w.disk.CrashClone(vfs.CrashCloneCfg{})
	w.close()
	w.disk = left
	w.mount(raft.Config{})
	w.start(false)
	defer w.close()
	if !w.store.HasPeers() {
		t.Fatal("after a power cut the node belongs to no cluster")
	}
	if got, err := counter(t.Context(), c.leader().db); err != nil || got != n {
		t.Errorf("the counter is %d, %v, want %d", got, err, n)
	}
}

// newWards is a cluster of that many, on disks that can fail.
func newWards(t *testing.T, n int, cfg raft.Config) (c *cluster, wards []*ward) {
	t.Helper()
	c = &cluster{t: t}
	for i := range n {
		w := &ward{member: &member{t: t, id: fmt.Sprint("node", i+1)}, disk: vfs.NewCrashableMem(), using: make(chan struct{}, 1)}
		w.mount(cfg)
		w.start(i == 0)
		wards, c.members = append(wards, w), append(c.members, w.member)
	}
	c.connect(func(int, int) bool { return true })
	for _, m := range c.members[1:] {
		l := c.leader()
		if err := errors.Join(l.store.Add(m.id, m.id), l.store.Promote(m.id)); err != nil {
			t.Fatal(err)
		}
	}
	return c, wards
}

// TestHandOverToIll has a leader be told, twice, to hand over to a node whose disk takes nothing: it leads on, and takes writes. When the disk is well the node takes over.
func TestHandOverToIll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, wards := newWards(t, 3, raft.Config{})
		defer c.close()
		l := c.leader()
		ill := wards[1]
		write := func() {
			t.Helper()
			for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
				ctx, stop := context.WithTimeout(t.Context(), time.Second)
				_, err := increment(ctx, l.db)
				stop()
				if err == nil {
					return
				}
				if time.Since(began) > 5*time.Second {
					t.Fatal(err)
				}
			}
		}
		write()
		time.Sleep(time.Second)
		ill.ails.Store(syncsFail)
		write()
		for range 3 {
			if err := l.store.StepDown(ill.id); err == nil {
				t.Fatal("it handed over to a node that lacks an entry")
			}
			write()
		}
		if got := c.leader(); got != l {
			t.Fatalf("%s leads", got.id)
		}
		ill.ails.Store(well)
		time.Sleep(30 * time.Second) // raft's pauses between attempts have grown
		if err := l.store.StepDown(ill.id); err != nil {
			t.Fatal(err)
		}
		if got := c.leader(); got != ill.member {
			t.Errorf("%s leads, and not the node that was to take over", got.id)
		}
		// Where nobody is named it is not one that is behind, although it answers and another was cut off until a moment ago.
		l, ill = ill.member, wards[0]
		write()
		time.Sleep(time.Second)
		ill.ails.Store(syncsFail)
		write()
		c.connect(func(from, to int) bool { return from != 2 && to != 2 })
		time.Sleep(time.Second)
		_ = l.store.StepDown("") // nobody can take over
		c.connect(func(int, int) bool { return true })
		time.Sleep(time.Second)
		if err := l.store.StepDown(""); err != nil {
			t.Error(err)
		}
		if got := c.leader(); got != c.members[2] {
			t.Errorf("%s leads", got.id)
		}
	})
}

// TestHandOverToOneOfIll has a leader be told, again and again, to hand over to one of two nodes whose disks take nothing. As soon as one of them is well the cluster takes writes.
func TestHandOverToOneOfIll(t *testing.T) {
	for first := range 2 {
		synctest.Test(t, func(t *testing.T) {
			c, wards := newWards(t, 3, raft.Config{})
			defer c.close()
			l := c.leader()
			write := func() error {
				ctx, stop := context.WithTimeout(t.Context(), time.Second)
				defer stop()
				_, err := increment(ctx, l.db)
				return err
			}
			if err := write(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			for _, w := range wards[1:] {
				w.ails.Store(syncsFail)
			}
			if err := write(); err == nil {
				t.Fatal("written, although nobody else takes it")
			}
			for range 4 {
				if err := l.store.StepDown(""); err == nil {
					t.Fatal("it handed over to a node that lacks an entry")
				}
				time.Sleep(100 * time.Millisecond)
			}
			wards[1+first].ails.Store(well)
			for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
				l = c.leader()
				err := write()
				if err == nil {
					break
				}
				if time.Since(began) > time.Minute {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestStateStalls has a leader's state wait for a disk that neither takes its tables nor fails, while that of its log is well: another leads, and what was written is there in the end.
func TestStateStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t}
		var stalls atomic.Int64
		for i := range 3 {
			m := newMember(t, fmt.Sprint("node", i+1), raft.Config{}.WithFS(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if i == 0 && op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".sst") {
					time.Sleep(time.Duration(stalls.Load()))
				}
				return nil
			}))))
			m.start(i == 0)
			c.members = append(c.members, m)
		}
		defer c.close()
		c.gather()
		l := c.leader()
		if l != c.members[0] {
			t.Fatal("another leads: this shows nothing")
		}
		stalls.Store(int64(5 * time.Minute))
		write := func(m *member, n int) error {
			return m.db.Update(context.Background(), func(tx storage.Tx) error { return tx.Put(fmt.Sprint("fill", n), make([]byte, 400_000)) })
		}
		var wrote atomic.Int64
		l.underway.Go(func() {
			for n := range 150 {
				if write(l, n) != nil {
					return
				}
				wrote.Store(int64(n + 1))
			}
		})
		time.Sleep(5 * time.Second)
		if n := wrote.Load(); n == 150 {
			t.Fatal("nothing stalls: this shows nothing")
		}
		for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
			if time.Since(began) > time.Minute {
				t.Fatal("nobody can write for a minute")
			}
			if next := slices.IndexFunc(c.members[1:], func(m *member) bool { return m.leads.Load() }); next >= 0 {
				if _, err := increment(t.Context(), c.members[1+next].db); err == nil {
					break
				}
			}
		}
		stalls.Store(0)
		time.Sleep(6 * time.Minute)
		c.check(1, 1)
	})
}
