package mfa

import (
	"fmt"
	"testing"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// Whoever begins many logins crowds out his own and nobody else's.
func TestWaiting(t *testing.T) {
	t.Parallel()
	db := storage.Open(storagetest.NewMap(), storage.Config{})
	defer db.Close()
	s, now := NewStore(db), time.Unix(1_000_000, 0)
	wait := func(id, entity string) error { return s.Wait(id, &Waiting{EntityID: entity}, now) }
	if err := wait("first", "ann"); err != nil {
		t.Fatal(err)
	}
	for i := range 10 * maxOwnWaiting {
		if err := wait(fmt.Sprint("bob", i), "bob"); err != nil {
			t.Fatal(err)
		}
	}
	if s.Waiter("first", now) == nil || s.Waiter("bob0", now) != nil || s.Waiter(fmt.Sprint("bob", 10*maxOwnWaiting-1), now) == nil {
		t.Error("not one's own oldest logins went")
	}
	if n := len(s.waiting); n != maxOwnWaiting+1 {
		t.Errorf("%d logins wait", n)
	}
	for i := 0; len(s.waiting) < maxWaiting; i++ {
		if err := wait(fmt.Sprint("x", i), fmt.Sprint("entity ", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := wait("late", "late"); !errs.Is(err, errs.Unavailable) || s.Waiter("first", now) == nil {
		t.Errorf("one more than may wait: %v", err)
	}
	now = now.Add(waitTime)
	if err := wait("late", "late"); err != nil || s.Waiter("first", now) != nil || len(s.waiting) != 1 || len(s.own) != 1 {
		t.Errorf("when all others are too old: %v, %d wait", err, len(s.waiting))
	}
	s.Done("late")
	if s.Done("late"); len(s.waiting)+len(s.own) != 0 {
		t.Error("a login that is over still waits")
	}
}
