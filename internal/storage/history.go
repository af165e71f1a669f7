package storage

import "strings"

// A write is the newest change of one key in one transaction. Once committed it is one version of the key.
type write struct {
	key          string
	value        []byte
	deleted      bool
	wrap         bool   // Op.Wrap
	hash         uint64 // of key, by the DB's marks, once committed
	seq          uint64
	older, newer *write // versions of the same key in the history

	// keep, if there is one, is told once the commit is visible: the cache that wrote the key keeps the object, too.
	keep func(seq uint64)
}

// A prefixDeletion is a committed DeletePrefix. It comes before the writes of its commit.
type prefixDeletion struct {
	seq    uint64
	prefix string
}

// A keyRange is the keys from lo up to, and without, hi; hi "" means to the end.
type keyRange struct {
	lo, hi string
	ticket string // what to contend for when the range is contested
}

func (r keyRange) has(key string) bool { return key >= r.lo && (r.hi == "" || key < r.hi) }

func (r keyRange) overlapsPrefix(p string) bool {
	end := prefixEnd(p)
	return (r.hi == "" || p < r.hi) && (end == "" || r.lo < end)
}

// A history holds the commits after floor, newest last, and their keys. The DB's mutex guards it.
type history struct {
	floor    uint64    // commits up to here are forgotten
	stripped uint64    // commits up to here have lost their values; not below floor
	ring     []*commit // from head on; ring[head].seq == floor+1
	head     int
	bytes    int               // of the commits after stripped
	index    map[string]*write // newest version of each key
	deleted  []prefixDeletion  // in order of seq
}

// at returns the commit seq, or nil when it is forgotten or there is none.
func (h *history) at(seq uint64) *commit {
	if seq <= h.floor || seq > h.last() {
		return nil
	}
	return h.ring[h.head+int(seq-h.floor)-1]
}

// since returns the commits after seq, which must not be below floor.
func (h *history) since(seq uint64) []*commit {
	return h.ring[min(len(h.ring), h.head+int(seq-h.floor)):]
}

func (h *history) add(c *commit) {
	h.ring = append(h.ring, c)
	h.bytes += c.bytes
	for _, p := range c.deleted {
		h.deleted = append(h.deleted, prefixDeletion{c.seq, p})
	}
	for i := range c.writes {
		w := &c.writes[i]
		w.seq = c.seq
		if old := h.index[w.key]; old != nil {
			w.older, old.newer = old, w
		}
		h.index[w.key] = w
	}
}

// trim keeps the history within its bounds, given the last durable commit and the oldest snapshot of a running Update.
// Values of durable commits go first, and commits that no running Update must be checked against. For a slow Update they are
// kept up to keepForSlow times as many.
func (h *history) trim(durable, oldest uint64, maxCommits, maxBytes int) {
	for h.stripped < durable && (int(h.last()-h.stripped) > maxCommits || h.bytes > maxBytes) {
		h.stripped++
		h.bytes -= h.at(h.stripped).strip()
	}
	for h.floor < h.stripped && (h.floor < oldest || len(h.ring)-h.head > keepForSlow*maxCommits) {
		h.forget()
	}
	n := 0
	for n < len(h.deleted) && h.deleted[n].seq <= h.floor {
		n++
	}
	h.deleted = h.deleted[n:]
	if h.head > len(h.ring)/2 {
		h.ring = append(h.ring[:0:0], h.ring[h.head:]...)
		h.head = 0
	}
}

const keepForSlow = 256

// forget drops the oldest commit.
func (h *history) forget() {
	c := h.ring[h.head]
	h.ring[h.head] = nil
	h.head++
	h.floor = c.seq
	for i := range c.writes {
		h.unlink(&c.writes[i])
	}
}

// strip drops the values, and returns how much the commit counted.
func (c *commit) strip() (bytes int) {
	for i := range c.writes {
		c.writes[i].value = nil
	}
	return c.bytes
}

func (h *history) last() uint64 { return h.floor + uint64(len(h.ring)-h.head) }

// reset forgets everything up to seq.
func (h *history) reset(seq uint64) {
	*h = history{floor: seq, stripped: seq, index: map[string]*write{}}
}

func (h *history) unlink(w *write) {
	if w.newer != nil {
		w.newer.older = w.older
	} else if w.older != nil {
		h.index[w.key] = w.older
	} else {
		delete(h.index, w.key)
	}
	if w.older != nil {
		w.older.newer = w.newer
	}
	w.older, w.newer = nil, nil
}

// changed reports whether a commit after seq, which must not be below floor, has changed key.
func (h *history) changed(key string, seq uint64) bool {
	if w := h.index[key]; w != nil && w.seq > seq {
		return true
	}
	for i := len(h.deleted) - 1; i >= 0 && h.deleted[i].seq > seq; i-- {
		if strings.HasPrefix(key, h.deleted[i].prefix) {
			return true
		}
	}
	return false
}

// steady returns a commit since which key has not changed, if key has not changed after seq either. It need not be the
// earliest such commit.
func (h *history) steady(key string, seq uint64) (since uint64, ok bool) {
	if seq < h.floor || h.changed(key, seq) {
		return 0, false
	}
	since = h.floor
	if w := h.index[key]; w != nil {
		since = w.seq
	}
	for i := len(h.deleted) - 1; i >= 0; i-- {
		if d := h.deleted[i].seq; d <= seq {
			return max(since, d), true // whatever it deleted
		}
	}
	return since, true
}

// find returns what the commits in (from, to] made of key.
func (h *history) find(key string, from, to uint64) change {
	w := h.index[key]
	for w != nil && w.seq > to {
		w = w.older
	}
	if w != nil && w.seq > from {
		from = w.seq
	} else {
		w = nil
	}
	for i := len(h.deleted) - 1; i >= 0 && h.deleted[i].seq > from; i-- {
		if h.deleted[i].seq <= to && strings.HasPrefix(key, h.deleted[i].prefix) {
			return change{deleted: true}
		}
	}
	if w == nil {
		return change{}
	}
	return w.change()
}

// conflict returns the first of the reads, made at seq, that a commit since has changed.
func (h *history) conflict(seq uint64, reads []string, ranges []keyRange) (contested string, found bool) {
	switch {
	case seq == h.last():
		return "", false
	case seq < h.floor:
		return "", len(reads)+len(ranges) > 0
	}
	for _, key := range reads {
		if h.changed(key, seq) {
			return key, true
		}
	}
	if len(ranges) == 0 {
		return "", false
	}
	for _, c := range h.since(seq) {
		for _, r := range ranges {
			if c.touches(r) {
				return r.ticket, true
			}
		}
	}
	return "", false
}

func (c *commit) touches(r keyRange) bool {
	for i := range c.writes {
		if r.has(c.writes[i].key) {
			return true
		}
	}
	for _, p := range c.deleted {
		if r.overlapsPrefix(p) {
			return true
		}
	}
	return false
}
