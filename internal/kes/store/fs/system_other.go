//go:build !linux

package fs

import (
	"errors"
	"os"
)

// errLocked says that another server has the folder's lock.
var errLocked = errors.New("another server has the folder's lock")

// lockDir, syncFS and what is without a name are Linux's only: elsewhere each key
// is synced for itself.
func lockDir(string) (*os.File, error) { return nil, errors.ErrUnsupported }

// openJournalFile opens what only a server on Linux leaves.
func openJournalFile(path string, flags int) (*os.File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &os.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	return os.OpenFile(path, flags, 0) //nolint:gosec // the configured folder
}

func lockRange(*os.File, bool, int64) error { return errors.ErrUnsupported }

func unlockRange(*os.File, int64) error { return errors.ErrUnsupported }

func isLocked(*os.File, int64) (bool, error) { return false, errors.ErrUnsupported }

func isHere(*os.File) bool { return false }

func place(from, to string) error { return os.Link(from, to) }

func exchange(string, string) error { return errors.ErrUnsupported }

func syncFS(*os.File) error { return errors.ErrUnsupported }

func syncData(f *os.File) error { return f.Sync() }

func unlinked(*os.File) bool { return false }

// openRegular opens a file to read, and nothing that could hold the reader up.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &os.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	return os.Open(path) //nolint:gosec // a name has no separators
}

func (*Store) nameless([]byte, bool) (*os.File, error) { return nil, errors.ErrUnsupported }

func link(*os.File, string) error { return errors.ErrUnsupported }
