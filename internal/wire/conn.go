package wire

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	firstBuffer   = 4 << 10
	maxHead       = 16 << 10 // longer heads are net/http's
	keepBuffer    = 64 << 10 // a larger buffer is not kept for the next request
	maxDiscard    = 256 << 10
	rearmAfter    = 5 * time.Second // idle deadlines are renewed no oftener, unless they are short
	shortDeadline = time.Second
)

// conn is one connection. Its fields belong to its goroutine, but for those
// that say otherwise.
type conn struct {
	srv   *Server
	net   net.Conn // of the network; guarded by nothing, set once
	rw    net.Conn // net, or TLS over it
	state *tls.ConnectionState

	buf   []byte // read and not yet used: buf[from:to]
	from  int
	to    int
	armed time.Time // the read deadline that is set; zero for none
	// writeArmed is the write deadline that is set; zero for none.
	writeArmed time.Time
	head       head
	url        url.URL
	plain      http.Request // what all requests of the connection have in common
	req        http.Request
	out        writer

	mu    sync.Mutex
	idle  bool // no request is inside; guarded by mu
	ended bool // no further request is to be read; guarded by mu
	given bool // the connection is net/http's now; guarded by mu
}

// end ends the connection: at once when it is idle or all is set, else after
// the request that is inside.
func (c *conn) end(all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if !c.given && (c.idle || all) {
		_ = c.net.Close() // the connection is over
	}
}

// enter notes that a request is inside, or reports that none may begin.
func (c *conn) enter(inside bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = !inside
	return !c.ended
}

func (c *conn) serve() {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // the very value that net/http documents
			c.srv.Log.Error("handler panicked", "remote", c.net.RemoteAddr().String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.given {
			_ = c.net.Close() // whatever state it is in
		}
	}()
	c.rw = c.net
	if c.srv.TLS != nil && !c.handshake() {
		return
	}
	c.buf = make([]byte, firstBuffer)
	c.plain = *(&http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: c.net.RemoteAddr().String(), TLS: c.state}).
		WithContext(c.srv.base)
	for c.next() {
	}
}

// handshake speaks TLS. HTTP/2 is net/http's.
func (c *conn) handshake() bool {
	t := tls.Server(c.net, c.srv.TLS)
	c.setDeadline(c.srv.ReadHeaderTimeout)
	if err := t.HandshakeContext(c.srv.base); err != nil {
		var record tls.RecordHeaderError
		if errors.As(err, &record) && record.Conn != nil && looksLikeHTTP(record.RecordHeader) {
			_, _ = io.WriteString(record.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n") // as net/http
		}
		c.srv.Log.Debug("TLS handshake", "remote", c.net.RemoteAddr().String(), "error", err)
		if c.srv.Refused != nil && isOfCertificate(err) {
			c.srv.Refused(c.net.RemoteAddr(), err)
		}
		return false
	}
	c.rw = t
	state := t.ConnectionState()
	c.state = &state
	if state.NegotiatedProtocol == "h2" {
		_ = t.SetDeadline(time.Time{}) // net/http sets its own
		c.hand(t)
		return false
	}
	return true
}

// isOfCertificate reports whether a handshake failed because the client has no
// certificate, or none that is trusted. For the first, crypto/tls has a text only.
func isOfCertificate(err error) bool {
	var untrusted *tls.CertificateVerificationError
	return errors.As(err, &untrusted) || strings.Contains(err.Error(), "client didn't provide a certificate")
}

// looksLikeHTTP reports whether what came in place of a TLS record is the
// beginning of a request.
func looksLikeHTTP(b [5]byte) bool {
	switch string(b[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "PATCH", "DELET", "LIST ", "OPTIO":
		return true
	}
	return false
}

func (c *conn) setDeadline(d time.Duration) {
	if d <= 0 {
		c.armed = time.Time{}
	} else {
		c.armed = time.Now().Add(d)
	}
	_ = c.net.SetReadDeadline(c.armed) // fails only on a closed connection, as the read will
}

func (c *conn) setWriteDeadline(d time.Duration) {
	c.writeArmed = time.Now().Add(d)
	_ = c.net.SetWriteDeadline(c.writeArmed) // fails only on a closed connection, as the write will
}

// hand gives the connection to net/http.
func (c *conn) hand(nc net.Conn) {
	c.mu.Lock()
	c.given = true
	c.mu.Unlock()
	if !c.srv.handed.give(nc) {
		_ = c.net.Close() // the server is going
	}
}

// handOver gives the connection to net/http with all that was read of it.
func (c *conn) handOver() {
	_ = c.net.SetDeadline(time.Time{}) // net/http sets its own
	c.hand(&replayed{Conn: c.rw, first: append([]byte(nil), c.buf[c.from:c.to]...)})
}

// next serves one request and reports whether another may follow.
func (c *conn) next() bool {
	if !c.enter(false) {
		return false
	}
	size, ok := c.readHead()
	if !ok {
		return false
	}
	if !c.enter(true) {
		return false
	}
	raw := c.buf[c.from : c.from+size]
	if !c.head.parse(raw) || !c.head.url(&c.url) {
		if framedTwice(raw) {
			c.refuse(framingText)
			return false
		}
		c.handOver()
		return false
	}
	clear(raw) // the token is not kept beyond its request
	c.from += size
	return c.answer()
}

// readHead reads until a head is complete and returns its length. It reports
// false when the connection is over or was handed over.
func (c *conn) readHead() (size int, ok bool) {
	if size = headEnd(c.buf[c.from:c.to]); size > 0 {
		return size, true // the client sent several requests at once
	}
	begun := c.to > c.from
	if bareLF(c.buf[c.from:c.to]) { // of several requests sent at once, one that is net/http's
		c.handOver()
		return 0, false
	}
	if begun && c.srv.ReadHeaderTimeout > 0 {
		c.setDeadline(c.srv.ReadHeaderTimeout)
	}
	if d := c.srv.IdleTimeout; !begun && (d <= 0 && !c.armed.IsZero() || d > 0 && time.Until(c.armed) < d-min(rearmAfter, d/8)) {
		c.setDeadline(d)
	}
	for {
		if c.from > 0 {
			copy(c.buf, c.buf[c.from:c.to])
			c.to -= c.from
			c.from = 0
		}
		if c.to == len(c.buf) {
			if c.to >= maxHead {
				c.handOver()
				return 0, false
			}
			c.buf = append(c.buf, make([]byte, len(c.buf))...)
		}
		n, err := c.rw.Read(c.buf[c.to:])
		seen := max(0, c.to-3)
		c.to += n
		if i := headEnd(c.buf[seen:c.to]); i > 0 {
			return seen + i, true
		}
		if err != nil {
			return 0, false
		}
		if bareLF(c.buf[max(0, seen-1):c.to]) {
			c.handOver()
			return 0, false
		}
		if !begun && c.srv.ReadHeaderTimeout > 0 {
			begun = true
			c.setDeadline(c.srv.ReadHeaderTimeout)
		}
	}
}

// refuse answers a request that nobody may read in one of two ways, and ends the
// connection.
func (c *conn) refuse(why string) {
	c.setWriteDeadline(shortDeadline)
	_, _ = io.WriteString(c.rw, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request: "+why) // the client may be gone
	c.linger()
}

// answer runs the handler for the parsed head.
func (c *conn) answer() bool {
	h := &c.head
	var rest *lent
	c.req = c.plain
	c.req.Method, c.req.URL, c.req.RequestURI = h.method, &c.url, h.target
	c.req.Header, c.req.Host, c.req.Close = h.header, h.host, h.close
	c.req.ContentLength, c.req.Body = h.length, http.NoBody
	if h.length < 0 {
		c.req.TransferEncoding = []string{"chunked"}
	}
	if h.length != 0 {
		rest = c.lend(h.length)
		c.req.Body = rest
		if h.length < 0 || int64(c.to-c.from) < h.length {
			c.setDeadline(c.srv.ReadTimeout)
		}
	}
	if c.srv.WriteTimeout > 0 {
		c.writeArmed = time.Time{} // it counts from each answer's first write
	}
	c.out.reset(c, h.method == http.MethodHead, h.close, rest)
	c.srv.Handler.ServeHTTP(&c.out, &c.req)
	again := c.out.finish() && !h.close
	if rest != nil && !rest.end() {
		c.linger()
		return false
	}
	if !again {
		return false
	}
	if c.from == c.to && len(c.buf) > keepBuffer {
		c.buf, c.from, c.to = make([]byte, firstBuffer), 0, 0
	}
	return true
}

// lent is a request's body as its handler has it. The handler may leave somebody behind who reads it: net/http's client does, that sends it on to a server
// which answers before it has all. Whoever that is must take nothing of what comes after.
type lent struct {
	c    *conn
	over atomic.Bool // the handler has returned
	mu   sync.Mutex  // held while somebody reads
	from interface { // guarded by mu
		io.Reader
		short() bool
		discard() bool
	}
	length int64 // of the whole; -1 if it is not known
	sized  body  // what from is where the length is known
}

func (c *conn) lend(length int64) *lent {
	l := &lent{c: c, length: length, sized: body{c: c, left: length}}
	if l.from = &l.sized; length < 0 {
		l.from = &chunks{c: c}
	}
	return l
}

// Read implements io.Reader.
func (l *lent) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	return l.from.Read(p)
}

// Close implements io.Closer.
func (l *lent) Close() error { return nil }

// short reports whether what was not read of the body is certain to be so little that it is skipped. After any other the connection serves no more requests, and its client
// has to hear that with the answer: else it has sent its body, sends its next request, and meets the end.
func (l *lent) short() bool {
	if l.length >= 0 && l.length <= maxDiscard {
		return true
	}
	if !l.mu.TryLock() {
		return false // somebody waits for more of it
	}
	defer l.mu.Unlock()
	return l.from.short()
}

// end takes the body back and skips what was not read of it; see body.discard.
func (l *lent) end() bool {
	l.over.Store(true)
	if !l.mu.TryLock() {
		l.c.setDeadline(shortDeadline) // who reads waits no longer
		l.mu.Lock()
	}
	defer l.mu.Unlock()
	return l.from.discard()
}

// body reads a request's body: what the buffer holds, then from the connection.
type body struct {
	c    *conn
	left int64
	err  error
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.c.readBody(p)
	b.left -= int64(n)
	b.err = err
	return n, err
}

// readBody reads what belongs to a request's body.
func (c *conn) readBody(p []byte) (int, error) {
	if c.from < c.to {
		n := copy(p, c.buf[c.from:c.to])
		clear(c.buf[c.from : c.from+n]) // secrets are not kept beyond their request
		c.from += n
		return n, nil
	}
	n, err := c.rw.Read(p)
	return n, unexpected(err)
}

// unexpected makes an error of the end of the connection, which is not the body's.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// short is lent.short.
func (b *body) short() bool { return b.left <= maxDiscard && b.err == nil }

// discard skips what the handler did not read; it reports false when that is
// too much or fails, and the connection must end.
func (b *body) discard() bool {
	if b.left == 0 {
		return true
	}
	if !b.short() {
		return false
	}
	b.c.setDeadline(shortDeadline)
	_, err := io.Copy(io.Discard, b)
	return err == nil
}

// linger ends a connection whose client still sends: the answer would be lost
// if its unread bytes were met with a reset. RFC 9112, section 9.6.
func (c *conn) linger() {
	if half, ok := c.rw.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the connection is over
	}
	c.setDeadline(shortDeadline)
	var scratch [4 << 10]byte
	for {
		if _, err := c.net.Read(scratch[:]); err != nil {
			return
		}
	}
}
