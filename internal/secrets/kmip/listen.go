package kmip

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/bounded"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/ttlv"
)

// Bounds on connections and messages.
const (
	maxMessage   = 1 << 20          // where the configuration says nothing else
	messageTime  = 30 * time.Second // for a message that has begun, and for its answer
	keepAlive    = 60 * time.Second
	strangerTime = 5 * time.Second // for the first message under a certificate that is not valid, so that it hears why
	syncTime     = 5 * time.Second
	retryEvery   = 2 * time.Second // to listen where that has failed
	maxResponse  = 16 << 20        // bytes of an answer
)

// servers listen for the mounts while the node is unsealed.
type servers struct {
	engine *Engine
	meters *meters
	census census
	// Of messages by the API:
	limits  throttle      // of mounts that do not listen
	large   chan struct{} // see server.large
	decided decided
	hooking *bounded.Places // where webhooks are asked, by id of the mount
	hookFor time.Duration   // for all of a request to one
	syncs   chan chan struct{}
	pokes   chan struct{} // of capacity 1: settings have changed

	runs sync.Mutex // held by Run: one ends before the next begins

	mu      sync.Mutex
	byMount map[string]*server // guarded by mu
	running chan struct{}      // guarded by mu: closed when Run ends
	begun   chan struct{}      // guarded by mu: closed when Run has begun
}

func newServers(e *Engine) *servers {
	return &servers{
		large: make(chan struct{}, largeAtOnce), engine: e, meters: &meters{}, hooking: bounded.NewPlaces(hooksOfMount, hooksAtOnce), hookFor: hookTime, syncs: make(chan chan struct{}), pokes: make(chan struct{}, 1), byMount: map[string]*server{}, begun: make(chan struct{}),
	}
}

func (s *servers) poke() {
	select {
	case s.pokes <- struct{}{}:
	default:
	}
}

// Tell implements engine.Teller.
func (e *Engine) Tell(ctx context.Context, host engine.Host) { e.servers.tell(ctx, host, true) }

// Run implements engine.Runner.
func (e *Engine) Run(ctx context.Context, host engine.Host) { e.servers.run(ctx, host) }

func (s *servers) run(ctx context.Context, host engine.Host) {
	s.runs.Lock()
	defer s.runs.Unlock()
	s.meter(host.Metrics())
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
	retry := time.NewTimer(0)
	defer retry.Stop()
	retry.Stop()
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	var tidying, hooking sync.WaitGroup
	defer hooking.Wait()
	defer tidying.Wait()
	busy := make(chan struct{}, 1)
	follow := func() {
		if !s.follow(ctx, host) {
			retry.Reset(retryEvery) // an address may be free by then
		}
		s.callHooks(ctx, host, &hooking, time.Now)
	}
	follow()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tidy.C:
			s.callHooks(ctx, host, &hooking, time.Now)
			select {
			case busy <- struct{}{}:
				tidying.Go(func() {
					defer func() { <-busy }()
					s.tell(ctx, host, false)
					s.tidyAll(ctx, host)
					s.noteAll(ctx, host)
					s.count(ctx, host, time.Now())
				})
			default: // the last one goes on
			}
		case <-s.pokes:
			follow()
		case <-retry.C:
			follow()
		case <-host.Changed():
			follow()
		case done := <-s.syncs:
			follow()
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
		var sockets []socket
		var tracing map[string]time.Time
		err := host.View(ctx, p.Mount, func(tx storage.Tx) (err error) {
			if c, sockets, err = plan(tx); err == nil {
				tracing, err = tracedClients(tx)
			}
			return err
		})
		if errors.Is(err, storage.ErrNotFound) {
			continue // not configured yet, or gone meanwhile
		}
		want[p.Mount.ID] = true
		if err == nil {
			v := s.of(p.Mount.ID, host)
			v.traces.set(tracing)
			err = v.set(p, c, sockets)
		}
		done = done && err == nil
		if s.told(p.Mount.ID, err) && ctx.Err() == nil {
			host.Log().Error("listen; it is tried again", "mount", p.NamespacePath+p.Mount.Path, "error", err)
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

// told reports whether an error is another than the last one of the mount.
func (s *servers) told(mount string, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.byMount[mount]
	if v == nil {
		return err != nil
	}
	last := v.trouble
	v.trouble = ""
	if err != nil {
		v.trouble = err.Error()
	}
	return err != nil && last != v.trouble
}

func (s *servers) of(mount string, host engine.Host) *server {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.byMount[mount]
	if v == nil {
		v = &server{
			large: s.large, host: host, engine: s.engine, meters: s.meters, poke: s.poke, gate: newGate(), recheck: make(chan struct{}, 1), sockets: map[string]*opened{},
			conns: map[*connection]struct{}{}, byAddress: map[string]int{}, byRole: map[string]int{},
		}
		v.ctx, v.cancel = context.WithCancel(context.Background())
		s.byMount[mount] = v
		v.work.Go(v.watch)
	}
	return v
}

// A server is the listeners of one mount.
type server struct {
	host       engine.Host
	engine     *Engine
	meters     *meters
	poke       func() // has the settings looked at again
	at         atomic.Pointer[place]
	ctx        context.Context    // of the messages that are served
	cancel     context.CancelFunc // ends them
	gate       *gate              // of handshakes
	recheck    chan struct{}      // of capacity 1: certificates or roles have changed
	generation atomic.Uint64      // counts such changes
	trouble    string             // guarded by servers.mu: why it does not listen
	seen       sightings
	uses       uses
	traces     traces
	limits     throttle
	hooks      hookTurns
	large      chan struct{} // holds one for each large message that is served, of all mounts
	noted      bool          // who tidies has found no names to note
	work       sync.WaitGroup

	mu        sync.Mutex
	unwatch   func() // guarded by mu
	watched   string // guarded by mu: the namespace of the mount that is watched
	sockets   map[string]*opened
	conns     map[*connection]struct{}
	byAddress map[string]int
	byRole    map[string]int
	over      bool
}

// A place is what a server is for just now.
type place struct {
	engine.Place
	timeout                        time.Duration
	maxConns, maxByRole, maxByAddr int
	maxMessage                     int
	rates                          rates
	protocol                       string // path at which messages arrive
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

// An opened is a socket that is listened at.
type opened struct {
	net.Listener
	sum      [sha256.Size]byte // of its settings
	settings atomic.Pointer[settings]
}

// settings are how connections of a socket are taken.
type settings struct {
	tls     *tls.Config
	proxies []netip.Prefix // who may say whose connection it is
}

// set takes new settings. Addresses that stay are listened at without a break.
func (v *server) set(p engine.Place, c *config, sockets []socket) error {
	next := &place{Place: p, timeout: max(c.Timeout, leastHandshake), protocol: p.Mount.Path + protocolPath}
	if c.Timeout == 0 {
		next.timeout = defaultHandshake
	}
	next.maxConns, next.maxByRole, next.maxByAddr, next.maxMessage = c.bounds()
	next.rates = c.Rates
	var told *hooks
	if len(c.Hooks.URLs) > 0 {
		told = &c.Hooks
	}
	v.hooks.set(told)
	v.at.Store(next)
	var failures []error
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.watched != p.Mount.NamespaceID && !v.over { // first, or moved
		if v.unwatch != nil {
			v.unwatch()
		}
		v.unwatch, v.watched = v.host.Watch(p.Mount, v.changed), p.Mount.NamespaceID
	}
	for address, l := range v.sockets {
		if !planned(sockets, address) {
			delete(v.sockets, address)
			_ = l.Close() // nothing more comes
		}
	}
	for i := range sockets {
		if v.over {
			break
		}
		if err := v.open(&sockets[i]); err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// open listens at an address, or gives one that is listened at new settings. mu is
// held.
func (v *server) open(s *socket) error {
	sum, err := s.sum()
	if err != nil {
		return err
	}
	l := v.sockets[s.address]
	if l != nil && l.sum == sum {
		return nil
	}
	now := &settings{}
	if now.tls, err = s.tls(); err != nil {
		return err
	}
	if now.proxies, err = proxies(s.conf.Proxies); err != nil {
		return err
	}
	if l != nil {
		l.sum = sum
		l.settings.Store(now)
		return nil
	}
	raw, err := (&net.ListenConfig{KeepAlive: keepAlive}).Listen(context.Background(), "tcp", s.address)
	if err != nil {
		return err
	}
	l = &opened{Listener: raw, sum: sum}
	l.settings.Store(now)
	v.sockets[s.address] = l
	v.work.Go(func() { v.accept(l) })
	v.host.Log().Info("listening", "protocol", "kmip", "address", raw.Addr().String())
	return nil
}

func (s *socket) sum() ([sha256.Size]byte, error) {
	raw, err := json.Marshal([]any{s.conf.MinTLS, s.conf.MaxTLS, s.conf.Suites, s.names.Hostnames, s.names.IPs, s.names.CA, s.issuer.Intermediate, s.clients, s.conf.Proxies})
	return sha256.Sum256(raw), err
}

// tls makes the settings of TLS, with a certificate of its own.
func (s *socket) tls() (*tls.Config, error) {
	out, err := s.conf.tls()
	if err != nil {
		return nil, err
	}
	der, key, err := s.issuer.server(s.names, time.Now())
	if err != nil {
		return nil, err
	}
	out.Certificates = []tls.Certificate{{Certificate: [][]byte{der, s.issuer.Intermediate}, PrivateKey: key}}
	out.ClientCAs = x509.NewCertPool()
	for _, raw := range s.clients {
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
	if v.unwatch != nil {
		v.unwatch()
		v.unwatch = nil
	}
	for _, l := range v.sockets {
		_ = l.Close() // nothing more comes
	}
	for c := range v.conns {
		_ = c.raw.Close() // its request, if there is one, is not answered
	}
	v.mu.Unlock()
	v.work.Wait()
}

// accept takes connections until the listener is closed.
func (v *server) accept(l *opened) {
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
		now := l.settings.Load()
		remote := addrOf(c)
		balanced := isProxy(now.proxies, remote)
		conn := v.add(c, remote, balanced)
		if conn == nil {
			_ = c.Close() // too many
			continue
		}
		v.work.Go(func() {
			defer v.remove(conn)
			if balanced {
				if c = v.balanced(conn, c); c == nil {
					return
				}
			}
			v.guarded(func() { v.serve(conn, c, now.tls) })
		})
	}
}

// add counts a connection in; nil when there are too many. Whose a balancer's is, is not known yet.
func (v *server) add(raw net.Conn, remote netip.AddrPort, balanced bool) *connection {
	at := v.at.Load()
	c := &connection{raw: raw}
	if !balanced {
		c.from = addressOf(remote)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.over:
		return nil
	case len(v.conns) >= at.maxConns:
		v.meters.event(at, connectionRefused, "max_connections")
		return nil
	case !balanced && v.byAddress[c.from] >= at.maxByAddr:
		v.meters.event(at, connectionRefused, "max_connections_per_address")
		return nil
	}
	v.meters.event(at, connectionAccepted, "")
	v.conns[c] = struct{}{}
	if !balanced {
		v.byAddress[c.from]++
	}
	return c
}

func (v *server) remove(c *connection) {
	_ = c.raw.Close() // nothing is left to send
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.conns, c)
	if c.from != "" {
		if v.byAddress[c.from]--; v.byAddress[c.from] <= 0 {
			delete(v.byAddress, c.from)
		}
	}
	if c.role != "" {
		if v.byRole[c.role]--; v.byRole[c.role] <= 0 {
			delete(v.byRole, c.role)
		}
	}
}

// serve answers the messages of a connection, one after the other.
func (v *server) serve(conn *connection, raw net.Conn, settings *tls.Config) {
	at := v.at.Load()
	c := tls.Server(raw, settings)
	ctx, cancel := context.WithTimeout(v.ctx, at.timeout)
	v.gate.enter(conn)
	err := c.HandshakeContext(ctx)
	v.gate.leave(conn)
	cancel()
	if err != nil {
		v.meters.event(at, handshakeFailed, whyNoHandshake(c, err))
		return
	}
	defer c.Close()
	remote := addrOf(raw)
	conn.address = remote.Addr().String()
	state := c.ConnectionState()
	if len(state.PeerCertificates) == 0 {
		return
	}
	if !v.introduce(conn, state.PeerCertificates) {
		v.meters.event(at, connectionRefused, "max_connections_per_role")
		return
	}
	until := state.PeerCertificates[0].NotAfter
	if conn.role == "" {
		until = time.Now().Add(strangerTime)
	}
	defer conn.patience.end()
	in := newIntake(c, until)
	for first := true; ; first = false {
		header := in.header()
		if header == nil {
			return
		}
		if first && speaksHTTP(header) {
			v.serveHTTP(c, in.had, &state, remote, conn, until)
			return
		}
		message, answer := in.message(v.at.Load().maxMessage)
		if message == nil {
			if answer != nil {
				v.meters.event(at, malformed, "")
				v.write(c, answer)
			}
			return
		}
		over, ok := v.turn(len(message))
		if !ok {
			return
		}
		answer, goOn := v.answer(message, &state, remote, conn)
		over()
		if answer == nil || !in.reply(answer) || !goOn {
			return
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

// answer has the hall serve a message. Its second result tells whether the
// connection goes on.
func (v *server) answer(raw []byte, state *tls.ConnectionState, remote netip.AddrPort, conn *connection) (answer []byte, goOn bool) {
	now := time.Now()
	defer func() {
		if r := recover(); r != nil {
			answer, goOn = failure(version{1, 0}, ttlv.ResultReasonGeneralFailure, "the server could not answer; its log has the request "+v.panicked(r), now), false
		}
	}()
	at := v.at.Load()
	defer conn.decoder.Clear() // a connection that waits holds nothing of what it was sent
	root, err := conn.decoder.Decode(raw)
	if err != nil {
		v.meters.event(at, malformed, "")
		return failure(version{1, 0}, ttlv.ResultReasonInvalidMessage, err.Error(), now), false
	}
	m, f := parseMessage(v.engine.ops, root)
	if f != nil {
		v.meters.event(at, malformed, "")
		return failure(m.version, f.reason, f.text, now), true
	}
	m.from, m.who = conn.subject, conn.who
	req := &engine.Request{
		ID: newUUID(), Op: engine.OpUpdate, Namespace: at.NamespacePath, Path: at.protocol, Payload: m, Raw: raw,
		Remote: remote, TLS: state, ClearParams: v.engine.clear,
	}
	m.limited = !v.limits.take(v.ratesOf(conn, at), conn.limited, conn.serial, len(m.items), now)
	if m.limited {
		v.meters.limited(at, conn)
	}
	if m.limited || m.onlyReads() {
		req.Op = engine.OpRead
	} else {
		conn.decoder.Forget() // an update may leave something that goes on by itself, with bytes of its own
	}
	res, err := v.host.Handle(conn.patience.begin(v.ctx, now), req)
	conn.patience.pause()
	defer func() {
		if answer != nil {
			every, failures := outcomesOf(res, answer)
			v.meters.request(at, conn, m, every, now)
			v.seen.note(conn, m, failures, conn.address, now)
			if v.traces.wants(conn.serial, now) {
				v.traces.note(conn.serial, remote.String(), now, raw, answer)
			}
		}
	}()
	switch {
	case errs.Is(err, errs.Sealed), errs.Is(err, errs.NotFound):
		return failure(m.version, ttlv.ResultReasonGeneralFailure, "the server is not available", now), false
	case errs.Is(err, errs.Denied):
		v.meters.event(at, unauthenticated, "")
		return failure(m.version, ttlv.ResultReasonPermissionDenied, "the certificate is not, or no longer, valid here", now), false
	case err != nil || res == nil || res.Raw == nil:
		return failure(m.version, ttlv.ResultReasonGeneralFailure, "the server could not answer; its log has the request "+req.ID, now), true
	}
	return res.Raw.Body, true
}
