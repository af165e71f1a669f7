// Package mirror copies a backend into another one while it is written: first all of it, part by part, then again what has
// changed in the parts that were copied, and at last, while writes wait for a moment, the rest.
//
// What is copied is always what the source has just then, never a value that was handed on: so only keys are noted, each
// once, however often it is written, and a part that is copied twice does no harm. These hold:
//
//  1. A key is noted when its Apply is over, before the next begins. So what a look at the source does not show yet is noted
//     after that look.
//  2. The noted keys are taken after a part was copied, and those behind it are left out: they will be copied with a later
//     part, from a later look.
//  3. Deleted prefixes are done before the noted keys are copied, so that what was made anew below one is there in the end:
//     it was noted later than the prefix.
//  4. While a Copy switches, no Apply begins. Then what is noted is all that is missing.
//  5. What others write to a store that is shared is not noted. So the owner of the Source tells it before others may
//     write (Others), and a Copy that was begun before has failed. What a Switch's finish writes to the source with the
//     context of that time (Term) is written before others are, or not at all.
package mirror

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
)

// Bounds of one batch, unless one entry alone is larger; of a part, in entries; and of what is noted at a time.
const (
	batchOps   = 100
	batchBytes = 512 << 10
	partOps    = 64 * batchOps
	maxNoted   = 1 << 20
	notedBytes = 64 << 20
)

const (
	applyTime  = time.Minute            // for one batch
	restTime   = 100 * time.Millisecond // between two looks at what is noted
	firstRetry = time.Second
	lastRetry  = 15 * time.Second
	retries    = 12 // some two minutes

	switchTime = 10 * time.Second // for what is missing while writes wait
	near       = 2000             // keys that may be missing then
	nearRounds = 20
)

// A Source is a backend whose writes can be followed. It also holds all who write to one Apply at a time, as backends
// demand.
type Source struct {
	storage.Backend

	mu   lock  // held during an Apply, and while a Copy has writes wait
	copy *Copy // guarded by mu: it is told of what is written; nil for none
	left error // guarded by mu: why nothing is written any more

	switching atomic.Bool // a Copy is at its last step

	state sync.Mutex
	term  context.Context    //nolint:containedctx // guarded by state; of the time in which nobody else writes
	over  context.CancelFunc // guarded by state; ends term
}

// A lock is a mutex for which one can wait with something else.
type lock chan struct{}

func (l lock) Lock()   { l <- struct{}{} }
func (l lock) Unlock() { <-l }

// within is Lock, unless ctx ends before.
func (l lock) within(ctx context.Context) error {
	if ctx.Err() != nil {
		return brokenOff(ctx)
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return brokenOff(ctx)
	}
}

func brokenOff(ctx context.Context) error {
	return errs.New(errs.Unavailable, "broken off: %w", context.Cause(ctx))
}

var _ storage.Shower = (*Source)(nil)

// NewSource returns b, which must be used through it alone.
func NewSource(b storage.Backend) *Source {
	s := &Source{Backend: b, mu: make(lock, 1)}
	s.term, s.over = context.WithCancel(context.Background())
	return s
}

// Apply implements storage.Backend.
func (s *Source) Apply(ctx context.Context, b storage.Batch) error {
	return s.noted(b, func() error { return s.Backend.Apply(ctx, b) })
}

// ApplyShow implements storage.Shower.
func (s *Source) ApplyShow(ctx context.Context, b storage.Batch, show func() error) error {
	return s.noted(b, func() error { return storage.ApplyShow(ctx, s.Backend, b, show) })
}

// Others says that others may write to the store from now on, until they do no more. A Copy that is under way has failed.
// Writes that wait for a Copy that switches fail: who takes the right to write from this node may wait for them, and the
// switch for what comes after that. It waits for nothing.
func (s *Source) Others() {
	s.state.Lock()
	defer s.state.Unlock()
	s.over()
}

// Leads says that others write no more, and who uses the Source does again.
func (s *Source) Leads() {
	s.state.Lock()
	defer s.state.Unlock()
	if s.term.Err() != nil {
		s.term, s.over = context.WithCancel(context.Background())
	}
}

func (s *Source) present() context.Context {
	s.state.Lock()
	defer s.state.Unlock()
	return s.term
}

// Switching reports whether a Copy is at its last step, for which all writes wait.
func (s *Source) Switching() bool { return s.switching.Load() }

var errCut = errs.New(errs.NotActive, "this node is not the active one any more: %w", storage.ErrNotApplied)

// enter takes mu for a write.
func (s *Source) enter() error {
	select {
	case s.mu <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.mu <- struct{}{}:
		return nil
	case <-s.present().Done():
		return errCut
	}
}

// Return lets a store that a Copy has left be written again: it was found not to be marked as one that was left.
func (s *Source) Return() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = nil
}

func (s *Source) noted(b storage.Batch, apply func() error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.left != nil {
		return s.left
	}
	err := apply()
	if s.copy != nil && !errors.Is(err, storage.ErrNotApplied) {
		s.copy.note(b)
	}
	return err
}

// A Copy is the way of a source's content into a target.
type Copy struct {
	src  *Source
	to   storage.Backend
	last string          // this key is left to who switches
	size int             // entries of a part
	term context.Context //nolint:containedctx // Source.term when it began

	turn   lock   // held by whoever copies; taken before Source.mu
	cursor string // guarded by turn: all before this key was copied
	most   string // guarded by turn: the last key that was handed to the target, by a part that may have failed
	all    bool   // guarded by turn: and all behind it
	over   bool   // guarded by turn: it has switched, or failed

	runs atomic.Pointer[context.Context] // of Run; nil before

	mu       sync.Mutex // taken after Source.mu
	keys     map[string]struct{}
	prefixes map[string]struct{}
	bytes    int
	tooMany  bool

	kick      chan struct{}
	copied    atomic.Int64
	following atomic.Bool
}

// Copy begins to note what is written; Run copies. All but the key last is copied, which Switch's finish is to write. There is
// one Copy at a time.
func (s *Source) Copy(to storage.Backend, last string) (*Copy, error) {
	c := &Copy{src: s, to: to, last: last, size: partOps, term: s.present(), turn: make(lock, 1), kick: make(chan struct{}, 1), keys: map[string]struct{}{}, prefixes: map[string]struct{}{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.left != nil:
		return nil, s.left
	case s.copy != nil:
		return nil, errs.New(errs.Conflict, "this storage is being copied already")
	}
	s.copy = c
	return c, nil
}

// note is called with Source.mu.
func (c *Copy) note(b storage.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tooMany {
		return
	}
	for i := range b {
		to := c.keys
		if b[i].Kind == storage.DeletePrefix {
			to = c.prefixes
		}
		if _, known := to[b[i].Key]; !known {
			to[b[i].Key] = struct{}{}
			c.bytes += len(b[i].Key)
		}
	}
	if len(c.keys)+len(c.prefixes) > maxNoted || c.bytes > notedBytes {
		c.tooMany, c.keys, c.prefixes = true, nil, nil
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Copied counts the entries that were written to the target. Behind counts the keys that are known to be missing there.
func (c *Copy) Copied() int64 { return c.copied.Load() }

// Behind counts the keys that have changed since they were copied.
func (c *Copy) Behind() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.keys) + len(c.prefixes)
}

// Following reports whether all was copied once.
func (c *Copy) Following() bool { return c.following.Load() }

// Run copies all, and then what changes, until ctx ends, Switch is through, or it fails, which is final.
func (c *Copy) Run(ctx context.Context) error {
	defer c.detach()
	c.runs.Store(&ctx)
	wait, failed := firstRetry, 0
	for {
		over, done, err := c.round(ctx)
		switch {
		case over:
			return nil
		case ctx.Err() != nil:
			return brokenOff(ctx)
		case err != nil && errs.Is(err, errs.Unavailable) && failed < retries:
			failed++
			if !pause(ctx, wait) {
				continue
			}
			wait = min(2*wait, lastRetry)
		case err != nil:
			return err
		default:
			wait, failed = firstRetry, 0
			if done {
				select {
				case <-c.kick:
					pause(ctx, restTime)
				case <-ctx.Done():
				}
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *Copy) detach() {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.over = true
	c.src.mu.Lock()
	defer c.src.mu.Unlock()
	if c.src.copy == c {
		c.src.copy = nil
	}
}

// Term ends before others can write to the source: it is done when Source.Others returns. A backend does not begin what
// comes with a context that is done by then.
func (c *Copy) Term() context.Context { return c.term }

// Whole returns an error when others may have written to the source since the Copy began.
func (c *Copy) Whole() error {
	if c.term.Err() != nil {
		return errOthers
	}
	return nil
}

var errOthers error = errs.New(errs.NotActive, "another node may have written meanwhile: empty the target, and begin anew")

// round copies a part, if there is one left, and what has changed in the others; done says that there is none.
func (c *Copy) round(ctx context.Context) (over, done bool, err error) { return c.roundFor(ctx, ctx) }

// roundFor is round for one who waits for it until asked ends.
func (c *Copy) roundFor(asked, ctx context.Context) (over, done bool, err error) {
	if err := c.turn.within(asked); err != nil {
		return false, false, err
	}
	defer c.turn.Unlock()
	if c.over {
		return true, true, nil
	}
	if err := c.Whole(); err != nil {
		return false, false, err
	}
	if !c.all {
		if err := c.part(ctx); err != nil {
			return false, false, err
		}
	}
	if err := c.catchUp(ctx); err != nil {
		return false, false, err
	}
	if c.all {
		c.following.Store(true)
	}
	return false, c.all, nil
}

// part copies the entries from the cursor on, up to a number, as they are just now.
func (c *Copy) part(ctx context.Context) (err error) {
	it, err := c.src.Scan(ctx, storage.ScanOptions{From: c.cursor})
	if err != nil {
		return reading(err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	w := writer{c: c, ctx: ctx}
	last := ""
	for n := 0; it.Next(); n++ {
		if n == c.size {
			if err := w.flush(); err != nil {
				return err
			}
			c.cursor = last + "\x00"
			return nil
		}
		last = strings.Clone(string(it.Key()))
		c.most = max(c.most, last)
		value, err := it.Value()
		if err != nil {
			return reading(err)
		}
		if err := w.add(storage.Op{Kind: storage.Put, Key: last, Value: value}); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return reading(err)
	}
	if err := w.flush(); err != nil {
		return err
	}
	c.all = true
	return nil
}

// catchUp does to the target what is noted. On an error that is noted again.
func (c *Copy) catchUp(ctx context.Context) error {
	c.mu.Lock()
	keys, prefixes, tooMany := c.keys, c.prefixes, c.tooMany
	if !tooMany {
		c.keys, c.prefixes, c.bytes = map[string]struct{}{}, map[string]struct{}{}, 0
	}
	c.mu.Unlock()
	if tooMany {
		return errs.New(errs.Failed, "more is written than the target takes: over %d keys have changed since they were copied", maxNoted)
	}
	err := c.redo(ctx, keys, prefixes)
	if err != nil {
		again := make(storage.Batch, 0, len(keys)+len(prefixes))
		for p := range prefixes {
			again = append(again, storage.Op{Kind: storage.DeletePrefix, Key: p})
		}
		for k := range keys {
			again = append(again, storage.Op{Kind: storage.Delete, Key: k})
		}
		c.note(again)
	}
	return err
}

func (c *Copy) redo(ctx context.Context, keys, prefixes map[string]struct{}) error {
	w := writer{c: c, ctx: ctx}
	for p := range prefixes {
		if err := w.add(storage.Op{Kind: storage.DeletePrefix, Key: p}); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !c.all && key >= c.cursor && key > c.most {
			break // a part to come has it
		}
		op := storage.Op{Kind: storage.Put, Key: key}
		var err error
		op.Value, err = c.src.Get(ctx, key)
		switch {
		case storage.IsNotFound(err):
			op.Kind = storage.Delete
		case err != nil:
			return reading(err)
		}
		if err := w.add(op); err != nil {
			return err
		}
	}
	return w.flush()
}

// Switch has writes wait, copies what is missing, and calls finish. When that returns gone, the source takes no write any
// more: they all fail with why, which must match storage.ErrNotApplied. Else they go on, and so does the Copy. It is refused as long as not all
// was copied once.
//
// Whoever asked for it may go away (ctx ends): then it ends, too, with the round that is under way, but for what was begun: a write to the
// target ends with Run's context, and with its own time.
func (c *Copy) Switch(ctx context.Context, why error, finish func(ctx context.Context) (gone bool, err error)) error {
	if !c.following.Load() {
		return errs.New(errs.Precondition, "not all is copied yet")
	}
	steady, done := c.during(ctx)
	defer done()
	if err := c.comeNear(ctx, steady); err != nil {
		return err
	}
	if err := c.turn.within(ctx); err != nil {
		return err
	}
	defer c.turn.Unlock()
	if c.over {
		return errs.New(errs.Precondition, "the copy has ended")
	}
	c.src.mu.Lock()
	defer c.src.mu.Unlock()
	brief, cancel := context.WithTimeout(steady, switchTime)
	defer cancel()
	if err := c.catchUp(brief); err != nil {
		return err
	}
	if err := c.Whole(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return brokenOff(ctx)
	}
	c.src.switching.Store(true)
	defer c.src.switching.Store(false)
	gone, err := finish(ctx)
	if gone {
		c.src.left, c.src.copy, c.over = why, nil, true
		select {
		case c.kick <- struct{}{}: // Run ends
		default:
		}
	}
	return err
}

// during returns a context with ctx's values that ends with Run's.
func (c *Copy) during(ctx context.Context) (context.Context, func()) {
	steady, cancel := context.WithCancel(context.WithoutCancel(ctx))
	run := c.runs.Load()
	if run == nil {
		return steady, cancel
	}
	stop := context.AfterFunc(*run, cancel)
	return steady, func() { stop(); cancel() }
}

// comeNear copies while writes go on, until little is missing, or asked ends.
func (c *Copy) comeNear(asked, steady context.Context) error {
	for range nearRounds {
		if _, _, err := c.roundFor(asked, steady); err != nil {
			return err
		}
		if c.Behind() <= near {
			return nil
		}
	}
	return errs.New(errs.Unavailable, "the target does not follow: %d keys are behind; try again when less is written", c.Behind())
}

// A writer puts operations together to batches of the target.
type writer struct {
	c     *Copy
	ctx   context.Context //nolint:containedctx // of one round
	b     storage.Batch
	bytes int
}

func (w *writer) add(op storage.Op) error {
	if op.Key == w.c.last && op.Kind != storage.DeletePrefix {
		return nil
	}
	if n := len(op.Key) + len(op.Value); len(w.b) == batchOps || len(w.b) > 0 && w.bytes+n > batchBytes {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.b = append(w.b, op)
	w.bytes += len(op.Key) + len(op.Value)
	return nil
}

func (w *writer) flush() error {
	if len(w.b) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(w.ctx, applyTime)
	defer cancel()
	if err := w.c.to.Apply(ctx, w.b); err != nil {
		return errs.New(errs.KindOf(err), "write the target: %w", err)
	}
	w.c.copied.Add(int64(len(w.b)))
	w.b, w.bytes = w.b[:0], 0
	return nil
}

func reading(err error) error { return errs.New(errs.KindOf(err), "read the source: %w", err) }
