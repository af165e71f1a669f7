package fs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"arca/internal/kes/key"
)

// maxReplayed bounds what the keys of a journal take in memory, in bytes; journals
// of arca have a tenth of it (fullJournal).
const maxReplayed = 256 << 20

// maxRecord is the length of the longest record, in bytes.
const maxRecord = recordHead + 255 + key.MaxStored + recordSum

// replay returns the keys that a journal says there are, and the names of those that
// are gone, however long it is. What is no record, as a crash or a full disk leaves
// it, is skipped.
func replay(r io.Reader) (keys map[string][]byte, gone map[string]bool, err error) {
	keys, gone = map[string][]byte{}, map[string]bool{}
	buffer := make([]byte, 8*maxRecord)
	defer clear(buffer)
	var b []byte // what of the buffer is not taken yet
	size, end := 0, false
	for {
		if len(b) < maxRecord && !end {
			n := copy(buffer, b)
			more, err := io.ReadFull(r, buffer[n:])
			switch {
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				end = true
			case err != nil:
				return nil, nil, err
			}
			b = buffer[:n+more]
		}
		if len(b) == 0 {
			return keys, gone, nil
		}
		kind, name, value, rest, ok := readRecord(b)
		if !ok {
			b = skip(b)
			continue
		}
		b = rest
		switch kind {
		case kindCreate:
			size += len(name) + len(value) - len(keys[name])
			clear(keys[name])
			keys[name] = bytes.Clone(value)
			delete(gone, name)
		case kindDelete:
			if sum := sha256.Sum256(keys[name]); len(value) == 0 || bytes.Equal(sum[:], value) {
				size -= len(keys[name])
				clear(keys[name])
				delete(keys, name)
				gone[name] = true
			}
		}
		if size > maxReplayed {
			return nil, nil, fmt.Errorf("it holds more than %d MiB of keys, as no server writes: see what has written %s in the folder", maxReplayed>>20, journalName)
		}
	}
}

// skip goes on to where the next record may begin.
func skip(b []byte) []byte {
	if next := bytes.Index(b[1:], []byte(recordMagic)); next >= 0 {
		return b[1+next:]
	}
	return b[max(1, len(b)-len(recordMagic)+1):] // that may be the beginning of one
}

// A rewrite is a file that recovery has written, and the one that it replaces.
type rewrite struct {
	path, from string
	was        os.FileInfo // nil if it was missing
}

// recoverJournal makes files of what a crash has left in the journals, and removes
// them. It takes them for itself alone, and returns an error when it cannot for some
// time, or by the end of ctx. Then it goes on until open ends. The folder's lock is held.
func recoverJournal(ctx, open context.Context, dir string, lock *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, waitOthers)
	defer cancel()
	h, err := holdJournals(ctx, dir, true)
	if err != nil {
		return err
	}
	defer h.release()
	return h.recover(open, lock, false)
}

// recover makes files of what the journals hold where they are missing or broken, and
// removes these, which are held alone. With alive, no crash was in between: what is
// missing was deleted, or never acknowledged, and all else is written again. When ctx
// ends, the journals stay as they are.
func (h *hold) recover(ctx context.Context, lock *os.File, alive bool) error {
	dir := h.dir
	if len(h.files) == 0 && !alive {
		return nil
	}
	// What a checkpoint could not write, the system may have forgotten while it still
	// shows it: then all is written again.
	_, err := os.Lstat(filepath.Join(dir, journalOld))
	failed := err == nil || alive
	keys, gone, err := replay(h.records())
	if err != nil {
		return err
	}
	var files []rewrite
	defer func() {
		for _, w := range files {
			_ = os.Remove(w.from) // gone already after a rename
		}
		for _, value := range keys {
			clear(value)
		}
	}()
	if !alive {
		if err := removeBroken(dir, gone); err != nil {
			return err
		}
	}
	for name, value := range keys {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w, err := writeAgain(dir, name, value, failed, alive)
		if w.from != "" {
			files = append(files, w)
		}
		if err != nil {
			return err
		}
	}
	if err := syncFS(lock); err != nil {
		return err
	}
	for _, w := range files {
		if err := w.put(); err != nil {
			return err
		}
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	return removeJournals(dir)
}

// writeAgain writes a key to another file, unless the key's own is good. failed says
// that one with the same content need not be, and alive that one that is missing was
// deleted.
func writeAgain(dir, name string, value []byte, failed, alive bool) (rewrite, error) {
	path, err := pathOf(dir, name)
	if err != nil {
		return rewrite{}, err
	}
	was, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if alive {
			return rewrite{}, nil
		}
	case err != nil:
		return rewrite{}, err
	default:
		there, err := readBounded(path)
		defer clear(there)
		if errors.Is(err, errNotRegular) {
			return rewrite{}, nil
		}
		if err == nil {
			same := bytes.Equal(there, value)
			if same && !failed {
				return rewrite{}, nil // it is on the disk, or will be with all that the system has to write
			}
			if same && overwrite(path, was, value) == nil {
				return rewrite{}, nil
			}
			if _, err := key.Decode(there); err == nil && !same {
				return rewrite{}, nil // another key was made under the name, by another program
			}
		}
	}
	f, err := os.CreateTemp(dir, unfinished) // mode 0600
	if err != nil {
		return rewrite{}, err
	}
	w := rewrite{path: path, from: f.Name(), was: was}
	_, err = f.Write(value)
	return w, errors.Join(err, f.Close())
}

// overwrite writes to a file what it holds: the system, which may have forgotten that,
// has to write it then, and needs no room. A crash changes nothing of it.
func overwrite(path string, was os.FileInfo, value []byte) error {
	f, err := openJournalFile(path, os.O_WRONLY)
	if err != nil {
		return err
	}
	now, err := f.Stat()
	if err == nil && !os.SameFile(was, now) {
		err = fs.ErrExist
	}
	if err == nil {
		_, err = f.WriteAt(value, 0)
	}
	return errors.Join(err, f.Close())
}

// put gives the file its name. It takes none from another that has come meanwhile.
func (w *rewrite) put() error {
	if w.was == nil {
		if err := place(w.from, w.path); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	}
	now, err := os.Lstat(w.path)
	switch {
	case errors.Is(err, fs.ErrNotExist): // a program that knows no journal has removed it
		return nil
	case err != nil:
		return err
	case !os.SameFile(w.was, now), w.was.Size() != now.Size(), !w.was.ModTime().Equal(now.ModTime()):
		return nil
	}
	return os.Rename(w.from, w.path)
}

// removeBroken removes what a crash in the middle of a deletion has left of a key's
// file. One that is whole stays: that deletion was not acknowledged.
func removeBroken(dir string, gone map[string]bool) error {
	for name := range gone {
		path, err := pathOf(dir, name)
		if err != nil {
			return err
		}
		there, err := readBounded(path)
		if err != nil {
			continue // gone, or not the journal's
		}
		if _, err := key.Decode(there); err == nil {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeJournals removes the older first, for good: its records without the newer's
// tombstones would bring keys back.
func removeJournals(dir string) error {
	for _, name := range []string{journalOld, journalName} {
		switch err := os.Remove(filepath.Join(dir, name)); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		default:
			if err := syncDir(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// readBounded reads a regular file, up to one byte more than a stored key may have.
func readBounded(path string) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, key.MaxStored+1))
}
