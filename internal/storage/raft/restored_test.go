package raft_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/storage/raft"
)

// TestRestoreInterrupted has the leader restore a snapshot that no other node gets. The others go on with what they have; the node that restored
// shows nothing of it to anybody, and takes the cluster's state if it is sent it.
func TestRestoreInterrupted(t *testing.T) {
	short := raft.Config{TrailingLogs: 20, SnapshotThreshold: 50, SnapshotInterval: 10 * time.Millisecond}
	for name, test := range map[string]struct {
		cfg        raft.Config
		meanwhile  int // writes while the node is cut off
		why        string
		takesState bool
	}{
		"the whole log is there":   {raft.Config{}, 0, "join it anew", false},
		"and is longer by now":     {raft.Config{}, 200, "join it anew", false},
		"the log is cut":           {short, 0, "start arca again", true},
		"it is cut and far beyond": {short, 200, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3, test.cfg)
				defer c.close()
				ctx := t.Context()
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
				grow(l, 50)
				var file bytes.Buffer
				if err := l.store.WriteArchive(&file, func(b []byte) ([]byte, error) { return b, nil }); err != nil {
					t.Fatal(err)
				}
				grow(l, 50)
				archive, err := l.store.ReadArchive(&file)
				if err != nil {
					t.Fatal(err)
				}
				out := slices.Index(c.members, l)
				c.connect(func(from, to int) bool { return from != out && to != out })
				if err := l.store.Restore(archive); err == nil {
					t.Fatal("a restore that no other node has heard of succeeded")
				}
				if err := archive.Close(); err != nil {
					t.Error(err)
				}
				next := c.leader()
				mark, err := next.store.Mark(ctx)
				if err != nil {
					t.Fatal(err)
				}
				brief, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				if l.store.Await(brief, mark) == nil {
					n, err := counter(ctx, l.db)
					t.Errorf("the node that restored is read from: it has %d, %v", n, err)
				}
				grow(next, test.meanwhile)
				c.connect(func(int, int) bool { return true })
				time.Sleep(20 * time.Second)
				grow(c.leader(), 1)
				time.Sleep(5 * time.Second)
				want := 101 + test.meanwhile
				err = l.store.Err()
				if (err == nil) != (test.why == "") || err != nil && !strings.Contains(err.Error(), test.why) {
					t.Errorf("the node that restored says %v, want %q", err, test.why)
				}
				if test.takesState {
					if err != nil {
						want-- // it took the state before the last write, and takes no more part
					}
					if n, err := counter(ctx, l.db); err != nil || n != want {
						t.Errorf("the node that restored has %d, %v; want %d", n, err, want)
					}
				}
				if err != nil && test.takesState { // as it says that it is to be
					l.restart()
					c.connect(func(int, int) bool { return true })
					time.Sleep(5 * time.Second)
				} else if err != nil {
					l.close()
					c.members = slices.Delete(c.members, out, out+1)
				}
				c.check(101+test.meanwhile, 101+test.meanwhile)
			})
		})
	}
}

// TestRestoreIsVouched restores a snapshot: all nodes can be read at once, without a write after it.
func TestRestoreIsVouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{})
		defer c.close()
		l := c.leader()
		if _, err := increment(t.Context(), l.db); err != nil {
			t.Fatal(err)
		}
		var file bytes.Buffer
		if err := l.store.WriteArchive(&file, func(b []byte) ([]byte, error) { return b, nil }); err != nil {
			t.Fatal(err)
		}
		archive, err := l.store.ReadArchive(&file)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.store.Restore(archive); err != nil {
			t.Fatal(err)
		}
		if err := archive.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		c.check(1, 1)
		// Another leads before anything is written, with a log that begins behind the restored state.
		if err := c.leader().store.StepDown(""); err != nil {
			t.Fatal(err)
		}
		c.check(1, 1)
		out := slices.Index(c.members, c.leader())
		c.connect(func(from, to int) bool { return from != out && to != out })
		time.Sleep(5 * time.Second)
		c.connect(func(int, int) bool { return true })
		time.Sleep(5 * time.Second)
		if _, err := increment(t.Context(), c.leader().db); err != nil {
			t.Fatal(err)
		}
		c.check(2, 2)
		for _, m := range c.members {
			if err := m.store.Err(); err != nil {
				t.Errorf("%s: %v", m.id, err)
			}
		}
	})
}
