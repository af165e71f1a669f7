package kmip

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A bucket gives what comes in a second, no more over any longer time, and never none at
// all; the bound by client and that by role both count.
func TestThrottle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &throttle{}
		took := func(r rates, role, serial string, n int) bool { return l.take(r, role, serial, n, time.Now()) }
		for i := range 1000 {
			if !took(rates{}, "none", "1", 1000) {
				t.Fatalf("refused without a limit, at %d", i)
			}
		}
		if len(l.roles)+len(l.clients) != 0 {
			t.Error("what has no limit is counted")
		}
		served := 0
		for range 1000 { // ten seconds
			if took(rates{Role: 5}, "five", "1", 1) {
				served++
			}
			time.Sleep(10 * time.Millisecond)
		}
		if served < 50 || served > 56 {
			t.Errorf("%d in ten seconds at a rate of 5", served)
		}
		// A batch is served though it is larger than the rate, and paid for afterwards.
		if !took(rates{Role: 10}, "batch", "1", 100) || took(rates{Role: 10}, "batch", "1", 1) {
			t.Error("a large batch")
		}
		time.Sleep(9 * time.Second)
		if took(rates{Role: 10}, "batch", "1", 1) {
			t.Error("a batch of 100 at a rate of 10 was paid for in nine seconds")
		}
		time.Sleep(1100 * time.Millisecond)
		if !took(rates{Role: 10}, "batch", "1", 1) {
			t.Error("a batch is never forgotten")
		}
		both := rates{Role: 3, Client: 2}
		got := fmt.Sprint(took(both, "both", "1", 1), took(both, "both", "1", 1), took(both, "both", "1", 1), took(both, "both", "2", 1), took(both, "both", "2", 1))
		if got != "true true false true false" { // what the client may not, costs the role nothing
			t.Errorf("both: %s", got)
		}
		took(rates{Role: 1, Client: 1}, "owes", "1", 100)
		for i := range 2*maxBuckets + 10 {
			took(rates{Role: 1, Client: 1}, "owes", fmt.Sprint("other", i), 1)
			took(rates{Client: 1}, "many", fmt.Sprint(i), 1)
		}
		if n := max(len(l.roles), len(l.clients)); n > maxBuckets {
			t.Errorf("%d buckets", n)
		}
		if took(rates{Client: 1}, "owes", "1", 1) || took(rates{Role: 1}, "owes", "2", 1) {
			t.Error("a debt is forgotten for all who come")
		}
	})
}
