package raft_test

import (
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/storage/raft"
)

// TestThereAgain has a node be away for long, while others write or not, and come again: as soon as it hears its leader it has what was written, so that it answers reads, and counts where
// another ends then.
func TestThereAgain(t *testing.T) {
	for name, writes := range map[string]bool{"while others write": true, "while nothing is written": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, wards := newWards(t, 3, raft.Config{})
				defer c.close()
				l := c.leader()
				out := 1
				if l == c.members[out] {
					out = 2
				}
				back, third := c.members[out], 3-out
				if l == c.members[third] {
					third = 0
				}
				for i := range 5 {
					back.store.Stop()
					for range 150 + 7*i {
						if writes {
							if _, err := increment(t.Context(), l.db); err != nil {
								t.Fatal(err)
							}
						}
						time.Sleep(200 * time.Millisecond)
					}
					wards[out].again(raft.Config{}, nil)
					c.connect(func(int, int) bool { return true })
					for id := ""; id != l.id; id, _ = back.store.Leader() {
						time.Sleep(time.Millisecond)
					}
					began := time.Now()
					mark, err := l.store.Mark(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if err := back.store.Await(t.Context(), mark); err != nil {
						t.Fatal(err)
					}
					if took := time.Since(began); took > 200*time.Millisecond {
						t.Errorf("it has what was written %v after it has heard the leader", took)
					}
					c.connect(func(from, to int) bool { return from != third && to != third })
					began = time.Now()
					if _, err := increment(t.Context(), l.db); err != nil {
						t.Fatal(err)
					}
					if took := time.Since(began); took > 200*time.Millisecond {
						t.Errorf("where another is gone then nobody can write for %v", took)
					}
					c.connect(func(int, int) bool { return true })
					time.Sleep(10 * time.Second)
				}
			})
		})
	}
}
