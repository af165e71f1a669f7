package storage

import (
	"context"
	"errors"
	"strings"

	"arca/internal/errs"
)

// A Tx is a transaction over the keys under a prefix. It is small and meant to be copied. It ends with the function it
// was given to, and it is not safe for concurrent use.
type Tx struct {
	s      *txState
	prefix string
	wrap   bool // what is put is wrapped: Op.Wrap
}

// txState is what the copies of a Tx share.
type txState struct {
	db       *DB
	ctx      context.Context // of the View or Update that this is; Tx's methods would all have to be given it again
	gen      *generation
	old      []*generation // what gen was before the snapshot was moved forward; open iterators may use it
	epoch    uint64
	seq      uint64 // the snapshot: commits up to here are seen; above gen.seq they are pending
	writable bool
	ended    bool

	*updateState // nil in a View
}

// updateState is the part of txState that only an Update has.
type updateState struct {
	began      uint64 // the snapshot at first
	prev, next *updateState
	listed     bool // in the DB's running list; these four are guarded by its mu

	hold      *hold
	epoch     uint64
	stale     bool   // a conflict is certain: run again
	contested string // with whom
	built     bool   // pending commits have been read
	writes    writeSet
	deleted   []string // prefixes; they come before writes
	bytes     int
	reads     []string
	ranges    []keyRange
	readAll   bool // there were too many reads: ranges is one that covers all
	hooks     []func()
}

// Sub returns the transaction's view of the keys under prefix. Keys given to it and returned by it lack the prefix.
func (tx Tx) Sub(prefix string) Tx { return Tx{s: tx.s, prefix: tx.prefix + prefix, wrap: tx.wrap} }

// Wrapped returns the same view, of which all that is put is wrapped by the seal besides being encrypted (Op.Wrap). What is
// read is in clear either way.
func (tx Tx) Wrapped() Tx {
	tx.wrap = true
	return tx
}

// Writable reports whether this is an Update.
func (tx Tx) Writable() bool { return tx.s.writable }

// Context returns the context of the View or Update that tx belongs to.
func (tx Tx) Context() context.Context { return tx.s.ctx }

// Get returns the value of key, or ErrNotFound. The caller must not modify it.
func (tx Tx) Get(key string) ([]byte, error) {
	s := tx.s
	switch {
	case s.ended:
		return nil, ErrClosed
	case s.db.values != nil:
		return s.db.values.Get(tx, key) // which makes no key where it has the value
	case len(tx.prefix)+len(key) > s.db.cfg.MaxKeyBytes:
		return nil, ErrNotFound // it can never have been written
	}
	key = tx.prefix + key
	if !s.writable {
		return s.gen.snap.Get(s.ctx, key)
	}
	if err := s.noteRead(key); err != nil {
		return nil, err
	}
	ch, err := s.buffered(key, s.db.marks.hash(key))
	switch {
	case err != nil:
		return nil, err
	case ch.deleted:
		return nil, ErrNotFound
	case ch.put:
		return ch.value, nil
	}
	return s.gen.snap.Get(s.ctx, key)
}

// A change is what became of a key over the backend's snapshot: a new value, its end, or nothing.
type change struct {
	put, deleted bool
	value        []byte
}

func (w *write) change() change { return change{put: !w.deleted, deleted: w.deleted, value: w.value} }

// buffered returns what this transaction or a pending commit made of key.
func (s *txState) buffered(key string, hash uint64) (change, error) {
	if w := s.writes.find(key); w != nil {
		return w.change(), nil
	}
	for _, p := range s.deleted {
		if strings.HasPrefix(key, p) {
			return change{deleted: true}, nil
		}
	}
	if !s.changed(hash) {
		return change{}, nil
	}
	db := s.db
	db.mu.Lock()
	defer db.mu.Unlock()
	if err := s.reach(); err != nil {
		return change{}, err
	}
	ch := db.history.find(key, s.gen.seq, s.seq)
	s.built = s.built || ch.put || ch.deleted
	return ch, nil
}

// changed reports whether a commit between the backend's snapshot and the transaction's may have changed a key with a hash.
func (s *txState) changed(hash uint64) bool {
	return s.seq != s.gen.seq && !s.db.marks.same(hash, s.gen.seq)
}

// fail marks the attempt as one that cannot commit.
func (s *txState) fail(contested string) error {
	s.stale, s.contested = true, contested
	return ErrConflict
}

// noteRead records that an Update read key. If others contend for key it waits for its turn first.
func (s *txState) noteRead(key string) error {
	if s.stale {
		return ErrConflict
	}
	if s.db.hot.Load() > 0 {
		if err := s.queueFor(key); err != nil {
			return err
		}
	}
	s.listRead(key)
	return nil
}

// listRead has the commit be checked for key.
func (s *txState) listRead(key string) {
	if n := len(s.reads); s.readAll || n > 0 && s.reads[n-1] == key {
		return
	}
	s.reads = append(s.reads, key)
	s.boundReads()
}

// noteRange records that an Update reads a range, and returns its place in s.ranges, for the end to be narrowed.
func (s *txState) noteRange(lo, hi string) (int, error) {
	if s.stale {
		return 0, ErrConflict
	}
	r := keyRange{lo: lo, hi: hi, ticket: "\x00" + lo}
	if s.db.hot.Load() > 0 {
		if err := s.queueFor(r.ticket); err != nil {
			return 0, err
		}
	}
	if !s.readAll {
		s.ranges = append(s.ranges, r)
		s.boundReads()
	}
	return len(s.ranges) - 1, nil
}

func (s *txState) boundReads() {
	if len(s.reads)+len(s.ranges) > s.db.cfg.MaxTxReads {
		s.readAll = true
		s.reads, s.ranges = nil, append(s.ranges[:0], keyRange{ticket: "\x00"})
	}
}

// Put sets key to value. The transaction keeps value: the caller must not modify it afterwards.
func (tx Tx) Put(key string, value []byte) error {
	return tx.write(write{key: tx.prefix + key, value: value})
}

// Delete removes key. It is no error if key does not exist.
func (tx Tx) Delete(key string) error {
	return tx.write(write{key: tx.prefix + key, deleted: true})
}

func (tx Tx) write(w write) error {
	s := tx.s
	w.wrap = tx.wrap
	if err := s.mayWrite(); err != nil {
		return err
	}
	if may := s.db.cfg.MayWrap; w.wrap && !w.deleted && may != nil {
		if err := may(); err != nil {
			return err
		}
	}
	switch max := s.db.cfg.MaxKeyBytes; {
	case len(w.key) == 0 || w.key[0] == 0 || w.key[0] == 0xff:
		return errs.New(errs.Invalid, "storage keys are not empty and begin with neither 0x00 nor 0xff")
	case s.db.cfg.KeyLen(w.key) > max:
		return errs.New(errs.TooLarge, "the storage key has %d bytes, the most is %d", s.db.cfg.KeyLen(w.key), max)
	}
	if old := s.writes.find(w.key); old != nil {
		s.bytes += len(w.value) - len(old.value)
		*old = w
	} else {
		s.writes.add(w)
		s.bytes += len(w.key) + len(w.value)
	}
	return s.checkSize()
}

// DeletePrefix removes all keys that begin with prefix, "" meaning all that tx can see.
func (tx Tx) DeletePrefix(prefix string) error {
	s := tx.s
	if err := s.mayWrite(); err != nil {
		return err
	}
	prefix = tx.prefix + prefix
	s.bytes += len(prefix) - s.writes.removePrefix(prefix)
	s.deleted = append(s.deleted, prefix)
	return s.checkSize()
}

func (s *txState) mayWrite() error {
	switch {
	case s.ended:
		return ErrClosed
	case !s.writable:
		return ErrReadOnly
	case s.stale:
		return ErrConflict
	}
	return nil
}

func (s *txState) checkSize() error {
	if n := len(s.writes.list) + len(s.deleted); n > s.db.cfg.MaxTxOps {
		return errs.New(errs.TooLarge, "one request writes more than %d keys", s.db.cfg.MaxTxOps)
	}
	if s.bytes > s.db.cfg.MaxTxBytes {
		return errs.New(errs.TooLarge, "one request writes more than %d bytes", s.db.cfg.MaxTxBytes)
	}
	return nil
}

// OnCommit has fn run after this attempt's commit has become durable and before Update returns. When the attempt fails
// fn is dropped. If Update's context ends while it waits, fn still runs when the commit is durable.
func (tx Tx) OnCommit(fn func()) {
	if tx.s.writable && !tx.s.ended {
		tx.s.hooks = append(tx.s.hooks, fn)
	}
}

func (s *txState) runHooks() {
	for _, fn := range s.hooks {
		fn()
	}
}

// end lets go of the snapshot. Using the Tx afterwards is an error.
func (s *txState) end() {
	if s.ended {
		return
	}
	s.ended = true
	s.gen.release()
	for _, g := range s.old {
		g.release()
	}
	if u := s.updateState; u != nil && u.listed {
		s.db.mu.Lock()
		s.db.running.remove(u)
		s.db.mu.Unlock()
	}
}

// IsNotFound reports whether err says that a key does not exist.
func IsNotFound(err error) bool { return errors.Is(err, ErrNotFound) }

// A writeSet holds one write for each key. Small sets are searched, larger ones indexed.
type writeSet struct {
	list  []write
	index map[string]int // nil while the list is short
}

const indexedFrom = 16

func (ws *writeSet) find(key string) *write {
	if ws.index != nil {
		if i, ok := ws.index[key]; ok {
			return &ws.list[i]
		}
		return nil
	}
	for i := range ws.list {
		if ws.list[i].key == key {
			return &ws.list[i]
		}
	}
	return nil
}

// has reports whether find finds something.
func (ws *writeSet) has(key []byte) bool {
	if ws.index != nil {
		_, ok := ws.index[string(key)]
		return ok
	}
	for i := range ws.list {
		if ws.list[i].key == string(key) {
			return true
		}
	}
	return false
}

func (ws *writeSet) add(w write) {
	if ws.list == nil {
		ws.list = make([]write, 0, 4)
	}
	ws.list = append(ws.list, w)
	if ws.index != nil {
		ws.index[w.key] = len(ws.list) - 1
	} else if len(ws.list) > indexedFrom {
		ws.reindex()
	}
}

func (ws *writeSet) reindex() {
	ws.index = make(map[string]int, 2*len(ws.list))
	for i := range ws.list {
		ws.index[ws.list[i].key] = i
	}
}

// removePrefix drops the writes under prefix and returns their bytes.
func (ws *writeSet) removePrefix(prefix string) (bytes int) {
	kept := ws.list[:0]
	for _, w := range ws.list {
		if strings.HasPrefix(w.key, prefix) {
			bytes += len(w.key) + len(w.value)
		} else {
			kept = append(kept, w)
		}
	}
	if len(kept) != len(ws.list) {
		clear(ws.list[len(kept):])
		ws.list = kept
		if ws.index != nil {
			ws.reindex()
		}
	}
	return bytes
}
