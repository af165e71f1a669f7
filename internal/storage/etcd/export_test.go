package etcd

import (
	"errors"
	"net/http"
	"sync/atomic"
)

// MaxValueBytes is for the tests.
const MaxValueBytes = maxValueBytes

// BreakAt is the driver with a connection that is cut after so many requests: the next reaches etcd, but its answer is lost, and none after it
// reach etcd.
func BreakAt(d *Driver, n int) *Driver {
	c := &client{endpoints: d.c.endpoints, http: &http.Client{Transport: &breaking{to: d.c.http.Transport, left: int64(n)}}}
	return &Driver{c: c, path: d.path, live: newLock(c, d.path+aliveKey)}
}

// Before has fn run before the driver's n-th request to that path from now on, counted from 1.
func Before(d *Driver, path string, n int, fn func()) {
	d.c.http = &http.Client{Transport: &before{to: d.c.http.Transport, path: path, left: n, fn: fn}}
}

type before struct {
	to   http.RoundTripper
	path string
	left int // by who asks, one request at a time
	fn   func()
}

// RoundTrip implements http.RoundTripper.
func (b *before) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == b.path && r.URL.Port() != "1" {
		if b.left--; b.left == 0 {
			b.fn()
		}
	}
	return b.to.RoundTrip(r)
}

type breaking struct {
	to   http.RoundTripper
	left int64
	at   atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (b *breaking) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Port() == "1" { // nobody listens there
		return b.to.RoundTrip(r)
	}
	switch n := b.at.Add(1) - 1; {
	case n < b.left:
		return b.to.RoundTrip(r)
	case n == b.left:
		if res, err := b.to.RoundTrip(r); err == nil {
			_ = res.Body.Close()
		}
	}
	return nil, errors.New("the connection is cut")
}
