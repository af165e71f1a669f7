package kes

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// Bounds of what is large and in memory at a time: bodies beyond smallBody bytes
// (with what their decoding takes, some 200 MB), and listings.
const (
	smallBody = 64 << 10

	maxLarge     = 48
	maxLargeEach = 12 // of one client
	maxLists     = 16
	maxListsEach = 4

	// While others wait for a place: how long after it has its own a large body may
	// take, and how long it has left at least. And how long a client may take over the
	// answer: who is slow holds up others.
	bodyTime   = 5 * time.Second
	leftTime   = time.Second
	answerTime = 15 * time.Second
)

// places bound what is worked on at a time, in all and of one client, so that none
// keeps all others out. Who finds no place waits for one.
type places struct {
	all  chan struct{}
	each int

	mu      sync.Mutex
	clients map[string]*share  // guarded by mu: of those who have a place or wait for one
	holds   map[*hold]struct{} // guarded by mu
	waiting int                // guarded by mu: for one of all places
}

// A share is the places of one client.
type share struct {
	places  chan struct{}
	users   int // guarded by places.mu
	waiting int // guarded by places.mu
}

// A hold is a place that somebody has.
type hold struct {
	of    *places
	share *share
	leave func()
	hurry func() // guarded by of.mu; nil where there is nothing to be hurried
}

// press tells the holder that others wait; places.mu is held.
func (h *hold) press() {
	if h.hurry != nil {
		h.hurry()
		h.hurry = nil
	}
}

// settle says that the holder cannot be hurried any more.
func (h *hold) settle() {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.hurry = nil
}

func newPlaces(all, each int) *places {
	return &places{all: make(chan struct{}, all), each: each, clients: map[string]*share{}, holds: map[*hold]struct{}{}}
}

// take waits for a place for a client, until ctx ends. hurry, if there is one, is
// called once when others wait for the place, but not after its end.
func (p *places) take(ctx context.Context, client string, hurry func()) (*hold, error) {
	p.mu.Lock()
	s := p.clients[client]
	if s == nil {
		s = &share{places: make(chan struct{}, p.each)}
		p.clients[client] = s
	}
	s.users++
	p.mu.Unlock()
	forget := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if s.users--; s.users == 0 {
			delete(p.clients, client)
		}
	}
	if err := p.enter(ctx, s.places, s); err != nil {
		forget()
		return nil, err
	}
	if err := p.enter(ctx, p.all, nil); err != nil {
		<-s.places
		forget()
		return nil, err
	}
	h := &hold{of: p, share: s, hurry: hurry}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holds[h] = struct{}{}
	h.leave = func() {
		p.mu.Lock()
		delete(p.holds, h)
		p.mu.Unlock()
		<-p.all
		<-s.places
		forget()
	}
	if p.waiting > 0 || s.waiting > 0 {
		h.press()
	}
	return h, nil
}

// enter waits for one of the places of a share, or of all.
func (p *places) enter(ctx context.Context, into chan struct{}, of *share) error {
	select {
	case into <- struct{}{}:
		return nil
	default:
	}
	waiting := &p.waiting
	if of != nil {
		waiting = &of.waiting
	}
	p.mu.Lock()
	*waiting++
	for h := range p.holds {
		if of == nil || h.share == of {
			h.press()
		}
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		*waiting--
	}()
	select {
	case into <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// place takes a place for the rest of the request.
func (r *request) place(p *places, hurry func()) (*hold, error) {
	client := r.identity
	if client == "" || r.state.Settings[r.call.path].SkipAuth { // there anybody may be whoever he likes
		client = r.address
	}
	h, err := p.take(r.ctx, client, hurry)
	if err != nil {
		return nil, err
	}
	r.leave = h.leave
	return h, nil
}

// largeBody takes a place once a body turns out to be large: what has not come takes
// none. When others wait for it, the rest of it must come soon.
type largeBody struct {
	r    *request
	d    *Door
	body io.Reader
	read int
	hold *hold // nil for none
}

// Read implements io.Reader.
func (b *largeBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.read += n
	if b.read <= smallBody || b.r.leave != nil {
		return n, err
	}
	var placed error
	if b.hold, placed = b.r.place(b.d.large, b.hurry(time.Now())); placed != nil {
		return 0, placed
	}
	return n, err
}

// hurry sets the body an earlier end. It is called while the body is read, at most
// once, and never beyond the request.
func (b *largeBody) hurry(since time.Time) func() {
	control, all := http.NewResponseController(b.r.w), b.r.ctx
	return func() {
		until := since.Add(bodyTime)
		if least := time.Now().Add(leftTime); until.Before(least) {
			until = least
		}
		if end, has := all.Deadline(); has && end.Before(until) {
			until = end
		}
		_ = control.SetReadDeadline(until) // not all connections can
	}
}

// done ends what hurry may do.
func (b *largeBody) done() {
	if b.hold != nil {
		b.hold.settle()
	}
}
