package raft_test

import (
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/storage/raft"
)

// TestHandOverToOneThatHangs has a node be told to take over that says nothing: who leads goes on when it has waited as long as for an election.
func TestHandOverToOneThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{})
		defer c.close()
		time.Sleep(time.Second)
		l := c.leader()
		l.hangs.Store(true)
		began := time.Now()
		if err := l.store.StepDown(c.members[1].id); err == nil {
			t.Error("it handed over")
		}
		if next := c.leader(); next != l {
			t.Errorf("%s leads", next.id)
		}
		if _, err := increment(t.Context(), l.db); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("nobody could write for %v", took)
		}
		time.Sleep(15 * time.Second) // the message comes to its end
		c.check(1, 1)
	})
}

// TestHandOverGoesRound has nodes that are equally far lead one after the other: two whose disks are full would else take turns, beside one that is well.
func TestHandOverGoesRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{})
		defer c.close()
		led := map[*member]bool{}
		for range c.members {
			time.Sleep(2 * time.Second)
			l := c.leader()
			led[l] = true
			if err := l.store.StepDown(""); err != nil {
				t.Fatal(err)
			}
		}
		if len(led) != len(c.members) {
			t.Errorf("%d of %d nodes have led", len(led), len(c.members))
		}
	})
}
