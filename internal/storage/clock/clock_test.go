package clock

import (
	"sync"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	t.Parallel()
	c := New()
	const s = time.Second
	for i, x := range []struct{ ran, ahead, want time.Duration }{
		{0, 0, 0},
		{s, time.Millisecond, s},
		{2 * s, 2 * time.Millisecond, 2 * s},
		{2 * s, 30 * s, 32 * s},                // suspended for half a minute
		{3 * s, 30 * s, 33 * s},                // and once is enough
		{4 * s, -3600 * s, 34 * s},             // set back: it goes on
		{4 * s, -3590 * s, 44 * s},             // suspended since
		{5 * s, -3590*s + 9*1000*1000, 45 * s}, // a drift
	} {
		if got := c.at(x.ran, x.ahead); got.Round(s) != x.want {
			t.Errorf("%d: %s, want %s", i, got, x.want)
		}
	}
}

// TestClockTogether has many look at a clock when its machine wakes up: none of them sees the time of before.
func TestClockTogether(t *testing.T) {
	t.Parallel()
	for range 1000 {
		c := New()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if got := c.at(time.Second, time.Minute); got < time.Minute {
					t.Errorf("%s after a minute", got)
				}
			})
		}
		all.Wait()
	}
}

func TestClockRuns(t *testing.T) {
	t.Parallel()
	c := New()
	before := c.Now()
	for range 1000 {
		now := c.Now()
		if now < before {
			t.Fatalf("%s, after %s", now, before)
		}
		before = now
	}
}

func BenchmarkClock(b *testing.B) {
	c := New()
	for b.Loop() {
		c.Now()
	}
}
