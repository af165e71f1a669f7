package kmip

import (
	"slices"
	"sync"

	"arca/internal/ttlv"
)

// A page is what Locate answers of what it finds. The walk is in the order in which
// objects were made; so is the page until KMIP 1.4, and from 2.0 on the newest come first
// (2.1, section 6.1.28).
type page struct {
	limit, offset int
	newest        bool
	rotates       bool // the member of a group whose turn it is comes first
	found         []located
	total         int
}

// maxKept is how many objects a page keeps while it does not know yet which of them are on it.
const maxKept = 50_000

type located struct{ id, order string }

func (b *batch) newPage(q *query) *page {
	return &page{limit: q.limit, offset: q.offset, newest: b.v.major >= 2, rotates: q.turns()}
}

// whole reports whether no more can come into the page: what follows is only counted.
func (p *page) whole() bool { return !p.newest && !p.rotates && len(p.found) >= p.limit }

func (p *page) add(o *object) {
	p.total++
	switch keep := p.offset + p.limit; {
	case p.rotates:
		if len(p.found) < maxKept { // others have no turn
			p.found = append(p.found, located{o.ID, o.Order})
		}
	case !p.newest:
		if p.total > p.offset && len(p.found) < p.limit {
			p.found = append(p.found, located{o.ID, ""})
		}
	case keep > maxKept: // how many there are has to be known first
	case keep > 0:
		if len(p.found) >= 2*keep { // only the last ones are wanted
			p.found = append(p.found[:0], p.found[len(p.found)-keep:]...)
		}
		p.found = append(p.found, located{o.ID, ""})
	}
}

// far is the page, oldest first, for a second walk, where this one begins so far behind the
// newest that it has kept nothing; nil for others.
func (p *page) far() *page {
	if !p.newest || p.rotates || p.offset+p.limit <= maxKept || p.offset >= p.total {
		return nil
	}
	end := p.total - p.offset
	begin := max(0, end-p.limit)
	return &page{offset: begin, limit: end - begin}
}

// take makes what the second walk has found the page.
func (p *page) take(far *page) { p.found, p.offset = far.found, 0 }

// rest is what is on the page; last is whose turn it was before, where it goes in turns.
func (p *page) rest(last string) []located {
	out := p.found
	switch {
	case p.rotates:
		at := slices.IndexFunc(out, func(l located) bool { return l.order > last })
		if at > 0 {
			out = slices.Concat(out[at:], out[:at])
		}
	case p.newest:
		out = slices.Clone(out)
		slices.Reverse(out)
	default:
		return out
	}
	out = out[min(p.offset, len(out)):]
	return out[:min(p.limit, len(out))]
}

// turns are whose turn it was last in groups of objects: the default member of a group is
// another one each time (KMIP 1.1, test case 15.3). Each node goes round by itself.
type turns struct {
	mu  sync.Mutex
	all map[string]string // guarded by mu: the order of the member
}

const maxTurns = 10_000

func (t *turns) last(group string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[group]
}

func (t *turns) set(pending map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for group, order := range pending {
		if _, known := t.all[group]; !known && len(t.all) >= maxTurns {
			for other := range t.all { // any: it begins anew
				delete(t.all, other)
				break
			}
		}
		t.all[group] = order
	}
}

// turns reports whether a query asks for the default members of a group, some at a time.
func (q *query) turns() bool { return q.byDefault && q.limited && q.group() != "" }

func (q *query) group() string {
	for _, c := range q.criteria {
		if c.name == attrGroup && c.value.Type == ttlv.TextString {
			return c.value.Text()
		}
	}
	return ""
}

// paged is what is on the page, and takes the turn where there are turns.
func (b *batch) paged(p *page, q *query) []located {
	if !p.rotates {
		return p.rest("")
	}
	group := hashed(b.call.Mount.ID, b.scope, q.group())
	last, ok := b.turned[group]
	if !ok {
		last = b.e.turns.last(group)
	}
	out := p.rest(last)
	if len(out) > 0 {
		if b.turned == nil {
			b.turned = map[string]string{}
			b.call.After(func() { b.e.turns.set(b.turned) })
		}
		b.turned[group] = out[len(out)-1].order
	}
	return out
}
