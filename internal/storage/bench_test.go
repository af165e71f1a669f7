package storage_test

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

func fill(b *testing.B, db *storage.DB, prefix string, n int) {
	b.Helper()
	value := make([]byte, 300)
	for i := 0; i < n; i += 1000 {
		err := db.Update(context.Background(), func(tx storage.Tx) error {
			for j := i; j < min(n, i+1000); j++ {
				if err := tx.Put(fmt.Sprintf("%s%08d", prefix, j), value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkView(b *testing.B) {
	db := open(b)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		_ = db.View(ctx, func(storage.Tx) error { return nil })
	}
}

func BenchmarkViewGet(b *testing.B) {
	db := open(b)
	fill(b, db, "m/", 10_000)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		_ = db.View(ctx, func(tx storage.Tx) error {
			_, err := tx.Sub("m/").Get("00005000")
			return err
		})
	}
}

func BenchmarkViewGetParallel(b *testing.B) {
	db := open(b)
	fill(b, db, "m/", 10_000)
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_ = db.View(ctx, func(tx storage.Tx) error {
				_, err := tx.Sub("m/").Get("00005000")
				return err
			})
		}
	})
}

func BenchmarkCacheGet(b *testing.B) {
	db := open(b)
	fill(b, db, "m/", 10_000)
	c := storage.NewCache(db, 1<<20, func(_ string, v []byte) (*[]byte, int, error) { return &v, len(v), nil })
	b.ReportAllocs()
	_ = db.View(context.Background(), func(tx storage.Tx) error {
		tx = tx.Sub("m/")
		for b.Loop() {
			if _, err := c.Get(tx, "00005000"); err != nil {
				b.Fatal(err)
			}
		}
		return nil
	})
}

func BenchmarkList10000(b *testing.B) {
	for _, shape := range []struct{ name, prefix string }{{"leaves", "m/"}, {"folders", "f/"}} {
		b.Run(shape.name, func(b *testing.B) {
			db := open(b)
			for i := range 10_000 {
				_ = db.Update(context.Background(), func(tx storage.Tx) error {
					_ = tx.Put(fmt.Sprintf("m/%08d", i), make([]byte, 100))
					for j := range 2 {
						_ = tx.Put(fmt.Sprintf("f/%08d/%d", i, j), make([]byte, 100))
					}
					return nil
				})
			}
			b.ReportAllocs()
			for b.Loop() {
				_ = db.View(context.Background(), func(tx storage.Tx) error {
					names, err := tx.List(shape.prefix, "", 0)
					if err != nil || len(names) != 10_000 {
						b.Fatal(len(names), err)
					}
					return nil
				})
			}
		})
	}
}

// BenchmarkUpdate writes 300 bytes with fsync: to keys of their own, or all to one key that they read before.
func BenchmarkUpdate(b *testing.B) {
	for _, clients := range []int{1, 64} {
		for _, hot := range []bool{false, true} {
			b.Run(fmt.Sprintf("clients %d/hot %v", clients, hot), func(b *testing.B) { benchUpdate(b, clients, hot) })
		}
	}
}

func benchUpdate(b *testing.B, clients int, hot bool) {
	s, err := pebble.Open(pebble.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	db := storage.Open(s, storage.Config{})
	defer db.Close()
	ctx := context.Background()
	var n atomic.Int64
	b.SetParallelism(max(1, clients/runtime.GOMAXPROCS(0)))
	b.ReportAllocs()
	write := func() {
		key := "hot"
		if !hot {
			key = "m/" + strconv.FormatInt(n.Add(1), 36)
		}
		err := db.Update(ctx, func(tx storage.Tx) error {
			if _, err := tx.Get(key); err != nil && !storage.IsNotFound(err) {
				return err
			}
			return tx.Put(key, make([]byte, 300))
		})
		if err != nil {
			b.Error(err)
		}
	}
	if clients == 1 {
		for b.Loop() {
			write()
		}
	} else {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				write()
			}
		})
	}
	st := db.Stats()
	b.ReportMetric(float64(st.Batches)/float64(st.Commits), "fsync/op")
	b.ReportMetric(float64(st.Conflicts)/float64(st.Commits), "conflicts/op")
}
