package userpass

import (
	"context"
	"errors"
	"fmt"

	"arca/internal/bounded"
	"arca/internal/errs"
)

// A desk is where hashes are computed, so many at a time: logins wait for one
// another, and for nobody else.
//
// A mount has half of the places at most: the logins of one leave room for those
// of others.
type desk struct{ places *bounded.Places }

func newDesk(places int) *desk { return &desk{bounded.NewPlaces(max(1, places/2), places)} }

// errBusy says that the request ended before its hash.
var errBusy = errors.New("userpass: the request ended before the password was hashed")

// work computes a hash when there is a place. Nobody can end that, so a request that ends before, or the server's being
// sealed, which done tells, does not wait for it: what fn sets must not be looked at then. The error is errBusy, or fn's.
func (d *desk) work(ctx context.Context, done <-chan struct{}, mount string, fn func() error) error {
	leave, err := d.places.Take(ctx, done, mount)
	if err != nil {
		return busy(err)
	}
	hashed := make(chan error, 1)
	go func() { // as long as a hash takes, which maxCost bounds
		hashed <- fn()
		leave()
	}()
	select {
	case err := <-hashed:
		return err
	case <-ctx.Done():
		return busy(context.Cause(ctx))
	case <-done:
		return busy(bounded.ErrDone)
	}
}

func busy(why error) error { return errs.With(errs.Unavailable, fmt.Errorf("%w: %w", errBusy, why)) }
