package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// A bench is a queue over a store in memory, within a bubble of synctest.
type bench struct {
	t       *testing.T
	db      *storage.DB
	backend *storagetest.Failing
	start   time.Time

	mu   sync.Mutex
	done []string       // what was handled: id@time since the start
	fail map[string]int // ids that fail so often
	hold map[string]time.Duration
}

func newBench(t *testing.T) *bench {
	t.Helper()
	f := storagetest.NewFailing(storagetest.NewMap())
	return &bench{
		t: t, backend: f, db: storage.Open(f, storage.Config{}), start: time.Now(),
		fail: map[string]int{}, hold: map[string]time.Duration{},
	}
}

func (b *bench) handle(ctx context.Context, tx storage.Tx, it Item) error {
	b.mu.Lock()
	wait, failing := b.hold[it.ID], b.fail[it.ID]
	if failing > 0 {
		b.fail[it.ID]--
	}
	b.mu.Unlock()
	if wait > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	if failing > 0 {
		return errors.New("not now")
	}
	tx.OnCommit(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.done = append(b.done, fmt.Sprintf("%s@%s", it.ID, time.Since(b.start)))
	})
	return Cancel(tx, it)
}

// run starts the queue and returns what stops it.
func (b *bench) run(cfg Config) (stop func()) {
	cfg.DB, cfg.Log = b.db, slog.New(slog.DiscardHandler)
	if cfg.Handlers == nil {
		cfg.Handlers = map[string]Handler{"k": b.handle}
	}
	q := NewQueue(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		q.Run(ctx)
	}()
	synctest.Wait()
	return func() {
		cancel()
		<-ended
		if err := b.db.Close(); err != nil {
			b.t.Error(err)
		}
	}
}

func (b *bench) schedule(id string, in time.Duration) {
	b.t.Helper()
	b.update(func(tx storage.Tx) error {
		return Schedule(tx, Item{Due: time.Now().Add(in), Kind: "k", NS: "root", ID: id})
	})
}

func (b *bench) update(fn func(tx storage.Tx) error) {
	b.t.Helper()
	if err := b.db.Update(context.Background(), fn); err != nil {
		b.t.Fatal(err)
	}
}

// pass lets time go by.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d) // the time of the bubble
	synctest.Wait()
}

func (b *bench) want(ids ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.done, ids) {
		b.t.Errorf("handled %q, want %q", b.done, ids)
	}
	b.done = nil
}

func (b *bench) left() (keys []string) {
	b.t.Helper()
	err := b.db.View(context.Background(), func(tx storage.Tx) error {
		for k, err := range tx.Keys(QueuePrefix, "") {
			if err != nil {
				return err
			}
			keys = append(keys, k)
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return keys
}

func TestQueueOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.schedule("late", 3*time.Hour)
		b.schedule("first", time.Second)
		b.schedule("past", -time.Hour)
		b.schedule("second", 2*time.Second)
		stop := b.run(Config{})
		defer stop()
		b.want("past@0s")
		b.pass(10 * time.Second)
		b.want("first@1s", "second@2s")
		b.pass(3 * time.Hour)
		b.want("late@3h0m0s")
		if keys := b.left(); keys != nil {
			t.Errorf("left: %q", keys)
		}
	})
}

// Something due before the sleeper would look wakes it.
func TestQueueWakesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.schedule("far", 50*time.Minute)
		defer b.run(Config{})()
		b.pass(time.Minute)
		b.schedule("near", 10*time.Second)
		b.pass(30 * time.Second)
		b.want("near@1m10s")
		b.schedule("nearer", 5*time.Minute)
		b.schedule("now", 0)
		synctest.Wait()
		b.want("now@1m30s")
		b.pass(time.Hour)
		b.want("nearer@6m30s", "far@50m0s")
	})
}

// An item that is scheduled while the queue looks is not forgotten until the
// next look.
func TestQueueScheduledMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		q := NewQueue(Config{DB: b.db, Log: slog.New(slog.DiscardHandler)})
		q.begin()
		_, wait, err := q.due(t.Context(), 1)
		if err != nil || wait != time.Hour {
			t.Fatalf("an empty index: %s, %v", wait, err)
		}
		key := Item{Due: time.Now().Add(5 * time.Second), Kind: "k", NS: "root", ID: "a"}.key()
		q.changed([]string{"x/bad", key})
		select {
		case <-q.wake:
		default:
		}
		if got := q.sleep(wait, true); got > 5*time.Second {
			t.Errorf("sleeps %s", got)
		}
		if err := b.db.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestQueueFailingItems(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.fail["bad"] = 3 // in the transaction of all, alone, and once more
		for i := range 5 {
			b.schedule(fmt.Sprint(i), time.Duration(i-9)*time.Millisecond)
		}
		b.schedule("bad", -7*time.Millisecond)
		defer b.run(Config{})()
		b.want("0@0s", "1@0s", "2@0s", "3@0s", "4@0s")
		b.pass(15 * time.Second)
		b.want()
		b.pass(10 * time.Second)
		b.want("bad@20s")
	})
}

// Failed decides what becomes of an item that cannot be handled.
func TestQueueFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.fail["bad"] = 100
		b.schedule("bad", 0)
		var cause error
		defer b.run(Config{Failed: map[string]func(context.Context, storage.Tx, Item, error) error{
			"k": func(_ context.Context, tx storage.Tx, it Item, err error) error {
				cause = err
				return Cancel(tx, it)
			},
		}})()
		if cause == nil || b.left() != nil {
			t.Errorf("cause %v, left %q", cause, b.left())
		}
	})
}

// A slow item holds up one worker, not what others do.
func TestQueueSlowItem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.hold["slow"] = time.Minute
		b.schedule("slow", 0)
		b.schedule("quick", time.Millisecond)
		b.pass(time.Second)
		defer b.run(Config{Batch: 1, Workers: 2})()
		b.want("quick@1s")
		b.pass(2 * time.Minute)
		b.want("slow@1m1s")
	})
}

// A store that fails is asked again, with pauses.
func TestQueueFailingStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.schedule("a", time.Second)
		defer b.run(Config{})()
		b.backend.FailReads(true)
		b.pass(3 * time.Second)
		b.backend.FailReads(false)
		b.backend.Fail(storagetest.Before)
		b.pass(time.Minute)
		b.want()
		b.backend.Fail(storagetest.None)
		b.pass(2 * time.Minute)
		if len(b.done) != 1 {
			t.Errorf("handled %q", b.done)
		}
	})
}

// What is no item, or of a kind that nobody handles, stands in nobody's way.
func TestQueueStrangers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.update(func(tx storage.Tx) error {
			if err := tx.Put(QueuePrefix+"0", []byte("?")); err != nil {
				return err
			}
			return Schedule(tx, Item{Due: time.Now(), Kind: "unknown", NS: "root", ID: "u"})
		})
		b.schedule("mine", 0)
		defer b.run(Config{})()
		b.want("mine@0s")
		b.pass(time.Minute)
		if keys := b.left(); len(keys) != 2 || !strings.Contains(keys[1], "/unknown/root/u") {
			t.Errorf("left: %q", keys)
		}
	})
}

// Many due items are handled in few transactions, and their number costs an
// idle queue nothing.
func TestQueueMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		const n = 1000
		b.update(func(tx storage.Tx) error {
			for i := range n {
				for _, due := range []time.Duration{0, 48 * time.Hour} {
					if err := Schedule(tx, Item{Due: time.Now().Add(due), Kind: "k", NS: "root", ID: fmt.Sprint(i)}); err != nil {
						return err
					}
				}
			}
			return nil
		})
		before := b.backend.Applied()
		defer b.run(Config{})()
		if applied := b.backend.Applied() - before; len(b.done) != n || applied > n/16 {
			t.Errorf("%d items were handled in %d writes", len(b.done), applied)
		}
	})
}

// TestQueueGivesWay: while requests come, batches are small and rest in between;
// what is late, waits for somebody else, or has no request beside it, does not.
func TestQueueGivesWay(t *testing.T) {
	for _, c := range []struct {
		name     string
		requests bool
		late     time.Duration
		each     time.Duration // what an item takes
		want     []string
	}{
		{"nobody there", false, 0, time.Millisecond, []string{"0@0s", "1@1ms", "2@0s", "3@1ms"}},
		{"requests", true, 0, time.Millisecond, []string{"0@0s", "1@2ms", "2@4ms", "3@6ms"}},
		{"half as late as may be", true, patience / 2, time.Millisecond, []string{"0@0s", "1@1.5ms", "2@3ms", "3@4.5ms"}},
		{"too late to wait", true, patience, time.Millisecond, []string{"0@0s", "1@1ms", "2@2ms", "3@1ms"}},
		{"slow by itself", true, 0, time.Second, []string{"0@0s", "1@1s", "2@2s", "3@1s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var came uint64
				var got []string
				var mu sync.Mutex
				b := newBench(t)
				for i := range 4 {
					b.schedule(fmt.Sprint(i), -c.late)
				}
				stop := b.run(Config{
					Batch: 2, Workers: 2,
					Requests: func() uint64 {
						if c.requests {
							came++
						}
						return came
					},
					Handlers: map[string]Handler{"k": func(_ context.Context, tx storage.Tx, it Item) error {
						mu.Lock()
						got = append(got, fmt.Sprintf("%s@%s", it.ID, time.Since(b.start).Round(100*time.Microsecond)))
						mu.Unlock()
						time.Sleep(c.each) // the time of the bubble
						return Cancel(tx, it)
					}},
				})
				b.pass(10 * time.Second)
				stop()
				slices.Sort(got)
				if !slices.Equal(got, c.want) {
					t.Errorf("handled %q, want %q", got, c.want)
				}
			})
		})
	}
}

func TestItemKeys(t *testing.T) {
	t.Parallel()
	base := time.UnixMilli(1_700_000_000_000)
	var keys []string
	for _, d := range []time.Duration{0, time.Nanosecond, time.Millisecond, time.Hour, 100 * 365 * 24 * time.Hour} {
		it := Item{Due: base.Add(d), Kind: "l", NS: "root", ID: "secret/a/b"}
		keys = append(keys, it.key())
		got, err := parseItem(strings.TrimPrefix(it.key(), QueuePrefix))
		if err != nil || got.Kind != it.Kind || got.NS != it.NS || got.ID != it.ID {
			t.Errorf("%+v became %+v, %v", it, got, err)
		}
		if late := got.Due.Sub(it.Due); late < 0 || late >= time.Millisecond {
			t.Errorf("due %s late", late)
		}
	}
	if !slices.IsSorted(keys) {
		t.Errorf("not in the order of time: %q", keys)
	}
	for _, bad := range []string{"", "a", "zz/k/n/i", "1/k/n"} {
		if it, err := parseItem(bad); err == nil {
			t.Errorf("%q is %+v", bad, it)
		}
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	db := storage.Open(storagetest.NewMap(), storage.Config{})
	defer db.Close()
	now := time.Now().UTC().Truncate(time.Millisecond)
	e := &Entry{
		ID: "db/creds/r/x1", MountID: "m", Kind: "user", Internal: map[string]any{"u": "v"}, TokenKey: "tk", TokenNS: "root",
		Issued: now, Expires: now.Add(time.Hour), Renewable: true, NamespaceID: "root",
	}
	do := func(fn func(tx storage.Tx) error) {
		t.Helper()
		if err := db.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	keys := func() string {
		var list []string
		do(func(tx storage.Tx) error {
			list = nil
			for k, err := range tx.Keys("", "") {
				if err != nil {
					return err
				}
				list = append(list, k)
			}
			return nil
		})
		return strings.Join(list, " ")
	}
	do(func(tx storage.Tx) error { return Put(tx, e, time.Time{}) })
	want := "n/root/l/e/db/creds/r/x1 n/root/l/t/tk/root/db/creds/r/x1 " + e.due(e.Expires).key()
	if got := keys(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	do(func(tx storage.Tx) error {
		got, err := Get(tx, "root", e.ID)
		if err != nil || got.Path() != "db/creds/r" || got.Internal["u"] != "v" || !got.Expires.Equal(e.Expires) {
			t.Errorf("got %+v, %v", got, err)
		}
		if _, err := Get(tx, "root", "other"); !errors.Is(err, ErrNotFound) || !errs.Is(err, errs.Invalid) {
			t.Errorf("a lease that is not there: %v", err)
		}
		ids, next, err := Below(tx, "root", "db/", "", 1)
		if len(ids) != 1 || next != "" || err != nil {
			t.Errorf("ids %q, %q, %v", ids, next, err)
		}
		refs, more, err := OfToken(tx, "root", "tk", 1)
		if len(refs) != 1 || refs[0] != [2]string{"root", e.ID} || more || err != nil {
			t.Errorf("of the token %q, %t, %v", refs, more, err)
		}
		names, err := List(tx, "root", "db/", "", 0)
		if !slices.Equal(names, []string{"creds/"}) || err != nil {
			t.Errorf("list %q, %v", names, err)
		}
		return nil
	})
	// A renewal has one place in the index.
	was := e.Expires
	e.Expires = now.Add(2 * time.Hour)
	do(func(tx storage.Tx) error { return Put(tx, e, was) })
	if got := keys(); strings.Count(got, QueuePrefix) != 1 || !strings.Contains(got, e.due(e.Expires).key()) {
		t.Errorf("renewed: %s", got)
	}
	// An irrevocable one has none.
	e.Attempts, e.Error = MaxAttempts, "no"
	do(func(tx storage.Tx) error { return Put(tx, e, e.Expires) })
	if got := keys(); strings.Contains(got, " "+QueuePrefix) || !strings.Contains(got, "n/root/l/i/"+e.ID) {
		t.Errorf("irrevocable: %s", got)
	}
	do(func(tx storage.Tx) error {
		n := 0
		for id, err := range Irrevocable(tx, "root") {
			if n++; err != nil || id != e.ID {
				t.Errorf("irrevocable: %q, %v", id, err)
			}
		}
		if n != 1 {
			t.Errorf("%d are irrevocable", n)
		}
		return Delete(tx, e)
	})
	if got := keys(); got != "" {
		t.Errorf("left: %s", got)
	}
}

func BenchmarkSchedule(b *testing.B) {
	db := storage.Open(storagetest.NewMap(), storage.Config{})
	defer db.Close()
	now := time.Now()
	b.ReportAllocs()
	err := db.Update(context.Background(), func(tx storage.Tx) error {
		for b.Loop() {
			if err := Schedule(tx, Item{Due: now, Kind: "t", NS: "root", ID: "0123456789abcdef"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
