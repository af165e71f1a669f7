package seal

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
)

// silent is a store that does not give one entry for a while.
type silent struct {
	storage.Backend
	key   string
	fail  *atomic.Bool
	asked *atomic.Int64 // in vain
}

func (s silent) Snapshot(context.Context) (storage.Snapshot, error) { return silentReader{s}, nil }

func (s silent) Get(ctx context.Context, key string) ([]byte, error) {
	if key == s.key && s.fail.Load() {
		s.asked.Add(1)
		return nil, errs.New(errs.Unavailable, "it does not answer")
	}
	return s.Backend.Get(ctx, key)
}

type silentReader struct{ silent }

func (silentReader) Close() error { return nil }

// Recovery keys that another node has replaced authorise nothing on one that could not read of it, which goes on to try.
func TestReplacedKeysDoNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, k, b := t.Context(), newSealed(7), newStore(t)
		var fail atomic.Bool
		var asked atomic.Int64
		one := configured(t, newNode(t, shared{b}), named("a", k))
		two := configured(t, newNode(t, silent{b, configKey, &fail, &asked}), named("a", k))
		one.cfg.Shared, two.cfg.Shared, two.standby = true, true, true
		old := mustInit(t, one, 1, 1).Shares
		mustOpen(t, one)
		mustOpen(t, two)
		fresh := mustRekey(t, one, RekeyParams{Shares: 2, Threshold: 2}, old)
		fail.Store(true)
		if err := two.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // what is taken over in the background
		one.standby, two.standby = true, false
		if err := two.Arrived(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := two.StartRoot(ctx, "", ""); !errs.Is(err, errs.Unavailable) {
			t.Errorf("what counts is not known: %v", err)
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go two.Watch(ctx)
		asked.Store(0)
		time.Sleep(4 * behindRetry)
		soon := asked.Load()
		time.Sleep(time.Hour)
		if n := asked.Load(); soon < 3 || n > 150 {
			t.Errorf("asked %d times soon, and %d in an hour", soon, n)
		}
		fail.Store(false)
		time.Sleep(upkeepEvery)
		if st, err := two.Status(ctx); err != nil || st.N != 2 {
			t.Errorf("not read again: %+v, %v", st, err)
		}
		st, err := two.StartRoot(ctx, "", "")
		if err != nil {
			t.Fatal(err)
		}
		if st, err := two.UpdateRoot(ctx, clone(old[0]), st.Nonce); err != nil || st.Complete {
			t.Errorf("by the old keys: %+v, %v", st, err)
		}
		if err := two.CancelRoot(ctx); err != nil {
			t.Fatal(err)
		}
		grants(t, two, fresh)
		cancel()
		synctest.Wait()
	})
}

// A node that is opened while a rekey comes and its handover goes, and comes to lead before it is open, has keys of before: it is sealed, and does not lead.
func TestKeysOfBeforeDoNotLead(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newStore(t)
	one, two := newNode(t, shared{b}), newNode(t, shared{b})
	one.cfg.Shared, two.cfg.Shared, two.standby = true, true, true
	old := mustInit(t, one, 1, 1).Shares
	unsealWith(t, one, old...)
	opened := two.cfg.Opened
	two.cfg.Opened = func(ctx context.Context, ring *barrier.Keyring, c Cluster) error {
		mustRekey(t, one, RekeyParams{Shares: 1, Threshold: 1}, old)
		err := one.raw.Update(ctx, func(tx storage.Tx) error { return tx.Delete(handoverKey) })
		return errors.Join(err, two.Refresh(ctx), two.Arrived(ctx), opened(ctx, ring, c))
	}
	var why error
	two.cfg.Unreadable = func(err error) { why = err }
	if _, err := two.Unseal(ctx, clone(old[0]), false); err == nil {
		t.Error("the keys do not fit, and nobody is told")
	}
	if !errs.Is(why, errs.Failed) {
		t.Errorf("it stays open, or the core is told that %v", why)
	}
	if err := two.Arrived(ctx); !errs.Is(err, errs.Failed) {
		t.Errorf("it may lead: %v", err)
	}
	why = nil
	if one.tend(ctx); why != nil {
		t.Error(why)
	}
}

// A keyring that cannot be read for a moment has no standby be left, and no node lead without it; one that the keys do not open has.
func TestKeyringSilentForAMoment(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newStore(t)
	var fail atomic.Bool
	var asked atomic.Int64
	one, two := newNode(t, shared{b}), newNode(t, silent{b, barrier.RecordKey, &fail, &asked})
	one.cfg.Shared, two.cfg.Shared, two.standby = true, true, true
	shares := mustInit(t, one, 1, 1).Shares
	unsealWith(t, one, shares...)
	unsealWith(t, two, shares...)
	var why error
	two.cfg.Unreadable = func(err error) { why = err }
	fail.Store(true)
	if two.tend(ctx); asked.Load() == 0 || why != nil {
		t.Errorf("asked %d times, and it is given up: %v", asked.Load(), why)
	}
	if err := two.Arrived(ctx); err == nil || errs.Is(err, errs.Failed) || storage.IsNotFound(err) {
		t.Errorf("it may lead, or never more: %v", err)
	}
	fail.Store(false)
	if two.tend(ctx); why != nil {
		t.Errorf("it is given up: %v", why)
	}
	if err := two.Arrived(ctx); err != nil {
		t.Errorf("it may not lead: %v", err)
	}
	err := one.raw.Update(ctx, func(tx storage.Tx) error { return tx.Put(barrier.RecordKey, []byte("what is no keyring")) })
	if err != nil {
		t.Fatal(err)
	}
	if two.tend(ctx); !errs.Is(why, errs.Failed) {
		t.Errorf("its keys open nothing, and it is told that %v", why)
	}
	if err := two.Arrived(ctx); !errs.Is(err, errs.Failed) {
		t.Errorf("it may lead: %v", err)
	}
}

// A stalling store holds a read of the keyring back when it has read it, once.
type stalling struct {
	shared
	stall *atomic.Pointer[func()]
}

func (s stalling) Snapshot(context.Context) (storage.Snapshot, error) { return stallingReader{s}, nil }

func (s stalling) Get(ctx context.Context, key string) ([]byte, error) {
	v, err := s.Backend.Get(ctx, key)
	if key != barrier.RecordKey {
		return v, err
	}
	if stall := s.stall.Swap(nil); stall != nil {
		(*stall)()
	}
	return v, err
}

type stallingReader struct{ stalling }

func (stallingReader) Close() error { return nil }

// A node that is about to lead takes over a key that another has made, while it reads, since before that, what else is new: it does not forget the key again.
func TestNewestKeyStays(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newStore(t)
	var stall atomic.Pointer[func()]
	one, two := newNode(t, shared{b}), newNode(t, stalling{shared{b}, &stall})
	one.cfg.Shared, two.cfg.Shared, two.standby = true, true, true
	shares := mustInit(t, one, 1, 1).Shares
	unsealWith(t, one, shares...)
	unsealWith(t, two, shares...)
	var arrived atomic.Bool
	reads, mayEnd := make(chan struct{}), make(chan struct{})
	wait := func() { close(reads); <-mayEnd }
	stall.Store(&wait)
	var work sync.WaitGroup
	work.Go(func() {
		if err := two.Reload(ctx); err != nil {
			t.Error(err)
		}
	})
	<-reads
	if err := one.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	work.Go(func() {
		if err := two.Arrived(ctx); err != nil {
			t.Error(err)
		}
		arrived.Store(true)
	})
	for i := 0; i < 200000 && !arrived.Load(); i++ { // it may wait for the other
		runtime.Gosched()
	}
	close(mayEnd)
	work.Wait()
	if info, err := two.KeyInfo(); err != nil || info.Term != 2 {
		t.Errorf("the newest key that it has is of term %d, %v", info.Term, err)
	}
}
