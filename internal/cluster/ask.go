package cluster

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"arca/internal/errs"
	"arca/internal/storage/raft"
)

// Nodes ask each other short questions over one connection, many at a time. A message is
//
//	length of what follows (4 bytes) | number of the question (8) | kind (1) | JSON
//
// with numbers big-endian. An answer has the number of its question.
const (
	askMark   byte = iota + 1 // how far is the leader? → raft.Mark
	askEcho                   // I am here: Info → Info of the leader
	answered                  // an answer
	refused                   // an answer: a text, and whether the other is no leader
	askReport                 // what only the leader can store: JSON → nothing
	maxAsk    = 64 << 10
	askHeader = 4 + 8 + 1
	askAtOnce = 256
)

type refusal struct {
	Text string    `json:"text"`
	Kind errs.Kind `json:"kind"`
	// Leader is where the leader is, if this node is none and knows of one.
	Leader string `json:"leader,omitempty"`
}

// An elsewhere is a refusal by a node that knows where the leader is.
type elsewhere struct {
	error
	leader string
}

// Unwrap gives what errs.Is looks at.
func (e *elsewhere) Unwrap() error { return e.error }

// A line is a connection over which questions go out.
type line struct {
	conn    net.Conn
	address string
	writing sync.Mutex

	mu     sync.Mutex
	next   uint64
	waits  map[uint64]chan message
	broken error
}

type message struct {
	id   uint64
	kind byte
	body []byte
}

func writeMessage(w io.Writer, m message) error {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, askHeader+len(m.body)), uint32(8+1+len(m.body)))
	b = binary.BigEndian.AppendUint64(b, m.id)
	b = append(b, m.kind)
	_, err := w.Write(append(b, m.body...))
	return err
}

func readMessage(r io.Reader) (message, error) {
	var head [askHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return message{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 9 || n > maxAsk {
		return message{}, errs.New(errs.Invalid, "a node sent a message of %d bytes", n)
	}
	m := message{id: binary.BigEndian.Uint64(head[4:]), kind: head[12], body: make([]byte, n-9)}
	_, err := io.ReadFull(r, m.body)
	return m, err
}

// run reads the answers until the connection ends.
func (l *line) run() {
	in := bufio.NewReader(l.conn)
	for {
		m, err := readMessage(in)
		l.mu.Lock()
		if err != nil {
			l.broken = errs.New(errs.Unavailable, "the connection to the active node is lost: %w", err)
			for _, ch := range l.waits {
				close(ch)
			}
			l.waits = nil
			l.mu.Unlock()
			_ = l.conn.Close() // it is broken
			return
		}
		ch := l.waits[m.id]
		delete(l.waits, m.id)
		l.mu.Unlock()
		if ch != nil {
			ch <- m
		}
	}
}

func (l *line) ask(ctx context.Context, kind byte, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ch := make(chan message, 1)
	l.mu.Lock()
	if l.broken != nil {
		defer l.mu.Unlock()
		return l.broken
	}
	l.next++
	id := l.next
	l.waits[id] = ch
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.waits, id)
		l.mu.Unlock()
	}()
	l.writing.Lock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(dialTimeout)) // else the write fails anyway
	err = writeMessage(l.conn, message{id, kind, body})
	l.writing.Unlock()
	if err != nil {
		_ = l.conn.Close() // run ends the others
		return errs.New(errs.Unavailable, "ask the active node: %w", err)
	}
	select {
	case m, ok := <-ch:
		if !ok {
			return errs.New(errs.Unavailable, "the connection to the active node was lost")
		}
		return read(m, out)
	case <-ctx.Done():
		return errs.New(errs.Unavailable, "ask the active node: %w", context.Cause(ctx))
	}
}

func read(m message, out any) error {
	if m.kind == answered {
		return json.Unmarshal(m.body, out)
	}
	var r refusal
	if err := json.Unmarshal(m.body, &r); err != nil {
		return err
	}
	err := errs.New(r.Kind, "%s", r.Text)
	if r.Leader != "" {
		return &elsewhere{err, r.Leader}
	}
	return err
}

// serve answers the questions of one node.
func (n *Node) serve(ctx context.Context, c net.Conn) {
	defer func() { _ = c.Close() }() // it ends whatever happens
	its := ""
	if c, ok := c.(*conn); ok {
		its = mark(c.ConnectionState())
	}
	var writing sync.Mutex
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	places := make(chan struct{}, askAtOnce)
	in := bufio.NewReader(c)
	for {
		m, err := readMessage(in)
		if err != nil {
			return
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		work.Go(func() {
			defer func() { <-places }()
			out := n.answer(ctx, its, m)
			writing.Lock()
			defer writing.Unlock()
			_ = c.SetWriteDeadline(time.Now().Add(dialTimeout)) // else the write fails anyway
			if err := writeMessage(c, out); err != nil {
				_ = c.Close() // the reader above ends
			}
		})
	}
}

// answer answers a question of the process with a mark.
func (n *Node) answer(ctx context.Context, its string, m message) message {
	ctx, cancel := context.WithTimeout(ctx, transportTimeout)
	defer cancel()
	var v any
	var err error
	switch m.kind {
	case askMark:
		if n.cfg.Store == nil {
			err = raft.ErrNoLeader
			break
		}
		v, err = n.cfg.Store.Mark(ctx)
	case askEcho:
		var in Info
		if err = json.Unmarshal(m.body, &in); err == nil {
			v, err = n.heard(ctx, its, in)
		}
	case askReport:
		switch {
		case !n.Leading():
			err = raft.ErrNoLeader
		case n.report == nil:
			err = errs.New(errs.Unsupported, "this node takes no reports")
		default:
			v, err = struct{}{}, n.report(ctx, m.body)
		}
	default:
		err = errs.New(errs.Unsupported, "this version of arca does not know the question %d", m.kind)
	}
	out := message{id: m.id, kind: answered}
	if err == nil {
		out.body, err = json.Marshal(v)
	}
	if err != nil {
		out.kind = refused
		r := refusal{Text: err.Error(), Kind: errs.KindOf(err)}
		if m.kind == askEcho && errors.Is(err, raft.ErrNoLeader) {
			r.Leader, _ = n.LeaderAddress()
		}
		out.body, _ = json.Marshal(r) // strings always encode
	}
	return out
}

// lines is the connection over which a node asks the leader, while it is unsealed: there, or being made.
type lines struct {
	mu    sync.Mutex
	line  *line     // nil while there is none
	under *dialling // the one that is being made; nil for none
}

// A dialling is a connection that is being made, for all who want it.
type dialling struct {
	address string
	cancel  context.CancelFunc
	done    chan struct{}
	line    *line // set, as err is, before done is closed
	err     error
}

// to reports whether a connection is good, and leads to an address.
func (l *line) to(address string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken == nil && l.address == address
}

// lineTo returns the connection to the leader's node, making it if need be: once for all who ask meanwhile, each of whom waits as long as it likes.
func (w *web) lineTo(ctx context.Context, address string) (*line, error) {
	l, d := w.lineOr(address)
	if l != nil {
		return l, nil
	}
	select {
	case <-d.done:
		return d.line, d.err
	case <-ctx.Done():
		return nil, errs.New(errs.Unavailable, "reach the node at %q: %w", address, context.Cause(ctx))
	}
}

// lineOr returns the connection to an address, or what makes it. One to another address ends, there or being made: another node leads now, and who
// still waits for the former need not wait until that is found to be gone.
func (w *web) lineOr(address string) (*line, *dialling) {
	ls := &w.lines
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l := ls.line; l != nil {
		if l.to(address) {
			return l, nil
		}
		_ = l.conn.Close() // another leads now, or it is broken
		ls.line = nil
	}
	if d := ls.under; d != nil {
		if d.address == address {
			return nil, d
		}
		d.cancel()
		ls.under = nil
	}
	ctx, cancel := context.WithCancel(w.ctx)
	d := &dialling{address: address, cancel: cancel, done: make(chan struct{})}
	if !w.beside(func() { w.connect(ctx, d) }) {
		cancel()
		d.err = net.ErrClosed
		close(d.done)
		return nil, d
	}
	ls.under = d
	return nil, d
}

// connect makes a connection, unless another is wanted by the time that it is there.
func (w *web) connect(ctx context.Context, d *dialling) {
	defer d.cancel()
	c, err := w.dial(ctx, protoAsk, "", d.address)
	ls := &w.lines
	ls.mu.Lock()
	defer ls.mu.Unlock()
	defer close(d.done)
	wanted := ls.under == d
	if wanted {
		ls.under = nil
	}
	switch {
	case !wanted:
		if err == nil {
			_ = c.Close() // nothing was said
		}
		d.err = errs.New(errs.Unavailable, "the node at %q does not lead any more", d.address)
	case err != nil:
		d.err = err
	default:
		d.line = &line{conn: c, address: d.address, waits: map[uint64]chan message{}}
		ls.line = d.line
		w.work.Go(d.line.run)
	}
}

// MaxReport bounds a report, in bytes of JSON.
const MaxReport = maxAsk - askHeader

// Report has the leader store what this node may not. What it is, Events.Report
// knows there. The error is NotActive where nobody leads, or this node does.
func (n *Node) Report(ctx context.Context, what any) error {
	r := n.running.Load()
	id, to := n.part.Leader()
	if r == nil || to == "" || id == n.cfg.NodeID {
		return raft.ErrNoLeader
	}
	l, err := r.web.lineTo(ctx, to)
	if err != nil {
		return errs.New(errs.NotActive, "%w", err)
	}
	return l.ask(ctx, askReport, what, &struct{}{})
}

// A question is asked once for all reads that came before it was asked.
type question struct {
	done chan struct{}
	mark raft.Mark
	err  error
}

// Fresh returns when this node shows everything that was acknowledged before the call, by whichever node. The leader looks
// at its lease; others ask it how far it is, and wait until they are as far.
//
// On a database only the active node answers.
func (n *Node) Fresh(ctx context.Context) error {
	if n.cfg.Shared != nil {
		return n.cfg.Shared.Fresh(ctx)
	}
	if n.cfg.Store.Leading() {
		return n.cfg.Store.Fresh(ctx)
	}
	r := n.running.Load()
	if r == nil {
		return raft.ErrNoLeader
	}
	n.asking.Lock()
	q := n.next
	if q == nil {
		q = &question{done: make(chan struct{})}
		if !n.under && !r.web.beside(func() { n.askAll(r) }) {
			n.asking.Unlock()
			return raft.ErrNoLeader
		}
		n.next, n.under = q, true
	}
	n.asking.Unlock()
	select {
	case <-q.done:
	case <-ctx.Done():
		return errs.New(errs.Unavailable, "wait for the active node: %w", context.Cause(ctx))
	}
	if q.err != nil {
		return q.err
	}
	behind, cancel := context.WithTimeout(ctx, awaitPatience)
	defer cancel()
	err := n.cfg.Store.Await(behind, q.mark)
	if err != nil && ctx.Err() == nil && behind.Err() != nil {
		return errs.New(errs.NotActive, "this node is behind the active one and does not catch up: %w", err)
	}
	return err
}

// awaitPatience is how long a read waits on a standby until it has what the active node has. After that it is left to that
// one: this node may be cut off from it, or have a full disk.
const awaitPatience = time.Second

// askAll asks as long as somebody waits.
func (n *Node) askAll(r *running) {
	for {
		n.asking.Lock()
		q := n.next
		if n.next = nil; q == nil {
			n.under = false
			n.asking.Unlock()
			return
		}
		n.asking.Unlock()
		q.mark, q.err = n.mark(r)
		close(q.done)
	}
}

func (n *Node) mark(r *running) (m raft.Mark, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, dialTimeout)
	defer cancel()
	id, to := n.cfg.Store.Leader()
	if to == "" || id == n.cfg.NodeID {
		return m, raft.ErrNoLeader
	}
	l, err := r.web.lineTo(ctx, to)
	if err == nil {
		err = l.ask(ctx, askMark, struct{}{}, &m)
	}
	if err != nil && !errors.Is(err, raft.ErrNoLeader) {
		return m, errs.New(errs.NotActive, "%w", err)
	}
	return m, err
}
