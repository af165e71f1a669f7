package storage

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"arca/internal/errs"
)

// A Change says which keys one commit changed.
type Change struct {
	Seq      uint64   // numbers the commits of this DB, ascending
	Keys     []string // written or deleted
	Prefixes []string // everything under these was deleted, before Keys were written
}

// A feed tells caches and watchers what commits have changed.
type feed struct {
	caches   atomic.Pointer[[]dropper]
	watchers atomic.Pointer[[]*watcher]
	mu       sync.Mutex // serialises changes of the two lists
}

// A dropper is a cache that drops keys.
type dropper interface {
	drop(key string, hash uint64) // by the DB's marks
	dropPrefix(prefix string)
}

type watcher struct {
	prefix string
	fn     func(Change)
}

// Watch calls fn for each commit that changes keys under prefix, in the order of the commits, with these keys (whole
// keys, not relative ones) and the deleted prefixes that overlap prefix. fn is called when the commit is durable and
// visible and before its Update returns. All commits wait for fn: it must be quick and must not call Update; it may call
// View. After cancel has returned no new call begins; one may still be running.
func (db *DB) Watch(prefix string, fn func(Change)) (cancel func()) {
	w := &watcher{prefix, fn}
	db.feed.change(func(list []*watcher) []*watcher { return append(list, w) })
	return func() {
		db.feed.change(func(list []*watcher) []*watcher {
			return slices.DeleteFunc(list, func(x *watcher) bool { return x == w })
		})
	}
}

func (f *feed) change(fn func([]*watcher) []*watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*watcher
	if old := f.watchers.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = fn(list)
	f.watchers.Store(&list)
}

func (f *feed) addCache(c dropper) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []dropper
	if old := f.caches.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = append(list, c)
	f.caches.Store(&list)
}

// invalidate makes the caches drop what the commits changed. It comes before the commits are visible to Views.
func (db *DB) invalidate(commits []*commit) {
	var caches []dropper
	if list := db.feed.caches.Load(); list != nil {
		caches = *list
	}
	for _, c := range commits {
		for _, p := range c.deleted {
			db.derived.dropPrefix(p)
			for _, cache := range caches {
				cache.dropPrefix(p)
			}
		}
		for i := range c.writes {
			w := &c.writes[i]
			db.derived.drop(w.key)
			if db.kept.lack(w.hash) {
				continue
			}
			for _, cache := range caches {
				cache.drop(w.key, w.hash)
			}
		}
	}
}

// publish tells the watchers. It comes after the commits are visible.
func (f *feed) publish(commits []*commit) {
	list := f.watchers.Load()
	if list == nil {
		return
	}
	for _, c := range commits {
		for _, w := range *list {
			if ch := w.filter(c); len(ch.Keys)+len(ch.Prefixes) > 0 {
				w.fn(ch)
			}
		}
	}
}

func (w *watcher) filter(c *commit) Change {
	ch := Change{Seq: c.seq}
	for i := range c.writes {
		if key := c.writes[i].key; strings.HasPrefix(key, w.prefix) {
			if ch.Keys == nil {
				ch.Keys = make([]string, 0, len(c.writes)-i)
			}
			ch.Keys = append(ch.Keys, key)
		}
	}
	for _, p := range c.deleted {
		if strings.HasPrefix(p, w.prefix) || strings.HasPrefix(w.prefix, p) {
			ch.Prefixes = append(ch.Prefixes, p)
		}
	}
	return ch
}

// Applied tells the DB that its backend has applied changes that did not come from this DB: a standby's, replicated from
// the active node. They count as one commit. Views see it, caches have dropped it and watchers heard of it when Applied
// returns. The Seq in ch is ignored.
//
// Commits of this DB that are pending were not checked against ch; if there are any, the DB fails closed. So whoever
// becomes active applies all that came before it first.
func (db *DB) Applied(ch Change) error {
	c := &commit{deleted: ch.Prefixes, writes: make([]write, len(ch.Keys))}
	for i, key := range ch.Keys {
		c.writes[i].key = key
		c.bytes += len(key)
	}
	db.publishing.Lock()
	defer db.publishing.Unlock()
	snap, err := db.backend.Snapshot(context.Background())
	if err != nil {
		return err
	}
	old, err := db.adopt(c, snap)
	if err != nil {
		_ = snap.Close()
		return err
	}
	old.release()
	db.feed.publish([]*commit{c})
	return nil
}

// adopt makes snap, which holds c, the newest durable state. All under mu: no Update may see c without snap.
func (db *DB) adopt(c *commit, snap Snapshot) (old *generation, err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	switch {
	case db.gen.Load() == nil, errors.Is(db.err, ErrClosed): // or it is being closed, and the last write is still under way
		return nil, ErrClosed
	case db.flushing:
		db.err = errs.New(errs.Unavailable, "storage: changed from elsewhere while it had writes under way")
		return nil, db.err
	}
	db.last++
	c.seq = db.last
	db.record(c)
	db.trim(c.seq)
	db.invalidate([]*commit{c})
	db.gens.Add(1)
	return db.gen.Swap(newGeneration(db, c.seq, snap)), nil
}
