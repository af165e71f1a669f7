package seal

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

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
