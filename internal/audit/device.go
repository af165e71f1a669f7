package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/errs"
)

// Bounds of what waits for one device.
const (
	maxQueued      = 8192
	maxQueuedBytes = 32 << 20
	maxBatchBytes  = 1 << 20 // of one write
	firstBackoff   = 100 * time.Millisecond
	maxBackoff     = time.Second
)

var (
	errFull    = errs.New(errs.Unavailable, "too many records wait for the audit device")
	errBlocked = errs.New(errs.Unavailable, "the audit device is blocked")
	errGone    = errs.New(errs.Unavailable, "the audit device was removed")
	errTimeout = errs.New(errs.Unavailable, "no audit device took the record in time")
)

// An entry is one record, whichever devices it was given to.
type entry struct {
	left atomic.Int32 // devices that may still take it
	void atomic.Bool  // its request was refused: it should not be written any more
	done chan error   // of capacity 1: nil from the first device that took it, or the last one's error
}

func (e *entry) answer(err error) {
	if err != nil && e.left.Add(-1) > 0 {
		return
	}
	select {
	case e.done <- err:
	default: // the first answer counts
	}
}

// An item is an entry in the queue of one device.
type item struct {
	*entry
	line line
	late bool // the device was blocked, so that the entry does not wait for it
}

// A device is an enabled audit device: a queue and the goroutine that writes.
type device struct {
	selection
	row  row
	enc  *encoder
	sink sink
	// chain ties the lines to one another; nil when that is not wanted.
	chain *chained
	log   *slog.Logger
	wait  time.Duration
	freed *crowd // those who wait for room; nil is nobody

	wake   chan struct{} // of capacity 1
	ended  chan struct{} // closed when the writer has ended
	busy   atomic.Int64  // when the operation under way began, in Unix nanoseconds; 0: none
	alarm  atomic.Bool   // its trouble is in the log
	missed atomic.Int64  // records that it did not take since then

	mu     sync.Mutex
	queue  []item
	bytes  int          // of the lines in queue and on their way
	count  int          // of these lines
	closed bool         // no more may come
	reload []chan error // to be told that the files are open again

	// Of the writer.
	open     bool
	last     error // of the attempt to open
	retry    time.Time
	backoff  time.Duration
	batch    []item
	lines    [][]byte
	previous []item // memory of the queue before
}

func newDevice(r row, s sink, enc *encoder, log *slog.Logger, wait time.Duration) *device {
	return &device{
		row: r, sink: s, enc: enc, wait: wait, log: log.With("device", r.Path, "type", r.Type),
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

func (d *device) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// blocked reports whether the operation under way takes longer than requests wait.
func (d *device) blocked(now time.Time) bool {
	since := d.busy.Load()
	return since != 0 && now.UnixNano()-since > int64(d.wait)
}

// offer gives the device a record. The entry has its answer later, or at once
// if the device cannot take it. It reports false, and has done nothing, if the
// queue is full and the device is at work, so that there will be room. shared is of
// the devices that the record is given to at a time; nil where there is only one.
func (d *device) offer(e *entry, r *Record, headers []header, shared *draft) bool {
	err := d.room()
	if errors.Is(err, errFull) && !d.blocked(time.Now()) {
		return false
	}
	if err != nil {
		d.refuse(e, err)
		return true
	}
	it := item{entry: e, line: d.enc.encode(r, headers, shared), late: d.blocked(time.Now())}
	if err := d.push(it); err != nil {
		d.enc.free(it.line)
		e.answer(err)
		return true
	}
	d.poke()
	if it.late {
		d.refuse(e, errBlocked)
	}
	return true
}

// refuse says that the device does not take an entry.
func (d *device) refuse(e *entry, err error) {
	d.miss(err)
	e.answer(err)
}

func (d *device) room() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return errGone
	case d.count >= maxQueued || d.bytes >= maxQueuedBytes:
		return errFull
	}
	return nil
}

func (d *device) push(it item) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errGone
	}
	d.queue = append(d.queue, it)
	d.count++
	d.bytes += len(*it.line.b)
	return nil
}

// miss counts a record that the device does not have, and says so once.
func (d *device) miss(err error) {
	d.missed.Add(1)
	if !d.alarm.Swap(true) {
		d.log.Error("audit device does not take records", "error", err)
	}
}

// run writes what comes until the device is closed and its queue is empty.
func (d *device) run() {
	defer close(d.ended)
	for range d.wake {
		d.reopen()
		// Requests that are ready to run hand in their records first, so that one
		// write has them all.
		runtime.Gosched()
		for d.take() {
			for len(d.batch) > 0 {
				d.write()
			}
		}
		d.mu.Lock()
		over := d.closed && len(d.queue) == 0
		d.mu.Unlock()
		if over {
			break
		}
	}
	if err := d.sink.close(); err != nil {
		d.log.Warn("close audit device", "error", err)
	}
}

// reopen serves those who wait in reloaded.
func (d *device) reopen() {
	d.mu.Lock()
	waiting := d.reload
	d.reload = nil
	d.mu.Unlock()
	if len(waiting) == 0 {
		return
	}
	d.busy.Store(time.Now().UnixNano())
	err := d.sink.reload()
	d.busy.Store(0)
	for _, done := range waiting {
		done <- err
	}
}

// reloaded has the writer open its files again before it writes the next
// record, and waits for that, but not for long.
func (d *device) reloaded() error {
	done := make(chan error, 1)
	d.mu.Lock()
	d.reload = append(d.reload, done)
	d.mu.Unlock()
	d.poke()
	t := time.NewTimer(d.wait)
	defer t.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("audit device %s: %w; the old file stays in use", d.row.Path, err)
		}
	case <-d.ended:
	case <-t.C:
		return fmt.Errorf("audit device %s: %w", d.row.Path, errBlocked)
	}
	return nil
}

// take moves what waits into batch.
func (d *device) take() bool {
	clear(d.previous)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == 0 {
		return false
	}
	d.batch, d.queue, d.previous = d.queue, d.previous[:0], d.queue
	return true
}

// write writes the first part of batch, up to the bound of one write.
func (d *device) write() {
	size := 0
	d.lines = d.lines[:0]
	n := 0
	for n < len(d.batch) && (n == 0 || size < maxBatchBytes) {
		it := &d.batch[n]
		if it.void.Load() {
			if n > 0 {
				break // it is skipped at the start of the next part
			}
			d.finish(1, nil)
			return
		}
		d.lines = append(d.lines, *it.line.b)
		size += len(*it.line.b)
		n++
	}
	d.busy.Store(time.Now().UnixNano())
	taken, err := d.deliver()
	d.busy.Store(0)
	clear(d.lines)
	if taken > 0 {
		d.recovered()
	}
	d.finish(taken, nil)
	if err == nil {
		return
	}
	failed := 1
	if !d.open {
		failed = n - taken
	}
	d.missed.Add(int64(failed - 1))
	d.miss(err)
	d.finish(failed, err)
}

// deliver gives lines to the sink, and opens it where needed.
func (d *device) deliver() (taken int, err error) {
	if err := d.ready(); err != nil {
		return 0, err
	}
	taken, broken, err := d.send(d.lines)
	if broken {
		d.open = false
	}
	return taken, err
}

// send gives lines to the sink, which is open, tied to one another where that is
// wanted.
func (d *device) send(lines [][]byte) (taken int, broken bool, err error) {
	if d.chain == nil {
		return d.sink.write(lines)
	}
	if !d.chain.begun {
		if err := d.chain.begin(d.sink); err != nil {
			return 0, false, err
		}
	}
	taken, broken, err = d.sink.write(d.chain.tie(lines))
	d.chain.took(taken)
	return taken, broken, err
}

// ready opens the sink, unless that has failed just now.
func (d *device) ready() error {
	if d.open {
		return nil
	}
	now := time.Now()
	if now.Before(d.retry) {
		return d.last
	}
	if d.last = d.sink.open(); d.last != nil {
		d.backoff = min(max(2*d.backoff, firstBackoff), maxBackoff)
		d.retry = time.Now().Add(d.backoff)
		return d.last
	}
	d.open = true
	return nil
}

// recovered notes that a line was taken.
func (d *device) recovered() {
	d.backoff = 0
	if d.alarm.Load() && !d.blocked(time.Now()) {
		d.log.Warn("audit device takes records again", "missed", d.missed.Swap(0))
		d.alarm.Store(false)
	}
}

// finish answers the first n items of batch and lets go of them.
func (d *device) finish(n int, err error) {
	size := 0
	for i := range d.batch[:n] {
		it := &d.batch[i]
		size += len(*it.line.b)
		if !it.late {
			it.answer(err)
		}
		d.enc.free(it.line)
	}
	d.batch = d.batch[n:]
	d.mu.Lock()
	d.bytes -= size
	d.count -= n
	d.mu.Unlock()
	d.freed.wake()
}

// shut ends the device: what waits may still be written for grace. It returns
// false if the writer hangs even so; it then ends when the operating system
// lets it.
func (d *device) shut(grace time.Duration) bool {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.poke()
	if d.await(grace) {
		return true
	}
	d.sink.interrupt()
	return d.await(grace)
}

func (d *device) await(limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-d.ended:
		return true
	case <-t.C:
		return false
	}
}
