// Package remotetest tests drivers of package remote against their databases.
package remotetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/storage"
	"arca/internal/storage/remote"
)

const patience = 60 * time.Second

// Await waits until ok.
func Await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
		pause := time.NewTimer(5 * time.Millisecond)
		<-pause.C
	}
}

// Lead returns a store that may write, until the test ends.
func Lead(t testing.TB, cfg remote.Config) *remote.Store {
	t.Helper()
	s := remote.New(cfg)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	Await(t, "the right to write", s.Leading)
	return s
}

// A node is a store with its DB, as a server has them.
type node struct {
	*remote.Store
	db *storage.DB
}

func newNode(t testing.TB, cfg remote.Config) *node {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	n := &node{Store: remote.New(cfg)}
	n.db = storage.Open(n.Store, storage.Config{})
	n.db.Follow()
	n.Bind(remote.Events{Follow: n.db.Follow, Lead: n.db.Lead, Applied: n.db.Applied})
	t.Cleanup(func() {
		n.Stop()
		if err := errors.Join(n.db.Close(), n.Close()); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *node) start(t testing.TB) *node {
	t.Helper()
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// counter is the key of a number.
const counter = "n"

// add adds one to the counter and returns what it was.
func (n *node) add(ctx context.Context) (was int, err error) {
	err = n.db.Update(ctx, func(tx storage.Tx) error {
		was = 0
		raw, err := tx.Get(counter)
		if err == nil {
			_, err = fmt.Sscan(string(raw), &was)
		}
		if err != nil && !storage.IsNotFound(err) {
			return err
		}
		return tx.Put(counter, fmt.Append(nil, was+1))
	})
	return was, err
}

// read reads the counter as a server does: when it is known to be fresh, and with the snapshot's own doubts.
func (n *node) read(ctx context.Context) (got int, err error) {
	if err := n.Fresh(ctx); err != nil {
		return 0, err
	}
	err = n.db.View(ctx, func(tx storage.Tx) error {
		raw, err := tx.Get(counter)
		if err != nil {
			return err
		}
		_, err = fmt.Sscan(string(raw), &got)
		return err
	})
	return got, err
}

// TestNodes has several nodes share a database. open makes a database, and what it returns another node's view of it.
func TestNodes(t *testing.T, open func(t *testing.T) func() (remote.Driver, remote.Lock)) {
	config := func(next func() (remote.Driver, remote.Lock), name string) remote.Config {
		d, l := next()
		return remote.Config{
			Driver: d, Lock: l, Name: "test", Node: name, Address: name + ":1", TTL: 2 * time.Second, Poll: 50 * time.Millisecond, Pause: time.Second,
		}
	}
	t.Run("step down", func(t *testing.T) {
		next := open(t)
		// The pause ends early when b has taken over; without that, b has time to.
		first := config(next, "a")
		first.Pause = patience / 6
		a, b := newNode(t, first).start(t), newNode(t, config(next, "b"))
		Await(t, "a leader", a.Leading)
		b.start(t)
		if b.Leading() {
			t.Fatal("two lead")
		}
		Await(t, "word of the leader", func() bool { id, _ := b.Leader(); return id == "a" })
		mustAdd(t, a, 0)
		if _, err := b.add(t.Context()); !errors.Is(err, storage.ErrNotActive) {
			t.Errorf("a standby writes: %v", err)
		}
		if err := a.StepDown(""); err != nil {
			t.Fatal(err)
		}
		Await(t, "the other", b.Leading)
		mustAdd(t, b, 1)
		if _, err := a.add(t.Context()); err == nil {
			t.Error("who stepped down writes")
		}
		b.Stop()
		Await(t, "the first again", a.Leading)
		mustAdd(t, a, 2)
	})
	t.Run("fence", func(t *testing.T) { testFence(t, config, open(t)) })
	t.Run("stood still", func(t *testing.T) { testStoodStill(t, config, open(t)) })
	t.Run("alone", func(t *testing.T) { testAlone(t, open(t)) })
	t.Run("torture", func(t *testing.T) { testTorture(t, config, open(t)) })
}

// TestCutOff has node a lose its lock, and all that could tell it so: while it rests on its lease, b must not write.
func TestCutOff(t *testing.T, a, b remote.Config, cut func()) {
	first, second := newNode(t, a).start(t), newNode(t, b)
	Await(t, "a leader", first.Leading)
	mustAdd(t, first, 0)
	second.start(t)
	Await(t, "word of the leader", func() bool { id, _ := second.Leader(); return id == a.Node })
	cut()
	began := time.Now()
	Await(t, "the other", second.Leading)
	mustAdd(t, second, 1)
	t.Logf("the other has written after %v", time.Since(began))
	for time.Since(began) < a.TTL {
		if got, err := first.read(t.Context()); err == nil && got < 2 {
			t.Fatalf("a read that is old, %v after the lock was lost", time.Since(began))
		}
	}
	if got, err := first.read(t.Context()); err == nil && got < 2 {
		t.Error("a read that is old")
	}
}

func mustAdd(t *testing.T, n *node, want int) {
	t.Helper()
	if was, err := n.add(t.Context()); err != nil || was != want {
		t.Fatalf("the counter was %d, %v; want %d", was, err, want)
	}
}

// testFence takes the fence behind the back of a leader: it commits nothing more, and knows it.
func testFence(t *testing.T, config func(func() (remote.Driver, remote.Lock), string) remote.Config, next func() (remote.Driver, remote.Lock)) {
	a := newNode(t, config(next, "a")).start(t)
	Await(t, "a leader", a.Leading)
	mustAdd(t, a, 0)
	d, l := next()
	defer func() { _ = errors.Join(d.Close(), l.Close()) }()
	id := "of another"
	if h, err := l.Claim(t.Context(), remote.Claim{ID: id, Value: "{}", TTL: 2 * time.Second, Steal: true}); err != nil || h.ID != id {
		t.Fatal(h, err)
	}
	if h, err := d.Claim(t.Context(), remote.Claim{ID: id, Value: "{}", TTL: time.Minute, Steal: true}); err != nil || h.ID != id {
		t.Fatal(h, err)
	}
	if _, err := a.add(t.Context()); err == nil {
		t.Fatal("a writer without the fence commits")
	}
	w := &remote.Write{Puts: []storage.Entry{{Key: "n", Value: []byte("7")}}}
	if err := d.Write(t.Context(), "of nobody", w, nil); !errors.Is(err, remote.ErrFenced) {
		t.Fatalf("a wrong fence: %v", err)
	}
	if err := d.Write(t.Context(), id, w, nil); err != nil {
		t.Fatalf("the right fence: %v", err)
	}
	Await(t, "a leader again, when the lease has run out", a.Leading)
	mustAdd(t, a, 7)
	// It begins anew: what comes with a context that has ended, as that of the time before, is not written.
	a.Again()
	Await(t, "a leader anew", a.Leading)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Apply(over, storage.Batch{{Kind: storage.Put, Key: counter, Value: []byte("0")}}); !errors.Is(err, storage.ErrNotApplied) {
		t.Errorf("what was begun before: %v", err)
	}
	mustAdd(t, a, 8)
}

// A still lock renews nothing while gate is held.
type still struct {
	remote.Lock
	gate *sync.RWMutex
}

// Renew implements remote.Lock.
func (s still) Renew(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	return s.Lock.Renew(context.WithoutCancel(ctx), c) // it knows nothing of the time that has passed
}

// testStoodStill has a leader renew late, when another has led and given all back: it does not go on with what it knew.
func testStoodStill(t *testing.T, config func(func() (remote.Driver, remote.Lock), string) remote.Config, next func() (remote.Driver, remote.Lock)) {
	var gate sync.RWMutex
	first := config(next, "a")
	first.Lock = still{first.Lock, &gate}
	a := newNode(t, first)
	var terms atomic.Int64
	a.Bind(remote.Events{Follow: a.db.Follow, Lead: func() { terms.Add(1); a.db.Lead() }, Applied: a.db.Applied})
	a.start(t)
	Await(t, "a leader", a.Leading)
	mustAdd(t, a, 0)
	if n, err := a.read(t.Context()); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	began := terms.Load()
	gate.Lock()
	b := newNode(t, config(next, "b")).start(t)
	Await(t, "the other, when the lease has run out", b.Leading)
	mustAdd(t, b, 1)
	b.Stop()
	gate.Unlock()
	var got int
	Await(t, "the first again", func() (ok bool) {
		n, err := a.read(t.Context())
		got = n
		return err == nil
	})
	if got != 2 || terms.Load() == began {
		t.Errorf("it reads %d, in its term %d; the other's last was 2", got, terms.Load())
	}
	mustAdd(t, a, 2)
}

// TestRenewal renews, of the lock and of the fence, what another has had meanwhile: that takes nothing. open returns nodes' views of
// one database that is empty.
func TestRenewal(t *testing.T, open func() (remote.Driver, remote.Lock)) {
	a, b := [2]remote.Lock{}, [2]remote.Lock{}
	for _, n := range []*[2]remote.Lock{&a, &b} {
		d, l := open()
		n[0], n[1] = l, d
		t.Cleanup(func() { _ = errors.Join(d.Close(), l.Close()) }) // of which nothing is asked any more
	}
	for i, what := range []string{"lock", "fence"} {
		t.Run(what, func(t *testing.T) {
			testRenewal(t, what, a[i], b[i], i == 1)
		})
	}
}

// TestLateRenewal renews, of a lock or a fence whose entry outlives its lease, a lease that has run out: it succeeds, as nobody has claimed since.
func TestLateRenewal(t *testing.T, l remote.Lock) {
	t.Cleanup(func() { _ = l.Close() }) // of which nothing is asked any more
	c := remote.Claim{ID: "l1", Value: "{}", TTL: 50 * time.Millisecond}
	if h, err := l.Claim(t.Context(), c); err != nil || h.ID != c.ID {
		t.Fatal(h, err)
	}
	Await(t, "the end of the lease", func() bool {
		h, err := l.Holder(t.Context())
		return err == nil && h.Left <= 0
	})
	c.TTL = time.Minute
	if h, err := l.Renew(t.Context(), c); err != nil || h.ID != c.ID {
		t.Errorf("a lease that has run out: %+v, %v", h, err)
	}
	if h, err := l.Holder(t.Context()); err != nil || h.ID != c.ID || h.Left < c.TTL/2 {
		t.Errorf("after its renewal: %+v, %v", h, err)
	}
}

// TestRenewalInWrite renews the fence while a write holds it.
func TestRenewalInWrite(t *testing.T, d remote.Driver) {
	t.Cleanup(func() { _ = d.Close() }) // of which nothing is asked any more
	c := remote.Claim{ID: "w1", Value: "{}", TTL: time.Minute, Steal: true}
	if h, err := d.Claim(t.Context(), c); err != nil || h.ID != c.ID {
		t.Fatal(h, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	put := &remote.Write{Puts: []storage.Entry{{Key: "k", Value: []byte("v")}}}
	err := d.Write(t.Context(), c.ID, put, func(storage.Before) {
		if h, err := d.Renew(ctx, c); err != nil || h.ID != c.ID {
			t.Errorf("what is ours, while we write: %+v, %v", h, err)
		}
		if h, err := d.Renew(ctx, remote.Claim{ID: "w0", TTL: time.Minute}); err == nil && h.ID != c.ID { // it may wait for the write
			t.Errorf("what is not ours, while another writes: %+v", h)
		}
	})
	if err != nil {
		t.Errorf("the write: %v", err)
	}
	if h, err := d.Renew(t.Context(), c); err != nil || h.ID != c.ID {
		t.Errorf("after it: %+v, %v", h, err)
	}
}

func testRenewal(t *testing.T, what string, a, b remote.Lock, fence bool) {
	t.Helper()
	const ttl = 4 * time.Second
	claim := func(l remote.Lock, id string) bool {
		t.Helper()
		h, err := l.Claim(t.Context(), remote.Claim{ID: id, Value: "{}", TTL: ttl, Steal: fence})
		if err != nil {
			t.Fatal(err)
		}
		return h.ID == id
	}
	renew := func(when string, l remote.Lock, id string, want bool) {
		t.Helper()
		h, err := l.Renew(t.Context(), remote.Claim{ID: id, Value: "{}", TTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
		if got := h.ID == id; got != want {
			t.Errorf("%s, %s: renewed is %t, by %q", what, when, got, h.ID)
		}
	}
	holder := func(want string) {
		t.Helper()
		if h, err := a.Holder(t.Context()); err != nil || h.ID != want {
			t.Errorf("%s: %+v, %v; want %q", what, h, err, want)
		}
	}
	release := func(l remote.Lock, id string) {
		t.Helper()
		if err := l.Release(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	renew("nothing was claimed", a, "a0", false)
	holder("")
	if !claim(a, "a1") {
		t.Fatalf("%s: it is not free", what)
	}
	renew("it is ours", a, "a1", true)
	renew("a claim of nobody", a, "a0", false)
	renew("a claim of nobody", b, "b0", false)
	holder("a1")
	Await(t, "the other", func() bool { return claim(b, "b1") })
	renew("it is another's", a, "a1", false)
	renew("it is still the other's", a, "a1", false)
	renew("the other's", b, "b1", true)
	holder("b1")
	release(b, "b1")
	renew("another gave it back", a, "a1", false)
	renew("the other gave it back", b, "b1", false)
	holder("")
	if !claim(a, "a2") {
		t.Fatalf("%s: it is not free after it was given back", what)
	}
	renew("an old one of ours", a, "a1", false)
	renew("the new one", a, "a2", true)
	release(a, "a1") // is not there any more
	renew("the new one", a, "a2", true)
	release(a, "a2")
	renew("given back", a, "a2", false)
	holder("")
}

// testAlone starts a second server on a store that is not shared: it takes over, and the first neither writes nor answers.
func testAlone(t *testing.T, next func() (remote.Driver, remote.Lock)) {
	node := func(name string) *node {
		d, l := next()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return newNode(t, remote.Config{Driver: d, Name: "test", Node: name})
	}
	a := node("a").start(t)
	if !a.Leading() {
		t.Fatal("a node alone does not lead at once")
	}
	mustAdd(t, a, 0)
	b := node("b").start(t)
	mustAdd(t, b, 1)
	if _, err := a.add(t.Context()); err == nil {
		t.Fatal("the first still writes")
	}
	Await(t, "the first to give up", func() bool { return a.Fresh(t.Context()) != nil })
	t.Log(a.Fresh(t.Context()))
	mustAdd(t, b, 2)
	for until := time.Now().Add(time.Second); time.Now().Before(until); time.Sleep(50 * time.Millisecond) { // it asks again and again
		if a.Leading() {
			t.Fatal("the first took it back")
		}
	}
	mustAdd(t, b, 3)
}

// testTorture has three nodes come and go while all are written to and read: the counter never falls back, and counts what was
// acknowledged.
func testTorture(t *testing.T, config func(func() (remote.Driver, remote.Lock), string) remote.Config, next func() (remote.Driver, remote.Lock)) {
	var nodes []*node
	for _, name := range []string{"a", "b", "c"} {
		nodes = append(nodes, newNode(t, config(next, name)).start(t))
	}
	ctx, stop := context.WithCancel(t.Context())
	var acked, unknown, newest atomic.Int64
	var all sync.WaitGroup
	for i := range 6 {
		n := nodes[i%3]
		all.Go(func() {
			for ctx.Err() == nil {
				floor := newest.Load()
				if was, err := n.add(t.Context()); err == nil {
					acked.Add(1)
					raise(&newest, int64(was+1))
				} else if errors.Is(err, storage.ErrUncertain) {
					unknown.Add(1)
				}
				if got, err := n.read(t.Context()); err == nil && int64(got) < floor {
					t.Errorf("read %d after %d was acknowledged", got, floor)
				}
				pause := time.NewTimer(time.Millisecond)
				<-pause.C
			}
		})
	}
	for range 6 {
		before := acked.Load()
		Await(t, "writes", func() bool { return acked.Load() > before+30 })
		for _, n := range nodes {
			if n.Leading() {
				_ = n.StepDown("") // it may have lost the lead by itself
			}
		}
	}
	stop()
	all.Wait()
	var last int
	Await(t, "the counter", func() bool {
		for _, n := range nodes {
			if got, err := n.read(t.Context()); err == nil {
				last = got
				return true
			}
		}
		return false
	})
	if int64(last) < acked.Load() || int64(last) > acked.Load()+unknown.Load() {
		t.Errorf("the counter says %d; %d were acknowledged, %d are not known", last, acked.Load(), unknown.Load())
	}
	t.Logf("%d acknowledged, %d not known", acked.Load(), unknown.Load())
}

func raise(v *atomic.Int64, to int64) {
	for old := v.Load(); old < to && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}

// An Outage is what a test does to the database.
type Outage struct{ Stop, Start, Pause, Continue func() }

// TestLost takes the database away under load: errors are clear, nothing acknowledged is lost, and the node goes on by itself
// when the database is back.
func TestLost(t *testing.T, cfg remote.Config, o Outage) {
	cfg.Name = "test"
	n := newNode(t, cfg).start(t)
	ctx, stop := context.WithCancel(t.Context())
	var acked, unknown atomic.Int64
	var mu sync.Mutex
	var said error
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				limited, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				_, err := n.add(limited)
				cancel()
				switch {
				case err == nil:
					acked.Add(1)
				case errors.Is(err, storage.ErrUncertain):
					unknown.Add(1)
				default:
					mu.Lock()
					said = err
					mu.Unlock()
				}
			}
		})
	}
	working := func() {
		before := acked.Load()
		Await(t, "writes", func() bool { return acked.Load() > before+20 })
	}
	working()
	o.Stop()
	Await(t, "an error", func() bool { mu.Lock(); defer mu.Unlock(); return said != nil })
	o.Start()
	working()
	o.Pause()
	pause := time.NewTimer(3 * time.Second)
	<-pause.C
	o.Continue()
	working()
	stop()
	all.Wait()
	got, err := n.read(t.Context())
	if err != nil || int64(got) < acked.Load() || int64(got) > acked.Load()+unknown.Load() {
		t.Errorf("the counter says %d, %v; %d were acknowledged, %d are not known", got, err, acked.Load(), unknown.Load())
	}
	t.Logf("%d acknowledged, %d not known; it said: %v", acked.Load(), unknown.Load(), said)
}
