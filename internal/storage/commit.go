package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"arca/internal/errs"
)

// A commit is what one Update wrote, from the moment it was checked.
type commit struct {
	seq     uint64
	writes  []write  // one for each key
	deleted []string // prefixes, removed before the writes
	bytes   int
	hooks   []func()
	batch   *batch
	left    atomic.Bool // whoever sets it first, the waiting Update or the flush, runs the hooks or leaves them to the other
}

// A batch is the commits of one Apply.
type batch struct {
	commits []*commit
	ops     int
	bytes   int
	err     error         // set before done is closed
	done    chan struct{} // closed when durable or failed
}

// enqueue checks s against the commits since its snapshot and queues its writes. It returns errRetry on a conflict. It
// lets go of s's ticket in either case but a conflict, so that the next Update can build on this one.
func (db *DB) enqueue(s *txState) (c *commit, contested string, err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if err := db.admit(s); err != nil {
		return nil, "", err
	}
	if key, found := db.history.conflict(s.seq, s.reads, s.ranges); found {
		return nil, key, errRetry
	}
	db.last++
	c = &commit{seq: db.last, writes: s.writes.list, deleted: s.deleted, bytes: s.bytes, hooks: s.hooks}
	db.record(c)
	db.pending += c.bytes
	db.push(c)
	db.running.remove(s.updateState)
	s.hold.releaseLocked()
	if !db.flushing {
		db.flushing = true
		go db.flush() // ends when the queue is empty; Close waits for that
	}
	return c, "", nil
}

// record has the history and the marks know a commit. mu is held.
func (db *DB) record(c *commit) {
	db.marks.add(c)
	db.history.add(c)
}

// admit waits, with mu released, while the queue is full or another Update commits alone.
func (db *DB) admit(s *txState) error {
	for {
		var wait chan struct{}
		switch {
		case db.err != nil:
			return db.err
		case db.solo != nil && db.solo != s.hold:
			wait = db.soloDone
		case db.pending > db.cfg.MaxPendingBytes:
			if db.room == nil {
				db.room = make(chan struct{})
			}
			wait = db.room
		default:
			return nil
		}
		db.mu.Unlock()
		select {
		case <-wait:
		case <-s.ctx.Done():
		}
		db.mu.Lock()
		if err := s.ctx.Err(); err != nil {
			return errs.New(errs.Unavailable, "storage: %w", err)
		}
	}
}

// push adds c to the last batch of the queue, or to a new one.
func (db *DB) push(c *commit) {
	ops := len(c.writes) + len(c.deleted)
	var b *batch
	if n := len(db.queue); n > 0 {
		b = db.queue[n-1]
	}
	if b == nil || b.ops+ops > db.cfg.MaxBatchOps || b.bytes+c.bytes > db.cfg.MaxBatchBytes {
		b = &batch{done: make(chan struct{})}
		db.queue = append(db.queue, b)
	}
	b.commits = append(b.commits, c)
	b.ops += ops
	b.bytes += c.bytes
	c.batch = b
}

// wait returns when c is durable or has failed, or ctx ends.
func (c *commit) wait(ctx context.Context) error {
	select {
	case <-c.batch.done:
	case <-ctx.Done():
		if c.left.CompareAndSwap(false, true) {
			return uncertain(ctx.Err())
		}
		<-c.batch.done
	}
	if c.batch.err == nil {
		c.runHooks()
	}
	return c.batch.err
}

// keep has caches keep what was written through them.
func (c *commit) keep() {
	for i := range c.writes {
		if w := &c.writes[i]; w.keep != nil {
			w.keep(c.seq)
			w.keep = nil // the history lives on
		}
	}
}

func (c *commit) runHooks() {
	for _, fn := range c.hooks {
		fn()
	}
}

func uncertain(err error) error {
	return errs.With(errs.Unavailable, fmt.Errorf("%w: %w", ErrUncertain, err))
}

// flush applies the queue batch by batch until it is empty.
func (db *DB) flush() {
	var ops Batch
	for {
		db.mu.Lock()
		if len(db.queue) == 0 {
			db.flushing = false
			db.idle.Broadcast()
			db.mu.Unlock()
			return
		}
		b := db.queue[0]
		db.queue = db.queue[1:]
		db.mu.Unlock()

		ops = b.appendOps(ops[:0])
		err := ApplyShow(context.Background(), db.backend, ops, func() error { return db.publish(b.commits, b.bytes) })
		clear(ops)
		if err != nil {
			db.failed(b, err)
			continue
		}
		db.stats.batches.Add(1)
		db.stats.commits.Add(uint64(len(b.commits)))
		b.finish()
	}
}

// appendOps appends what the batch writes. Where no prefix is deleted, which would have to stay before what is written
// after it, the keys are put in order, as neighbours cost the backend less; the writes of one key keep theirs.
func (b *batch) appendOps(ops Batch) Batch {
	sortable := len(b.commits) > 1
	for _, c := range b.commits {
		for _, p := range c.deleted {
			ops = append(ops, Op{Kind: DeletePrefix, Key: p})
			sortable = false
		}
		for i := range c.writes {
			w := &c.writes[i]
			if w.deleted {
				ops = append(ops, Op{Kind: Delete, Key: w.key})
			} else {
				ops = append(ops, Op{Kind: Put, Key: w.key, Value: w.value, Wrap: w.wrap})
			}
		}
	}
	if sortable {
		slices.SortStableFunc(ops, func(x, y Op) int { return strings.Compare(x.Key, y.Key) })
	}
	return ops
}

// finish tells those who wait; for those who no longer do it runs the hooks.
func (b *batch) finish() {
	for _, c := range b.commits {
		if !c.left.CompareAndSwap(false, true) && b.err == nil {
			c.runHooks()
		}
	}
	close(b.done)
}

// publish makes the state after the commits the newest durable one: caches drop what changed, then Views see it, then
// the watchers are told.
func (db *DB) publish(commits []*commit, bytes int) error {
	db.publishing.Lock()
	defer db.publishing.Unlock()
	snap, err := db.backend.Snapshot(context.Background())
	if err != nil {
		return err
	}
	db.invalidate(commits)
	seq := commits[len(commits)-1].seq
	db.gens.Add(1)
	g := newGeneration(db, seq, snap)

	db.mu.Lock()
	old := db.gen.Swap(g)
	db.trim(seq)
	db.pending -= bytes
	if db.room != nil && db.pending <= db.cfg.MaxPendingBytes {
		close(db.room)
		db.room = nil
	}
	db.mu.Unlock()

	old.release()
	for _, c := range commits {
		c.keep()
	}
	db.feed.publish(commits)
	return nil
}

// failed ends b, whose Apply failed, and all that is queued behind it, which may have built on it.
func (db *DB) failed(b *batch, err error) {
	var snap Snapshot
	certain := errors.Is(err, ErrNotApplied)
	if certain {
		var serr error
		if snap, serr = db.backend.Snapshot(context.Background()); serr != nil {
			err, certain = serr, false
		}
	}
	db.mu.Lock()
	following := errors.Is(db.err, ErrNotActive) // the owner knows of the failure, and waits for it
	rest := db.queue
	db.queue, db.pending = nil, 0
	if db.room != nil {
		close(db.room)
		db.room = nil
	}
	var old *generation
	if certain {
		old = db.rollback(snap)
	} else if db.err == nil || errors.Is(db.err, ErrClosed) {
		db.err = errs.New(errs.Unavailable, "storage failed and takes no more writes until it is opened again: %w", err)
	}
	db.mu.Unlock()
	if old != nil {
		old.release()
	}

	if b.err = err; !certain {
		b.err = uncertain(err)
	}
	b.finish()
	for _, r := range rest {
		r.err = errs.New(errs.Unavailable, "nothing was written, because an earlier write failed: %w", err)
		r.finish()
	}
	if !certain && !following && db.cfg.OnFail != nil {
		db.cfg.OnFail(err)
	}
}

// rollback takes back all pending commits. It forgets the history up to a new sequence number, so that every Update that
// is running and may have read them finds itself in conflict.
func (db *DB) rollback(snap Snapshot) (old *generation) {
	db.last++
	db.epoch++
	db.history.reset(db.last)
	db.gens.Add(1)
	return db.gen.Swap(newGeneration(db, db.last, snap))
}
