package seal

import (
	"testing"

	"arca/internal/barrier"
	"arca/internal/storage/storagetest"
)

// What a standby knows of one rekey says nothing of a later one: shares of that which were
// told to nobody do not take the place of those that people have.
func TestSettlesOnlyWhatWasTold(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := newStore(t)
	failing := storagetest.NewFailing(b)
	leader, standby := newNode(t, shared{failing}), newNode(t, shared{failing})
	leader.cfg.Shared, standby.cfg.Shared, standby.standby = true, true, true
	first := mustInit(t, leader, 1, 1).Shares
	unsealWith(t, leader, first[0])
	failing.FailNth(2, storagetest.Before) // the write that ends the rekey: the shares are told all the same
	done, err := rekeyWith(leader, RekeyParams{Shares: 1, Threshold: 1}, first)
	if err != nil || done.Warning == "" {
		t.Fatal(done, err)
	}
	told := done.Shares
	unsealWith(t, standby, told[0])
	if !standby.state.Load().open.settles() {
		t.Error("the standby does not know that the shares it was given are in use")
	}
	leader.tend(ctx)
	reload := func() {
		t.Helper()
		if err := standby.Reload(ctx); err != nil {
			t.Fatal(err)
		}
	}
	reload()
	if standby.state.Load().open.settle != (digest{}) {
		t.Error("what was settled is remembered")
	}
	// Much later a rekey is cut off after its first write: nobody is told its shares.
	u := leader.state.Load().open
	kek, shares, err := newShares(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	wipeAll(shares)
	wrapped, err := barrier.Wrap(kek, rootLabel, u.root.get())
	if err != nil {
		t.Fatal(err)
	}
	both := *u.config
	both.Next = &sharing{Shares: 1, Threshold: 1, Root: wrapped}
	if err := leader.replaceConfig(ctx, u.config, &both); err != nil {
		t.Fatal(err)
	}
	reload()
	standby.standby = false
	standby.tend(ctx)
	if !opens(t, b, told) {
		t.Error("the only shares that anybody has do not open the store any more")
	}
}

// A standby that missed the end of the one rekey, and sees the next at once.
func TestSettleOfAnother(t *testing.T) {
	t.Parallel()
	one, other := &sharing{Root: []byte("one")}, &sharing{Root: []byte("other")}
	u := &unsealed{config: &config{Next: one}, settle: one.digest()}
	if !u.settles() {
		t.Error("not what was told")
	}
	if u.take(&config{Next: other}); u.settles() || u.settle != (digest{}) {
		t.Error("another takes its place")
	}
	if u.take(&config{Next: one}); u.settles() {
		t.Error("it is told of again")
	}
}
