package fs

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"arca/internal/kes/store"
)

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	path, leave, err := s.claim(ctx, name)
	if err != nil {
		return err
	}
	defer leave()
	j, err := s.mine()
	switch {
	case err != nil:
		return reach(err)
	case j == nil:
		err = s.deleteShared(ctx, name, path)
	default:
		err = s.deleteOwned(j, name, path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if s.unsure.Swap(false) {
			if err := s.syncGone(); err != nil {
				return err
			}
		}
		return store.ErrNotFound
	case err != nil:
		return reach(err)
	}
	return s.syncGone()
}

// deleteOwned removes a key's file while nobody else can have records of it.
func (s *Store) deleteOwned(j *journal, name, path string) error {
	if err := bury(j, name); err != nil {
		return err
	}
	err := os.Remove(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// It stays, but the journal does not say so any more.
	return errors.Join(err, syncFile(path), s.sync())
}

// bury sees to it that the journal does not bring a key back whose file will be
// removed.
func bury(j *journal, name string) error {
	if !j.dirty.Load() {
		return nil
	}
	err := j.append(name, tombstoneOfAny(name)) // even if there is no file: there may be a record
	if err == nil || errors.Is(err, errMoved) { // a folder that is gone brings nothing back
		return nil
	}
	return j.settle()
}

// deleteShared removes a key's file while another server may have records of it. After
// an error, the file is there again.
func (s *Store) deleteShared(ctx context.Context, name, path string) error {
	var gone [][]byte // what was there; more than one if others make and delete it, too
	defer func() { wipe(gone) }()
	err := s.tellAll(ctx, name, &gone, func() error {
		value, err := s.moveAside(path, gone)
		if value != nil {
			gone = append(gone, value)
		}
		if len(gone) > 0 && errors.Is(err, fs.ErrNotExist) {
			return nil // that was before
		}
		return err
	}, func() bool { return isOneOf(path, gone) })
	if err != nil && len(gone) > 0 {
		_, again := s.createNamed(path, gone[len(gone)-1], onlyLink)
		if errors.Is(again, fs.ErrExist) {
			again = nil // another was made
		}
		return errors.Join(err, again, s.sync())
	}
	return err
}

// tellAll changes what the folder holds of a name, with all journals held, and tells
// each of what change has added to gone. It does so again until no journal has come
// meanwhile, and back is false.
func (s *Store) tellAll(ctx context.Context, name string, gone *[][]byte, change func() error, back func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, waitOthers)
	defer cancel()
	for {
		again, err := s.tellOnce(ctx, name, gone, change, back)
		if err != nil || !again {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

func (s *Store) tellOnce(ctx context.Context, name string, gone *[][]byte, change func() error, back func() bool) (again bool, err error) {
	h, err := holdJournals(ctx, s.dir, false)
	if err != nil {
		return false, err
	}
	defer h.release()
	if err := change(); err != nil {
		return false, err
	}
	if all, err := h.isAll(); err != nil || !all {
		return true, err
	}
	for _, value := range *gone {
		if err := h.tell(tombstone(name, value)); err != nil {
			return false, err
		}
	}
	return back(), nil
}

// moveAside removes a file, and returns what was in it. If something was removed
// before, it removes only what has come back of that. The file gets another name in
// between, so that what it returns is what it has removed.
func (s *Store) moveAside(path string, before [][]byte) ([]byte, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, err
	case len(before) > 0 && !isOneOf(path, before):
		return nil, nil // another has made a key since
	case !info.Mode().IsRegular(): // no journal's
		return nil, os.Remove(path)
	}
	now := time.Now()
	if err := os.Chtimes(path, now, now); errors.Is(err, fs.ErrNotExist) { // else a listing may remove it: see tidy
		return nil, err
	}
	aside := filepath.Join(s.dir, unfinished+rand.Text())
	if err := os.Rename(path, aside); err != nil {
		return nil, err
	}
	value, err := readBounded(aside)
	if err != nil { // what cannot be told of stays
		return nil, errors.Join(err, place(aside, path), removeIf(aside))
	}
	return value, os.Remove(aside)
}

func removeIf(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func isOneOf(path string, values [][]byte) bool {
	there, err := readBounded(path)
	defer clear(there)
	return err == nil && slices.ContainsFunc(values, func(v []byte) bool { return bytes.Equal(v, there) })
}

func wipe(values [][]byte) {
	for _, v := range values {
		clear(v)
	}
}

// Set implements store.Store. No journal brings back what was there before, also when
// the new key is deleted.
func (s *Store) Set(ctx context.Context, name string, value []byte) error {
	path, leave, err := s.claim(ctx, name)
	if err != nil {
		return err
	}
	defer leave()
	j, err := s.mine()
	if err != nil {
		return reach(err)
	}
	var gone [][]byte
	defer func() { wipe(gone) }()
	done := false
	put := func() error {
		if done {
			return nil
		}
		old, err := s.createNamed(path, value, swapIn)
		if err != nil {
			return err
		}
		done = true
		if old != nil {
			gone = append(gone, old)
		}
		return syncDir(s.dir) // before the old one is buried
	}
	if j == nil {
		return exists(s.tellAll(ctx, name, &gone, put, func() bool { return false }))
	}
	h, err := holdJournals(ctx, s.dir, false) // a journal that heals does not write the old one again
	if err != nil {
		return err
	}
	err = put()
	h.release()
	if err != nil || len(gone) == 0 || !j.dirty.Load() {
		return reach(err)
	}
	err = j.append(name, tombstone(name, gone[0]))
	if err == nil || errors.Is(err, errMoved) {
		return nil
	}
	return j.settle()
}

// swapIn gives a file a name, and returns what had it before, if anything.
func swapIn(from, to string) ([]byte, error) {
	for {
		err := place(from, to)
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		info, err := os.Lstat(to)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, &os.PathError{Op: "replace", Path: to, Err: errNotRegular}
		}
		switch err := exchange(from, to); {
		case err == nil:
			return readBounded(from)
		case errors.Is(err, fs.ErrNotExist):
			continue
		case !errors.Is(err, errors.ErrUnsupported):
			return nil, err
		}
		old, err := readBounded(to)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return old, os.Rename(from, to)
	}
}
