package raft_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/storage"
	"arca/internal/storage/raft"
)

// TestRestores has snapshots be restored while nodes are cut off from each other, are behind, or have entries that nobody else has: in the end the cluster takes
// writes, all nodes have the same, and whoever takes no part any more says what is to be done, and that is so. ARCA_CLUSTER_SEEDS and ARCA_CLUSTER_SEED are as for TestCluster.
func TestRestores(t *testing.T) {
	seeds(t, 4, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) { restores(t, rand.New(rand.NewPCG(seed, 0))) })
	})
}

func restores(t *testing.T, rnd *rand.Rand) {
	c := newCluster(t, 3+2*rnd.IntN(2), raft.Config{TrailingLogs: 20, SnapshotThreshold: 50, SnapshotInterval: time.Second})
	defer func() { c.close() }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var work, restoring sync.WaitGroup
	for _, m := range c.members {
		work.Go(func() {
			for ctx.Err() == nil {
				m.using <- struct{}{}
				once, stop := context.WithTimeout(ctx, 2*time.Second)
				_, _ = increment(once, m.db) // most nodes do not lead
				stop()
				<-m.using
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	reach := func(int, int) bool { return true }
	connect := func(to func(from, to int) bool) {
		reach = to
		c.connect(reach)
	}
	var saved []byte
	var took atomic.Int32
	for range 15 {
		time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
		out := rnd.IntN(len(c.members))
		for i, m := range c.members {
			if m.leads.Load() && rnd.IntN(4) > 0 {
				out = i
			}
		}
		m := c.members[out]
		switch rnd.IntN(9) {
		case 0, 1:
			connect(func(int, int) bool { return true })
		case 2:
			connect(func(i, j int) bool { return i != out && j != out })
			if r := m.store.Raft(); r != nil { // it may have left
				for range rnd.IntN(500) {
					r.Barrier(0)
				}
			}
		case 3: // into two parts
			connect(func(i, j int) bool { return i%2 == j%2 })
		case 4:
			_ = m.store.StepDown("") // nobody may be there to take over
		case 5:
			m.using <- struct{}{}
			c.connect(func(i, j int) bool { return reach(i, j) && i != out && j != out }) // it is not answered that it ends
			time.Sleep(time.Millisecond)
			m.restart()
			<-m.using
			c.connect(reach)
		default:
			if !m.leads.Load() {
				continue
			}
			if saved == nil || rnd.IntN(4) == 0 {
				var file bytes.Buffer
				if err := m.store.WriteArchive(&file, func(b []byte) ([]byte, error) { return b, nil }); err == nil {
					saved = file.Bytes()
				}
				continue
			}
			archive, err := m.store.ReadArchive(bytes.NewReader(saved))
			if err != nil {
				t.Error(err)
				continue
			}
			store := m.store
			restoring.Go(func() {
				if store.Restore(archive) == nil {
					took.Add(1)
				}
				_ = archive.Close() // the store may have left
			})
			if rnd.IntN(2) == 0 { // before most have it, perhaps
				time.Sleep(time.Duration(rnd.IntN(150)) * time.Millisecond)
				connect(func(i, j int) bool { return i != out && j != out })
			}
		}
	}
	c.connect(func(int, int) bool { return true })
	restoring.Wait()
	time.Sleep(10 * time.Second)
	cancel()
	work.Wait()
	c.heal()
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		brief, stop := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := increment(brief, c.leader().db)
		stop()
		if err == nil {
			break
		}
		if time.Since(start) > 20*time.Second {
			t.Fatal(err)
		}
	}
	c.check(1, 1<<30)
	want, err := counter(t.Context(), c.leader().db)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range c.members {
		if n, err := counter(t.Context(), m.db); err != nil || n != want {
			t.Errorf("%s has %d, %v; the leader has %d", m.id, n, err, want)
		}
		if err := m.store.Err(); err != nil {
			t.Errorf("%s: %v", m.id, err)
		}
	}
	t.Logf("%d restored, %d of the nodes took part in the end", took.Load(), len(c.members))
}

// heal does with nodes that take no part any more as they say: those that cannot be mended are removed.
func (c *cluster) heal() {
	for range 3 {
		for _, m := range slices.Clone(c.members) {
			err := m.store.Err()
			switch {
			case err == nil:
			case strings.Contains(err.Error(), "start arca again"):
				m.restart()
				c.connect(func(int, int) bool { return true })
			case strings.Contains(err.Error(), "join it anew"):
				c.members = slices.DeleteFunc(c.members, func(o *member) bool { return o == m })
				m.close()
				if err := c.leader().store.Remove(m.id); err != nil && !errors.Is(err, storage.ErrClosed) {
					c.t.Error(err)
				}
			default:
				c.t.Errorf("%s says %v", m.id, err)
			}
		}
		time.Sleep(10 * time.Second)
	}
}
