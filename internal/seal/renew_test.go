package seal

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

func rootOf(n *node) barrier.Key { return n.state.Load().open.root.get() }

// lead makes another node the active one, which took over what the first one stored.
func (n *node) lead(t *testing.T, before *node) {
	t.Helper()
	before.standby, n.standby = true, false
	if err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// openTwo gives two nodes of one store, both open; the first is the active one.
func openTwo(t *testing.T, b storage.Backend, shares, threshold int) (active, standby *node, keys []barrier.Key) {
	t.Helper()
	active, standby = newNode(t, shared{b}), newNode(t, shared{b})
	active.cfg.Shared, standby.cfg.Shared, standby.standby = true, true, true
	keys = mustInit(t, active, shares, threshold).Shares
	unsealWith(t, active, keys[:threshold]...)
	unsealWith(t, standby, keys[:threshold]...)
	return active, standby, keys
}

// mustRekey ends a rekey, verified where p asks for it.
func mustRekey(t *testing.T, n *node, p RekeyParams, old []barrier.Key) []barrier.Key {
	t.Helper()
	res, err := rekeyWith(n, p, old)
	if err != nil || res.Warning != "" {
		t.Fatal(res, err)
	}
	if p.Verify {
		for i, s := range res.Shares[:p.Threshold] {
			if done, err := n.VerifyRekey(t.Context(), clone(s), res.VerificationNonce); err != nil || done != (i == p.Threshold-1) {
				t.Fatal(done, err)
			}
		}
	}
	return res.Shares
}

// Who has the old shares, and the seal's configuration of before, does not get at the keyring of now.
func TestRekeyMakesRootKey(t *testing.T) {
	t.Parallel()
	for _, verify := range []bool{false, true} {
		ctx, b := t.Context(), newStore(t)
		n, old := openNode(t, b, 3, 2)
		before, was := rootOf(n), stored(t, n)
		fresh := mustRekey(t, n, RekeyParams{Shares: 3, Threshold: 2, Verify: verify}, old[:2])
		if reflect.DeepEqual(rootOf(n), before) {
			t.Error("the root key is the one before")
		}
		if c := stored(t, n); c.Version != wrapVersion || c.Prior != nil || c.Next != nil || c.SealWrap != nil {
			t.Errorf("stored: %+v", c)
		}
		if err := n.Rotate(ctx); err != nil {
			t.Fatal(err)
		}
		if !opens(t, b, fresh[1:]) || opens(t, b, old[1:]) {
			t.Error("the wrong shares open")
		}
		record, err := n.backend.Get(ctx, barrier.RecordKey)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := barrier.OpenKeyring(record, before); err == nil {
			t.Error("the root key before opens the keyring")
		}
		if err := n.raw.Update(ctx, func(tx storage.Tx) error { return was.put(tx) }); err != nil {
			t.Fatal(err)
		}
		if opens(t, b, old[:2]) {
			t.Error("the old shares open, with the seal's configuration of before")
		}
	}
}

// Recovery keys are replaced under the root key that there is: the seals are not asked.
func TestRecoveryRekeyKeepsRootKey(t *testing.T) {
	t.Parallel()
	for _, verify := range []bool{false, true} {
		k := newSealed(7)
		n := configured(t, newNode(t, shared{newStore(t)}), named("a", k))
		old := mustInit(t, n, 1, 1).Shares
		mustOpen(t, n)
		n.putWrapped(t, "a", "v")
		before := rootOf(n)
		k.set(func() { k.down = true })
		fresh := mustRekey(t, n, RekeyParams{Shares: 1, Threshold: 1, Verify: verify}, old)
		if !reflect.DeepEqual(rootOf(n), before) || stored(t, n).Prior != nil {
			t.Error("another root key")
		}
		n = configured(t, n, named("a", k))
		if _, err := n.UnsealFor(t.Context(), clone(old[0]), UnsealFor{Recovery: true}); !errs.Is(err, errs.Invalid) {
			t.Errorf("by the old recovery key: %v", err)
		}
		give(t, n, fresh[0], UnsealFor{Recovery: true})
		n.reads(t, "a")
		k.set(func() { k.down = false })
		mustOpen(t, configured(t, n, named("a", k))).reads(t, "a")
	}
}

// A standby that is open goes over to the new root key, leads with it, rotates, is asked for shares, and lets nodes in.
func TestStandbyTakesOverAfterRekey(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newStore(t)
	one, two, keys := openTwo(t, b, 3, 2)
	first := keys
	for round := range 3 {
		if round == 2 { // two rekeys that the other node hears of at once
			keys = mustRekey(t, one, RekeyParams{Shares: 3, Threshold: 2, Verify: true}, keys[:2])
		}
		keys = mustRekey(t, one, RekeyParams{Shares: 3, Threshold: 2}, keys[:2])
		if round == 0 {
			if err := one.Rotate(ctx); err != nil {
				t.Fatal(err)
			}
			two.tend(ctx) // a database tells of nothing: it looks itself
		} else if err := two.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		if got := two.first(t); got != "content" {
			t.Errorf("read %q", got)
		}
		two.lead(t, one)
		if !reflect.DeepEqual(rootOf(one), rootOf(two)) {
			t.Fatal("the standby has another root key")
		}
		grants(t, two, keys[1:])
		if err := two.Rotate(ctx); err != nil {
			t.Error(err)
		}
		inv, err := two.Invite()
		if err != nil {
			t.Fatal(err)
		}
		proof, err := Applicant{rootOf(one)}.Prove(inv.Nonce, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := two.Admit(inv.Nonce, proof, nil); err != nil {
			t.Error(err)
		}
		one.lead(t, two)
	}
	if !opens(t, shared{b}, keys[:2]) || opens(t, shared{b}, first[:2]) {
		t.Error("the wrong shares open")
	}
}

// A handover is gone after an hour of whoever is the active node, by its own clock: a node that comes later does not get the new root key.
func TestHandoverEnds(t *testing.T) {
	t.Parallel()
	for _, wrong := range []time.Duration{0, 30 * 24 * time.Hour, -30 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) { handoverEnds(t, wrong) })
	}
}

// handoverEnds has the node that makes the handover have a wrong clock.
func handoverEnds(t *testing.T, wrong time.Duration) {
	ctx, b := t.Context(), newStore(t)
	one, two, keys := openTwo(t, b, 1, 1)
	next := newNode(t, shared{b})
	next.standby = true
	unsealWith(t, next, keys...)
	fresh := mustRekey(t, one, RekeyParams{Shares: 1, Threshold: 1}, keys)
	err := one.raw.Update(ctx, func(tx storage.Tx) error {
		list, err := readHandovers(tx)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		list[0].At = list[0].At.Add(wrong)
		return list.put(tx)
	})
	if err != nil {
		t.Fatal(err)
	}
	is := func(n *node, want bool) {
		t.Helper()
		n.upkeep(ctx)
		if _, err := b.Get(ctx, handoverKey); (err == nil) != want {
			t.Errorf("the handover: %v", err)
		}
	}
	is(one, true)
	time.Sleep(handoverTime - time.Second)
	is(one, true)
	next.lead(t, one)
	next.ages = ages{} // it has not looked before
	is(next, true)
	time.Sleep(handoverTime - time.Second)
	is(next, true)
	time.Sleep(time.Second)
	is(next, false)
	before := rootOf(two)
	if err := two.Refresh(ctx); !errs.Is(err, errs.Failed) || !reflect.DeepEqual(rootOf(two), before) {
		t.Errorf("%v", err)
	}
	two.Seal()
	unsealWith(t, two, fresh...)
	two.first(t)
}

// Old shares and what was stored of the seal do not give what a handover tells; those who have the keyring and the root key
// before do get it.
func TestHandoverNeedsBoth(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	n, keys := openNode(t, newStore(t), 1, 1)
	before, u := rootOf(n), n.state.Load().open
	mustRekey(t, n, RekeyParams{Shares: 1, Threshold: 1}, keys)
	other, err := barrier.NewKeyring(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	err = n.raw.View(ctx, func(tx storage.Tx) error {
		list, err := readHandovers(tx)
		if err != nil {
			return err
		}
		if next, err := u.handedOver(list, before); err != nil || !reflect.DeepEqual(next, rootOf(n)) {
			t.Errorf("to a node that has both: %v", err)
		}
		if next, err := u.handedOver(list, barrier.NewKey()); err != nil || next != nil {
			t.Errorf("without the root key: %v", err)
		}
		if next, err := (&unsealed{ring: other}).handedOver(list, before); err != nil || next != nil {
			t.Errorf("without the keyring: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The backup of a rekey can be read after it, and after the next one, verified or not.
func TestBackupStaysReadable(t *testing.T) {
	t.Parallel()
	for _, verify := range []bool{false, true} {
		alice := newHolder(t, "alice")
		n, old := openNode(t, newStore(t), 1, 1)
		p := RekeyParams{Shares: 1, Threshold: 1, PGPKeys: []string{alice.public}, Backup: true, Verify: verify}
		res, err := rekeyWith(n, p, old)
		if err != nil {
			t.Fatal(err)
		}
		fresh := []barrier.Key{alice.share(t, res.Shares[0])}
		read := func() {
			t.Helper()
			if b, err := n.RekeyBackup(t.Context()); err != nil || b.Nonce != res.Nonce {
				t.Errorf("%+v, %v", b, err)
			}
		}
		read()
		if verify {
			if done, err := n.VerifyRekey(t.Context(), clone(fresh[0]), res.VerificationNonce); !done || err != nil {
				t.Fatal(done, err)
			}
			read()
		}
		mustRekey(t, n, RekeyParams{Shares: 1, Threshold: 1}, fresh)
		read()
	}
}

// A rekey that is half done: releases that would lose the root key before do not open the store, another node ends it, and
// so does a start with the new shares.
func TestHalfRekeyOfRootKey(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"this node", "a standby with the new shares", "a start"} {
		ctx, b := t.Context(), newStore(t)
		failing := storagetest.NewFailing(b)
		one, two, old := openTwo(t, failing, 1, 1)
		before := rootOf(one)
		failing.FailNth(2, storagetest.Before)
		res, err := rekeyWith(one, RekeyParams{Shares: 1, Threshold: 1}, old)
		if err != nil || res.Warning == "" {
			t.Fatal(res, err)
		}
		if c := stored(t, one); c.Version != wrapVersion+renewing || c.Next.Prior == nil || !c.hasWrap() {
			t.Errorf("stored: %+v", c)
		}
		if err := one.Rotate(ctx); err != nil || !reflect.DeepEqual(rootOf(one), before) {
			t.Errorf("%v", err)
		}
		grants(t, one, old)
		switch by {
		case "this node":
			grants(t, one, res.Shares)
			one.tend(ctx)
			if err := two.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
			two.lead(t, one)
		case "a standby with the new shares":
			two.Seal()
			unsealWith(t, two, res.Shares...)
			two.lead(t, one)
			two.tend(ctx)
			if err := one.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
		default:
			two.Seal()
			two.cfg.Shared, two.standby = false, false
			unsealWith(t, two, res.Shares...)
		}
		if c := stored(t, two); c.Version != wrapVersion || c.Next != nil || c.Prior != nil {
			t.Errorf("by %s: stored: %+v", by, c)
		}
		if reflect.DeepEqual(rootOf(two), before) {
			t.Errorf("by %s: the root key is the one before", by)
		}
		grants(t, two, res.Shares)
		if !opens(t, shared{b}, res.Shares) || opens(t, shared{b}, old) {
			t.Errorf("by %s: the wrong shares open", by)
		}
	}
}

// A migration comes into a rekey that is half done: the seals keep the root key before, to which the new shares lead then, until
// they are replaced.
func TestMigrationInHalfRekey(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	failing := storagetest.NewFailing(newStore(t))
	n := newNode(t, shared{failing})
	old := mustInit(t, n, 1, 1).Shares
	unsealWith(t, n, old...)
	failing.FailNth(2, storagetest.Before)
	res, err := rekeyWith(n, RekeyParams{Shares: 1, Threshold: 1}, old)
	if err != nil || res.Warning == "" {
		t.Fatal(res, err)
	}
	k := newSealed(3)
	n = configured(t, n, named("a", k))
	give(t, n, old[0], UnsealFor{Migrate: true})
	root := rootOf(n)
	n.putWrapped(t, "a", "v")
	grants(t, n, res.Shares) // they are in use
	n.tend(ctx)
	c := stored(t, n)
	if c.Next != nil || c.Prior == nil || c.Version != wrapVersion+renewing || !c.auto() {
		t.Errorf("stored: %+v", c)
	}
	n = mustOpen(t, configured(t, n, named("a", k)))
	if !reflect.DeepEqual(rootOf(n), root) {
		t.Error("the seal gives another root key")
	}
	grants(t, n, res.Shares)
	n = configured(t, n, named("a", k))
	if _, err := n.UnsealFor(ctx, clone(old[0]), UnsealFor{Recovery: true}); !errs.Is(err, errs.Invalid) {
		t.Errorf("by the shares before: %v", err)
	}
	give(t, n, res.Shares[0], UnsealFor{Recovery: true})
	n.reads(t, "a")
	fresh := mustRekey(t, n, RekeyParams{Shares: 1, Threshold: 1}, res.Shares)
	if c := stored(t, n); c.Prior != nil || c.Version != wrapVersion {
		t.Errorf("stored: %+v", c)
	}
	// And back: the shares are unseal keys, whose rekey makes a root key.
	n = configured(t, n)
	give(t, n, fresh[0], UnsealFor{Migrate: true})
	last := mustRekey(t, n, RekeyParams{Shares: 1, Threshold: 1}, fresh)
	if reflect.DeepEqual(rootOf(n), root) {
		t.Error("the root key is the one before")
	}
	n.reads(t, "a")
	n = configured(t, n)
	unsealWith(t, n, last...)
	n.reads(t, "a")
}

// The seal-wrap key of a store of an older release lies under the root key: it does under the new one, where this node does
// not know it, too.
func TestRekeyWithWrapUnderRoot(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	n, k := newNode(t, shared{newStore(t)}), newSealed(1)
	n = configured(t, n, named("a", k))
	share := mustInit(t, n, 1, 1).Shares
	aged(t, n, share[0], k)
	mustOpen(t, n)
	if err := n.WantWrap(ctx); err != nil {
		t.Fatal(err)
	}
	n.putWrapped(t, "a", "v")
	n = configured(t, n) // back to Shamir's
	give(t, n, share[0], UnsealFor{Migrate: true})
	n.reads(t, "a")
	if c := stored(t, n); c.SealWrap == nil {
		t.Fatalf("stored: %+v", c)
	}
	u := n.state.Load().open
	r := u.renew()
	next, err := u.shared(RekeyParams{Shares: 1, Threshold: 1}, barrier.NewKey(), r)
	if err != nil {
		t.Fatal(err)
	}
	next.Both = false // as of a node that does not know the seal-wrap key
	c, err := u.config.beside(next).promoted(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := barrier.Unwrap(r.to, wrapLabel, c.SealWrap); err != nil {
		t.Errorf("under the new root key: %v", err)
	}
	fresh := mustRekey(t, n, RekeyParams{Shares: 1, Threshold: 1}, share)
	if c := stored(t, n); c.SealWrap != nil || !c.Both {
		t.Errorf("stored: %+v", c)
	}
	n = configured(t, n)
	unsealWith(t, n, fresh...)
	n.reads(t, "a")
}

// A commit of which the node did not hear: it takes up the root key that is stored, and goes on.
func TestRekeyUnheard(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	one, two, old := openTwo(t, newStore(t), 1, 1)
	u := one.state.Load().open
	two.lead(t, one)
	fresh := mustRekey(t, two, RekeyParams{Shares: 1, Threshold: 1}, old)
	one.standby = false
	if err := one.changeRing(ctx, u, u.ring.Same); err != nil {
		t.Errorf("a write to the keyring: %v", err)
	}
	if !reflect.DeepEqual(rootOf(one), rootOf(two)) {
		t.Error("the root key was not taken up")
	}
	one.takeStored(ctx, u)
	grants(t, one, fresh)
}

// While a rekey replaces the keys, a node is given the old shares.
func TestUnsealAmidRekey(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	one, two, old := openTwo(t, newStore(t), 1, 1)
	two.Seal()
	c, err := two.readConfig(ctx)
	if err != nil {
		t.Fatal(err)
	}
	found, err := (&round{parts: old}).find(c)
	if err != nil {
		t.Fatal(err)
	}
	fresh := mustRekey(t, one, RekeyParams{Shares: 1, Threshold: 1}, old)
	if err := two.open(ctx, c, found.whole, opening{}); !errors.Is(err, errReplaced) || !two.Sealed() {
		t.Errorf("%v", err)
	}
	unsealWith(t, two, fresh...)
}

// Rekeys, and nodes that join and take over meanwhile: no race, and no proof but by the root key.
func TestConcurrentRekey(t *testing.T) {
	t.Parallel()
	one, two, keys := openTwo(t, newStore(t), 1, 1)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		nothing := make(barrier.Key, barrier.KeyBytes)
		for ctx.Err() == nil {
			inv, err := one.Invite()
			if err != nil {
				t.Error(err)
				return
			}
			proof, err := Applicant{nothing}.Prove(inv.Nonce, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := one.Admit(inv.Nonce, proof, nil); !errs.Is(err, errs.Denied) {
				t.Errorf("a proof by zeros: %v", err)
			}
			if err := two.Refresh(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	}()
	for range 5 {
		keys = mustRekey(t, one, RekeyParams{Shares: 1, Threshold: 1}, keys)
	}
	stop()
	<-ended
	two.lead(t, one)
	grants(t, two, keys)
}

// copyKeys brings what a store has of the keys into another one, as a raft log does for a node that has joined.
func copyKeys(t *testing.T, from, to *node) {
	t.Helper()
	for _, key := range []string{configKey, barrier.RecordKey, handoverKey} {
		value, err := from.backend.Get(t.Context(), key)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := to.raw.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(key, value) }); err != nil {
			t.Fatal(err)
		}
	}
}

// A node that joins after a rekey is sent the store of before it first: that is no end of its keys, unless the store has come or the node leads.
func TestStoreOfBeforeArrives(t *testing.T) {
	t.Parallel()
	for _, leads := range []bool{false, true} {
		ctx := t.Context()
		n, old := openNode(t, newStore(t), 1, 1)
		before := newNode(t, newStore(t))
		copyKeys(t, n, before)
		fresh := mustRekey(t, n, RekeyParams{Shares: 1, Threshold: 1}, old)
		late := newNode(t, shared{newStore(t)})
		late.standby = true
		if err := late.Join(ctx, Inviter{
			Look: func(context.Context) ([]byte, error) { inv, err := n.Invite(); return inv.Config, err },
			Join: func(context.Context, Applicant) ([]byte, error) { return n.Record() },
		}); err != nil {
			t.Fatal(err)
		}
		unsealWith(t, late, fresh...)
		copyKeys(t, before, late)
		if err := errors.Join(late.Refresh(ctx), late.Reload(ctx)); err != nil {
			t.Fatalf("the store of before: %v", err)
		}
		if leads {
			if err := late.Arrived(ctx); err == nil {
				t.Error("it may lead with a store of before")
			}
			continue
		}
		copyKeys(t, n, late)
		if err := errors.Join(late.Refresh(ctx), late.Reload(ctx)); err != nil {
			t.Fatalf("the store of now: %v", err)
		}
		copyKeys(t, before, late)
		if err := late.Refresh(ctx); err == nil {
			t.Error("the store goes back, and the node does not notice")
		}
	}
}

// A rekey, or the making of a root token, that shares have authorised which another node has replaced since is over.
func TestCeremonyOverAfterRekey(t *testing.T) {
	t.Parallel()
	a, b, old := openTwo(t, newStore(t), 2, 2)
	res, err := rekeyWith(a, RekeyParams{Shares: 1, Threshold: 1, Verify: true}, old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.StartRoot(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	b.lead(t, a)
	mustRekey(t, b, RekeyParams{Shares: 1, Threshold: 1}, old)
	a.lead(t, b)
	if _, err := a.VerifyRekey(t.Context(), clone(res.Shares[0]), res.VerificationNonce); !errs.Is(err, errs.Invalid) {
		t.Errorf("verified: %v", err)
	}
	if st, err := a.RekeyStatus(); err != nil || st.Started {
		t.Errorf("the rekey is %+v, %v", st, err)
	}
	if st, err := a.RootStatus(); err != nil || st.Started {
		t.Errorf("the root token's making is %+v, %v", st, err)
	}
}
