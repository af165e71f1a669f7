package wal

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

var (
	seeds = flag.Uint64("seeds", 150, "how many runs TestModel makes")
	seed  = flag.Uint64("seed", 0, "the first of them")
)

// A faulty file system fails in some of what it is asked for, and writes half of what it should.
type faulty struct {
	vfs.FS
	rng  *rand.Rand
	rate *int // of 1,000
}

func (f faulty) fails() error {
	if f.rng.IntN(1000) >= *f.rate {
		return nil
	}
	return []error{syscall.ENOSPC, syscall.EIO, syscall.EMFILE}[f.rng.IntN(3)]
}

// OpenReadWrite implements vfs.FS.
func (f faulty) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := f.fails(); err != nil {
		return nil, err
	}
	file, err := f.FS.OpenReadWrite(name, c, opts...)
	if err != nil {
		return nil, err
	}
	return faultyFile{file, f}, nil
}

// OpenDir implements vfs.FS.
func (f faulty) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return faultyFile{file, f}, nil
}

// Rename implements vfs.FS.
func (f faulty) Rename(from, to string) error {
	if err := f.fails(); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// Remove implements vfs.FS.
func (f faulty) Remove(name string) error {
	if err := f.fails(); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

type faultyFile struct {
	vfs.File
	of faulty
}

// WriteAt implements io.WriterAt.
func (f faultyFile) WriteAt(b []byte, at int64) (int, error) {
	if err := f.of.fails(); err != nil {
		n, _ := f.File.WriteAt(b[:f.of.rng.IntN(len(b)+1)], at) // the error to be returned is another
		return n, err
	}
	return f.File.WriteAt(b, at)
}

// Sync implements vfs.File.
func (f faultyFile) Sync() error {
	if err := f.of.fails(); err != nil {
		return err
	}
	return f.File.Sync()
}

// SyncData implements vfs.File. One that fails may have written.
func (f faultyFile) SyncData() error {
	if err := f.of.fails(); err != nil {
		if f.of.rng.IntN(2) == 0 {
			_ = f.File.SyncData() // never fails
		}
		return err
	}
	return f.File.SyncData()
}

// A model is what a Log must hold.
type model struct {
	t    *testing.T
	rng  *rand.Rand
	disk *vfs.MemFS
	rate int
	wrap func(vfs.FS) vfs.FS // of the disk, instead of faulty; nil for none
	cfg  Config
	log  *Log
	lost bool

	entries map[uint64]*raft.Log // acknowledged, also those that were removed from the beginning since
	first   uint64
	next    uint64
	hidden  uint64
	emptied bool
	failed  []attempt // since the last entries were acknowledged
	term    uint64
	ops     []string
	crashed func() bool // whether all fails, as wrap wants it; nil for never
}

// An attempt to store entries failed.
type attempt struct {
	logs  []*raft.Log
	cut   bool
	lost  bool
	empty bool // of a log that was emptied
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 1)), disk: vfs.NewCrashableMem(), entries: map[uint64]*raft.Log{}, first: 1, next: 1, term: 1}
	m.cfg = Config{Dir: "node/log", SegmentBytes: 2000, Lost: func(error) { m.lost = true }}
	if err := m.disk.MkdirAll("node", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syncDir(m.disk, ""); err != nil {
		t.Fatal(err)
	}
	m.open()
	return m
}

func (m *model) fatal(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\nafter %q", fmt.Sprintf(format, args...), m.ops[max(0, len(m.ops)-15):])
}

func (m *model) did(format string, args ...any) { m.ops = append(m.ops, fmt.Sprintf(format, args...)) }

// open opens the log, which a fault may keep from.
func (m *model) open() {
	m.cfg.FS = faulty{m.disk, m.rng, &m.rate}
	if m.wrap != nil {
		m.cfg.FS = m.wrap(m.disk)
	}
	m.lost = false
	log, err := Open(m.cfg)
	for err != nil {
		if m.down() {
			return // with the log that is closed
		}
		if m.rate == 0 {
			m.fatal("open: %v", err)
		}
		m.did("opened in vain: %v", err)
		m.rate = 0
		log, err = Open(m.cfg)
	}
	m.log = log
}

func (m *model) down() bool { return m.crashed != nil && m.crashed() }

func (m *model) end() uint64 {
	switch {
	case m.emptied:
		return m.first
	case m.hidden > 0:
		return m.hidden
	}
	return m.next
}

func (m *model) entry(index uint64) *raft.Log {
	l := &raft.Log{Index: index, Term: m.term, Type: raft.LogType(m.rng.IntN(6))}
	if n := m.rng.IntN(600); n > 0 && m.rng.IntN(5) > 0 {
		l.Data = bytes.Repeat([]byte{byte(m.rng.Uint32())}, n)
	}
	if m.rng.IntN(5) == 0 {
		l.Extensions = []byte("extension")
	}
	if m.rng.IntN(2) == 0 {
		l.AppendedAt = time.Unix(0, m.rng.Int64N(1<<60)+1).UTC()
	}
	return l
}

func (m *model) store() {
	from := m.end()
	if m.emptied || m.first == m.next {
		from += uint64(m.rng.IntN(3))
	}
	var logs []*raft.Log
	for i := range 1 + m.rng.IntN(5) {
		logs = append(logs, m.entry(from+uint64(i)))
	}
	err := m.log.StoreLogs(logs)
	m.did("store %d to %d: %v", from, from+uint64(len(logs))-1, err)
	if err != nil {
		if m.rate == 0 && !m.lost && !m.down() {
			m.fatal("store: %v", err)
		}
		m.failed = append(m.failed, attempt{logs, m.hidden > 0, m.lost, m.emptied})
		m.hidden = 0
		return
	}
	if m.lost {
		m.fatal("a lost log takes an entry")
	}
	if m.emptied || m.first == m.next {
		m.first = from
		m.entries = map[uint64]*raft.Log{}
	}
	for i := from; i < m.next; i++ {
		delete(m.entries, i)
	}
	for _, l := range logs {
		m.entries[l.Index] = l
	}
	m.next, m.hidden, m.emptied, m.failed = from+uint64(len(logs)), 0, false, nil
}

// cut removes the entries from one on.
func (m *model) cut(from uint64) {
	m.term++
	m.did("truncate %d", from)
	if err := m.log.Truncate(from); err != nil {
		m.fatal("%v", err)
	}
	m.hidden = from
}

// remove removes the entries up to one.
func (m *model) remove(to uint64) {
	m.did("delete up to %d", to)
	if err := m.log.DeleteRange(m.first, to); err != nil {
		m.fatal("%v", err)
	}
	if to+1 == m.end() && m.hidden == 0 {
		m.emptied = true
	} else {
		m.first = to + 1
	}
}

// check reads all.
func (m *model) check() {
	first, err := m.log.FirstIndex()
	last, err2 := m.log.LastIndex()
	if err := errors.Join(err, err2); err != nil {
		m.fatal("%v", err)
	}
	want, wantLast := m.first, m.end()-1
	if m.first >= m.end() {
		want, wantLast = 0, 0
	}
	if first != want || last != wantLast {
		m.fatal("the log has %d to %d, and not %d to %d", first, last, want, wantLast)
	}
	for i := m.first; i < m.end(); i++ {
		m.same(i, m.entries[i])
	}
	for _, i := range []uint64{0, m.first - 1, m.end(), m.end() + 5} {
		if err := m.log.GetLog(i, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) {
			m.fatal("entry %d: %v", i, err)
		}
	}
}

func (m *model) same(i uint64, want *raft.Log) {
	var got raft.Log
	if err := m.log.GetLog(i, &got); err != nil {
		m.fatal("entry %d: %v", i, err)
	}
	if !equal(&got, want) {
		m.fatal("entry %d is %v, and not %v", i, got, *want)
	}
}

func equal(a, b *raft.Log) bool {
	return b != nil && a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Extensions, b.Extensions) &&
		a.AppendedAt.Equal(b.AppendedAt)
}

// reopen opens the log after it was closed, or a crash.
func (m *model) reopen(crash int) {
	before := m.disk
	if crash >= 0 {
		m.disk = before.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: crash, RNG: m.rng})
	}
	m.did("opened again, of what is not synced %d %% are there", crash)
	if err := m.log.Close(); err != nil && m.rate == 0 {
		m.fatal("close: %v", err)
	}
	if m.open(); !m.down() {
		m.settle()
	}
}

// settle looks at what is there after the log was opened again, takes it over into the model, and fails where that may not be.
func (m *model) settle() {
	first, _ := m.log.FirstIndex() // never fails
	last, _ := m.log.LastIndex()   // never fails
	m.hidden, m.emptied = 0, false
	if last == 0 {
		if m.first < m.next && !slices.ContainsFunc(m.failed, func(a attempt) bool { return a.empty || a.lost && a.cut && a.logs[0].Index <= m.first }) {
			m.fatal("the entries %d to %d are gone", m.first, m.next-1)
		}
		m.first, m.next, m.failed, m.entries = 1, 1, nil, map[uint64]*raft.Log{}
		if l := m.log; len(l.segments) > 0 {
			m.first, m.next = l.next, l.next
		}
		return
	}
	var got []*raft.Log
	for i := first; i <= last; i++ {
		l := new(raft.Log)
		if err := m.log.GetLog(i, l); err != nil {
			m.fatal("entry %d: %v", i, err)
		}
		got = append(got, l)
	}
	if !m.whole(first, last, got) && !slices.ContainsFunc(m.failed, func(a attempt) bool { return m.partly(first, last, got, a) }) {
		m.fatal("there are %d to %d; %d to %d were acknowledged, and %d attempts failed", first, last, m.first, m.next-1, len(m.failed))
	}
	m.first, m.next, m.failed, m.entries = first, last+1, nil, map[uint64]*raft.Log{}
	for _, l := range got {
		m.entries[l.Index] = l
	}
}

// known reports whether entries are those that were acknowledged.
func (m *model) known(got []*raft.Log) bool {
	return !slices.ContainsFunc(got, func(l *raft.Log) bool { return !equal(l, m.entries[l.Index]) })
}

// whole reports whether the log is what was acknowledged. What was removed from its beginning may be there again.
func (m *model) whole(first, last uint64, got []*raft.Log) bool {
	return (first <= m.first || m.first == m.next) && last == m.next-1 && m.known(got)
}

// partly reports whether the log is what was acknowledged, with the first of the entries that were not.
func (m *model) partly(first, last uint64, got []*raft.Log, a attempt) bool {
	from := a.logs[0].Index
	if a.cut && !a.lost { // it was said that it is not there
		return false
	}
	n := int(last+1) - int(from)
	if n < 0 || n > len(a.logs) || n > len(got) {
		return false
	}
	for i := range n {
		if !equal(got[len(got)-n+i], a.logs[i]) {
			return false
		}
	}
	return (first <= m.first || first == from) && m.known(got[:len(got)-n])
}

func (m *model) step() {
	switch k := m.rng.IntN(20); {
	case k < 10:
		m.store()
	case k < 12 && m.first < m.end():
		from := m.first + m.rng.Uint64N(m.end()-m.first)
		if from == m.first {
			m.cut(from)
		} else {
			m.term++
			m.did("delete %d to the end", from)
			if err := m.log.DeleteRange(from, m.end()-1); err != nil {
				m.fatal("%v", err)
			}
			m.hidden = from
		}
	case k < 15 && m.first < m.end():
		m.remove(m.first + m.rng.Uint64N(m.end()-m.first))
	case k == 15:
		m.reopen(-1)
	case k == 16:
		m.reopen([]int{0, 50, 100}[m.rng.IntN(3)])
	case k == 17:
		m.rate = []int{0, 50, 300}[m.rng.IntN(3)]
		m.did("rate %d", m.rate)
	}
	m.check()
}

// TestModel compares logs with a model of them, through faults of the disk and crashes.
func TestModel(t *testing.T) {
	t.Parallel()
	for i := range *seeds {
		t.Run(fmt.Sprint(*seed+i), func(t *testing.T) {
			m := newModel(t, *seed+i)
			for range 150 {
				m.step()
			}
		})
	}
}
