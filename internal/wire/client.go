package wire

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"arca/internal/socket"
)

// A Client sends requests that are small, and wholly in memory, over connections that it keeps. Each is written and its answer read by the goroutine that
// has it: net/http's client takes two more for each connection, and most of its time goes to waking them.
//
// No request is sent twice: what a server does with a request whose answer does not come is not known. A connection that the server has closed meanwhile
// is found to be so before anything is sent over it.
//
// It is safe for concurrent use.
type Client struct {
	// Dial opens a connection to a server.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// MaxIdle is how many connections to a server are kept that nobody uses, and IdleTimeout for how long.
	MaxIdle     int
	IdleTimeout time.Duration

	mu    sync.Mutex
	idle  map[string][]*clientConn // by address, the one used last at the end
	prune *time.Timer              // runs while there are idle ones
}

// A Request is what a Client sends, by POST.
type Request struct {
	Address string      // of the server, for Dial
	Target  string      // path and query, as in the request line
	Host    string      // "": Address
	Header  http.Header // Host, and what says how long the body is or what becomes of the connection, is not sent
	Body    []byte
}

// A NotSentError says why a request was not sent: nothing of it has reached a server.
type NotSentError struct{ Err error }

// Error implements error.
func (e *NotSentError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *NotSentError) Unwrap() error { return e.Err }

const (
	maxAnswerHead = 1 << 20  // bytes
	wholeAnswer   = 64 << 10 // an answer with a body of up to so many bytes is read at once
	keepRequest   = 16 << 10 // a larger buffer is not kept for the next request
)

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// clientConn is a connection to a server. It belongs to who takes it.
type clientConn struct {
	client  *Client
	address string
	net     net.Conn
	in      *bufio.Reader // of it
	left    int64         // bytes that may be read of it
	over    bool          // nothing more can be read of it: with the last bytes came its end
	out     []byte
	since   time.Time // when it became idle; guarded by Client.mu
}

// Read reads of the connection what may be read.
func (c *clientConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errAnswerHead
	}
	n, err := c.net.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.over = c.over || err != nil
	return n, err
}

var (
	errAnswerHead = errors.New("the head of the answer is too long")
	errInterim    = errors.New("an answer came that is not the last, for which nothing has asked")
)

// ErrPlain says that what should stand in a request's head would end it, or a line of it. Nothing was sent.
var ErrPlain = errors.New("the request's path, host or headers have what cannot be in a request")

// Post sends a request and returns when the head of the answer has come, and its body where that is small. The caller closes the body. When ctx ends before the answer has come, or
// while its body is read, that fails. The error is ErrPlain, or a *NotSentError, if nothing was sent.
func (c *Client) Post(ctx context.Context, r *Request) (*http.Response, error) {
	if !r.isPlain() {
		return nil, ErrPlain
	}
	conn, err := c.take(ctx, r.Address)
	if err != nil {
		return nil, &NotSentError{err}
	}
	stop := context.AfterFunc(ctx, func() {
		_ = conn.net.SetDeadline(longAgo) // fails only on a closed connection
	})
	if ctx.Err() != nil { // nothing is sent for who does not wait
		stop()
		conn.end()
		return nil, &NotSentError{context.Cause(ctx)}
	}
	res, err := conn.exchange(r)
	if err != nil {
		stop()
		conn.end()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	a := &answer{body: res.Body, conn: conn, stop: stop, keep: !res.Close}
	if n := res.ContentLength; n >= 0 && n <= wholeAnswer {
		all := make([]byte, n)
		if _, err := io.ReadFull(a, all); err != nil {
			a.over(false)
			return nil, unexpected(err)
		}
		a.over(true)
		res.Body = newWhole(all)
		return res, nil
	}
	res.Body = a
	return res, nil
}

// whole is a body that is in memory.
type whole struct{ bytes.Reader }

func newWhole(b []byte) *whole {
	w := new(whole)
	w.Reset(b)
	return w
}

// Close implements io.Closer.
func (*whole) Close() error { return nil }

// isPlain reports whether nothing in the head of a request ends its line, or a word of it. Values of headers see appendField.
func (r *Request) isPlain() bool {
	if r.Target == "" {
		return false
	}
	for _, text := range [...]string{r.Target, r.Host} {
		for i := range len(text) {
			if c := text[i]; c <= ' ' || c == 0x7f {
				return false
			}
		}
	}
	for name := range r.Header {
		for i := range len(name) {
			if !isToken(name[i]) {
				return false
			}
		}
	}
	return true
}

// exchange sends a request and reads the head of its answer.
func (c *clientConn) exchange(r *Request) (*http.Response, error) {
	c.out = r.append(c.out[:0])
	_, err := c.net.Write(c.out)
	clear(c.out) // it holds secrets
	if cap(c.out) > keepRequest {
		c.out = nil
	}
	if err != nil {
		return nil, err
	}
	c.left = maxAnswerHead
	defer func() { c.left = math.MaxInt64 }()
	if _, err := c.in.Peek(1); err != nil {
		return nil, unexpected(err)
	}
	if res := c.plainAnswer(); res != nil {
		return res, nil
	}
	res, err := http.ReadResponse(c.in, post)
	if err != nil {
		return nil, unexpected(err)
	}
	if res.StatusCode < http.StatusOK {
		return nil, errInterim
	}
	return res, nil
}

// plainAnswer reads the head of an answer that has come whole, and whose body has a length. Any other it leaves to net/http, and returns nil.
func (c *clientConn) plainAnswer() *http.Response {
	have, _ := c.in.Peek(c.in.Buffered()) // which is there
	size := headEnd(have)
	if size == 0 {
		return nil
	}
	text := string(have[:size-2]) // each line with its CRLF; one copy for all values
	line, rest, _ := strings.Cut(text, crlf)
	status, ok := strings.CutPrefix(line, "HTTP/1.1 ")
	if !ok || len(status) < 4 || status[3] != ' ' || !isText([]byte(status)) {
		return nil
	}
	code, err := strconv.ParseUint(status[:3], 10, 16)
	if err != nil || !bodyAllowed(int(code)) {
		return nil
	}
	res := &http.Response{
		Status: status, StatusCode: int(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header, 8), ContentLength: -1, Request: post,
	}
	values := make([]string, 0, 8)
	for rest != "" {
		line, rest, ok = strings.Cut(rest, crlf)
		if !ok {
			return nil
		}
		name, value, ok := splitLine(line)
		if !ok {
			return nil
		}
		switch name {
		case "Transfer-Encoding", "Connection", "Trailer", "Content-Encoding", "Upgrade", "Pragma":
			return nil
		case "Content-Length":
			n, err := strconv.ParseInt(value, 10, 63)
			if err != nil || value[0] < '0' || value[0] > '9' || res.ContentLength >= 0 {
				return nil
			}
			res.ContentLength = n
		}
		values = append(values, value)
		last := len(values) - 1
		if old, again := res.Header[name]; again {
			res.Header[name] = append(old, value)
		} else {
			res.Header[name] = values[last : last+1 : last+1]
		}
	}
	if res.ContentLength < 0 {
		return nil
	}
	_, _ = c.in.Discard(size) // which is there
	res.Body = &length{c.in, res.ContentLength}
	return res
}

// length is the body of such an answer.
type length struct {
	in   *bufio.Reader
	left int64
}

// Read implements io.Reader.
func (l *length) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n, err := l.in.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, unexpected(err)
}

// Close implements io.Closer.
func (*length) Close() error { return nil }

// post is what net/http has to know of a request to read its answer.
var post = &http.Request{Method: http.MethodPost}

// append writes the request.
func (r *Request) append(b []byte) []byte {
	b = append(b, "POST "...)
	b = append(b, r.Target...)
	b = append(b, " HTTP/1.1\r\n"...)
	b = appendField(b, "Host", cmp.Or(r.Host, r.Address))
	for name, values := range r.Header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Connection":
			continue
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(r.Body)), 10)
	b = append(b, crlf+crlf...)
	return append(b, r.Body...)
}

// answer is an answer's body, still to be read from its connection.
type answer struct {
	body  io.ReadCloser
	conn  *clientConn
	stop  func() bool // the end of the request's context from ending what is read; false if it has
	keep  bool        // the server takes further requests
	ended bool
}

// Read implements io.Reader.
func (a *answer) Read(p []byte) (int, error) {
	n, err := a.body.Read(p)
	if err != nil {
		a.over(errors.Is(err, io.EOF))
	}
	return n, err
}

// Close implements io.Closer. An answer that was not read to its end ends its connection.
func (a *answer) Close() error {
	a.over(false)
	return nil
}

// over gives the connection back, if all of the answer was read.
func (a *answer) over(whole bool) {
	if a.ended {
		return
	}
	a.ended = true
	if !a.stop() || !whole || !a.keep || a.conn.over || a.conn.in.Buffered() > 0 {
		a.conn.end()
		return
	}
	a.conn.client.give(a.conn)
}

func (c *clientConn) end() { _ = c.net.Close() } // it is over

// take returns a connection to a server.
func (c *Client) take(ctx context.Context, address string) (*clientConn, error) {
	for {
		conn := c.last(address)
		if conn == nil {
			break
		}
		if !socket.Stale(conn.net) {
			return conn, nil
		}
		conn.end()
	}
	nc, err := c.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	conn := &clientConn{client: c, address: address, net: nc}
	conn.in = bufio.NewReaderSize(conn, firstBuffer)
	return conn, nil
}

// last takes the idle connection to a server that was used last; nil for none.
func (c *Client) last(address string) *clientConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.idle[address]
	if len(all) == 0 {
		return nil
	}
	conn := all[len(all)-1]
	all[len(all)-1] = nil
	c.idle[address] = all[:len(all)-1]
	return conn
}

// give keeps a connection for the next request.
func (c *Client) give(conn *clientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.idle[conn.address]
	if len(all) >= c.MaxIdle {
		conn.end()
		return
	}
	if c.idle == nil {
		c.idle = map[string][]*clientConn{}
	}
	conn.since = time.Now()
	c.idle[conn.address] = append(all, conn)
	if c.prune == nil {
		c.prune = time.AfterFunc(c.IdleTimeout, c.pruneIdle)
	}
}

// pruneIdle closes the connections that nobody has used for long.
func (c *Client) pruneIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prune = nil
	next := c.IdleTimeout
	for address, all := range c.idle {
		old := 0
		for _, conn := range all {
			if left := c.IdleTimeout - time.Since(conn.since); left > 0 {
				next = min(next, left)
				break
			}
			conn.end()
			old++
		}
		if c.idle[address] = slices.Delete(all, 0, old); old == len(all) {
			delete(c.idle, address)
		}
	}
	if len(c.idle) > 0 {
		c.prune = time.AfterFunc(next, c.pruneIdle)
	}
}
