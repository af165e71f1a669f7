package audit

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"arca/internal/errs"
)

func openFile(t *testing.T, options map[string]string) *fileSink {
	t.Helper()
	s, err := newFile(options)
	if err != nil {
		t.Fatal(err)
	}
	f := s.(*fileSink)
	if err := f.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.close() })
	return f
}

func put(t *testing.T, s sink, lines ...string) {
	t.Helper()
	raw := make([][]byte, len(lines))
	for i, l := range lines {
		raw[i] = []byte(l + "\n")
	}
	if n, _, err := s.write(raw); err != nil || n != len(lines) {
		t.Fatalf("took %d of %d lines: %v", n, len(lines), err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// S3-41, S3-45: any path, also one whose folder is not there yet; and no
// permission to execute (CVE-2025-6000).
func TestFileModes(t *testing.T) {
	for _, c := range []struct {
		name, mode string
		before     os.FileMode // of a file that is there; 0: none
		want       os.FileMode
		fails      bool
	}{
		{name: "default", want: 0o600},
		{name: "given", mode: "0640", want: 0o640},
		{name: "narrowed", before: 0o666, want: 0o600},
		{name: "left alone", mode: "0000", before: 0o644, want: 0o644},
		{name: "executable", mode: "0755", fails: true},
		{name: "executable by others", mode: "0601", fails: true},
		{name: "setuid", mode: "4600", fails: true},
		{name: "no number", mode: "rw", fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "new", "folder", "a.log")
			if c.before != 0 {
				path = filepath.Join(t.TempDir(), "a.log")
				if err := os.WriteFile(path, nil, c.before); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, c.before); err != nil {
					t.Fatal(err)
				}
			}
			options := map[string]string{"file_path": path}
			if c.mode != "" {
				options["mode"] = c.mode
			}
			if c.fails {
				if _, err := newFile(options); !errs.Is(err, errs.Invalid) {
					t.Fatalf("got %v, want an invalid option", err)
				}
				return
			}
			openFile(t, options)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != c.want {
				t.Errorf("got mode %o, want %o", got, c.want)
			}
		})
	}
}

// A file that can be executed is none to append to, though its mode is to stay.
func TestFileExecutable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := newFile(map[string]string{"file_path": path, "mode": "0000"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.open(); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "can be executed") {
		t.Errorf("got %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f := openFile(t, map[string]string{"file_path": path, "mode": "0000"})
	if err := os.Chmod(path, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := f.reload(); !errs.Is(err, errs.Invalid) {
		t.Errorf("at a reload: %v", err)
	}
}

func TestFileRelative(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, openFile(t, map[string]string{"file_path": "path/to/file.log"}), "a")
	if got := content(t, "path/to/file.log"); got != "a\n" {
		t.Errorf("got %q", got)
	}
}

// After log rotation the old file is written to until the reload, and the new
// one from then on. If the new one cannot be opened the old one stays.
func TestFileReload(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "a.log")
	s := openFile(t, map[string]string{"file_path": path})
	put(t, s, "one")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "two")
	if err := s.reload(); err != nil {
		t.Fatal(err)
	}
	put(t, s, "three")
	if got := content(t, path+".1") + "|" + content(t, path); got != "one\ntwo\n|three\n" {
		t.Errorf("got %q", got)
	}
	if err := os.Rename(filepath.Join(dir, "sub"), filepath.Join(dir, "old")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sub"), nil, 0o600); err != nil { // in the folder's place
		t.Fatal(err)
	}
	if err := s.reload(); err == nil {
		t.Fatal("opened a file below a file")
	}
	put(t, s, "four")
	if got := content(t, filepath.Join(dir, "old", "a.log")); got != "three\nfour\n" {
		t.Errorf("got %q", got)
	}
}

// A disk that fills up in the middle of a line spoils no other line.
func TestFileTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	s := openFile(t, map[string]string{"file_path": path})
	put(t, s, "whole")
	if _, err := s.file.WriteString(`{"torn`); err != nil { // as a full disk leaves it
		t.Fatal(err)
	}
	s.torn = true
	put(t, s, "next", "last")
	if got := content(t, path); got != "whole\n{\"torn\nnext\nlast\n" {
		t.Errorf("got %q", got)
	}
}

func TestWhole(t *testing.T) {
	lines := [][]byte{[]byte("ab\n"), []byte("c\n"), []byte("def\n")}
	for written, want := range []int{0, 0, 0, 1, 1, 2, 2, 2, 2, 3} {
		if got := whole(lines, written); got != want {
			t.Errorf("%d bytes: got %d lines, want %d", written, got, want)
		}
	}
}

func TestFileFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("this system has no /dev/full")
	}
	s := openFile(t, map[string]string{"file_path": "/dev/full", "mode": "0000"})
	if n, broken, err := s.write([][]byte{[]byte("a\n")}); n != 0 || !broken || err == nil {
		t.Errorf("got %d, %v, %v", n, broken, err)
	}
}

// A pipe whose reader is stuck can be interrupted, and one without a reader is
// refused rather than waited for.
func TestFilePipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	s, err := newFile(map[string]string{"file_path": path})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.open(); err == nil {
		t.Fatal("opened a pipe that nobody reads")
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, _, err := s.write([][]byte{[]byte(strings.Repeat("x", 1<<20) + "\n")}) // more than a pipe holds
		done <- err
	}()
	s.interrupt()
	if err := <-done; err == nil {
		t.Error("the write ended well")
	}
}
