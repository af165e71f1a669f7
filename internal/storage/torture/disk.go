//go:build torture

package torture

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func (d *disk) is(ill func(*control) bool, op, path string) error {
	if c := d.ails.Load(); c != nil && ill(c) {
		return &os.PathError{Op: op, Path: path, Err: syscall.EIO}
	}
	return nil
}

func (d *disk) write(op, path string) error {
	return d.is(func(c *control) bool { return c.writesFail }, op, path)
}

func (d *disk) sync(path string) error {
	for c := d.ails.Load(); c != nil && c.syncsHang; c = d.ails.Load() {
		time.Sleep(lookEvery)
	}
	return d.is(func(c *control) bool { return c.syncsFail }, "fsync", path)
}

// Unwrap implements vfs.FS.
func (d *disk) Unwrap() vfs.FS { return d.FS }

func (d *disk) wrap(f vfs.File, path string, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &file{File: f, disk: d, path: path}, nil
}

// Create implements vfs.FS.
func (d *disk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.write("create", name); err != nil {
		return nil, err
	}
	f, err := d.FS.Create(name, c)
	return d.wrap(f, name, err)
}

// ReuseForWrite implements vfs.FS.
func (d *disk) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.write("rename", old); err != nil {
		return nil, err
	}
	f, err := d.FS.ReuseForWrite(old, name, c)
	return d.wrap(f, name, err)
}

// OpenReadWrite implements vfs.FS. It may make the file, which succeeds: what is not synced may be there.
func (d *disk) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, o...)
	return d.wrap(f, name, err)
}

// OpenDir implements vfs.FS.
func (d *disk) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	return d.wrap(f, name, err)
}

// Link implements vfs.FS.
func (d *disk) Link(old, name string) error {
	if err := d.write("link", old); err != nil {
		return err
	}
	return d.FS.Link(old, name)
}

// Rename implements vfs.FS.
func (d *disk) Rename(old, name string) error {
	if err := d.write("rename", old); err != nil {
		return err
	}
	return d.FS.Rename(old, name)
}

// MkdirAll implements vfs.FS.
func (d *disk) MkdirAll(dir string, perm os.FileMode) error {
	if err := d.write("mkdir", dir); err != nil {
		return err
	}
	return d.FS.MkdirAll(dir, perm)
}

// A file of a disk knows what was there before that which is not synced yet, where that was written at offsets.
type file struct {
	vfs.File
	disk *disk
	path string

	mu     sync.Mutex
	before []part
}

// A part of a file, as it was: short where the file ended.
type part struct {
	at   int64
	was  []byte
	full int // how much was written over it
}

// Write implements io.Writer.
func (f *file) Write(b []byte) (int, error) {
	if err := f.disk.write("write", f.path); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

// WriteAt implements io.WriterAt.
func (f *file) WriteAt(b []byte, at int64) (int, error) {
	if err := f.disk.write("write", f.path); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	was := make([]byte, len(b))
	n, err := f.File.ReadAt(was, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	f.before = append(f.before, part{at, was[:n], len(b)})
	return f.File.WriteAt(b, at)
}

// synced does a sync, or has it fail.
func (f *file) synced(sync func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.disk.sync(f.path)
	if err == nil {
		err = sync()
	} else if rand.IntN(2) == 0 { //nolint:gosec // which fault comes need not be secret
		err = errors.Join(err, f.lose())
	}
	f.before = nil
	return err
}

// lose takes back what was written since the last sync. A file that was longer by it stays so, with nothing in it. The caller holds mu.
func (f *file) lose() error {
	for i := len(f.before) - 1; i >= 0; i-- {
		p := f.before[i]
		if _, err := f.File.WriteAt(append(p.was, make([]byte, p.full-len(p.was))...), p.at); err != nil {
			return err
		}
	}
	return nil
}

// Sync implements vfs.File.
func (f *file) Sync() error { return f.synced(f.File.Sync) }

// SyncData implements vfs.File.
func (f *file) SyncData() error { return f.synced(f.File.SyncData) }

// SyncTo implements vfs.File.
func (f *file) SyncTo(length int64) (fullSync bool, err error) {
	err = f.synced(func() error { fullSync, err = f.File.SyncTo(length); return err })
	return fullSync, err
}
