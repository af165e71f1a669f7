package bounded

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// One owner's work leaves room for others', and what is over leaves nothing.
func TestPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPlaces(2, 3)
		var leaves []func()
		try := func(name string, want bool) {
			t.Helper()
			leave, ok := p.Try(name)
			if ok != want {
				t.Errorf("a place for %s: %v", name, ok)
			}
			if ok {
				leaves = append(leaves, leave)
			}
		}
		try("a", true)
		try("a", true)
		try("a", false)
		try("b", true)
		try("c", false)
		if n, owners := p.Taken(); n != 3 || owners != 2 {
			t.Errorf("%d places of %d owners are taken", n, owners)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		ends := make(chan error, 3)
		for _, name := range []string{"a", "c", "b"} { // one waits for its own, the others for all
			go func() {
				end := done
				if name == "b" {
					end = nil
				}
				leave, err := p.Take(ctx, end, name)
				if err == nil {
					leave()
				}
				ends <- err
			}()
		}
		synctest.Wait()
		close(done)
		for range 2 {
			if err := <-ends; !errors.Is(err, ErrDone) {
				t.Errorf("when all is over: %v", err)
			}
		}
		leaves[0]()
		if err := <-ends; err != nil {
			t.Errorf("who waited for a place that is free: %v", err)
		}
		try("c", true)
		stop()
		if _, err := p.Take(ctx, nil, "a"); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("a request that ended: %v", err)
		} else if err == nil {
			t.Error("a place was taken that there is not")
		}
		for _, leave := range leaves[1:] {
			leave()
		}
		if n, owners := p.Taken(); n != 0 || owners != 0 {
			t.Errorf("left: %d places, %d owners", n, owners)
		}
	})
}
