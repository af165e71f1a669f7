package storage_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// newDB opens a DB on a Map that can be made to fail.
func newDB(t *testing.T, cfg storage.Config) (*storage.DB, *storagetest.Failing) {
	b := storagetest.NewFailing(storagetest.NewMap())
	db := storage.Open(b, cfg)
	t.Cleanup(func() { _ = db.Close() })
	return db, b
}

func set(db *storage.DB, key, value string) error {
	return db.Update(context.Background(), func(tx storage.Tx) error { return tx.Put(key, []byte(value)) })
}

// read returns the value of key in the newest durable state, or its error's text.
func read(db *storage.DB, key string) (got string) {
	_ = db.View(context.Background(), func(tx storage.Tx) error {
		v, err := tx.Get(key)
		if got = string(v); err != nil {
			got = err.Error()
		}
		return nil
	})
	return got
}

const none = "no such key"

func TestFailedWrite(t *testing.T) {
	for _, c := range []struct {
		name    string
		fault   storagetest.Fault
		err     error
		goesOn  bool
		visible string
	}{
		{"before", storagetest.Before, storage.ErrNotApplied, true, "old"},
		{"lost", storagetest.Lost, storage.ErrUncertain, false, "old"},
		{"after", storagetest.After, storage.ErrUncertain, false, "old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			telling := make(chan error, 1)
			db, b := newDB(t, storage.Config{OnFail: func(err error) { telling <- err }})
			if err := set(db, "k", "old"); err != nil {
				t.Fatal(err)
			}
			b.FailNth(1, c.fault)
			err := set(db, "k", "new")
			if !errors.Is(err, c.err) || !errors.Is(err, storagetest.ErrInjected) || !errs.Is(err, errs.Unavailable) && !c.goesOn {
				t.Errorf("got %v", err)
			}
			if got := read(db, "k"); got != c.visible {
				t.Errorf("visible: %q", got)
			}
			err = set(db, "k", "newer")
			var told error
			if !c.goesOn {
				told = <-telling // perhaps after the write has returned
			} else if len(telling) > 0 {
				told = <-telling
			}
			if c.goesOn && (err != nil || told != nil || db.Err() != nil) {
				t.Errorf("afterwards: %v, told %v, %v", err, told, db.Err())
			}
			if !c.goesOn && (!errs.Is(err, errs.Unavailable) || errors.Is(err, storage.ErrUncertain) || told == nil || db.Err() == nil) {
				t.Errorf("afterwards: %v, told %v, %v", err, told, db.Err())
			}
		})
	}
}

// TestFailureTakesDependants checks that what was built on a commit falls with it.
func TestFailureTakesDependants(t *testing.T) {
	for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.Lost} {
		synctest.Test(t, func(t *testing.T) {
			db, b := newDB(t, storage.Config{})
			release := b.Hold()
			b.FailNth(1, fault)
			var results [3]error
			go func() { results[0] = set(db, "k", "1") }()
			synctest.Wait()
			go func() {
				results[1] = db.Update(t.Context(), func(tx storage.Tx) error {
					v, err := tx.Get("k")
					if err != nil {
						return err
					}
					return tx.Put("built", v)
				})
			}()
			go func() {
				results[2] = db.Update(t.Context(), func(tx storage.Tx) error {
					_, err := tx.Get("k")
					return err
				})
			}()
			synctest.Wait()
			release()
			synctest.Wait()
			for i, err := range results {
				again := i == 2 && fault == storagetest.Before // it wrote nothing, and looks again
				if again != storage.IsNotFound(err) || !again && !errs.Is(err, errs.Unavailable) && !errors.Is(err, storage.ErrNotApplied) {
					t.Errorf("%d: %v", i, err)
				}
				if uncertain := errors.Is(err, storage.ErrUncertain); uncertain != (i == 0 && fault == storagetest.Lost) {
					t.Errorf("%d: uncertain: %v", i, err)
				}
			}
			if got := read(db, "built"); got != none {
				t.Errorf("built: %q", got)
			}
		})
	}
}

// TestPipeline checks that Updates build on what is not durable yet, that Views do not see it, and that one Apply takes all
// that has gathered.
func TestPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, b := newDB(t, storage.Config{})
		release := b.Hold()
		const n = 50
		var done atomic.Int32
		for i := range n {
			if i == 1 {
				synctest.Wait() // until the first is in an Apply of its own
			}
			go func() {
				err := db.Update(t.Context(), func(tx storage.Tx) error {
					v, err := tx.Get("n")
					if err != nil && !storage.IsNotFound(err) {
						return err
					}
					return tx.Put("n", append(v[:len(v):len(v)], 'x'))
				})
				if err != nil {
					t.Error(err)
				}
				done.Add(1)
			}()
		}
		synctest.Wait()
		if got := read(db, "n"); got != none || done.Load() != 0 {
			t.Errorf("before it is durable: %q, %d done", got, done.Load())
		}
		release()
		synctest.Wait()
		if got := read(db, "n"); got != strings.Repeat("x", n) || done.Load() != n {
			t.Errorf("got %q, %d done", got, done.Load())
		}
		if b.Applied() != 2 {
			t.Errorf("%d applies", b.Applied())
		}
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, b := newDB(t, storage.Config{})
		release := b.Hold()
		ctx, cancel := context.WithCancel(t.Context())
		var hooked bool
		var err error
		go func() {
			err = db.Update(ctx, func(tx storage.Tx) error {
				tx.OnCommit(func() { hooked = true })
				return tx.Put("k", []byte("v"))
			})
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !errors.Is(err, storage.ErrUncertain) || !errors.Is(err, context.Canceled) || hooked {
			t.Errorf("got %v, hooked %v", err, hooked)
		}
		release()
		synctest.Wait()
		if !hooked || read(db, "k") != "v" {
			t.Errorf("hooked %v, %q", hooked, read(db, "k"))
		}
		if err := db.Update(ctx, func(storage.Tx) error { return nil }); !errors.Is(err, context.Canceled) || errors.Is(err, storage.ErrUncertain) {
			t.Errorf("before it is queued: %v", err)
		}
	})
}

func TestConflict(t *testing.T) {
	db, _ := newDB(t, storage.Config{})
	reads := map[string]func(tx storage.Tx) error{
		"get":   func(tx storage.Tx) error { _, err := tx.Get("d/k"); return ignoreNotFound(err) },
		"list":  func(tx storage.Tx) error { _, err := tx.List("d/", "", 0); return err },
		"first": func(tx storage.Tx) error { _, err := tx.List("", "", 1); return err },
		"scan": func(tx storage.Tx) error {
			for _, err := range tx.Scan("", "") {
				return err
			}
			return nil
		},
	}
	writes := map[string]func(tx storage.Tx) error{
		"put":           func(tx storage.Tx) error { return tx.Put("d/k", nil) },
		"delete":        func(tx storage.Tx) error { return tx.Delete("d/k") },
		"delete prefix": func(tx storage.Tx) error { return tx.DeletePrefix("d/") },
	}
	for r, read := range reads {
		for w, write := range writes {
			runs := 0
			fn := func(tx storage.Tx) error {
				if err := read(tx); err != nil {
					return err
				}
				if runs++; runs == 1 {
					if err := db.Update(context.Background(), write); err != nil {
						t.Fatal(err)
					}
				}
				return tx.Put("x", nil)
			}
			if err := db.UpdateOnce(context.Background(), fn); !errors.Is(err, storage.ErrConflict) || runs != 1 {
				t.Errorf("%s, %s: once: %v, %d runs", r, w, err, runs)
			}
			runs = 0
			if err := db.Update(context.Background(), fn); err != nil || runs != 2 {
				t.Errorf("%s, %s: %v, %d runs", r, w, err, runs)
			}
		}
	}
	if err := db.Update(context.Background(), writes["delete prefix"]); err != nil {
		t.Fatal(err)
	}
	// What was not read does not conflict.
	err := db.UpdateOnce(context.Background(), func(tx storage.Tx) error {
		if _, err := tx.List("d/", "", 1); err != nil {
			return err
		}
		_ = set(db, "d/z", "behind what was listed")
		_ = set(db, "e", "beside it")
		return tx.Put("x", nil)
	})
	if !errors.Is(err, storage.ErrConflict) { // d/ was empty, so all of it was read
		t.Errorf("got %v", err)
	}
	if err := set(db, "d/a", ""); err != nil {
		t.Fatal(err)
	}
	err = db.UpdateOnce(context.Background(), func(tx storage.Tx) error {
		if _, err := tx.List("d/", "", 1); err != nil {
			return err
		}
		_ = set(db, "d/y", "behind what was listed")
		return tx.Put("x", nil)
	})
	if err != nil {
		t.Errorf("behind what was listed: %v", err)
	}
}

func ignoreNotFound(err error) error {
	if storage.IsNotFound(err) {
		return nil
	}
	return err
}

// TestProgress checks that a long Update commits although others keep changing what it reads, and although the history is
// too short for it.
func TestProgress(t *testing.T) {
	db, _ := newDB(t, storage.Config{HistoryCommits: 2})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				_ = set(db, fmt.Sprintf("k%d", w), fmt.Sprint(i))
			}
		})
	}
	runs := 0
	err := db.Update(context.Background(), func(tx storage.Tx) error {
		runs++
		before := db.Stats().Commits
		for _, key := range []string{"k0", "k1"} {
			if _, err := tx.Get(key); ignoreNotFound(err) != nil {
				return err
			}
		}
		for runs < 20 && runs <= 12 && db.Stats().Commits < before+3 { // let others pass, while they can
			_, _ = tx.Get("k0")
		}
		return tx.Put("k0", []byte("mine"))
	})
	cancel()
	wg.Wait()
	if err != nil || runs < 2 {
		t.Errorf("%v after %d runs", err, runs)
	}
}

func TestLimits(t *testing.T) {
	db, _ := newDB(t, storage.Config{MaxTxOps: 3, MaxTxBytes: 100, MaxKeyBytes: 10})
	for _, c := range []struct {
		name string
		kind errs.Kind
		fn   func(tx storage.Tx) error
	}{
		{"key", errs.TooLarge, func(tx storage.Tx) error { return tx.Put("12345678901", nil) }},
		{"no key", errs.Invalid, func(tx storage.Tx) error { return tx.Put("", nil) }},
		{"reserved key", errs.Invalid, func(tx storage.Tx) error { return tx.Delete("\x00") }},
		{"bytes", errs.TooLarge, func(tx storage.Tx) error { return tx.Put("k", make([]byte, 100)) }},
		{"ops", errs.TooLarge, func(tx storage.Tx) error {
			return errors.Join(tx.Put("a", nil), tx.Delete("b"), tx.DeletePrefix("c"), tx.Put("d", nil))
		}},
	} {
		if err := db.Update(context.Background(), c.fn); !errs.Is(err, c.kind) && !strings.Contains(fmt.Sprint(err), "more than") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	err := db.Update(context.Background(), func(tx storage.Tx) error {
		for range 10 { // overwriting does not add up
			if err := tx.Put("k", make([]byte, 90)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestViewIsReadOnly(t *testing.T) {
	db, _ := newDB(t, storage.Config{})
	var kept storage.Tx
	err := db.View(context.Background(), func(tx storage.Tx) error {
		kept = tx
		if tx.Writable() {
			t.Error("writable")
		}
		return errors.Join(tx.Put("k", nil), tx.Delete("k"), tx.DeletePrefix("k"))
	})
	if !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("got %v", err)
	}
	if _, err := kept.Get("k"); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("after its end: %v", err)
	}
}

func TestHooks(t *testing.T) {
	db, _ := newDB(t, storage.Config{})
	var ran []int
	runs := 0
	err := db.Update(context.Background(), func(tx storage.Tx) error {
		runs++
		run := runs
		_, _ = tx.Get("k")
		tx.OnCommit(func() { ran = append(ran, run) })
		if run == 1 {
			_ = set(db, "k", "")
		}
		return tx.Put("x", nil)
	})
	if err != nil || fmt.Sprint(ran) != "[2]" {
		t.Errorf("%v, %v", err, ran)
	}
	wrong := errors.New("wrong")
	err = db.Update(context.Background(), func(tx storage.Tx) error {
		tx.OnCommit(func() { t.Error("ran though it failed") })
		_ = tx.Put("y", nil)
		return wrong
	})
	if !errors.Is(err, wrong) || read(db, "y") != none {
		t.Errorf("%v, %q", err, read(db, "y"))
	}
}

func TestWatch(t *testing.T) {
	db, _ := newDB(t, storage.Config{})
	var got []string
	cancel := db.Watch("a/", func(ch storage.Change) {
		seen := read(db, "a/1") // it is visible
		got = append(got, fmt.Sprint(ch.Keys, ch.Prefixes, seen))
	})
	_ = set(db, "a/1", "x")
	_ = set(db, "b/1", "x")
	_ = db.Update(context.Background(), func(tx storage.Tx) error {
		return errors.Join(tx.DeletePrefix("a/"), tx.DeletePrefix(""), tx.DeletePrefix("b"), tx.Put("a/1", []byte("y")))
	})
	cancel()
	_ = set(db, "a/2", "x")
	want := "[a/1] []x;[a/1] [a/ ]y"
	if strings.Join(got, ";") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ";"), want)
	}
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, b := newDB(t, storage.Config{})
		release := b.Hold()
		var wrote, closed error
		go func() { wrote = set(db, "k", "v") }()
		synctest.Wait()
		ended := false
		go func() { closed = db.Close(); ended = true }()
		synctest.Wait()
		if ended {
			t.Error("closed with a commit pending")
		}
		if err := set(db, "x", "v"); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("update while closing: %v", err)
		}
		release()
		synctest.Wait()
		if !ended || wrote != nil || closed != nil {
			t.Errorf("%v, %v, %v", ended, wrote, closed)
		}
		err := db.View(t.Context(), func(storage.Tx) error { return nil })
		if !errors.Is(err, storage.ErrClosed) {
			t.Errorf("view: %v", err)
		}
		if err := set(db, "x", "v"); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("update: %v", err)
		}
		if err := db.Close(); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

// TestApplied plays a standby, whose backend is written by the log.
func TestApplied(t *testing.T) {
	db, b := newDB(t, storage.Config{})
	c := newCache(db, 1<<20)
	if cached(db, c, "a/k") != none {
		t.Fatal("there")
	}
	var told []string
	db.Watch("", func(ch storage.Change) { told = append(told, ch.Keys...) })
	log := func(ch storage.Change, ops ...storage.Op) {
		t.Helper()
		if err := errors.Join(b.Apply(t.Context(), ops), db.Applied(ch)); err != nil {
			t.Fatal(err)
		}
	}
	log(storage.Change{Keys: []string{"a/k"}}, storage.Op{Kind: storage.Put, Key: "a/k", Value: []byte("1")})
	if got := cached(db, c, "a/k"); got != "1" {
		t.Errorf("got %s", got)
	}
	log(storage.Change{Prefixes: []string{"a/"}}, storage.Op{Kind: storage.DeletePrefix, Key: "a/"})
	if got := cached(db, c, "a/k"); got != none {
		t.Errorf("got %s", got)
	}
	if fmt.Sprint(told) != "[a/k]" {
		t.Errorf("told %v", told)
	}
}

// TestSlowUpdate checks that an Update that takes its time is not failed by writes that have nothing to do with it, also
// when it began on a pending commit whose value is forgotten meanwhile.
func TestSlowUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, b := newDB(t, storage.Config{HistoryCommits: 4})
		release := b.Hold()
		go func() { _ = set(db, "k", "pending") }()
		synctest.Wait()
		err := db.UpdateOnce(t.Context(), func(tx storage.Tx) error {
			if _, err := tx.Get("other"); !storage.IsNotFound(err) {
				return err
			}
			release()
			for i := range 50 {
				_ = set(db, "n", fmt.Sprint(i))
			}
			v, err := tx.Get("k")
			if err != nil || string(v) != "pending" {
				t.Errorf("got %q, %v", v, err)
			}
			return tx.Put("k", []byte("done"))
		})
		if err != nil || read(db, "k") != "done" {
			t.Errorf("%v, %q", err, read(db, "k"))
		}
	})
}
