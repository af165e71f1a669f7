package storage

import (
	"bytes"
	"iter"
	"slices"
	"sort"
	"strings"
)

// Scan goes over the entries under prefix whose keys come after after, in byte order of the keys. Keys are whole keys of
// tx, prefix included; after is such a key, or "" for all. What tx writes while the loop runs is not seen by it.
func (tx Tx) Scan(prefix, after string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		c, err := tx.open(prefix, startAfter(prefix, after), false)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		defer c.close()
		for c.next() {
			value, err := c.value()
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if !yield(Entry{Key: string(c.key()[len(tx.prefix):]), Value: value}, nil) {
				return
			}
		}
		if err := c.end(); err != nil {
			yield(Entry{}, err)
		}
	}
}

// Keys is Scan without the values: they are not fetched.
func (tx Tx) Keys(prefix, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		c, err := tx.open(prefix, startAfter(prefix, after), true)
		if err != nil {
			yield("", err)
			return
		}
		defer c.close()
		for c.next() {
			if !yield(string(c.key()[len(tx.prefix):]), nil) {
				return
			}
		}
		if err := c.end(); err != nil {
			yield("", err)
		}
	}
}

func startAfter(prefix, after string) string {
	if after == "" {
		return prefix
	}
	return max(prefix, after+"\x00")
}

// List returns the names directly below prefix in byte order: "a" for the key prefix+"a", and once "dir/" for all keys
// that begin with prefix+"dir/". It does not visit what lies deeper. It begins behind the name after, as List returned it,
// and ends after limit names; 0 means all. The names share memory.
func (tx Tx) List(prefix, after string, limit int) ([]string, error) {
	start := prefix
	if dir, ok := strings.CutSuffix(after, "/"); ok {
		start = prefix + dir + "0" // '/'+1
	} else if after != "" {
		start = prefix + after + "\x00"
	}
	c, err := tx.open(prefix, start, true)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var names nameList
	full := func() bool { return limit > 0 && names.len() == limit }
	base := len(tx.prefix) + len(prefix)
	var dir []byte // the folder last seen, with its prefix and slash
	for ok := c.next(); ok; {
		key := c.key()
		slash := bytes.IndexByte(key[base:], '/')
		switch {
		case len(key) == base: // the key of the folder itself is not below it
			ok = c.next()
		case slash < 0:
			names.add(key[base:])
			ok = !full() && c.next()
		default:
			dir = append(dir[:0], key[:base+slash+1]...)
			names.add(dir[base:])
			if full() {
				c.sawTo = string(dir[:len(dir)-1]) + "0"
				ok = false
			} else {
				ok = c.skip(dir)
			}
		}
	}
	if full() {
		return names.list(), nil
	}
	if err := c.end(); err != nil {
		return nil, err
	}
	return names.list(), nil
}

// Names is List of names that may hold slashes: each key below prefix is one, and none is a folder.
func (tx Tx) Names(prefix, after string, limit int) ([]string, error) {
	start := prefix
	if after != "" {
		start = prefix + after + "\x00"
	}
	c, err := tx.open(prefix, start, true)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var names nameList
	base := len(tx.prefix) + len(prefix)
	for c.next() {
		if key := c.key()[base:]; len(key) > 0 {
			names.add(key)
		}
		if limit > 0 && names.len() == limit {
			return names.list(), nil
		}
	}
	if err := c.end(); err != nil {
		return nil, err
	}
	return names.list(), nil
}

// A nameList gathers strings that share one piece of memory: ten thousand cost a few allocations.
type nameList struct {
	text strings.Builder
	ends []uint32
}

func (l *nameList) len() int { return len(l.ends) }

func (l *nameList) add(name []byte) {
	l.text.Write(name)
	l.ends = append(l.ends, uint32(l.text.Len()))
}

func (l *nameList) list() []string {
	if len(l.ends) == 0 {
		return nil
	}
	text := l.text.String()
	names := make([]string, len(l.ends))
	start := uint32(0)
	for i, end := range l.ends {
		names[i] = text[start:end]
		start = end
	}
	return names
}

// A cursor goes over what one transaction sees of a range: the snapshot, and over it what pending commits and the
// transaction itself have written.
type cursor struct {
	s    *txState
	base Iterator

	layer  []layered // sorted; over base
	hidden []string  // prefixes of which base must not be seen
	buf    []byte    // the current key when it comes from the layer

	baseOK          bool
	onBase, onLayer bool // where the current key stands

	span  int    // the place of this range in s.ranges, or -1
	sawTo string // how far the range was read, if not up to the current key
	done  bool   // it was read to its end
}

// A layered is a key and what became of it.
type layered struct {
	key string
	change
}

// open starts a cursor before the first key, under prefix and not before from, both relative to tx.
func (tx Tx) open(prefix, from string, keysOnly bool) (*cursor, error) {
	s := tx.s
	if s.ended {
		return nil, ErrClosed
	}
	prefix, from = tx.prefix+prefix, tx.prefix+from
	c := &cursor{s: s, span: -1}
	if s.writable {
		span, err := s.noteRange(from, prefixEnd(prefix))
		if err != nil {
			return nil, err
		}
		c.span = span
		if err := c.overlay(prefix, from); err != nil {
			return nil, err
		}
	}
	var err error
	c.base, err = s.gen.snap.Scan(s.ctx, ScanOptions{Prefix: prefix, From: from, KeysOnly: keysOnly})
	return c, err
}

// overlay gathers what pending commits and the transaction have written in the range.
func (c *cursor) overlay(prefix, from string) error {
	s := c.s
	if s.seq == s.gen.seq && len(s.writes.list) == 0 && len(s.deleted) == 0 {
		return nil
	}
	set := map[string]change{}
	add := func(deleted []string, writes []write) (touched bool) {
		for _, p := range deleted {
			if !strings.HasPrefix(prefix, p) && !strings.HasPrefix(p, prefix) {
				continue
			}
			touched = true
			c.hidden = append(c.hidden, p)
			for key := range set {
				if strings.HasPrefix(key, p) {
					delete(set, key)
				}
			}
		}
		for i := range writes {
			if w := &writes[i]; strings.HasPrefix(w.key, prefix) && w.key >= from {
				set[w.key] = w.change()
				touched = true
			}
		}
		return touched
	}
	if s.seq > s.gen.seq {
		db := s.db
		db.mu.Lock()
		if err := s.reach(); err != nil {
			db.mu.Unlock()
			return err
		}
		for _, commit := range db.history.since(s.gen.seq) {
			if commit.seq > s.seq {
				break
			}
			if add(commit.deleted, commit.writes) {
				s.built = true
			}
		}
		db.mu.Unlock()
	}
	add(s.deleted, s.writes.list)
	for key, ch := range set {
		c.layer = append(c.layer, layered{key, ch})
	}
	slices.SortFunc(c.layer, func(a, b layered) int { return strings.Compare(a.key, b.key) })
	return nil
}

func (c *cursor) next() bool {
	if c.onLayer {
		c.layer = c.layer[1:]
		if !c.onBase {
			return c.settle()
		}
	}
	c.baseOK = c.base.Next()
	if len(c.layer) == 0 && len(c.hidden) == 0 {
		c.onBase, c.onLayer = c.baseOK, false
		return c.baseOK
	}
	return c.settle()
}

// skip moves behind all keys in dir, which ends in a slash. Most directories are small: it tries a step before it seeks.
func (c *cursor) skip(dir []byte) bool {
	for range 2 {
		if !c.next() {
			return false
		}
		if !bytes.HasPrefix(c.key(), dir) {
			return true
		}
	}
	dir[len(dir)-1]++
	ok := c.seek(dir)
	dir[len(dir)-1]--
	return ok
}

func (c *cursor) seek(key []byte) bool {
	if c.baseOK {
		c.baseOK = c.base.Seek(key)
	}
	c.layer = c.layer[sort.Search(len(c.layer), func(i int) bool { return c.layer[i].key >= string(key) }):]
	return c.settle()
}

// settle finds the first visible key from where base and layer stand.
func (c *cursor) settle() bool {
	for {
		if len(c.layer) == 0 && len(c.hidden) == 0 {
			c.onBase, c.onLayer = c.baseOK, false
			return c.baseOK
		}
		if c.baseOK && c.unhide() {
			continue
		}
		if len(c.layer) == 0 {
			c.onBase, c.onLayer = c.baseOK, false
			return c.baseOK
		}
		w := &c.layer[0]
		order := -1
		if c.baseOK {
			order = strings.Compare(w.key, string(c.base.Key()))
		}
		if order > 0 {
			c.onBase, c.onLayer = true, false
			return true
		}
		if !w.deleted {
			c.onBase, c.onLayer = order == 0, true
			c.buf = append(c.buf[:0], w.key...)
			return true
		}
		c.layer = c.layer[1:]
		if order == 0 {
			c.baseOK = c.base.Next()
		}
	}
}

// unhide moves base behind a deleted prefix if it stands in one.
func (c *cursor) unhide() (moved bool) {
	for _, p := range c.hidden {
		if !strings.HasPrefix(string(c.base.Key()), p) {
			continue
		}
		if end := prefixEnd(p); end != "" {
			c.baseOK = c.base.Seek([]byte(end))
		} else {
			c.baseOK = false
		}
		return true
	}
	return false
}

func (c *cursor) key() []byte {
	if c.onLayer {
		return c.buf
	}
	return c.base.Key()
}

func (c *cursor) value() ([]byte, error) {
	if c.onLayer {
		return c.layer[0].value, nil
	}
	return c.base.Value()
}

// end notes that the range was read to its end, and returns the error that ended it.
func (c *cursor) end() error {
	c.done = true
	if c.s.writable && c.s.stale {
		return ErrConflict
	}
	return c.base.Err()
}

// close narrows the range that was noted as read to what was read.
func (c *cursor) close() {
	if c.span >= 0 && !c.s.readAll && !c.done {
		r := &c.s.ranges[c.span]
		switch {
		case c.sawTo != "":
			r.hi = c.sawTo
		case c.onBase || c.onLayer:
			r.hi = string(c.key()) + "\x00"
		}
	}
	_ = c.base.Close() // errors were seen by Err
}
