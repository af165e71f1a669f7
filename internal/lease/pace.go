package lease

import (
	"context"
	"time"
)

const (
	gentler  = 2                      // how many times smaller a batch is while requests come
	quiet    = time.Second            // how long none must have come before all workers go on
	patience = time.Minute            // how late what is due may be for the sake of requests
	waiting  = 100 * time.Millisecond // a batch that takes longer waits for somebody, and keeps no processor busy
)

// A pace tells whether requests come, to which what is due gives way: the
// processors that many items keep busy are those that a request waits for.
type pace struct {
	requests func() uint64 // nil when there are none to give way to
	came     uint64        // at the last look
	last     time.Time     // when more had come
	slow     bool          // the last batch was one that waits
	late     bool          // the last batch was later than patience
}

// yield reports whether requests have come of late.
func (p *pace) yield(now time.Time) bool {
	if p.requests == nil {
		return false
	}
	if n := p.requests(); n != p.came {
		p.came, p.last = n, now
	}
	busy := now.Sub(p.last) < quiet && !p.slow && !p.late
	p.slow = false
	return busy
}

// rest waits for as long as the work since start took, and the less the later
// that work was: what is due must not pile up where requests never cease. It
// reports whether ctx still holds.
func (p *pace) rest(ctx context.Context, start, due time.Time) bool {
	took, left := time.Since(start), patience-start.Sub(due)
	if p.slow = took > waiting; p.slow || left <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(time.Duration(float64(took) * min(1, left.Seconds()/patience.Seconds())))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
