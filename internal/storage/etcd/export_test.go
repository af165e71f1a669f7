package etcd

import (
	"errors"
	"io"
	"net/http"
	"strings"
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

// Full has etcd say to the driver's n-th transaction from now on, counted from 1, that it has no room: carried tells whether it was carried out all
// the same. To those behind it etcd says so, too, and they are not.
func Full(d *Driver, n int, carried bool) *Driver {
	c := &client{endpoints: d.c.endpoints, http: &http.Client{Transport: &full{to: d.c.http.Transport, left: n, carried: carried}}}
	return &Driver{c: c, path: d.path, live: newLock(c, d.path+aliveKey)}
}

type full struct {
	to      http.RoundTripper
	left    int // by who asks, one request at a time
	carried bool
}

// RoundTrip implements http.RoundTripper.
func (f *full) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != "/v3/kv/txn" || r.URL.Port() == "1" {
		return f.to.RoundTrip(r)
	}
	if f.left--; f.left > 0 {
		return f.to.RoundTrip(r)
	}
	if f.left == 0 && f.carried {
		res, err := f.to.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		_ = res.Body.Close()
	}
	const text = `{"error":"etcdserver: mvcc: database space exceeded","message":"etcdserver: mvcc: database space exceeded","code":8}`
	return &http.Response{StatusCode: http.StatusTooManyRequests, Body: io.NopCloser(strings.NewReader(text)), Header: http.Header{}, Request: r}, nil
}
