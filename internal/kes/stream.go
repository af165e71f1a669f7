package kes

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/errs"
	"arca/internal/logging"
)

// Bounds of streams: how many listeners, how many bytes of events one may be behind
// before it misses some, and how much of a path an event tells: clients choose it.
const (
	maxListeners = 64
	maxBehind    = logging.MaxWaiting
	maxTold      = 1 << 10 // bytes
	writeTime    = 10 * time.Second
	// A blank now and then, which is nothing to readers of JSON, tells whether the
	// client is still there; and whether it may be is asked anew.
	beatEvery = 20 * time.Second
)

// A Stream hands events, a JSON object each, to whoever listens. The zero value
// is ready. A listener that is too slow misses events; nobody waits for it.
type Stream struct {
	events    atomic.Uint64
	mu        sync.Mutex
	listeners map[*listener]struct{} // guarded by mu
	closed    bool                   // guarded by mu

	out atomic.Pointer[logging.Sink]
}

// A listener is one who follows a stream. What waits for it takes no more than
// maxBehind bytes, of which those who are as far behind have one copy.
type listener struct {
	news chan struct{} // has something when something waits; closed with the stream

	mu      sync.Mutex
	waiting [][]byte // guarded by mu
	size    int      // guarded by mu: bytes that wait
}

// give puts an event behind those that wait, if there is room.
func (l *listener) give(event []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if size := l.size + len(event) + eventCost; size <= maxBehind {
		l.waiting, l.size = append(l.waiting, event), size
	}
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// take returns the event that has waited longest, nil for none, and whether that was
// the last.
func (l *listener) take() (event []byte, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return nil, true
	}
	event = l.waiting[0]
	l.waiting[0] = nil
	l.waiting, l.size = l.waiting[1:], l.size-len(event)-eventCost
	if len(l.waiting) == 0 {
		l.waiting = nil // with the room of a burst
	}
	return event, len(l.waiting) == 0
}

// eventCost is what keeping an event takes besides its bytes.
const eventCost = 64

// SetOutput makes the stream write every event to a sink as a line; nil ends that.
func (s *Stream) SetOutput(to *logging.Sink) { s.out.Store(to) }

// Lost returns how many events its output has lost.
func (s *Stream) Lost() uint64 {
	if out := s.out.Load(); out != nil {
		return out.Lost()
	}
	return 0
}

// Events returns how many events there were.
func (s *Stream) Events() uint64 { return s.events.Load() }

// Followed reports whether anybody listens.
func (s *Stream) Followed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.listeners) > 0
}

// wanted reports whether anybody or anything gets events.
func (s *Stream) wanted() bool { return s.out.Load() != nil || s.Followed() }

// Send hands an event out; it ends with a line's end.
func (s *Stream) Send(event []byte) {
	s.events.Add(1)
	if out := s.out.Load(); out != nil {
		_, _ = out.Write(event) // it counts what it loses
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		l.give(event)
	}
}

// listen adds a listener.
func (s *Stream) listen() (l *listener, leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.listeners) >= maxListeners {
		return nil, nil, errs.New(errs.Limited, "there are %d listeners already", len(s.listeners))
	}
	if s.listeners == nil {
		s.listeners = map[*listener]struct{}{}
	}
	l = &listener{news: make(chan struct{}, 1)}
	s.listeners[l] = struct{}{}
	return l, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, l)
	}, nil
}

// Close ends the stream for those who listen.
func (s *Stream) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for l := range s.listeners {
		close(l.news)
		delete(s.listeners, l)
	}
}

func (d *Door) followErrors(r *request) error { return d.follow(r, d.cfg.Errors) }
func (d *Door) followAudit(r *request) error  { return d.follow(r, d.cfg.Audit) }

// follow sends events as they come. The header goes out before the first.
func (d *Door) follow(r *request, s *Stream) error {
	l, leave, err := s.listen()
	if err != nil {
		return err
	}
	defer leave()
	control := http.NewResponseController(r.w)
	_ = control.SetReadDeadline(time.Time{})  // endless
	_ = control.SetWriteDeadline(time.Time{}) // but for each event
	r.written, r.code = true, http.StatusOK
	r.w.Header().Set("Content-Type", "application/x-ndjson")
	r.w.WriteHeader(http.StatusOK)
	if err := control.Flush(); err != nil {
		return nil //nolint:nilerr // the client is gone
	}
	d.audit(r, time.Now(), 0)
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	ready := make(chan struct{})
	close(ready)
	var more chan struct{} // ready while another event waits
	for {
		var e []byte
		open := true
		changed := d.changes()
		select {
		case <-r.ctx.Done():
			return nil
		case <-changed:
			if !d.still(r) {
				return nil
			}
			continue
		case <-beat.C:
			if !d.still(r) {
				return nil
			}
			e = []byte(" ")
		case <-more:
		case _, open = <-l.news:
		}
		if e == nil {
			var last bool
			if e, last = l.take(); last {
				more = nil
			} else {
				more = ready
			}
		}
		switch {
		case e == nil && open:
			continue
		case e == nil:
			return nil
		}
		_ = control.SetWriteDeadline(time.Now().Add(writeTime)) // not all connections can
		if _, err := r.w.Write(e); err != nil {
			return nil //nolint:nilerr // the client is gone
		}
		if more != nil {
			continue
		}
		if err := control.Flush(); err != nil {
			return nil //nolint:nilerr // the client is gone
		}
		_ = control.SetWriteDeadline(time.Time{}) // the next event may be far
	}
}

// still reports whether who follows a log may go on, by the rules of now: the
// identity or its policy may be gone, the state another, arca sealed. The current
// state is held no longer than that takes: the stream keeps none from its retirement.
func (d *Door) still(r *request) bool {
	state, leave := d.enter()
	defer leave()
	ctx, cancel := context.WithTimeout(r.ctx, usualTimeout)
	defer cancel()
	now := &request{ctx: ctx, http: r.http, w: r.w, call: r.call, state: state, address: r.address}
	skip := state.Settings[r.call.path].SkipAuth
	err := now.authenticate(skip)
	if err == nil && !skip {
		err = state.Access.Authorize(ctx, now.caller())
	}
	if err == nil {
		return true
	}
	if r.ctx.Err() == nil { // else it is the client who went
		r.code, _ = status(err)
		d.audit(r, time.Now(), 0)
	}
	return false
}

// An event is a request in the audit log, as the SDK reads it.
type event struct {
	Time    time.Time `json:"time"`
	Request struct {
		IP       string `json:"ip"`
		Path     string `json:"path"`
		Identity string `json:"identity"`
	} `json:"request"`
	Response struct {
		Code int   `json:"code"`
		Time int64 `json:"time"` // nanoseconds
	} `json:"response"`
}

func (d *Door) audit(r *request, at time.Time, took time.Duration) {
	if !d.cfg.Audit.wanted() {
		d.cfg.Audit.events.Add(1)
		return
	}
	e := event{Time: at.UTC()}
	e.Request.IP, e.Request.Path, e.Request.Identity = r.address, told(r.http.URL.Path), r.identity
	e.Response.Code, e.Response.Time = r.code, int64(took)
	b, err := json.Marshal(e)
	if err != nil {
		d.cfg.Log.Error("audit", "error", err)
		return
	}
	d.cfg.Audit.Send(append(b, '\n'))
}

// told is as much of a client's text as logs tell.
func told(text string) string {
	if len(text) <= maxTold {
		return text
	}
	return strings.ToValidUTF8(text[:maxTold], "") + "…"
}

// requestGroup is what the error log tells of a request.
func requestGroup(r *request) slog.Value {
	return slog.GroupValue(
		slog.String("method", r.http.Method), slog.String("path", told(r.http.URL.Path)),
		slog.String("ip", r.address), slog.String("identity", r.identity),
	)
}
