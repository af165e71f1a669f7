package pebble

import (
	"os"
	"path"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/errs"
)

// A guardFS stands between Pebble and the disk. When the disk is full it waits, by its space. When the log or the manifest
// cannot be written for another reason, Pebble would end the process, from wherever it is; the guard records the fault and
// parks the goroutine, and the Store goes on answering reads.
type guardFS struct {
	vfs.FS
	space  *space
	fault  *fault
	opened atomic.Bool // before that, errors go to Pebble's Open, which returns them
}

// Unwrap implements vfs.FS.
func (g *guardFS) Unwrap() vfs.FS { return g.FS }

// do runs fn for the file name. It does not return if that fails for good and Pebble could not go on.
func (g *guardFS) do(name string, fn func() error) error {
	err := g.space.retry(name, fn)
	if err != nil {
		g.fail(name, err)
		g.fault.pause()
	}
	return err
}

// fail does not return if err, met at the file name, is such that Pebble could not go on.
func (g *guardFS) fail(name string, err error) {
	if !g.opened.Load() || !isVital(name) {
		return
	}
	g.fault.set(errs.New(errs.Unavailable, "storage failed: %w", err))
	select {}
}

// isVital reports whether Pebble holds a failure to write the file for the end.
func isVital(name string) bool {
	base := path.Base(name)
	return path.Ext(base) == ".log" || strings.HasPrefix(base, "MANIFEST") || strings.HasPrefix(base, "marker.") ||
		strings.HasPrefix(base, "CURRENT")
}

// Create implements vfs.FS.
func (g *guardFS) Create(name string, c vfs.DiskWriteCategory) (file vfs.File, err error) {
	err = g.do(name, func() error { file, err = g.FS.Create(name, c); return err })
	return g.wrap(file, name, err)
}

// ReuseForWrite implements vfs.FS.
func (g *guardFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (file vfs.File, err error) {
	err = g.do(name, func() error { file, err = g.FS.ReuseForWrite(old, name, c); return err })
	return g.wrap(file, name, err)
}

// OpenReadWrite implements vfs.FS.
func (g *guardFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := g.FS.OpenReadWrite(name, c, o...)
	return g.wrap(file, name, err)
}

// OpenDir implements vfs.FS.
func (g *guardFS) OpenDir(name string) (vfs.File, error) {
	file, err := g.FS.OpenDir(name)
	return g.wrap(file, "marker.", err) // what is synced in a folder are new logs and manifests
}

// Rename implements vfs.FS.
func (g *guardFS) Rename(old, name string) error {
	return g.do(name, func() error { return g.FS.Rename(old, name) })
}

// Link implements vfs.FS.
func (g *guardFS) Link(old, name string) error {
	return g.space.retry(name, func() error { return g.FS.Link(old, name) })
}

// MkdirAll implements vfs.FS.
func (g *guardFS) MkdirAll(dir string, perm os.FileMode) error {
	return g.space.retry(dir, func() error { return g.FS.MkdirAll(dir, perm) })
}

func (g *guardFS) wrap(file vfs.File, name string, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &guardFile{File: file, name: name, fs: g}, nil
}

type guardFile struct {
	vfs.File
	name string
	fs   *guardFS
}

// Write implements io.Writer. A write that was cut short by a full disk is continued where it ended.
func (f *guardFile) Write(p []byte) (n int, err error) {
	err = f.fs.do(f.name, func() error {
		m, err := f.File.Write(p[n:])
		n += m
		return err
	})
	return n, err
}

// WriteAt implements io.WriterAt.
func (f *guardFile) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.fs.do(f.name, func() error { n, err = f.File.WriteAt(p, at); return err })
	return n, err
}

// Sync implements vfs.File. After a failure it is not known what has reached the disk, so it is not tried again.
func (f *guardFile) Sync() error { return f.vital(f.File.Sync()) }

// SyncData implements vfs.File.
func (f *guardFile) SyncData() error { return f.vital(f.File.SyncData()) }

// SyncTo implements vfs.File.
func (f *guardFile) SyncTo(length int64) (fullSync bool, err error) {
	fullSync, err = f.File.SyncTo(length)
	return fullSync, f.vital(err)
}

// Close implements io.Closer.
func (f *guardFile) Close() error { return f.vital(f.File.Close()) }

func (f *guardFile) vital(err error) error {
	if err != nil {
		f.fs.fail(f.name, err)
		f.fs.fault.pause()
	}
	return err
}

// Preallocate implements vfs.File. It is only for speed; a full disk shows when it is written to.
func (f *guardFile) Preallocate(offset, length int64) error {
	if err := f.File.Preallocate(offset, length); !isFull(err) {
		return err
	}
	return nil
}
