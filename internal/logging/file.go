package logging

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"arca/internal/errs"
)

// FileConfig says where the log file is and when it is put aside.
type FileConfig struct {
	Path  string           // a file, or a folder (then vault.log in it); "" for none
	After time.Duration    // put aside after so long; 0: 24 h
	Bytes int64            // put aside when larger; 0: never for size
	Keep  int              // how many to keep that were put aside; 0: all, negative: none
	Now   func() time.Time // nil: time.Now
}

const defaultRotation = 24 * time.Hour

// A file is a log file that is put aside by age and size. Its user's lock
// guards it.
type file struct {
	cfg    FileConfig
	f      *os.File
	size   int64
	opened time.Time
}

func openFile(cfg FileConfig) (*file, error) {
	if fi, err := os.Stat(cfg.Path); err == nil && fi.IsDir() || strings.HasSuffix(cfg.Path, "/") {
		cfg.Path = filepath.Join(cfg.Path, "vault.log")
	}
	if cfg.After <= 0 {
		cfg.After = defaultRotation
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	f := &file{cfg: cfg}
	return f, f.reopen()
}

func (f *file) reopen() error {
	n, err := os.OpenFile(f.cfg.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640) //nolint:gosec // the operator chose it
	if err != nil {
		return errs.New(errs.Invalid, "open the log file: %w", err)
	}
	if f.f != nil {
		_ = f.f.Close() // replaced
	}
	f.f, f.size, f.opened = n, 0, f.cfg.Now()
	if fi, err := n.Stat(); err == nil {
		f.size = fi.Size()
	}
	return nil
}

// Write implements io.Writer.
func (f *file) Write(p []byte) (int, error) {
	old := f.cfg.Now().Sub(f.opened) >= f.cfg.After
	if f.size > 0 && (old || f.cfg.Bytes > 0 && f.size+int64(len(p)) > f.cfg.Bytes) {
		if err := f.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := f.f.Write(p)
	f.size += int64(n)
	return n, err
}

// rotate renames the file to name-<nanoseconds>.ext and begins a new one.
func (f *file) rotate() error {
	ext := filepath.Ext(f.cfg.Path)
	stem := strings.TrimSuffix(f.cfg.Path, ext)
	if err := os.Rename(f.cfg.Path, fmt.Sprintf("%s-%d%s", stem, f.cfg.Now().UnixNano(), ext)); err != nil {
		return err
	}
	if err := f.reopen(); err != nil {
		return err
	}
	return f.prune(stem, ext)
}

func (f *file) prune(stem, ext string) error {
	if f.cfg.Keep == 0 {
		return nil
	}
	aside, err := filepath.Glob(globText(stem) + "-[0-9]*" + globText(ext))
	if err != nil {
		return err
	}
	slices.Sort(aside)
	for len(aside) > max(f.cfg.Keep, 0) {
		if err := os.Remove(aside[0]); err != nil {
			return err
		}
		aside = aside[1:]
	}
	return nil
}

// globText keeps the letters of a path from being taken for a pattern.
func globText(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(s)
}

// Close closes the file.
func (f *file) Close() error { return f.f.Close() }
