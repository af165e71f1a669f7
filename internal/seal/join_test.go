package seal

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
)

// TestInvitationServesOnce sends a right answer to a challenge again, to the node that it was for and to another of the same cluster.
func TestInvitationServesOnce(t *testing.T) {
	t.Parallel()
	k, store := &kms{key: 3}, newStore(t)
	one := configured(t, newNode(t, store), auto("one", k))
	mustInit(t, one, 1, 1)
	two := configured(t, newNode(t, store), auto("one", k))
	for _, m := range []*node{one, two} {
		if err := m.OpenByItself(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	u, err := one.active()
	if err != nil {
		t.Fatal(err)
	}
	self := []byte("new")
	answer := func(nonce []byte) []byte {
		proof, err := Applicant{u.root.get()}.Prove(nonce, self)
		if err != nil {
			t.Fatal(err)
		}
		return proof
	}
	invite := func() []byte {
		inv, err := one.Invite()
		if err != nil {
			t.Fatal(err)
		}
		return inv.Nonce
	}
	nonce := invite()
	proof := answer(nonce)
	if _, err := two.Admit(nonce, proof, self); !errs.Is(err, errs.Denied) {
		t.Errorf("at another node: %v", err)
	}
	if _, err := one.Admit(nonce, answer([]byte("x")), self); !errs.Is(err, errs.Denied) {
		t.Errorf("a wrong answer: %v", err)
	}
	if _, err := one.Admit(nonce, proof, self); err != nil {
		t.Errorf("the right answer: %v", err)
	}
	if _, err := one.Admit(nonce, proof, self); !errs.Is(err, errs.Denied) {
		t.Errorf("the same once more: %v", err)
	}
	nonce = invite()
	binary.BigEndian.PutUint64(nonce[16:], uint64(time.Now().Add(-time.Second).UnixNano()))
	if _, err := one.Admit(nonce, answer(nonce), self); !errs.Is(err, errs.Denied) {
		t.Errorf("another time: %v", err)
	}
	for i := range maxSpent + 1 { // what has expired makes room; what has not does not
		one.invites.spent[fmt.Sprint(i)] = time.Now()
	}
	nonce = invite()
	if _, err := one.Admit(nonce, answer(nonce), self); !errs.Is(err, errs.Unavailable) {
		t.Errorf("after very many: %v", err)
	}
	for i := range maxSpent + 1 {
		one.invites.spent[fmt.Sprint(i)] = time.Now().Add(-inviteFor - time.Minute)
	}
	if _, err := one.Admit(nonce, answer(nonce), self); err != nil || len(one.invites.spent) > 2 {
		t.Errorf("when they have expired: %v, and %d are kept", err, len(one.invites.spent))
	}
}

// Anybody may give a share to a node that is about to join a cluster. It asks the cluster for its seal before the first one of a round: now and then,
// for none that is no share, and without holding up what else there is to do.
func TestAsksAgainNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		n, keys := openNode(t, newStore(t), 3, 2)
		late := newNode(t, shared{newStore(t)})
		asked, answers := 0, true
		err := late.Join(ctx, Inviter{
			Look: func(ctx context.Context) ([]byte, error) {
				if asked++; !answers {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				inv, err := n.Invite()
				return inv.Config, err
			},
			Join: func(context.Context, Applicant) ([]byte, error) { return n.Record() },
		})
		if err != nil {
			t.Fatal(err)
		}
		asked, answers = 0, false
		if _, err := late.Unseal(ctx, barrier.Key("short"), false); !errs.Is(err, errs.Invalid) || asked != 0 {
			t.Errorf("%v, asked %d times", err, asked)
		}
		began := time.Now()
		var calls sync.WaitGroup
		for i := range 5 {
			calls.Go(func() {
				if _, err := late.Unseal(ctx, clone(keys[0]), false); err != nil {
					t.Error(i, err)
				}
			})
		}
		synctest.Wait()
		if _, err := late.ResetUnseal(ctx); err != nil || time.Since(began) != 0 {
			t.Errorf("held up for %s: %v", time.Since(began), err)
		}
		calls.Wait()
		if st, err := late.Status(ctx); err != nil || st.Progress != 1 || asked != 1 || time.Since(began) != lookTime {
			t.Errorf("%+v, %v, asked %d times in %s", st, err, asked, time.Since(began))
		}
		answers = true
		for _, want := range []int{1, 2} {
			if _, err := late.ResetUnseal(ctx); err != nil {
				t.Fatal(err)
			}
			unsealWith(t, late, keys[0])
			if asked != want {
				t.Errorf("asked %d times, not %d", asked, want)
			}
			time.Sleep(lookEvery)
		}
		if st := unsealWith(t, late, keys[1]); st.Sealed {
			t.Errorf("%+v", st)
		}
	})
}

// What anybody may say of a seal is none that takes shares without end.
func TestInvitedToNoSeal(t *testing.T) {
	t.Parallel()
	n, _ := openNode(t, newStore(t), 1, 1)
	for _, counts := range [][2]int{{1 << 30, 1 << 30}, {3, 256}, {3, 0}, {0, 0}} {
		late := newNode(t, shared{newStore(t)})
		err := late.Join(t.Context(), Inviter{Look: func(context.Context) ([]byte, error) {
			c := *n.state.Load().open.config
			c.Shares, c.Threshold = counts[0], counts[1]
			return json.Marshal(&c)
		}})
		if !errs.Is(err, errs.Failed) || late.Joining() {
			t.Errorf("%v: %v", counts, err)
		}
	}
}
