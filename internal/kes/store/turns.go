package store

import (
	"context"
	"sync"
)

// Turns has those who use one name take turns. The zero Turns is ready.
type Turns struct {
	mu    sync.Mutex
	taken map[string]chan struct{} // closed when the name is free again
}

// Take waits until nobody else has the name, which the caller leaves. The error is ctx's.
func (t *Turns) Take(ctx context.Context, name string) (leave func(), err error) {
	for {
		t.mu.Lock()
		other, busy := t.taken[name]
		if !busy {
			if t.taken == nil {
				t.taken = map[string]chan struct{}{}
			}
			mine := make(chan struct{})
			t.taken[name] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.taken, name)
				t.mu.Unlock()
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Busy is closed when whoever has the name now leaves it; nil when nobody has.
func (t *Turns) Busy(name string) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taken[name]
}
