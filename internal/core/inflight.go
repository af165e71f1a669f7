package core

import (
	"sync"
	"time"

	"arca/internal/engine"
	"arca/internal/token"
)

// Flying tells of a request that is being served.
type Flying struct {
	ID        string    `json:"-"`
	Start     time.Time `json:"start_time"`
	Remote    string    `json:"client_remote_address"`
	Path      string    `json:"request_path"`
	Operation string    `json:"request_method"`
	ClientID  string    `json:"client_id"`
}

// flights are the requests inside, in lists that are sharded, as every request
// passes here twice.
type flights struct {
	shards [16]struct {
		mu    sync.Mutex
		first *handling // guarded by mu
		came  uint64    // how many have come in, ever; guarded by mu
		_     [40]byte  // keeps shards on cache lines of their own
	}
}

func (f *flights) shard(h *handling) int {
	if h.req.ID == "" {
		return 0
	}
	return int(h.req.ID[0]) & 15
}

// count is how many requests are inside.
func (f *flights) count() (n int) {
	for i := range f.shards {
		s := &f.shards[i]
		s.mu.Lock()
		for h := s.first; h != nil; h = h.next {
			n++
		}
		s.mu.Unlock()
	}
	return n
}

// came is how many requests have ever come in.
func (f *flights) came() (n uint64) {
	for i := range f.shards {
		s := &f.shards[i]
		s.mu.Lock()
		n += s.came
		s.mu.Unlock()
	}
	return n
}

func (f *flights) add(h *handling) {
	s := &f.shards[f.shard(h)]
	s.mu.Lock()
	s.came++
	h.next = s.first
	if h.next != nil {
		h.next.prev = h
	}
	s.first = h
	s.mu.Unlock()
}

func (f *flights) remove(h *handling) {
	s := &f.shards[f.shard(h)]
	s.mu.Lock()
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		s.first = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	}
	s.mu.Unlock()
}

// InFlight lists the requests that are being served.
func (c *Core) InFlight() []Flying {
	var out []Flying
	for i := range c.flights.shards {
		s := &c.flights.shards[i]
		s.mu.Lock()
		for h := s.first; h != nil; h = h.next {
			out = append(out, flyingOf(h.orig, h.now, h.client.Load()))
		}
		s.mu.Unlock()
	}
	return out
}

func flyingOf(req *engine.Request, start time.Time, tok *token.Entry) Flying {
	f := Flying{ID: req.ID, Start: start, Remote: req.Remote.String(), Path: "/v1/" + req.Path, Operation: req.Op.String()}
	if tok != nil {
		f.ClientID = clientID(tok)
	}
	return f
}
