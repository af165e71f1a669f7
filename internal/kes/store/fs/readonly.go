package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/key"
	"arca/internal/kes/store"
)

// A readOnly is a folder that is read and left as it is, whatever a crash has left in
// it. What is in the journal only, it has in memory.
type readOnly struct {
	s       *Store
	missing map[string][]byte // keys of the journal whose files are missing or broken
}

var _ store.Store = (*readOnly)(nil)

// OpenReadOnly opens a folder of keys to read them, also while servers use it. It writes
// nothing there, and recovers no journal: see Open. The keys are those of the moment,
// and what is made afterwards.
func OpenReadOnly(dir string) (store.Store, error) {
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
	r := &readOnly{s: &Store{dir: dir, without: true}}
	keys, err := readJournals(dir)
	if err != nil || !r.lacks(keys) {
		return r, err
	}
	// A file may be missing because it was deleted since: then the journal says so now,
	// or is gone.
	if keys, err = readJournals(dir); err != nil {
		return nil, err
	}
	r.missing = keys
	r.lacks(keys)
	return r, nil
}

// readJournals returns the keys of the journals, the older first.
func readJournals(dir string) (map[string][]byte, error) {
	var all []io.Reader
	for _, name := range []string{journalOld, journalName} {
		f, err := openJournalFile(filepath.Join(dir, name), os.O_RDONLY)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		all = append(all, f)
	}
	keys, _, err := replay(io.MultiReader(all...))
	return keys, err
}

// lacks leaves of keys those without a file, and reports whether there are any.
func (r *readOnly) lacks(keys map[string][]byte) bool {
	for name := range keys {
		if _, err := pathOf(r.s.dir, name); err != nil || r.isWhole(name) {
			clear(keys[name])
			delete(keys, name)
		}
	}
	return len(keys) > 0
}

func (r *readOnly) isWhole(name string) bool {
	path, err := r.s.path(name)
	if err != nil {
		return false
	}
	there, err := readBounded(path)
	defer clear(there)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) // no key's file, or none that is ours to read
	}
	_, err = key.Decode(there)
	return err == nil
}

// Status implements store.Store.
func (r *readOnly) Status(ctx context.Context) (time.Duration, error) { return r.s.Status(ctx) }

// Get implements store.Store.
func (r *readOnly) Get(ctx context.Context, name string) ([]byte, error) {
	if value, ok := r.missing[name]; ok && !r.isWhole(name) {
		return append([]byte(nil), value...), nil
	}
	return r.s.Get(ctx, name)
}

// List implements store.Store.
func (r *readOnly) List(ctx context.Context, prefix, from string, n int) ([]string, string, error) {
	names := store.NewPager(prefix, from, n)
	for name := range r.missing {
		names.Add(name)
	}
	return r.s.list(ctx, names, func(fs.DirEntry) {})
}

// String implements store.Store.
func (r *readOnly) String() string { return r.s.String() }

// Close implements store.Store.
func (r *readOnly) Close() error {
	for _, value := range r.missing {
		clear(value)
	}
	return nil
}

var errReadOnly = errors.New("the folder of the keys was opened to be read only")

// Create implements store.Store: it refuses.
func (*readOnly) Create(context.Context, string, []byte) error { return errReadOnly }

// Set implements store.Store: it refuses.
func (*readOnly) Set(context.Context, string, []byte) error { return errReadOnly }

// Delete implements store.Store: it refuses.
func (*readOnly) Delete(context.Context, string) error { return errReadOnly }
