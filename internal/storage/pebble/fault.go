package pebble

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"arca/internal/errs"
)

// A fault remembers the first failure after which Pebble cannot go on. It is Pebble's logger, because Pebble reports such
// failures by Fatalf and expects the process to end there. We keep answering reads and refuse writes instead: so no write
// is acknowledged that was not made durable, and the operator sees why.
type fault struct {
	log  *slog.Logger
	err  atomic.Pointer[errs.Error]
	done chan struct{} // closed when err is set

	strain   strain
	patience time.Duration // with background work that fails
}

func newFault(log *slog.Logger) *fault {
	return &fault{log: log, done: make(chan struct{}), patience: strainPatience}
}

func (f *fault) get() error {
	if err := f.err.Load(); err != nil {
		return err
	}
	return nil
}

func (f *fault) set(err *errs.Error) {
	if f.err.CompareAndSwap(nil, err) {
		f.log.Error("storage failed; it takes no more writes until arca is started again", "error", err)
		close(f.done)
	}
}

// explain gives an error of Pebble's a kind and a text that says what to do.
func (f *fault) explain(err error) error {
	switch {
	case pebble.IsCorruptionError(err):
		return errs.New(errs.Unavailable, "storage is damaged; restore it or a snapshot: %w", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errs.New(errs.Unavailable, "the disk is full: %w", err)
	}
	return errs.New(errs.Unavailable, "storage: %w", err)
}

func (f *fault) listener() *pebble.EventListener {
	// The read that finds damage gets the error; there is no reason to end the process.
	l := &pebble.EventListener{BackgroundError: f.failed, DataCorruption: f.damaged}
	f.listen(l)
	return l
}

// Infof implements pebble.Logger. Pebble's chronicle is of no use to an operator.
func (f *fault) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (f *fault) Errorf(format string, args ...any) {
	f.log.Error("storage", "error", fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger. It must not return into work that cannot go on: a flush or compaction is ended with its
// goroutine (its deferred unlocking runs; it is not tried again, as Pebble believes it still at work). Open and Apply look
// at the fault themselves. Anything else is a bug.
func (f *fault) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	f.set(errs.New(errs.Unavailable, "storage failed: %s", text))
	switch where() {
	case inBackground:
		runtime.Goexit()
	case inCall:
	case inUnknown:
		panic("pebble: " + text)
	}
}

type place int

const (
	inUnknown place = iota
	inCall
	inBackground
)

func where() place {
	var pcs [128]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		frame, more := frames.Next()
		_, name, _ := strings.Cut(frame.Function, "cockroachdb/pebble/v2.")
		switch {
		case name == "Open", strings.HasPrefix(name, "(*DB).applyInternal"), strings.HasPrefix(name, "(*DB).Close"):
			return inCall
		case strings.HasPrefix(name, "(*DB).flush"), strings.HasPrefix(name, "(*DB).compact"):
			return inBackground
		}
		if !more {
			return inUnknown
		}
	}
}
