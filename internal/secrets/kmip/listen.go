package kmip

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/ttlv"
)

// Bounds on connections and messages.
const (
	maxConnections = 10_000 // of a mount
	maxHandshakes  = 512    // under way at a time, of a mount
	maxMessage     = 1 << 20
	messageTime    = 30 * time.Second // for a message that has begun, and for its answer
	keepAlive      = 60 * time.Second
	syncTime       = 5 * time.Second
	retryEvery     = 2 * time.Second // to listen where that has failed
	maxResponse    = 16 << 20        // bytes of an answer
)

// servers listen for the mounts while the node is active.
type servers struct {
	syncs chan chan struct{}
	ops   map[uint32]*operation

	runs sync.Mutex // held by Run: one ends before the next begins

	mu      sync.Mutex
	byMount map[string]*server // guarded by mu
	running chan struct{}      // guarded by mu: closed when Run ends
	begun   chan struct{}      // guarded by mu: closed when Run has begun
}

func newServers(ops map[uint32]*operation) *servers {
	return &servers{ops: ops, syncs: make(chan chan struct{}), byMount: map[string]*server{}, begun: make(chan struct{})}
}

// Run implements engine.Runner.
func (e *Engine) Run(ctx context.Context, host engine.Host) { e.servers.run(ctx, host) }

func (s *servers) run(ctx context.Context, host engine.Host) {
	s.runs.Lock()
	defer s.runs.Unlock()
	over := make(chan struct{})
	s.mu.Lock()
	s.running = over
	close(s.begun)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		all := slices.Collect(maps.Values(s.byMount))
		clear(s.byMount)
		s.begun = make(chan struct{})
		s.mu.Unlock()
		close(over)
		for _, v := range all {
			v.close()
		}
	}()
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	ill := !s.follow(ctx, host)
	for {
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
			if ill { // an address may be free by now
				ill = !s.follow(ctx, host)
			}
		case <-host.Changed():
			ill = !s.follow(ctx, host)
		case done := <-s.syncs:
			ill = !s.follow(ctx, host)
			close(done)
		}
	}
}

// sync waits a little until the listeners are those of the configuration.
func (s *servers) sync() {
	t := time.NewTimer(syncTime)
	defer t.Stop()
	s.mu.Lock()
	begun := s.begun
	s.mu.Unlock()
	select {
	case <-begun: // a node that has just become active is about to
	case <-t.C:
		return
	}
	s.mu.Lock()
	over := s.running
	s.mu.Unlock()
	done := make(chan struct{})
	select {
	case s.syncs <- done:
	case <-over:
		return
	case <-t.C:
		return
	}
	select {
	case <-done:
	case <-over:
	case <-t.C:
	}
}

// tryAddresses finds out whether a mount can listen at addresses. What is wrong is
// Invalid.
func (s *servers) tryAddresses(ctx context.Context, mount string, addresses []string) error {
	s.mu.Lock()
	have := s.byMount[mount]
	s.mu.Unlock()
	for i, a := range addresses {
		if have != nil && have.listens(a) || slices.Contains(addresses[:i], a) { // ports of its own are handed over
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a)
		if err != nil {
			return errs.New(errs.Invalid, "cannot listen at %s: %w", a, err)
		}
		_ = l.Close() // it was a try
	}
	return nil
}

// follow brings the listeners in line with what is stored, and reports whether that
// was done.
func (s *servers) follow(ctx context.Context, host engine.Host) (done bool) {
	places, err := host.Mounts(ctx)
	if err != nil {
		if ctx.Err() == nil {
			host.Log().Error("read the mounts; the listeners stay as they are", "error", err)
		}
		return false
	}
	done = true
	want := map[string]bool{}
	for _, p := range places {
		var c *config
		var a *authority
		err := host.View(ctx, p.Mount, func(tx storage.Tx) (err error) {
			if c, err = storage.GetJSON[config](tx, configKey); err != nil {
				return err
			}
			a, err = storage.GetJSON[authority](tx, caKey)
			return err
		})
		if errors.Is(err, storage.ErrNotFound) {
			continue // not configured yet, or gone meanwhile
		}
		want[p.Mount.ID] = true
		if err == nil {
			err = s.of(p.Mount.ID, host).set(p, c, a)
		}
		done = done && err == nil
		if err != nil && ctx.Err() == nil {
			host.Log().Error("listen", "mount", p.NamespacePath+p.Mount.Path, "error", err)
		}
	}
	s.mu.Lock()
	var gone []*server
	for id, v := range s.byMount {
		if !want[id] {
			gone = append(gone, v)
			delete(s.byMount, id)
		}
	}
	s.mu.Unlock()
	for _, v := range gone {
		v.close()
	}
	return done
}

func (s *servers) of(mount string, host engine.Host) *server {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.byMount[mount]
	if v == nil {
		v = &server{host: host, ops: s.ops, sockets: map[string]net.Listener{}, conns: map[net.Conn]struct{}{}, handshakes: make(chan struct{}, maxHandshakes)}
		v.ctx, v.cancel = context.WithCancel(context.Background())
		s.byMount[mount] = v
	}
	return v
}

// A server is the listeners of one mount.
type server struct {
	host       engine.Host
	ops        map[uint32]*operation
	at         atomic.Pointer[place]
	ctx        context.Context    // of the messages that are served
	cancel     context.CancelFunc // ends them
	handshakes chan struct{}      // has one for each that is under way
	work       sync.WaitGroup

	mu      sync.Mutex
	sum     [sha256.Size]byte // guarded by mu: of the settings in use
	sockets map[string]net.Listener
	conns   map[net.Conn]struct{}
	over    bool
}

// A place is what a server is for just now.
type place struct {
	engine.Place
	tls     *tls.Config
	timeout time.Duration
}

// listens reports whether the mount holds the port of an address, at whichever host:
// it gives it up before it listens anew.
func (v *server) listens(address string) bool {
	_, port, _ := net.SplitHostPort(address)
	v.mu.Lock()
	defer v.mu.Unlock()
	for have := range v.sockets {
		if _, p, _ := net.SplitHostPort(have); p == port {
			return true
		}
	}
	return false
}

// set takes new settings. Addresses that stay are not touched.
func (v *server) set(p engine.Place, c *config, a *authority) error {
	sum, err := sumOf(c, a)
	if err != nil {
		return err
	}
	v.mu.Lock()
	same := v.sum == sum && v.at.Load() != nil
	v.mu.Unlock()
	next := &place{Place: p, timeout: max(c.Timeout, leastHandshake)}
	if c.Timeout == 0 {
		next.timeout = defaultHandshake
	}
	if same {
		next.tls = v.at.Load().tls
	} else if next.tls, err = serverTLS(c, a); err != nil {
		return err
	}
	v.at.Store(next)
	var failures []error
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sum = sum
	for address, l := range v.sockets {
		if !slices.Contains(c.Listen, address) {
			delete(v.sockets, address)
			_ = l.Close() // nothing more comes
		}
	}
	for _, address := range c.Listen {
		if v.sockets[address] != nil || v.over {
			continue
		}
		l, err := (&net.ListenConfig{KeepAlive: keepAlive}).Listen(context.Background(), "tcp", address)
		if err != nil {
			failures = append(failures, err)
			v.sum = [sha256.Size]byte{} // it is tried again with the next change
			continue
		}
		v.sockets[address] = l
		v.work.Go(func() { v.accept(l) })
		v.host.Log().Info("listening", "protocol", "kmip", "address", l.Addr().String())
	}
	return errors.Join(failures...)
}

func sumOf(c *config, a *authority) ([sha256.Size]byte, error) {
	raw, err := json.Marshal([]any{c, a.Intermediate})
	return sha256.Sum256(raw), err
}

func serverTLS(c *config, a *authority) (*tls.Config, error) {
	out, err := c.tls()
	if err != nil {
		return nil, err
	}
	der, key, err := a.server(c, time.Now())
	if err != nil {
		return nil, err
	}
	out.Certificates = []tls.Certificate{{Certificate: [][]byte{der, a.Intermediate}, PrivateKey: key}}
	out.ClientCAs = x509.NewCertPool()
	for _, raw := range [][]byte{a.Intermediate, a.Root} {
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			return nil, err
		}
		out.ClientCAs.AddCert(cert)
	}
	return out, nil
}

func (v *server) close() {
	v.cancel()
	v.mu.Lock()
	v.over = true
	for _, l := range v.sockets {
		_ = l.Close() // nothing more comes
	}
	for c := range v.conns {
		_ = c.Close() // its request, if there is one, is not answered
	}
	v.mu.Unlock()
	v.work.Wait()
}

// accept takes connections until the listener is closed.
func (v *server) accept(l net.Listener) {
	pause := time.Duration(0)
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files, say: it passes
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			t := time.NewTimer(pause)
			<-t.C
			continue
		}
		pause = 0
		if !v.add(c) {
			_ = c.Close() // too many
			continue
		}
		v.work.Go(func() {
			defer v.remove(c)
			v.serve(c)
		})
	}
}

func (v *server) add(c net.Conn) bool {
	select {
	case v.handshakes <- struct{}{}:
	default:
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.over || len(v.conns) >= maxConnections {
		<-v.handshakes
		return false
	}
	v.conns[c] = struct{}{}
	return true
}

func (v *server) remove(c net.Conn) {
	_ = c.Close() // nothing is left to send
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.conns, c)
}

// serve answers the messages of a connection, one after the other.
func (v *server) serve(raw net.Conn) {
	at := v.at.Load()
	c := tls.Server(raw, at.tls)
	ctx, cancel := context.WithTimeout(context.Background(), at.timeout)
	err := c.HandshakeContext(ctx)
	cancel()
	<-v.handshakes
	if err != nil {
		return
	}
	defer c.Close()
	remote, _ := netip.ParseAddrPort(raw.RemoteAddr().String())
	state := c.ConnectionState()
	var buf bytes.Buffer
	for {
		message, answer := v.read(c, &buf)
		if message == nil {
			if answer != nil {
				v.write(c, answer)
			}
			return
		}
		answer, goOn := v.answer(message, &state, remote)
		if answer == nil || !v.write(c, answer) || !goOn {
			return
		}
		if buf.Cap() > 64<<10 {
			buf = bytes.Buffer{}
		}
	}
}

func (v *server) write(c net.Conn, answer []byte) bool {
	if c.SetWriteDeadline(time.Now().Add(messageTime)) != nil {
		return false
	}
	_, err := c.Write(answer)
	return err == nil
}

// read takes one message off the connection. It may wait for long; but once a
// message has begun, it must be complete soon. When there is none, answer is what
// to say before the end, nil for nothing.
func (v *server) read(c net.Conn, buf *bytes.Buffer) (message, answer []byte) {
	if c.SetReadDeadline(time.Time{}) != nil {
		return nil, nil
	}
	var header [ttlv.HeaderBytes]byte
	if _, err := io.ReadFull(c, header[:1]); err != nil {
		return nil, nil
	}
	if c.SetReadDeadline(time.Now().Add(messageTime)) != nil {
		return nil, nil
	}
	if _, err := io.ReadFull(c, header[1:]); err != nil {
		return nil, nil
	}
	n, err := ttlv.Length(header[:])
	if err != nil || ttlv.Tag(header[0])<<16|ttlv.Tag(header[1])<<8|ttlv.Tag(header[2]) != ttlv.TagRequestMessage {
		return nil, failure(version{1, 0}, ttlv.ResultReasonInvalidMessage, "this is no KMIP request", time.Now())
	}
	if n > maxMessage {
		return nil, failure(version{1, 0}, ttlv.ResultReasonInvalidMessage, "the message is too large", time.Now())
	}
	buf.Reset()
	buf.Write(header[:])
	// The buffer grows with what comes, not with what is announced.
	if _, err := io.CopyN(buf, c, int64(n-len(header))); err != nil {
		return nil, nil
	}
	return buf.Bytes(), nil
}

// answer has the hall serve a message. Its second result tells whether the
// connection goes on.
func (v *server) answer(raw []byte, state *tls.ConnectionState, remote netip.AddrPort) (answer []byte, goOn bool) {
	now := time.Now()
	defer func() {
		if r := recover(); r != nil { // a mistake of ours must not end the others' connections
			id := uuid.NewString()
			v.host.Log().Error("a request ended in a panic", "id", id, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			answer, goOn = failure(version{1, 0}, ttlv.ResultReasonGeneralFailure, "the server could not answer; its log has the request "+id, now), false
		}
	}()
	root, err := ttlv.Decode(raw)
	if err != nil {
		return failure(version{1, 0}, ttlv.ResultReasonInvalidMessage, err.Error(), now), false
	}
	m, f := parseMessage(v.ops, root)
	if f != nil {
		return failure(m.version, f.reason, f.text, now), true
	}
	at := v.at.Load()
	req := &engine.Request{
		ID: uuid.NewString(), Op: engine.OpUpdate, Namespace: at.NamespacePath, Path: at.Mount.Path + protocolPath, Payload: m,
		Remote: remote, TLS: state, Params: m.params(state),
	}
	if m.onlyReads() {
		req.Op = engine.OpRead
	}
	ctx, cancel := context.WithTimeout(v.ctx, messageTime)
	defer cancel()
	res, err := v.host.Handle(ctx, req)
	var u *undone
	switch {
	case errors.As(err, &u):
		return u.body, true
	case errs.Is(err, errs.Sealed), errs.Is(err, errs.NotFound):
		return failure(m.version, ttlv.ResultReasonGeneralFailure, "the server is not available", now), false
	case errs.Is(err, errs.Denied):
		return failure(m.version, ttlv.ResultReasonPermissionDenied, "the certificate is not, or no longer, valid here", now), false
	case err != nil || res == nil || res.Raw == nil:
		return failure(m.version, ttlv.ResultReasonGeneralFailure, "the server could not answer; its log has the request "+req.ID, now), true
	}
	return res.Raw.Body, true
}
