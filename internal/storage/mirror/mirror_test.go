package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

const lastKey = "seal/config"

func all(t *testing.T, b storage.Backend) map[string]string {
	t.Helper()
	out := map[string]string{}
	it, err := b.Scan(context.Background(), storage.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for it.Next() {
		v, err := it.Value()
		if err != nil {
			t.Fatal(err)
		}
		out[string(it.Key())] = string(v)
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCopy writes at random while all is copied, with a target and a source that fail at times. After the switch the target has what
// the source has, but for the last key, and the source takes nothing more.
func TestCopy(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { oneCopy(t, seed) })
		})
	}
}

func oneCopy(t *testing.T, seed uint64) {
	base, failing := storagetest.NewMap(), storagetest.NewFailing(storagetest.NewMap())
	source, target := NewSource(storagetest.NewFailing(base)), failing
	rnd := rand.New(rand.NewPCG(seed, 1))
	first := storage.Batch{{Kind: storage.Put, Key: lastKey, Value: []byte("config")}}
	for i := range 600 {
		first = append(first, storage.Op{Kind: storage.Put, Key: fmt.Sprintf("k/%02d/%05d", i%20, i), Value: []byte{byte(i)}})
	}
	if err := source.Apply(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	db := storage.Open(source, storage.Config{})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	var refused atomic.Bool
	for w := range 4 {
		rnd := rand.New(rand.NewPCG(seed, uint64(10+w)))
		writers.Go(func() {
			for n := 0; ctx.Err() == nil && !refused.Load(); n++ {
				err := db.Update(ctx, func(tx storage.Tx) error {
					if rnd.IntN(50) == 0 {
						if err := tx.DeletePrefix(fmt.Sprintf("k/%02d/", rnd.IntN(20))); err != nil {
							return err
						}
					}
					for range 1 + rnd.IntN(4) {
						key := fmt.Sprintf("k/%02d/%05d", rnd.IntN(20), rnd.IntN(600))
						if rnd.IntN(4) == 0 {
							if err := tx.Delete(key); err != nil {
								return err
							}
						} else if err := tx.Put(key, fmt.Append(nil, w, n)); err != nil {
							return err
						}
					}
					return nil
				})
				if errors.Is(err, storage.ErrNotApplied) {
					refused.Store(true)
				} else if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				pause(ctx, restTime)
			}
		})
	}
	c, err := source.Copy(target, lastKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source.Copy(target, lastKey); !errs.Is(err, errs.Conflict) {
		t.Errorf("two copies at a time: %v", err)
	}
	c.size = 40
	running := make(chan error, 1)
	go func() { running <- c.Run(ctx) }()
	for !c.Following() {
		if err := c.Switch(ctx, storage.ErrNotApplied, nil); !errs.Is(err, errs.Precondition) {
			t.Fatalf("switched before all was copied: %v", err)
		}
		if rnd.IntN(3) == 0 {
			failing.FailNth(1+rnd.IntN(9), storagetest.Before)
		}
		pause(ctx, lastRetry)
		select {
		case err := <-running:
			t.Fatal(err)
		default:
		}
	}
	for range rnd.IntN(5) {
		failing.FailNth(1+rnd.IntN(9), storagetest.Before)
		pause(ctx, restTime)
	}
	failing.Fail(storagetest.None)
	finish := errors.New("the last step failed")
	if err := c.Switch(ctx, storage.ErrNotApplied, func(context.Context) (bool, error) { return false, finish }); !errors.Is(err, finish) {
		t.Fatalf("got %v", err)
	}
	pause(ctx, restTime)
	var there map[string]string
	if err := c.Switch(ctx, storage.ErrNotApplied, func(context.Context) (bool, error) { there = all(t, base); return true, nil }); err != nil {
		t.Fatal(err)
	}
	if err := <-running; err != nil {
		t.Error(err)
	}
	writers.Wait()
	if !refused.Load() {
		t.Error("no write was refused")
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	got, now := all(t, target), all(t, base)
	if len(now) != len(there) || there[lastKey] != "config" {
		t.Errorf("the source has %d entries, and had %d", len(now), len(there))
	}
	delete(there, lastKey)
	if len(got) != len(there) {
		t.Errorf("the target has %d entries, the source %d", len(got), len(there))
	}
	for key, value := range there {
		if now[key] != value || got[key] != value {
			t.Errorf("%s is %q, was %q, and is %q in the target", key, now[key], value, got[key])
		}
	}
	if _, err := source.Copy(target, lastKey); err == nil {
		t.Error("it can be copied again")
	}
	if err := source.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "a", Value: []byte("b")}}); !errors.Is(err, storage.ErrNotApplied) {
		t.Errorf("it is written: %v", err)
	}
}

// TestCopyGivesUp ends with an error when the target does not come back, or refuses; the source goes on.
func TestCopyGivesUp(t *testing.T) {
	t.Parallel()
	for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.Lost} {
		synctest.Test(t, func(t *testing.T) {
			source, target := NewSource(storagetest.NewMap()), storagetest.NewFailing(storagetest.NewMap())
			put := storage.Batch{{Kind: storage.Put, Key: "a", Value: []byte("b")}}
			if err := source.Apply(t.Context(), put); err != nil {
				t.Fatal(err)
			}
			target.Fail(fault)
			c, err := source.Copy(target, lastKey)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Run(t.Context()); !errors.Is(err, storagetest.ErrInjected) {
				t.Errorf("got %v", err)
			}
			if err := source.Apply(t.Context(), put); err != nil {
				t.Error(err)
			}
			if c.Behind() != 0 {
				t.Error("it is noted for nobody")
			}
			if err := c.Switch(t.Context(), storage.ErrNotApplied, nil); err == nil {
				t.Error("it can be switched")
			}
			target.Fail(storagetest.None)
			again, err := source.Copy(target, lastKey)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- again.Run(ctx) }()
			synctest.Wait()
			if got, err := target.Get(t.Context(), "a"); err != nil || !bytes.Equal(got, []byte("b")) {
				t.Errorf("there is %q, %v", got, err)
			}
			cancel()
			if err := <-done; !errs.Is(err, errs.Unavailable) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestTooMany does not keep any number of keys in mind.
func TestTooMany(t *testing.T) {
	t.Parallel()
	source := NewSource(storagetest.NewMap())
	c, err := source.Copy(storagetest.NewMap(), lastKey)
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.Repeat([]byte("k"), 1<<20)
	for i := range notedBytes>>20 + 1 {
		key[0] = byte(' ' + i)
		c.note(storage.Batch{{Kind: storage.Delete, Key: string(key)}})
	}
	if err := c.Run(t.Context()); !errs.Is(err, errs.Failed) {
		t.Errorf("got %v", err)
	}
}

// failingOnce fails one Apply.
type failingOnce struct {
	storage.Backend
	n, at int
}

func (f *failingOnce) Apply(ctx context.Context, b storage.Batch) error {
	if f.n++; f.n == f.at {
		return errs.New(errs.Unavailable, "away for a moment: %w", storage.ErrNotApplied)
	}
	return f.Backend.Apply(ctx, b)
}

// TestShrunkPart copies a part again that has failed midway, and that ends earlier now: what was handed over behind its end, and
// deleted since, is deleted in the target.
func TestShrunkPart(t *testing.T) {
	t.Parallel()
	base, target := storagetest.NewMap(), storagetest.NewMap()
	source := NewSource(base)
	put := func(format string, n int) {
		for i := range n {
			if err := source.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: fmt.Sprintf(format, i), Value: []byte("v")}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("k/%05d", 1000)
	c, err := source.Copy(&failingOnce{Backend: target, at: 5}, lastKey)
	if err != nil {
		t.Fatal(err)
	}
	c.size = 500
	if _, _, err := c.round(t.Context()); err == nil {
		t.Fatal("the part has not failed")
	}
	if err := source.Apply(t.Context(), storage.Batch{{Kind: storage.Delete, Key: "k/00399"}}); err != nil {
		t.Fatal(err)
	}
	put("k/00000/%d", 200)
	for done := false; !done; {
		if _, done, err = c.round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := all(t, target), all(t, base); !maps.Equal(got, want) {
		t.Errorf("the target has %d entries, the source %d", len(got), len(want))
	}
}

// TestOthers fails when somebody else may have written, before the switch and within it.
func TestOthers(t *testing.T) {
	t.Parallel()
	source := NewSource(storagetest.NewMap())
	begin := func() *Copy {
		t.Helper()
		c, err := source.Copy(storagetest.NewMap(), lastKey)
		if err != nil {
			t.Fatal(err)
		}
		if _, done, err := c.round(t.Context()); err != nil || !done {
			t.Fatal(done, err)
		}
		return c
	}
	c := begin()
	if err := errors.Join(c.Whole(), c.Term().Err()); err != nil {
		t.Fatal(err)
	}
	mark, cancel := context.WithTimeout(c.Term(), time.Hour)
	defer cancel()
	source.Others()
	if mark.Err() == nil { // at once: they may write when Others returns
		t.Error("what was begun before others write may come after that")
	}
	if err := c.Switch(t.Context(), storage.ErrNotApplied, nil); !errs.Is(err, errs.NotActive) {
		t.Errorf("switched: %v", err)
	}
	early, err := source.Copy(storagetest.NewMap(), lastKey)
	if err == nil || early != nil {
		t.Error("two copies at a time")
	}
	source.Leads()
	if c.Whole() == nil || c.Term().Err() == nil {
		t.Error("it does not know that others have written")
	}
	if err := c.Run(t.Context()); !errs.Is(err, errs.NotActive) {
		t.Errorf("it goes on: %v", err)
	}
	c = begin()
	why := errors.New("gone")
	if err := c.Switch(t.Context(), why, func(context.Context) (bool, error) { return true, nil }); err != nil {
		t.Fatal(err)
	}
	put := storage.Batch{{Kind: storage.Put, Key: "k", Value: []byte("v")}}
	if err := source.Apply(t.Context(), put); !errors.Is(err, why) {
		t.Errorf("it is written: %v", err)
	}
	source.Return()
	if err := source.Apply(t.Context(), put); err != nil {
		t.Errorf("it is not given back: %v", err)
	}
}

// TestWaitingWrites has writes wait while a Copy switches: they go on when it has not switched, and end when others may write.
func TestWaitingWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := NewSource(storagetest.NewMap())
		write := func() <-chan error {
			done := make(chan error, 1)
			go func() {
				done <- source.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: "k", Value: []byte("v")}})
			}()
			synctest.Wait()
			return done
		}
		c, err := source.Copy(storagetest.NewMap(), lastKey)
		if err != nil {
			t.Fatal(err)
		}
		if _, done, err := c.round(t.Context()); err != nil || !done {
			t.Fatal(done, err)
		}
		var waits, cut, again <-chan error
		failed := errors.New("not this time")
		err = c.Switch(t.Context(), storage.ErrNotApplied, func(context.Context) (bool, error) {
			if !source.Switching() {
				t.Error("it does not say that it switches")
			}
			cut = write()
			if len(cut) > 0 {
				t.Error("a write does not wait")
			}
			source.Others()
			if err := <-cut; !errors.Is(err, storage.ErrNotApplied) || !errs.Is(err, errs.NotActive) {
				t.Errorf("a write when others may: %v", err)
			}
			if err := <-write(); !errors.Is(err, storage.ErrNotApplied) {
				t.Errorf("a write while others may: %v", err)
			}
			source.Leads()
			waits = write()
			return false, failed
		})
		if !errors.Is(err, failed) || source.Switching() {
			t.Fatal(err)
		}
		if err := <-waits; err != nil {
			t.Errorf("a write that has waited: %v", err)
		}
		if again = write(); <-again != nil {
			t.Error("it is not written afterwards")
		}
	})
}
