package audit

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/errs"
	"arca/internal/param"
)

const defaultWriteTimeout = 2 * time.Second

// socketSink writes to a TCP, UDP or unix socket.
type socketSink struct {
	network, address string
	timeout          time.Duration // of dialling and of each write

	buf []byte

	mu   sync.Mutex
	conn *peer // under mu, for interrupt
	dead bool  // under mu: interrupted
}

// A peer is a connection that notices when the other side ends it: what is
// written after that would be lost in silence.
type peer struct {
	net.Conn
	gone    atomic.Bool
	watched sync.WaitGroup
}

// newSocket checks the options of a socket device.
func newSocket(o map[string]string) (sink, error) {
	s := &socketSink{network: o["socket_type"], address: o["address"]}
	if s.address == "" {
		return nil, errs.New(errs.Invalid, "address is required")
	}
	if s.network == "" {
		s.network = "tcp"
	}
	var err error
	if s.timeout, err = writeTimeout(o); err != nil {
		return nil, err
	}
	return s, nil
}

func writeTimeout(o map[string]string) (time.Duration, error) {
	text, ok := o["write_timeout"]
	if !ok {
		return defaultWriteTimeout, nil
	}
	d, err := param.ParseDuration(text)
	switch {
	case err != nil:
		return 0, errs.New(errs.Invalid, "%s", err.Error())
	case d <= 0:
		return 0, errs.New(errs.Invalid, "write_timeout must be longer than 0")
	}
	return d, nil
}

// packets reports whether each write is a message of its own.
func (s *socketSink) packets() bool {
	return strings.HasPrefix(s.network, "udp") || s.network == "unixgram"
}

func (s *socketSink) open() error {
	d := net.Dialer{Timeout: s.timeout}
	c, err := d.Dial(s.network, s.address)
	if err != nil {
		return err
	}
	p := &peer{Conn: c}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		_ = c.Close() // nothing was written
		return net.ErrClosed
	}
	s.conn = p
	if !s.packets() {
		p.watched.Go(func() {
			_, _ = io.Copy(io.Discard, c) // ends when the other side does, or on Close
			p.gone.Store(true)
		})
	}
	return nil
}

func (s *socketSink) write(lines [][]byte) (n int, broken bool, err error) {
	s.mu.Lock()
	p := s.conn
	s.mu.Unlock()
	if p == nil {
		return 0, true, net.ErrClosed
	}
	if s.packets() {
		return s.writeEach(p, lines)
	}
	n, err = s.writeAll(p, lines)
	if err == nil {
		return n, false, nil
	}
	// The other side may have been started anew: once more, on a new connection.
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // of net alone
		return n, true, err
	}
	s.drop()
	if err := s.open(); err != nil {
		return n, true, err
	}
	s.mu.Lock()
	p = s.conn
	s.mu.Unlock()
	if p == nil {
		return n, true, net.ErrClosed
	}
	more, err := s.writeAll(p, lines[n:])
	return n + more, err != nil, err
}

func (s *socketSink) writeAll(p *peer, lines [][]byte) (int, error) {
	if p.gone.Load() {
		return 0, io.ErrClosedPipe
	}
	if err := p.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return 0, err
	}
	all := lines[0]
	if len(lines) > 1 {
		s.buf = join(s.buf[:0], lines)
		all = s.buf
	}
	written, err := p.Write(all)
	if err != nil {
		return whole(lines, written), err
	}
	return len(lines), nil
}

// writeEach sends each line as a message. One that is too long fails alone.
func (s *socketSink) writeEach(p *peer, lines [][]byte) (n int, broken bool, err error) {
	if err := p.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return 0, true, err
	}
	for i, l := range lines {
		if _, err := p.Write(l); err != nil {
			return i, !isTooLong(err), err
		}
	}
	return len(lines), false, nil
}

// drop ends the connection.
func (s *socketSink) drop() {
	s.mu.Lock()
	p := s.conn
	s.conn = nil
	s.mu.Unlock()
	if p != nil {
		_ = p.Close() // it is given up
		p.watched.Wait()
	}
}

func (s *socketSink) reload() error { return nil }

func (s *socketSink) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	if s.conn != nil {
		_ = s.conn.Close() // its writer sees the error
	}
}

func (s *socketSink) close() error {
	s.drop()
	return nil
}
