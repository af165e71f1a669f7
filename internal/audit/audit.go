package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/storage"
	"arca/internal/token"
	"arca/internal/version"
)

// A Kind tells a record of a request from that of its answer.
type Kind uint8

// The kinds of records.
const (
	Request Kind = iota
	Response
)

// A Record is what the hall knows about a request or its answer. Nothing in it
// is hashed yet.
type Record struct {
	Kind      Kind
	Time      time.Time
	Op        engine.Operation // create told from update
	Namespace *namespace.Namespace
	Identity  []string // policies of the entity behind Token
	Request   *engine.Request
	Mount     *mount.Entry // nil when the path has none
	Token     *token.Entry // of the caller; nil without a valid token
	// Judged says that there is a verdict; Allowed and Granting are it.
	Judged   bool
	Allowed  bool
	Granting []string         // names of the policies whose rule decided
	Response *engine.Response // of an answer without error
	Error    error
	Login    bool // on a route that gives tokens
}

// Config of a Broker. DB is needed.
type Config struct {
	DB            *storage.DB
	Log           *slog.Logger
	CompatVersion string // Vault version to report; "" for the default
	// Forbidden tells why a file must not be written; nil allows all.
	Forbidden func(path string) error
	// Node is the id of this node, where several share the store; its chains are
	// its own. Elsewhere has the active one keep how far a chain is.
	Node      string
	Elsewhere func(ctx context.Context, end End) error
	// Prefixes says that a device may begin its lines with a text (option prefix).
	Prefixes bool
	// Wait bounds how long a request waits for its record to be taken; 0: 5 s.
	Wait time.Duration
}

const (
	defaultWait = 5 * time.Second
	closeGrace  = 2 * time.Second
)

// A Broker gives each record to the enabled devices. Safe for concurrent use.
type Broker struct {
	cfg     Config
	log     *slog.Logger
	version string
	cancel  func() // ends watching the store
	set     atomic.Pointer[set]
	work    sync.WaitGroup // writers, and devices on their way out
	timers  sync.Pool
	drafts  sync.Pool
	crowd   crowd       // of those who wait for room in a device's queue
	stale   atomic.Bool // the store could not be read when it had changed

	mu   sync.Mutex // held while the set changes
	held map[string]*device
	over bool
}

// A set is what is enabled. It is immutable.
type set struct {
	devices   []*device
	headers   []header
	selective bool // not every device takes every record
}

// NewBroker opens the devices that the store names. It fails when there are
// some and none can be opened. Close must be called.
func NewBroker(ctx context.Context, cfg Config) (*Broker, error) {
	if cfg.Wait <= 0 {
		cfg.Wait = defaultWait
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{cfg: cfg, log: cfg.Log, version: "v" + version.Compat(cfg.CompatVersion) + ".builtin.vault", held: map[string]*device{}}
	b.timers.New = func() any { return time.NewTimer(cfg.Wait) }
	b.drafts.New = func() any { return &draft{} }
	b.set.Store(&set{})
	b.cancel = cfg.DB.Watch(dir, func(storage.Change) { b.follow() })
	if err := b.load(ctx); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// load opens the devices of a store that was just opened, all at the same time.
func (b *Broker) load(ctx context.Context) error {
	var rows []row
	err := b.cfg.DB.View(ctx, func(tx storage.Tx) (err error) {
		rows, err = readRows(tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("read audit devices: %w", err)
	}
	failures := make([]error, len(rows))
	devices := make([]*device, len(rows))
	var wait sync.WaitGroup
	for i, r := range rows {
		wait.Go(func() {
			d, err := b.make(r)
			if err == nil {
				err = b.try(d, nil)
			}
			if err != nil {
				failures[i] = fmt.Errorf("audit device %s: %w", r.Path, err)
				b.log.Error("audit device cannot be opened", "device", r.Path, "type", r.Type, "error", err)
				return
			}
			devices[i] = d
		})
	}
	wait.Wait()
	opened := 0
	for i, d := range devices {
		if d != nil {
			opened++
			b.hold(rows[i].ID, d)
		}
	}
	if len(rows) > 0 && opened == 0 {
		for _, r := range rows {
			b.Abandon(r.ID)
		}
		return errs.New(errs.Failed, "no audit device can be opened, so that no request could be recorded: %w", errors.Join(failures...))
	}
	b.follow()
	return nil
}

// follow brings the set in line with the store. Commits wait for it: it opens
// nothing.
func (b *Broker) follow() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	var rows []row
	var headers map[string]bool
	err := b.cfg.DB.View(context.Background(), func(tx storage.Tx) (err error) {
		if rows, err = readRows(tx); err != nil {
			return err
		}
		headers, err = Headers(tx)
		return err
	})
	if b.stale.Store(err != nil); err != nil {
		b.log.Error("read audit devices; nothing is served until they can be read", "error", err)
		return
	}
	old := b.set.Load()
	next := &set{}
	for _, r := range rows {
		d := b.find(old, r)
		next.devices = append(next.devices, d)
		next.selective = next.selective || d.filter != nil || d.fallback
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		next.headers = append(next.headers, newHeader(name, headers[name]))
	}
	b.set.Store(next)
	for _, d := range old.devices {
		if !slices.Contains(next.devices, d) {
			b.retire(d)
		}
	}
}

// find returns the device of a row: the one in use, the one that was opened to
// try it, or a new one, which its writer opens.
func (b *Broker) find(old *set, r row) *device {
	for _, d := range old.devices {
		if d.row.ID == r.ID {
			return d
		}
	}
	for id, d := range b.held {
		if d.row.ID == r.ID {
			delete(b.held, id)
			b.start(d)
			return d
		}
	}
	d, err := b.make(r)
	if err != nil {
		d = newDevice(r, broken{err}, newEncoder(style{}, r.Salt, b.version), b.log, b.cfg.Wait)
	}
	b.start(d)
	return d
}

func (b *Broker) start(d *device) { b.work.Go(d.run) }

// retire ends a device that is not in the set any more.
func (b *Broker) retire(d *device) {
	b.work.Go(func() {
		if !d.shut(closeGrace) {
			d.log.Error("audit device hangs and is left behind")
		}
	})
}

// make makes the device of a row, not yet open. Errors are Invalid.
func (b *Broker) make(r row) (*device, error) {
	s, err := makeSink(r.Type, r.Options)
	if err != nil {
		return nil, err
	}
	if f, ok := s.(*fileSink); ok && b.cfg.Forbidden != nil && f.standard() == nil {
		if err := b.cfg.Forbidden(f.path); err != nil {
			return nil, errs.With(errs.Invalid, err)
		}
	}
	st, err := parseStyle(r.Options, b.cfg.Prefixes)
	if err != nil {
		return nil, err
	}
	sel, err := parseSelection(r.Options)
	if err != nil {
		return nil, err
	}
	d := newDevice(r, s, newEncoder(st, r.Salt, b.version), b.log, b.cfg.Wait)
	d.selection, d.freed = sel, &b.crowd
	d.chain, err = b.chainFor(r)
	return d, err
}

// prepare makes the device of a new row, opens it and writes a record to try it.
func (b *Broker) prepare(r row) (*device, error) {
	d, err := b.make(r)
	if err != nil {
		return nil, err
	}
	skip := false
	if err := flag(r.Options, "skip_test", &skip); err != nil {
		return nil, err
	}
	if skip && r.Type != "file" {
		return d, nil // opened with the first record
	}
	var test []byte
	if !skip {
		test = *d.enc.test(uuid.NewString(), time.Now()).b
	}
	if err := b.try(d, test); err != nil {
		return nil, errs.With(errs.Invalid, err)
	}
	return d, nil
}

// try opens a device and has it take a line, if there is one, within the time
// that requests wait.
func (b *Broker) try(d *device, test []byte) error {
	result := make(chan error, 1)
	b.work.Go(func() {
		err := d.sink.open()
		if err != nil {
			err = fmt.Errorf("audit device cannot be opened: %w", err)
		} else if test != nil {
			if _, _, err = d.send([][]byte{test}); err != nil {
				err = fmt.Errorf("audit backend failed test message: %w", err)
			}
		}
		if err != nil {
			_ = d.sink.close() // it is given up
		}
		result <- err
	})
	t := time.NewTimer(d.wait)
	defer t.Stop()
	select {
	case err := <-result:
		d.open = err == nil
		return err
	case <-t.C:
		d.sink.interrupt()
		return errors.New("the audit device does not answer")
	}
}

// hold keeps an opened device until the commit of its row, in place of one that
// an earlier attempt of the same request opened.
func (b *Broker) hold(requestID string, d *device) {
	b.Abandon(requestID)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[requestID] = d
}

// Abandon closes what a request opened and did not commit.
func (b *Broker) Abandon(requestID string) {
	b.mu.Lock()
	d := b.held[requestID]
	delete(b.held, requestID)
	b.mu.Unlock()
	if d != nil {
		if err := d.sink.close(); err != nil {
			d.log.Warn("close audit device", "error", err)
		}
	}
}

// Enabled reports whether there is any device, or may be.
func (b *Broker) Enabled() bool { return len(b.set.Load().devices) > 0 || b.stale.Load() }

// Log gives a record to the devices and returns when the first has it. An error
// says that none has it: what the record is about must not go on.
func (b *Broker) Log(r *Record) error {
	if b.stale.Load() {
		if b.follow(); b.stale.Load() {
			return errs.New(errs.Unavailable, "the audit devices cannot be read from the storage: try again when it answers")
		}
	}
	encodeData(r)
	for {
		s := b.set.Load()
		if len(s.devices) == 0 {
			return nil
		}
		err := b.offer(s, r)
		if err == nil || b.set.Load() == s {
			return err
		}
		// The devices have changed meanwhile.
	}
}

// offer gives a record to the devices that take it and waits for the first that
// has it. One that no device wants is not recorded, as in Vault: to have all, a
// device must have no filter, or be the fallback.
func (b *Broker) offer(s *set, r *Record) error {
	var room [4]*device
	chosen := s.choose(r, room[:0])
	if len(chosen) == 0 {
		return nil
	}
	e := &entry{done: make(chan error, 1)}
	e.left.Store(int32(len(chosen)))
	var shared *draft
	if len(chosen) > 1 {
		shared = b.drafts.Get().(*draft)
	}
	full := chosen[:0] // those that were not offered it yet
	for _, d := range chosen {
		if !d.offer(e, r, s.headers, shared) {
			full = append(full, d)
		}
	}
	if shared != nil {
		shared.reset()
		b.drafts.Put(shared)
	}
	t := b.timers.Get().(*time.Timer)
	t.Reset(b.cfg.Wait)
	err := b.await(e, r, s, full, t)
	t.Stop()
	b.timers.Put(t)
	if err != nil && r.Kind == Request {
		e.void.Store(true) // it did not happen
	}
	return err
}

// await waits for the first device that has e, and offers it to those that were
// full when there is room again.
func (b *Broker) await(e *entry, r *Record, s *set, full []*device, t *time.Timer) error {
	for {
		var room <-chan struct{}
		if len(full) > 0 {
			room = b.crowd.join() // before the look: what gets free from now on is told
			full = slices.DeleteFunc(full, func(d *device) bool { return d.offer(e, r, s.headers, nil) })
		}
		var err error
		select {
		case err = <-e.done:
		case <-room:
			b.crowd.part()
			continue
		case <-t.C:
			err = errTimeout
		}
		if room != nil {
			b.crowd.part()
		}
		for _, d := range full {
			d.miss(errFull)
		}
		return err
	}
}

// encodeData encodes the answer's data once, for all devices and the door.
func encodeData(r *Record) {
	if r.Response == nil || r.Response.Data == nil {
		return
	}
	if _, ok := r.Response.Data.(json.RawMessage); ok {
		return
	}
	if raw, err := r.Response.Encode(); err == nil {
		r.Response.Data = raw
	}
}

// Hash returns what value looks like in the records of the device at path, and
// whether there is one.
func (b *Broker) Hash(path, value string) (string, bool) {
	for _, d := range b.set.Load().devices {
		if d.row.Path == path {
			return d.enc.hash(value), true
		}
	}
	return "", false
}

// Reload has the devices open their files again, before the next record. The
// error names those that cannot; they go on with the old file.
func (b *Broker) Reload() error {
	devices := b.set.Load().devices
	failures := make([]error, len(devices))
	var wait sync.WaitGroup
	for i, d := range devices {
		wait.Go(func() { failures[i] = d.reloaded() })
	}
	wait.Wait()
	return errors.Join(failures...)
}

// Close ends the devices. What waits is written if that is soon done.
func (b *Broker) Close() {
	b.cancel()
	b.mu.Lock()
	b.over = true
	old := b.set.Swap(&set{})
	held := slices.Collect(maps.Keys(b.held))
	b.mu.Unlock()
	for _, id := range held {
		b.Abandon(id)
	}
	for _, d := range old.devices {
		b.retire(d)
	}
	for _, d := range old.devices {
		if d.chain != nil && d.await(closeGrace) {
			b.keep(d.row, d.chain.end())
		}
	}
	ended := make(chan struct{})
	go func() { // outlives Close only with a device that hangs
		b.work.Wait()
		close(ended)
	}()
	t := time.NewTimer(3 * closeGrace)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
		b.log.Error("an audit device hangs and is left behind")
	}
}

// broken stands for a device whose row this program cannot serve.
type broken struct{ err error }

func (s broken) open() error                       { return s.err }
func (s broken) write([][]byte) (int, bool, error) { return 0, true, s.err }
func (s broken) reload() error                     { return s.err }
func (s broken) interrupt()                        {}
func (s broken) close() error                      { return nil }
