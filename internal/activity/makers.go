package activity

import (
	"container/heap"
	"sort"
	"strings"
	"sync"
	"time"
)

// What is made.
const (
	Tokens = "token"
	Leases = "lease"
)

const (
	// maxMakers bounds how many makers of one kind are told apart. When there are
	// more, the one that has made the least gives its place, and what it has made,
	// to the new one (the algorithm Space-Saving of Metwally, Agrawal and El Abbadi):
	// who has made more than a thousandth of all is always there.
	maxMakers = 1000
	// maxText bounds each name of a maker, in bytes.
	maxText = 256
	// window is over which time rates are told.
	window = time.Minute
)

// A Maker makes tokens or leases.
type Maker struct {
	Kind      string // Tokens, Leases
	Namespace string // path
	Mount     string // path of the mount that made them
	Role      string // the login's role, or the path that was asked
	Client    string // display name of who asked, or of the token that was made
	EntityID  string
}

// Made is what a maker has made since the server became active.
type Made struct {
	Maker
	Total int
	// AtMost is by how many Total may be too large, as others had its place before.
	AtMost int
	// PerMinute is the number in the last whole minute, or in this one if it is more.
	PerMinute int
	Last      time.Time
}

// Makers counts who makes tokens and leases. The zero value is ready. Safe for
// concurrent use.
type Makers struct {
	mu    sync.Mutex
	kinds map[string]*ranking
}

// A ranking is the makers of one kind, in a heap: who has made the least is first.
type ranking struct {
	by   map[Maker]*made
	heap []*made
}

func (r *ranking) Len() int           { return len(r.heap) }
func (r *ranking) Less(i, j int) bool { return r.heap[i].total < r.heap[j].total }
func (r *ranking) Swap(i, j int) {
	r.heap[i], r.heap[j] = r.heap[j], r.heap[i]
	r.heap[i].at, r.heap[j].at = i, j
}

// Push and Pop implement heap.Interface; find does what they would.
func (r *ranking) Push(any) {}
func (r *ranking) Pop() any { return nil }

type made struct {
	who           Maker
	at            int // in the heap
	total, atMost int
	from          time.Time // of the window
	this, before  int
	last          time.Time
}

func cut(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}

// Count notes that one more was made.
func (m *Makers) Count(who Maker, now time.Time) {
	who.Namespace, who.Mount, who.Role, who.Client = cut(who.Namespace), cut(who.Mount), cut(who.Role), cut(who.Client)
	who.EntityID = cut(who.EntityID)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kinds == nil {
		m.kinds = map[string]*ranking{}
	}
	kind := m.kinds[who.Kind]
	if kind == nil {
		kind = &ranking{by: map[Maker]*made{}}
		m.kinds[who.Kind] = kind
	}
	x := kind.find(who)
	x.roll(now)
	x.total++
	x.this++
	x.last = now
	heap.Fix(kind, x.at)
}

// clone lets go of what the texts are parts of.
func (m Maker) clone() Maker {
	for _, s := range [...]*string{&m.Kind, &m.Namespace, &m.Mount, &m.Role, &m.Client, &m.EntityID} {
		*s = strings.Clone(*s)
	}
	return m
}

// find returns a maker's numbers; a new one may take the place of who has made
// the least.
func (r *ranking) find(who Maker) *made {
	x := r.by[who]
	switch {
	case x != nil:
		return x
	case len(r.heap) < maxMakers:
		who = who.clone()
		x = &made{who: who, at: len(r.heap)}
		r.heap = append(r.heap, x)
	default:
		least := r.heap[0]
		delete(r.by, least.who)
		who = who.clone()
		x = &made{who: who, total: least.total, atMost: least.total}
		r.heap[0] = x
	}
	r.by[who] = x
	return x
}

func (x *made) roll(now time.Time) {
	from := now.Truncate(window)
	switch {
	case from.Equal(x.from):
		return
	case from.Sub(x.from) == window:
		x.before = x.this
	default:
		x.before = 0
	}
	x.this, x.from = 0, from
}

// Top returns the makers of a kind ("" is all), those who make the most now
// first, at most limit.
func (m *Makers) Top(kind string, limit int, now time.Time, in func(ns string) bool) []Made {
	m.mu.Lock()
	var out []Made
	for k, makers := range m.kinds {
		if kind != "" && kind != k {
			continue
		}
		for who, x := range makers.by {
			if !in(who.Namespace) {
				continue
			}
			x.roll(now)
			out = append(out, Made{Maker: who, Total: x.total, AtMost: x.atMost, PerMinute: max(x.this, x.before), Last: x.last})
		}
	}
	m.mu.Unlock()
	sort.Slice(out, func(i, j int) bool { // slices.SortFunc would be 20 kB of code for a struct of this size
		a, b := &out[i], &out[j]
		switch {
		case a.PerMinute != b.PerMinute:
			return a.PerMinute > b.PerMinute
		case a.Total != b.Total:
			return a.Total > b.Total
		}
		return a.Kind+a.Namespace+a.Mount+a.Role+a.Client < b.Kind+b.Namespace+b.Mount+b.Role+b.Client
	})
	return out[:min(limit, len(out))]
}
