package pebble

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"arca/internal/errs"
)

// A fault remembers the first failure after which Pebble cannot go on, and is its logger: Pebble reports such failures by
// Fatalf.
type fault struct {
	log *slog.Logger
	err atomic.Pointer[errs.Error]
}

func (f *fault) get() error {
	if err := f.err.Load(); err != nil {
		return err
	}
	return nil
}

func (f *fault) explain(err error) error { return errs.New(errs.Unavailable, "storage: %w", err) }

// Infof implements pebble.Logger. Pebble's chronicle is of no use to an operator.
func (f *fault) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (f *fault) Errorf(format string, args ...any) {
	f.log.Error("storage", "error", fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger.
func (f *fault) Fatalf(format string, args ...any) {
	err := errs.New(errs.Unavailable, "storage failed: %s", fmt.Sprintf(format, args...))
	f.err.CompareAndSwap(nil, err)
	f.log.Error("storage failed; no more writes are taken", "error", err)
}
