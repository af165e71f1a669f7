package pebble

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// A scheduler lets as many compactions run as Pebble itself allows. Pebble's own does the same and looks ten times a second
// whether there is something to do; this one only acts when a compaction or flush has ended, so that an idle server sleeps.
type scheduler struct {
	pause func() // where a compaction failed a moment ago

	mu      sync.Mutex
	db      pebble.DBForCompaction
	running int
	grants  int  // calls of grant at work
	over    bool // no more grants
	quiet   sync.Cond
}

var _ pebble.CompactionScheduler = (*scheduler)(nil)

func newScheduler(pause func()) *scheduler {
	s := &scheduler{pause: pause}
	s.quiet.L = &s.mu
	return s
}

// Register implements pebble.CompactionScheduler.
func (s *scheduler) Register(_ int, db pebble.DBForCompaction) {
	s.mu.Lock()
	s.db = db
	s.mu.Unlock()
}

// Unregister implements pebble.CompactionScheduler.
func (s *scheduler) Unregister() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for s.grants > 0 {
		s.quiet.Wait()
	}
}

// TrySchedule implements pebble.CompactionScheduler.
func (s *scheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.running >= s.db.GetAllowedWithoutPermission() {
		return false, nil
	}
	s.running++
	return true, s
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler. Pebble calls it with its mutex held, and tries
// to schedule by itself right afterwards.
func (s *scheduler) UpdateGetAllowedWithoutPermission() {}

// Started implements pebble.CompactionGrantHandle.
func (s *scheduler) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (s *scheduler) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (s *scheduler) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// Done implements pebble.CompactionGrantHandle. It offers the freed place to whatever waits.
func (s *scheduler) Done() {
	s.pause()
	s.mu.Lock()
	s.running--
	s.grants++
	for !s.over && s.running < s.db.GetAllowedWithoutPermission() {
		s.running++
		s.mu.Unlock()
		// Pebble's mutex is taken in these two: ours must not be held.
		waiting, _ := s.db.GetWaitingCompaction()
		accepted := waiting && s.db.Schedule(s)
		s.mu.Lock()
		if !accepted {
			s.running--
			break
		}
	}
	if s.grants--; s.grants == 0 {
		s.quiet.Broadcast()
	}
	s.mu.Unlock()
}
