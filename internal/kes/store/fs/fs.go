// Package fs is a key store in a folder: a file per key, its name the key's, its
// content the stored value.
//
// A new value is written to a file without a name (or, where the system has no
// such, with another), synced, and then linked under its own, which fails if that
// exists: a crash leaves no half of a key, and of two creations one wins, whichever
// servers share the folder. What a crash may leave is a file that is not listed
// and is removed an hour later.
package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

	mu      sync.Mutex
	syncing *dirSync // guarded by mu; the sync that has not begun yet, if any
	turn    sync.Mutex
}

var _ store.Store = (*Store)(nil)

// Open makes the folder, with its parents, if it does not exist.
func Open(dir string) (*Store, error) {
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
	s.tidy()
	return s, nil
}

// tidy removes what a crash left, but nothing that another server may be at.
func (s *Store) tidy() {
	left, err := filepath.Glob(filepath.Join(s.dir, unfinished+"*"))
	if err != nil {
		return
	}
	for _, path := range left {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > time.Hour {
			_ = os.Remove(path) // tried again at the next start
		}
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
func (s *Store) Create(_ context.Context, name string, value []byte) error {
	path, err := s.path(name)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil { // the link decides; this is cheaper
		return store.ErrExists
	}
	if err := s.createNameless(path, value); !errors.Is(err, errors.ErrUnsupported) {
		return s.finish(err)
	}
	return s.finish(s.createNamed(path, value, os.Link))
}

// Set implements store.Store.
func (s *Store) Set(_ context.Context, name string, value []byte) error {
	path, err := s.path(name)
	if err != nil {
		return err
	}
	return s.finish(s.createNamed(path, value, os.Rename))
}

// finish makes a new entry of the folder durable.
func (s *Store) finish(err error) error {
	switch {
	case errors.Is(err, fs.ErrExist):
		return store.ErrExists
	case err != nil:
		return reach(err)
	}
	return s.sync()
}

// createNamed writes and syncs a file of another name, and gives it its own.
func (s *Store) createNamed(path string, value []byte, name func(from, to string) error) error {
	f, err := os.CreateTemp(s.dir, unfinished) // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already after a rename
	_, err = f.Write(value)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return name(f.Name(), path)
}

// Get implements store.Store.
func (s *Store) Get(_ context.Context, name string) ([]byte, error) {
	path, err := s.path(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path) //nolint:gosec // a name has no separators
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := os.Stat(s.dir); gone != nil {
			return nil, reach(gone)
		}
		return nil, store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, key.MaxStored+1))
}

// Delete implements store.Store.
func (s *Store) Delete(_ context.Context, name string) error {
	path, err := s.path(name)
	if err != nil {
		return err
	}
	switch err := os.Remove(path); {
	case errors.Is(err, fs.ErrNotExist):
		return store.ErrNotFound
	case err != nil:
		return err
	}
	return s.sync()
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, from string, n int) ([]string, string, error) {
	d, err := os.Open(s.dir)
	if err != nil {
		return nil, "", reach(err)
	}
	defer d.Close()
	var names []string
	for ctx.Err() == nil {
		some, err := d.ReadDir(1024)
		for _, e := range some {
			if name := e.Name(); !e.IsDir() && key.IsName(name) && strings.HasPrefix(name, prefix) && name >= from {
				names = append(names, name)
			}
		}
		if errors.Is(err, io.EOF) {
			names, next := store.Page(names, prefix, from, n)
			return names, next, nil
		}
		if err != nil {
			return nil, "", err
		}
	}
	return nil, "", ctx.Err()
}

// String implements store.Store.
func (s *Store) String() string { return "Filesystem: " + s.dir }

// Close implements store.Store.
func (*Store) Close() error { return nil }

// path returns the file of a name. The door has checked names; that none leaves
// the folder does not depend on it.
func (s *Store) path(name string) (string, error) {
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\\\x00") {
		return "", errs.New(errs.Invalid, "the name %q cannot be that of a file", name)
	}
	return filepath.Join(s.dir, name), nil
}

func reach(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
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
