package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
)

// errAnswered says that the answer has been written.
var errAnswered = errors.New("answered")

// While the cluster has no active node, a request waits: another is elected within a second or two.
const (
	forwardPatience = 8 * time.Second
	forwardPause    = 15 * time.Millisecond
)

const (
	noForwardHeader = "X-Vault-No-Request-Forwarding"
	// NotActiveHeader marks the answer of a node that is not the active one any more: the request has not been served.
	NotActiveHeader = "X-Arca-Not-Active"
)

// elsewhereActive has a request that this node may not answer answered by the active one, or by this one, should it
// become that meanwhile. Nothing of the request has happened when it comes here, and nothing when it is tried again.
func (d *door) elsewhereActive(ctx context.Context, in *incoming, req *engine.Request, cause error) (*engine.Response, error) {
	if d.Forward == nil {
		in.w.Header().Set(NotActiveHeader, "true")
		return nil, cause
	}
	if in.Header.Get(noForwardHeader) != "" {
		return nil, d.sendThere(in, cause)
	}
	for began := time.Now(); ; {
		answer, err := d.Forward(ctx, in.Request, in.raw) //nolint:bodyclose // pass closes it
		if err == nil {
			d.pass(in.w, answer)
			return nil, errAnswered
		}
		if !errs.Is(err, errs.NotActive) {
			return nil, err
		}
		cause = err
		pause := time.NewTimer(forwardPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
		if ctx.Err() != nil || time.Since(began) > forwardPatience {
			return nil, errs.New(errs.Unavailable, "no active node answers: %w", cause)
		}
		if hungUp(in.w) { // it would be done behind what that client has done since
			return nil, errs.New(errs.Unavailable, "the client has given up: %w", cause)
		}
		res, err := d.Core.Handle(ctx, req)
		if err == nil || !errs.Is(err, errs.NotActive) {
			return res, err
		}
	}
}

// hungUp reports whether a client has given up, where its connection can be looked at. That of net/http ends the context.
func hungUp(w http.ResponseWriter) bool {
	for {
		switch over := w.(type) {
		case interface{ HungUp() bool }:
			return over.HungUp()
		case interface{ Unwrap() http.ResponseWriter }:
			w = over.Unwrap()
		default:
			return false
		}
	}
}

// sendThere tells a client that wants no forwarding where the active node is.
func (d *door) sendThere(in *incoming, cause error) error {
	to := ""
	if d.ActiveAddr != nil {
		to = d.ActiveAddr()
	}
	if to == "" {
		return cause
	}
	h := in.w.Header()
	h.Set("Location", to+in.URL.RequestURI())
	h["Content-Length"] = []string{"0"}
	d.head(in.w, http.StatusTemporaryRedirect)
	return errAnswered
}

// pass hands the active node's answer on.
func (d *door) pass(w http.ResponseWriter, answer *http.Response) {
	defer func() { _ = answer.Body.Close() }() // it was read, or the client has gone
	h := w.Header()
	for name, values := range answer.Header {
		h[name] = values
	}
	d.head(w, answer.StatusCode)
	var flush func() error
	if answer.ContentLength < 0 {
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(time.Time{}) // not every writer has one
		flush = control.Flush
	}
	buf := passed.Get().(*[passBytes]byte)
	used := 0
	defer func() {
		clear(buf[:used]) // it may hold secrets
		passed.Put(buf)
	}()
	for {
		n, err := answer.Body.Read(buf[:])
		used = max(used, n)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return // the client has gone
			}
			if flush != nil {
				_ = flush() // the next write tells
			}
		}
		if err != nil {
			return // the end, or the other node has gone
		}
	}
}

// passBytes is how much of an answer is passed on at once.
const passBytes = 32 << 10

var passed = sync.Pool{New: func() any { return new([passBytes]byte) }}
