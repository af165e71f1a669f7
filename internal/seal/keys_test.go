package seal

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// The course of scenarios sys/key-status-rotate and sys/rotate-keeps-data.
func TestRotate(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := newStore(t)
	n, shares := openNode(t, b, 1, 1)
	if info, err := n.KeyInfo(); err != nil || info.Term != 1 || info.Installed.IsZero() {
		t.Errorf("%+v, %v", info, err)
	}
	if err := n.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	if info, err := n.KeyInfo(); err != nil || info.Term != 2 || info.Encryptions != 0 {
		t.Errorf("%+v, %v", info, err)
	}
	bar := barrier.New(b, n.ring)
	if err := bar.Apply(ctx, storage.Batch{{Kind: storage.Put, Key: "core/second", Value: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	n = newNode(t, b)
	unsealWith(t, n, shares[0])
	if got := n.first(t); got != "content" {
		t.Errorf("read %q", got)
	}
	if v, err := barrier.New(b, n.ring).Get(ctx, "core/second"); string(v) != "x" {
		t.Errorf("read %q, %v", v, err)
	}
	if info, _ := n.KeyInfo(); info.Term != 2 || info.Encryptions != 0 {
		t.Errorf("after a restart: %+v", info)
	}
}

func TestSetRotation(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := newStore(t)
	n, shares := openNode(t, b, 1, 1)
	var (
		on, off        = true, false
		ops, few       = int64(2_000_000), int64(1)
		day, hour      = 24 * time.Hour, time.Hour
		negative, zero = -day, time.Duration(0)
	)
	for _, c := range []struct {
		name string
		in   RotationChange
		want barrier.Rotation
		err  string
	}{
		{"nothing", RotationChange{}, barrier.DefaultRotation(), ""},
		{"enabled alone is no change", RotationChange{Enabled: &off}, barrier.DefaultRotation(), ""},
		{"interval too short", RotationChange{MaxOperations: &few, Interval: &hour}, barrier.DefaultRotation(), "interval must be greater or equal to 24h0m0s"},
		{"negative interval", RotationChange{Interval: &negative}, barrier.DefaultRotation(), "interval must be greater or equal to 24h0m0s"},
		{"all", RotationChange{Enabled: &on, MaxOperations: &ops, Interval: &day}, barrier.Rotation{MaxOperations: ops, Interval: day}, ""},
		{"out of bounds is the default", RotationChange{MaxOperations: &few}, barrier.Rotation{MaxOperations: barrier.MaxOperations, Interval: day}, ""},
		{"off with another", RotationChange{Enabled: &off, MaxOperations: &ops}, barrier.Rotation{Disabled: true, MaxOperations: ops, Interval: day}, ""},
		{"no interval", RotationChange{Interval: &zero}, barrier.Rotation{Disabled: true, MaxOperations: ops}, ""},
	} {
		text := ""
		if err := n.SetRotation(ctx, c.in); err != nil {
			text = err.Error()
		}
		if got, err := n.Rotation(); got != c.want || err != nil || text != c.err {
			t.Errorf("%s: %+v, %q, %v; want %+v", c.name, got, text, err, c.want)
		}
		again := newNode(t, b)
		unsealWith(t, again, shares[0])
		if got, _ := again.Rotation(); got != c.want {
			t.Errorf("%s: after a restart %+v, want %+v", c.name, got, c.want)
		}
	}
}

// However a rotation's write fails, all that was ever written stays readable.
func TestRotateFailures(t *testing.T) {
	t.Parallel()
	for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.Lost, storagetest.After} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			b := newStore(t)
			failing := storagetest.NewFailing(b)
			n, shares := openNode(t, failing, 1, 1)
			failing.FailNth(1, fault)
			if err := n.Rotate(ctx); !errors.Is(err, storagetest.ErrInjected) {
				t.Errorf("rotate: %v", err)
			}
			bar := barrier.New(b, n.ring)
			if err := bar.Apply(ctx, storage.Batch{{Kind: storage.Put, Key: "core/second", Value: []byte("x")}}); err != nil {
				t.Fatal(err)
			}
			n = newNode(t, b)
			unsealWith(t, n, shares[0])
			if err := n.Rotate(ctx); err != nil {
				t.Errorf("rotate after a restart: %v", err)
			}
			if v, err := barrier.New(b, n.ring).Get(ctx, "core/second"); string(v) != "x" {
				t.Errorf("read %q, %v", v, err)
			}
		})
	}
}

// What another node rotated is taken over, by Reload and before a rotation.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := newStore(t)
	active, shares := openNode(t, b, 1, 1)
	standby := newNode(t, b)
	unsealWith(t, standby, shares[0])
	if err := active.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	res, err := rekeyWith(active, RekeyParams{Shares: 3, Threshold: 2}, shares)
	if err != nil {
		t.Fatal(err)
	}
	// The standby's view of the store stands still, as it has its own DB here.
	standby = reopened(t, standby, b)
	if err := standby.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if info, _ := standby.KeyInfo(); info.Term != 2 {
		t.Errorf("%+v", info)
	}
	if st, _ := standby.Status(ctx); st.N != 3 || st.T != 2 {
		t.Errorf("%+v", st)
	}
	if err := active.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	standby = reopened(t, standby, b)
	if err := standby.Rotate(ctx); err != nil { // as the new active node
		t.Fatal(err)
	}
	if info, _ := standby.KeyInfo(); info.Term != 4 {
		t.Errorf("%+v", info)
	}
	if !opens(t, b, res.Shares[:2]) {
		t.Error("the shares do not open")
	}
}

// reopened gives n a view of what others wrote.
func reopened(t *testing.T, n *node, b storage.Backend) *node {
	t.Helper()
	n.raw = storage.Open(b, storage.Config{})
	t.Cleanup(func() { _ = n.raw.Close() })
	n.cfg.Raw = n.raw
	return n
}

// A rotation happens by itself when the key is old enough, and a count that is
// worth it is saved.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := storagetest.NewMap()
		n, shares := openNode(t, b, 1, 1)
		interval := 48 * time.Hour
		if err := n.SetRotation(t.Context(), RotationChange{Interval: &interval}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { n.Run(ctx); close(done) }()
		term := func() uint32 {
			synctest.Wait()
			info, err := n.KeyInfo()
			if err != nil {
				t.Error(err)
			}
			return info.Term
		}
		for _, c := range []struct {
			after time.Duration
			want  uint32
		}{{47 * time.Hour, 1}, {time.Hour + time.Minute, 2}, {47 * time.Hour, 2}, {48 * time.Hour, 3}} {
			<-time.After(c.after)
			if got := term(); got != c.want {
				t.Errorf("term %d, want %d", got, c.want)
			}
		}
		for range leastSaved {
			if _, err := n.ring.Seal(nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		<-done
		again := newNode(t, b)
		unsealWith(t, again, shares[0])
		if info, _ := again.KeyInfo(); info.Encryptions != leastSaved {
			t.Errorf("saved %+v, want %d encryptions", info, leastSaved)
		}
	})
}

// Sealing ends Run's work quietly.
func TestRunWhileSealed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, _ := openNode(t, storagetest.NewMap(), 1, 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { n.Run(ctx); close(done) }()
		<-time.After(90 * time.Second)
		n.Seal()
		<-time.After(90 * time.Second)
		cancel()
		<-done
		if _, err := n.KeyInfo(); !errs.Is(err, errs.Sealed) {
			t.Errorf("got %v", err)
		}
	})
}
