package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"arca/internal/errs"
	"arca/internal/memory"
)

// growth is by how much a buffer grows while a body comes in.
const growth = 4

// incoming is a request that is being read, with what it took of the budget.
type incoming struct {
	*http.Request
	ctx  context.Context //nolint:containedctx // of the request, and no longer alive than it
	door *door
	w    http.ResponseWriter
	raw  []byte   // the body, for the active node
	held *account // nil while nothing is held
}

// release gives back what the body took. Nothing holds the body any more.
func (r *incoming) release() {
	if r.held != nil && r.door.Bodies.give(r.held) {
		memory.Release()
	}
}

// body reads the whole body. A size that was promised may be a lie: no more is
// allocated than a multiple of what came.
func (r *incoming) body() ([]byte, error) {
	most := r.door.MaxRequestBytes
	if most > 0 && r.ContentLength > most {
		return nil, errTooLarge
	}
	in := io.Reader(r.Body)
	if most > 0 {
		in = http.MaxBytesReader(r.w, r.Body, most)
	}
	size := int64(512)
	if r.ContentLength > 0 {
		size = min(r.ContentLength+1, freeBytes)
	}
	buf := make([]byte, 0, size)
	for {
		n, err := in.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err == nil && len(buf) == cap(buf) {
			buf, err = r.grow(buf)
		}
		if err != nil {
			return nil, readError(err)
		}
	}
}

func readError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return errTooLarge
	}
	if errs.Is(err, errs.Unavailable) {
		return err
	}
	return errs.New(errs.Invalid, "error reading the request's body: %w", err)
}

// grow gives a full buffer room, when the budget allows.
func (r *incoming) grow(buf []byte) ([]byte, error) {
	size := growth * int64(cap(buf))
	if r.ContentLength > 0 {
		size = min(size, r.ContentLength+1)
	}
	if size > freeBytes {
		if r.held == nil {
			r.held = &account{}
		}
		waited, err := r.door.Bodies.take(r.ctx, r.held, size-r.held.taken)
		if err != nil {
			return nil, err
		}
		if waited && r.door.BodyTimeout > 0 {
			// The listener's time for the body ran on while it waited.
			_ = http.NewResponseController(r.w).SetReadDeadline(time.Now().Add(r.door.BodyTimeout)) // not every writer has one
		}
	}
	return append(make([]byte, 0, size), buf...), nil
}
