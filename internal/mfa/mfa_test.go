package mfa

import (
	"fmt"
	"testing"
	"time"

	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// Whoever begins many logins crowds out his own and nobody else's.
func TestWaiting(t *testing.T) {
	t.Parallel()
	db := storage.Open(storagetest.NewMap(), storage.Config{})
	defer db.Close()
	s, now := NewStore(db), time.Unix(1_000_000, 0)
	wait := func(id, entity string) { s.Wait(id, &Waiting{EntityID: entity}, now) }
	wait("first", "ann")
	for i := range 10 * maxOwnWaiting {
		wait(fmt.Sprint("bob", i), "bob")
	}
	if s.Waiter("first", now) == nil || s.Waiter("bob0", now) != nil || s.Waiter(fmt.Sprint("bob", 10*maxOwnWaiting-1), now) == nil {
		t.Error("not one's own oldest logins went")
	}
	if n := len(s.waiting); n != maxOwnWaiting+1 {
		t.Errorf("%d logins wait", n)
	}
	for i := 0; len(s.waiting) < maxWaiting; i++ {
		wait(fmt.Sprint("x", i), fmt.Sprint("entity ", i))
	}
	if !s.Full(now) || s.Waiter("first", now) == nil {
		t.Error("one more than may wait is let in, or another given up")
	}
	now = now.Add(waitTime)
	if s.Full(now) || len(s.waiting) != 0 || len(s.own) != 0 {
		t.Errorf("when all are too old: %d wait", len(s.waiting))
	}
	wait("one", "one")
	for i, c := range []struct {
		by   string
		free bool // before
		want bool
	}{{"a", false, true}, {"b", false, false}, {"a", false, true}, {"b", true, true}, {"a", false, false}} {
		if c.free {
			s.Release("one", "c") // has nothing to release
			if s.Claim("one", c.by, now) {
				t.Error("one released what another has")
			}
			s.Release("one", "a")
		}
		if s.Claim("one", c.by, now) != c.want {
			t.Errorf("claim %d by %s: not %v", i, c.by, c.want)
		}
	}
	if s.Done("one"); s.Claim("one", "b", now) || s.Claim("none", "b", now) {
		t.Error("what does not wait was claimed")
	}
	s.Release("one", "b")
	wait("late", "late")
	if s.Claim("late", "a", now.Add(waitTime)) {
		t.Error("a login that waited too long was claimed")
	}
	s.Done("late")
	if s.Done("late"); len(s.waiting)+len(s.own) != 0 {
		t.Error("a login that is over still waits")
	}
}
