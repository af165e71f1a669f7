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

	"arca/internal/kes/store"
)

// Bytes of a journal that are locked (their content does not matter). Who wants the
// room passes the gate; recovery keeps the gate, so that it gets the room in the end.
const (
	gateByte  = 0
	roomByte  = 1
	aliveByte = 2 // locked by the server that has made the journal, while it lives
)

const (
	// waitOthers bounds how long a change waits for a recovery, and a recovery for
	// changes: a recovery writes some 100 MB at most, with what others have the disk
	// write.
	waitOthers = time.Minute
	// waitToHeal is short, since it is tried again, and a server that ends waits for it.
	waitToHeal = 5 * time.Second
	lookAgain  = 2 * time.Millisecond
)

var errBusy = errors.New("locked by another")

// A hold is the journals that exist, locked: shared, for those who take keys away, or
// alone, for recovery.
type hold struct {
	dir   string
	files []*os.File // the newer first
}

// holdJournals locks all journals of the folder that exist. Those who share keep
// only recovery away.
func holdJournals(ctx context.Context, dir string, alone bool) (*hold, error) {
	for {
		h := &hold{dir: dir}
		stale, err := h.open(ctx, alone)
		if err == nil && !stale {
			return h, nil
		}
		h.release()
		if err == nil {
			err = pause(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("lock the journal of the folder for the keys: %w", err)
		}
	}
}

// open takes the newer first, as all do. It reports whether one of them is gone since.
func (h *hold) open(ctx context.Context, alone bool) (stale bool, err error) {
	for _, name := range []string{journalName, journalOld} {
		f, err := openJournalFile(filepath.Join(h.dir, name), os.O_RDWR|os.O_APPEND)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		if h.has(f) { // it was put aside in between
			_ = f.Close() // nothing was written
			continue
		}
		h.files = append(h.files, f)
		if !isHere(f) {
			return false, errors.New("its server is on another machine, which shares the folder, and cannot be told: do it there, or when its journal is gone, a few seconds after many creations")
		}
		if err := enter(ctx, f, alone); err != nil {
			return false, err
		}
		if unlinked(f) {
			return true, nil
		}
	}
	return false, nil
}

func enter(ctx context.Context, f *os.File, alone bool) error {
	for _, at := range []int64{gateByte, roomByte} {
		for {
			err := lockRange(f, alone, at)
			if err == nil {
				break
			}
			if !errors.Is(err, errBusy) {
				return err
			}
			if err := pause(ctx); err != nil {
				return err
			}
		}
	}
	if alone {
		return nil
	}
	return unlockRange(f, gateByte)
}

// pause waits a little; an error when there is no more time.
func pause(ctx context.Context) error {
	t := time.NewTimer(lookAgain)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return &store.UnreachableError{Err: errors.New("another server on the folder is at it for too long: see whether it hangs or its disk is slow, and try again")}
		}
		return ctx.Err()
	}
}

func (h *hold) has(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && h.hasInfo(info)
}

func (h *hold) hasInfo(info os.FileInfo) bool {
	for _, mine := range h.files {
		if it, err := mine.Stat(); err == nil && os.SameFile(it, info) {
			return true
		}
	}
	return false
}

// isAll reports whether each journal that there is now is held.
func (h *hold) isAll() (bool, error) {
	for _, name := range []string{journalName, journalOld} {
		info, err := os.Lstat(filepath.Join(h.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !h.hasInfo(info) {
			return false, err
		}
	}
	return true, nil
}

// tell makes a record durable in each of the journals.
func (h *hold) tell(record []byte) error {
	for _, f := range h.files {
		_, err := f.Write(record)
		if err = errors.Join(err, syncData(f)); err != nil {
			return err
		}
	}
	return nil
}

// records reads all journals, the older first.
func (h *hold) records() io.Reader {
	var all []io.Reader
	for i := len(h.files) - 1; i >= 0; i-- {
		all = append(all, io.NewSectionReader(h.files[i], 0, 1<<62))
	}
	return io.MultiReader(all...)
}

func (h *hold) release() {
	for _, f := range h.files {
		_ = f.Close() // what was written was synced
	}
	h.files = nil
}

// isLeft reports whether there is a journal whose server does not live, or is just
// recovering it.
func isLeft(dir string) bool {
	for _, name := range []string{journalName, journalOld} {
		f, err := openJournalFile(filepath.Join(dir, name), os.O_RDONLY)
		if err != nil {
			continue
		}
		alive, err := isLocked(f, aliveByte)
		gone := unlinked(f)
		_ = f.Close() // read only
		if err == nil && !alive && !gone {
			return true
		}
	}
	return false
}

// afterCrash sees to it that no key is in a journal only which a crash has left. It is
// called with locking held, or before anybody else has the store.
func (s *Store) afterCrash(ctx context.Context) error {
	if !anyJournal(s.dir) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, waitOthers)
	defer cancel()
	for {
		j, err := s.take(ctx)
		if j != nil || err != nil {
			return err
		}
		if s.without || !isLeft(s.dir) {
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for another server to recover the folder for the keys: %w", err)
		}
	}
}

func anyJournal(dir string) bool {
	for _, name := range []string{journalOld, journalName} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}
