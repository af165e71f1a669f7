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

// incoming is a request that is being read, with what it took of the budget.
type incoming struct {
	*http.Request
	ctx   context.Context //nolint:containedctx // of the request, and no longer alive than it
	door  *door
	w     http.ResponseWriter
	taken int64
}

// release gives back what the body took. Nothing holds the body any more.
func (r *incoming) release() {
	if r.door.Bodies.give(r.taken) {
		memory.Release()
	}
}

// body reads the whole body. A size that was promised may be a lie: the first
// bytes are read without a claim, the rest once it was granted.
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
	buf, err := fill(in, make([]byte, 0, size), freeBytes)
	if err == nil { // there is more
		buf, err = r.rest(in, buf)
	}
	if errors.Is(err, io.EOF) {
		return buf, nil
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, errTooLarge
	}
	if errs.Is(err, errs.Unavailable) {
		return nil, err
	}
	return nil, errs.New(errs.Invalid, "error reading the request's body: %w", err)
}

// rest reads on behind the first bytes, when the budget allows. The error is
// io.EOF at the body's end.
func (r *incoming) rest(in io.Reader, first []byte) ([]byte, error) {
	size := r.ContentLength + 1
	if size == 0 {
		size = r.door.MaxRequestBytes + 1 // not said: the worst is counted
	}
	if size <= 1 {
		size = DefaultMaxRequestBytes // without a bound, nothing to count by
	}
	taken, waited, err := r.door.Bodies.take(r.ctx, size)
	if err != nil {
		return nil, err
	}
	r.taken = taken
	if waited && r.door.BodyTimeout > 0 {
		// The listener's time for the body ran on while it waited.
		_ = http.NewResponseController(r.w).SetReadDeadline(time.Now().Add(r.door.BodyTimeout)) // not every writer has one
	}
	if r.ContentLength > 0 {
		first = append(make([]byte, 0, size), first...)
	}
	return fill(in, first, 0)
}

// fill reads until the end, when it returns io.EOF, or until most bytes are
// there, if most is not 0.
func fill(in io.Reader, buf []byte, most int) ([]byte, error) {
	for most == 0 || len(buf) < most {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := in.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}
