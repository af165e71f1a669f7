package pebble_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

// TestDiskErrors makes the disk fail for good at a random operation. Writes then come back with an error, what is read is
// right, and after a restart on a mended disk every acknowledged write is there.
func TestDiskErrors(t *testing.T) {
	n, first := 40, rand.Uint64()
	if s := os.Getenv("ARCA_DISKERROR_SEEDS"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	if s := os.Getenv("ARCA_DISKERROR_SEED"); s != "" {
		n = 1
		first, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("seeds %d to %d", first, first+uint64(n)-1)
	for i := range n {
		breakDisk(t, first+uint64(i))
		if t.Failed() {
			t.Fatalf("seed %d", first+uint64(i))
		}
	}
}

func breakDisk(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	mem := vfs.NewCrashableMem()
	var countdown atomic.Int64
	countdown.Store(1 << 60)
	disk := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && countdown.Add(-1) < 0 {
			return syscall.EIO
		}
		return nil
	}))
	b, err := pebble.Open(pebble.Config{FS: disk, Dir: "d"})
	if err != nil {
		t.Fatal(err)
	}
	countdown.Store(rnd.Int64N(400))
	db := storage.Open(b, storage.Config{})
	value := strings.Repeat("v", 1<<(10+rnd.IntN(8)))
	acked, tried := 0, 0
	for range 200 {
		tried++
		err := db.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("n", fmt.Appendf(nil, "%d %s", tried, value)) })
		if err != nil {
			if !errs.Is(err, errs.Unavailable) {
				t.Errorf("write %d: kind %v: %v", tried, errs.KindOf(err), err)
			}
			break
		}
		acked = tried
	}
	check := func(where string, db *storage.DB, atLeast int) {
		_ = db.View(t.Context(), func(tx storage.Tx) error {
			var got int
			v, err := tx.Get("n")
			if err == nil {
				_, err = fmt.Sscan(string(v), &got)
			} else if storage.IsNotFound(err) {
				err = nil
			}
			if err != nil || got < atLeast || got > tried {
				t.Errorf("%s: got %d, %v; %d acknowledged, %d tried", where, got, err, atLeast, tried)
			}
			return nil
		})
	}
	check("after the failure", db, acked)
	_ = db.Close() // the store has failed and says so again
	if acked < tried {
		// What comes after the failure is certainly not written.
		err := b.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "later", Value: []byte("v")}})
		if _, got := b.Get(t.Context(), "later"); !errors.Is(err, storage.ErrNotApplied) || !storage.IsNotFound(got) {
			t.Errorf("a write after the failure: %v; it is read: %v", err, got)
		}
	}
	_ = b.Close()

	b, err = pebble.Open(pebble.Config{FS: mem.CrashClone(vfs.CrashCloneCfg{}), Dir: "d"})
	if err != nil {
		t.Fatal(err)
	}
	db = storage.Open(b, storage.Config{})
	check("after a restart", db, acked)
	_ = db.Close()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
