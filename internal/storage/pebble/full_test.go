package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

// TestFullDisk fills a real file system: ARCA_SMALL_DISK names a folder on one of about 60 MB.
func TestFullDisk(t *testing.T) {
	disk := os.Getenv("ARCA_SMALL_DISK")
	if disk == "" {
		t.Skip("ARCA_SMALL_DISK is not set")
	}
	dir := filepath.Join(disk, "data")
	ballast := filepath.Join(disk, "ballast")
	defer os.RemoveAll(dir)
	defer os.Remove(ballast)
	b, err := pebble.Open(pebble.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	db := storage.Open(b, storage.Config{})
	acked := 0
	write := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		err := db.Update(ctx, func(tx storage.Tx) error {
			return tx.Put(fmt.Sprintf("k%06d", acked), make([]byte, 10_000))
		})
		if err == nil {
			acked++
		}
		return err
	}
	check := func() {
		t.Helper()
		for i := range acked {
			_ = db.View(context.Background(), func(tx storage.Tx) error {
				if v, err := tx.Get(fmt.Sprintf("k%06d", i)); err != nil || len(v) != 10_000 {
					t.Errorf("%d: %d bytes, %v", i, len(v), err)
				}
				return nil
			})
		}
	}
	for err = write(); err == nil && acked < 100_000; err = write() {
	}
	t.Logf("full by itself after %d: %v", acked, err)
	if !errors.Is(err, storage.ErrNotApplied) {
		t.Error("not refused in time")
	}
	check()
	if err := os.RemoveAll(ballast); err != nil {
		t.Fatal(err)
	}
	// Another process takes the rest while we write.
	_ = db.Close()
	_ = b.Close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if b, err = pebble.Open(pebble.Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	db, acked = storage.Open(b, storage.Config{}), 0
	for range 200 {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	_ = f.Close()
	failed := 0
	for range 600 {
		if err = write(); err != nil {
			failed++
			if failed == 5 {
				break
			}
		}
	}
	t.Logf("filled by another: %d acknowledged, %d failed, %v", acked, failed, err)
	check()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); write() != nil && time.Since(start) < 10*time.Second; {
	}
	if err := write(); err != nil {
		t.Errorf("after making room: %v", err)
	}
	check()
	_ = db.Close()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if b, err = pebble.Open(pebble.Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	db = storage.Open(b, storage.Config{})
	check()
	_ = db.Close()
	_ = b.Close()
}
