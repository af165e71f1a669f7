package storage

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"arca/internal/errs"
)

// Config sets a DB's bounds. The zero value is good.
type Config struct {
	MaxBatchOps     int // operations in one Apply, unless one transaction alone has more; default 128
	MaxBatchBytes   int // key and value bytes in one Apply, likewise; default 512 kB
	MaxPendingBytes int // bytes waiting for Apply, beyond which Updates wait; default 16 MB
	MaxTxOps        int // writes in one transaction; default 65,536
	MaxTxBytes      int // key and value bytes written in one transaction; default 64 MB
	MaxTxReads      int // reads noted exactly in one Update, beyond which it counts as having read all; default 16,384
	MaxKeyBytes     int // length of a key, by KeyLen; default 8,192
	HistoryCommits  int // commits kept to check Updates against; default 1,024
	HistoryBytes    int // their bytes; default 4 MB
	ValueCacheBytes int // values kept in memory as they were read; default 12 MB, negative for none

	// MayWrap says why what a wrapped view puts (Tx.Wrapped) cannot be wrapped at present: such a write fails before it is
	// committed, with others that have nothing to do with it. Nil is no error, ever.
	MayWrap func() error

	// KeyLen counts a key's length as the backend does; nil is len.
	KeyLen func(key string) int

	// OnFail is called once, without locks held, when the DB fails closed because the outcome of an Apply is not known.
	// Reads go on from the last durable state; to write again, close the DB and open another on the backend.
	OnFail func(error)
}

func (c Config) withDefaults() Config {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&c.MaxBatchOps, 128)
	set(&c.MaxBatchBytes, 512<<10)
	set(&c.MaxPendingBytes, 16<<20)
	set(&c.MaxTxOps, 1<<16)
	set(&c.MaxTxBytes, 64<<20)
	set(&c.MaxTxReads, 1<<14)
	set(&c.MaxKeyBytes, 8<<10)
	if c.KeyLen == nil {
		c.KeyLen = func(key string) int { return len(key) }
	}
	if c.ValueCacheBytes == 0 {
		c.ValueCacheBytes = 12 << 20
	}
	set(&c.HistoryCommits, 1<<10)
	set(&c.HistoryBytes, 4<<20)
	return c
}

// A DB gives transactions over a Backend. It is safe for concurrent use.
type DB struct {
	backend Backend
	cfg     Config

	gen   atomic.Pointer[generation] // the newest durable state; nil when closed
	gens  sync.WaitGroup             // one for each generation not yet released
	hot   atomic.Int32               // tickets that exist; lets reads skip the look-up
	stats stats
	feed  feed
	marks *marks

	derived derived
	kept    kept
	values  *Cache[[]byte] // values in clear that are read often; nil when switched off
	shared  sync.Map       // *Shared[T] → *Cache[T]
	sharing sync.Mutex     // held by who makes one

	publishing sync.Mutex // held by whoever moves gen forward: flush or Applied

	mu       sync.Mutex
	err      error   // set when failed or closed: no Update starts
	last     uint64  // sequence number of the newest commit, durable or pending
	epoch    uint64  // counts the failures after which pending commits were taken back
	history  history // recent commits, durable and pending
	running  running // Updates that have not been checked yet
	queue    []*batch
	flushing bool
	pending  int           // bytes in queue and in flight
	room     chan struct{} // closed when pending shrinks; nil if nobody waits
	tickets  map[string]*ticket
	solo     *hold         // the Update that commits alone, if any
	soloDone chan struct{} // closed when solo ends
	idle     sync.Cond     // signalled when flushing becomes false
}

// Open makes a DB over b. The caller keeps b and closes it after the DB. When the backend cannot be read, the first
// transaction says so.
func Open(b Backend, cfg Config) *DB {
	db := &DB{backend: b, cfg: cfg.withDefaults(), tickets: map[string]*ticket{}, marks: newMarks()}
	db.idle.L = &db.mu
	db.history.index = map[string]*write{}
	db.derived.entries = map[string]*derivedEntry{}
	if db.cfg.ValueCacheBytes > 0 {
		db.values = NewCache(db, db.cfg.ValueCacheBytes, func(_ string, value []byte) ([]byte, int, error) {
			return value, len(value), nil
		})
	}
	snap, err := b.Snapshot(context.Background())
	if err != nil {
		snap = brokenSnapshot{err}
		db.err = err
	}
	db.gens.Add(1)
	db.gen.Store(newGeneration(db, 0, snap))
	return db
}

// View runs fn with a transaction that reads the newest durable state, which does not change while fn runs. It waits for
// nobody. The transaction must not be used after fn has returned.
func (db *DB) View(ctx context.Context, fn func(tx Tx) error) error {
	g := db.acquire()
	if g == nil {
		return ErrClosed
	}
	s := &txState{db: db, ctx: ctx, gen: g, seq: g.seq}
	defer s.end()
	return fn(Tx{s: s})
}

// Update runs fn with a transaction that reads and writes, and commits what it wrote if fn returns nil. When Update
// returns nil all of that is durable. When a commit that came between changed what fn read, fn runs again from the start:
// it must not act on anything but the transaction. It must not call Update.
//
// When ctx ends or the backend fails after the commit was queued, the error matches ErrUncertain.
func (db *DB) Update(ctx context.Context, fn func(tx Tx) error) error {
	h := hold{db: db}
	defer h.release()
	for n := 1; ; n++ {
		contested, err := db.attempt(ctx, fn, &h)
		if err != errRetry && err != errLost { //nolint:errorlint // private sentinels that never leave this file
			return err
		}
		db.stats.conflicts.Add(1)
		if err := h.prepare(ctx, n, contested); err != nil {
			return err
		}
	}
}

// UpdateOnce is Update for an fn that acts outside the transaction: fn is never run twice. When a commit that came
// between changed what fn read, nothing is written and the error matches ErrConflict.
func (db *DB) UpdateOnce(ctx context.Context, fn func(tx Tx) error) error {
	h := hold{db: db}
	defer h.release()
	_, err := db.attempt(ctx, fn, &h)
	if err == errRetry { //nolint:errorlint // as above
		db.stats.conflicts.Add(1)
		return ErrConflict
	}
	if err == errLost { //nolint:errorlint // as above
		return errs.New(errs.Unavailable, "storage: a commit this request had read failed")
	}
	return err
}

// Close lets no new transaction start, waits until the pending commits are durable and the running transactions have
// ended. It does not close the backend.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.err == nil || errors.Is(db.err, ErrNotActive) {
		db.err = ErrClosed
	}
	for db.flushing {
		db.idle.Wait()
	}
	g := db.gen.Swap(nil)
	db.mu.Unlock()
	if g != nil {
		g.release()
	}
	db.gens.Wait()
	return nil
}

// Err returns nil while the DB accepts writes, else why it does not.
func (db *DB) Err() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.err
}

var (
	errRetry error = errs.New(errs.Internal, "storage: conflict")
	errLost  error = errs.New(errs.Internal, "storage: what was read is not there any more")
)

// attempt runs fn once. When a conflict stood against it, it returns errRetry and the key or range contested; errLost when
// it wrote nothing, and what it read was that of a commit that failed.
func (db *DB) attempt(ctx context.Context, fn func(tx Tx) error, h *hold) (contested string, err error) {
	s, err := db.begin(ctx, h)
	if err != nil {
		return "", err
	}
	defer s.end()
	err = fn(Tx{s: s})
	if s.stale {
		return s.contested, errRetry
	}
	if err != nil || len(s.writes.list) == 0 && len(s.deleted) == 0 {
		h.release()
		if werr := s.settle(); werr != nil {
			return "", werr
		}
		if err == nil {
			s.runHooks()
		}
		return "", err
	}
	c, contested, err := db.enqueue(s)
	if err != nil {
		return contested, err
	}
	s.end() // lets go of the snapshot before waiting for the disk
	return "", c.wait(ctx)
}

// begin starts an Update on the newest pending state.
func (db *DB) begin(ctx context.Context, h *hold) (*txState, error) {
	if err := ctx.Err(); err != nil {
		return nil, errs.New(errs.Unavailable, "storage: %w", err)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.err != nil {
		return nil, db.err
	}
	g := db.gen.Load()
	g.refs.Add(1)  // safe: the DB's own reference is dropped only under mu
	x := &struct { // one allocation
		txState
		updateState
		reads [16]string // room for what most read
	}{
		txState:     txState{db: db, ctx: ctx, gen: g, seq: db.last, writable: true},
		updateState: updateState{hold: h, epoch: db.epoch},
	}
	x.updateState.reads = x.reads[:0]
	x.txState.updateState = &x.updateState
	db.running.add(&x.updateState, db.last)
	return &x.txState, nil
}

// settle waits until what an Update without a commit has read is durable, so that its answer does not rest on a commit
// that may still fail. It returns errLost when that one failed.
func (s *txState) settle() error {
	if !s.built {
		return nil
	}
	db := s.db
	db.mu.Lock()
	c := db.history.at(s.seq)
	lost := s.epoch != db.epoch
	db.mu.Unlock()
	if lost {
		return errLost
	}
	if c == nil || c.batch == nil {
		return nil
	}
	select {
	case <-c.batch.done:
	case <-s.ctx.Done():
		return errs.New(errs.Unavailable, "storage: %w", s.ctx.Err())
	}
	if c.batch.err != nil {
		return errLost
	}
	return nil
}
