package audit

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"arca/internal/errs"
)

const defaultFileMode = 0o600

// fileSink appends to a file. Lines count as taken when write(2) has them, as
// in Vault; they are not synced to the disk.
type fileSink struct {
	path string
	mode fs.FileMode
	keep bool // mode 0000: leave the mode of a file as it is

	buf  []byte
	torn bool // the last write left a part of a line

	mu   sync.Mutex
	file *os.File // under mu, for interrupt
	dead bool     // under mu: interrupted
}

// newFile checks the options of a file device.
func newFile(o map[string]string) (sink, error) {
	path := o["file_path"]
	if path == "" {
		path = o["path"] // the older name
	}
	switch path {
	case "":
		return nil, errs.New(errs.Invalid, "file_path is required")
	case "discard":
		return discard{}, nil
	}
	s := &fileSink{path: path, mode: defaultFileMode}
	if text, ok := o["mode"]; ok {
		mode, err := strconv.ParseUint(text, 8, 32)
		if err != nil {
			return nil, errs.New(errs.Invalid, "%s", err.Error())
		}
		switch {
		case mode&0o111 != 0:
			return nil, errs.New(errs.Invalid, "mode %q: an audit file cannot be executable", text)
		case mode > 0o777:
			return nil, errs.New(errs.Invalid, "mode %q: only the permissions of an audit file can be set", text)
		case mode == 0:
			s.keep = true
		default:
			s.mode = fs.FileMode(mode)
		}
	}
	return s, nil
}

// standard reports whether the file is one of the process's own streams.
func (s *fileSink) standard() *os.File {
	switch s.path {
	case "stdout":
		return os.Stdout
	case "stderr":
		return os.Stderr
	}
	return nil
}

func (s *fileSink) open() error {
	f := s.standard()
	if f == nil {
		var err error
		if f, err = s.openFile(); err != nil {
			return err
		}
	}
	return s.set(f)
}

// openFile opens the file, and makes it and its folder if they are not there.
// It does not wait for the reader of a pipe.
func (s *fileSink) openFile() (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, s.mode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() && info.Size() > 0 {
		// A stop in the middle of a line must not spoil the next.
		if end, _, err := s.tail(1); err == nil && len(end) == 1 && end[0] != '\n' {
			s.torn = true
		}
	}
	if err == nil && s.keep && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
		err = errs.New(errs.Invalid, "%s can be executed: an audit file cannot; change its mode, or leave mode=0000 out", s.path)
	}
	if err == nil && !s.keep && info.Mode().IsRegular() && info.Mode().Perm() != s.mode {
		err = f.Chmod(s.mode)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

func (s *fileSink) set(f *os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		_ = s.release(f) // nothing was written
		return fs.ErrClosed
	}
	old := s.file
	s.file = f
	return s.release(old)
}

// release closes f unless it belongs to the process.
func (s *fileSink) release(f *os.File) error {
	if f == nil || f == os.Stdout || f == os.Stderr {
		return nil
	}
	return f.Close()
}

func (s *fileSink) write(lines [][]byte) (n int, broken bool, err error) {
	s.mu.Lock()
	f := s.file
	s.mu.Unlock()
	if f == nil {
		return 0, true, fs.ErrClosed
	}
	if s.torn { // begin a new line, so that only one is spoilt
		if _, err := f.Write([]byte{'\n'}); err != nil {
			return 0, true, err
		}
		s.torn = false
	}
	all := lines[0]
	if len(lines) > 1 {
		s.buf = join(s.buf[:0], lines)
		all = s.buf
	}
	written, err := f.Write(all)
	if err == nil {
		return len(lines), false, nil
	}
	s.torn = written > 0 && all[written-1] != '\n'
	return whole(lines, written), true, err
}

// reload opens the file by its name again. When that fails the old one stays.
func (s *fileSink) reload() error {
	if s.standard() != nil {
		return nil
	}
	torn := s.torn
	s.torn = false
	f, err := s.openFile()
	if err != nil {
		s.torn = torn
		return err
	}
	return s.set(f)
}

func (s *fileSink) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	_ = s.release(s.file) // its writer sees the error
}

func (s *fileSink) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.file
	s.file = nil
	if s.dead {
		return nil
	}
	return s.release(f)
}

// discard takes everything and keeps nothing.
type discard struct{}

func (discard) open() error                             { return nil }
func (discard) write(lines [][]byte) (int, bool, error) { return len(lines), false, nil }
func (discard) reload() error                           { return nil }
func (discard) interrupt()                              {}
func (discard) close() error                            { return nil }
