package sys_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/arcatest"
	"arca/internal/barrier"
	"arca/internal/core"
	"arca/internal/errs"
	"arca/internal/seal"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// A blind store cannot read its seal's configuration at times.
type blind struct {
	storage.Backend
	on atomic.Bool
}

func (b *blind) Get(ctx context.Context, key string) ([]byte, error) {
	if key == seal.ConfigKey && b.on.Load() {
		return nil, errs.New(errs.Unavailable, "it cannot be read just now")
	}
	return b.Backend.Get(ctx, key)
}

func (b *blind) ApplyShow(ctx context.Context, batch storage.Batch, show func() error) error {
	return storage.ApplyShow(ctx, b.Backend, batch, show)
}

// TestLeftBehindUnknown comes to lead while it cannot be read whether the store was migrated: the node does not become the active one
// before that is known, and is sealed when it was.
func TestLeftBehindUnknown(t *testing.T) {
	t.Parallel()
	store := &blind{}
	n := newRaftNodeOver(t, "node1", func(b storage.Backend) storage.Backend {
		store.Backend = b
		return store
	})
	ini, err := n.core.SealManager().Init(t.Context(), seal.InitParams{Shares: 1, Threshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	root := string(ini.RootToken)
	if _, err := n.core.SealManager().Unseal(t.Context(), append(barrier.Key(nil), ini.Shares[0]...), false); err != nil {
		t.Fatal(err)
	}
	n.want(204, "POST", "sys/mounts/kv", root, `{"type":"kv"}`)
	writes := func() bool {
		code, _ := n.do("POST", "kv/a", root, `{"v":"1"}`)
		return code == 204
	}
	again := func() {
		t.Helper()
		store.on.Store(true)
		n.share.Again()
		waitFor(t, "the node to lead its cluster", n.share.Leading)
		if n.core.Active().Leads() || writes() {
			t.Error("it is the active one, and does not know whether it may be")
		}
	}
	again()
	store.on.Store(false)
	waitFor(t, "the node to go on", writes)
	again()
	if _, err := seal.MarkMigrated(t.Context(), store.Backend, "file", "an id"); err != nil {
		t.Fatal(err)
	}
	store.on.Store(false)
	waitFor(t, "the node to be sealed", n.core.Sealed)
}

// TestTargetHangs has a target that does not return: the migration is given up with a word on why, writes go on, and the node
// can be sealed.
func TestTargetHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		target := storagetest.NewFailing(storagetest.NewMap())
		var release func()
		opens, closed := make(chan struct{}), 0
		hangs := false
		s := arcatest.New(t, arcatest.Config{Backend: storagetest.NewMap(), Core: core.Config{Target: func(context.Context) (*core.Target, error) {
			if hangs {
				<-opens
			}
			return &core.Target{Backend: target, Type: "test", Fresh: func(context.Context) error { return nil }, End: func() error {
				closed++
				return nil
			}}, nil
		}}})
		state := func() (string, string) {
			st := s.Core.Migration()
			return st.State, st.Error
		}
		begin := func() {
			t.Helper()
			s.Must("POST", "sys/storage/migration", s.Root, nil)
			time.Sleep(time.Second)
			if st, why := state(); st != core.MigrationFollowing {
				t.Fatal(st, why)
			}
		}
		write := func() {
			t.Helper()
			began := time.Now()
			s.Must("POST", "cubbyhole/a", s.Root, map[string]any{"v": "1"})
			if took := time.Since(began); took > 0 {
				t.Errorf("a write has waited %v", took)
			}
		}
		for _, c := range []struct {
			name string
			most time.Duration
			end  func()
			says string
		}{
			{"switch", 10 * time.Second, func() {
				code, body := s.Do("POST", "sys/storage/migration/switch", s.Root, nil)
				if code/100 == 2 || !strings.Contains(fmt.Sprint(body), "does not return") {
					t.Errorf("switched: %d %v", code, body)
				}
			}, "does not return"},
			{"follow", 2 * time.Minute, func() {
				write()
				time.Sleep(70 * time.Second)
			}, "does not return"},
			{"cancel", 10 * time.Second, func() {
				write()
				time.Sleep(time.Second)
				go s.Must("DELETE", "sys/storage/migration", s.Root, nil)
				time.Sleep(3 * time.Second) // not all of it
				if _, why := state(); !strings.Contains(why, "it was cancelled") {
					t.Errorf("got %q", why)
				}
				time.Sleep(3 * time.Second)
			}, ""},
		} {
			begin()
			release = target.Hold()
			began, before := time.Now(), closed
			c.end()
			took := time.Since(began)
			write()
			time.Sleep(5 * time.Second)
			if _, why := state(); !strings.Contains(why, c.says) || c.says == "" && why != "" {
				t.Errorf("%s: the reason is %q", c.name, why)
			}
			if took > c.most {
				t.Errorf("%s: it has taken %v", c.name, took)
			}
			if closed != before {
				t.Errorf("%s: it was closed while a call was under way", c.name)
			}
			release()
			synctest.Wait()
			if closed != before+1 {
				t.Errorf("%s: it was closed %d times", c.name, closed-before)
			}
			target.Backend = storagetest.NewMap()
		}
		// One that does not open, while the node is sealed.
		hangs = true
		s.Must("POST", "sys/storage/migration", s.Root, nil)
		time.Sleep(time.Second)
		began, before := time.Now(), closed
		if err := s.Core.Shut(); err != nil {
			t.Error(err)
		}
		s.Unseal()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it was sealed after %v", took)
		}
		if st, why := state(); st != core.MigrationNone {
			t.Error(st, why)
		}
		close(opens)
		synctest.Wait()
		if closed != before+1 {
			t.Error("what was opened late is not closed")
		}
	})
}

// A sick target fails when it is given a seal's configuration, after it has written that, and perhaps takes nothing more.
type sick struct {
	storage.Backend
	failed, forGood bool
}

func (s *sick) Apply(ctx context.Context, b storage.Batch) error {
	if s.failed && s.forGood {
		return fmt.Errorf("%w: it has failed", storage.ErrNotApplied)
	}
	err := s.Backend.Apply(ctx, b)
	for _, op := range b {
		if op.Key == seal.ConfigKey && err == nil {
			s.failed = true
			return errors.New("the disk has failed")
		}
	}
	return err
}

// TestLastStepInDoubt has the last write to the target fail, which shows it all the same: that it was done is said only where a write after it
// is durable.
func TestLastStepInDoubt(t *testing.T) {
	t.Parallel()
	for _, forGood := range []bool{false, true} {
		t.Run(fmt.Sprint(forGood), func(t *testing.T) {
			t.Parallel()
			target := &sick{Backend: storagetest.NewMap(), forGood: forGood}
			source := storagetest.NewMap()
			s := arcatest.New(t, arcatest.Config{Backend: source, Core: core.Config{Target: func(context.Context) (*core.Target, error) {
				return &core.Target{Backend: target, Type: "test", Fresh: func(context.Context) error { return nil }, End: func() error { return nil }}, nil
			}}})
			s.Must("POST", "sys/storage/migration", s.Root, nil)
			waitFor(t, "the target to follow", func() bool { return s.Core.Migration().State == core.MigrationFollowing })
			code, body := s.Do("POST", "sys/storage/migration/switch", s.Root, nil)
			if said := strings.Contains(fmt.Sprint(body), "whether it was done is not known"); said != forGood || code/100 == 2 == forGood {
				t.Errorf("switched: %d %v", code, body)
			}
			waitFor(t, "the node to be sealed", s.Core.Sealed)
			var mark *seal.MigratedError
			if _, err := seal.Identify(t.Context(), source); !errors.As(err, &mark) || mark.Done == forGood {
				t.Errorf("the source: %v", err)
			}
			if _, err := target.Get(t.Context(), seal.TargetKey); !storage.IsNotFound(err) {
				t.Errorf("what the target is known by while it has not all is still there: %v", err)
			}
		})
	}
}

// TestSwitchClientGoes has the client of a switch go away while the target takes its time: the migration goes on.
func TestSwitchClientGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		target := storagetest.NewFailing(storagetest.NewMap())
		s := arcatest.New(t, arcatest.Config{Backend: storagetest.NewMap(), Core: core.Config{Target: func(context.Context) (*core.Target, error) {
			return &core.Target{Backend: target, Type: "test", Fresh: func(context.Context) error { return nil }, End: func() error { return nil }}, nil
		}}})
		s.Must("POST", "sys/storage/migration", s.Root, nil)
		time.Sleep(time.Second)
		for range 2 { // it is the switch that writes to the target, and it waits for who does
			release := target.Hold()
			s.Must("POST", "cubbyhole/a", s.Root, map[string]any{"v": "1"})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Core.SwitchMigration(ctx) }()
			time.Sleep(time.Second)
			cancel()
			time.Sleep(10 * time.Second)
			release()
			if err := <-done; err == nil {
				t.Error("switched")
			}
			time.Sleep(time.Second)
			if st := s.Core.Migration(); st.State != core.MigrationFollowing || st.Behind > 0 {
				t.Errorf("the migration: %+v", st)
			}
		}
		s.Must("POST", "sys/storage/migration/switch", s.Root, nil)
	})
}
