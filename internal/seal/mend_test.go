package seal

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// named is a seal of the type "transit".
func named(name string, k *kms) Wrapper { return Wrapper{Type: "transit", Name: name, Sealer: k} }

// newSealed is a stand-in KMS that knows its own ciphertexts, as real ones do.
func newSealed(key byte) *kms { return &kms{key: key, checks: true} }

// shared is a backend that several nodes write, one after another.
type shared struct{ storage.Backend }

func (s shared) Snapshot(context.Context) (storage.Snapshot, error) { return latest{s.Backend}, nil }

type latest struct{ storage.Reader }

func (latest) Close() error { return nil }

func disabled(w Wrapper) Wrapper {
	w.Disabled = true
	return w
}

func whole(t *testing.T, n *node) bool {
	t.Helper()
	st, err := n.Backends(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st.FullyWrapped
}

// A second seal of the same type gets the root key, under its own key: what the first
// made is not passed off as its own.
func TestSecondOfOneType(t *testing.T) {
	t.Parallel()
	ka, kb := newSealed(1), newSealed(2)
	n := configured(t, newNode(t, newStore(t)), named("transit", ka))
	mustInit(t, n, 1, 1)
	for _, both := range [][]Wrapper{{named("transit", ka), named("second", kb)}, {named("second", kb), named("first", ka)}} {
		n = configured(t, n, both...)
		if err := n.OpenByItself(t.Context()); err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(both, func(w Wrapper) bool { return w.Name == "transit" }) && whole(t, n) {
			t.Error("said to be under both before it is")
		}
		n.tend(t.Context())
		if !whole(t, n) {
			t.Error("not under both")
		}
		for _, w := range both { // each opens it alone
			one := configured(t, newNode(t, n.backend), w)
			if err := one.OpenByItself(t.Context()); err != nil || one.first(t) != "content" {
				t.Errorf("by %s alone: %v", w.Name, err)
			}
		}
	}
}

// A seal that is replaced by another of its type is a migration; one that only got
// another name is not.
func TestReplacedOfOneType(t *testing.T) {
	t.Parallel()
	ka, kb := newSealed(1), newSealed(2)
	n := configured(t, newNode(t, newStore(t)), named("transit", ka))
	shares := mustInit(t, n, 1, 1).Shares
	n = configured(t, n, named("old", ka)) // a new name
	if st, _ := n.Status(t.Context()); st.Migration {
		t.Error("another name asks for a migration")
	}
	ka.set(func() { ka.down = true })
	if err := n.OpenByItself(t.Context()); err == nil || errors.Is(err, ErrNeedsShares) {
		t.Errorf("while it is down: %v", err)
	}
	if st, _ := n.Status(t.Context()); st.Migration {
		t.Error("an outage asks for a migration")
	}
	ka.set(func() { ka.down = false })
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.tend(t.Context())
	if c, _ := n.config(t.Context()); c.names() != "old" {
		t.Errorf("under %s", c.names())
	}
	n = configured(t, n, disabled(named("old", ka)), named("new", kb))
	if st, _ := n.Status(t.Context()); !st.Migration || whole(t, n) {
		t.Errorf("no migration is asked for: %+v", st)
	}
	if err := n.OpenByItself(t.Context()); !errors.Is(err, ErrNeedsShares) {
		t.Errorf("opened by itself: %v", err)
	}
	if st, err := n.Unseal(t.Context(), clone(shares[0]), true); err != nil || st.Sealed || st.Migration || !whole(t, n) {
		t.Fatalf("%+v, %v", st, err)
	}
	n = configured(t, n, named("new", kb))
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	// One of two is left at once, and the other disabled: what is new may be the one under
	// another name, and is not when it was asked.
	kc := newSealed(3)
	n = configured(t, n, named("new", kb), named("more", kc))
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.tend(t.Context())
	other := configured(t, newNode(t, n.backend), disabled(named("more", kc)), named("else", newSealed(4)))
	if err := other.OpenByItself(t.Context()); err == nil {
		t.Error("a disabled seal opens where a migration is asked for")
	}
	if st, _ := other.Status(t.Context()); !st.Migration {
		t.Error("no migration is asked for")
	}
	n = configured(t, n, named("new", kb))
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.tend(t.Context())
	// The stanza with another name and another key: known to be another when it was asked.
	n = configured(t, n, named("newest", ka))
	if err := n.OpenByItself(t.Context()); err == nil {
		t.Fatal("opened by another key")
	}
	if st, _ := n.Status(t.Context()); !st.Migration || whole(t, n) {
		t.Errorf("no migration is asked for: %+v", st)
	}
	if st, err := n.UnsealFor(t.Context(), clone(shares[0]), UnsealFor{Recovery: true}); err != nil || st.Sealed {
		t.Fatal(err)
	}
	n.tend(t.Context())
	n = configured(t, n, named("newest", ka))
	if err := n.OpenByItself(t.Context()); err != nil || n.first(t) != "content" {
		t.Errorf("after recovery with a new seal: %v", err)
	}
}

// Two seals that exchange their keys still open the store, and are mended.
func TestExchangedKeys(t *testing.T) {
	t.Parallel()
	ka, kb := newSealed(1), newSealed(2)
	n := configured(t, newNode(t, newStore(t)), named("a", ka), named("b", kb))
	mustInit(t, n, 1, 1)
	n = configured(t, n, named("a", kb), named("b", ka))
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.tend(t.Context())
	for _, w := range []Wrapper{named("a", kb), named("b", ka)} {
		one := configured(t, newNode(t, n.backend), w)
		if err := one.OpenByItself(t.Context()); err != nil {
			t.Errorf("by %s alone: %v", w.Name, err)
		}
	}
}

// An outage changes nothing of what is stored, neither the order of the seals nor the type
// of the store's: a migration that is pending compares the names.
func TestOutageKeepsOrder(t *testing.T) {
	t.Parallel()
	ka, kb := newSealed(1), newSealed(2)
	n := configured(t, newNode(t, newStore(t)), auto("awskms", ka), auto("transit", kb))
	mustInit(t, n, 1, 1)
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.tend(t.Context())
	before, _ := n.config(t.Context())
	ka.set(func() { ka.down = true })
	n.ill = illnesses{}
	n.tend(t.Context())
	if after, _ := n.config(t.Context()); after != before {
		t.Errorf("%s %s is now %s %s", before.Type, before.names(), after.Type, after.names())
	}
	if st, _ := n.Backends(t.Context()); st.Healthy {
		t.Error("well")
	}
	turned := *before
	turned.Type, turned.Wrapped = "transit", []wrapping{before.Wrapped[1], before.Wrapped[0]}
	if turned.seals() != before.seals() {
		t.Errorf("%q is not %q", turned.seals(), before.seals())
	}
}

// A KMS key that was lost and replaced: the store is opened by its recovery keys, the
// root key goes under the new key, and until then the seal is not said to be well.
func TestLostKey(t *testing.T) {
	t.Parallel()
	lost := newSealed(1)
	n := configured(t, newNode(t, newStore(t)), named("transit", lost))
	shares := mustInit(t, n, 1, 1).Shares
	other := newSealed(2)
	n = configured(t, n, named("transit", other))
	if err := n.OpenByItself(t.Context()); err == nil {
		t.Fatal("opened by another key")
	}
	n.standby = true
	if st, err := n.UnsealFor(t.Context(), clone(shares[0]), UnsealFor{Recovery: true}); err != nil || st.Sealed {
		t.Fatal(err)
	}
	n.tend(t.Context())
	if st, _ := n.Backends(t.Context()); st.Healthy {
		t.Error("a standby whose seal does not give the root key is well")
	}
	n.standby = false
	n.tend(t.Context())
	if st, _ := n.Backends(t.Context()); !st.Healthy || !st.FullyWrapped {
		t.Errorf("%+v", st)
	}
	n = configured(t, n, named("transit", other))
	if err := n.OpenByItself(t.Context()); err != nil || n.first(t) != "content" {
		t.Errorf("not encrypted anew: %v", err)
	}
	// Found out while the node is open, too.
	third := newSealed(3)
	n.cfg.Wrappers = []Wrapper{named("transit", third)}
	n.ill = illnesses{}
	n.tend(t.Context())
	n = configured(t, n, named("transit", third))
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Errorf("not encrypted anew: %v", err)
	}
	// An outage changes nothing, and neither does a liar.
	third.set(func() { third.down = true })
	n.ill = illnesses{}
	before, _ := n.config(t.Context())
	n.tend(t.Context())
	third.set(func() { third.down, third.lying = false, true })
	n.tend(t.Context())
	if after, _ := n.config(t.Context()); after != before {
		t.Error("what is stored was replaced")
	}
	if st, _ := n.Backends(t.Context()); st.Healthy {
		t.Error("a liar is well")
	}
}

// The first look at the seals does not wait for the clock.
func TestMendsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, two := newSealed(1), newSealed(2)
		n := configured(t, newNode(t, newStore(t)), named("one", one))
		mustInit(t, n, 1, 1)
		n = configured(t, n, named("one", one), named("two", two))
		opened := n.cfg.Opened
		n.cfg.Opened = func(ctx context.Context, ring *barrier.Keyring, c Cluster) error {
			go n.Run(t.Context()) // as the core does
			go n.Watch(t.Context())
			time.Sleep(time.Second)
			return opened(ctx, ring, c)
		}
		if err := n.OpenByItself(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !whole(t, n) {
			t.Error("not mended")
		}
	})
}

// A standby that shares ended the migration for has it pending, does it when it leads,
// and keeps it from nodes of the old configuration.
func TestMigrationPending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, migrationPending)
}

func migrationPending(t *testing.T) {
	ka, kb := newSealed(1), newSealed(2)
	b := shared{newStore(t)}
	shares := mustInit(t, newNode(t, b), 1, 1).Shares
	start := func(wrappers ...Wrapper) *node {
		n := configured(t, newNode(t, b), wrappers...)
		n.cfg.Shared, n.standby = true, true
		return n
	}
	open := func(n *node, f UnsealFor) {
		t.Helper()
		if st, err := n.UnsealFor(t.Context(), clone(shares[0]), f); err != nil || st.Sealed {
			t.Fatalf("%+v, %v", st, err)
		}
	}
	old := start()
	open(old, UnsealFor{})
	for _, step := range []struct {
		wrappers []Wrapper
		typ      string
	}{
		{[]Wrapper{named("a", ka)}, "transit"},
		{[]Wrapper{disabled(named("a", ka)), named("b", kb)}, "transit"},
		{[]Wrapper{disabled(named("b", kb))}, typeShamir},
	} {
		// It can be opened by nothing but shares with the word, and a seal that is down is found at once.
		next := start(step.wrappers...)
		if err := next.OpenByItself(t.Context()); !errors.Is(err, ErrNeedsShares) {
			t.Fatalf("opens by itself: %v", err)
		}
		if last := step.wrappers[len(step.wrappers)-1]; !last.Disabled {
			k := last.Sealer.(*kms)
			k.set(func() { k.down = true })
			if _, err := next.Unseal(t.Context(), clone(shares[0]), true); !errs.Is(err, errs.Unavailable) {
				t.Errorf("to a seal that is down: %v", err)
			}
			k.set(func() { k.down = false })
		}
		open(next, UnsealFor{Migrate: true})
		before, _ := next.readStored(t.Context())
		next.tend(t.Context())
		if after, _ := next.readStored(t.Context()); after.wrappings() != before.wrappings() {
			t.Fatal("a standby has written")
		}
		next.standby = false
		next.tend(t.Context())
		st, _ := next.Status(t.Context())
		if st.Migration || st.Type != step.typ || !whole(t, next) || next.state.Load().open.crossing != nil {
			t.Fatalf("%+v", st)
		}
		next.standby = true
		// The node of the old configuration takes it over, and leaves it when it leads again.
		if err := old.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		old.standby = false
		old.tend(t.Context())
		old.standby = true
		if after, _ := old.readStored(t.Context()); after.Type != step.typ || after.seals() != next.state.Load().open.config.seals() {
			t.Fatalf("undone: %s", after.seals())
		}
		again := start(step.wrappers...)
		if step.typ == typeShamir {
			open(again, UnsealFor{})
		} else if err := again.OpenByItself(t.Context()); err != nil {
			t.Fatal(err)
		}
		if again.first(t) != "content" {
			t.Error("the content is gone")
		}
		old = again
	}
}

// A node whose knowledge is old does not undo what another has stored.
func TestStaleSeals(t *testing.T) {
	t.Parallel()
	ka, kb := newSealed(1), newSealed(2)
	b := shared{newStore(t)}
	one := configured(t, newNode(t, b), named("a", ka))
	mustInit(t, one, 1, 1)
	if err := one.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	two := configured(t, newNode(t, b), named("a", ka), named("b", kb))
	if err := two.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	two.tend(t.Context())
	one.cfg.Wrappers = []Wrapper{named("c", ka)}
	one.tend(t.Context())
	if c, _ := one.readStored(t.Context()); c.names() != "a, b" {
		t.Errorf("under %s", c.names())
	}
}

// S3-33: a rekey whose second write fails says so, both sets of shares authorise, and
// the end comes by itself.
func TestRekeyEndsByItself(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ oldT, newT int }{{2, 3}, {3, 2}, {2, 2}} {
		for _, by := range []string{"time", "use", "rekey"} {
			b := newStore(t)
			failing := storagetest.NewFailing(b)
			n, old := openNode(t, failing, 3, c.oldT)
			failing.FailNth(2, storagetest.Before)
			res, err := rekeyWith(n, RekeyParams{Shares: 3, Threshold: c.newT}, old[:c.oldT])
			if err != nil || res.Warning == "" {
				t.Fatalf("%+v, %v", res, err)
			}
			switch by {
			case "use":
				grants(t, n, old[:c.oldT])
				grants(t, n, res.Shares[:c.newT])
				n.tend(t.Context())
			case "rekey":
				if res, err = rekeyWith(n, RekeyParams{Shares: 3, Threshold: c.newT}, res.Shares[:c.newT]); err != nil || res.Warning != "" {
					t.Fatalf("%+v, %v", res, err)
				}
			default:
				n.tend(t.Context())
			}
			if !opens(t, b, res.Shares[:c.newT]) || opens(t, b, old[:c.oldT]) {
				t.Errorf("%+v by %s: the wrong shares open", c, by)
			}
			grants(t, n, res.Shares[:c.newT])
		}
	}
}

// grants has shares authorise a root token.
func grants(t *testing.T, n *node, shares []barrier.Key) {
	t.Helper()
	st, err := n.StartRoot(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range shares {
		if st, err = n.UpdateRoot(t.Context(), clone(s), st.Nonce); err != nil {
			t.Fatal(err)
		}
	}
	if !st.Complete {
		t.Errorf("%d shares do not suffice: %+v", len(shares), st)
	}
}

// A keeper is a Sealer whose token needs care.
type keeper struct {
	kms
	tell atomic.Pointer[func(error)]
}

func (k *keeper) Keep(ctx context.Context, tell func(error)) {
	k.tell.Store(&tell)
	<-ctx.Done()
}

// That a seal's token cannot be kept is an illness, whatever else the seal does.
func TestKeep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		n := configured(t, newNode(t, newStore(t)), Wrapper{Type: "transit", Name: "transit", Sealer: k})
		mustInit(t, n, 1, 1)
		if err := n.OpenByItself(t.Context()); err != nil {
			t.Fatal(err)
		}
		go n.Keep(t.Context())
		synctest.Wait()
		(*k.tell.Load())(errDown)
		n.ill.due("transit", nil)
		n.tend(t.Context())
		if st, _ := n.Backends(t.Context()); st.Healthy || n.Health()["transit"] {
			t.Error("well")
		}
		(*k.tell.Load())(nil)
		if st, _ := n.Backends(t.Context()); !st.Healthy {
			t.Error("ill")
		}
	})
}
