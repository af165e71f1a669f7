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
	j := s.mine(ctx)
	if j != nil {
		if err = s.deleteOwned(ctx, j, name, path); errors.Is(err, errMoved) {
			s.giveUp(j, err)
			j = nil
		}
	}
	if j == nil {
		err = s.deleteShared(ctx, name, path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Whoever removed it may have been killed before that was durable.
		if err := s.sync(); err != nil {
			return reach(err)
		}
		return store.ErrNotFound
	case err != nil:
		return reach(err)
	}
	return s.sync()
}

// deleteOwned removes a key's file while nobody else can have records of it.
func (s *Store) deleteOwned(ctx context.Context, j *journal, name, path string) error {
	if err := bury(ctx, j, name); err != nil {
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
func bury(ctx context.Context, j *journal, name string) error {
	if !j.dirty.Load() {
		return nil
	}
	err := j.append(name, tombstoneOfAny(name)) // even if there is no file: there may be a record
	if err == nil || errors.Is(err, errMoved) {
		return err
	}
	return j.settle(ctx)
}

// deleteShared removes a key's file while another server may have records of it. After
// an error, the file is there again.
func (s *Store) deleteShared(ctx context.Context, name, path string) error {
	t := taking{name: name, path: path, removes: true, change: func() ([]byte, error) { return s.moveAside(path, nil) }}
	defer t.wipe()
	err := s.takeAway(ctx, &t)
	if err != nil && t.done && len(t.gone) > 0 {
		_, again := s.createNamed(path, t.gone[len(t.gone)-1], onlyLink)
		if errors.Is(again, fs.ErrExist) {
			again = nil // another was made
		}
		return errors.Join(err, again, s.sync())
	}
	return err
}

// A taking is a change that takes away what a key's file holds.
type taking struct {
	name, path string
	change     func() ([]byte, error) // returns what it has taken, if anything
	removes    bool                   // else another key is there afterwards, which may be as the one before
	done       bool
	gone       [][]byte // what was taken; more than one if others make and delete it, too
}

func (t *taking) wipe() {
	for _, v := range t.gone {
		clear(v)
	}
}

// takeAway changes what the folder holds of a name, after all journals were told of
// it: however that ends, none brings back what is gone. What others did meanwhile is
// told of as well, with all journals held that there are then.
func (s *Store) takeAway(ctx context.Context, t *taking) error {
	ctx, cancel := context.WithTimeout(ctx, waitOthers)
	defer cancel()
	for {
		again, err := s.takeOnce(ctx, t)
		if err != nil || !again {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

func (s *Store) takeOnce(ctx context.Context, t *taking) (again bool, err error) {
	h, err := holdJournals(ctx, s.dir, false)
	if err != nil {
		return false, err
	}
	defer h.release()
	there, err := readBounded(t.path)
	defer clear(there)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotRegular): // no journal's
		there = nil
	case err != nil:
		return false, err
	case t.done && !isOneOf(there, t.gone): // another has made a key since
		there = nil
	}
	if err := s.tell(h, t, there); err != nil {
		return false, err
	}
	if all, err := h.isAll(); err != nil || !all {
		return true, err
	}
	var old []byte
	switch {
	case !t.done:
		if old, err = t.change(); err != nil {
			return false, err
		}
		t.done = true
	case there == nil || !t.removes: // recovery takes no other key's place
		return false, nil
	default: // recovery has brought back what was not told yet
		if old, err = s.moveAside(t.path, t.gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	if old == nil {
		return false, nil
	}
	t.gone = append(t.gone, old)
	all, err := h.isAll()
	return !all || !bytes.Equal(old, there), err
}

// tell says in the journals what is gone, and what will be: the file of that is made
// durable before, since it has no record any more if the change does not come about.
func (s *Store) tell(h *hold, t *taking, there []byte) error {
	if len(h.files) == 0 {
		return nil
	}
	if there != nil {
		if err := syncFile(t.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := s.sync(); err != nil {
			return err
		}
		if err := h.tell(tombstone(t.name, there)); err != nil {
			return err
		}
	}
	for _, value := range t.gone {
		if err := h.tell(tombstone(t.name, value)); err != nil {
			return err
		}
	}
	return nil
}

// moveAside removes a file, and returns what was in it. If something was removed
// before, it removes only what has come back of that. The file gets another name in
// between, so that what it returns is what it has removed.
func (s *Store) moveAside(path string, before [][]byte) ([]byte, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, err
	case len(before) > 0 && !holdsOneOf(path, before):
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
		if again := place(aside, path); again != nil && !errors.Is(again, fs.ErrExist) {
			return nil, errors.Join(err, again)
		}
		return nil, errors.Join(err, removeIf(aside))
	}
	return value, os.Remove(aside)
}

func removeIf(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func holdsOneOf(path string, values [][]byte) bool {
	there, err := readBounded(path)
	defer clear(there)
	return err == nil && isOneOf(there, values)
}

func isOneOf(value []byte, values [][]byte) bool {
	return slices.ContainsFunc(values, func(v []byte) bool { return bytes.Equal(v, value) })
}

// Set implements store.Store. No journal brings back what was there before, also when
// the new key is deleted.
func (s *Store) Set(ctx context.Context, name string, value []byte) error {
	path, leave, err := s.claim(ctx, name)
	if err != nil {
		return err
	}
	defer leave()
	s.mine(ctx) // a dead server's records are not added to
	t := taking{name: name, path: path, change: func() ([]byte, error) { return s.createNamed(path, value, swapIn) }}
	defer t.wipe()
	if err := s.takeAway(ctx, &t); err != nil {
		return exists(err)
	}
	return s.sync()
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
		now := time.Now()
		if err := os.Chtimes(to, now, now); errors.Is(err, fs.ErrNotExist) { // else a listing may remove it under its other name: see tidy
			continue
		}
		switch err := exchange(from, to); {
		case err == nil:
			old, err := readBounded(from)
			if errors.Is(err, fs.ErrNotExist) { // somebody tidies up all the same: the exchange was made
				err = nil
			}
			return old, err
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
