package pebble

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/errs"
)

// The marker file says that a folder is ours. It is written before anything else; its content changes when the store has
// been made, so that a store whose files have vanished is never mistaken for a new one.
const (
	markerName  = "arca.storage"
	markerNew   = "arca storage 1, being made\n"
	markerReady = "arca storage 1\n"
)

const writeCategory = vfs.WriteCategoryUnspecified

type folder struct {
	fs   vfs.FS
	path string
}

// prepare makes the folder if need be and reports whether a store is to be made in it.
func (f *folder) prepare() (isNew bool, err error) {
	if err := f.makeDirs(f.path); err != nil {
		return false, errs.New(errs.Unavailable, "create the storage folder %q: %w", f.path, err)
	}
	names, err := f.fs.List(f.path)
	if err != nil {
		return false, errs.New(errs.Unavailable, "read the storage folder %q: %w", f.path, err)
	}
	var marked bool
	var foreign string
	for _, name := range names {
		switch name {
		case markerName:
			marked = true
		case "lost+found", markerName + ".tmp":
		default:
			foreign = name
		}
	}
	if !marked {
		if foreign != "" {
			return false, errs.New(errs.Invalid,
				"the folder %q holds other files (%s, for one) and no arca storage; give an empty or a new folder", f.path, foreign)
		}
		return true, f.mark(markerNew)
	}
	text, err := f.readMarker()
	switch {
	case err != nil:
		return false, errs.New(errs.Unavailable, "read the storage folder %q: %w", f.path, err)
	case text == markerReady:
		return false, nil
	case strings.HasPrefix(markerNew, text): // cut short while it was being made
		return true, nil
	}
	return false, errs.New(errs.Invalid, "the storage folder %q was written by another version of arca, or %s in it is damaged",
		f.path, markerName)
}

// makeDirs makes path and what is missing above it, durably.
func (f *folder) makeDirs(path string) error {
	if _, err := f.fs.Stat(path); err == nil {
		return nil
	}
	parent := f.fs.PathDir(path)
	if parent != path {
		if err := f.makeDirs(parent); err != nil {
			return err
		}
	}
	if err := f.fs.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return f.syncDir(parent)
}

func (f *folder) syncDir(path string) error {
	d, err := f.fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f *folder) readMarker() (string, error) {
	file, err := f.fs.Open(f.fs.PathJoin(f.path, markerName))
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 1024))
	return string(text), err
}

// finish marks the store as made.
func (f *folder) finish() error { return f.mark(markerReady) }

func (f *folder) mark(text string) error {
	if err := f.replaceMarker(text); err != nil {
		return errs.New(errs.Unavailable, "write to the storage folder %q: %w", f.path, err)
	}
	return nil
}

func (f *folder) replaceMarker(text string) error {
	name := f.fs.PathJoin(f.path, markerName)
	file, err := f.fs.Create(name+".tmp", writeCategory)
	if err != nil {
		return err
	}
	_, err = file.Write([]byte(text))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := f.fs.Rename(name+".tmp", name); err != nil {
		return err
	}
	return f.syncDir(f.path)
}

// explain says what an error of Pebble's Open means and what to do.
func (f *folder) explain(err error) error {
	const kind = errs.Unavailable
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EACCES) && f.isWritable(),
		strings.Contains(err.Error(), "lock held by current process"):
		return errs.New(kind, "the storage folder %q is in use by another process; stop that one or choose another folder", f.path)
	case errors.Is(err, os.ErrPermission):
		return errs.New(kind, "the storage folder %q may not be read and written by this user: %w", f.path, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errs.New(kind, "the disk of the storage folder %q is full; free some space and start again: %w", f.path, err)
	case errors.Is(err, pebble.ErrDBDoesNotExist), pebble.IsCorruptionError(err), errors.Is(err, os.ErrNotExist):
		return errs.New(kind, "the storage folder %q is damaged; restore it or a snapshot, nothing in it was changed: %w", f.path, err)
	}
	return errs.New(kind, "open the storage folder %q: %w", f.path, err)
}

// isWritable tells a lock that is refused with EACCES from a folder that is not ours.
func (f *folder) isWritable() bool {
	name := f.fs.PathJoin(f.path, markerName+".tmp")
	file, err := f.fs.Create(name, writeCategory)
	if err != nil {
		return false
	}
	return errors.Join(file.Close(), f.fs.Remove(name)) == nil
}
