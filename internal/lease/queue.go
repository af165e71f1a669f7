// Package lease keeps what must one day end: an index of due times in storage,
// and the leases on secrets.
//
// Expiry is data, not timers: an ordered index <time>/<what>. The active node
// looks at its head, sleeps until it is due, and handles what is due with a few
// workers. Nothing is loaded when a node unseals, and a million leases cost no
// memory.
package lease

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"arca/internal/storage"
)

// QueuePrefix is where the index lies in the store.
const QueuePrefix = "x/"

// An Item is something that becomes due.
type Item struct {
	Due  time.Time // millisecond precision, rounded up
	Kind string    // who handles it: one short word
	NS   string    // namespace id
	ID   string
}

func (it Item) key() string {
	ms := it.Due.Add(time.Millisecond - 1).UnixMilli()
	var room [16]byte
	due := strconv.AppendInt(room[:0], ms, 16)
	b := make([]byte, 0, 128)
	b = append(b, QueuePrefix...)
	for range 12 - len(due) { // so that the order of the keys is that of the times
		b = append(b, '0')
	}
	b = append(b, due...)
	for _, part := range [...]string{it.Kind, it.NS, it.ID} {
		b = append(append(b, '/'), part...)
	}
	return string(b)
}

func parseItem(key string) (Item, error) {
	parts := strings.SplitN(key, "/", 4) // behind the prefix
	if len(parts) != 4 {
		return Item{}, fmt.Errorf("bad due-time key %q", key)
	}
	ms, err := strconv.ParseInt(parts[0], 16, 64)
	if err != nil {
		return Item{}, fmt.Errorf("bad due-time key %q: %w", key, err)
	}
	return Item{Due: time.UnixMilli(ms).UTC(), Kind: parts[1], NS: parts[2], ID: parts[3]}, nil
}

// Items goes over all items in the order of time.
func Items(tx storage.Tx) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for key, err := range tx.Sub(QueuePrefix).Keys("", "") {
			if err != nil {
				yield(Item{}, err)
				return
			}
			if it, err := parseItem(key); err == nil && !yield(it, nil) { // one that is not ours is nothing to count
				return
			}
		}
	}
}

// Schedule adds an item within a transaction over the whole store.
func Schedule(tx storage.Tx, it Item) error { return tx.Put(it.key(), []byte{1}) }

// Cancel removes an item.
func Cancel(tx storage.Tx, it Item) error { return tx.Delete(it.key()) }

// A Handler does what is due for one kind. It runs within one transaction with
// other items of its kind, and must remove or reschedule every item itself, so
// that nothing is handled twice or forgotten.
type Handler func(ctx context.Context, tx storage.Tx, it Item) error

// Config of a Queue.
type Config struct {
	DB       *storage.DB
	Handlers map[string]Handler
	// Failed, by kind, decides what becomes of an item that could not be handled,
	// in a transaction of its own. Without it the item stands back a while.
	Failed  map[string]func(ctx context.Context, tx storage.Tx, it Item, cause error) error
	Log     *slog.Logger
	Batch   int // items per transaction; 0: 64
	Workers int // 0: 2
	// Requests is how many requests have ever come in; while they come, the queue
	// gives way to them. Without it, it never does.
	Requests func() uint64
	MaxSleep time.Duration // 0: one hour
}

// A Queue runs what is due. Run it on the active node only.
type Queue struct {
	cfg  Config
	wake chan struct{}
	mu   sync.Mutex
	next time.Time // when the sleeper will look again; guarded by mu
	soon time.Time // the earliest item scheduled since the last look began, zero for none; guarded by mu

	pace pace // of Run alone
}

// NewQueue makes a queue; it starts with Run.
func NewQueue(cfg Config) *Queue {
	if cfg.Batch == 0 {
		cfg.Batch = 64
	}
	if cfg.Workers == 0 {
		cfg.Workers = 2
	}
	if cfg.MaxSleep == 0 {
		cfg.MaxSleep = time.Hour
	}
	q := &Queue{cfg: cfg, wake: make(chan struct{}, 1)}
	q.pace.requests = cfg.Requests
	return q
}

// Run handles due items until ctx ends, and returns when all work has stopped.
func (q *Queue) Run(ctx context.Context) {
	cancel := q.cfg.DB.Watch(QueuePrefix, func(c storage.Change) { q.changed(c.Keys) })
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		case <-timer.C:
		}
		q.begin()
		wait, err := q.pass(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failures = min(failures+1, 6)
			wait = time.Second << failures
			q.cfg.Log.Error("expiry pass", "error", err, "retry_in", wait)
		} else {
			failures = 0
		}
		timer.Reset(q.sleep(wait, err == nil))
	}
}

// begin notes that a look at the index begins: what is scheduled from now on
// it may miss.
func (q *Queue) begin() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.soon = time.Time{}
}

// sleep notes when the sleeper will look again, and says how long that is. What
// was scheduled while it looked counts unless it must wait for an error to pass.
func (q *Queue) sleep(wait time.Duration, heed bool) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if heed && !q.soon.IsZero() {
		wait = max(0, min(wait, time.Until(q.soon)))
	}
	q.next = time.Now().Add(wait)
	return wait
}

// changed wakes the sleeper when something is due before it would look.
func (q *Queue) changed(keys []string) {
	var first time.Time
	for _, k := range keys {
		it, err := parseItem(strings.TrimPrefix(k, QueuePrefix))
		if err == nil && (first.IsZero() || it.Due.Before(first)) {
			first = it.Due
		}
	}
	if first.IsZero() {
		return
	}
	q.mu.Lock()
	early := first.Before(q.next)
	if q.soon.IsZero() || first.Before(q.soon) {
		q.soon = first
	}
	q.mu.Unlock()
	if early {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// pass handles all that is due and says how long to sleep.
func (q *Queue) pass(ctx context.Context) (time.Duration, error) {
	for {
		start := time.Now()
		most, yield := q.cfg.Batch*q.cfg.Workers, q.pace.yield(start)
		if yield {
			most = max(1, q.cfg.Batch/gentler)
		}
		batch, wait, err := q.due(ctx, most)
		if err != nil || len(batch) == 0 {
			return wait, err
		}
		q.pace.late = start.Sub(batch[0].Due) >= patience
		if err := q.handle(ctx, batch); err != nil {
			return 0, err
		}
		if yield && !q.pace.rest(ctx, start, batch[0].Due) {
			return 0, ctx.Err()
		}
	}
}

// due reads the head of the index: up to most items that are due now, or how
// long until then.
func (q *Queue) due(ctx context.Context, most int) (batch []Item, wait time.Duration, err error) {
	wait = q.cfg.MaxSleep
	now := time.Now()
	err = q.cfg.DB.View(ctx, func(tx storage.Tx) error {
		batch = batch[:0]
		for key, err := range tx.Sub(QueuePrefix).Keys("", "") {
			if err != nil {
				return err
			}
			it, err := parseItem(key)
			if err != nil { // not ours, and no reason to stop
				q.cfg.Log.Error("due item", "error", err)
				continue
			}
			if it.Due.After(now) {
				wait = min(wait, it.Due.Sub(now))
				return nil
			}
			if batch = append(batch, it); len(batch) == most {
				return nil
			}
		}
		return nil
	})
	return batch, wait, err
}

// handle splits a batch among the workers.
func (q *Queue) handle(ctx context.Context, batch []Item) error {
	var group sync.WaitGroup
	var mu sync.Mutex
	var firstErr error
	for len(batch) > 0 {
		part := batch[:min(len(batch), q.cfg.Batch)]
		batch = batch[len(part):]
		group.Go(func() {
			if err := q.handleAll(ctx, part); err != nil {
				mu.Lock()
				if firstErr == nil {
					firstErr = err
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return firstErr
}

// handleAll runs one transaction over items; when one of them fails, each gets
// a transaction of its own, so that it holds up no other.
func (q *Queue) handleAll(ctx context.Context, items []Item) error {
	err := q.cfg.DB.Update(ctx, func(tx storage.Tx) error {
		for _, it := range items {
			if err := q.one(ctx, tx, it); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	if len(items) == 1 {
		return q.postpone(ctx, items[0], err)
	}
	var last error
	for _, it := range items {
		if err := q.handleAll(ctx, []Item{it}); err != nil {
			last = err
		}
	}
	return last
}

// retryAfter is how long an item that cannot be handled stands back, so that
// it does not hold up those behind it.
const retryAfter = 10 * time.Second

func (q *Queue) postpone(ctx context.Context, it Item, cause error) error {
	q.cfg.Log.Error("due item", "kind", it.Kind, "namespace", it.NS, "error", cause)
	return q.cfg.DB.Update(ctx, func(tx storage.Tx) error {
		if failed := q.cfg.Failed[it.Kind]; failed != nil {
			return failed(ctx, tx, it, cause)
		}
		if err := Cancel(tx, it); err != nil {
			return err
		}
		it := it
		it.Due = time.Now().Add(retryAfter)
		return Schedule(tx, it)
	})
}

func (q *Queue) one(ctx context.Context, tx storage.Tx, it Item) error {
	h := q.cfg.Handlers[it.Kind]
	if h == nil {
		return fmt.Errorf("no handler for due items of kind %q", it.Kind)
	}
	return h(ctx, tx, it)
}
