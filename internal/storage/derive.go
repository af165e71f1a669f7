package storage

import (
	"strings"
	"sync"
)

// maxDerived bounds the memory of what Derive keeps, and maxDerivedCount the number.
const (
	maxDerived      = 8 << 20
	maxDerivedCount = 1024
	minDerived      = 1 << 10 // smaller results are as quickly made again
)

// derived keeps results that were computed from all the keys under a prefix, until a commit changes one of them.
type derived struct {
	mu      sync.Mutex
	entries map[string]*derivedEntry // by prefix
	bytes   int
}

type derivedEntry struct {
	kind  string
	value []byte
	from  uint64 // holds for states from here on, until it is dropped
}

// Derive returns what compute makes of nothing but the keys and values under prefix, which ends with a slash. In a View
// the result may be one of an earlier call with the same prefix and kind, as long as nothing under prefix has changed
// since; it must not be modified. Use it for answers that cost much and are asked often, such as listings.
func (tx Tx) Derive(prefix, kind string, compute func() ([]byte, error)) ([]byte, error) {
	s := tx.s
	if s.writable || s.ended {
		return compute()
	}
	abs := tx.prefix + prefix
	d := &s.db.derived
	d.mu.Lock()
	if e := d.entries[abs]; e != nil && e.kind == kind && e.from <= s.gen.seq {
		d.mu.Unlock()
		return e.value, nil
	}
	d.mu.Unlock()
	value, err := compute()
	if err == nil && len(value) >= minDerived && len(value) <= maxDerived/4 {
		s.db.keepDerived(abs, &derivedEntry{kind: kind, value: value, from: s.gen.seq})
	}
	return value, err
}

// keepDerived keeps e unless a commit since its state, durable or pending, has changed something under prefix: such a
// commit may have passed already. As for caches, the check and the insertion are one step under the DB's mutex.
func (db *DB) keepDerived(prefix string, e *derivedEntry) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if e.from < db.history.floor {
		return
	}
	if _, changed := db.history.conflict(e.from, nil, []keyRange{{lo: prefix, hi: prefixEnd(prefix)}}); changed {
		return
	}
	d := &db.derived
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remove(prefix)
	for p := range d.entries { // an arbitrary one goes
		if d.bytes+len(e.value) <= maxDerived && len(d.entries) < maxDerivedCount {
			break
		}
		d.remove(p)
	}
	d.entries[prefix] = e
	d.bytes += len(e.value)
}

func (d *derived) remove(prefix string) {
	if e := d.entries[prefix]; e != nil {
		d.bytes -= len(e.value)
		delete(d.entries, prefix)
	}
}

// drop is told of a changed key: it spoils what was derived from any folder that it is in.
func (d *derived) drop(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.entries) == 0 {
		return
	}
	for i := range len(key) {
		if key[i] == '/' {
			d.remove(key[:i+1])
		}
	}
}

// dropPrefix is told of a deleted prefix.
func (d *derived) dropPrefix(prefix string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p := range d.entries {
		if strings.HasPrefix(p, prefix) || strings.HasPrefix(prefix, p) {
			d.remove(p)
		}
	}
}
