package pebble

import (
	"errors"
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
	told    time.Time         // of damage
	more    int               // failures since then
	jobs    map[job]time.Time // since when flushes and compactions run
	last    string            // what the last of them that failed said
}

// A job is a flush or a compaction, by Pebble's number.
type job struct {
	flush bool
	id    int
}

const (
	// strainPatience is how long writes wait for background work that only fails.
	strainPatience = 10 * time.Second
	// strainPause is how long background work that has failed waits until it is tried again.
	strainPause = 100 * time.Millisecond
	// strainSlow is how long a job runs that does not fail at once: it may succeed, on a disk that is only slow.
	strainSlow = time.Second
	// strainSilence is how long nothing more is said of failures.
	strainSilence = 10 * time.Second
)

// failed takes a failure of background work, also of such as no write waits for.
func (f *fault) failed(err error) {
	if isFull(err) {
		f.log.Error("storage: background work failed and is tried again", "error", err)
		return // there may be room again
	}
	s := &f.strain
	s.mu.Lock()
	ofJob := err.Error() == s.last
	s.more++
	if now := time.Now(); now.Sub(s.logged) > strainSilence {
		f.log.Error("storage: background work failed and is tried again", "error", err, "times", s.more)
		s.logged, s.more = now, 0
	}
	s.mu.Unlock()
	if !ofJob {
		time.Sleep(strainPause) // who gathers statistics of tables goes on at once, for ever
	}
}

// begun notes that a job runs.
func (s *strain) begun(j job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jobs == nil {
		s.jobs = map[job]time.Time{}
	}
	s.jobs[j] = time.Now()
}

// ended notes how a job has ended, and has the store fail where writes have waited long enough, and nothing runs that may succeed.
func (f *fault) ended(j job, err error) {
	if f.strain.ended(j, err, f.patience) {
		f.set(errs.New(errs.Unavailable, "storage failed: writes wait for background work that only fails; see to its disk: %w", err))
	}
}

func (s *strain) ended(j job, err error, patience time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.jobs, j)
	now := time.Now()
	switch {
	case err == nil:
		s.failing = time.Time{}
		return false
	case isFull(err), errors.Is(err, pebble.ErrCancelledCompaction):
		return false
	case s.failing.IsZero():
		s.failing = now
	}
	s.last = err.Error() // Pebble tells of it once more, as of all background work, with its mutex held
	for _, since := range s.jobs {
		if now.Sub(since) > strainSlow {
			return false
		}
	}
	return !s.stalled.IsZero() && now.Sub(s.stalled) > patience && now.Sub(s.failing) > patience
}

// listen has a listener tell how jobs end, and when writes wait.
func (f *fault) listen(l *pebble.EventListener) {
	s := &f.strain
	stall := func(to time.Time) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stalled = to
	}
	l.FlushBegin = func(info pebble.FlushInfo) { s.begun(job{true, info.JobID}) }
	l.FlushEnd = func(info pebble.FlushInfo) { f.ended(job{true, info.JobID}, info.Err) }
	l.CompactionBegin = func(info pebble.CompactionInfo) { s.begun(job{false, info.JobID}) }
	l.CompactionEnd = func(info pebble.CompactionInfo) { f.ended(job{false, info.JobID}, info.Err) }
	l.WriteStallBegin = func(pebble.WriteStallBeginInfo) { stall(time.Now()) }
	l.WriteStallEnd = func() { stall(time.Time{}) }
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
