package wal

import (
	"errors"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

var errCrashed = errors.New("the machine has crashed")

// A crashing file system calls crash, once, before the change to it with a number, of which a part is done then if it is a write; all later ones fail.
type crashing struct {
	vfs.FS
	done  *int
	at    int
	crash func()
}

func (c crashing) change(part func()) error {
	*c.done++
	if *c.done == c.at {
		part()
		c.crash()
	}
	if c.at > 0 && *c.done >= c.at {
		return errCrashed
	}
	return nil
}

func nothing() {}

// OpenReadWrite implements vfs.FS.
func (c crashing) OpenReadWrite(name string, w vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := c.change(nothing); err != nil {
		return nil, err
	}
	f, err := c.FS.OpenReadWrite(name, w, opts...)
	return crashingFile{f, c}, err
}

// OpenDir implements vfs.FS.
func (c crashing) OpenDir(name string) (vfs.File, error) {
	f, err := c.FS.OpenDir(name)
	return crashingFile{f, c}, err
}

// Rename implements vfs.FS.
func (c crashing) Rename(from, to string) error {
	if err := c.change(nothing); err != nil {
		return err
	}
	return c.FS.Rename(from, to)
}

// Remove implements vfs.FS.
func (c crashing) Remove(name string) error {
	if err := c.change(nothing); err != nil {
		return err
	}
	return c.FS.Remove(name)
}

type crashingFile struct {
	vfs.File
	of crashing
}

// WriteAt implements io.WriterAt.
func (f crashingFile) WriteAt(b []byte, at int64) (int, error) {
	if err := f.of.change(func() { _, _ = f.File.WriteAt(b[:len(b)/2], at) }); err != nil { // never fails
		return 0, err
	}
	return f.File.WriteAt(b, at)
}

// Sync implements vfs.File.
func (f crashingFile) Sync() error {
	if err := f.of.change(nothing); err != nil {
		return err
	}
	return f.File.Sync()
}

// SyncData implements vfs.File.
func (f crashingFile) SyncData() error {
	if err := f.of.change(nothing); err != nil {
		return err
	}
	return f.File.SyncData()
}

// history takes a log through all that it does, until the machine crashes.
func history(m *model) {
	stores := func(n int) func() {
		return func() {
			for range n {
				m.store()
			}
		}
	}
	for _, do := range []func(){
		stores(8),
		func() { m.cut(m.next - 4) },
		stores(6),
		func() { m.remove(m.next - 7) },
		func() { m.cut(m.first) },
		stores(6),
		func() { m.remove(m.next - 1) },
		stores(6),
		func() { m.reopen(-1) },
		func() { m.cut(m.next - 2) },
		stores(4),
	} {
		if do(); m.down() {
			return
		}
	}
}

// TestCrashes has the machine crash at each change to its disk.
func TestCrashes(t *testing.T) {
	t.Parallel()
	total := 0
	run := func(at, unsynced int) {
		m := newModel(t, uint64(at*1000+unsynced))
		var left *vfs.MemFS
		done := 0
		m.wrap = func(fs vfs.FS) vfs.FS {
			return crashing{fs, &done, at, func() { left = m.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: m.rng}) }}
		}
		m.crashed = func() bool { return left != nil }
		m.reopen(-1)
		history(m)
		if at == 0 {
			total = done
			return
		}
		m.wrap, m.crashed, m.disk = nil, nil, left
		m.did("crash at %d, of what is not synced %d %% are there", at, unsynced)
		m.open()
		m.settle()
		m.check()
		m.store()
		m.check()
		m.reopen(0)
		m.check()
	}
	run(0, 0)
	for at := 1; at <= total; at++ {
		for _, unsynced := range []int{0, 30, 70, 100} {
			run(at, unsynced)
		}
	}
	t.Logf("%d changes", total)
}

// A forgetful file system holds what a failed sync was to write for written, as the page cache does: only what is written anew is written by the next one.
type forgetful struct {
	vfs.FS
	fail *bool
	on   map[string]*[]byte // what is on the disk
}

// OpenReadWrite implements vfs.FS.
func (f forgetful) OpenReadWrite(name string, w vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if f.on[name] == nil {
		f.on[name] = new([]byte)
	}
	file, err := f.FS.OpenReadWrite(name, w, opts...)
	return &forgetfulFile{File: file, of: f, on: f.on[name]}, err
}

// Rename implements vfs.FS.
func (f forgetful) Rename(from, to string) error {
	f.on[to] = f.on[from]
	delete(f.on, from)
	return f.FS.Rename(from, to)
}

type forgetfulFile struct {
	vfs.File
	of    forgetful
	on    *[]byte
	dirty []write
}

type write struct {
	at int64
	b  []byte
}

// WriteAt implements io.WriterAt.
func (f *forgetfulFile) WriteAt(b []byte, at int64) (int, error) {
	f.dirty = append(f.dirty, write{at, append([]byte{}, b...)})
	return f.File.WriteAt(b, at)
}

// Sync implements vfs.File.
func (f *forgetfulFile) Sync() error {
	dirty := f.dirty
	f.dirty = nil
	if *f.of.fail {
		return syscall.EIO
	}
	on := *f.on
	for _, w := range dirty {
		on = append(on, make([]byte, max(0, int(w.at)+len(w.b)-len(on)))...)
		copy(on[w.at:], w.b)
	}
	*f.on = on
	return nil
}

// SyncData implements vfs.File.
func (f *forgetfulFile) SyncData() error { return f.Sync() }

// powerCut leaves of the file system what is on the disk.
func (f forgetful) powerCut(t *testing.T) vfs.FS {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("log", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range f.on {
		put(t, fs, name, *b)
	}
	return fs
}

// TestSyncForgotten opens the log again after a sync failed, in a system that holds what it was to write for written: what raft sees then is there after a
// power cut, too.
func TestSyncForgotten(t *testing.T) {
	t.Parallel()
	for name, big := range map[string]int{"small": 10, "big": 3 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := forgetful{vfs.NewMem(), new(bool), map[string]*[]byte{}}
			open := func(fs vfs.FS) *Log {
				l, err := Open(Config{FS: fs, Dir: "log"})
				if err != nil {
					t.Fatal(err)
				}
				return l
			}
			l := open(fs)
			for i := range uint64(3) {
				if err := l.StoreLog(&raft.Log{Index: i + 1, Data: []byte{1}}); err != nil {
					t.Fatal(err)
				}
			}
			*fs.fail = true
			if err := l.StoreLogs([]*raft.Log{{Index: 4, Data: make([]byte, big)}, {Index: 5}}); err == nil {
				t.Fatal("entries are stored that are not synced")
			}
			*fs.fail = false
			if n, err := open(fs).LastIndex(); err != nil || n != 5 {
				t.Fatalf("the log leads up to %d, %v", n, err)
			}
			if n, err := open(fs.powerCut(t)).LastIndex(); err != nil || n != 5 {
				t.Errorf("after the power cut the log leads up to %d, %v", n, err)
			}
		})
	}
}

// TestUndoForgotten is TestSyncForgotten of entries that were removed, and are there again: the others come in their place at no time.
func TestUndoForgotten(t *testing.T) {
	t.Parallel()
	fs := forgetful{vfs.NewMem(), new(bool), map[string]*[]byte{}}
	l, err := Open(Config{FS: fs, Dir: "log"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(3) {
		if err := l.StoreLog(&raft.Log{Index: i + 1, Term: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Truncate(2); err != nil {
		t.Fatal(err)
	}
	// The sync that fails has written all, and that of the undoing nothing.
	tail := l.tail()
	tail.file = &halfForgetful{forgetfulFile: tail.file.(*forgetfulFile)}
	*fs.fail = true
	if err := l.StoreLog(&raft.Log{Index: 2, Term: 2}); err == nil {
		t.Fatal("an entry is stored that is not synced")
	}
	*fs.fail = false
	l, err = Open(Config{FS: fs, Dir: "log"})
	if err != nil {
		t.Fatal(err)
	}
	after, err := Open(Config{FS: fs.powerCut(t), Dir: "log"})
	if err != nil {
		t.Fatal(err)
	}
	want, err := l.LastIndex()
	n, err2 := after.LastIndex()
	if err := errors.Join(err, err2); err != nil || n != want {
		t.Errorf("the log led up to %d, and after the power cut to %d, %v", want, n, err)
	}
	for i := uint64(1); i <= want; i++ {
		var a, b raft.Log
		if err := errors.Join(l.GetLog(i, &a), after.GetLog(i, &b)); err != nil || !equal(&a, &b) {
			t.Errorf("entry %d was %v and is %v, %v", i, a, b, err)
		}
	}
}

type halfForgetful struct {
	*forgetfulFile
	syncs int
}

// SyncData implements vfs.File.
func (f *halfForgetful) SyncData() error {
	if f.syncs++; f.syncs == 1 {
		*f.of.fail = false
		defer func() { *f.of.fail = true }()
		return errors.Join(syscall.EIO, f.Sync())
	}
	return f.Sync()
}

// TestVoteForgotten is TestSyncForgotten of a vote.
func TestVoteForgotten(t *testing.T) {
	t.Parallel()
	fs := forgetful{vfs.NewMem(), new(bool), map[string]*[]byte{}}
	if err := fs.MkdirAll("log", 0o700); err != nil {
		t.Fatal(err)
	}
	v, err := OpenVotes(fs, "log", true)
	if err != nil {
		t.Fatal(err)
	}
	*fs.on["log/"+votesName] = content(t, fs, "log/"+votesName) // as it was made
	if err := v.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		t.Fatal(err)
	}
	*fs.fail = true
	if err := v.SetUint64([]byte("CurrentTerm"), 2); err == nil {
		t.Fatal("a term is noted that is not synced")
	}
	*fs.fail = false
	var got [2]uint64
	for i, fs := range []func() vfs.FS{func() vfs.FS { return fs }, func() vfs.FS { return fs.powerCut(t) }} {
		v, err := OpenVotes(fs(), "log", false)
		if err != nil {
			t.Fatal(err)
		}
		if got[i], err = v.GetUint64([]byte("CurrentTerm")); err != nil {
			t.Fatal(err)
		}
	}
	if got[0] != got[1] {
		t.Errorf("the term was %d, and after the power cut it is %d", got[0], got[1])
	}
}
