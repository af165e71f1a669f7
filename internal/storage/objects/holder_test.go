package objects

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/storage/remote"
	"arca/internal/storage/remote/remotetest"
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

// TestDisplaced: a node that wrote, and does not learn that another does now, as it asks for nothing more, follows the log all the same.
// One that renews its claim need not.
func TestDisplaced(t *testing.T) {
	t.Parallel()
	s := newService(t)
	var later atomic.Int64
	node := func() *Driver {
		cfg := s.config(t, "p")
		cfg.Records, cfg.Bytes, cfg.often = 5, 1<<30, 20*time.Millisecond
		cfg.now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		return open(t, cfg)
	}
	at := func(d *Driver) uint64 {
		if err := d.turn.take(context.Background()); err != nil {
			t.Fatal(err)
		}
		defer d.turn.give()
		return d.at
	}
	a, b := node(), node()
	mustClaim(t, a, "a")
	mustWrite(t, a, "a", "k", "first")
	mustClaim(t, b, "b")
	for i := range 20 { // and states take the place of records
		mustWrite(t, b, "b", "k", fmt.Sprint(i))
	}
	settle(t, b)
	later.Store(int64(leadTime))
	if _, err := b.Renew(t.Context(), remote.Claim{ID: "b", Value: "{}", TTL: 15 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if !b.leading() {
		t.Error("a node that renews its claim does not count as the one that writes")
	}
	remotetest.Await(t, "the log's end", func() bool { return at(a) == at(b) })
	if got := value(t, a, "k"); got != "19" {
		t.Errorf("k is %q", got)
	}
}
