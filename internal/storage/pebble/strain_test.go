package pebble_test

import (
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

// onIllTables is a store whose disk fails for tables, and how often it has, with a way to write a MB of keys that those of before overlap.
func onIllTables(t *testing.T, kind errorfs.OpKind, patience time.Duration) (b *pebble.Store, failures *atomic.Int64, put func() error) {
	failures = new(atomic.Int64)
	disk := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == kind && strings.HasSuffix(op.Path, ".sst") {
			failures.Add(1)
			return syscall.EIO
		}
		return nil
	}))
	b, err := pebble.Open(pebble.Config{FS: disk, Dir: "d", NoSync: true}.WithPatience(patience))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	return b, failures, func() error {
		n++
		return b.Replay(storage.Batch{{Kind: storage.Put, Key: strconv.Itoa(n * 7919 % 1000), Value: make([]byte, 1<<20)}}, false)
	}
}

// TestTablesCannotBeWritten has writes wait for tables that cannot be written: they are refused after a while, and what is there is read.
func TestTablesCannotBeWritten(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]errorfs.OpKind{"written": errorfs.OpFileWrite, "synced": errorfs.OpFileSyncData} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tablesCannotBe(t, kind)
		})
	}
}

func tablesCannotBe(t *testing.T, kind errorfs.OpKind) {
	b, failures, put := onIllTables(t, kind, 2*time.Second)
	defer func() { _ = b.Close() }() // it has failed
	refused := make(chan error, 1)
	go func() {
		for {
			if err := put(); err != nil {
				refused <- err
				return
			}
		}
	}()
	select {
	case err := <-refused:
		t.Log(err)
	case <-time.After(30 * time.Second):
		t.Fatal("a write waits for ever")
	}
	if n := failures.Load(); n > 200 {
		t.Errorf("it was tried %d times within seconds", n)
	}
	if b.Failed() == nil || put() == nil {
		t.Error("the store takes writes again")
	}
	if _, err := b.Get(t.Context(), strconv.Itoa(7919%1000)); err != nil {
		t.Errorf("what was written is not read: %v", err)
	}
}

// TestTablesCannotBeRead has a merge of tables fail as they cannot be read: it is not tried again without a pause, and writes are taken as long as they can be.
func TestTablesCannotBeRead(t *testing.T) {
	t.Parallel()
	b, failures, put := onIllTables(t, errorfs.OpFileReadAt, time.Minute)
	for range 100 {
		if err := put(); err != nil {
			t.Fatal(err)
		}
	}
	for failures.Load() == 0 {
		<-time.After(10 * time.Millisecond)
	}
	before := failures.Load()
	<-time.After(time.Second)
	if more := failures.Load() - before; more > 50 {
		t.Errorf("it was tried again %d times in a second", more)
	}
	if err := put(); err != nil || b.Failed() != nil {
		t.Errorf("a write that need not wait: %v", err)
	}
	_ = b.Close() // what is in memory cannot be merged
}

// TestStatisticsCannotBeRead opens a store whose tables cannot be read: Pebble, which gathers statistics of them, does not try that again without a pause.
func TestStatisticsCannotBeRead(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	b, err := pebble.Open(pebble.Config{FS: disk, Dir: "d"})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 40 { // more than is kept in memory
		if err := b.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: strconv.Itoa(n), Value: make([]byte, 1<<20)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	var failures atomic.Int64
	b, err = pebble.Open(pebble.Config{Dir: "d", FS: errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst") {
			failures.Add(1)
			return syscall.EIO
		}
		return nil
	}))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }() // its tables cannot be read
	<-time.After(2 * time.Second)
	if n := failures.Load(); n == 0 || n > 200 {
		t.Errorf("it was tried %d times in two seconds", n)
	}
}
