package raft_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

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

// TestGoneHeardLate has a leader's process end whose last entries its followers write to slow disks: they have heard it only when these are written, after they
// have given it up, and another leads when their promises from then have passed.
func TestGoneHeardLate(t *testing.T) {
	const slow = 1200 * time.Millisecond
	for range 6 {
		synctest.Test(t, func(t *testing.T) {
			var pause atomic.Int64
			c := &cluster{t: t}
			defer func() { c.close() }()
			for i := range 3 {
				disk := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
					if i > 0 && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) && strings.Contains(op.Path, "/wal/") {
						time.Sleep(time.Duration(pause.Load()))
					}
					return nil
				}))
				m := newMember(t, fmt.Sprint("node", i+1), raft.Config{}.WithFS(disk))
				m.start(i == 0)
				c.members = append(c.members, m)
			}
			c.gather()
			c.write(5)
			time.Sleep(3 * time.Second)
			old := c.leader()
			_, term := old.store.Elected()
			pause.Store(int64(slow))
			old.underway.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				_, _ = increment(ctx, old.db) // it ends amid this
			})
			time.Sleep(10 * time.Millisecond) // it is sent
			c.connect(func(from, to int) bool { return from != 0 && to != 0 })
			pause.Store(0)
			start := time.Now()
			for _, m := range c.members[1:] {
				m.underway.Go(func() { m.store.Gone(old.id, func() bool { return true }) })
			}
			for next := false; !next; time.Sleep(time.Millisecond) {
				for _, m := range c.members[1:] {
					leads, its := m.store.Elected()
					next = next || leads && its > term
				}
			}
			if took := time.Since(start); took < slow || took > slow+1100*time.Millisecond {
				t.Errorf("another leads %v after the process of the leader has ended", took)
			}
		})
	}
}
