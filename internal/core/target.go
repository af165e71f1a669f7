package core

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/errs"
	"arca/internal/seal"
	"arca/internal/storage"
)

// A Target is a storage that was opened for a migration, and that nobody else uses.
type Target struct {
	storage.Backend
	Type  string                          // as in its stanza
	Fresh func(ctx context.Context) error // whether nobody does yet: of the kind Conflict where one does
	End   func() error                    // closes it
}

// Bounds on what a target may take.
const (
	openTime   = 2 * time.Minute // to open it
	lookTime   = time.Minute     // to see that it is empty
	closeTime  = 10 * time.Second
	returnTime = 2 * time.Second // to return from a call whose context is done
)

var errHangs = errs.New(errs.Failed, "the target does not return from a call, as when its file system hangs: the migration is given up; take another target, or wait until the log says that this one is closed, and empty it")

// A steadyTarget is a Target whose calls return when their context is done, also where a file system hangs, which knows
// of no context. The target is given up then: what was begun may be done at any time, and must be the last.
type steadyTarget struct {
	*Target
	log    *slog.Logger
	giveUp func(why error)
	hangs  atomic.Bool
	calls  sync.WaitGroup
}

// openTarget opens the target that the configuration names.
func (c *Core) openTarget(ctx context.Context, giveUp func(why error)) (*steadyTarget, error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	s := &steadyTarget{log: c.log, giveUp: giveUp}
	to, err := Outlast(ctx, func() (*Target, error) { return c.cfg.Target(ctx) }, func(to *Target) { s.end(to) })
	switch {
	case errors.Is(err, ErrHangs):
		return nil, errHangs
	case err != nil:
		return nil, err
	}
	s.Target = to
	return s, nil
}

// Apply implements storage.Backend.
func (s *steadyTarget) Apply(ctx context.Context, b storage.Batch) error {
	return s.do(ctx, func() error { return s.Backend.Apply(ctx, b) })
}

// Get implements storage.Reader.
func (s *steadyTarget) Get(ctx context.Context, key string) ([]byte, error) {
	got := make(chan []byte, 1)
	err := s.do(ctx, func() error {
		value, err := s.Backend.Get(ctx, key)
		got <- value
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-got, nil
}

// holds reports whether the target certainly has a seal's configuration, after a write of it that has failed. What a folder shows
// then may be in memory alone; a write that comes after it, and is durable, says that it is on the disk.
func (s *steadyTarget) holds(ctx context.Context, config []byte) bool {
	var got []byte
	err := inTime(ctx, finishTime, func(ctx context.Context) (err error) {
		got, err = s.Get(ctx, seal.ConfigKey)
		return err
	})
	if err != nil || !bytes.Equal(got, config) {
		return false
	}
	return inTime(ctx, finishTime, func(ctx context.Context) error { return s.Apply(ctx, nothing()) }) == nil
}

func (s *steadyTarget) isFresh(ctx context.Context) error {
	return s.do(ctx, func() error { return s.Fresh(ctx) })
}

func (s *steadyTarget) do(ctx context.Context, call func() error) error {
	if s.hangs.Load() {
		return errHangs
	}
	s.calls.Add(1)
	_, err := Outlast(ctx, func() (struct{}, error) {
		defer s.calls.Done()
		return struct{}{}, call()
	}, func(struct{}) {})
	if !errors.Is(err, ErrHangs) {
		return err
	}
	if !s.hangs.Swap(true) {
		s.giveUp(errHangs)
	}
	return errHangs
}

// isEmpty refuses a target that holds something.
func (s *steadyTarget) isEmpty(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	return s.do(ctx, func() (err error) {
		it, err := s.Scan(ctx, storage.ScanOptions{KeysOnly: true})
		if err != nil {
			return errs.New(errs.KindOf(err), "read the target: %w", err)
		}
		defer func() { err = errors.Join(err, it.Close()) }()
		if it.Next() {
			return errs.New(errs.Precondition, "the target is not empty: it has %q, for one; empty it", it.Key())
		}
		return it.Err()
	})
}

// close closes the target. One that hangs is left to itself: it is closed when it goes on.
func (s *steadyTarget) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if s.hangs.Load() {
		cancel()
	}
	_, err := Outlast(ctx, func() (struct{}, error) {
		s.calls.Wait()
		s.end(s.Target)
		return struct{}{}, nil
	}, func(struct{}) { s.log.Info("the target of the migration, which did hang, is closed") })
	if err != nil {
		s.log.Warn("the target of the migration hangs, and is not closed yet")
	}
}

func (s *steadyTarget) end(to *Target) {
	if err := to.End(); err != nil {
		s.log.Warn("close the target of the migration", "error", err)
	}
}

// ErrHangs says that a call has not returned when its context was done.
var ErrHangs = errors.New("it does not return")

// Outlast runs call and waits for it, but not much longer than ctx lasts: then the error is ErrHangs, call goes on by itself,
// and late has what it returns without an error.
func Outlast[T any](ctx context.Context, call func() (T, error), late func(T)) (got T, err error) {
	type result struct {
		got T
		err error
	}
	done, left := make(chan result), make(chan struct{})
	go func() { // ends with the call
		got, err := call()
		select {
		case done <- result{got, err}:
		case <-left:
			if err == nil {
				late(got)
			}
		}
	}()
	var r result
	select {
	case r = <-done:
		return r.got, r.err
	case <-ctx.Done():
	}
	t := time.NewTimer(returnTime)
	defer t.Stop()
	select {
	case r = <-done:
		return r.got, r.err
	case <-t.C:
		close(left)
		return got, ErrHangs
	}
}
