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

	// How long the rest of a large body may take once it has a place, and how long a
	// client may take over the answer: who is slow holds up others.
	bodyTime   = 5 * time.Second
	answerTime = 15 * time.Second
)

// places bound what is worked on at a time, in all and of one client, so that none
// keeps all others out. Who finds no place waits for one.
type places struct {
	all  chan struct{}
	each int

	mu      sync.Mutex
	clients map[string]*share // guarded by mu: of those who have a place or wait for one
}

// A share is the places of one client.
type share struct {
	places chan struct{}
	users  int // guarded by places.mu
}

func newPlaces(all, each int) *places {
	return &places{all: make(chan struct{}, all), each: each, clients: map[string]*share{}}
}

// take waits for a place for a client, until ctx ends.
func (p *places) take(ctx context.Context, client string) (leave func(), err error) {
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
	select {
	case s.places <- struct{}{}:
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
	select {
	case p.all <- struct{}{}:
	case <-ctx.Done():
		<-s.places
		forget()
		return nil, ctx.Err()
	}
	return func() { <-p.all; <-s.places; forget() }, nil
}

// place takes a place for the rest of the request.
func (r *request) place(p *places) error {
	client := r.identity
	if client == "" || r.state.Settings[r.call.path].SkipAuth { // there anybody may be whoever he likes
		client = r.address
	}
	leave, err := p.take(r.ctx, client)
	if err != nil {
		return err
	}
	r.leave = leave
	return nil
}

// largeBody takes a place once a body turns out to be large: what has not come takes
// none. From then on the rest of it must come soon.
type largeBody struct {
	r    *request
	d    *Door
	body io.Reader
	read int
}

// Read implements io.Reader.
func (b *largeBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.read += n
	if b.read <= smallBody || b.r.leave != nil {
		return n, err
	}
	if err := b.r.place(b.d.large); err != nil {
		return 0, err
	}
	until := time.Now().Add(bodyTime)
	if all, has := b.r.ctx.Deadline(); has && all.Before(until) {
		until = all
	}
	_ = http.NewResponseController(b.r.w).SetReadDeadline(until) // not all connections can
	return n, err
}
