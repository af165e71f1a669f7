//go:build torture

package torture

import (
	"time"

	"golang.org/x/sys/unix"
)

// rateOne is the rate of a clock that runs as the machine's.
const rateOne = 1 << 10

// A shift is what the process is told of the time: of the monotonic clock, at + (now - base) × rate / rateOne; the time of day is day ahead of that.
// The machine's now and base are those of its monotonic clock. The offsets of its members are known to moved.
type shift struct{ base, at, rate, day int64 }

func (s *shift) told(now int64) int64 { return s.at + (now-s.base)*s.rate>>10 }

// take has the runtime ask moved for the time, from now on; false where it does not ask the vDSO.
func take(first *shift) bool

// follow has moved go by another shift.
func follow(next *shift)

// machine is what a clock of the machine says, whatever the process is told.
func machine(clock int32) int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(clock, &ts) // a system call, which cannot fail for the clocks that are asked for
	return ts.Nano()
}

// A clock is the process'. It has all shifts that there ever were: moved may go by one that is no longer the newest.
type clock struct {
	shifts []*shift
	was    control
}

// newClock takes the process' clock over; nil where that is not possible.
func newClock() *clock {
	now := machine(unix.CLOCK_MONOTONIC)
	c := &clock{was: control{rate: 1}, shifts: []*shift{{base: now, at: now, rate: rateOne, day: machine(unix.CLOCK_REALTIME) - now}}}
	if !take(c.shifts[0]) {
		return nil
	}
	return c
}

// step is by how much the monotonic clock is set forward with each change: who asked by the shift of before, and was held up in between, has an older time.
const step = int64(time.Millisecond)

// set has the clock run at a rate, and the time of day be a while away from the machine's (and from what the rate has made of it).
func (c *clock) set(to control) {
	if to.rate == c.was.rate && to.day == c.was.day {
		return
	}
	now, last := machine(unix.CLOCK_MONOTONIC), c.shifts[len(c.shifts)-1]
	next := &shift{base: now, at: last.told(now) + step, rate: int64(to.rate * rateOne), day: last.day + int64(to.day-c.was.day)}
	c.shifts = append(c.shifts, next)
	follow(next)
	c.was = to
}
