package audit

import (
	"sync"
	"sync/atomic"
)

// A crowd waits for room in the queues of devices. Without anybody in it, wake
// costs nothing.
type crowd struct {
	size atomic.Int32

	mu   sync.Mutex
	next chan struct{} // closed with the next wake; nil while nobody waits for it
}

// join adds the caller, who must part, and returns what is closed when some room
// has become free since.
func (c *crowd) join() <-chan struct{} {
	c.size.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = make(chan struct{})
	}
	return c.next
}

func (c *crowd) part() { c.size.Add(-1) }

// wake tells all who joined before. A nil crowd is empty.
func (c *crowd) wake() {
	if c == nil || c.size.Load() == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil {
		close(c.next)
		c.next = nil
	}
}
