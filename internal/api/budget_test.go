package api

import (
	"context"
	"testing"
	"testing/synctest"
)

// Who asks for more than is left waits, in order; who gives up leaves the queue.
func TestBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10)
		take := func(ctx context.Context, n int64) chan error {
			done := make(chan error, 1)
			go func() {
				_, _, err := b.take(ctx, n)
				done <- err
			}()
			synctest.Wait()
			return done
		}
		if got, waited, err := b.take(t.Context(), 100); got != 10 || waited || err != nil {
			t.Fatalf("got %d, %v, %v: more than all there is counts as all", got, waited, err)
		}
		ctx, giveUp := context.WithCancel(t.Context())
		large, small := take(ctx, 6), take(t.Context(), 1)
		b.give(4)
		synctest.Wait()
		if len(large)+len(small) != 0 {
			t.Fatal("the small one overtook the large one, or either did not wait")
		}
		giveUp()
		synctest.Wait()
		if err := <-large; err == nil {
			t.Error("who gave up got it")
		}
		if err := <-small; err != nil {
			t.Error(err)
		}
		if b.give(1) {
			t.Error("a burst is over while something is held")
		}
		if !b.give(6) || b.give(0) {
			t.Error("the end of the burst was not seen, or seen twice")
		}
		if b.left != b.total || b.waiting.Len() != 0 {
			t.Errorf("left %d of %d, %d wait", b.left, b.total, b.waiting.Len())
		}
	})
}
