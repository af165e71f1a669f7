package pebble_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

// TestPowerCut cuts the power at a random moment of random concurrent writes, at which any part of what was not synced may
// have reached the disk or not, and opens what is left: every acknowledged write is there, and each transaction is there
// as a whole or not at all. ARCA_POWERCUT_SEEDS sets how many times; ARCA_POWERCUT_SEED repeats one.
func TestPowerCut(t *testing.T) {
	n, first := 60, rand.Uint64()
	if s := os.Getenv("ARCA_POWERCUT_SEEDS"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	if s := os.Getenv("ARCA_POWERCUT_SEED"); s != "" {
		n = 1
		first, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("seeds %d to %d", first, first+uint64(n)-1)
	for i := range n {
		cutPower(t, first+uint64(i))
		if t.Failed() {
			t.Fatalf("seed %d", first+uint64(i))
		}
	}
}

const cutClients = 3

// cutRun writes, from each client, its counter into several keys at once.
type cutRun struct {
	t     *testing.T
	rnd   *rand.Rand
	acked [cutClients]atomic.Int64
	tried [cutClients]atomic.Int64
}

func cutPower(t *testing.T, seed uint64) {
	r := &cutRun{t: t, rnd: rand.New(rand.NewPCG(seed, 0))}
	fs := vfs.NewCrashableMem()
	for range 1 + r.rnd.IntN(3) { // some cuts follow upon another
		var acked, tried [cutClients]int64
		fs, acked, tried = r.until(fs)
		r.verify(fs, acked, tried)
		if t.Failed() {
			return
		}
	}
}

// lockless is a MemFS whose Lock cannot come into a deadlock with CrashClone: MemFS takes a read lock twice there.
type lockless struct{ *vfs.MemFS }

func (lockless) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// until opens the store, writes until the power fails, and returns what is left.
func (r *cutRun) until(fs *vfs.MemFS) (left *vfs.MemFS, acked, tried [cutClients]int64) {
	steps := r.rnd.IntN(40)
	cutAt := int64(r.rnd.IntN(cutClients*steps + 1))
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: r.rnd.IntN(101), RNG: cloneRand(r.rnd)}
	valueBytes := 1 << r.rnd.IntN(16) // large ones make Pebble flush and compact meanwhile
	var cut sync.Once
	crash := func() {
		cut.Do(func() {
			for i := range acked {
				acked[i] = r.acked[i].Load()
			}
			left = fs.CrashClone(cfg)
			for i := range tried {
				tried[i] = r.tried[i].Load()
			}
		})
	}
	if r.rnd.IntN(20) == 0 { // while it opens
		go crash()
	}
	b, err := pebble.Open(pebble.Config{FS: lockless{fs}, Dir: "a/b"})
	if err != nil {
		r.t.Errorf("open: %v", err)
		return fs, acked, tried
	}
	db := storage.Open(b, storage.Config{})
	var wg sync.WaitGroup
	var count atomic.Int64
	for c := range cutClients {
		wg.Go(func() {
			for range steps {
				n := r.tried[c].Add(1)
				if err := db.Update(r.t.Context(), func(tx storage.Tx) error { return writeCut(tx, c, n, valueBytes) }); err != nil {
					r.t.Errorf("update: %v", err)
				}
				r.acked[c].Store(n)
				if count.Add(1) == cutAt {
					wg.Go(crash)
				}
			}
		})
	}
	wg.Wait()
	crash()
	if err := db.Close(); err != nil {
		r.t.Errorf("close: %v", err)
	}
	if err := b.Close(); err != nil {
		r.t.Errorf("close: %v", err)
	}
	return left, acked, tried
}

func cloneRand(r *rand.Rand) *rand.Rand { return rand.New(rand.NewPCG(r.Uint64(), r.Uint64())) }

func writeCut(tx storage.Tx, client int, n int64, valueBytes int) error {
	tx = tx.Sub(fmt.Sprintf("c%d/", client))
	if err := tx.DeletePrefix("last/"); err != nil {
		return err
	}
	pad := fmt.Sprintf("%d %0*d", n, valueBytes, 0)
	for _, key := range []string{fmt.Sprintf("all/%08d", n), fmt.Sprintf("last/%d", n), "counter"} {
		if err := tx.Put(key, []byte(pad)); err != nil {
			return err
		}
	}
	return nil
}

func (r *cutRun) verify(fs *vfs.MemFS, acked, tried [cutClients]int64) {
	b, err := pebble.Open(pebble.Config{FS: fs, Dir: "a/b"})
	if err != nil {
		r.t.Errorf("open after the cut: %v", err)
		return
	}
	defer b.Close()
	db := storage.Open(b, storage.Config{})
	defer db.Close()
	err = db.View(r.t.Context(), func(tx storage.Tx) error {
		for c := range cutClients {
			r.verifyClient(tx.Sub(fmt.Sprintf("c%d/", c)), c, acked[c], tried[c])
		}
		return nil
	})
	if err != nil {
		r.t.Error(err)
	}
}

func (r *cutRun) verifyClient(tx storage.Tx, c int, acked, tried int64) {
	var counter int64
	v, err := tx.Get("counter")
	if err == nil {
		_, err = fmt.Sscanf(string(v), "%d", &counter)
	} else if storage.IsNotFound(err) {
		err = nil
	}
	if err != nil || counter < acked || counter > tried {
		r.t.Errorf("client %d: the counter is %d (%v); %d was acknowledged and %d tried", c, counter, err, acked, tried)
	}
	last, err := tx.List("last/", "", 0)
	if counter > 0 && (err != nil || len(last) != 1 || last[0] != fmt.Sprint(counter)) {
		r.t.Errorf("client %d: half a transaction: counter %d, last %q, %v", c, counter, last, err)
	}
	all, err := tx.List("all/", "", 0)
	if err != nil || int64(len(all)) != counter {
		r.t.Errorf("client %d: %d entries at counter %d, %v", c, len(all), counter, err)
	}
	r.tried[c].Store(counter)
	r.acked[c].Store(counter)
}
