package fs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/kes/key"
	"arca/internal/kes/store"
)

// Files of the journal. Between two rotations there is one; old is what is being
// made superfluous.
const (
	journalName = ".arca-journal"
	journalOld  = ".arca-journal.old"
)

const (
	// checkpointAfter is how long a new key relies on the journal at most: most of
	// it is on the disk by then, since systems write back every 30 s.
	checkpointAfter = 35 * time.Second
	// lookEvery is how often it is seen whether creations have ended: then the
	// journal goes, too.
	lookEvery = time.Second
	// healEvery is how often it is tried to have a journal again after an error.
	healEvery  = 5 * time.Second
	maxJournal = 4 << 20 // bytes: some 12,000 keys, which a start after a crash writes again
	// fullJournal is when keys are synced each for itself, until a checkpoint that the
	// disk holds up is done.
	fullJournal = 4 * maxJournal
	// maxFiles is up to how many files a checkpoint syncs one by one, rather than
	// all of the file system, on which others may have written much.
	maxFiles = 32
)

// errMoved says that the folder is not the one any more that was locked.
var errMoved = errors.New("the folder for the keys was exchanged")

// errNotRegular says that a key's name is that of a folder, a pipe or the like.
var errNotRegular = errors.New("not a regular file")

// A journal makes new keys durable before their files are: one sync for all
// that are created at the time. Its owner holds the folder's lock.
//
// A key's record is durable before its file gets its name, and a tombstone before
// the file loses it. A checkpoint has the system write all files, and drops the
// records. After an error nothing is appended until the files have been written
// again from the records (heal); keys are synced each for itself meanwhile.
type journal struct {
	dir  string
	lock *os.File // the folder, locked

	// busy is held for reading from before a record is written until the file has
	// its name; a rotation holds it for writing.
	busy sync.RWMutex

	mu   sync.Mutex
	next *batch // guarded by mu: records that wait

	turn   sync.Mutex
	file   *os.File  // guarded by turn; nil until there is a record
	names  []string  // guarded by turn: of the keys with a record, up to maxFiles+1
	begun  time.Time // guarded by turn: when the first record was written
	quiet  bool      // guarded by turn: nothing was written since the last look
	broken error     // guarded by turn: nothing is written until it is healed

	checking store.Turns // of one name, onlyOne: held during a checkpoint
	old      *os.File    // guarded by checking: the one put aside, whose lock says that no crash was
	size     atomic.Int64
	timer    *time.Timer
	dirty    atomic.Bool // there are records
	hurt     atomic.Bool // broken, and not because the folder is gone
	closed   bool        // guarded by checking
}

// A batch is records that become durable together.
type batch struct {
	done    chan struct{}
	records []byte
	names   []string
	err     error
}

// openJournal takes the folder's lock, and first makes files of what a crash left
// in the journal: it waits for others until ctx ends, and goes on until open does. It
// returns errLocked while another server has the lock.
func openJournal(ctx, open context.Context, dir string) (*journal, error) {
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	if err := recoverJournal(ctx, open, dir, lock); err != nil {
		_ = lock.Close() // the first error says why
		return nil, fmt.Errorf("the journal of the folder for the keys: %w", err)
	}
	j := &journal{dir: dir, lock: lock}
	j.timer = time.AfterFunc(time.Hour, j.look)
	j.timer.Stop()
	return j, nil
}

// append makes a record durable. Those who wait while others are written share
// the next sync.
func (j *journal) append(name string, record []byte) error {
	j.mu.Lock()
	mine := j.next
	first := mine == nil
	if first {
		mine = &batch{done: make(chan struct{})}
		j.next = mine
	}
	mine.records, mine.names = append(mine.records, record...), append(mine.names, name)
	j.mu.Unlock()
	if !first {
		<-mine.done
		return mine.err
	}
	j.turn.Lock()
	defer j.turn.Unlock()
	j.mu.Lock()
	j.next = nil // who comes from here on is not in this one
	j.mu.Unlock()
	mine.err = j.write(mine.records)
	j.names = append(j.names, mine.names[:min(len(mine.names), maxFiles+1-len(j.names))]...)
	clear(mine.records)
	close(mine.done)
	return mine.err
}

// write is called with the turn.
func (j *journal) write(records []byte) error {
	switch {
	case j.broken != nil:
		return j.broken
	case j.moved(), j.file != nil && unlinked(j.file):
		j.fail(errMoved)
		return errMoved
	}
	if j.file == nil {
		before := j.dirty.Swap(true)
		f, err := os.OpenFile(filepath.Join(j.dir, journalName), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			j.dirty.Store(before)
			return err
		}
		if err := errors.Join(lockRange(f, true, aliveByte), syncDir(j.dir)); err != nil {
			_ = f.Close() // nothing is in it
			j.dirty.Store(before)
			return errors.Join(err, os.Remove(f.Name()))
		}
		j.file, j.names, j.begun = f, nil, time.Now()
		j.size.Store(0)
		j.timer.Reset(lookEvery)
	}
	j.quiet = false
	n, err := j.file.Write(records)
	j.size.Add(int64(n))
	if err == nil {
		if err = syncData(j.file); err != nil {
			// What the system has forgotten to write it does not write later.
			err = fmt.Errorf("the journal of the folder for the keys: %w", err)
			j.fail(err)
		}
	}
	if j.size.Load() > maxJournal {
		j.timer.Reset(0)
	}
	return err
}

// fail is called with the turn.
func (j *journal) fail(err error) {
	j.broken = err
	j.hurt.Store(!errors.Is(err, errMoved))
	j.timer.Reset(healEvery)
}

// look makes a checkpoint when it is time.
func (j *journal) look() {
	j.turn.Lock()
	due := j.broken != nil || j.quiet || j.size.Load() > maxJournal || time.Since(j.begun) > checkpointAfter
	j.quiet = true
	again := j.file != nil && !due
	j.turn.Unlock()
	if again {
		j.timer.Reset(lookEvery)
		return
	}
	j.checkpoint()
}

// checkpoint has all files written, and drops the records that say the same.
func (j *journal) checkpoint() { _ = j.settle(context.Background()) } // an error is tried again

// settle makes the records superfluous at once.
func (j *journal) settle(ctx context.Context) error {
	leave, err := j.checking.Take(ctx, onlyOne)
	if err != nil {
		return err
	}
	defer leave()
	if !j.closed {
		j.clean(ctx)
	}
	j.turn.Lock()
	defer j.turn.Unlock()
	return j.broken
}

// heal writes the files again from the records after an error, and drops these. It
// is called with checking held. While it waits for others, creations do not.
func (j *journal) heal(ctx context.Context) {
	if !j.hurt.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, waitToHeal)
	defer cancel()
	h, err := holdJournals(ctx, j.dir, true) // all that there are: none is made until it is healed
	if err == nil {
		defer h.release()
	}
	j.busy.Lock()
	defer j.busy.Unlock()
	j.turn.Lock()
	defer j.turn.Unlock()
	if j.moved() {
		j.fail(errMoved)
		return
	}
	if err == nil {
		err = h.recover(context.WithoutCancel(ctx), j.lock, true)
	}
	if err != nil {
		j.fail(fmt.Errorf("write the folder for the keys again: %w", err))
		return
	}
	if j.file != nil {
		_ = j.file.Close() // nobody needs it
	}
	j.forgetOld()
	j.file, j.names, j.broken = nil, nil, nil
	j.size.Store(0)
	j.dirty.Store(false)
	j.hurt.Store(false)
}

// clean is called with checking held.
func (j *journal) clean(ctx context.Context) {
	names, ok := j.rotate()
	if !ok {
		j.heal(ctx)
		return
	}
	err := j.syncFiles(names)
	if err == nil {
		if err = os.Remove(filepath.Join(j.dir, journalOld)); err == nil {
			err = syncDir(j.dir)
		}
	}
	if err == nil {
		j.forgetOld()
	}
	j.turn.Lock()
	switch {
	case err != nil: // the records stay, and files are made of them again
		j.fail(fmt.Errorf("write the folder for the keys: %w", err))
	case j.file == nil:
		j.dirty.Store(false)
	}
	j.turn.Unlock()
	if err != nil {
		j.heal(ctx)
	}
}

// syncFiles makes the files of the names durable, with the folder.
func (j *journal) syncFiles(names []string) error {
	if len(names) > maxFiles {
		return syncFS(j.lock)
	}
	for _, name := range names {
		f, err := openRegular(filepath.Join(j.dir, name))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotRegular) {
			continue // it was deleted, or something else put in its place
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return syncDir(j.dir)
}

// rotate puts the records aside, at a time when all their files have names, which
// it returns.
func (j *journal) rotate() ([]string, bool) {
	j.busy.Lock()
	defer j.busy.Unlock()
	j.turn.Lock()
	defer j.turn.Unlock()
	if j.file == nil || j.broken != nil {
		return nil, false
	}
	if err := os.Rename(j.file.Name(), filepath.Join(j.dir, journalOld)); err != nil {
		j.fail(err)
		return nil, false
	}
	names := j.names
	j.old, j.file, j.names = j.file, nil, nil
	j.size.Store(0)
	return names, true
}

// forgetOld closes what was put aside. It is called with checking held.
func (j *journal) forgetOld() {
	if j.old != nil {
		_ = j.old.Close() // it was synced
		j.old = nil
	}
}

// moved reports whether the folder, or the journal in it, is no longer there: then
// nothing that is written to it is.
func (j *journal) moved() bool {
	mine, err := j.lock.Stat()
	if err != nil {
		return true
	}
	there, err := os.Stat(j.dir)
	return err != nil || !os.SameFile(mine, there)
}

// close makes the journal superfluous and gives up the lock.
func (j *journal) close() error {
	j.timer.Stop()
	leave, err := j.checking.Take(context.Background(), onlyOne)
	if err != nil {
		return err
	}
	defer leave()
	if j.closed {
		return nil
	}
	j.clean(context.Background())
	j.closed = true
	j.timer.Stop() // an error may have set it
	j.turn.Lock()
	defer j.turn.Unlock()
	err = j.broken
	if j.broken == nil {
		j.broken = errClosed
	}
	if j.file != nil { // an error left it; the next start reads it
		err = errors.Join(err, j.file.Close())
		j.file = nil
	}
	j.forgetOld()
	return errors.Join(err, j.lock.Close())
}

// A record is its head, a name, a value, and a checksum of all that:
//
//	"arcaK1" kind namelen(1) valuelen(4, big endian) name value crc32c(4)
const (
	recordMagic = "arcaK1"
	recordHead  = len(recordMagic) + 1 + 1 + 4
	recordSum   = 4

	kindCreate = 'c' // value is the stored key
	kindDelete = 'd' // value is the SHA-256 of the stored key that is gone; empty: whichever
)

func newRecord(kind byte, name string, value []byte) []byte {
	b := make([]byte, 0, recordHead+len(name)+len(value)+recordSum)
	b = append(append(b, recordMagic...), kind, byte(len(name)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	b = append(append(b, name...), value...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// tombstone is the record that says that a key of that content is gone.
func tombstone(name string, value []byte) []byte {
	sum := sha256.Sum256(value)
	return newRecord(kindDelete, name, sum[:])
}

// tombstoneOfAny says that a key is gone, whatever the records before had for it.
// Only who has the lock may say so, at a time when it makes none of the name.
func tombstoneOfAny(name string) []byte { return newRecord(kindDelete, name, nil) }

// readRecord takes the first record off b; ok is false when b begins with none.
func readRecord(b []byte) (kind byte, name string, value, rest []byte, ok bool) {
	if len(b) < recordHead || string(b[:len(recordMagic)]) != recordMagic {
		return 0, "", nil, nil, false
	}
	kind = b[len(recordMagic)]
	names, values := int(b[len(recordMagic)+1]), int(binary.BigEndian.Uint32(b[len(recordMagic)+2:]))
	if values > key.MaxStored || len(b) < recordHead+names+values+recordSum {
		return 0, "", nil, nil, false
	}
	end := recordHead + names + values
	if binary.BigEndian.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli()) {
		return 0, "", nil, nil, false
	}
	return kind, string(b[recordHead : recordHead+names]), b[recordHead+names : end], b[end+recordSum:], true
}
