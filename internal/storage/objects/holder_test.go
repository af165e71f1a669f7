package objects

import (
	"fmt"
	"testing"
	"time"
)

// TestHolderOfState: who wrote the last record, of which a state was saved at once, counts as gone after its time, also for a server that
// has read no record.
func TestHolderOfState(t *testing.T) {
	t.Parallel()
	s := newService(t)
	small := func() Config {
		cfg := s.config(t, "p")
		cfg.Records, cfg.Bytes = 5, 1<<30
		return cfg
	}
	a := open(t, small())
	mustClaim(t, a, "a")
	for i := 0; a.state.n == 0 || a.state.n != a.at; i++ {
		if i == 100 {
			t.Fatal("no state is that of the last record")
		}
		mustWrite(t, a, "a", "k", fmt.Sprint(i))
		settle(t, a)
	}
	b := open(t, small())
	if h, err := b.Holder(t.Context()); err != nil || h.ID != "a" || h.Left <= 0 {
		t.Errorf("at once: %+v, %v", h, err)
	}
	s.ahead.Add(int64(time.Hour))
	c := open(t, small())
	for _, d := range []*Driver{b, c} {
		if h, err := d.Holder(t.Context()); err != nil || h.ID != "a" || h.Left != 0 {
			t.Errorf("after an hour: %+v, %v", h, err)
		}
	}
}
