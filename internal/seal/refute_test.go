package seal

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// passing is a seal some of whose answers fail, as those of a service that is busy.
type passing struct {
	*kms
	refuse []bool // the next answers of Decrypt
}

func (p *passing) Decrypt(ctx context.Context, sealed []byte) ([]byte, error) {
	if len(p.refuse) > 0 {
		refuse := p.refuse[0]
		if p.refuse = p.refuse[1:]; refuse {
			return nil, errors.New("503 service unavailable")
		}
	}
	return p.kms.Decrypt(ctx, sealed)
}

// One failure that passes does not make another seal of one that only got another name,
// neither while the node is sealed nor while it leads.
func TestPassingFailure(t *testing.T) {
	t.Parallel()
	k := newSealed(1)
	n := configured(t, newNode(t, newStore(t)), named("transit", k))
	mustInit(t, n, 1, 1)
	p := &passing{k, []bool{true}}
	n = configured(t, n, Wrapper{Type: "transit", Name: "renamed", Sealer: p})
	if err := n.OpenByItself(t.Context()); err != nil {
		t.Errorf("sealed: %v", err)
	}
	if b, _ := n.Backends(t.Context()); !b.Healthy {
		t.Errorf("%+v", b)
	}
	p.refuse = []bool{true}
	n.tend(t.Context())
	if st, _ := n.Status(t.Context()); st.Migration {
		t.Error("open: a migration is asked for")
	}
	n.tend(t.Context())
	if !whole(t, n) {
		t.Error("not under its new name")
	}
}

// Two failures around a success do; a while later it is asked again.
func TestRefutationEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newSealed(1)
		n := configured(t, newNode(t, newStore(t)), named("transit", k))
		mustInit(t, n, 1, 1)
		p := &passing{k, []bool{true, false, true}}
		n = configured(t, n, Wrapper{Type: "transit", Name: "renamed", Sealer: p})
		if err := n.OpenByItself(t.Context()); err == nil {
			t.Fatal("opened")
		}
		if err := n.OpenByItself(t.Context()); !errors.Is(err, ErrNeedsShares) {
			t.Errorf("refuted: %v", err)
		}
		time.Sleep(refutedFor)
		if err := n.OpenByItself(t.Context()); err != nil {
			t.Errorf("asked again: %v", err)
		}
		// The same while it is open.
		p.refuse = []bool{true, false, true}
		n.tend(t.Context())
		if st, _ := n.Status(t.Context()); !st.Migration {
			t.Error("not refuted")
		}
		time.Sleep(refutedFor)
		n.tend(t.Context())
		if st, _ := n.Status(t.Context()); st.Migration || !whole(t, n) {
			t.Errorf("not asked again: %+v", st)
		}
	})
}

// What another key encrypted stays refuted: a migration that is asked for does not go away
// with time.
func TestRefutationStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := configured(t, newNode(t, newStore(t)), named("transit", newSealed(1)))
		mustInit(t, n, 1, 1)
		n = configured(t, n, named("new", newSealed(2)))
		_ = n.OpenByItself(t.Context()) // finds it out
		for range 3 {
			if st, _ := n.Status(t.Context()); !st.Migration {
				t.Error("no migration is asked for")
			}
			time.Sleep(refutedFor)
			if err := n.OpenByItself(t.Context()); !errors.Is(err, ErrNeedsShares) {
				t.Error(err)
			}
		}
	})
}

// Another node, of another configuration, replaces what is stored under a seal's name: that
// this one was well says nothing of it.
func TestHealthIsOfWhatIsStored(t *testing.T) {
	t.Parallel()
	ka, kb := newSealed(1), newSealed(2)
	b := shared{newStore(t)}
	one := configured(t, newNode(t, b), named("transit", ka))
	mustInit(t, one, 1, 1)
	two := configured(t, newNode(t, b), named("transit", ka))
	for _, n := range []*node{one, two} {
		if err := n.OpenByItself(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.tend(t.Context())
	}
	two.cfg.Wrappers = []Wrapper{named("transit", kb)}
	two.ill = illnesses{} // started anew
	two.tend(t.Context())
	if err := one.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-one.kick:
	default:
		t.Error("it is not looked at at once")
	}
	one.standby = true
	one.tend(t.Context())
	if st, _ := one.Backends(t.Context()); st.Healthy {
		t.Errorf("a standby that could not start again is well: %+v", st)
	}
	one.standby = false
	one.tend(t.Context())
	if st, _ := one.Backends(t.Context()); !st.Healthy || !st.FullyWrapped {
		t.Errorf("%+v", st)
	}
	next := configured(t, newNode(t, b), named("transit", ka))
	if err := next.OpenByItself(t.Context()); err != nil {
		t.Errorf("started again: %v", err)
	}
}

// decryptOnly is a seal that may not encrypt.
type decryptOnly struct{ *kms }

func (decryptOnly) Encrypt(context.Context, []byte) ([]byte, error) {
	return nil, errors.New("403 forbidden")
}

// What gives another key is no wrapping of the root key, also where it cannot be replaced.
func TestWrongKeyIsNoWrapping(t *testing.T) {
	t.Parallel()
	for _, standby := range []bool{false, true} {
		n := configured(t, newNode(t, newStore(t)), named("transit", newSealed(1)))
		mustInit(t, n, 1, 1)
		if err := n.OpenByItself(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.tend(t.Context())
		n.cfg.Wrappers = []Wrapper{{Type: "transit", Name: "transit", Sealer: decryptOnly{&kms{key: 2}}}}
		n.ill, n.standby = illnesses{}, standby
		n.tend(t.Context())
		if whole(t, n) {
			t.Error("fully wrapped by another key, standby", standby)
		}
		good := &kms{key: 1, checks: true}
		n.cfg.Wrappers[0].Sealer = good
		n.tend(t.Context())
		if !whole(t, n) {
			t.Error("well again, yet not fully wrapped, standby", standby)
		}
	}
}
