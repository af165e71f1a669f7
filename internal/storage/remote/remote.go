// Package remote is what stores in a database have in common: a Store is a storage.Backend over a Driver, which knows one
// kind of database.
//
// One node writes at a time. It has taken the fence, an entry in the same database that each of its transactions checks, so
// that a node whose time is over cannot commit any more, whatever it believes. Where several nodes share the data, a Lock
// with a lease says whose turn it is; it may lie in another database. The node that has it may answer reads from its
// caches while the lease lasts, counted from before it was asked for.
//
// A Store can be read from New on; it may write between Events.Lead and Events.Follow, which it calls from Start to Stop. After
// a commit whose outcome is not known it takes the fence anew, which waits for what is under way, and begins from what
// is in the database then: a lost connection needs nobody's hand.
//
// Snapshots are made of what each commit overwrites, kept while somebody reads the state before (storage.WithNotedSnapshots).
// DESIGN.md beside this file tells how.
package remote

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/clock"
)

// A Driver reads and writes one kind of database. It is safe for concurrent use.
type Driver interface {
	// Lock is the fence. Its Claims always steal. One that was lost with its connection (ErrLost) may yet come, however late; so none is made twice.
	Lock
	// Get returns the value of key or storage.ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)
	// Page returns what is there in the order of keys; less than Limit entries means that there are no more.
	Page(ctx context.Context, p Page) ([]storage.Entry, error)
	// Write does all of w durably, or nothing. In the same transaction it sees to it that fence is the id of the last Claim,
	// else it returns ErrFenced. If note is not nil it is called before others can see anything of it. An error that
	// wraps ErrUnknown leaves open what happened; after any other error nothing has, nor will.
	Write(ctx context.Context, fence string, w *Write, note func(storage.Before)) error
}

// A Lock is held by one node at a time, for as long as its lease.
type Lock interface {
	// Claim takes the lock if it is free or its lease has run out, and returns who has it then.
	Claim(ctx context.Context, c Claim) (Holder, error)
	// Renew lengthens the lease of an earlier claim, even if it has run out, as long as nobody has claimed the lock or given it
	// back since, and returns who has it then. It never takes the lock: the Holder is another than c.ID, or nobody, where it is
	// not known that c.ID has had it all the time. With ErrMoved it may be c.ID: that was at another server, as any other's claim then.
	Renew(ctx context.Context, c Claim) (Holder, error)
	// Release gives it back, if it is id's.
	Release(ctx context.Context, id string) error
	// Holder returns who has it; the zero Holder if nobody does.
	Holder(ctx context.Context) (Holder, error)
	Close() error
}

// A Claim is a wish for a Lock.
type Claim struct {
	ID    string        // of this claim, or of the one that is renewed; no two claims have the same
	After string        // the id of an earlier claim of ours, which this one may replace; "" for none
	Value string        // what others are told
	TTL   time.Duration // of the lease
	Steal bool          // take it from whoever has it; a renewal never does
}

// A Holder is who has a Lock.
type Holder struct {
	ID, Value string
	Left      time.Duration // of its lease, by the database's clock
}

// A Page is a part of a scan.
type Page struct {
	From     string // the first key
	To       string // before which it ends; "" is none
	Limit    int
	KeysOnly bool
}

// Errors of a Driver's Write.
var (
	// ErrFenced says that another node has taken the fence.
	ErrFenced = errors.New("another node writes to this storage now")
	// ErrUnknown says that the outcome of a commit is not known.
	ErrUnknown = errors.New("the outcome is not known")
	// ErrLost says that nothing was written, and that the connection was lost or refused for good: another server may be the
	// database now, and lack what this one had acknowledged. A renewal of the fence may say so, too.
	ErrLost = errors.New("the connection was lost")
	// ErrMoved is ErrLost where the fence shows it: whoever holds it has claimed it at another server, which this one is a copy of. A later claim,
	// of whomever, may be missing.
	ErrMoved = fmt.Errorf("%w: another server is the database now", ErrLost)
)

// Moved reports whether a fence was claimed at another server than the one where it is read. "" is a server that does not tell which it is.
func Moved(claimed, here string) bool { return claimed != "" && here != "" && claimed != here }

// Config of a Store.
type Config struct {
	Driver Driver
	// Lock says whose turn it is where nodes share the data; nil where this node is alone: it takes the fence from whoever
	// has it.
	Lock Lock
	Name string // of the kind of store, for messages
	// Node and Address tell other nodes of this one: its id, and host and port for other nodes.
	Node, Address string
	Log           *slog.Logger
	// TTL is the lease's; 0 is six seconds.
	TTL time.Duration
	// Poll is how often a node looks whether the lock is free; 0 is half a second.
	Poll time.Duration
	// Pause is how long a node that stepped down leaves it to others; 0 is five seconds.
	Pause time.Duration
	// Clock measures leases; nil is the machine's.
	Clock *clock.Clock
}

const (
	defaultTTL   = 6 * time.Second
	defaultPoll  = 500 * time.Millisecond
	defaultPause = 5 * time.Second
	retryPause   = 250 * time.Millisecond
	grace        = time.Second      // for a commit under way, when a node ceases to lead
	askTime      = 5 * time.Second  // for a claim
	writeTime    = 30 * time.Second // for a commit
	sweepTime    = 10 * time.Minute // for a commit that deletes by prefix
	readTime     = 30 * time.Second
	fenceTTL     = 15 * time.Second // after which the node that had the fence counts as gone
	fenceEvery   = 5 * time.Second
)

// Events tell the owner of a Store what becomes of it. They are called one at a time.
type Events struct {
	// Follow takes the right to write from this node; it returns when no Apply is under way.
	Follow func()
	// Lead gives it the right to write.
	Lead func()
	// Applied tells, before Lead, what others may have changed.
	Applied func(storage.Change) error
}

// A Store is a storage.Backend over a database. It is safe for concurrent use.
type Store struct {
	storage.Backend // with snapshots, over table

	cfg  Config
	log  *slog.Logger
	on   Events
	self string // what the ids of this store's claims begin with

	mode    sync.Mutex   // held while this node comes to lead, or ceases to
	writing atomic.Int32 // Applies under way
	began   atomic.Int64 // by now, since when there are any
	term    atomic.Pointer[term]
	leading atomic.Pointer[term] // term, once the owner knows of it

	starts  sync.Mutex
	running *running // nil while stopped; guarded by starts
	kick    chan struct{}
	again   bool // a claim of the fence was lost with its connection, and another is made at once; of who asks

	mu      sync.Mutex
	holder  peer      // who has the lock, as far as this node knows
	trouble error     // why this node cannot lead; nil where another does
	down    bool      // the storage does not answer
	before  string    // id of this node's last claim
	taken   string    // before, once it is known that another server has taken the fence from this one, which is alone
	paused  time.Time // until when this node leaves the lock to others
	// yielding is set while a step-down has not given back the lock, nor another taken it.
	yielding bool
}

type running struct {
	ctx     context.Context //nolint:containedctx // from Start to Stop
	cancel  context.CancelFunc
	work    sync.WaitGroup
	settled chan struct{} // closed when this node has asked for the lock once
}

// A term is the time in which this node has the fence.
type term struct {
	id     string
	ctx    context.Context //nolint:containedctx // of the time; its Apply ends with it
	cancel context.CancelFunc
	until  atomic.Int64  // of the lease, by Store.now
	fenced int64         // when the fence was renewed last, likewise; of who holds the term
	lapsed chan struct{} // has room for one: a reader has found that the lease ran out
}

// New makes a store. It may not write before it has started.
func New(cfg Config) *Store {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	setDefault(&cfg.TTL, defaultTTL)
	setDefault(&cfg.Poll, defaultPoll)
	setDefault(&cfg.Pause, defaultPause)
	if cfg.Clock == nil {
		cfg.Clock = clock.New()
	}
	s := &Store{cfg: cfg, log: cfg.Log, self: NewID()[:16], kick: make(chan struct{}, 1)}
	s.Backend = storage.WithNotedSnapshots(table{s})
	return s
}

func setDefault(d *time.Duration, to time.Duration) {
	if *d == 0 {
		*d = to
	}
}

// Bind says whom to tell. It must be called before Start.
func (s *Store) Bind(on Events) { s.on = on }

// Alone reports whether this node shares the data with no other.
func (s *Store) Alone() bool { return s.cfg.Lock == nil }

// Snapshot implements storage.Backend. What is read in a snapshot counts only while the term lasts in which it was taken: after
// that others may have written.
func (s *Store) Snapshot(ctx context.Context) (storage.Snapshot, error) {
	t := s.term.Load()
	snap, err := s.Backend.Snapshot(ctx)
	if err != nil || t == nil {
		return snap, err
	}
	return &guarded{snap, s, t}, nil
}

// Close implements storage.Backend.
func (s *Store) Close() error {
	s.Stop()
	err := s.Backend.Close()
	if s.cfg.Lock != nil {
		err = errors.Join(err, s.cfg.Lock.Close())
	}
	return err
}

// A guarded snapshot refuses what it has read when the term was over by then.
type guarded struct {
	storage.Snapshot
	s *Store
	t *term
}

// Get implements storage.Reader.
func (g *guarded) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := g.Snapshot.Get(ctx, key)
	if over := g.s.over(g.t); over != nil {
		return nil, over
	}
	return value, err
}

// Scan implements storage.Reader.
func (g *guarded) Scan(ctx context.Context, o storage.ScanOptions) (storage.Iterator, error) {
	it, err := g.Snapshot.Scan(ctx, o)
	if err != nil {
		return nil, err
	}
	return &guardedIterator{Iterator: it, g: g}, nil
}

type guardedIterator struct {
	storage.Iterator
	g    *guarded
	over error
}

func (i *guardedIterator) check(ok bool) bool {
	if i.over == nil {
		i.over = i.g.s.over(i.g.t)
	}
	return ok && i.over == nil
}

// Next implements storage.Iterator.
func (i *guardedIterator) Next() bool { return i.check(i.Iterator.Next()) }

// Seek implements storage.Iterator.
func (i *guardedIterator) Seek(key []byte) bool { return i.check(i.Iterator.Seek(key)) }

// Value implements storage.Iterator.
func (i *guardedIterator) Value() ([]byte, error) {
	value, err := i.Iterator.Value()
	if !i.check(true) {
		return nil, i.over
	}
	return value, err
}

// Err implements storage.Iterator.
func (i *guardedIterator) Err() error {
	if i.over != nil {
		return i.over
	}
	return i.Iterator.Err()
}

// over says why what was read in a term does not count, if it does not.
func (s *Store) over(t *term) error {
	if s.term.Load() == t && s.now() < t.until.Load() {
		return nil
	}
	select {
	case t.lapsed <- struct{}{}:
	default:
	}
	return s.refusal()
}

// refusal is why this node does not answer.
func (s *Store) refusal() error {
	s.mu.Lock()
	why := s.trouble
	s.mu.Unlock()
	switch {
	case why != nil && s.Alone():
		return errs.New(errs.Unavailable, "%w", why)
	case why != nil:
		return errs.New(errs.NotActive, "%w", why)
	case s.Alone():
		return errs.New(errs.Unavailable, "this server is not connected with its storage yet: try again in a moment")
	}
	return errNoLeader
}

var errNoLeader error = errs.New(errs.NotActive, "this node is not the active one: try again in a moment")

// errVoid refuses an Apply: nothing was written.
var errVoid = errs.New(errs.NotActive, "this node is no longer the active one: %w", storage.ErrNotApplied)

// Apply implements storage.Backend.
func (s *Store) Apply(ctx context.Context, b storage.Batch) error {
	t := s.term.Load()
	if t == nil {
		return errVoid
	}
	if err := ctx.Err(); err != nil { // looked at after the term: whose time has ended writes nothing in the next one
		return fmt.Errorf("%w: %w", storage.ErrNotApplied, kinded(err))
	}
	w := Plan(b)
	limit := writeTime
	if len(w.Prefixes) > 0 {
		limit = sweepTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	if s.writing.Add(1) == 1 {
		s.began.Store(s.now())
	}
	defer s.writing.Add(-1)
	err := s.Backend.Apply(context.WithValue(ctx, planKey{}, &planned{w, t.id}), b)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrUnknown): // also of one that another node has carried out, which has the fence by now
		s.log.Warn("the outcome of a commit is not known: the node begins anew from what is in the database", "error", err)
		if errors.Is(err, ErrFenced) {
			s.setTrouble(errs.New(errs.NotActive, "%w", ErrFenced))
		}
		s.leave(t)
		return errs.New(errs.Unavailable, "%s: %w", s.cfg.Name, err)
	case errors.Is(err, ErrFenced):
		s.setTrouble(errs.New(errs.NotActive, "%w", ErrFenced))
		s.leave(t)
		return errVoid
	case errors.Is(err, ErrLost):
		s.lost(err)
		s.leave(t)
	}
	return fmt.Errorf("%w: %w", storage.ErrNotApplied, kinded(err))
}

// leave ends a term from within its Apply, which the owner waits for.
func (s *Store) leave(t *term) {
	s.starts.Lock()
	defer s.starts.Unlock()
	if s.running == nil { // Stop ends it
		return
	}
	s.running.work.Go(func() {
		s.end(t)
		s.Poke()
	})
}

type planKey struct{}

type planned struct {
	w     *Write
	fence string
}

// table is the Driver as a storage.Noting.
type table struct{ s *Store }

// Get implements storage.Reader.
func (t table) Get(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	value, err := t.s.cfg.Driver.Get(ctx, key)
	return value, kinded(err)
}

// Scan implements storage.Reader.
func (t table) Scan(ctx context.Context, o storage.ScanOptions) (storage.Iterator, error) {
	return newIterator(ctx, t.s.cfg.Driver, o), nil
}

// ApplyNoting implements storage.Noting.
func (t table) ApplyNoting(ctx context.Context, _ storage.Batch, note func(storage.Before)) error {
	p, ok := ctx.Value(planKey{}).(*planned)
	if !ok {
		return errs.New(errs.Internal, "a write goes past the store's term")
	}
	return t.s.cfg.Driver.Write(ctx, p.fence, p.w, note)
}

// Close implements storage.Noting.
func (t table) Close() error { return t.s.cfg.Driver.Close() }

// kinded gives an error of the database a kind, if it has none.
func kinded(err error) error {
	var e *errs.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return errs.New(errs.Unavailable, "storage: %w", err)
}

// NewID is the id of a claim, which no other has.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
