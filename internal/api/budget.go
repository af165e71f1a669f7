package api

import (
	"container/list"
	"context"
	"sync"

	"arca/internal/errs"
)

const (
	// freeBytes of a body are read without asking: what clients usually send
	// never waits.
	freeBytes = 64 << 10
	// DefaultBudget is how many bytes of larger bodies are held at a time.
	DefaultBudget = 64 << 20
)

// A Budget bounds the bytes of large request bodies that are held at a time, so
// that many clients with the largest body that is taken do not fill the memory.
// Bodies ask as they come in, so what is promised and not sent costs nothing.
// Who finds nothing left waits, in the order of asking; one at a time may
// overdraw, or many half-read bodies would wait for one another. Doors may
// share a budget; it is safe for concurrent use.
type Budget struct {
	total int64

	mu        sync.Mutex
	left      int64     // guarded by mu
	least     int64     // of left, since all was given back; guarded by mu
	overdrawn bool      // somebody may overdraw; guarded by mu
	waiting   list.List // of *claim; guarded by mu
}

// An account is what one body took of a budget.
type account struct {
	taken int64
	over  bool // it may overdraw
}

type claim struct {
	account *account
	bytes   int64
	granted chan struct{} // closed by who grants it
}

// NewBudget makes a budget of so many bytes; 0 is DefaultBudget.
func NewBudget(bytes int64) *Budget {
	if bytes == 0 {
		bytes = DefaultBudget
	}
	return &Budget{total: bytes, left: bytes, least: bytes}
}

// take adds to an account. It waits until so many bytes are left, or ctx ends,
// and reports whether it waited.
func (b *Budget) take(ctx context.Context, a *account, bytes int64) (waited bool, err error) {
	b.mu.Lock()
	c := &claim{account: a, bytes: bytes}
	if a.over || b.left >= bytes && b.waiting.Len() == 0 {
		b.spend(c)
		b.mu.Unlock()
		return false, nil
	}
	c.granted = make(chan struct{})
	e := b.waiting.PushBack(c)
	b.grant()
	b.mu.Unlock()
	select {
	case <-c.granted:
		return true, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-c.granted: // at the last moment
		return true, nil
	default:
	}
	b.waiting.Remove(e)
	b.grant()
	return true, errs.New(errs.Unavailable, "too many large requests at a time: try again")
}

// give returns all that is in an account. It reports whether a burst is over:
// much was held, and nothing is held any more.
func (b *Budget) give(a *account) (over bool) {
	if a.taken == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += a.taken
	if a.over {
		b.overdrawn = false
	}
	*a = account{}
	b.grant()
	if b.left < b.total {
		return false
	}
	over = b.least < b.total/2
	b.least = b.total
	return over
}

// grant serves those that wait, as far as it goes. mu is held.
func (b *Budget) grant() {
	for e := b.waiting.Front(); e != nil; e = b.waiting.Front() {
		c := e.Value.(*claim)
		if c.bytes > b.left {
			if b.overdrawn {
				return
			}
			b.overdrawn, c.account.over = true, true
		}
		b.spend(c)
		b.waiting.Remove(e)
		close(c.granted)
	}
}

// spend moves bytes to an account. mu is held.
func (b *Budget) spend(c *claim) {
	c.account.taken += c.bytes
	b.left -= c.bytes
	b.least = min(b.least, b.left)
}
