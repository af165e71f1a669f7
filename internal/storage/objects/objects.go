// Package objects keeps storage in a service that keeps objects and knows conditional writes: S3 (package s3) and the like, or Consul.
//
// There lies a log, an object for each batch, and now and then the whole state. A node has a copy of the state in a
// local folder, from which it reads; it is made anew at each start. A batch is written by one request that succeeds only if there is
// no object of its number yet, so that there is one history, and who has not read all of it cannot write.
// DESIGN.md beside this file tells how.
package objects

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
	"arca/internal/storage/remote"
)

const (
	// MaxOps and MaxBytes bound a batch: a request takes long, and many may share it.
	MaxOps   = 8192
	MaxBytes = 8 << 20

	// LockName is a file in a driver's folder that is locked while the driver is open.
	LockName = "LOCK"

	maxRecordBytes = 80 << 20 // above the largest transaction
	claims         = 16       // attempts at the next number, while another writes

	// For so long after a node has seen the end of the log, by the service's clock, it knows without asking that no number
	// behind it was used and removed again. Removal waits a good deal longer than that.
	sureFor     = 5 * time.Minute
	removeAfter = time.Hour
	// checkEvery is how often a node that renews its claim looks whether another has made one.
	checkEvery = time.Minute
	// followEvery is how often one that does not write reads what another has written.
	followEvery = 20 * time.Second
	// lookEvery is how often it does so for those who read from it, and lookTime how long they wait for that.
	lookEvery = time.Second
	lookTime  = 2 * time.Second
	renewWait = time.Second // of a renewal, for a write under way
	// leadTime is how long after its last renewal a node counts as the one that writes: it may have been displaced, and nobody tells.
	leadTime = 30 * time.Second
)

// A Store keeps objects. What it has stored it finds at once, and lists.
type Store interface {
	// PutNew stores an object unless there is one of that key: see IsTaken. As requests are repeated after errors, what is found may be what
	// an earlier attempt of the same call has stored. It tells when that was by the service's clock; the zero time if it does not know.
	PutNew(ctx context.Context, key string, body []byte) (at time.Time, err error)
	// Get fetches an object of at most most bytes. See IsNotFound.
	Get(ctx context.Context, key string, most int64) ([]byte, error)
	// Open begins to fetch an object of any length.
	Open(ctx context.Context, key string) (io.ReadCloser, error)
	// Upload begins to store an object of any length, which may replace one.
	Upload(ctx context.Context, key string) Upload
	// Page lists the objects whose keys begin with prefix and come after another key, in order; "" is all.
	Page(ctx context.Context, prefix, after string) (Page, error)
	// Delete removes an object; one that does not exist is none the less. Those of a folder are removed in the order of their keys.
	Delete(ctx context.Context, key string) error

	// IsNotFound, IsTaken and IsRefused tell errors apart: that there is no such object; that PutNew found one, or another's request to make
	// one; and that certainly nothing was written, by no attempt.
	IsNotFound(err error) bool
	IsTaken(err error) bool
	IsRefused(err error) bool
}

// An Upload is an object that is being stored: it is there after Commit, whole, and not before. Commit or Abort end it.
type Upload interface {
	io.Writer
	Commit() error
	Abort() error
}

// An Object is one of a listing.
type Object struct {
	Key          string
	Size         int64     // bytes; 0 if the service does not tell
	LastModified time.Time // by the service's clock; the zero time if it does not tell
}

// A Page is a part of a listing, in order of the keys.
type Page struct {
	Objects []Object
	More    bool
	Now     time.Time // by the service's clock; the zero time if it does not tell
}

// Config of a Driver.
type Config struct {
	Store Store
	Path  string // what the keys of all objects begin with
	Dir   string // folder for the local copy; it is made, and removed by Close
	Log   *slog.Logger
	// Records and Bytes are how much is written between two states, at least; 0 is what is good for S3.
	Records uint64
	Bytes   int64

	// For tests; the zero values are good.
	now   func() time.Time
	often time.Duration // how often one that does not write follows
}

// A Driver is a remote.Driver. It is safe for concurrent use.
type Driver struct {
	cfg     Config
	prefix  string // empty, or Path with a slash
	ctx     context.Context
	cancel  context.CancelFunc
	lock    io.Closer
	working sync.WaitGroup

	copies sync.RWMutex // held for writing while another copy takes the place of this one
	db     *pebble.Store
	dir    string // of db
	number int    // of the copy

	writing atomic.Pointer[sight] // what the write under way knows
	leads   atomic.Pointer[sight] // the claim of this driver that is the last one, and when it was made or renewed

	turn  turn      // held by who extends the log or follows it; guards what is below
	at    uint64    // number of the last record that is in the copy
	tip   tag       // its tag
	last  claim     // the last claim up to there
	seen  time.Time // of the last record, by the service's clock
	gone  time.Duration
	sure  time.Time // when it was known that there is nothing behind at
	known time.Time // the same by the service's clock

	state  saved  // the newest that is stored, and up to which record
	behind saved  // how many records were read or written since
	saving bool   // a state is under way
	failed uint64 // at, when saving failed last
}

// A turn is a mutex for which nobody waits longer than a context says.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errs.New(errs.Unavailable, "the copy of what is stored is being brought up to date: %w", context.Cause(ctx))
	}
}

func (t turn) give() { <-t }

// A sight is that a claim was the last one in the log, for all that was known then.
type sight struct {
	id string
	at time.Time
}

type saved struct {
	n     uint64
	bytes int64
}

var _ remote.Driver = (*Driver)(nil)

// Open reads what is stored.
func Open(ctx context.Context, cfg Config) (*Driver, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.now == nil {
		cfg.now = time.Now
	}
	if cfg.often == 0 {
		cfg.often = followEvery
	}
	cfg.Records, cfg.Bytes = cmp.Or(cfg.Records, minRecords), cmp.Or(cfg.Bytes, minSavedBytes)
	d := &Driver{cfg: cfg, turn: make(turn, 1)}
	if cfg.Path != "" {
		d.prefix = cfg.Path + "/"
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	if err := vfs.Default.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, errs.New(errs.Unavailable, "make a folder for the local copy: %w", err)
	}
	var err error
	if d.lock, err = vfs.Default.Lock(vfs.Default.PathJoin(cfg.Dir, LockName)); err != nil {
		return nil, errs.New(errs.Unavailable, "lock the folder for the local copy: %w", err)
	}
	err = d.probe(ctx)
	if err == nil {
		err = d.reset(func(string) error { return nil })
	}
	if err == nil {
		err = d.follow(ctx) // nobody else knows of d yet
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.working.Go(d.keepUp)
	return d, nil
}

// probe makes sure that the service keeps the promise that all rests upon: a conditional write replaces nothing.
func (d *Driver) probe(ctx context.Context) error {
	for range 2 {
		_, err := d.cfg.Store.PutNew(ctx, d.prefix+probeName, []byte("This object is there so that arca can find out whether conditional writes work.\n"))
		if err != nil {
			if d.cfg.Store.IsTaken(err) {
				return nil
			}
			return err
		}
	}
	return errs.New(errs.Unsupported, "the service does not know conditional writes: it replaced an object that was there; arca cannot keep its storage there safely")
}

// Close implements remote.Lock.
func (d *Driver) Close() error {
	d.cancel()
	d.working.Wait()
	_ = d.turn.take(context.Background()) // who has it ends soon
	defer d.turn.give()
	d.copies.Lock()
	defer d.copies.Unlock()
	if d.lock == nil {
		return nil
	}
	var err error
	if d.db != nil {
		err = d.db.Close()
		d.db = nil
	}
	err = errors.Join(err, vfs.Default.RemoveAll(d.cfg.Dir), d.lock.Close())
	d.lock = nil
	return err
}

// reset puts a new copy in the place of the present one. fill writes its files into a folder that does not exist yet; or
// it leaves that, for an empty copy.
func (d *Driver) reset(fill func(dir string) error) error {
	d.number++
	dir := vfs.Default.PathJoin(d.cfg.Dir, fmt.Sprint("copy-", d.number))
	err := fill(dir)
	var db *pebble.Store
	if err == nil {
		// Not durable: it does not outlive the process.
		db, err = pebble.Open(pebble.Config{Dir: dir, NoSync: true, Logger: d.cfg.Log})
	}
	if err != nil {
		return errors.Join(err, vfs.Default.RemoveAll(dir))
	}
	d.copies.Lock()
	old, oldDir := d.db, d.dir
	d.db, d.dir = db, dir
	d.copies.Unlock()
	if old == nil {
		return nil
	}
	return errors.Join(old.Close(), vfs.Default.RemoveAll(oldDir))
}

// Get implements remote.Driver.
func (d *Driver) Get(ctx context.Context, key string) ([]byte, error) {
	d.look(ctx)
	d.copies.RLock()
	defer d.copies.RUnlock()
	if d.db == nil {
		return nil, storage.ErrClosed
	}
	return d.db.Get(ctx, key)
}

// look reads what another has written, where this one does not write, if that was not done a moment ago: a node that is still
// sealed asks whether the store is initialised by now. Where that takes too long, what is here counts.
func (d *Driver) look(ctx context.Context) {
	if d.leading() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	if d.turn.take(ctx) != nil {
		return
	}
	defer d.turn.give()
	if !d.leading() && !d.knows(lookEvery) {
		if err := d.follow(ctx); err != nil {
			d.cfg.Log.Debug("follow the log", "error", err)
		}
	}
}

// Page implements remote.Driver.
func (d *Driver) Page(ctx context.Context, p remote.Page) (list []storage.Entry, err error) {
	d.copies.RLock()
	defer d.copies.RUnlock()
	if d.db == nil {
		return nil, storage.ErrClosed
	}
	return page(ctx, d.db, p)
}

func page(ctx context.Context, db *pebble.Store, p remote.Page) (list []storage.Entry, err error) {
	it, err := db.Scan(ctx, storage.ScanOptions{From: p.From, KeysOnly: p.KeysOnly})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for len(list) < p.Limit && it.Next() {
		e := storage.Entry{Key: string(it.Key())}
		if p.To != "" && e.Key >= p.To {
			break
		}
		if !p.KeysOnly {
			if e.Value, err = it.Value(); err != nil {
				return nil, err
			}
		}
		list = append(list, e)
	}
	return list, it.Err()
}

// Write implements remote.Driver.
func (d *Driver) Write(ctx context.Context, fence string, w *remote.Write, note func(storage.Before)) error {
	if err := d.turn.take(ctx); err != nil {
		return err
	}
	defer d.turn.give()
	if fence == "" || d.last.ID != fence {
		return remote.ErrFenced
	}
	d.writing.Store(&sight{fence, d.sure})
	defer d.writing.Store(nil)
	ops := batchOf(w)
	if err := d.db.Room(ops.EncodedSize()); err != nil { // the copy must be able to follow
		return err
	}
	body := encodeBatch(d.tip, fence, ops)
	if len(body) > maxRecordBytes {
		return errs.New(errs.TooLarge, "one write has %d bytes, and a record takes at most %d", len(body), maxRecordBytes)
	}
	if err := d.extend(ctx, body); err != nil {
		return err
	}
	// It is in the log. Should the copy not follow, the next claim reads the record again.
	if note != nil {
		before, err := d.before(ctx, w)
		if err != nil {
			return fmt.Errorf("%w: %w", remote.ErrUnknown, err)
		}
		note(before)
	}
	if err := d.apply(d.at+1, &record{tag: tagOf(body), after: d.tip, kind: batchKind, fence: fence, ops: ops}, len(body), d.cfg.now()); err != nil {
		return fmt.Errorf("%w: %w", remote.ErrUnknown, err)
	}
	d.save()
	return nil
}

// before is what a write overwrites.
func (d *Driver) before(ctx context.Context, w *remote.Write) (storage.Before, error) {
	var old []storage.Entry
	for _, key := range w.Keys() {
		value, err := d.db.Get(ctx, key)
		switch {
		case storage.IsNotFound(err):
		case err != nil:
			return storage.Before{}, err
		default:
			old = append(old, storage.Entry{Key: key, Value: value})
		}
	}
	swept, lost, err := w.Swept(func(p remote.Page) ([]storage.Entry, error) { return page(ctx, d.db, p) })
	if err != nil {
		return storage.Before{}, err
	}
	return w.Noted(old, swept, lost), nil
}

// Claim implements remote.Lock.
func (d *Driver) Claim(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	if err := d.turn.take(ctx); err != nil {
		return remote.Holder{}, err
	}
	defer d.turn.give()
	made := claim{c.ID, c.Value, c.TTL}
	for range claims {
		if err := d.follow(ctx); err != nil {
			return remote.Holder{}, err
		}
		body := encodeClaim(d.tip, made)
		err := d.extend(ctx, body)
		if errors.Is(err, remote.ErrFenced) {
			continue // somebody else has written: that is to be read first
		}
		if err != nil {
			return remote.Holder{}, err
		}
		if err := d.apply(d.at+1, &record{tag: tagOf(body), after: d.tip, kind: claimKind, fence: c.ID, claim: made}, len(body), d.cfg.now()); err != nil {
			return remote.Holder{}, err
		}
		d.leads.Store(&sight{c.ID, d.cfg.now()})
		return remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}, nil
	}
	return remote.Holder{}, errs.New(errs.Unavailable, "another server writes to this storage all the time")
}

// Renew implements remote.Lock. It writes nothing, and looks now and then whether a claim is still the last one in the log. It waits for no
// write that takes long.
func (d *Driver) Renew(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	soon, cancel := context.WithTimeout(ctx, renewWait)
	err := d.turn.take(soon)
	cancel()
	if w := d.writing.Load(); err != nil && w != nil && w.id == c.ID && d.recent(w.at, checkEvery) {
		if l := d.leads.Load(); l != nil && l.id == c.ID {
			d.leads.CompareAndSwap(l, &sight{c.ID, d.cfg.now()}) // unless another's claim was read meanwhile
		}
		return remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}, nil
	}
	if err != nil {
		err = d.turn.take(ctx)
	}
	if err != nil {
		return remote.Holder{}, err
	}
	defer d.turn.give()
	if c.ID == d.last.ID && !d.knows(checkEvery) {
		if err := d.follow(ctx); err != nil {
			return remote.Holder{}, err
		}
	}
	if c.ID == d.last.ID {
		d.leads.Store(&sight{c.ID, d.cfg.now()})
		return remote.Holder{ID: c.ID, Value: c.Value, Left: c.TTL}, nil
	}
	return d.holder(), nil
}

// RenewAnew is Renew, for one who has reason to doubt that a claim of its own is still the last one: it looks now.
func (d *Driver) RenewAnew(ctx context.Context, c remote.Claim) (remote.Holder, error) {
	if err := d.turn.take(ctx); err != nil {
		return remote.Holder{}, err
	}
	d.sure = time.Time{}
	d.turn.give()
	return d.Renew(ctx, c)
}

// Release implements remote.Lock.
func (d *Driver) Release(ctx context.Context, id string) error {
	if err := d.turn.take(ctx); err != nil {
		return err
	}
	defer d.turn.give()
	if id == "" || d.last.ID != id {
		return nil
	}
	body := encodeClaim(d.tip, claim{})
	err := d.extend(ctx, body)
	if errors.Is(err, remote.ErrFenced) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.apply(d.at+1, &record{tag: tagOf(body), after: d.tip, kind: claimKind}, len(body), d.cfg.now())
}

// Holder implements remote.Lock.
func (d *Driver) Holder(ctx context.Context) (remote.Holder, error) {
	if err := d.turn.take(ctx); err != nil {
		return remote.Holder{}, err
	}
	defer d.turn.give()
	if err := d.follow(ctx); err != nil {
		return remote.Holder{}, err
	}
	return d.holder(), nil
}

func (d *Driver) holder() remote.Holder {
	return remote.Holder{ID: d.last.ID, Value: d.last.Value, Left: max(0, d.last.TTL-d.gone)}
}

// knows reports whether this node looked less than a time ago whether there is anything behind at. It trusts no single
// clock: one stands while the machine sleeps, the other may be set.
func (d *Driver) knows(within time.Duration) bool { return d.recent(d.sure, within) }

// leading reports whether this node writes, for all it knows.
func (d *Driver) leading() bool {
	l := d.leads.Load()
	return l != nil && d.recent(l.at, leadTime)
}

func (d *Driver) recent(at time.Time, within time.Duration) bool {
	now := d.cfg.now()
	wall := now.Round(0).Sub(at.Round(0))
	return !at.IsZero() && now.Sub(at) < within && wall >= 0 && wall < within
}

// keepUp follows the log as long as another writes it, so that a claim has little to read: there may be a state to fetch,
// which takes longer than a claim waits.
func (d *Driver) keepUp() {
	for {
		t := time.NewTimer(d.cfg.often)
		select {
		case <-t.C:
		case <-d.ctx.Done():
			t.Stop()
			return
		}
		if d.turn.take(d.ctx) != nil {
			return
		}
		if !d.leading() {
			if err := d.follow(d.ctx); err != nil && d.ctx.Err() == nil {
				d.cfg.Log.Warn("follow the log", "error", err)
			}
		}
		d.turn.give()
	}
}
