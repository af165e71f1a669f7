package storage

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	cacheShards   = 16
	entryOverhead = 160 // bytes of bookkeeping for an entry, about
	countedLevels = 6
)

// A Cache keeps decoded objects by storage key. It is bounded in bytes, evicts what has not been used for long, and drops
// a key in the moment a commit changes it: who reads through it sees exactly what the transaction would have read. Objects
// are shared and must not be modified. It is safe for concurrent use and lives as long as its DB.
type Cache[T any] struct {
	db       *DB
	decode   func(key string, value []byte) (obj T, sizeBytes int, err error)
	maxBytes int // of one shard
	shards   [cacheShards]cacheShard[T]
	folders  folders
}

// NewCache makes a cache of at most about maxBytes. decode makes the object from the value stored under the whole key, and
// says how much memory it takes; its errors are returned and not kept.
func NewCache[T any](
	db *DB, maxBytes int, decode func(key string, value []byte) (obj T, sizeBytes int, err error),
) *Cache[T] {
	c := &Cache[T]{db: db, decode: decode, maxBytes: maxBytes / cacheShards}
	for i := range c.shards {
		c.shards[i].entries = map[string]*cacheEntry[T]{}
	}
	c.folders.count = map[string]int{}
	db.feed.addCache(c)
	return c
}

type cacheShard[T any] struct {
	mu      sync.Mutex
	entries map[string]*cacheEntry[T]
	clock   []*cacheEntry[T] // the same entries; hand goes round them to evict
	hand    int
	bytes   int
	_       [64]byte // keeps shards on cache lines of their own
}

type cacheEntry[T any] struct {
	key    string
	obj    T
	absent bool   // the key does not exist
	from   uint64 // the entry holds for states from here on, until it is dropped
	hash   uint64 // of key, by the DB's marks
	size   int
	place  int  // in clock
	used   bool // since hand last passed
}

// Get returns the object stored under key, relative to tx, or ErrNotFound; that a key is absent is remembered too. In an
// Update it counts as a read, and the transaction's own write of key is what it returns.
func (c *Cache[T]) Get(tx Tx, key string) (T, error) {
	s := tx.s
	if len(tx.prefix)+len(key) > s.db.cfg.MaxKeyBytes {
		var none T
		return none, ErrNotFound // it can never have been written, and is not worth remembering
	}
	if s.ended {
		var none T
		return none, ErrClosed
	}
	var room [256]byte
	abs := append(append(room[:0], tx.prefix...), key...)
	if s.writable {
		if obj, found, absent := c.known(s, abs); absent {
			return obj, ErrNotFound
		} else if found {
			return obj, nil
		}
		return c.getInUpdate(s, string(abs))
	}
	sh := c.shard(maphash.Bytes(s.db.marks.seed, abs))
	sh.mu.Lock()
	if e := sh.entries[string(abs)]; e != nil && e.from <= s.gen.seq {
		e.used = true
		obj, absent := e.obj, e.absent
		sh.mu.Unlock()
		if absent {
			return obj, ErrNotFound
		}
		return obj, nil
	}
	sh.mu.Unlock()
	return c.load(s, string(abs))
}

// Put stores value as Tx.Put does, and keeps obj, which is what decode makes of value, of sizeBytes, as soon as the commit
// is visible: who reads the key next need not decode it.
func (c *Cache[T]) Put(tx Tx, key string, value []byte, obj T, sizeBytes int) error {
	key = tx.prefix + key
	return tx.write(write{key: key, value: value, keep: func(seq uint64) {
		c.fill(seq, &cacheEntry[T]{key: key, obj: obj, size: sizeBytes})
	}})
}

// shard is where the key with a hash is kept. Other bits of the hash than those for the marks choose it.
func (c *Cache[T]) shard(hash uint64) *cacheShard[T] { return &c.shards[hash>>32%cacheShards] }

// known is getInUpdate for the usual case, which costs no memory: an Update reads what is kept, has not been changed since the
// snapshot nor by itself, and nobody has to queue for a key. Otherwise it finds nothing, and has noted nothing.
func (c *Cache[T]) known(s *txState, key []byte) (obj T, found, absent bool) {
	hash := maphash.Bytes(s.db.marks.seed, key)
	if s.stale || s.db.hot.Load() > 0 || len(s.deleted) > 0 || s.writes.has(key) || s.changed(hash) {
		return obj, false, false
	}
	sh := c.shard(hash)
	sh.mu.Lock()
	e := sh.entries[string(key)]
	if e == nil || e.from > s.gen.seq {
		sh.mu.Unlock()
		return obj, false, false
	}
	e.used = true
	obj, absent, kept := e.obj, e.absent, e.key
	sh.mu.Unlock()
	s.listRead(kept)
	return obj, true, absent
}

func (c *Cache[T]) getInUpdate(s *txState, key string) (obj T, err error) {
	if err := s.noteRead(key); err != nil {
		return obj, err
	}
	hash := s.db.marks.hash(key)
	ch, err := s.buffered(key, hash)
	switch {
	case err != nil:
		return obj, err
	case ch.deleted:
		return obj, ErrNotFound
	case ch.put:
		obj, _, err = c.decode(key, ch.value)
		return obj, err
	}
	if obj, found, absent := c.peek(s, key, hash); found {
		if absent {
			return obj, ErrNotFound
		}
		return obj, nil
	}
	return c.load(s, key)
}

// peek returns what is kept for key, if that holds for the transaction's snapshot.
func (c *Cache[T]) peek(s *txState, key string, hash uint64) (obj T, found, absent bool) {
	sh := c.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.entries[key]
	if e == nil || e.from > s.gen.seq {
		return obj, false, false
	}
	e.used = true
	return e.obj, true, e.absent
}

// load reads key from the transaction's snapshot and keeps the result.
func (c *Cache[T]) load(s *txState, key string) (obj T, err error) {
	value, err := s.gen.snap.Get(s.ctx, key)
	if err != nil {
		if IsNotFound(err) {
			c.fill(s.gen.seq, &cacheEntry[T]{key: key, absent: true})
		}
		return obj, err
	}
	obj, size, err := c.decode(key, value)
	if err != nil {
		return obj, err
	}
	c.fill(s.gen.seq, &cacheEntry[T]{key: key, obj: obj, size: size})
	return obj, nil
}

// fill keeps e, read at seq, unless a commit since then, durable or pending, has changed its key: such a commit may have
// passed this cache already. The check and the insertion are one step under the DB's mutex, under which commits are
// recorded before they are made durable and then dropped from caches.
func (c *Cache[T]) fill(seq uint64, e *cacheEntry[T]) {
	e.size += len(e.key) + entryOverhead
	if e.size > c.maxBytes {
		return
	}
	db := c.db
	db.mu.Lock()
	defer db.mu.Unlock()
	var ok bool
	if e.from, ok = db.history.steady(e.key, seq); !ok {
		return
	}
	e.hash = db.marks.hash(e.key)
	sh := c.shard(e.hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if old := sh.entries[e.key]; old != nil {
		c.remove(sh, old)
	}
	for sh.bytes+e.size > c.maxBytes {
		c.evict(sh)
	}
	e.place = len(sh.clock)
	sh.clock = append(sh.clock, e)
	sh.entries[e.key] = e
	sh.bytes += e.size
	db.kept.add(e.hash, 1)
	c.folders.add(e.key, 1)
}

// evict removes the first entry from hand on that was not used since hand last passed it.
func (c *Cache[T]) evict(sh *cacheShard[T]) {
	for {
		if sh.hand >= len(sh.clock) {
			sh.hand = 0
		}
		e := sh.clock[sh.hand]
		if !e.used {
			c.remove(sh, e)
			sh.hand++ // what has come in its place is the newest: it is looked at in the next round
			return
		}
		e.used = false
		sh.hand++
	}
}

func (c *Cache[T]) remove(sh *cacheShard[T], e *cacheEntry[T]) {
	last := sh.clock[len(sh.clock)-1]
	sh.clock[e.place], last.place = last, e.place
	sh.clock[len(sh.clock)-1] = nil
	sh.clock = sh.clock[:len(sh.clock)-1]
	delete(sh.entries, e.key)
	sh.bytes -= e.size
	c.db.kept.add(e.hash, -1)
	c.folders.add(e.key, -1)
}

func (c *Cache[T]) drop(key string, hash uint64) {
	sh := c.shard(hash)
	sh.mu.Lock()
	if e := sh.entries[key]; e != nil {
		c.remove(sh, e)
	}
	sh.mu.Unlock()
}

func (c *Cache[T]) dropPrefix(prefix string) {
	if c.folders.lack(prefix) {
		return
	}
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		for key, e := range sh.entries {
			if strings.HasPrefix(key, prefix) {
				c.remove(sh, e)
			}
		}
		sh.mu.Unlock()
	}
}

// keptCount is a power of two, and more than the entries of a server at work: full caches of values and tokens have some 40,000.
const keptCount = 1 << 16

// kept counts what the caches of a DB hold, by the hashes of the keys. An entry is counted under the DB's mutex, before a commit that
// changes its key can be recorded: whoever lets caches drop what is recorded misses none.
type kept struct {
	entries [keptCount]atomic.Int32
}

func (k *kept) add(hash uint64, n int32) { k.entries[hash%keptCount].Add(n) }

// lack reports whether certainly no cache holds a key with a hash.
func (k *kept) lack(hash uint64) bool { return k.entries[hash%keptCount].Load() == 0 }

// folders counts the cached keys under each "dir/", so that a deleted prefix with nothing cached under it, the usual case,
// does not cost a walk over the cache.
//
// Only the first levels are counted: a key may have thousands.
type folders struct {
	mu    sync.Mutex
	count map[string]int
}

func (f *folders) add(key string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	level := 0
	for i := range len(key) {
		if key[i] != '/' {
			continue
		}
		if level++; level > countedLevels {
			return
		}
		dir := key[:i+1]
		if f.count[dir] += n; f.count[dir] == 0 {
			delete(f.count, dir)
		}
	}
}

// lack reports whether certainly no cached key begins with prefix.
func (f *folders) lack(prefix string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir := prefix[:strings.LastIndexByte(prefix, '/')+1]
	if strings.Count(dir, "/") > countedLevels {
		return false
	}
	return dir != "" && f.count[dir] == 0
}
