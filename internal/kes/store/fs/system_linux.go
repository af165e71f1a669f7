package fs

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// errLocked says that another server has the folder's lock.
var errLocked = errors.New("another server has the folder's lock")

// lockDir takes the lock of a folder on a file system of this machine.
// errors.ErrUnsupported on others: of those, neither locks nor appends are sure to
// hold between machines.
func lockDir(dir string) (*os.File, error) {
	d, err := os.Open(dir) //nolint:gosec // the configured folder
	if err != nil {
		return nil, err
	}
	var about unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &about); err != nil || !isLocal(about.Type) {
		_ = d.Close() // read only
		return nil, errors.ErrUnsupported
	}
	if _, err := isLocked(d, aliveByte); err != nil { // without these there is no recovery
		_ = d.Close() // read only
		return nil, errors.ErrUnsupported
	}
	switch err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		_ = d.Close() // read only
		return nil, errLocked
	case err != nil:
		_ = d.Close() // read only
		return nil, errors.ErrUnsupported
	}
	return d, nil
}

func isLocal(kind int64) bool {
	switch kind {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC,
		unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, zfsMagic:
		return true
	}
	return false
}

const zfsMagic = 0x2fc12fc1

// openJournalFile opens a journal: a regular file, and no link to one.
func openJournalFile(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	var about unix.Stat_t
	if err := unix.Fstat(fd, &about); err != nil || about.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = f.Close() // nothing was written
		return nil, &os.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	return f, nil
}

// lockRange locks a byte of a file against all who have opened it otherwise; errBusy
// when one of those has it.
func lockRange(f *os.File, alone bool, at int64) error {
	kind := int16(unix.F_RDLCK)
	if alone {
		kind = unix.F_WRLCK
	}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: at, Len: 1})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errBusy
	}
	return err
}

func unlockRange(f *os.File, at int64) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart, Start: at, Len: 1})
}

// isLocked reports whether somebody has a byte for itself alone.
func isLocked(f *os.File, at int64) (bool, error) {
	is := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart, Start: at, Len: 1}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &is)
	return is.Type == unix.F_WRLCK, err
}

// isHere reports whether a file is on a file system of this machine.
func isHere(f *os.File) bool {
	var about unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &about) == nil && isLocal(about.Type)
}

// place gives a file a name that is free; fs.ErrExist when it is not.
func place(from, to string) error {
	err := os.Link(from, to)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) { // no links here
		err = unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	}
	return err
}

// exchange swaps two files.
func exchange(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return errors.ErrUnsupported
	}
	return err
}

// syncFS writes all of the folder's file system.
func syncFS(d *os.File) error { return unix.Syncfs(int(d.Fd())) }

// syncData makes a file's content durable.
func syncData(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// unlinked reports whether a file has no name any more.
func unlinked(f *os.File) bool {
	var about unix.Stat_t
	return unix.Fstat(int(f.Fd()), &about) != nil || about.Nlink == 0
}

// openRegular opens a file to read, and nothing that could hold the reader up.
func openRegular(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	var about unix.Stat_t
	if err := unix.Fstat(fd, &about); err != nil || about.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = f.Close() // read only
		return nil, &os.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	return f, nil
}

// nameless is a file without a name; not all file systems have such:
// errors.ErrUnsupported.
func (s *Store) nameless(value []byte, sync bool) (*os.File, error) {
	fd, err := unix.Open(s.dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EINVAL):
		return nil, errors.ErrUnsupported
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: s.dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), "")
	if _, err = f.Write(value); err == nil && sync {
		err = f.Sync()
	}
	if err != nil {
		_ = f.Close() // it is gone with that
		return nil, err
	}
	return f, nil
}

// link gives a nameless file its name.
func link(f *os.File, path string) error {
	from := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if errors.Is(err, unix.ENOENT) { // no /proc, or the folder is gone
		if _, missing := os.Stat(from); missing != nil {
			return errors.ErrUnsupported
		}
	}
	if err != nil {
		return &os.LinkError{Op: "link", Old: from, New: path, Err: err}
	}
	return nil
}
