package seal

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
)

// A kms is a Sealer that fails as a test wants.
type kms struct {
	key     byte
	down    bool
	lying   bool
	hanging bool
	checks  bool // ciphertexts of other keys are refused
	asked   int
	mu      sync.Mutex
}

func (k *kms) set(fn func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fn()
}

var errDown = errors.New("connection refused")

func (k *kms) ask(ctx context.Context, in []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	if k.hanging {
		k.mu.Unlock()
		<-ctx.Done()
		k.mu.Lock()
		return nil, ctx.Err()
	}
	if k.down {
		return nil, errDown
	}
	out := slices.Clone(in)
	for i := range out {
		out[i] ^= k.key
	}
	return out, nil
}

func (k *kms) Encrypt(ctx context.Context, plain []byte) ([]byte, error) {
	out, err := k.ask(ctx, plain)
	if err == nil && k.checks {
		out = append(out, k.key)
	}
	return out, err
}

func (k *kms) Decrypt(ctx context.Context, sealed []byte) ([]byte, error) {
	if k.checks {
		if sealed[len(sealed)-1] != k.key {
			if _, err := k.ask(ctx, sealed); err != nil {
				return nil, err
			}
			return nil, errors.New("message authentication failed")
		}
		sealed = sealed[:len(sealed)-1]
	}
	out, err := k.ask(ctx, sealed)
	if err == nil && k.lying {
		out[0] ^= 1
	}
	return out, err
}

// configured is the node n started anew with these seals.
func configured(t *testing.T, n *node, wrappers ...Wrapper) *node {
	t.Helper()
	if n.Manager.state.Load().open != nil {
		n.Seal()
	}
	next := newNode(t, n.backend)
	next.cfg.Wrappers = wrappers
	return next
}

func auto(name string, k *kms) Wrapper { return Wrapper{Type: name, Name: name, Sealer: k} }

// S3-30, S3-31, S3-33: no shares are needed, at init and at every later start; the
// shares that are given are recovery keys.
func TestAutoUnseal(t *testing.T) {
	t.Parallel()
	k := &kms{key: 7}
	n := configured(t, newNode(t, newStore(t)), auto("awskms", k))
	if st, err := n.Status(t.Context()); err != nil || st.Type != "awskms" || !st.RecoverySeal || st.Initialized {
		t.Fatalf("before init: %+v, %v", st, err)
	}
	res := mustInit(t, n, 5, 3)
	if len(res.Shares) != 5 {
		t.Fatalf("%d recovery keys", len(res.Shares))
	}
	if err := n.OpenByItself(t.Context()); err != nil || n.first(t) != "content" {
		t.Fatal(err)
	}
	st, err := n.Status(t.Context())
	if err != nil || st.Sealed || st.Type != "awskms" || !st.RecoverySeal || st.RecoveryType != "shamir" || st.T != 3 || st.N != 5 || st.Migration {
		t.Errorf("status: %+v, %v", st, err)
	}
	n = configured(t, n, auto("awskms", k))
	if err := n.OpenByItself(t.Context()); err != nil || n.first(t) != "content" {
		t.Fatal(err)
	}
	// A root token is authorised by recovery keys.
	root, err := n.StartRoot(t.Context(), "", "")
	if err != nil || root.Required != 3 {
		t.Fatalf("%+v, %v", root, err)
	}
	for i, s := range res.Shares[1:4] {
		if root, err = n.UpdateRoot(t.Context(), clone(s), root.Nonce); err != nil || root.Complete != (i == 2) {
			t.Fatalf("%+v, %v", root, err)
		}
	}
	// A share as such is refused: it does not open what opens by itself.
	n = configured(t, n, auto("awskms", k))
	if _, err := n.Unseal(t.Context(), clone(res.Shares[0]), false); !errors.Is(err, errItself) {
		t.Errorf("a share: %v", err)
	}
	if _, err := n.Unseal(t.Context(), clone(res.Shares[0]), true); err == nil {
		t.Error("a migration to the same seal")
	}
}

// Recovery keys really recover: the KMS is gone, and its stanza may be, too.
func TestRecovery(t *testing.T) {
	t.Parallel()
	k := &kms{key: 7}
	n := configured(t, newNode(t, newStore(t)), auto("awskms", k))
	res := mustInit(t, n, 3, 2)
	k.down = true
	for _, wrappers := range [][]Wrapper{{auto("awskms", k)}, nil} {
		n = configured(t, n, wrappers...)
		if err := n.OpenByItself(t.Context()); err == nil {
			t.Fatal("opened without its seal")
		}
		if _, err := n.UnsealFor(t.Context(), clone(res.Shares[0]), UnsealFor{Recovery: true}); err != nil {
			t.Fatal(err)
		}
		st, err := n.UnsealFor(t.Context(), clone(res.Shares[2]), UnsealFor{Recovery: true})
		if err != nil || st.Sealed || n.first(t) != "content" {
			t.Fatalf("%+v, %v", st, err)
		}
	}
	// The seal is well again: nothing has been lost meanwhile.
	k.down = false
	n = configured(t, n, auto("awskms", k))
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	wrong := newNode(t, newStore(t))
	shares := mustInit(t, wrong, 3, 2).Shares
	if _, err := wrong.UnsealFor(t.Context(), clone(shares[0]), UnsealFor{Recovery: true}); !errors.Is(err, errNoShares) {
		t.Errorf("recovery of a Shamir seal: %v", err)
	}
	n = configured(t, n, auto("awskms", k))
	for i, s := range shares[:2] {
		_, err := n.UnsealFor(t.Context(), clone(s), UnsealFor{Recovery: true})
		if (err == nil) != (i == 0) || !n.Sealed() {
			t.Errorf("another's shares: %v", err)
		}
	}
}

// A seal that fails or lies at init leaves nothing behind.
func TestAutoInitFails(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]*kms{"down": {down: true}, "lying": {lying: true}} {
		n := configured(t, newNode(t, newStore(t)), auto("awskms", k))
		if _, err := n.Init(t.Context(), InitParams{Shares: 1, Threshold: 1}); !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if is, err := n.Initialised(t.Context()); is || err != nil {
			t.Errorf("%s: initialised: %v, %v", name, is, err)
		}
		*k = kms{}
		mustInit(t, n, 1, 1)
	}
}

// From Shamir to a seal that opens by itself, to another, and back; the shares
// stay the same.
func TestMigration(t *testing.T) {
	t.Parallel()
	one, two := &kms{key: 1}, &kms{key: 2}
	n := newNode(t, newStore(t))
	shares := mustInit(t, n, 3, 2).Shares
	migrate := func(what, typ string, recovery bool) {
		t.Helper()
		if st, err := n.Status(t.Context()); err != nil || !st.Migration || !st.Sealed {
			t.Fatalf("%s: no migration is pending: %+v, %v", what, st, err)
		}
		if err := n.OpenByItself(t.Context()); !errors.Is(err, ErrNeedsShares) {
			t.Fatalf("%s: opens by itself: %v", what, err)
		}
		if _, err := n.Unseal(t.Context(), clone(shares[0]), false); !errors.Is(err, errMigrate) {
			t.Fatalf("%s: without the word: %v", what, err)
		}
		for i, s := range shares[:2] {
			st, err := n.Unseal(t.Context(), clone(s), true)
			if err != nil || st.Sealed != (i == 0) {
				t.Fatalf("%s: %+v, %v", what, st, err)
			}
			if i == 1 && (st.Type != typ || st.RecoverySeal != recovery || st.Migration || st.T != 2 || st.N != 3) {
				t.Fatalf("%s: %+v", what, st)
			}
		}
		if n.first(t) != "content" {
			t.Fatalf("%s: the content is gone", what)
		}
	}
	n = configured(t, n, auto("one", one))
	one.down = true
	for i, s := range shares[:2] {
		if _, err := n.Unseal(t.Context(), clone(s), true); (err == nil) != (i == 0) {
			t.Fatalf("to a seal that is down: %v", err)
		}
	}
	one.down = false
	migrate("from Shamir", "one", true)
	n = configured(t, n, auto("one", one))
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := auto("one", one)
	old.Disabled = true
	n = configured(t, n, old, auto("two", two))
	migrate("to another", "two", true)
	n = configured(t, n, auto("two", two))
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	old = auto("two", two)
	old.Disabled = true
	two.down = true // it need not answer any more
	n = configured(t, n, old)
	migrate("back to Shamir", "shamir", false)
	n = configured(t, n)
	if st := unsealWith(t, n, shares[1:]...); st.Sealed || st.RecoverySeal {
		t.Errorf("%+v", st)
	}
}

// Several seals: any opens the store; one that is added or was ill gets the root
// key by itself, one that is gone is forgotten.
func TestSeveralSeals(t *testing.T) {
	t.Parallel()
	one, two, three := &kms{key: 1}, &kms{key: 2}, &kms{key: 3}
	n := configured(t, newNode(t, newStore(t)), auto("one", one), auto("two", two))
	mustInit(t, n, 1, 1)
	one.down = true
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := n.Backends(t.Context())
	if err != nil || st.Healthy || st.Backends[0].Healthy || !st.Backends[1].Healthy || !st.FullyWrapped || st.UnhealthySince == "" {
		t.Errorf("%+v, %v", st, err)
	}
	if s, _ := n.Status(t.Context()); !slices.Equal(s.UnhealthySeals, []string{"one"}) {
		t.Errorf("unhealthy: %v", s.UnhealthySeals)
	}
	// The third is added while the first is still down.
	n = configured(t, n, auto("one", one), auto("two", two), auto("three", three))
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.tend(t.Context())
	n = configured(t, n, auto("three", three))
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Fatalf("by the one that was added: %v", err)
	}
	n.tend(t.Context())
	if c, _ := n.config(t.Context()); c.names() != "three" || c.Type != "three" {
		t.Errorf("left: %s, %s", c.names(), c.Type)
	}
	n = configured(t, n, auto("one", one), auto("two", two))
	if err := n.OpenByItself(t.Context()); !errors.Is(err, ErrNeedsShares) {
		t.Errorf("by what was forgotten: %v", err)
	}
}

// A seal that hangs holds up nothing for long, is told of, and heals.
func TestHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &kms{key: 9}
		n := configured(t, newNode(t, newStore(t)), auto("one", k))
		mustInit(t, n, 1, 1)
		k.set(func() { k.hanging = true })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.KeepOpening(ctx)
		}()
		time.Sleep(time.Minute)
		if !n.Sealed() {
			t.Fatal("open")
		}
		if s, _ := n.Status(ctx); !slices.Equal(s.UnhealthySeals, []string{"one"}) {
			t.Errorf("unhealthy: %v", s.UnhealthySeals)
		}
		k.set(func() { k.hanging = false })
		time.Sleep(time.Minute)
		if n.Sealed() {
			t.Fatal("not opened when the seal was well again")
		}
		<-done
		go n.Run(ctx)
		go n.Watch(ctx)
		k.set(func() { k.down = true })
		time.Sleep(20 * time.Minute)
		st, _ := n.Backends(ctx)
		if st.Healthy || st.Backends[0].UnhealthySince == "" {
			t.Errorf("%+v", st)
		}
		k.set(func() { k.down = false })
		time.Sleep(2 * time.Minute)
		if st, _ = n.Backends(ctx); !st.Healthy {
			t.Errorf("%+v", st)
		}
		var before, after int
		k.set(func() { before = k.asked })
		time.Sleep(time.Hour)
		k.set(func() { after = k.asked })
		if after-before > 30 {
			t.Errorf("a healthy seal was asked %d times in an hour", after-before)
		}
		cancel()
		synctest.Wait()
	})
}

// Who seals a node that had to be opened by recovery keys finds it sealed, also when
// its own seal is well again.
func TestSealedStaysSealed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &kms{key: 9}
		n := configured(t, newNode(t, newStore(t)), auto("one", k))
		shares := mustInit(t, n, 1, 1).Shares
		k.set(func() { k.down = true })
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.KeepOpening(t.Context())
		}()
		time.Sleep(5 * time.Second)
		if st, err := n.UnsealFor(t.Context(), clone(shares[0]), UnsealFor{Recovery: true}); err != nil || st.Sealed {
			t.Fatalf("%+v, %v", st, err)
		}
		n.Seal()
		k.set(func() { k.down = false })
		time.Sleep(5 * time.Minute)
		if !n.Sealed() {
			t.Error("it has opened by itself")
		}
		<-done
	})
}

// A node that joins a cluster opens by itself, too; a seal that gives it a wrong key
// does not let it in.
func TestAutoJoin(t *testing.T) {
	t.Parallel()
	k := &kms{key: 3}
	one := configured(t, newNode(t, newStore(t)), auto("one", k))
	mustInit(t, one, 1, 1)
	if err := one.OpenByItself(t.Context()); err != nil {
		t.Fatal(err)
	}
	two := configured(t, newNode(t, newStore(t)), auto("one", k))
	inv, err := one.Invite()
	if err != nil {
		t.Fatal(err)
	}
	look := func(context.Context) ([]byte, error) { return inv.Config, nil }
	err = two.Join(t.Context(), Inviter{Look: look, Join: func(_ context.Context, a Applicant) ([]byte, error) {
		proof, err := a.Prove(inv.Nonce, []byte("two"))
		if err != nil {
			return nil, err
		}
		if _, err := one.Admit(inv.Nonce, proof, []byte("two")); err != nil {
			return nil, err
		}
		return one.Record()
	}})
	if err != nil {
		t.Fatal(err)
	}
	k.key = 4
	if err := two.OpenByItself(t.Context()); err == nil || !two.Sealed() {
		t.Fatalf("with a wrong key: %v", err)
	}
	k.key = 3
	if err := two.OpenByItself(t.Context()); err != nil || two.Sealed() {
		t.Fatal(err)
	}
}

// Errors of a seal show no key.
func TestSealErrors(t *testing.T) {
	t.Parallel()
	k := &kms{key: 7}
	n := configured(t, newNode(t, newStore(t)), auto("awskms", k))
	mustInit(t, n, 1, 1)
	k.key = 8 // gives a wrong key
	err := n.OpenByItself(t.Context())
	if err == nil || !n.Sealed() || strings.Contains(err.Error(), string(barrier.NewKey())) {
		t.Errorf("a wrong key: %v", err)
	}
	k.lying, k.key = true, 7
	if err := n.OpenByItself(t.Context()); err == nil || !n.Sealed() {
		t.Errorf("a lie: %v", err)
	}
	if st, err := n.Backends(t.Context()); err != nil || st.Healthy {
		t.Errorf("a liar is healthy: %+v, %v", st, err)
	}
}
