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
// Who finds nothing left waits, in the order of coming. Doors may share one; it
// is safe for concurrent use.
type Budget struct {
	total int64

	mu      sync.Mutex
	left    int64     // guarded by mu
	least   int64     // of left, since all was given back; guarded by mu
	waiting list.List // of *claim; guarded by mu
}

type claim struct {
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

// take waits until so many bytes are left, or ctx ends. It returns what was
// taken, which is no more than all there is, and whether it waited.
func (b *Budget) take(ctx context.Context, bytes int64) (taken int64, waited bool, err error) {
	bytes = min(bytes, b.total)
	b.mu.Lock()
	if b.left >= bytes && b.waiting.Len() == 0 {
		b.spend(bytes)
		b.mu.Unlock()
		return bytes, false, nil
	}
	c := &claim{bytes: bytes, granted: make(chan struct{})}
	e := b.waiting.PushBack(c)
	b.mu.Unlock()
	select {
	case <-c.granted:
		return bytes, true, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-c.granted: // at the last moment
		return bytes, true, nil
	default:
	}
	b.waiting.Remove(e)
	b.grant()
	return 0, true, errs.New(errs.Unavailable, "too many large requests at a time: try again")
}

// give returns what was taken. It reports whether a burst is over: much was
// held, and nothing is held any more.
func (b *Budget) give(bytes int64) (over bool) {
	if bytes == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += bytes
	b.grant()
	if b.left < b.total {
		return false
	}
	over = b.least < b.total/2
	b.least = b.total
	return over
}

// spend takes what is there. mu is held.
func (b *Budget) spend(bytes int64) {
	b.left -= bytes
	b.least = min(b.least, b.left)
}

// grant serves those that wait, as far as it goes. mu is held.
func (b *Budget) grant() {
	for e := b.waiting.Front(); e != nil; e = b.waiting.Front() {
		c := e.Value.(*claim)
		if c.bytes > b.left {
			return
		}
		b.spend(c.bytes)
		b.waiting.Remove(e)
		close(c.granted)
	}
}
