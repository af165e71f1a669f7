package storage

import (
	"hash/maphash"
	"sync/atomic"
)

// markCount is a power of two, many times the keys that the commits on their way to disk write.
const markCount = 1 << 12

// marks tell of most keys, without a lock, that no commit after a given one has changed them: what an Update wants to know
// for every key that it reads while others commit. They may err towards a change, and then the history decides.
type marks struct {
	seed  maphash.Seed
	keys  [markCount]atomic.Uint64 // by hash: the newest commit that wrote one of these keys
	wiped atomic.Uint64            // the newest commit that deleted prefixes
}

func newMarks() *marks { return &marks{seed: maphash.MakeSeed()} }

func (m *marks) hash(key string) uint64 { return maphash.String(m.seed, key) }

// add notes a commit. The DB's mu is held, so that whoever begins after the commit sees its marks.
func (m *marks) add(c *commit) {
	for i := range c.writes {
		w := &c.writes[i]
		w.hash = m.hash(w.key)
		if at := &m.keys[w.hash%markCount]; at.Load() < c.seq {
			at.Store(c.seq)
		}
	}
	if len(c.deleted) > 0 && m.wiped.Load() < c.seq {
		m.wiped.Store(c.seq)
	}
}

// same reports that certainly no commit after seq that the asking Update can see has changed the key with a hash.
func (m *marks) same(hash, seq uint64) bool {
	return m.keys[hash%markCount].Load() <= seq && m.wiped.Load() <= seq
}
