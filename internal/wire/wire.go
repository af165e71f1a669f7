// Package wire serves HTTP/1.1 requests of the plain kind with little work, and
// hands every other connection to net/http. A Client is the other end of such
// requests, between nodes.
//
// net/http costs about 40 µs for a request whose handler does nothing: a
// goroutine that watches the connection, a context, two copies of the headers,
// several deadlines. Requests of Vault's clients need none of it: a method, a
// path, a few headers, a body of known length. This loop reads those from one
// buffer, calls the same http.Handler, and writes the answer with one write.
//
// It is strict: a head that has anything beyond the plain form (RFC 9112: HTTP/1.1,
// origin form, one Host, at most one Content-Length or "Transfer-Encoding: chunked", no
// Upgrade, no Expect, no folded lines, no control characters) is not judged
// here. The connection goes to net/http together with the bytes that were read,
// and stays there. So do connections that negotiate HTTP/2. What is refused, and
// how, is net/http's decision alone; a request is never read in two ways. What has
// both Content-Length and Transfer-Encoding is refused here, as net/http takes it. A
// chunked body is read in its strict form only; a connection ends with one that is not,
// and with a request of net/http's that has Transfer-Encoding.
//
// The handler's request and headers are valid until it returns, as with
// net/http. Its context ends with the server, not with the client: a handler
// that streams learns from a failed write that nobody listens any more.
package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A Server serves one listener. The zero value of a time-out is none.
type Server struct {
	Handler           http.Handler
	TLS               *tls.Config   // nil: no TLS
	ReadHeaderTimeout time.Duration // for the handshake, and for a request's head
	ReadTimeout       time.Duration // for a request with its body
	WriteTimeout      time.Duration // for an answer
	IdleTimeout       time.Duration // between requests
	MaxHeaderBytes    int           // 0: 1 MiB, as net/http
	// Fallback serves what this loop does not. Its Handler, ConnContext and
	// TLSConfig are set by Serve; its time-outs are its own.
	Fallback *http.Server
	Log      *slog.Logger
	// Refused, if set, is told of a handshake that failed for want of a client's
	// certificate that is trusted.
	Refused func(remote net.Addr, why error)

	mu       sync.Mutex
	conns    map[*conn]struct{} // guarded by mu
	closing  bool               // guarded by mu
	listener net.Listener       // guarded by mu
	handed   *handed
	today    atomic.Pointer[today]
	served   sync.WaitGroup
	base     context.Context
	stop     context.CancelFunc
}

// ErrClosed is what Serve returns after Shutdown or Close.
var ErrClosed = http.ErrServerClosed

// Serve accepts connections until Shutdown or Close; it returns ErrClosed then.
func (s *Server) Serve(l net.Listener) error {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	s.base, s.stop = context.WithCancel(context.WithValue(context.Background(), sharedKey{}, true))
	defer s.stop()
	s.handed = newHanded(l.Addr())
	s.Fallback.Handler = withTLSState(s.Handler)
	s.Fallback.ConnContext = keepTLSState
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return ErrClosed
	}
	s.listener = l
	s.conns = map[*conn]struct{}{}
	s.mu.Unlock()
	var fallback sync.WaitGroup
	fallback.Go(func() {
		if err := s.Fallback.Serve(s.handed); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.Log.Error("serve", "error", err)
		}
	})
	err := s.accept(l)
	_ = s.handed.Close() // cannot fail
	fallback.Wait()
	s.served.Wait()
	return err
}

// accept takes connections. What is out of the moment's order (no file
// descriptors left) is waited for, longer each time.
func (s *Server) accept(l net.Listener) error {
	var delay time.Duration
	for {
		nc, err := l.Accept()
		if err == nil {
			delay = 0
			s.start(nc)
			continue
		}
		if s.isClosing() {
			return ErrClosed
		}
		var temporary interface{ Temporary() bool }
		if !errors.As(err, &temporary) || !temporary.Temporary() {
			return err
		}
		delay = min(max(5*time.Millisecond, 2*delay), time.Second)
		s.Log.Warn("accept", "error", err, "retry_in", delay)
		wait(s.base, delay)
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func (s *Server) start(nc net.Conn) {
	c := &conn{srv: s, net: nc}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		_ = nc.Close() // the server is going
		return
	}
	s.conns[c] = struct{}{}
	s.served.Go(func() {
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	})
}

// Shutdown closes the listener and idle connections, and waits until the
// requests inside are answered, or ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.close(false)
	err := s.Fallback.Shutdown(ctx)
	done := make(chan struct{})
	go func() { // ends with the connections, which Close ends
		s.served.Wait()
		close(done)
	}()
	select {
	case <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close closes the listener and all connections.
func (s *Server) Close() error {
	s.close(true)
	return s.Fallback.Close()
}

func (s *Server) close(all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	if s.listener != nil {
		_ = s.listener.Close() // it may be closed already
	}
	for c := range s.conns {
		c.end(all)
	}
	if all && s.stop != nil {
		s.stop()
	}
}

// handed is the listener from which Fallback takes connections.
type handed struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHanded(addr net.Addr) *handed {
	return &handed{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *handed) Addr() net.Addr { return h.addr }

// give hands a connection over; it reports whether someone took it.
func (h *handed) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

// replayed is a connection of which some bytes were read already.
type replayed struct {
	net.Conn
	first []byte
	seen  framing
}

// Read implements net.Conn.
func (r *replayed) Read(p []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(p, r.first)
		r.first = r.first[n:]
		r.seen.see(p[:n])
		return n, nil
	}
	n, err := r.Conn.Read(p)
	r.seen.see(p[:n])
	return n, err
}

// CloseWrite lets net/http end a connection without losing its answer.
func (r *replayed) CloseWrite() error {
	if half, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

type (
	tlsKey    struct{}
	sharedKey struct{}
)

// Shared reports whether ctx is the context of all requests of a Server, rather
// than of one: contexts derived from it can be shared among requests.
func Shared(ctx context.Context) bool { return ctx.Value(sharedKey{}) != nil }

// keepTLSState notes the TLS of a replayed connection, which net/http cannot see, and what
// it does not tell.
func keepTLSState(ctx context.Context, c net.Conn) context.Context {
	r, ok := c.(*replayed)
	if !ok {
		return ctx
	}
	ctx = context.WithValue(ctx, framingKey{}, &r.seen)
	t, ok := r.Conn.(*tls.Conn)
	if !ok {
		return ctx
	}
	state := t.ConnectionState()
	return context.WithValue(ctx, tlsKey{}, &state)
}

// withTLSState gives requests of such connections their TLS state.
func withTLSState(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			if state, ok := r.Context().Value(tlsKey{}).(*tls.ConnectionState); ok {
				r.TLS = state
			}
		}
		// A line of a body may look like one of a head, and whoever sends the next request over a connection need not be who sent that. HTTP/1.0 does not tell
		// whether a request itself has such a line.
		if r.ProtoMajor == 1 && (len(r.TransferEncoding) > 0 || r.ProtoMinor == 0) && framedTwiceBefore(r.Context()) {
			refuseFraming(w)
			return
		}
		if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
			// Whatever somebody else takes for its end, nothing behind it is read.
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}
