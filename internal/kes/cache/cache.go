// Package cache keeps decoded keys of a store in memory, as KES does: for a time,
// for as long as they are used, and through the store's outages.
//
// A key that is not there is fetched once, however many wait for it. That there
// is no key of a name is not remembered. Creating writes through and fills
// nothing; creating and deleting drop what is cached of the name at once, and what is
// being fetched at that moment is not kept.
//
// Listings are for the store a look at all that it has. They are made one at a time,
// for all who wait (list.go).
package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/kes/key"
	"arca/internal/kes/store"
)

const (
	maxEntries   = 100_000 // some 50 MB; more push others out
	fetchTime    = 15 * time.Second
	offlineCheck = 10 * time.Second
	maxFlights   = 64 // fetches at a time
)

// An Expiry says how long keys are kept. Zero values are the defaults: 5
// minutes, 30 seconds, and no special treatment of outages.
type Expiry struct {
	Any     time.Duration // all are dropped at this interval
	Unused  time.Duration // dropped when not used for so long
	Offline time.Duration // kept so long while the store is unreachable, instead of the other two
}

// A Cache is keys in front of a store. Run expires them.
type Cache struct {
	store  store.Store
	expiry Expiry

	mu       sync.RWMutex
	entries  map[string]*entry  // guarded by mu
	fetching map[string]*flight // guarded by mu
	offline  atomic.Bool
	places   chan struct{} // of fetches
	lister   *lister
	heir     atomic.Pointer[Cache]
}

type entry struct {
	key  *key.Key
	used atomic.Bool // since the last sweep
}

// A flight is one fetch, for all who wait for it.
type flight struct {
	done chan struct{}
	key  *key.Key
	err  error
}

// A BadEntryError says that the store holds something that is no key.
type BadEntryError struct {
	Name string
	Err  error
}

// Error says what is wrong with the entry.
func (e *BadEntryError) Error() string { return "the entry of key " + e.Name + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *BadEntryError) Unwrap() error { return e.Err }

// New makes a cache.
func New(s store.Store, e Expiry) *Cache {
	if e.Any <= 0 {
		e.Any = 5 * time.Minute
	}
	if e.Unused <= 0 {
		e.Unused = 30 * time.Second
	}
	return &Cache{
		store: s, expiry: e, entries: map[string]*entry{}, fetching: map[string]*flight{}, places: make(chan struct{}, maxFlights),
		lister: newLister(s.List),
	}
}

// Get returns a key, from memory if it is there. store.ErrNotFound when there
// is none; a *BadEntryError when what is there is no key.
func (c *Cache) Get(ctx context.Context, name string) (*key.Key, error) {
	c.mu.RLock()
	e := c.entries[name]
	c.mu.RUnlock()
	if e != nil {
		if !e.used.Load() {
			e.used.Store(true)
		}
		return e.key, nil
	}
	return c.fetch(ctx, name)
}

func (c *Cache) fetch(ctx context.Context, name string) (*key.Key, error) {
	k, f := c.known(name)
	if k != nil {
		return k, nil
	}
	if f == nil {
		select {
		case c.places <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if k, f = c.start(ctx, name); k != nil {
			return k, nil
		}
	}
	select {
	case <-f.done:
		return f.key, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// known returns a key, or the fetch that is under way.
func (c *Cache) known(name string) (*key.Key, *flight) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e := c.entries[name]; e != nil {
		return e.key, nil
	}
	return nil, c.fetching[name]
}

// start begins a fetch with the place that the caller has, unless another has
// begun or ended one meanwhile.
func (c *Cache) start(ctx context.Context, name string) (*key.Key, *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, f := c.entries[name], c.fetching[name]
	if e != nil || f != nil {
		<-c.places
		if e != nil {
			return e.key, nil
		}
		return nil, f
	}
	f = &flight{done: make(chan struct{})}
	c.fetching[name] = f
	go func() { // it ends by itself: fetchTime bounds it
		defer func() { <-c.places }()
		c.fly(context.WithoutCancel(ctx), name, f)
	}()
	return nil, f
}

// fly fetches a key for all who wait; that one of them leaves does not end it.
func (c *Cache) fly(ctx context.Context, name string, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	defer close(f.done)
	f.err = errors.New("the fetch was cut off")
	defer func() {
		if p := recover(); p != nil { // whatever the store answered, it ends no server
			f.key, f.err = nil, fmt.Errorf("the key store's client panicked: %v", p)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.fetching[name] != f {
			return // it was deleted meanwhile
		}
		delete(c.fetching, name)
		if f.err == nil {
			c.keep(name, f.key)
		}
	}()
	raw, err := c.store.Get(ctx, name)
	if err != nil {
		f.err = err
		return
	}
	k, err := key.Decode(raw)
	clear(raw)
	if err != nil {
		err = &BadEntryError{name, err}
	}
	f.key, f.err = k, err
}

// keep is called with the lock held.
func (c *Cache) keep(name string, k *key.Key) {
	if len(c.entries) >= maxEntries {
		for other := range c.entries { // any: the order of a map is random
			delete(c.entries, other)
			break
		}
	}
	e := &entry{key: k}
	e.used.Store(true)
	c.entries[name] = e
}

// Create stores a key unless there is one of that name: store.ErrExists. While
// the store is unreachable, a key that is cached is known to exist. One that is cached
// of a name that was free is of before: another server has deleted it.
func (c *Cache) Create(ctx context.Context, name string, k *key.Key) error {
	raw := k.Encode()
	defer clear(raw)
	err := c.store.Create(ctx, name, raw)
	if store.IsUnreachable(err) {
		c.mu.RLock()
		_, known := c.entries[name]
		c.mu.RUnlock()
		if known {
			return store.ErrExists
		}
	}
	if err == nil || errors.Is(err, store.ErrExists) { // which may be another's, or this one, made by a call whose answer was lost
		c.forgetAll(name)
	}
	return err
}

// Delete removes a key from the store and from memory. After an error the store may
// have removed it all the same: then the next use asks the store again.
func (c *Cache) Delete(ctx context.Context, name string) error {
	defer c.forgetAll(name)
	return c.store.Delete(ctx, name)
}

// forgetAll drops a key here and where this cache was replaced.
func (c *Cache) forgetAll(name string) {
	for h := c; h != nil; h = h.heir.Load() { // there may be several by now
		h.forget(name)
	}
}

// forget drops a key, and what is being fetched of it.
func (c *Cache) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, name)
	delete(c.fetching, name)
}

// Bequeath names the cache that is used after this one, before it is: it may have
// fetched what calls that have begun here are about to delete or replace.
func (c *Cache) Bequeath(heir *Cache) { c.heir.Store(heir) }

// List lists the store's names; see store.Store. Those who ask at the same time
// share what the store answers, and the pages of a listing come from one answer, if
// it is not too large: none shows an older state than that at the listing's begin.
func (c *Cache) List(ctx context.Context, prefix, from string, n int) ([]string, string, error) {
	return c.lister.list(ctx, prefix, from, n)
}

// Status asks the store; see store.Store.
func (c *Cache) Status(ctx context.Context) (time.Duration, error) { return c.store.Status(ctx) }

// Run expires keys until ctx ends.
func (c *Cache) Run(ctx context.Context) {
	all := time.NewTicker(c.expiry.Any)
	defer all.Stop()
	unused := time.NewTicker(max(c.expiry.Unused/2, time.Millisecond))
	defer unused.Stop()
	var look <-chan time.Time
	if c.expiry.Offline > 0 {
		t := time.NewTicker(offlineCheck)
		defer t.Stop()
		look = t.C
	}
	var since time.Time // when the outage began
	for {
		select {
		case <-ctx.Done():
			return
		case <-all.C:
			if !c.offline.Load() {
				c.drop(func(*entry) bool { return true })
			}
		case <-unused.C:
			// Twice in the time: what one sweep finds used, the next may drop.
			if !c.offline.Load() {
				c.drop(func(e *entry) bool { return !e.used.Swap(false) })
			}
		case <-look:
			since = c.outage(ctx, since)
		}
	}
}

// outage looks whether the store is unreachable, and drops keys that were kept
// through an outage for long enough.
func (c *Cache) outage(ctx context.Context, since time.Time) time.Time {
	ctx, cancel := context.WithTimeout(ctx, offlineCheck)
	defer cancel()
	_, err := c.store.Status(ctx)
	if !store.IsUnreachable(err) {
		c.offline.Store(false)
		return time.Time{}
	}
	if since.IsZero() {
		c.offline.Store(true)
		return time.Now()
	}
	if time.Since(since) >= c.expiry.Offline {
		c.drop(func(*entry) bool { return true })
	}
	return since
}

func (c *Cache) drop(which func(*entry) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, e := range c.entries {
		if which(e) {
			delete(c.entries, name)
		}
	}
}
