package raft_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/storage/raft"
)

// TestSnapshotBesideLongerLog has a leader that was cut off come back with entries that nobody else has, beyond the snapshot that it is sent: an operator's, or
// the state of who leads now, whose log begins behind where theirs part. It follows again, and votes and leads as before.
func TestSnapshotBesideLongerLog(t *testing.T) {
	short := raft.Config{TrailingLogs: 5, SnapshotThreshold: 10, SnapshotInterval: 10 * time.Millisecond}
	for name, test := range map[string]struct {
		cfg     raft.Config
		restore bool
		writes  int // by the next leader
		further int // and before it is sent another snapshot, with nothing that follows on the first
	}{
		"a snapshot was restored":      {raft.Config{}, true, 0, 0},
		"the log was shortened":        {short, false, 60, 0},
		"and again, beyond the longer": {short, false, 60, 300},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3, test.cfg)
				defer c.close()
				ctx := t.Context()
				time.Sleep(time.Second)
				l := c.leader()
				grow := func(m *member, n int) {
					t.Helper()
					for range n {
						if _, err := increment(ctx, m.db); err != nil {
							t.Fatal(err)
						}
						time.Sleep(time.Millisecond)
					}
				}
				grow(l, 20)
				var file bytes.Buffer
				if err := l.store.WriteArchive(&file, func(b []byte) ([]byte, error) { return b, nil }); err != nil {
					t.Fatal(err)
				}
				out := slices.Index(c.members, l)
				c.connect(func(from, to int) bool { return from != out && to != out })
				brief, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				if n, err := increment(brief, l.db); err == nil {
					t.Fatal("it wrote", n)
				}
				for range 200 {
					l.store.Raft().Barrier(0) // an entry that nobody waits for
				}
				time.Sleep(3 * time.Second)
				longer, _ := l.store.Last()
				next := c.leader()
				if test.restore {
					archive, err := next.store.ReadArchive(&file)
					if err != nil {
						t.Fatal(err)
					}
					if err := next.store.Restore(archive); err != nil {
						t.Fatal(err)
					}
					if err := archive.Close(); err != nil {
						t.Error(err)
					}
				}
				grow(c.leader(), test.writes)
				if at, _ := next.store.Last(); at >= longer {
					t.Fatalf("the log of who leads now leads up to %d, and the other's up to %d: this shows nothing", at, longer)
				}
				c.connect(func(int, int) bool { return true })
				time.Sleep(10 * time.Second)
				want := 20 + test.writes
				if at, _ := l.store.Last(); at >= longer {
					t.Errorf("it still has the log up to %d", at)
				}
				if test.further > 0 {
					c.connect(func(from, to int) bool { return from != out && to != out })
					grow(c.leader(), test.further)
					c.connect(func(int, int) bool { return true })
					time.Sleep(10 * time.Second)
					want += test.further
				} else {
					grow(c.leader(), 1)
					want++
				}
				c.check(want, want)
				if err := l.store.Err(); err != nil {
					t.Error(err)
				}
				if err := c.leader().store.StepDown(l.id); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second)
				if c.leader() != l {
					t.Fatal("it does not lead")
				}
				grow(l, 1)
				c.check(want+1, want+1)
			})
		})
	}
}
