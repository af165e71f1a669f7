package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"arca/internal/errs"
)

// What nodes say to each other, by the protocol that a connection is opened for.
const (
	protoRaft = "arca-raft/1"
	protoAsk  = "arca-ask/1"
	protoHTTP = "arca-http/1"
)

const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	transportTimeout = 10 * time.Second
	transportPool    = 3
)

// A web is this node's connections with others, while it is unsealed.
type web struct {
	pass      *pass
	log       *slog.Logger
	address   string // of this node, as others dial it
	listeners []net.Listener
	streams   map[string]*stream
	greetings greetings
	lines     lines
	work      sync.WaitGroup

	mu    sync.Mutex
	over  bool
	conns map[net.Conn]struct{}

	ctx    context.Context //nolint:containedctx // of the web's time
	cancel context.CancelFunc
}

// openWeb listens at the addresses.
func openWeb(p *pass, address string, bind []string, log *slog.Logger) (*web, error) {
	w := &web{
		pass: p, log: log, address: address, conns: map[net.Conn]struct{}{}, streams: map[string]*stream{},
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	for _, proto := range []string{protoRaft, protoAsk, protoHTTP} {
		s := &stream{web: w, proto: proto, conns: make(chan *conn), done: make(chan struct{}), held: map[*conn]string{}}
		s.out, s.part = context.WithCancel(w.ctx)
		w.streams[proto] = s
	}
	for _, b := range bind {
		l, err := net.Listen("tcp", b)
		if err != nil {
			w.close()
			return nil, errs.New(errs.Unavailable, "listen for other nodes at %q: %w", b, err)
		}
		w.listeners = append(w.listeners, l)
	}
	for _, l := range w.listeners {
		w.work.Go(func() { w.accept(l) })
	}
	return w, nil
}

func (w *web) close() {
	w.mu.Lock()
	w.over = true
	w.cancel()
	for c := range w.conns {
		_ = c.Close() // it ends whatever happens
	}
	w.mu.Unlock()
	for _, l := range w.listeners {
		_ = l.Close() // likewise
	}
	for _, s := range w.streams {
		_ = s.Close() // never fails
	}
	w.work.Wait()
}

func (w *web) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			w.log.Warn("accept a node's connection", "error", err)
			time.Sleep(100 * time.Millisecond) // out of descriptors, for one
			continue
		}
		if out := w.greetings.begin(c); out != nil {
			_ = out.Close() // its greet ends, and drops it
		}
		w.work.Go(func() { w.greet(c) })
	}
}

// greet finds out who calls, and hands the connection to who is called.
func (w *web) greet(raw net.Conn) {
	if !w.track(raw) {
		w.greetings.end(raw)
		return
	}
	c := tls.Server(raw, w.pass.server())
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	err := c.HandshakeContext(ctx)
	w.greetings.end(raw)
	if err != nil {
		w.log.Debug("a connection to the cluster's address was refused", "from", raw.RemoteAddr().String(), "error", err)
		w.drop(raw)
		return
	}
	s := w.streams[c.ConnectionState().NegotiatedProtocol]
	if s == nil {
		w.drop(raw)
		return
	}
	select {
	case s.conns <- &conn{c, func() { w.drop(raw) }}:
	case <-s.done:
		w.drop(raw)
	}
}

// track remembers a connection, so that it ends with the web.
func (w *web) track(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		_ = c.Close() // nothing was said
		return false
	}
	w.conns[c] = struct{}{}
	return true
}

// beside runs something that the web waits for, and reports whether it does: not when it ends already.
func (w *web) beside(do func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.work.Go(do)
	}
	return !w.over
}

func (w *web) drop(c net.Conn) {
	w.mu.Lock()
	delete(w.conns, c)
	w.mu.Unlock()
	_ = c.Close() // it ends whatever happens
}

// dial opens a connection to the node at an address, which must be the one with an id; "" stands for any.
func (w *web) dial(ctx context.Context, proto, id, address string) (*conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	raw, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "reach the node at %q: %w", address, err)
	}
	if !w.track(raw) {
		return nil, net.ErrClosed
	}
	c := tls.Client(raw, w.pass.client(proto, id))
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		w.drop(raw)
		return nil, errs.New(errs.Unavailable, "greet the node at %q: %w", address, err)
	}
	return &conn{c, func() { w.drop(raw) }}, nil
}

// A conn is forgotten when it is closed.
type conn struct {
	*tls.Conn
	drop func()
}

// Close does not wait for the other side, which may be gone.
func (c *conn) Close() error {
	c.drop()
	return nil
}

// A stream is the connections of one protocol: a net.Listener, and raft's StreamLayer.
type stream struct {
	web   *web
	proto string
	conns chan *conn
	once  sync.Once
	done  chan struct{}

	out  context.Context //nolint:containedctx // of connections that this node opens
	part context.CancelFunc

	mu   sync.Mutex
	held map[*conn]string // accepted and not closed yet, with the node at the other end

	// parted is told whose connection has ended, on a goroutine that the web waits for; nil for nobody. It is set before Accept.
	parted func(ctx context.Context, id string)
}

var _ raft.StreamLayer = (*stream)(nil)

// Accept implements net.Listener.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return s.hold(c), nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// hold is a connection that is known until it is closed.
func (s *stream) hold(c *conn) *conn {
	id := node(c.ConnectionState())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[c] = id
	return &conn{c.Conn, func() {
		c.drop()
		s.mu.Lock()
		delete(s.held, c)
		s.mu.Unlock()
		if s.parted != nil {
			s.web.beside(func() { s.parted(s.web.ctx, id) })
		}
	}}
}

// cut ends the connections that a node has opened; who has accepted them finds out, and closes them.
func (s *stream) cut(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, its := range s.held {
		if its == id {
			c.drop()
		}
	}
}

// Close implements net.Listener.
func (s *stream) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

// Addr implements net.Listener.
func (s *stream) Addr() net.Addr { return address(s.web.address) }

// Dial implements raft.StreamLayer, to where a carrier says.
func (s *stream) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.out, timeout)
	defer cancel()
	id, address := whom(to)
	c, err := s.web.dial(ctx, s.proto, id, address)
	if err != nil {
		return nil, err
	}
	stay := context.AfterFunc(s.out, c.drop)
	return patient{&conn{c.Conn, func() { stay(); c.drop() }}}, nil
}

// A patient connection is given up where one write, of 256 KB at most, is not taken within writePatience. Raft's transport waits for a whole snapshot as long as its size may need, for hours: where the
// machine that takes it is gone without a word, and has come again with another address, TCP tells after a quarter of an hour, and nothing is sent to the node until then.
type patient struct{ *conn }

const writePatience = 30 * time.Second

// Write implements net.Conn.
func (p patient) Write(b []byte) (int, error) {
	t := time.AfterFunc(writePatience, p.drop)
	defer t.Stop()
	return p.conn.Write(b)
}

// address is a node's, which need not be an IP address.
type address string

// Network implements net.Addr.
func (a address) Network() string { return "tcp" }

// String implements net.Addr.
func (a address) String() string { return string(a) }
