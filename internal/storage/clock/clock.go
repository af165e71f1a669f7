// Package clock has a node's own time, by which leases are measured.
package clock

import (
	"sync"
	"sync/atomic"
	"time"
)

// jump is by how much the time of day has to get ahead of the process' clock at once to say that the machine was suspended:
// more than what it is set right by in passing, and less than what leases are shortened by.
const jump = 10 * time.Millisecond

// A Clock is never set back, and goes on while the machine is suspended, which Go's monotonic time does not everywhere: that
// the time of day has got ahead of it says so. A time of day that is set forward counts likewise: leases end too early then,
// and are asked for anew. What no clock of a machine shows, as when its host stops it, this does not either. Safe for
// concurrent use.
type Clock struct {
	read  func() (ran, ahead time.Duration)
	mu    sync.Mutex   // of who sets what follows
	ahead atomic.Int64 // of the time of day, before the process' clock, when it was looked at last
	slept atomic.Int64 // what it has got ahead at once, in all; set before ahead, and read after it
}

// New returns a clock that begins at 0.
func New() *Clock {
	base := time.Now()
	return Of(func() (ran, ahead time.Duration) {
		now := time.Now()
		ran = now.Sub(base)
		return ran, now.Round(0).Sub(base.Round(0)) - ran
	})
}

// Of returns a clock that reads how long the process' clock has run, and how far the time of day is ahead of it since then.
func Of(read func() (ran, ahead time.Duration)) *Clock { return &Clock{read: read} }

// Now is the time since the clock began.
func (c *Clock) Now() time.Duration { return c.at(c.read()) }

// at is Now when the process' clock has run for a time, and the time of day is ahead of it.
func (c *Clock) at(ran, ahead time.Duration) time.Duration {
	if isJump(int64(ahead) - c.ahead.Load()) {
		c.mu.Lock()
		defer c.mu.Unlock()
		by := int64(ahead) - c.ahead.Load()
		if by > 0 && isJump(by) {
			c.slept.Add(by)
		}
		if isJump(by) {
			c.ahead.Store(int64(ahead))
		}
	}
	return ran + time.Duration(c.slept.Load())
}

func isJump(by int64) bool { return by <= -int64(jump) || by >= int64(jump) }
