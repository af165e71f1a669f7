package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
	"arca/internal/storage/raft/wal"
)

// A state is the state machine: a Pebble store in a folder of its own. A snapshot that is installed becomes the next state
// in the next folder; whoever still reads the last one reads it to the end.
type state struct {
	*pebble.Store
	fs      vfs.FS
	dir     string
	refs    atomic.Int64 // 1 for being the present state, 1 for each snapshot and iterator
	dropped atomic.Bool  // another has taken its place: the folder goes with the last reference
}

func (st *state) release() error {
	if st.refs.Add(-1) > 0 {
		return nil
	}
	err := st.Close()
	if st.dropped.Load() {
		err = errors.Join(err, st.fs.RemoveAll(st.dir))
	}
	return err
}

// acquire returns the present state with a reference.
func (s *Store) acquire() *state {
	for {
		st := s.state.Load()
		if n := st.refs.Load(); n > 0 && st.refs.CompareAndSwap(n, n+1) {
			return st
		}
	}
}

// Names within the store's folder.
const (
	stateDirs   = "state-" // and a number
	currentName = "current"
	incomingDir = "incoming"
	outgoingDir = "outgoing-"
	walDir      = "wal"
)

const writeCategory = vfs.WriteCategoryUnspecified

// currentState says which folder holds the present state: "" when there is none yet.
func currentState(fs vfs.FS, dir string) (string, error) {
	f, err := fs.Open(fs.PathJoin(dir, currentName))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", errs.New(errs.Unavailable, "read the storage folder %q: %w", dir, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return "", errs.New(errs.Unavailable, "read the storage folder %q: %w", dir, err)
	}
	name := strings.TrimSpace(string(text))
	if number(name) == 0 {
		return "", errs.New(errs.Invalid, "the file %q in the storage folder %q is damaged: it should name one of the folders %s1, %s2 …",
			currentName, dir, stateDirs, stateDirs)
	}
	return name, nil
}

// number is that of a state's folder, 0 for other names.
func number(name string) uint64 {
	text, ok := strings.CutPrefix(name, stateDirs)
	if !ok {
		return 0
	}
	n, _ := strconv.ParseUint(text, 10, 64) // 0 when it is none
	return n
}

// setCurrent makes name the present state's folder, durably.
func setCurrent(fs vfs.FS, dir, name string) error {
	path := fs.PathJoin(dir, currentName)
	f, err := fs.Create(path+".tmp", writeCategory)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(name + "\n"))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

// makeDirs makes a folder and what is missing above it, durably: a power cut must not take it away with all that is synced in it. One that is there may have
// been made a moment ago.
func makeDirs(fs vfs.FS, path string) error {
	if _, err := fs.Stat(path); err == nil {
		_ = syncDir(fs, fs.PathDir(path)) // it may belong to somebody else, and not be open to this process
		return nil
	}
	parent := fs.PathDir(path)
	if parent != path {
		if err := makeDirs(fs, parent); err != nil {
			return err
		}
	}
	if err := fs.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return syncDir(fs, parent)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// tidy removes what a crash left: states that are not the present one, snapshots on their way.
func tidy(fs vfs.FS, dir, current string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if number(name) > 0 && name != current || name == incomingDir || strings.HasPrefix(name, outgoingDir) {
			if err := fs.RemoveAll(fs.PathJoin(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// openState opens the present state, or makes the first.
func (s *Store) openState() error {
	fs, dir := s.fs, s.cfg.Dir
	if err := makeDirs(fs, dir); err != nil {
		return errs.New(errs.Unavailable, "create the storage folder %q: %w", dir, err)
	}
	name, err := currentState(fs, dir)
	if err != nil {
		return err
	}
	isNew := name == ""
	if isNew {
		if err := neverBegun(fs, dir); err != nil {
			return err
		}
	}
	if err := tidy(fs, dir, name); err != nil {
		return errs.New(errs.Unavailable, "clear the storage folder %q: %w", dir, err)
	}
	if isNew {
		name = stateDirs + "1"
	}
	st, err := s.openStateIn(fs.PathJoin(dir, name))
	if err != nil {
		return err
	}
	if isNew {
		if err := setCurrent(fs, dir, name); err != nil {
			return errors.Join(errs.New(errs.Unavailable, "write to the storage folder %q: %w", dir, err), st.release())
		}
	}
	s.state.Store(st)
	if s.at, s.peers, err = readPosition(st.Store); err == nil {
		s.doubt, err = readDoubt(st.Store, s.at)
	}
	if err == nil {
		s.former, err = readFormer(st.Store)
	}
	if err != nil {
		return errors.Join(err, st.release())
	}
	return nil
}

// neverBegun refuses a folder that has states, and no file that says which is the present one, but where a crash came before the first was named: there is no log then.
// They would be removed, as what a crash has left, by a file that is lost.
func neverBegun(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return errs.New(errs.Unavailable, "read the storage folder %q: %w", dir, err)
	}
	states := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return number(name) == 0 })
	if len(states) == 0 || !slices.Contains(names, walDir) && !slices.Contains(names, oldLogDir) {
		return nil
	}
	return errs.New(errs.Invalid, "the file %q is not in the storage folder %q, which names the folder of the state; there is %s. If that is one folder, write its name into the file. Else: %s",
		currentName, dir, strings.Join(states, ", "), wal.Advice)
}

func (s *Store) openStateIn(dir string) (*state, error) {
	store, err := pebble.Open(pebble.Config{FS: s.fs, Dir: dir, NoSync: true, Logger: s.log})
	if err != nil {
		return nil, err
	}
	st := &state{Store: store, fs: s.fs, dir: dir}
	st.refs.Store(1)
	return st, nil
}

// nextDir names the folder of the state after the present one.
func (s *Store) nextDir() string {
	n := number(s.fs.PathBase(s.state.Load().dir))
	return s.fs.PathJoin(s.cfg.Dir, fmt.Sprint(stateDirs, n+1))
}

// Get implements storage.Reader.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	st := s.acquire()
	value, err := st.Get(ctx, key)
	return value, errors.Join(err, st.release())
}

// Scan implements storage.Reader.
func (s *Store) Scan(ctx context.Context, o storage.ScanOptions) (storage.Iterator, error) {
	return s.acquire().scan(ctx, o)
}

func (st *state) scan(ctx context.Context, o storage.ScanOptions) (storage.Iterator, error) {
	it, err := st.Scan(ctx, o)
	if err != nil {
		return nil, errors.Join(err, st.release())
	}
	return &iterator{it, st}, nil
}

type iterator struct {
	storage.Iterator
	st *state
}

func (it *iterator) Close() error { return errors.Join(it.Iterator.Close(), it.st.release()) }

// Snapshot implements storage.Backend.
func (s *Store) Snapshot(ctx context.Context) (storage.Snapshot, error) {
	st := s.acquire()
	snap, err := st.Snapshot(ctx)
	if err != nil {
		return nil, errors.Join(err, st.release())
	}
	return &snapshot{snap, st}, nil
}

type snapshot struct {
	storage.Snapshot
	st *state
}

func (sn *snapshot) Close() error { return errors.Join(sn.Snapshot.Close(), sn.st.release()) }

// Scan implements storage.Reader. The iterator may outlive the snapshot.
func (sn *snapshot) Scan(ctx context.Context, o storage.ScanOptions) (storage.Iterator, error) {
	it, err := sn.Snapshot.Scan(ctx, o)
	if err != nil {
		return nil, err
	}
	sn.st.refs.Add(1) // not from 0: sn has one
	return &iterator{it, sn.st}, nil
}
