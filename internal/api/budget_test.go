package api

import (
	"context"
	"testing"
	"testing/synctest"
)

// Who asks for more than is left waits, in order, but for one; who gives up
// leaves the queue.
func TestBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10)
		take := func(ctx context.Context, a *account, n int64) chan error {
			done := make(chan error, 1)
			go func() {
				_, err := b.take(ctx, a, n)
				done <- err
			}()
			synctest.Wait()
			return done
		}
		var first, second, large, small account
		if waited, err := b.take(t.Context(), &first, 10); waited || err != nil {
			t.Fatal(waited, err)
		}
		if err := <-take(t.Context(), &second, 5); err != nil || !second.over || b.left != -5 {
			t.Fatalf("got %v, %+v, left %d: one may overdraw", err, second, b.left)
		}
		if waited, err := b.take(t.Context(), &second, 5); waited || err != nil {
			t.Fatal("who overdraws waits no more: ", waited, err)
		}
		ctx, giveUp := context.WithCancel(t.Context())
		one, other := take(ctx, &large, 6), take(t.Context(), &small, 1)
		if len(one)+len(other) != 0 {
			t.Fatal("another did not wait")
		}
		giveUp()
		synctest.Wait()
		if err := <-one; err == nil {
			t.Error("who gave up got it")
		}
		if len(other) != 0 {
			t.Error("granted with nothing left")
		}
		if b.give(&second) || <-other != nil {
			t.Error("the end of the overdraft frees the next")
		}
		if b.give(&first) {
			t.Error("a burst is over while something is held")
		}
		if !b.give(&small) || b.give(&small) {
			t.Error("the end of the burst was not seen, or seen twice")
		}
		if b.left != b.total || b.overdrawn || b.waiting.Len() != 0 {
			t.Errorf("left %d of %d, %v, %d wait", b.left, b.total, b.overdrawn, b.waiting.Len())
		}
	})
}
