package raft_test

import (
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/storage/raft"
)

// TestGone has leaders' processes end. Where the others know, one of them leads before any would be missed; who hears its leader is not misled, and
// is as patient as before with the next one. Nor does it matter that something of the leader is heard after its end was seen.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{})
		defer c.close()
		time.Sleep(3 * time.Second)
		all := func(int, int) bool { return true }
		yes := func() bool { return true }
		// succession cuts the leader off, and returns after how long another leads. The others know at once, or when they still hear it, or never.
		succession := func(known, early bool) time.Duration {
			old := c.leader()
			_, term := old.store.Elected()
			tell := func() {
				for _, m := range c.members {
					if known && m != old {
						m.underway.Go(func() { m.store.Gone(old.id, yes) })
					}
				}
			}
			if early {
				tell()
				time.Sleep(450 * time.Millisecond) // it is heard meanwhile
			}
			for i, m := range c.members {
				if m == old {
					c.connect(func(from, to int) bool { return from != i && to != i })
				}
			}
			start := time.Now()
			time.Sleep(30 * time.Millisecond) // what was under way has come
			if !early {
				tell()
			}
			for {
				for _, m := range c.members {
					if leads, its := m.store.Elected(); leads && its > term {
						c.connect(all)
						time.Sleep(5 * time.Second)
						for _, m := range c.members {
							if m.store.Hurried() {
								t.Errorf("%s is impatient with the next leader", m.id)
							}
						}
						return time.Since(start) - 5*time.Second
					}
				}
				time.Sleep(time.Millisecond)
			}
		}
		// A follower is patient for 900 to 1800 ms after it heard the leader, which was within 400 ms; two of three must have lost patience.
		for range 5 {
			for _, early := range []bool{false, true} {
				if took := succession(true, early); took > 1100*time.Millisecond {
					t.Errorf("another leads %v after the process of the leader has ended (known early: %t)", took, early)
				}
			}
			if took := succession(false, false); took < 500*time.Millisecond {
				t.Errorf("another leads %v after the leader was heard", took)
			}
		}
		l := c.leader()
		_, term := l.store.Elected()
		for range 10 {
			for _, m := range c.members {
				m.underway.Go(func() { m.store.Gone(l.id, yes) })
			}
			time.Sleep(700 * time.Millisecond)
		}
		if leads, now := l.store.Elected(); !leads || now != term {
			t.Errorf("%s leads: %t, in term %d, and not %d: who hears it had another elected", l.id, leads, now, term)
		}
	})
}
