package pebble

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"arca/internal/errs"
)

// A strain is background work that fails. Pebble tries it again at once, and for ever, and has writes wait when too much is left to do: for a table that cannot be read, or where none can be
// written, they would wait for ever. So the store fails then, as it does where its log cannot be written: whoever waits is told, and of nodes that share a log another one leads.
type strain struct {
	mu      sync.Mutex
	failing time.Time // since when nothing has succeeded; zero if what was tried last has
	stalled time.Time // since when writes wait; zero while they do not
	logged  time.Time
	told    time.Time // of damage
	more    int       // failures since then
}

const (
	// strainPatience is how long writes wait for background work that only fails.
	strainPatience = 10 * time.Second
	// strainPause is how long background work that has failed waits until it is tried again.
	strainPause = 100 * time.Millisecond
	// strainSilence is how long nothing more is said of failures.
	strainSilence = 10 * time.Second
)

// failed takes a failure of background work.
func (f *fault) failed(err error) {
	if isFull(err) {
		f.log.Error("storage: background work failed and is tried again", "error", err)
		return // there may be room again
	}
	if f.strain.give(f, err) {
		f.set(errs.New(errs.Unavailable, "storage failed: writes wait for background work that only fails; see to its disk: %w", err))
	}
}

// give notes a failure, and reports whether writes have waited long enough.
func (s *strain) give(f *fault, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.failing.IsZero() {
		s.failing = now
	}
	s.more++
	if now.Sub(s.logged) > strainSilence {
		f.log.Error("storage: background work failed and is tried again", "error", err, "times", s.more)
		s.logged, s.more = now, 0
	}
	return !s.stalled.IsZero() && now.Sub(s.stalled) > f.patience && now.Sub(s.failing) > f.patience
}

// listen has a listener tell what succeeds, and when writes wait.
func (s *strain) listen(l *pebble.EventListener) {
	set := func(t *time.Time, to time.Time) {
		s.mu.Lock()
		defer s.mu.Unlock()
		*t = to
	}
	l.FlushEnd = func(info pebble.FlushInfo) {
		if info.Err == nil {
			set(&s.failing, time.Time{})
		}
	}
	l.CompactionEnd = func(info pebble.CompactionInfo) {
		if info.Err == nil {
			set(&s.failing, time.Time{})
		}
	}
	l.WriteStallBegin = func(pebble.WriteStallBeginInfo) { set(&s.stalled, time.Now()) }
	l.WriteStallEnd = func() { set(&s.stalled, time.Time{}) }
}

// damaged takes damage that was found, by background work or by a read, which gets the error.
func (f *fault) damaged(info pebble.DataCorruptionInfo) {
	f.strain.mu.Lock()
	defer f.strain.mu.Unlock()
	if now := time.Now(); now.Sub(f.strain.told) > strainSilence {
		f.log.Error("storage is damaged", "error", info.Details)
		f.strain.told = now
	}
}

// pause waits a moment where background work fails; it is not called with Pebble's mutex held.
func (f *fault) pause() {
	f.strain.mu.Lock()
	failing := !f.strain.failing.IsZero()
	f.strain.mu.Unlock()
	if failing {
		time.Sleep(strainPause)
	}
}
