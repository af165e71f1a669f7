package remote_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/storage"
	"arca/internal/storage/clock"
	"arca/internal/storage/remote"
)

// A place is what nodes share: who has the lock, and when it has been asked for.
type place struct {
	mu      sync.Mutex
	holder  remote.Holder
	claimed map[string]time.Time // when each node last asked for the lock
	renewal error                // of the fence
	fence   string               // the id of who has it
	fencing func()               // called once when the fence is taken
}

// lock is one node's view of it, which gives back slowly.
type lock struct {
	*place
	node string
	slow time.Duration
	fail error // of giving back
}

func (l *lock) Claim(_ context.Context, c remote.Claim) (remote.Holder, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claimed[l.node] = time.Now()
	if l.holder.ID == "" || c.After != "" && l.holder.ID == c.After {
		l.holder = remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}
	}
	return l.holder, nil
}

func (l *lock) Renew(context.Context, remote.Claim) (remote.Holder, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holder, nil
}

func (l *lock) Release(ctx context.Context, id string) error {
	pause := time.NewTimer(l.slow)
	<-pause.C
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if l.fail == nil && l.holder.ID == id {
		l.holder = remote.Holder{}
	}
	return l.fail
}

func (l *lock) Holder(context.Context) (remote.Holder, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holder, nil
}

func (*lock) Close() error { return nil }

// driver is a database that is empty and takes no time, but to give the fence back.
type driver struct {
	*place
	slow  time.Duration
	write error // of every write; nil is remote.ErrLost
}

func (d *driver) Claim(_ context.Context, c remote.Claim) (remote.Holder, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if fn := d.fencing; fn != nil {
		d.fencing = nil
		fn()
	}
	d.fence = c.ID
	return remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}, nil
}

func (d *driver) Renew(context.Context, remote.Claim) (remote.Holder, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.renewal
	d.renewal = nil
	return remote.Holder{ID: d.fence}, err
}

func (d *driver) Release(context.Context, string) error {
	pause := time.NewTimer(d.slow)
	<-pause.C
	return nil
}

func (*driver) Holder(context.Context) (remote.Holder, error)              { return remote.Holder{}, nil }
func (*driver) Close() error                                               { return nil }
func (*driver) Get(context.Context, string) ([]byte, error)                { return nil, storage.ErrNotFound }
func (*driver) Page(context.Context, remote.Page) ([]storage.Entry, error) { return nil, nil }
func (d *driver) Write(context.Context, string, *remote.Write, func(storage.Before)) error {
	return cmp.Or(d.write, remote.ErrLost)
}

func newStore(t *testing.T, p *place, name string, slow time.Duration, fail error) *remote.Store {
	t.Helper()
	s := remote.New(remote.Config{
		Driver: &driver{place: p, slow: slow}, Lock: &lock{p, name, slow, fail}, Name: "test", Node: name, Address: name + ":1", Pause: 2 * time.Second, Poll: 500 * time.Millisecond,
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestStepDown gives back slowly: however long it takes, the node that stepped down leaves the lock to others for its pause
// from then on, does not take its own last claim for another's, and asks again afterwards.
func TestStepDown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		slow  time.Duration
		fail  error
		other bool
		again time.Duration // after the step-down has ended, at most half a second more
	}{
		{"at once", 0, nil, false, 2 * time.Second},
		{"slowly", 2400 * time.Millisecond, nil, false, 2 * time.Second}, // longer than the pause
		{"not at all", 0, errors.New("no answer"), false, 8 * time.Second},
		{"another waits", 2400 * time.Millisecond, nil, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &place{claimed: map[string]time.Time{}}
				a := newStore(t, p, "a", c.slow, c.fail)
				defer a.Stop()
				if !a.Leading() {
					t.Fatal("nobody leads")
				}
				pause := time.NewTimer(time.Second)
				<-pause.C
				var b *remote.Store
				if c.other {
					b = newStore(t, p, "b", 0, nil)
					defer b.Stop()
				}
				if err := a.StepDown(""); err != nil {
					t.Fatal(err)
				}
				end := time.Now()
				if id, _ := a.Leader(); id == "a" || a.Leading() {
					t.Error("it counts itself the leader")
				}
				if c.other {
					pause.Reset(1100 * time.Millisecond) // b asks, and a looks
					<-pause.C
					if !b.Leading() || a.Leading() {
						t.Fatal("the other does not lead")
					}
					b.Stop()
					pause.Reset(time.Second) // a knew of b
					<-pause.C
					if !a.Leading() {
						t.Error("the first does not lead again")
					}
					return
				}
				for !a.Leading() {
					pause.Reset(10 * time.Millisecond)
					<-pause.C
					if time.Since(end) > time.Minute {
						t.Fatal("it never asks again")
					}
				}
				p.mu.Lock()
				at := p.claimed["a"].Sub(end)
				p.mu.Unlock()
				if at < c.again || at > c.again+500*time.Millisecond {
					t.Errorf("it has the lock again %s after it stepped down", at)
				}
			})
		})
	}
}

// TestLost loses the connection in a write, and in a renewal of the fence: nothing is written, and the node begins anew.
func TestLost(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := &place{claimed: map[string]time.Time{}}
			cfg := remote.Config{Driver: &driver{place: p}, Name: "test"}
			if shared {
				cfg.Lock = &lock{place: p, node: "a"}
			}
			s := remote.New(cfg)
			leads := 0
			s.Bind(remote.Events{Lead: func() { leads++ }})
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer s.Stop()
			err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "a", Value: []byte("1")}})
			if !errors.Is(err, storage.ErrNotApplied) {
				t.Errorf("a lost write: %v", err)
			}
			synctest.Wait()
			pause := time.NewTimer(time.Second)
			<-pause.C
			synctest.Wait()
			if leads != 2 || !s.Leading() {
				t.Errorf("shared %t: it began %d times", shared, leads)
			}
			p.mu.Lock()
			p.renewal = remote.ErrLost
			p.mu.Unlock()
			pause.Reset(15 * time.Second)
			<-pause.C
			synctest.Wait()
			if leads != 3 || !s.Leading() {
				t.Errorf("shared %t: it began %d times", shared, leads)
			}
		})
	}
}

// TestFenceGone has another take the fence while the lock stays with a node: at its next renewal the term is over, and it begins
// anew; one that is alone does not take the fence back.
// A losing driver loses its connection with as many claims.
type losing struct {
	driver
	lose int
	ids  []string
}

func (d *losing) Claim(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	if d.ids = append(d.ids, c.ID); len(d.ids) <= d.lose {
		return remote.Holder{}, remote.ErrLost
	}
	return d.driver.Claim(ctx, c)
}

// TestLostClaim loses the connection while the fence is claimed: another claim is made at once, of another id, as the first may come late. Where that is
// lost, too, the lock is left to others for a while.
func TestLostClaim(t *testing.T) {
	t.Parallel()
	for lose, most := range []time.Duration{0, 0, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			p := &place{claimed: map[string]time.Time{}}
			d := &losing{driver: driver{place: p}, lose: lose}
			s := remote.New(remote.Config{Driver: d, Lock: &lock{place: p, node: "a"}, Name: "test", Pause: 2 * time.Second, Poll: 500 * time.Millisecond})
			start := time.Now()
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer s.Stop()
			for !s.Leading() {
				pause := time.NewTimer(time.Millisecond)
				<-pause.C
			}
			if took := time.Since(start); took > most+10*time.Millisecond {
				t.Errorf("after %d claims that were lost it led in %v", lose, took)
			}
			if n := len(d.ids); n != lose+1 || n > 1 && d.ids[0] == d.ids[1] {
				t.Errorf("the claims %q", d.ids)
			}
		})
	}
}

func TestFenceGone(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{true, false} {
		for _, other := range []string{"of another", ""} { // who has given it back
			synctest.Test(t, func(t *testing.T) {
				p := &place{claimed: map[string]time.Time{}}
				cfg := remote.Config{Driver: &driver{place: p}, Name: "test"}
				if shared {
					cfg.Lock = &lock{place: p, node: "a"}
				}
				s := remote.New(cfg)
				leads, follows := 0, 0
				s.Bind(remote.Events{Lead: func() { leads++ }, Follow: func() { follows++ }})
				if err := s.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				defer s.Stop()
				p.mu.Lock()
				p.fence = other
				p.mu.Unlock()
				pause := time.NewTimer(10 * time.Second)
				<-pause.C
				synctest.Wait()
				want := 1
				if shared {
					want = 2
				}
				if leads != want || follows != 1 || s.Leading() != shared {
					t.Errorf("shared %t: it led %d times, followed %d times, and leads: %t", shared, leads, follows, s.Leading())
				}
			})
		}
	}
}

// TestOwnLateClaim has a claim that got no answer arrive when a later one of the same server leads, which is alone: that begins anew, whether
// a renewal or a write finds it.
func TestOwnLateClaim(t *testing.T) {
	t.Parallel()
	for _, write := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := &place{claimed: map[string]time.Time{}}
			d := &fenced{driver: driver{place: p}}
			d.lose = true
			s := remote.New(remote.Config{Driver: d, Name: "test"})
			leads := 0
			s.Bind(remote.Events{Lead: func() { leads++ }})
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer s.Stop()
			pause := time.NewTimer(time.Second)
			<-pause.C
			if !s.Leading() || d.lost == "" {
				t.Fatal("it does not lead, or lost no claim")
			}
			p.mu.Lock()
			p.fence = d.lost
			p.mu.Unlock()
			if write {
				if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "a", Value: []byte("1")}}); !errors.Is(err, storage.ErrNotApplied) {
					t.Errorf("a write with the claim of before: %v", err)
				}
			}
			pause.Reset(10 * time.Second)
			<-pause.C
			synctest.Wait()
			if leads != 2 || !s.Leading() {
				t.Errorf("write %t: it led %d times, and leads: %t", write, leads, s.Leading())
			}
		})
	}
}

// TestMoved has a replica take the place of the database of a server that is alone, without the claim of that. Whether a renewal or a write finds it, the
// server begins anew, unless another renews the claim that is there; a connection that was lost is no reason to take that.
func TestMoved(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		there remote.Holder // own is the claim of before
		err   error
		leads int
	}{
		{"its own claim", remote.Holder{ID: own, Left: time.Second}, remote.ErrMoved, 2},
		{"its own claim, as the connection is lost", remote.Holder{ID: own, Left: time.Second}, remote.ErrLost, 2},
		{"given back before", remote.Holder{Left: -time.Hour}, remote.ErrMoved, 2},
		{"that of an earlier process", remote.Holder{ID: "earlier", Left: -time.Second}, remote.ErrMoved, 2},
		{"that of another, which renews it", remote.Holder{ID: "of another", Left: time.Second}, remote.ErrMoved, 1},
		{"that of another, as the connection is lost", remote.Holder{ID: "of another", Left: -time.Second}, remote.ErrLost, 1},
		{"that of another, at the same server", remote.Holder{ID: "of another", Left: -time.Second}, nil, 1},
	} {
		for _, write := range []bool{true, false} {
			if !write && errors.Is(c.err, remote.ErrLost) && !errors.Is(c.err, remote.ErrMoved) {
				continue // the term ends, and nothing more is known
			}
			synctest.Test(t, func(t *testing.T) {
				d := &moved{driver: driver{place: &place{claimed: map[string]time.Time{}}, write: remote.ErrFenced}, there: c.there, err: c.err}
				s := remote.New(remote.Config{Driver: d, Name: "test"})
				leads := 0
				s.Bind(remote.Events{Lead: func() { leads++ }})
				if err := s.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				defer s.Stop()
				d.away.Store(true)
				if write {
					if err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "a", Value: []byte("1")}}); !errors.Is(err, storage.ErrNotApplied) {
						t.Errorf("%s: a write: %v", c.name, err)
					}
				}
				pause := time.NewTimer(10 * time.Second)
				<-pause.C
				synctest.Wait()
				if leads != c.leads || s.Leading() != (c.leads == 2) {
					t.Errorf("%s: write %t: it led %d times, and leads: %t", c.name, write, leads, s.Leading())
				}
			})
		}
	}
}

// A moved driver has its fence at another server until it is claimed; what is there instead is another's, or own.
type moved struct {
	driver
	away  atomic.Bool
	there remote.Holder
	err   error
}

const own = "own"

func (d *moved) Claim(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	d.away.Store(false)
	return d.driver.Claim(ctx, c)
}

func (d *moved) Renew(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	if !d.away.Load() {
		return d.driver.Renew(ctx, c)
	}
	h := d.there
	if h.ID == own {
		h.ID = c.ID
	}
	return h, d.err
}

// A fenced driver refuses every write. It loses the first claim, if it should.
type fenced struct {
	driver
	lose bool
	lost string
}

func (d *fenced) Claim(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	if d.lose {
		d.lose, d.lost = false, c.ID
		return remote.Holder{}, errors.New("no answer")
	}
	return d.driver.Claim(ctx, c)
}

func (*fenced) Write(context.Context, string, *remote.Write, func(storage.Before)) error {
	return remote.ErrFenced
}

// A cut driver does not reach its data from some moment on.
type cut struct {
	driver
	off atomic.Bool
}

func (d *cut) Claim(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	if d.off.Load() {
		<-ctx.Done()
		return remote.Holder{}, ctx.Err()
	}
	return d.driver.Claim(ctx, c)
}

func (d *cut) Renew(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	if d.off.Load() {
		<-ctx.Done()
		return remote.Holder{}, ctx.Err()
	}
	return d.driver.Renew(ctx, c)
}

func (d *cut) Release(ctx context.Context, id string) error {
	if d.off.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return d.driver.Release(ctx, id)
}

func (d *cut) Write(ctx context.Context, _ string, _ *remote.Write, _ func(storage.Before)) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestCutOff has a node that reaches the lock and not the data, before it leads and while it does, at rest and with a write under way: it
// does not keep the lock from another.
func TestCutOff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                        string
		before, unread, write, asks bool
		within                      time.Duration
	}{
		{name: "before it leads", before: true, within: 7 * time.Second},
		{name: "it cannot read", unread: true, within: 2 * time.Second},
		{name: "while it leads", within: 25 * time.Second},
		{name: "while it leads, with a write that began later", write: true, within: 25 * time.Second},
		{name: "it is asked to step down", asks: true, within: 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &place{claimed: map[string]time.Time{}}
				d := &cut{driver: driver{place: p}}
				d.off.Store(c.before)
				a := remote.New(remote.Config{Driver: d, Lock: &lock{place: p, node: "a"}, Name: "test", Node: "a", Address: "a:1"})
				a.Bind(remote.Events{Applied: func(storage.Change) error {
					if c.unread {
						return errors.New("the data cannot be read")
					}
					return nil
				}})
				if err := a.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				defer a.Stop()
				b := newStore(t, p, "b", 0, nil)
				defer b.Stop()
				if !c.before && !c.unread && !a.Leading() {
					t.Fatal("nobody leads")
				}
				d.off.Store(true)
				begin := time.Now()
				if c.write {
					pause := time.NewTimer(12 * time.Second)
					<-pause.C
					go func() { _ = a.Apply(t.Context(), storage.Batch{{Kind: storage.DeletePrefix, Key: "a"}}) }() // is in vain
				}
				if c.asks {
					go func() { _ = a.StepDown("") }()
				}
				pause := time.NewTimer(c.within - time.Since(begin))
				<-pause.C
				synctest.Wait()
				if !b.Leading() || a.Leading() {
					t.Errorf("a leads: %t, b leads: %t", a.Leading(), b.Leading())
				}
			})
		})
	}
}

// TestSuspended has a machine suspended for longer than a lease lasts: nothing is answered until the lock was asked, which is
// soon.
func TestSuspended(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var slept atomic.Int64
			base := time.Now()
			p := &place{claimed: map[string]time.Time{}}
			cfg := remote.Config{Driver: &driver{place: p}, Name: "test", Clock: clock.Of(func() (ran, ahead time.Duration) {
				return time.Since(base), time.Duration(slept.Load())
			})}
			if shared {
				cfg.Lock = &lock{place: p, node: "a"}
			}
			s := remote.New(cfg)
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer s.Stop()
			if err := s.Fresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			slept.Store(int64(time.Minute))
			if s.Fresh(t.Context()) == nil {
				t.Errorf("shared %t: it answers as if no other could lead", shared)
			}
			pause := time.NewTimer(300 * time.Millisecond)
			<-pause.C
			synctest.Wait()
			if err := s.Fresh(t.Context()); err != nil {
				t.Errorf("shared %t: it was asked for nothing meanwhile: %v", shared, err)
			}
		})
	}
}

// TestFenceAfterLapse has the lock's lease run out, and only the lock renewed then: nothing is answered, since the fence may be another's.
func TestFenceAfterLapse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var slept atomic.Int64
		base := time.Now()
		p := &place{claimed: map[string]time.Time{}}
		s := remote.New(remote.Config{Driver: &driver{place: p}, Lock: &lock{place: p, node: "a"}, Name: "test", Clock: clock.Of(func() (ran, ahead time.Duration) {
			return time.Since(base), time.Duration(slept.Load())
		})})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		p.mu.Lock()
		p.renewal = errors.New("no answer")
		p.mu.Unlock()
		slept.Store(int64(7 * time.Second))
		for range 20 {
			pause := time.NewTimer(100 * time.Millisecond)
			<-pause.C
			synctest.Wait()
			if s.Fresh(t.Context()) == nil {
				t.Fatal("it answers, and nobody knows whose the fence was")
			}
		}
		pause := time.NewTimer(6 * time.Second)
		<-pause.C
		synctest.Wait()
		if err := s.Fresh(t.Context()); err != nil {
			t.Errorf("it does not begin anew: %v", err)
		}
	})
}

// TestLockGoneBeforeFence has a node stand still when it has the lock and is about to take the fence, until another leads: it does
// not begin to lead.
func TestLockGoneBeforeFence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &place{claimed: map[string]time.Time{}}
		p.fencing = func() { p.holder = remote.Holder{ID: "of another", Value: `{"node":"b"}`, Left: time.Second} }
		s := remote.New(remote.Config{Driver: &driver{place: p}, Lock: &lock{place: p, node: "a"}, Name: "test"})
		leads := 0
		s.Bind(remote.Events{Lead: func() { leads++ }})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		pause := time.NewTimer(3 * time.Second)
		<-pause.C
		synctest.Wait()
		if id, _ := s.Leader(); leads != 0 || s.Leading() || id != "b" {
			t.Errorf("it led %d times; the leader is %q", leads, id)
		}
		p.mu.Lock()
		p.holder = remote.Holder{}
		p.mu.Unlock()
		pause.Reset(3 * time.Second)
		<-pause.C
		synctest.Wait()
		if leads != 1 || !s.Leading() {
			t.Errorf("when the lock is free it led %d times", leads)
		}
	})
}

// TestUnknownAndFenced has a commit found to be another's to carry out: it is not said that nothing was written, as whoever hears
// that does it again. Nor does a server that is alone take the fence back from that other.
func TestUnknownAndFenced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &place{claimed: map[string]time.Time{}}
		s := remote.New(remote.Config{Driver: &driver{
			place: p, write: errors.Join(remote.ErrUnknown, fmt.Errorf("carry it out: %w", remote.ErrFenced)),
		}, Name: "test"})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		p.mu.Lock()
		p.fence = "of another"
		p.mu.Unlock()
		err := s.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "k", Value: []byte("v")}})
		if err == nil || errors.Is(err, storage.ErrNotApplied) {
			t.Errorf("the write is said to be undone, or done: %v", err)
		}
		pause := time.NewTimer(3 * time.Second)
		<-pause.C
		synctest.Wait()
		if s.Leading() || p.fence != "of another" {
			t.Errorf("it leads: %t; the fence is that of %q", s.Leading(), p.fence)
		}
	})
}
