package seal

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
)

// putWrapped writes a value that asks to be wrapped, and reports whether it is.
func (n *node) putWrapped(t *testing.T, key, value string) bool {
	t.Helper()
	op := storage.Op{Kind: storage.Put, Key: key, Value: []byte(value), Wrap: true}
	if err := barrier.New(n.backend, n.ring).Apply(t.Context(), storage.Batch{op}); err != nil {
		t.Fatal(err)
	}
	record, err := n.backend.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return record[0] == 2
}

func (n *node) read(t *testing.T, key string) (string, error) {
	t.Helper()
	b, err := barrier.New(n.backend, n.ring).Get(t.Context(), key)
	return string(b), err
}

// reads has these keys be what putWrapped wrote, "v".
func (n *node) reads(t *testing.T, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if got, err := n.read(t, key); err != nil || got != "v" {
			t.Errorf("%s: %q, %v", key, got, err)
		}
	}
}

func mustOpen(t *testing.T, n *node) *node {
	t.Helper()
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// give gives one share for something.
func give(t *testing.T, n *node, share barrier.Key, f UnsealFor) {
	t.Helper()
	if st, err := n.UnsealFor(t.Context(), clone(share), f); err != nil || st.Sealed {
		t.Fatalf("%+v, %v", st, err)
	}
}

// aged has a sealed store be as a release before seal wrap made it: one share, and seals that are these.
func aged(t *testing.T, n *node, share barrier.Key, seals ...*kms) {
	t.Helper()
	c, err := n.readStored(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	whole, err := barrier.Unwrap(share, rootLabel, c.Root)
	if err != nil {
		t.Fatal(err)
	}
	root := barrier.Key(whole[:barrier.KeyBytes])
	c.Version, c.Both = configVersion, false
	if c.Root, err = barrier.Wrap(share, rootLabel, root); err != nil {
		t.Fatal(err)
	}
	for i, k := range seals {
		c.Wrapped[i].Both = false
		if c.Wrapped[i].Root, err = k.Encrypt(t.Context(), root); err != nil {
			t.Fatal(err)
		}
	}
	err = n.raw.Update(t.Context(), func(tx storage.Tx) error {
		if err := tx.Delete(barrier.WrapRecordKey); err != nil {
			return err
		}
		return c.put(tx)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func stored(t *testing.T, n *node) *config {
	t.Helper()
	c, err := n.readStored(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A new store: the seal-wrap key is under each seal and under the recovery keys, and nowhere else.
func TestSealWrap(t *testing.T) {
	t.Parallel()
	one, two := newSealed(1), newSealed(2)
	both := []Wrapper{named("one", one), named("two", two)}
	n := configured(t, newNode(t, shared{newStore(t)}), both...)
	share := mustInit(t, n, 1, 1).Shares[0]
	mustOpen(t, n)
	if !n.putWrapped(t, "a", "v") {
		t.Error("not wrapped")
	}
	if c := stored(t, n); c.SealWrap != nil || !c.carried() || !c.hasWrap() {
		t.Errorf("stored: %+v", c)
	}
	// The root key gives the keyring, and that one nothing that is wrapped.
	u := n.state.Load().open
	record, err := n.backend.Get(t.Context(), barrier.RecordKey)
	if err != nil {
		t.Fatal(err)
	}
	alone, err := barrier.OpenKeyring(record, u.root.get())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := barrier.New(n.backend, alone).Get(t.Context(), "a"); !errors.Is(err, barrier.ErrNoWrapKey) {
		t.Errorf("by the root key alone: %q, %v", got, err)
	}
	for _, w := range both { // either seal is lost
		n = mustOpen(t, configured(t, n, w))
		n.reads(t, "a")
		n = mustOpen(t, configured(t, n, both...))
		n.tend(t.Context())
	}
	one.set(func() { one.down = true })
	two.set(func() { two.down = true })
	n.reads(t, "a") // an outage stops nothing
	if !n.putWrapped(t, "b", "v") {
		t.Error("not wrapped in an outage")
	}
	for _, wrappers := range [][]Wrapper{both, nil} { // both are lost
		n = configured(t, n, wrappers...)
		give(t, n, share, UnsealFor{Recovery: true})
		n.reads(t, "a", "b")
		if !n.putWrapped(t, "c", "v") {
			t.Error("not wrapped after recovery")
		}
	}
	n.Seal()
	if _, err := n.read(t, "a"); !errs.Is(err, errs.Sealed) {
		t.Errorf("sealed: %v", err)
	}
}

// From Shamir to a seal, to another, and back: what was written in each is read in all.
func TestSealWrapMigration(t *testing.T) {
	t.Parallel()
	for _, old := range []bool{false, true} {
		one, two := &kms{key: 1}, &kms{key: 2}
		n := newNode(t, shared{newStore(t)})
		share := mustInit(t, n, 1, 1).Shares[0]
		if old {
			aged(t, n, share)
		}
		unsealWith(t, n, share)
		if err := n.WantWrap(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n.putWrapped(t, "shamir", "v") {
			t.Error("wrapped with a Shamir seal")
		}
		n = configured(t, n, auto("one", one))
		give(t, n, share, UnsealFor{Migrate: true})
		if err := n.WantWrap(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.tend(t.Context())
		if !n.putWrapped(t, "one", "v") {
			t.Error("not wrapped with a seal")
		}
		n = mustOpen(t, configured(t, n, auto("one", one)))
		n.reads(t, "shamir", "one")
		n = configured(t, n, disabled(auto("one", one)), auto("two", two))
		give(t, n, share, UnsealFor{Migrate: true})
		if c := stored(t, n); !c.Wrapped[0].Both {
			t.Errorf("old %t: the new seal has the root key alone", old)
		}
		n.tend(t.Context())
		if !n.putWrapped(t, "two", "v") {
			t.Error("not wrapped with another seal")
		}
		one.down = true
		n = mustOpen(t, configured(t, n, auto("two", two)))
		n.reads(t, "shamir", "one", "two")
		two.down = true
		n = configured(t, n, disabled(auto("two", two)))
		give(t, n, share, UnsealFor{Migrate: true})
		if n.putWrapped(t, "back", "v") {
			t.Error("wrapped after the way back to Shamir")
		}
		n = configured(t, n)
		unsealWith(t, n, share)
		n.reads(t, "shamir", "one", "two", "back")
		if c := stored(t, n); (c.SealWrap != nil) != old {
			t.Errorf("old %t: under the root key: %t", old, c.SealWrap != nil)
		}
		res, err := rekeyWith(n, RekeyParams{Shares: 1, Threshold: 1}, []barrier.Key{share})
		if err != nil {
			t.Fatal(err)
		}
		if c := stored(t, n); c.SealWrap != nil || !c.carried() {
			t.Errorf("old %t: still under the root key after a rekey", old)
		}
		n = configured(t, n)
		unsealWith(t, n, res.Shares[0])
		n.reads(t, "shamir", "one", "two", "back")
	}
}

// A store of an older release gets its key when it is wanted; it lies under the root key until all has it.
func TestSealWrapOfAnOlderStore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	one, two := newSealed(1), newSealed(2)
	both := []Wrapper{named("one", one), named("two", two)}
	n := configured(t, newNode(t, shared{newStore(t)}), both...)
	share := mustInit(t, n, 1, 1).Shares[0]
	aged(t, n, share, one, two)
	mustOpen(t, n)
	n.tend(ctx)
	if n.putWrapped(t, "before", "v") || stored(t, n).hasWrap() {
		t.Error("a key was made that nobody wants")
	}
	standby := configured(t, newNode(t, n.backend), both...)
	standby.standby = true
	mustOpen(t, standby)
	if err := n.WantWrap(ctx); err != nil {
		t.Fatal(err)
	}
	if !n.putWrapped(t, "a", "v") {
		t.Fatal("not wrapped")
	}
	// A node that has not heard of it does not write it away.
	unaware := standby.state.Load().open.config
	if err := standby.replaceConfig(ctx, unaware, unaware); !errors.Is(err, errChanged) {
		t.Errorf("replaced by what has no seal-wrap key: %v", err)
	}
	if c := stored(t, n); c.SealWrap == nil || c.carried() {
		t.Errorf("stored: %+v", c)
	}
	if err := standby.reloadRing(ctx, standby.state.Load().open); err != nil { // as Refresh does
		t.Fatal(err)
	}
	standby.reads(t, "before", "a")
	recovered := configured(t, newNode(t, n.backend), both...)
	give(t, recovered, share, UnsealFor{Recovery: true})
	recovered.reads(t, "before", "a")

	// One seal is ill: it keeps what it has.
	two.set(func() { two.down = true })
	n.tend(ctx)
	if c := stored(t, n); !c.Wrapped[0].Both || c.Wrapped[1].Both || c.SealWrap == nil || whole(t, n) {
		t.Errorf("stored: %+v", c)
	}
	two.set(func() { two.down = false })
	last := mustOpen(t, configured(t, newNode(t, n.backend), both[1]))
	last.reads(t, "before", "a") // by the one that has the root key alone
	n.tend(ctx)
	if c := stored(t, n); !c.Wrapped[1].Both || c.SealWrap == nil || !whole(t, n) {
		t.Errorf("stored: %+v", c)
	}
	res, err := rekeyWith(n, RekeyParams{Shares: 1, Threshold: 1}, []barrier.Key{share})
	if err != nil {
		t.Fatal(err)
	}
	n.tend(ctx)
	if c := stored(t, n); c.SealWrap != nil || !c.carried() {
		t.Errorf("after a rekey: %+v", c)
	}
	if err := standby.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	n = configured(t, n)
	give(t, n, res.Shares[0], UnsealFor{Recovery: true})
	n.reads(t, "before", "a")
	standby.reads(t, "before", "a")
}

// A node that was opened before there was a key asks the seals for it, where the root key does not give it.
func TestSealWrapIsAskedFor(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := newSealed(1)
	n := configured(t, newNode(t, shared{newStore(t)}), named("one", k))
	share := mustInit(t, n, 1, 1).Shares[0]
	aged(t, n, share, k)
	mustOpen(t, n)
	standby := configured(t, newNode(t, n.backend), named("one", k))
	standby.standby = true
	mustOpen(t, standby)
	if err := n.WantWrap(ctx); err != nil {
		t.Fatal(err)
	}
	n.tend(ctx)
	res, err := rekeyWith(n, RekeyParams{Shares: 1, Threshold: 1}, []barrier.Key{share})
	if err != nil {
		t.Fatal(err)
	}
	n.tend(ctx)
	if !n.putWrapped(t, "a", "v") || stored(t, n).SealWrap != nil {
		t.Fatal("the key is still under the root key")
	}
	k.set(func() { k.down = true })
	if err := standby.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	standby.tend(ctx)
	if got, err := standby.read(t, "a"); !errors.Is(err, barrier.ErrNoWrapKey) {
		t.Errorf("without the key: %q, %v", got, err)
	}
	if standby.first(t) != "content" {
		t.Error("what is not wrapped cannot be read")
	}
	// It leads, and does not lose the key.
	standby.standby = false
	err = barrier.New(standby.backend, standby.ring).Apply(ctx, storage.Batch{{Kind: storage.Put, Key: "b", Wrap: true}})
	if !errors.Is(err, storage.ErrNotApplied) {
		t.Errorf("a write without the key: %v", err)
	}
	if _, err := rekeyWith(standby, RekeyParams{Shares: 1, Threshold: 1}, []barrier.Key{res.Shares[0]}); !errors.Is(err, barrier.ErrNoWrapKey) {
		t.Errorf("a rekey without the key: %v", err)
	}
	before := stored(t, n)
	standby.tend(ctx)
	if !stored(t, n).equal(before) {
		t.Error("a node without the key has changed the seals")
	}
	k.set(func() { k.down = false })
	standby.tend(ctx)
	standby.reads(t, "a")
	if !standby.putWrapped(t, "b", "v") {
		t.Error("not wrapped")
	}
}

// Another version, which other nodes and later starts have, too.
func TestRenewWrap(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := newSealed(1)
	n := configured(t, newNode(t, shared{newStore(t)}), named("one", k))
	mustInit(t, n, 1, 1)
	mustOpen(t, n)
	standby := configured(t, newNode(t, n.backend), named("one", k))
	standby.standby = true
	mustOpen(t, standby)
	n.putWrapped(t, "one", "v")
	under := stored(t, n).Wrapped[0]
	n.RenewSeals(now())
	for range 2 { // once for all
		if v, err := n.RenewWrap(ctx, 1); err != nil || v != 2 {
			t.Fatalf("version %d, %v", v, err)
		}
	}
	n.putWrapped(t, "two", "v")
	n.tend(ctx)
	if now := stored(t, n).Wrapped[0]; !now.At.After(under.At) || !now.Both {
		t.Errorf("the seal has not encrypted anew: %v", now.At)
	}
	if err := standby.reloadRing(ctx, standby.state.Load().open); err != nil {
		t.Fatal(err)
	}
	standby.reads(t, "one", "two")
	if _, err := standby.RenewWrap(ctx, 2); !errs.Is(err, errs.NotActive) {
		t.Errorf("on a standby: %v", err)
	}
	n = configured(t, n, named("one", k))
	n.cfg.DisableSealWrap = true
	mustOpen(t, n)
	n.reads(t, "one", "two")
	if v, err := n.RenewWrap(ctx, 2); err != nil || v != 0 || n.putWrapped(t, "three", "v") {
		t.Errorf("disabled: version %d, %v", v, err)
	}
	n.reads(t, "three")
}

// What a snapshot of before brings back: no key, or an older state of its keyring. Nothing is wrapped with what is not stored.
func TestSealWrapIsRestored(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := newSealed(1)
	n := configured(t, newNode(t, shared{newStore(t)}), named("one", k))
	share := mustInit(t, n, 1, 1).Shares[0]
	mustOpen(t, n)
	keep := func() map[string][]byte {
		all := map[string][]byte{}
		for _, key := range []string{configKey, barrier.RecordKey, barrier.WrapRecordKey} {
			if b, err := n.backend.Get(ctx, key); err == nil {
				all[key] = bytes.Clone(b)
			}
		}
		return all
	}
	restore := func(all map[string][]byte) {
		t.Helper()
		err := n.raw.Update(ctx, func(tx storage.Tx) error {
			for _, key := range []string{configKey, barrier.RecordKey, barrier.WrapRecordKey} {
				err := tx.Delete(key)
				if b := all[key]; b != nil {
					err = tx.Put(key, b)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			err = n.Refresh(context.WithoutCancel(ctx))
		}
		if err == nil {
			err = n.Reload(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	n.putWrapped(t, "one", "v")
	first := keep()
	if _, err := n.RenewWrap(ctx, 1); err != nil {
		t.Fatal(err)
	}
	n.putWrapped(t, "two", "v")
	second := keep()
	restore(first)
	n.reads(t, "one")
	if _, err := n.RenewWrap(ctx, 1); err != nil { // another version 2
		t.Fatal(err)
	}
	n.putWrapped(t, "other", "v")
	n.reads(t, "other")
	restore(second)
	n.reads(t, "one", "two")
	if got, err := n.read(t, "other"); !errs.Is(err, errs.Failed) {
		t.Errorf("under a version that is gone: %q, %v", got, err)
	}

	n.Seal()
	aged(t, n, share, k)
	third := keep()
	n = mustOpen(t, configured(t, n, named("one", k)))
	if err := n.WantWrap(ctx); err != nil {
		t.Fatal(err)
	}
	if !n.putWrapped(t, "fresh", "v") {
		t.Error("not wrapped")
	}
	fourth := keep()
	n.wanted.Store(false)
	restore(third)
	if err := n.ring.MayWrap(); !errors.Is(err, barrier.ErrNoWrapKey) {
		t.Errorf("values are not refused: %v", err)
	}
	n.tend(ctx)
	if !n.putWrapped(t, "again", "v") {
		t.Error("not wrapped with a new key")
	}
	restore(fourth) // another key, in memory
	n.reads(t, "fresh")
	if got, err := n.read(t, "again"); !errs.Is(err, errs.Failed) {
		t.Errorf("under a key that is gone: %q, %v", got, err)
	}
	mustOpen(t, configured(t, n, named("one", k))).reads(t, "fresh")
}

// Who writes the store cannot have values written without the seal's layer by saying that there is no seal-wrap key.
func TestSealWrapIsNotDenied(t *testing.T) {
	t.Parallel()
	n := configured(t, newNode(t, shared{newStore(t)}), named("one", newSealed(1)))
	share := mustInit(t, n, 1, 1).Shares[0]
	c := stored(t, n)
	c.Version = configVersion
	if err := n.raw.Update(t.Context(), c.put); err != nil {
		t.Fatal(err)
	}
	if err := n.OpenByItself(t.Context()); !errs.Is(err, errs.Failed) || !n.Sealed() {
		t.Errorf("opened: %v", err)
	}
	if _, err := n.UnsealFor(t.Context(), clone(share), UnsealFor{Recovery: true}); !errs.Is(err, errs.Failed) || !n.Sealed() {
		t.Errorf("opened by recovery keys: %v", err)
	}
}

// sealing has a node be sealed while what it writes is under way.
type sealing struct {
	shared
	seal func() // at the next write; nil for not
}

func (s *sealing) Apply(ctx context.Context, b storage.Batch) error {
	if seal := s.seal; seal != nil {
		s.seal = nil
		seal()
	}
	return s.shared.Apply(ctx, b)
}

// A node that is sealed in the middle of tending to its seals.
func TestSealWrapIsMadeWhenSealed(t *testing.T) {
	t.Parallel()
	k := newSealed(1)
	b := &sealing{shared: shared{newStore(t)}}
	n := configured(t, newNode(t, b), named("one", k))
	share := mustInit(t, n, 1, 1).Shares[0]
	aged(t, n, share, k)
	mustOpen(t, n)
	n.wanted.Store(true)
	done := make(chan struct{})
	b.seal = func() {
		go func() {
			defer close(done)
			n.Seal()
		}()
		for !errs.Is(ringErr(n), errs.Sealed) { // it waits for the turn now
			runtime.Gosched()
		}
	}
	n.tend(t.Context())
	<-done
	if !n.Sealed() {
		t.Error("not sealed")
	}
}

func ringErr(n *node) error {
	_, err := n.ring.Info()
	return err
}

// A stored seal-wrap keyring that the key does not open has the seals asked for the key now and then, not without end.
func TestSealWrapIsNotAskedForWithoutEnd(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(tx storage.Tx) error{
		"damaged": func(tx storage.Tx) error {
			record, err := tx.Get(barrier.WrapRecordKey)
			if err != nil {
				return err
			}
			record = bytes.Clone(record)
			record[20] ^= 1
			return tx.Put(barrier.WrapRecordKey, record)
		},
		"of another key": func(tx storage.Tx) error {
			ring, err := barrier.NewWrapKeyring(now())
			if err != nil {
				return err
			}
			return saveRing(tx, ring, barrier.NewKey())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newSealed(1)
			n := configured(t, newNode(t, shared{newStore(t)}), named("one", k))
			mustInit(t, n, 1, 1)
			mustOpen(t, n)
			if err := n.raw.Update(t.Context(), spoil); err != nil {
				t.Fatal(err)
			}
			if err := n.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			n.Watch(ctx)
			k.set(func() {
				if k.asked > 20 {
					t.Errorf("the seal was asked %d times", k.asked)
				}
			})
			if got := len(n.state.Load().open.wrap.get()); got != 0 {
				t.Error("a key that opens nothing is kept")
			}
		})
	}
}

// Two who load the seal-wrap keyring at once: what the first has is not ended by the second.
func TestSealWrapIsLoadedOnce(t *testing.T) {
	t.Parallel()
	n := configured(t, newNode(t, shared{newStore(t)}), named("one", newSealed(1)))
	mustInit(t, n, 1, 1)
	mustOpen(t, n)
	n.putWrapped(t, "a", "v")
	u := n.state.Load().open
	for range 100 {
		n.ring.UseWrap(nil, true) // as on a node that has not got it yet
		var work sync.WaitGroup
		for range 4 {
			work.Go(func() {
				if err := n.reloadRing(t.Context(), u); err != nil {
					t.Error(err)
				}
				ring := n.ring.WrapRing()
				runtime.Gosched()
				if _, err := ring.Info(); err != nil {
					t.Errorf("what was loaded: %v", err)
				}
			})
		}
		work.Wait()
	}
	n.reads(t, "a")
}

// A node that has heard late of a seal-wrap key under the root key takes it from there, though no seal has it yet.
func TestSealWrapUnderTheRootKey(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := newSealed(1)
	n := configured(t, newNode(t, shared{newStore(t)}), named("one", k))
	aged(t, n, mustInit(t, n, 1, 1).Shares[0], k)
	mustOpen(t, n)
	other := mustOpen(t, configured(t, newNode(t, n.backend), named("one", k)))
	if err := other.WantWrap(ctx); err != nil {
		t.Fatal(err)
	}
	k.set(func() { k.down = true })
	n.takeStored(ctx, n.state.Load().open)
	if n.ring.WrapRing() != nil {
		t.Fatal("it has the key: this shows nothing")
	}
	n.tend(ctx)
	if !n.putWrapped(t, "a", "v") {
		t.Error("not wrapped")
	}
	other.reads(t, "a")
}
