package pebble

import (
	"errors"
	"path"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/errs"
	"arca/internal/storage"
)

const (
	// reserveBytes must be free for a write to begin, so that the log of what is accepted always finds its place.
	reserveBytes = 16 << 20
	// checkEvery is how many bytes are written, and spaceCheckAge how long is waited, between two looks at the disk.
	checkEvery    = 1 << 20
	spaceCheckAge = 100 * time.Millisecond
	// fullRetry is the pause before a write that found the disk full is tried again.
	fullRetry = 200 * time.Millisecond
)

// A space watches the disk. Pebble treats a full disk as fatal when it concerns its log or manifest, and tries again at
// once when it concerns a table. So writes are refused while there is still a reserve (nothing has happened, the caller is
// told, reads go on); should the disk fill up all the same, writes to log and manifest wait until there is room.
type space struct {
	fs    vfs.FS
	dir   string
	fault *fault

	// Only used by Apply, of which there is one at a time.
	written int
	checked time.Time
	low     bool

	waiting atomic.Int32 // writes that wait for room
	closing atomic.Bool
}

func newSpace(fs vfs.FS, dir string, f *fault) *space { return &space{fs: fs, dir: dir, fault: f} }

// admit refuses a batch of n bytes when the disk is nearly full.
func (s *space) admit(n int) error {
	s.written += n
	now := time.Now()
	if !s.low && s.written < checkEvery && now.Sub(s.checked) < spaceCheckAge {
		return nil
	}
	s.written, s.checked = 0, now
	usage, err := s.fs.GetDiskUsage(s.dir)
	if err != nil {
		return nil //nolint:nilerr // a file system that cannot say how full it is: in memory, for one
	}
	low := usage.AvailBytes < reserveBytes+uint64(n) || s.waiting.Load() > 0
	if low != s.low {
		s.low = low
		if low {
			s.fault.log.Error("the disk is full: writes are refused until there is room", "path", s.dir, "free_bytes", usage.AvailBytes)
		} else {
			s.fault.log.Warn("the disk has room again: writes are taken", "path", s.dir, "free_bytes", usage.AvailBytes)
		}
	}
	if low {
		return errs.New(errs.Unavailable, "the disk of the storage folder %q is full (%d MB free): %w",
			s.dir, usage.AvailBytes>>20, storage.ErrNotApplied)
	}
	return nil
}

// full reports whether a table more may find no room.
func (s *space) full() bool {
	usage, err := s.fs.GetDiskUsage(s.dir)
	return err == nil && usage.AvailBytes < reserveBytes || s.waiting.Load() > 0
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// retry does fn until it fails otherwise than by a full disk. A table is given up after one pause: Pebble makes it anew,
// and meanwhile its place is free.
func (s *space) retry(name string, fn func() error) error {
	err := fn()
	if err == nil || !isFull(err) {
		return err
	}
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	for isFull(err) && !s.closing.Load() {
		time.Sleep(fullRetry)
		switch path.Ext(name) {
		case ".sst", ".blob":
			return err
		}
		err = fn()
	}
	return err
}
