package api

import (
	"context"
	"sync"
	"time"
)

// deadline bounds a request's context in time. Unlike context.WithDeadline it
// makes its timer only when somebody waits for it, which few requests do.
type deadline struct {
	context.Context
	at time.Time

	mu    sync.Mutex
	inner context.Context // made by the first Done; guarded by mu
	stop  context.CancelFunc
	over  bool
}

// Deadline implements context.Context.
func (d *deadline) Deadline() (time.Time, bool) {
	if t, ok := d.Context.Deadline(); ok && t.Before(d.at) {
		return t, true
	}
	return d.at, true
}

// Done implements context.Context.
func (d *deadline) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inner == nil {
		d.inner, d.stop = context.WithDeadline(d.Context, d.at)
		if d.over {
			d.stop()
		}
	}
	return d.inner.Done()
}

// Err implements context.Context.
func (d *deadline) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.inner != nil:
		return d.inner.Err()
	case d.over:
		return context.Canceled
	case !time.Now().Before(d.at):
		return context.DeadlineExceeded
	}
	return d.Context.Err()
}

// cancel ends the context; its request is done.
func (d *deadline) cancel() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	if d.stop != nil {
		d.stop()
	}
}
