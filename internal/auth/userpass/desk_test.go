package userpass

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"arca/internal/bounded"
)

// TestDesk has one mount take all it can: others have room beside it, and who ends does not wait.
func TestDesk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(4)
		hold := make(chan struct{})
		slow := func() error { <-hold; return nil }
		sealed := make(chan struct{})
		ends := make(chan error, 10)
		for range 5 {
			go func() { ends <- d.work(t.Context(), sealed, "a", slow) }()
		}
		synctest.Wait()
		if n, _ := d.places.Taken(); n != 2 {
			t.Errorf("one mount has %d places of 4", n)
		}
		if err := d.work(t.Context(), nil, "b", func() error { return nil }); err != nil {
			t.Errorf("another mount: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		go func() { ends <- d.work(ctx, nil, "b", slow) }()
		synctest.Wait()
		stop()
		if err := <-ends; !errors.Is(err, errBusy) || !errors.Is(err, context.Canceled) {
			t.Errorf("a request that ended: %v", err)
		}
		if n, _ := d.places.Taken(); n != 3 {
			t.Errorf("the hash of a request that ended leaves its place: %d are taken", n)
		}
		close(sealed)
		for range 5 {
			if err := <-ends; !errors.Is(err, bounded.ErrDone) {
				t.Errorf("when sealed: %v", err)
			}
		}
		close(hold)
		synctest.Wait()
		if n, mounts := d.places.Taken(); n != 0 || mounts != 0 {
			t.Errorf("left: %d places, %d mounts", n, mounts)
		}
	})
}
