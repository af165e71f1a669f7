package userpass

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"arca/internal/errs"
)

// A desk is where hashes are computed, so many at a time: logins wait for one
// another, and for nobody else.
//
// A mount has half of the places at most: the logins of one leave room for those
// of others.
type desk struct {
	all   chan struct{} // holds one value for each hash that is being computed
	share int           // places of one mount

	mu     sync.Mutex
	queues map[string]*queue // of the mounts where somebody computes or waits, by accessor; guarded by mu
}

type queue struct {
	places chan struct{}
	in     int // who computes or waits; guarded by the desk's mu
}

func newDesk(places int) *desk {
	return &desk{all: make(chan struct{}, places), share: max(1, places/2), queues: map[string]*queue{}}
}

// errBusy says that the request ended before its hash.
var errBusy = errors.New("userpass: the request ended before the password was hashed")

// work computes a hash when there is a place. Nobody can end that, so a request that ends before, or the server's being
// sealed, which done tells, does not wait for it: what fn sets must not be looked at then. The error is errBusy, or fn's.
func (d *desk) work(ctx context.Context, done <-chan struct{}, mount string, fn func() error) error {
	q := d.enter(mount)
	if err := d.take(ctx, done, q); err != nil {
		d.leave(mount, q)
		return err
	}
	hashed := make(chan error, 1)
	go func() { // as long as a hash takes, which maxCost bounds
		hashed <- fn()
		<-d.all
		<-q.places
		d.leave(mount, q)
	}()
	select {
	case err := <-hashed:
		return err
	case <-ctx.Done():
		return busy(context.Cause(ctx))
	case <-done:
		return busy(errSealed)
	}
}

// take waits for a place of the mount's, and then for one of all.
func (d *desk) take(ctx context.Context, done <-chan struct{}, q *queue) error {
	select {
	case q.places <- struct{}{}:
	case <-ctx.Done():
		return busy(context.Cause(ctx))
	case <-done:
		return busy(errSealed)
	}
	select {
	case d.all <- struct{}{}:
		return nil
	case <-ctx.Done():
		<-q.places
		return busy(context.Cause(ctx))
	case <-done:
		<-q.places
		return busy(errSealed)
	}
}

var errSealed = errors.New("the server is sealed, or hands over")

func busy(why error) error { return errs.With(errs.Unavailable, fmt.Errorf("%w: %w", errBusy, why)) }

func (d *desk) enter(mount string) *queue {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queues[mount]
	if q == nil {
		q = &queue{places: make(chan struct{}, d.share)}
		d.queues[mount] = q
	}
	q.in++
	return q
}

func (d *desk) leave(mount string, q *queue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if q.in--; q.in == 0 {
		delete(d.queues, mount)
	}
}
