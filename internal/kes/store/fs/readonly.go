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
	"syscall"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/key"
	"arca/internal/kes/store"
)

var errReadOnly = errors.New("the folder of the keys was opened to be read only")

// A frozen is why a folder is only read, and what of its keys is in journals only. It is
// left as it is, whatever a crash has left in it.
type frozen struct {
	why     error
	dir     string
	files   []*os.File        // the journals, the older first
	missing map[string][]byte // keys of the journals whose files are missing or broken
}

// OpenReadOnly opens a folder of keys to read them, also while servers use it. It writes
// nothing there, and recovers no journal: see Open. The keys are those of the moment,
// and what is made afterwards.
func OpenReadOnly(dir string) (*Store, error) {
	if dir == "" {
		return nil, errs.New(errs.Invalid, "keystore.fs.path is missing: name the folder of the keys")
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("the folder of the keys: %w", err)
	}
	if !info.IsDir() {
		return nil, errs.New(errs.Invalid, "keystore.fs.path: %s is not a folder", dir)
	}
	s := &Store{dir: dir, without: true}
	if err := s.freeze(errReadOnly); err != nil {
		return nil, err
	}
	return s, nil
}

// freeze has the store refuse changes, and read what is in journals only from memory.
func (s *Store) freeze(why error) error {
	f := &frozen{why: why, dir: s.dir}
	err := f.read()
	// A file may be missing because it was deleted since: then the journal says so now,
	// or is gone.
	if err == nil && len(f.missing) > 0 {
		f.close()
		err = f.read()
	}
	if err != nil {
		f.close()
		return err
	}
	s.frozen.Store(f)
	return nil
}

func (f *frozen) read() error {
	f.files = nil
	var all []io.Reader
	for _, name := range []string{journalOld, journalName} {
		file, err := openJournalFile(filepath.Join(f.dir, name), os.O_RDONLY)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		f.files = append(f.files, file)
		all = append(all, file)
	}
	keys, _, err := replay(io.MultiReader(all...))
	if err != nil {
		return err
	}
	for name := range keys {
		if f.isWhole(name) {
			clear(keys[name])
			delete(keys, name)
		}
	}
	f.missing = keys
	return nil
}

func (f *frozen) close() {
	for _, file := range f.files {
		_ = file.Close() // read only
	}
}

// isWhole reports whether a key's own file counts: it is good, or none that is ours.
func (f *frozen) isWhole(name string) bool {
	path, err := pathOf(f.dir, name)
	if err != nil {
		return true
	}
	there, err := readBounded(path)
	defer clear(there)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	_, err = key.Decode(there)
	return err == nil
}

// get returns a key that is in a journal only, and still is: another server may have
// recovered the folder, and the key been deleted since.
func (f *frozen) get(name string) (value []byte, ok bool) {
	if f == nil {
		return nil, false
	}
	value, ok = f.missing[name]
	if !ok || f.isWhole(name) || f.isRecovered() {
		return nil, false
	}
	return append([]byte(nil), value...), true
}

func (f *frozen) isRecovered() bool {
	for _, file := range f.files {
		if unlinked(file) {
			return true
		}
	}
	return false
}

// refuse is the error of a change while the folder is only read.
func (s *Store) refuse() error {
	if f := s.frozen.Load(); f != nil {
		return f.why
	}
	return nil
}

// isNoRoom reports whether a folder cannot be written to, though it can be read.
func isNoRoom(err error) bool {
	for _, is := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, fs.ErrPermission} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// openFull opens a folder which cannot be recovered since there is no room for it: its
// keys are read, and none is made or deleted until there is.
func (s *Store) openFull(why error, log *slog.Logger) error {
	err := s.freeze(fmt.Errorf("a crash has left the folder for the keys unfinished, and until that is mended no key is made or deleted: %w", why))
	if err != nil {
		return errors.Join(why, err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log.Error("the folder for the keys cannot be written to: keys are read only; make room, or give write access", "folder", s.dir, "error", why)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.again = time.AfterFunc(healEvery, func() {
		if s.thaw() {
			log.Info("the folder for the keys is mended: keys are made and deleted again", "folder", s.dir)
		}
	})
	return nil
}

// thaw tries again to recover the folder.
func (s *Store) thaw() bool {
	leave, err := s.locking.Take(context.Background(), onlyOne)
	if err != nil {
		return false
	}
	defer leave()
	j, err := s.take(context.Background())
	if err == nil && (j != nil || s.without || !isLeft(s.dir)) {
		if f := s.frozen.Swap(nil); f != nil {
			f.close() // who reads from it yet looks for the file then
		}
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.again.Reset(healEvery)
	}
	return false
}

// list adds what is in journals only to a listing.
func (f *frozen) list(names *store.Pager) {
	for name := range f.missing {
		if _, ok := f.get(name); ok {
			names.Add(name)
		}
	}
}
