package wire

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"arca/internal/socket"
)

const (
	flushAt = 32 << 10 // an answer is gathered up to here
	keepOut = 64 << 10 // a larger buffer is not kept for the next answer
	// writePart is how much a client must take within stalled.
	writePart = 128 << 10
	stalled   = time.Minute
	crlf      = "\r\n"
	longDate  = "Mon, 02 Jan 2006 15:04:05 GMT"
)

// writer is the http.ResponseWriter of a connection, used again and again.
type writer struct {
	c       *conn
	header  http.Header
	buf     []byte // head and body that are not sent yet
	status  int
	isHead  bool // the request's method is HEAD
	close   bool
	begun   bool  // WriteHeader was called
	sent    bool  // the head is in buf or gone
	chunked bool  // the body's length was not known
	length  int64 // of the body, -1 when not known
	written int64
	body    []byte // gathered while the length is not known
	failed  bool
	own     bool  // the handler sets the write deadline itself
	asked   *lent // the request's body; nil for none
}

func (w *writer) reset(c *conn, isHead, closing bool, asked *lent) {
	header, buf, body := w.header, w.buf, w.body
	if header == nil {
		header = make(http.Header, 8)
	}
	clear(header)
	if cap(buf) > keepOut {
		buf = nil
	}
	if cap(body) > keepOut {
		body = nil
	}
	*w = writer{c: c, header: header, buf: buf[:0], body: body[:0], isHead: isHead, close: closing, length: -1, asked: asked}
}

// Header implements http.ResponseWriter.
func (w *writer) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *writer) WriteHeader(status int) {
	if w.begun {
		return
	}
	w.begun, w.status = true, status
	if v := w.header["Content-Length"]; len(v) == 1 {
		if n, err := strconv.ParseInt(v[0], 10, 63); err == nil && n >= 0 {
			w.length = n
		}
	}
	if !bodyAllowed(status) {
		w.length = 0
	}
}

// bodyAllowed is RFC 9110, section 6.4.1.
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// Write implements http.ResponseWriter.
func (w *writer) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	if w.failed {
		return 0, http.ErrHandlerTimeout
	}
	if !bodyAllowed(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	if w.length >= 0 && w.written+int64(len(p)) > w.length && !w.isHead {
		return 0, http.ErrContentLength
	}
	w.written += int64(len(p))
	if w.isHead {
		w.start(p)
		return len(p), nil
	}
	switch {
	case w.chunked:
		w.chunk(p)
	case w.length >= 0:
		w.start(p)
		if len(p) >= flushAt {
			w.send()
			w.direct(p)
			break
		}
		w.buf = append(w.buf, p...)
		if len(w.buf) >= flushAt {
			w.send()
		}
	default:
		w.body = append(w.body, p...)
		if len(w.body) >= flushAt {
			w.startChunks()
		}
	}
	if w.failed {
		return 0, http.ErrHandlerTimeout
	}
	return len(p), nil
}

// startChunks gives up on knowing the length.
func (w *writer) startChunks() {
	first := w.body
	w.chunked = true
	w.start(first)
	w.chunk(first)
	w.body = w.body[:0]
}

func (w *writer) chunk(p []byte) {
	if len(p) == 0 {
		return
	}
	w.buf = strconv.AppendInt(w.buf, int64(len(p)), 16)
	w.buf = append(w.buf, crlf...)
	w.buf = append(w.buf, p...)
	w.buf = append(w.buf, crlf...)
	if len(w.buf) >= flushAt {
		w.send()
	}
}

// FlushError sends what there is; http.ResponseController finds it.
func (w *writer) FlushError() error {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	if w.length < 0 && !w.chunked && !w.isHead {
		w.startChunks()
	} else {
		w.start(nil)
	}
	w.send()
	if w.failed {
		return http.ErrHandlerTimeout
	}
	return nil
}

// Flush implements http.Flusher.
func (w *writer) Flush() { _ = w.FlushError() } // a failure shows at the next write

// SetWriteDeadline lets http.ResponseController lift the time-out of a stream.
func (w *writer) SetWriteDeadline(t time.Time) error {
	w.own = true
	w.c.writeArmed = t
	return w.c.net.SetWriteDeadline(t)
}

// SetReadDeadline is for http.ResponseController.
func (w *writer) SetReadDeadline(t time.Time) error {
	w.c.armed = t
	return w.c.net.SetReadDeadline(t)
}

// HungUp reports whether the client has given up, so that nobody waits for the answer.
func (w *writer) HungUp() bool { return socket.HungUp(w.c.net) }

// finish sends the rest of the answer and reports whether the connection can
// serve another request.
func (w *writer) finish() bool {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.chunked:
		w.buf = append(w.buf, "0\r\n\r\n"...)
	case w.length >= 0 || w.isHead:
		w.start(nil)
	default:
		w.length = int64(len(w.body))
		w.start(w.body)
		w.buf = append(w.buf, w.body...)
	}
	w.send()
	clear(w.body[:cap(w.body)])
	if w.length >= 0 && !w.isHead && !w.chunked && bodyAllowed(w.status) && w.written != w.length && w.sent {
		return false // the handler promised more than it wrote
	}
	return !w.failed && !w.close
}

// start writes the head. body is the beginning of the body, by which its type
// is found where the handler said none.
func (w *writer) start(body []byte) {
	if w.sent {
		return
	}
	w.sent = true
	b := append(w.buf, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(w.status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(w.status)...)
	b = append(b, crlf...)
	for name, values := range w.header {
		if name == "Content-Length" || name == "Transfer-Encoding" || name == "Connection" {
			continue
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	if _, has := w.header["Date"]; !has {
		b = append(b, "Date: "...)
		b = append(b, w.c.srv.date()...)
		b = append(b, crlf...)
	}
	if _, has := w.header["Content-Type"]; !has && len(body) > 0 {
		b = appendField(b, "Content-Type", http.DetectContentType(body))
	}
	switch {
	case w.chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case bodyAllowed(w.status) && w.length >= 0:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, w.length, 10)
		b = append(b, crlf...)
	}
	if w.close = w.close || w.asked != nil && !w.asked.short(); w.close {
		b = append(b, "Connection: close\r\n"...)
	}
	w.buf = append(b, crlf...)
}

// appendField writes a header line; a line break within a value would end it,
// and becomes a blank.
func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	if strings.IndexByte(value, '\r') >= 0 || strings.IndexByte(value, '\n') >= 0 {
		value = strings.NewReplacer("\r", " ", "\n", " ").Replace(value)
	}
	b = append(b, value...)
	return append(b, crlf...)
}

func (w *writer) send() {
	if len(w.buf) == 0 {
		return
	}
	w.direct(w.buf)
	clear(w.buf) // secrets are not kept beyond their answer
	w.buf = w.buf[:0]
}

// direct writes p to the connection. A client that takes nothing for a while is
// given up, however much time the whole answer may take: it would hold the
// answer in memory for as long as it likes.
func (w *writer) direct(p []byte) {
	c := w.c
	for len(p) > 0 && !w.failed {
		part := p[:min(len(p), writePart)]
		if d := c.srv.WriteTimeout; d > 0 {
			if c.writeArmed.IsZero() {
				c.setWriteDeadline(d)
			}
		} else if time.Until(c.writeArmed) < stalled/2 && !w.own {
			c.setWriteDeadline(stalled)
		}
		if _, err := c.rw.Write(part); err != nil {
			w.failed = true
		}
		p = p[len(part):]
	}
}

// today is the Date header of one second, made once.
type today struct {
	second int64
	text   string
}

// date is the time for the Date header (RFC 9110, section 6.6.1).
func (s *Server) date() string {
	now := time.Now()
	if d := s.today.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &today{second: now.Unix(), text: now.UTC().Format(longDate)}
	s.today.Store(d)
	return d.text
}
