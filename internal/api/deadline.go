package api

import (
	"context"
	"sync/atomic"
	"time"

	"arca/internal/wire"
)

// deadlines bounds requests in time. Requests that share their parent context
// share one deadline for each second, so that most cost no timer.
type deadlines struct {
	after   time.Duration
	current atomic.Pointer[shared]
}

type shared struct {
	parent context.Context
	second int64
	ctx    context.Context
}

// bound returns a context for a request that begins now, and what to call when
// it is done. The bound is after, rounded up to a second.
func (d *deadlines) bound(parent context.Context) (context.Context, context.CancelFunc) {
	if d.after <= 0 {
		return parent, func() {}
	}
	if !wire.Shared(parent) {
		return context.WithTimeout(parent, d.after)
	}
	second := time.Now().Unix()
	if s := d.current.Load(); s != nil && s.second == second && s.parent == parent {
		return s.ctx, func() {}
	}
	ctx, cancel := context.WithDeadline(parent, time.Unix(second+1, 0).Add(d.after)) //nolint:gosec // see below
	d.current.Store(&shared{parent, second, ctx})
	_ = cancel // others use the context; its timer ends it
	return ctx, func() {}
}
