package storage

// A Shared is a Cache that is declared before there is a DB, as an engine is: each DB that is read through it keeps
// objects of its own, with the same bound, and they end with the DB. It is safe for concurrent use.
type Shared[T any] struct {
	maxBytes int
	decode   func(key string, value []byte) (obj T, sizeBytes int, err error)
}

// NewShared declares a cache of at most about maxBytes for each DB; see NewCache.
func NewShared[T any](maxBytes int, decode func(key string, value []byte) (obj T, sizeBytes int, err error)) *Shared[T] {
	return &Shared[T]{maxBytes: maxBytes, decode: decode}
}

// Get is Cache.Get, with the cache of the DB that tx belongs to.
func (s *Shared[T]) Get(tx Tx, key string) (T, error) {
	db := tx.s.db
	kept, ok := db.shared.Load(s)
	if !ok {
		db.sharing.Lock()
		if kept, ok = db.shared.Load(s); !ok {
			kept = NewCache(db, s.maxBytes, s.decode)
			db.shared.Store(s, kept)
		}
		db.sharing.Unlock()
	}
	return kept.(*Cache[T]).Get(tx, key)
}
