// Package fs is a key store in a folder: a file per key, its name the key's, its
// content the stored value.
//
// A new value is written to a file without a name (or, where the system has no
// such, with another), and linked under its own, which fails if that exists: of two
// creations one wins, whichever servers share the folder.
//
// To sync each file and the folder costs two commits of the file system for a key.
// So the server that has the folder's lock writes new keys to a journal first, one
// sync for all that come at the time, if these are many; the files follow with the system's own
// write-back, and a checkpoint drops the journal when it is done (journal.go). After
// a crash, whoever has the lock next makes files of what the journal holds. Other
// servers on the folder, and all on file systems of the network, sync each key for
// itself. What a crash may leave besides is a file that is not listed, and that a
// listing removes an hour later.
//
// # Several servers on one folder
//
// These hold at all times, whoever is killed when:
//
//  1. The folder's lock (flock) has one owner. It alone makes journals and drops
//     them, and only it recovers those of a dead owner. While it lives it holds a
//     lock on each journal that it has made: one without is what a crash left.
//  2. A record is durable before its key's file has the name. So a journal that may
//     bring a key back exists before the key does, and until its file is durable.
//  3. Who takes a key away (Set, and Delete by who is not the owner) holds every journal
//     that exists, locked for sharing. It makes the key's file durable, appends a
//     tombstone of its content to each journal, and only then moves the file aside or
//     swaps the new one in: whoever is killed in between leaves a file that needs no
//     record, or no record that could bring the old one back. When what it has taken
//     is another, or a journal came meanwhile, it tells that as well.
//     When a journal's owner is dead, it takes the folder over first, if it can.
//  4. Recovery, also that after an error, locks the journals for itself alone before
//     it reads them, and until they are gone: what was told to a journal before is
//     read, and what is taken away later sees the files as recovery has made them.
//     Who waits does so for a bounded time, and no longer than who asked for it; the
//     error that follows changes nothing. Creations do not wait: they sync each key.
//  5. Recovery gives a missing file its name by a link, which fails when there is
//     one. It replaces a file that is broken, or that a checkpoint could not write,
//     when it is the very file that was compared; nobody else replaces any by 4. So
//     creations need no lock. A whole key of other content always stays. What is
//     equal is written once more in place, where it may not be on the disk.
//  6. Recovery that is killed is done again by the next owner: journals are removed
//     last, and the one with the older records first.
//  7. A server that opens the folder waits until what a crash left is recovered: else
//     it would give names away again whose keys are in the journal only.
//     Where there is no room to recover it, it reads these from the journal, and
//     refuses changes.
//
// The locks on journals are of open files and byte ranges (F_OFD_SETLK): they exclude
// within one process, too, and a file server sees those of its clients.
package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/key"
	"arca/internal/kes/store"
)

// What lies in the folder under a name that begins so is not a key yet.
const unfinished = ".new-"

// A Store is a folder.
type Store struct {
	dir string

	names store.Turns // that are being made or deleted

	mu      sync.Mutex
	syncing *dirSync // guarded by mu; the sync that has not begun yet, if any
	turn    sync.Mutex
	begun   [manySoon]time.Time // guarded by mu: when the last creations began
	oldest  int                 // guarded by mu: of begun

	locking store.Turns // of one name, onlyOne
	journal atomic.Pointer[journal]
	writing atomic.Int64 // creations that are under way
	without bool         // guarded by locking: this file system has no journal
	tried   time.Time    // guarded by locking: when another server had the lock
	failed  time.Time    // guarded by locking: when a recovery failed
	closed  bool         // guarded by mu
	again   *time.Timer  // guarded by mu: tries again to recover the folder; nil if that went well
	frozen  atomic.Pointer[frozen]
	cancel  context.CancelFunc // guarded by mu: of a recovery that is under way, or was
}

// onlyOne is the name of a store.Turns that is a lock whose wait ends with a context.
const onlyOne = ""

// many is how many creations at a time are worth a journal, which other programs
// see in the folder: a few keys are synced each for itself. So are manySoon within a
// second, one after the other: a journal's sync is a third of what two cost.
const (
	many     = 4
	manySoon = 16
)

const (
	// lockEvery is how often a server looks whether the folder's lock is free.
	lockEvery = time.Second
	// waitToTake is how long a request waits to take a dead server's folder over: it
	// can do without.
	waitToTake = time.Second
)

var _ store.Store = (*Store)(nil)

// Open makes the folder, with its parents, if it does not exist, and makes files
// of what a crash has left in the journal. Where there is no room for these, keys are
// read, and changes are refused until there is; the log, which may be nil, says so.
func Open(ctx context.Context, dir string, log *slog.Logger) (*Store, error) {
	if dir == "" {
		return nil, errs.New(errs.Invalid, "keystore.fs.path is missing: name the folder for the keys")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as KES makes it; the files are 0600
		return nil, fmt.Errorf("make the folder for the keys: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, errs.New(errs.Invalid, "keystore.fs.path: %s is not a folder", dir)
	}
	s := &Store{dir: dir}
	err = s.afterCrash(ctx)
	if isNoRoom(err) {
		err = s.openFull(err, log)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// owned returns the journal, or nil while another server has it, where there can be
// none, and while somebody tries to take it.
func (s *Store) owned(ctx context.Context) *journal {
	if j := s.journal.Load(); j != nil || s.locking.Busy(onlyOne) != nil {
		return j
	}
	return s.takeSoon(ctx, lockEvery)
}

// mine returns the journal if this server has it, or takes it over from one that is
// dead. Where that fails, others hold the folder, and are told of what is changed.
func (s *Store) mine(ctx context.Context) *journal {
	j := s.journal.Load()
	if j != nil && j.moved() { // its folder is another's by now, or nobody's
		s.giveUp(j, errMoved)
		j = nil
	}
	if j != nil || !isLeft(s.dir) {
		return j
	}
	return s.takeSoon(ctx, 0)
}

// takeSoon takes the journal if that can be done at once, and was not tried just now.
// Where files have to be made of what a dead server has left, that goes on when whoever
// asked waits no longer.
func (s *Store) takeSoon(ctx context.Context, every time.Duration) *journal {
	ctx, cancel := context.WithTimeout(ctx, waitToTake)
	leave, err := s.locking.Take(ctx, onlyOne)
	if err != nil {
		cancel()
		return nil
	}
	if time.Since(s.tried) < every || time.Since(s.failed) < healEvery {
		leave()
		cancel()
		return s.journal.Load()
	}
	taken := make(chan struct{})
	go func() {
		defer close(taken)
		defer leave()
		_, _ = s.take(ctx) // it is noted that it failed, and others do without
	}()
	_ = await(ctx, taken) // without it there is no journal yet
	cancel()
	return s.journal.Load()
}

// take is called with locking held. It waits for others until ctx ends, and ends when
// the store is closed.
func (s *Store) take(ctx context.Context) (*journal, error) {
	if j := s.journal.Load(); j != nil || s.without {
		return j, nil
	}
	open, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.mu.Lock()
	s.cancel = cancel
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(open, stop)()
	j, err := openJournal(ctx, open, s.dir)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		s.without = true
		return nil, nil
	case errors.Is(err, errLocked):
		s.tried = time.Now()
		return nil, nil
	case err != nil:
		s.failed = time.Now()
		return nil, err
	}
	s.journal.Store(j)
	return j, nil
}

// giveUp lets the next creation open another journal, where this one's folder is
// gone.
func (s *Store) giveUp(j *journal, err error) {
	if errors.Is(err, errMoved) && s.journal.CompareAndSwap(j, nil) {
		j.timer.Stop()
		_ = j.lock.Close() // of a folder that is gone
	}
}

var errClosed = errors.New("the key store is closed")

// claim checks a name, and waits until nobody else makes or deletes a key of it. It
// refuses while the folder is only read.
func (s *Store) claim(ctx context.Context, name string) (path string, leave func(), err error) {
	if path, err = s.path(name); err != nil {
		return "", nil, err
	}
	if err := s.refuse(); err != nil {
		return "", nil, err
	}
	leave, err = s.names.Take(ctx, name)
	return path, leave, err
}

func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Status implements store.Store.
func (s *Store) Status(context.Context) (time.Duration, error) {
	start := time.Now()
	if _, err := os.Stat(s.dir); err != nil {
		return 0, &store.UnreachableError{Err: err}
	}
	return time.Since(start), nil
}

// Create implements store.Store.
func (s *Store) Create(ctx context.Context, name string, value []byte) error {
	if len(value) > key.MaxStored {
		return errs.New(errs.Invalid, "a stored key has at most %d bytes", key.MaxStored)
	}
	path, leave, err := s.claim(ctx, name)
	if err != nil {
		return err
	}
	defer leave()
	if _, err := os.Lstat(path); err == nil { // the link decides; this is cheaper
		return store.ErrExists
	}
	j := s.journal.Load()
	soon := s.isSoon(time.Now())
	if (s.writing.Add(1) >= many || soon) && j == nil {
		j = s.owned(ctx)
	}
	defer s.writing.Add(-1)
	if j == nil || j.hurt.Load() || j.size.Load() > fullJournal || !soon && s.writing.Load() < many && !j.dirty.Load() {
		return s.createSynced(path, value)
	}
	f, err := s.nameless(value, false)
	if errors.Is(err, errors.ErrUnsupported) {
		return s.createSynced(path, value)
	}
	if err != nil {
		return reach(err)
	}
	defer f.Close()
	if err = s.createNoted(j, f, name, path, value); !errors.Is(err, errNotSure) {
		return err
	}
	err = s.createSynced(path, value) // the same key does no harm in both
	if errors.Is(err, store.ErrExists) {
		// There is none of this content, and the journal must not bring one back.
		if unsettled := j.settle(ctx); unsettled != nil {
			return unsettled
		}
	}
	return err
}

// errNotSure says that the journal may have the record of a key that was not made.
var errNotSure = errors.New("the journal cannot be written")

// createNoted gives a file its name when the journal has a record of it. errNotSure
// leaves open whether it has.
func (s *Store) createNoted(j *journal, f *os.File, name, path string, value []byte) error {
	j.busy.RLock()
	defer j.busy.RUnlock()
	if err := j.append(name, newRecord(kindCreate, name, value)); err != nil {
		if !errors.Is(err, errMoved) {
			return errNotSure
		}
		s.giveUp(j, err)
		return reach(err)
	}
	err := link(f, path)
	if err == nil {
		return nil
	}
	// There is no key of this content; whoever has made another has seen to it that it
	// stays.
	if gone := j.append(name, tombstone(name, value)); gone != nil {
		if !errors.Is(gone, errMoved) {
			return errNotSure
		}
		return reach(gone)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return s.createSynced(path, value)
	}
	return exists(err)
}

// isSoon notes that a creation begins, and reports whether it is one of many within a
// second.
func (s *Store) isSoon(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.begun[s.oldest]
	s.begun[s.oldest] = now
	s.oldest = (s.oldest + 1) % manySoon
	return now.Sub(before) < time.Second
}

// createSynced makes a key whose file is durable for itself.
func (s *Store) createSynced(path string, value []byte) error {
	f, err := s.nameless(value, true)
	if err == nil {
		err = link(f, path)
		_ = f.Close() // it was synced
	}
	if errors.Is(err, errors.ErrUnsupported) {
		_, err = s.createNamed(path, value, onlyLink)
	}
	return s.finish(err)
}

// finish makes a new entry of the folder durable.
func (s *Store) finish(err error) error {
	if err != nil {
		return exists(err)
	}
	return s.sync()
}

func exists(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return store.ErrExists
	}
	return reach(err)
}

// createNamed writes and syncs a file of another name, and gives it its own. It
// returns what name does.
func (s *Store) createNamed(path string, value []byte, name func(from, to string) ([]byte, error)) ([]byte, error) {
	f, err := os.CreateTemp(s.dir, unfinished) // mode 0600
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already after a rename
	_, err = f.Write(value)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	return name(f.Name(), path)
}

func onlyLink(from, to string) ([]byte, error) { return nil, os.Link(from, to) }

// Get implements store.Store. What is being created is there when it is durable.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	path, err := s.path(name)
	if err != nil {
		return nil, err
	}
	if busy := s.names.Busy(name); busy != nil {
		if err := await(ctx, busy); err != nil {
			return nil, err
		}
	}
	if value, ok := s.frozen.Load().get(name); ok {
		return value, nil
	}
	value, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := os.Stat(s.dir); gone != nil {
			return nil, reach(gone)
		}
		return nil, store.ErrNotFound
	}
	return value, err
}

func syncFile(path string) error {
	f, err := openRegular(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// List implements store.Store. It looks at every file of the folder, and keeps no
// more names than twice the page's.
func (s *Store) List(ctx context.Context, prefix, from string, n int) ([]string, string, error) {
	names := store.NewPager(prefix, from, n)
	f := s.frozen.Load()
	if f != nil {
		f.list(names)
	}
	d, err := os.Open(s.dir)
	if err != nil {
		return nil, "", reach(err)
	}
	defer d.Close()
	for ctx.Err() == nil {
		some, err := d.ReadDir(1024)
		for _, e := range some {
			if f == nil {
				s.tidy(e)
			}
			if name := e.Name(); !e.IsDir() && key.WasName(name) {
				names.Add(name)
			}
		}
		if errors.Is(err, io.EOF) {
			page, next := names.Page()
			return page, next, nil
		}
		if err != nil {
			return nil, "", err
		}
	}
	return nil, "", ctx.Err()
}

// tidy removes what a crash left, but nothing that another server may be at.
func (s *Store) tidy(e fs.DirEntry) {
	if !strings.HasPrefix(e.Name(), unfinished) {
		return
	}
	if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > time.Hour {
		_ = os.Remove(filepath.Join(s.dir, e.Name())) // tried again with the next listing
	}
}

// String implements store.Store.
func (s *Store) String() string { return "Filesystem: " + s.dir }

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	if s.cancel != nil {
		s.cancel()
	}
	if s.again != nil {
		s.again.Stop()
	}
	s.mu.Unlock()
	leave, err := s.locking.Take(context.Background(), onlyOne)
	if err != nil {
		return err
	}
	defer leave()
	if f := s.frozen.Load(); f != nil {
		f.close()
	}
	if j := s.journal.Swap(nil); j != nil {
		return j.close()
	}
	return nil
}

func (s *Store) path(name string) (string, error) { return pathOf(s.dir, name) }

// pathOf returns the file of a name. The door has checked names; that none leaves
// the folder does not depend on it.
func pathOf(dir, name string) (string, error) {
	if name == "" || len(name) > 255 || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\\\x00") {
		return "", errs.New(errs.Invalid, "the name %q cannot be that of a file", name)
	}
	return filepath.Join(dir, name), nil
}

func reach(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errMoved) {
		return &store.UnreachableError{Err: err}
	}
	return err
}

// A dirSync is one sync of the folder, for all who asked before it began.
type dirSync struct {
	done chan struct{}
	err  error
}

// sync makes the folder's entries durable. Those who wait while one sync is
// under way share the next.
func (s *Store) sync() error {
	s.mu.Lock()
	mine := s.syncing
	first := mine == nil
	if first {
		mine = &dirSync{done: make(chan struct{})}
		s.syncing = mine
	}
	s.mu.Unlock()
	if !first {
		<-mine.done
		return mine.err
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	s.mu.Lock()
	s.syncing = nil // who comes from here on is not in this one
	s.mu.Unlock()
	mine.err = syncDir(s.dir)
	close(mine.done)
	return mine.err
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the configured folder
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
