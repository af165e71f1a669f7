package pebble_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

// TestMeasure prints what the store costs at scale: run it with ARCA_MEASURE=1000000 (entries) and -v.
func TestMeasure(t *testing.T) {
	var n int64
	if _, err := fmt.Sscan(os.Getenv("ARCA_MEASURE"), &n); err != nil {
		t.Skip("ARCA_MEASURE is not set")
	}
	dir := t.TempDir()
	timed := func(what string, fn func()) {
		start, cpu, io := time.Now(), cpuTime(), written()
		fn()
		t.Logf("%-34s %8.1f ms, CPU %8.1f ms, written %7.2f MB, RSS %d MB", what, float64(time.Since(start).Microseconds())/1e3,
			float64((cpuTime()-cpu).Microseconds())/1e3, float64(written()-io)/1e6, rss())
	}
	var s *pebble.Store
	var db *storage.DB
	reopen := func() {
		var err error
		if s, err = pebble.Open(pebble.Config{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		db = storage.Open(s, storage.Config{})
	}
	closeAll := func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	get := func(i int64) {
		err := db.View(context.Background(), func(tx storage.Tx) error {
			_, err := tx.Get(measureKey(i))
			return err
		})
		if err != nil {
			t.Error(i, err)
		}
	}
	timed("make", reopen)
	timed("idle for 5 s", func() { time.Sleep(5 * time.Second) })
	timed(fmt.Sprintf("%d writes by 64 clients", n), func() {
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
					value := make([]byte, 300)
					_, _ = rand.Read(value)
					err := db.Update(context.Background(), func(tx storage.Tx) error { return tx.Put(measureKey(i), value) })
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
	t.Logf("%+v", db.Stats())
	timed("close", closeAll)
	debug.FreeOSMemory()
	timed("open and first read", func() { reopen(); get(n / 2) })
	timed("idle for 5 s", func() { time.Sleep(5 * time.Second) })
	timed("100,000 random reads", func() {
		for i := range int64(100_000) {
			get(i * 7919 % n)
		}
	})
	timed("1,000 writes by 1 client", func() {
		for i := range int64(1000) {
			if err := db.Update(context.Background(), func(tx storage.Tx) error {
				return tx.Put(measureKey(i), make([]byte, 300))
			}); err != nil {
				t.Error(err)
			}
		}
	})
	timed("close", closeAll)
}

func measureKey(i int64) string {
	return fmt.Sprintf("0a1b2c3d/secret/%016x", uint64(i)*0x9e3779b97f4a7c15)
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func written() (n int64) { return procField("/proc/self/io", "write_bytes:") }

func rss() (mb int64) { return procField("/proc/self/status", "VmRSS:") >> 10 }

func procField(file, field string) (n int64) {
	text, _ := os.ReadFile(file)
	if _, after, ok := strings.Cut(string(text), "\n"+field); ok {
		_, _ = fmt.Sscan(after, &n)
	}
	return n
}
