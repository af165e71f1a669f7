package storagetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"arca/internal/storage"
)

// ErrInjected is wrapped by all errors that a Failing makes.
var ErrInjected = errors.New("storagetest: injected failure")

// A Fault is a way for an Apply to fail.
type Fault int

// The faults.
const (
	None   Fault = iota
	Before       // nothing is written, and the backend knows: the error wraps storage.ErrNotApplied
	Lost         // nothing is written, and the backend does not know
	After        // all is written, and the error does not tell
)

// A Failing is a Backend that fails when told to. It is safe for concurrent use.
type Failing struct {
	storage.Backend
	mu     sync.Mutex
	fault  Fault
	after  int  // applies to let pass before
	once   bool // one failure, then none
	reads  bool // reads fail too
	counts int
	hold   chan struct{} // Apply waits until it is closed
}

// NewFailing wraps b. Until told otherwise it does not fail.
func NewFailing(b storage.Backend) *Failing { return &Failing{Backend: b} }

// Fail makes every Apply fail from now on; None ends it.
func (f *Failing) Fail(fault Fault) { f.set(fault, 0, false) }

// FailNth makes one Apply fail: the nth from now, 1 being the next.
func (f *Failing) FailNth(n int, fault Fault) { f.set(fault, n-1, true) }

func (f *Failing) set(fault Fault, after int, once bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.after, f.once = fault, after, once
}

// FailReads makes Get and Scan fail, or not, in snapshots that exist and in new ones.
func (f *Failing) FailReads(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads = on
}

// Hold makes each Apply wait until release is called.
func (f *Failing) Hold() (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	hold := make(chan struct{})
	f.hold = hold
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.hold == hold {
			f.hold = nil
			close(hold)
		}
	}
}

// Applied returns how many times Apply was called.
func (f *Failing) Applied() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// Apply implements storage.Backend.
func (f *Failing) Apply(ctx context.Context, b storage.Batch) error {
	f.mu.Lock()
	f.counts++
	hold, fault := f.hold, f.fault
	if fault != None && f.after > 0 {
		f.after--
		fault = None
	}
	if fault != None && f.once {
		f.fault = None
	}
	f.mu.Unlock()
	if hold != nil {
		<-hold
	}
	switch fault {
	case None:
	case Before:
		return fmt.Errorf("%w: %w", storage.ErrNotApplied, ErrInjected)
	case Lost:
		return ErrInjected
	case After:
		if err := f.Backend.Apply(ctx, b); err != nil {
			return err
		}
		return ErrInjected
	}
	return f.Backend.Apply(ctx, b)
}

func (f *Failing) readError() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reads {
		return ErrInjected
	}
	return nil
}

// Get implements storage.Reader.
func (f *Failing) Get(ctx context.Context, key string) ([]byte, error) {
	if err := f.readError(); err != nil {
		return nil, err
	}
	return f.Backend.Get(ctx, key)
}

// Scan implements storage.Reader.
func (f *Failing) Scan(ctx context.Context, o storage.ScanOptions) (storage.Iterator, error) {
	if err := f.readError(); err != nil {
		return nil, err
	}
	return f.Backend.Scan(ctx, o)
}

// Snapshot implements storage.Backend.
func (f *Failing) Snapshot(ctx context.Context) (storage.Snapshot, error) {
	snap, err := f.Backend.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return &failingSnapshot{snap, f}, nil
}

type failingSnapshot struct {
	storage.Snapshot
	f *Failing
}

func (s *failingSnapshot) Get(ctx context.Context, key string) ([]byte, error) {
	if err := s.f.readError(); err != nil {
		return nil, err
	}
	return s.Snapshot.Get(ctx, key)
}

func (s *failingSnapshot) Scan(ctx context.Context, o storage.ScanOptions) (storage.Iterator, error) {
	if err := s.f.readError(); err != nil {
		return nil, err
	}
	return s.Snapshot.Scan(ctx, o)
}
