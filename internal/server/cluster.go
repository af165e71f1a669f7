package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/api"
	"arca/internal/cluster"
	"arca/internal/config"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/server/stores"
	"arca/internal/storage"
	"arca/internal/storage/raft"
	"arca/internal/wire"
)

// openRaft opens raft storage, and makes this node one that may share it.
func (n *node) openRaft() error {
	s := n.cfg.Storage
	dir := s.Path()
	settings, err := readRaft(n.cfg)
	if err != nil {
		return err
	}
	if n.nodeID, err = stores.KeepNodeID(dir, s.Options["node_id"]); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "arca.storage")); err == nil {
		return errs.New(errs.Invalid, "%s: the folder %q was written by a version of arca from before it had raft; start that one and copy the secrets", s.Pos, dir)
	}
	cfg, share := settings.store, settings.share
	cfg.Dir, cfg.NodeID, cfg.Log, cfg.Exit = dir, n.nodeID, n.log.Named("raft"), n.exit
	share.NodeID, share.APIAddr, share.ClusterAddr = n.nodeID, n.apiAddr(), n.clusterAddr()
	share.Log, share.Serve = n.log.Named("cluster"), n.serveForwarded
	n.maxEntry = settings.maxEntry
	if share.Address, err = cluster.HostPort(share.ClusterAddr); err != nil {
		return err
	}
	if share.Bind, err = n.clusterBinds(); err != nil {
		return err
	}
	store, err := raft.Open(cfg)
	if err != nil {
		return err
	}
	share.Store = store
	n.store, n.cluster = store, cluster.New(share)
	return nil
}

// A request's writes are one entry of raft's log. maxEntry leaves room for what encryption and the log add.
const (
	maxEntry = 48 << 20
	minEntry = 64 << 10 // what this program itself may need
)

// limits bound what one request may write.
func (n *node) limits(s *config.Storage) storage.Config {
	if n.cluster == nil || s.Type != "raft" {
		return stores.Limits(s)
	}
	most := maxEntry
	if n.maxEntry > 0 {
		most = min(max(n.maxEntry, minEntry), maxEntry)
	}
	return storage.Config{MaxTxBytes: most}
}

// clusterBinds are the addresses at which this node listens for others: beside each listener for clients, one port above.
func (n *node) clusterBinds() ([]string, error) {
	var binds []string
	for i := range n.cfg.Listeners {
		l := &n.cfg.Listeners[i]
		switch {
		case l.Type != "tcp":
		case l.ClusterAddress != "":
			binds = append(binds, l.ClusterAddress)
		default:
			host, port, err := net.SplitHostPort(l.Address)
			p, portErr := strconv.Atoi(port)
			if err != nil || portErr != nil {
				return nil, errs.New(errs.Invalid, "listener address %q: %w", l.Address, errors.Join(err, portErr))
			}
			if p != 0 {
				p++
			}
			binds = append(binds, net.JoinHostPort(host, strconv.Itoa(p)))
		}
	}
	return binds, nil
}

// Headers by which a node tells the active one of the client behind a request. Only other nodes are believed.
const (
	remoteHeader = "X-Arca-Remote"
	methodHeader = "X-Arca-Method"
	certHeader   = "X-Arca-Client-Certificate"
	doorHeader   = "X-Arca-Door" // the node's own door has made the request: engine.Request.Door
)

// serveForwarded serves the requests of other nodes' clients.
func (n *node) serveForwarded(l net.Listener) {
	srv := &wire.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := n.forwarded.Load()
			if h == nil {
				w.Header().Set(api.NotActiveHeader, "true")
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			if r.URL.Path == runnerPath {
				n.serveRunner(w, r)
				return
			}
			(*h).ServeHTTP(w, asClient(r))
		}),
		Fallback: &http.Server{ReadHeaderTimeout: forwardHeaderTime}, Log: n.log.Named("cluster"),
	}
	if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		n.log.Named("cluster").Warn("serve other nodes", "error", err)
	}
	_ = srv.Close() // the node leaves
}

const (
	forwardHeaderTime = 10 * time.Second
	forwardIdle       = 90 * time.Second
	forwardConns      = 256
)

// asClient makes a forwarded request look as it did where it came in.
func asClient(r *http.Request) *http.Request {
	r.RemoteAddr, r.Method = r.Header.Get(remoteHeader), r.Header.Get(methodHeader)
	r.TLS = nil
	if chain := r.Header[certHeader]; len(chain) > 0 {
		state := &tls.ConnectionState{HandshakeComplete: true}
		for _, text := range chain {
			der, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				continue
			}
			if c, err := x509.ParseCertificate(der); err == nil {
				state.PeerCertificates = append(state.PeerCertificates, c)
			}
		}
		r.TLS = state
	}
	r.Header.Del(remoteHeader)
	r.Header.Del(methodHeader)
	r.Header.Del(certHeader)
	if r.Header.Get(doorHeader) != "" {
		r.Header.Del(doorHeader)
		r = r.WithContext(engine.WithDoor(r.Context()))
	}
	return r
}

// asForwarded is the header from which asClient makes the request again. Nothing that a client has sent says who it is.
func asForwarded(ctx context.Context, r *http.Request) http.Header {
	h := r.Header.Clone()
	for _, name := range []string{"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", "Idempotency-Key", "X-Idempotency-Key", certHeader, doorHeader} {
		h.Del(name)
	}
	h.Set(remoteHeader, r.RemoteAddr)
	h.Set(methodHeader, r.Method)
	if engine.IsDoor(ctx) {
		h.Set(doorHeader, "true")
	}
	if r.TLS != nil {
		for _, c := range r.TLS.PeerCertificates {
			h.Add(certHeader, base64.StdEncoding.EncodeToString(c.Raw))
		}
	}
	return h
}

// A forwarder sends requests to the active node.
type forwarder struct {
	node interface { // a *cluster.Node
		LeaderAddress() (string, bool)
		Leading() bool
		NoLeader() error
	}
	client  *wire.Client
	streams *http.Transport // for bodies that are not in memory, or large: an answer may come before all is sent
}

// smallBody is how many bytes of a body the other node takes in whatever it answers.
const smallBody = 64 << 10

func newForwarder(c *cluster.Node) *forwarder {
	return &forwarder{
		node:   c,
		client: &wire.Client{Dial: c.Dial, MaxIdle: forwardConns, IdleTimeout: forwardIdle},
		streams: &http.Transport{
			DialContext:  func(ctx context.Context, _, addr string) (net.Conn, error) { return c.Dial(ctx, addr) },
			MaxIdleConns: forwardConns, MaxIdleConnsPerHost: forwardConns, IdleConnTimeout: forwardIdle,
			DisableCompression: true, WriteBufferSize: 8 << 10, ReadBufferSize: 8 << 10,
		},
	}
}

func (f *forwarder) forward(ctx context.Context, r *http.Request, body []byte) (*http.Response, error) {
	to, ok := f.node.LeaderAddress()
	if !ok {
		return nil, f.node.NoLeader()
	}
	// All are sent by POST: net/http sends a GET again when a connection breaks, and a read may write, too (a token with a
	// limit of uses).
	out := &http.Request{
		Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: to, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery},
		Host: r.Host, Header: asForwarded(ctx, r), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	var stream *once
	if body == nil && r.ContentLength != 0 && r.Body != nil && takesBody(r.Method) {
		stream = &once{from: r.Body}
		out.Body, out.ContentLength = stream, r.ContentLength
	}
	res, err := f.send(ctx, out, body)
	if err == nil && res.StatusCode == http.StatusServiceUnavailable && res.Header.Get(api.NotActiveHeader) != "" {
		_ = res.Body.Close() // nothing in it counts
		err = errs.New(errs.NotActive, "the node that was the active one is that no longer")
	}
	if stream != nil && errs.Is(err, errs.NotActive) && !stream.keep() {
		return nil, errs.New(errs.Unavailable, "nothing has happened, and what was sent cannot be sent on a second time: send it again: %w", err)
	}
	if err != nil {
		return nil, err
	}
	res.Header.Del(api.NotActiveHeader)
	return res, nil
}

// takesBody reports whether the door reads the body of a request. That of another is not sent.
func takesBody(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}

// once is a body that is not in memory: of which something was read, that cannot be sent to another node. net/http's client may go on to read it when its server has answered.
type once struct {
	from  io.Reader
	state atomic.Int32
}

// States of a once.
const (
	unread = iota
	begun
	kept
)

// Read implements io.Reader.
func (o *once) Read(p []byte) (int, error) {
	if o.state.CompareAndSwap(unread, begun) || o.state.Load() == begun {
		return o.from.Read(p)
	}
	return 0, http.ErrBodyReadAfterClose
}

// Close implements io.Closer. Who serves the request closes what it came with: it may be sent again.
func (o *once) Close() error { return nil }

// keep reports whether nothing was read, and nothing will be.
func (o *once) keep() bool { return o.state.CompareAndSwap(unread, kept) }

// A request that was sent waits for the active node's answer as long as that is the active one, as far as this node knows, and a little longer.
const (
	lookEvery = 500 * time.Millisecond
	afterlife = time.Second // for one that steps down and answers what it has begun
)

// errSuperseded ends the wait.
var errSuperseded = errors.New("another node became the active one before the answer came")

// send sends a request to the node that its URL names, with the body that it has or with one in memory. Whether a request was served whose answer does not come
// is not known, so it is not sent again.
func (f *forwarder) send(ctx context.Context, out *http.Request, body []byte) (*http.Response, error) {
	to := out.URL.Host
	ctx, cancel := context.WithCancelCause(ctx)
	var gone time.Time   // since when another is the active one
	var over atomic.Bool // the answer is there, or will not come
	var look *time.Timer
	ready := make(chan struct{})
	look = time.AfterFunc(lookEvery, func() {
		<-ready
		if over.Load() {
			return
		}
		switch now, ok := f.node.LeaderAddress(); {
		case ok && now == to, !ok && !f.node.Leading():
			gone = time.Time{}
		case gone.IsZero():
			gone = time.Now()
		case time.Since(gone) >= afterlife:
			cancel(errSuperseded)
			return
		}
		look.Reset(lookEvery)
	})
	close(ready)
	res, err := f.post(ctx, out, body)
	over.Store(true)
	look.Stop()
	if err == nil {
		res.Body = &answerBody{res.Body, func() { cancel(nil) }}
		return res, nil
	}
	var unsent *wire.NotSentError
	switch {
	case errors.Is(err, wire.ErrPlain):
		err = errs.New(errs.Invalid, "%w", wire.ErrPlain)
	case errors.As(err, &unsent):
		err = errs.New(errs.NotActive, "the active node cannot be reached: %w", err)
	case errors.Is(context.Cause(ctx), errSuperseded):
		err = errs.New(errs.Unavailable, "%w; whether the request was served is not known: look before it is sent again", errSuperseded)
	default:
		err = errs.New(errs.Unavailable, "the active node did not answer; whether the request was served is not known: %w", err)
	}
	cancel(nil)
	return nil, err
}

// post sends a request. The error is a *wire.NotSentError if nothing of it was sent.
func (f *forwarder) post(ctx context.Context, out *http.Request, body []byte) (*http.Response, error) {
	if out.Body == nil && len(body) <= smallBody {
		return f.client.Post(ctx, &wire.Request{Address: out.URL.Host, Target: out.URL.RequestURI(), Host: out.Host, Header: out.Header, Body: body})
	}
	taken := &lentBytes{from: body}
	if out.Body == nil {
		out.Body, out.ContentLength = taken, int64(len(body))
	}
	var sent atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }}
	res, err := f.streams.RoundTrip(out.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		taken.end()
		if !sent.Load() {
			err = &wire.NotSentError{Err: err}
		}
		return nil, err
	}
	res.Body = &answerBody{res.Body, taken.end}
	return res, nil
}

// lentBytes are a body in memory, as net/http's client has it. That may go on to read when its server has answered, and who lends it uses the memory again then.
type lentBytes struct {
	mu   sync.Mutex
	from []byte // what is not read yet; nil at the end
}

// Read implements io.Reader.
func (l *lentBytes) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.from) == 0 {
		return 0, io.EOF
	}
	n := copy(p, l.from)
	l.from = l.from[n:]
	return n, nil
}

// Close implements io.Closer.
func (l *lentBytes) Close() error { return nil }

// end takes the memory back: nobody reads it any more when it returns.
func (l *lentBytes) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from = nil
}

// An answerBody ends what its request has begun when it is closed.
type answerBody struct {
	io.ReadCloser
	end func()
}

// Close implements io.Closer.
func (b *answerBody) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

// activeAddr is where clients reach the active node.
func (n *node) activeAddr() string {
	i, ok := n.cluster.Leader()
	if !ok {
		return ""
	}
	return strings.TrimSuffix(i.APIAddr, "/")
}
