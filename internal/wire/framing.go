package wire

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync/atomic"
)

const framingText = "a request has Content-Length or Transfer-Encoding, not both"

// framing looks at all that comes over a connection of net/http's for lines that tell
// the length of a body in one way and in the other: net/http takes both in one request
// and does not tell. It cannot know where a request ends, so that it counts them for the
// connection, and for bodies, too; it is asked at requests that are chunked, with which the
// connection ends anyhow, and at those of HTTP/1.0.
type framing struct {
	line            []byte // the beginning of a line, in lower case: as much as is looked at
	length, chunked atomic.Bool
}

var (
	lengthName  = []byte("content-length")
	chunkedName = []byte("transfer-encoding")
)

// see looks at what was read.
func (f *framing) see(b []byte) {
	for len(b) > 0 && !f.twice() {
		end := bytes.IndexByte(b, '\n')
		part := b
		if end >= 0 {
			part = b[:end]
		}
		if room := len(chunkedName) - len(f.line); room > 0 {
			f.line = append(f.line, bytes.ToLower(part[:min(room, len(part))])...)
		}
		if end < 0 {
			return
		}
		switch {
		case bytes.HasPrefix(f.line, lengthName):
			f.length.Store(true)
		case bytes.HasPrefix(f.line, chunkedName):
			f.chunked.Store(true)
		}
		f.line, b = f.line[:0], b[end+1:]
	}
}

// twice reports whether both were seen.
func (f *framing) twice() bool { return f.length.Load() && f.chunked.Load() }

type framingKey struct{}

// framedTwiceBefore reports whether a request of net/http's may tell its length in two
// ways.
func framedTwiceBefore(ctx context.Context) bool {
	f, ok := ctx.Value(framingKey{}).(*framing)
	return ok && f.twice()
}

// refuseFraming answers such a request; the connection ends.
func refuseFraming(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = io.WriteString(w, "400 Bad Request: "+framingText) // the client may be gone
}
