// Package wal is the log of a raft node, on its disk: a [Log] keeps entries (raft.LogStore), [Votes] the term and the vote (raft.StableStore).
//
// What the Log promises:
//
//   - What StoreLogs has acknowledged is on the disk, and is what GetLog returns, after any crash. Of what it has not acknowledged the entries may be there
//     after a crash, from the first on: raft takes them for such as it was sent, and never heard of again.
//   - StoreLogs that fails changes nothing, and the next one may succeed: behind a write or a sync that failed nothing is written any more, nor read.
//     Only where it cannot be undone that entries were removed, the Log takes nothing more until it is opened again (Config.Lost).
//   - Entries that cannot be read as they were written are an error, never another entry or none.
//
// The Log is made of segments, files that are only written at their ends (see segment). No file is ever changed otherwise, but that the newest write
// is written once more when the log is opened (see segment.settle); and none is needed to remove the end of the log: the entries that come in its place
// say so, in the same write. So there is no moment in which raft believes in entries that are not there.
package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"arca/internal/errs"
)

// Config of a Log.
type Config struct {
	FS  vfs.FS // nil is the operating system's
	Dir string // the folder of the segments, made if absent; no two Logs may have one
	Log *slog.Logger

	// Lost is told, once, when the log takes nothing more until it is opened again: what is on the disk may be another log than raft believes, and the
	// node must not take part any longer. It must not call the Log; nil is nobody.
	Lost func(why error)

	SegmentBytes int64 // a segment that has as much takes nothing more; 0 is 16 MiB
}

const defaultSegment = 16 << 20

// Advice says what an operator can do about a log or votes that a node must not go by.
const Advice = "Where the cluster goes on without this node, remove it (operator raft remove-peer), empty its storage folder and join it anew; " +
	"where it does not, see \"When the log of a raft node is damaged\" in docs/storage.md"

// A Log is a raft.LogStore. It is safe for concurrent use.
type Log struct {
	cfg Config
	log *slog.Logger

	writing sync.Mutex // held by who changes the log
	buf     []byte     // guarded by writing

	mu       sync.RWMutex // guards what follows; whoever changes that holds writing, too
	segments []*segment   // the oldest first; the last one is the tail, which is written
	first    uint64       // the first entry that is there: next where there is none
	next     uint64       // behind the newest entry on the disk
	hidden   uint64       // the entries from here on are removed when others come in their place; 0 for none
	emptied  bool         // all entries are, and the next one may have any index
	closed   bool
	lost     error // why it takes nothing more

	stale []uint64 // segments that had been removed, or are there beside a gap; guarded by writing
}

var (
	_ raft.LogStore          = (*Log)(nil)
	_ raft.MonotonicLogStore = (*Log)(nil)
)

// Open opens the log in cfg.Dir. An error of the kind Invalid says that the log is damaged: entries are not there, or are not what they were.
func Open(cfg Config) (*Log, error) {
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.SegmentBytes == 0 {
		cfg.SegmentBytes = defaultSegment
	}
	l := &Log{cfg: cfg, log: cfg.Log, first: 1, next: 1}
	err := cfg.FS.MkdirAll(cfg.Dir, 0o700)
	if err == nil {
		err = syncDir(cfg.FS, cfg.FS.PathDir(cfg.Dir))
	}
	if err != nil {
		return nil, errs.New(errs.Unavailable, "create the folder of the raft log %q: %w", cfg.Dir, err)
	}
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the raft log %q: %w", cfg.Dir, err), l.closeFiles())
	}
	return l, nil
}

// load reads which entries there are.
func (l *Log) load() error {
	ids, err := l.list()
	if err != nil {
		return err
	}
	for i, id := range ids {
		s, err := openSegment(l.cfg.FS, l.path(id), id)
		if err != nil {
			return err
		}
		l.segments = append(l.segments, s)
		if i > 0 {
			l.segments[i-1].end, l.segments[i-1].index = s.header.before, s.header.index
		}
	}
	for i, s := range l.segments {
		if err := s.load(i == len(l.segments)-1); err != nil {
			return err
		}
		if err := l.join(s, i == 0); err != nil {
			return err
		}
	}
	if len(l.segments) == 0 {
		return nil
	}
	if err := l.tail().settle(); err != nil {
		return err
	}
	return l.syncDir()
}

// list returns the ids of the segments: the newest, and those before it without a gap. What is older had been removed before a crash, and is again when
// entries are stored: if it is a segment of between that is missing, the log is refused before that, and nobody is to lose what could be put together.
func (l *Log) list() ([]uint64, error) {
	names, err := l.cfg.FS.List(l.cfg.Dir)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "list the segments: %w", err)
	}
	var ids []uint64
	for _, name := range names {
		if id, is := parseName(name); is {
			ids = append(ids, id)
		} else if strings.HasSuffix(name, unfinished) {
			if err := l.cfg.FS.Remove(l.cfg.FS.PathJoin(l.cfg.Dir, name)); err != nil {
				return nil, errs.New(errs.Unavailable, "remove a segment that was not begun: %w", err)
			}
		}
	}
	slices.Sort(ids)
	for i := len(ids) - 1; i > 0; i-- {
		if ids[i-1]+1 == ids[i] {
			continue
		}
		l.stale = ids[:i]
		return ids[i:], nil
	}
	return ids, nil
}

// join puts the entries of a segment behind those of the segments before it.
func (l *Log) join(s *segment, oldest bool) error {
	if oldest {
		l.first, l.next = s.base, s.next()
		return nil
	}
	if s.header.next != l.next || !s.reset && s.base > l.next {
		return errs.New(errs.Invalid, "segment %s is damaged, or the one before it: its first entry is %d, the log leads up to %d. %s", name(s.id), s.base, l.next-1, Advice)
	}
	from := s.base
	if s.reset || s.base < l.first { // what was before that is removed already
		l.first, from = s.base, 0
	}
	for _, before := range l.segments[:slices.Index(l.segments, s)] {
		before.cut(from)
	}
	l.next = s.next()
	return nil
}

func (l *Log) path(id uint64) string { return l.cfg.FS.PathJoin(l.cfg.Dir, name(id)) }

func (l *Log) tail() *segment { return l.segments[len(l.segments)-1] }

func (l *Log) syncDir() error {
	if err := syncDir(l.cfg.FS, l.cfg.Dir); err != nil {
		return errs.New(errs.Unavailable, "sync the folder of the segments: %w", err)
	}
	return nil
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close closes the log, after which it fails.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.closeFiles()
}

func (l *Log) closeFiles() error {
	var err error
	for _, s := range l.segments {
		err = errors.Join(err, s.file.Close())
	}
	l.segments = nil
	return err
}

// Fresh reports whether nothing was ever stored.
func (l *Log) Fresh() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.segments) == 0
}

// IsMonotonic implements raft.MonotonicLogStore: there are no gaps in the log.
func (l *Log) IsMonotonic() bool { return true }

// end is behind the newest entry that is to be seen. The caller holds mu.
func (l *Log) end() uint64 {
	switch {
	case l.emptied:
		return l.first
	case l.hidden > 0:
		return l.hidden
	}
	return l.next
}

// FirstIndex implements raft.LogStore: 0 where there is no entry.
func (l *Log) FirstIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.first >= l.end() {
		return 0, nil
	}
	return l.first, nil
}

// LastIndex implements raft.LogStore: 0 where there is no entry.
func (l *Log) LastIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.first >= l.end() {
		return 0, nil
	}
	return l.end() - 1, nil
}

// GetLog implements raft.LogStore. The error is raft.ErrLogNotFound where there is no such entry, and of the kind Invalid where it is damaged.
func (l *Log) GetLog(index uint64, to *raft.Log) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return errClosed
	}
	if index < l.first || index >= l.end() {
		return raft.ErrLogNotFound
	}
	i := sort.Search(len(l.segments), func(i int) bool { return index < l.segments[i].next() })
	if i == len(l.segments) || index < l.segments[i].base {
		return errs.New(errs.Internal, "entry %d of the raft log is in no segment", index)
	}
	return l.segments[i].read(index, to)
}

var errClosed = errs.New(errs.Unavailable, "the raft log is closed")

// StoreLog implements raft.LogStore.
func (l *Log) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore: all entries are durable then, or the log is as before. Where its end was removed that is undone by an error.
func (l *Log) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	p, err := l.plan(logs)
	if err != nil {
		return l.undo(nil, p, err)
	}
	s, err := l.writable()
	if err == nil {
		err = l.write(s, p, logs)
	}
	if err != nil {
		return l.undo(s, p, errs.New(errs.Unavailable, "write to the raft log: %w", err))
	}
	l.mu.Lock()
	l.publish(s, p)
	unneeded := l.drop()
	l.mu.Unlock()
	l.remove(unneeded)
	l.removeStale()
	return nil
}

// removeStale removes what list has left. The caller holds writing.
func (l *Log) removeStale() {
	for _, id := range l.stale {
		if err := l.cfg.FS.Remove(l.path(id)); err != nil {
			l.log.Warn("remove a segment of the raft log", "segment", name(id), "error", err)
		}
	}
	l.stale = nil
}

// A plan is what is written at once.
type plan struct {
	from, to uint64   // the entries: up to to, exclusively
	reset    bool     // all entries before are removed
	cut      bool     // those from here on are
	offsets  []uint32 // where the entries begin, once they are written
	end      int64
}

// plan checks entries against what is there.
func (l *Log) plan(logs []*raft.Log) (*plan, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case l.closed:
		return nil, errClosed
	case l.lost != nil:
		return nil, l.lost
	}
	p := &plan{from: logs[0].Index, to: logs[0].Index + uint64(len(logs))}
	for i, log := range logs {
		if log.Index == 0 || log.Index != p.from+uint64(i) {
			return nil, errs.New(errs.Internal, "entries for the raft log do not follow one another: %d is in the place of %d", log.Index, p.from+uint64(i))
		}
	}
	switch {
	case l.emptied, l.first == l.next && p.from != l.next: // there is nothing that they could follow
		p.reset = true
	case p.from != l.end():
		return nil, errs.New(errs.Internal, "entry %d cannot follow upon entry %d of the raft log", p.from, l.end()-1)
	default:
		p.cut = l.hidden > 0
	}
	return p, nil
}

// writable returns the segment that takes the entries, and begins it where it must. The caller holds writing.
func (l *Log) writable() (*segment, error) {
	if len(l.segments) == 0 {
		return l.begin(1, header{next: l.next})
	}
	tail := l.tail()
	if !tail.closed && tail.end < l.cfg.SegmentBytes {
		return tail, nil
	}
	return l.succeed(tail)
}

// succeed begins the segment behind the tail. The caller holds writing.
func (l *Log) succeed(tail *segment) (*segment, error) {
	if tail.end == headerBytes { // a write to it failed, and it has nothing: it is begun again
		return l.begin(tail.id, tail.header)
	}
	tail.seal()
	return l.begin(tail.id+1, header{before: tail.end, index: tail.index, next: l.next})
}

// undo has the log be as before, after StoreLogs failed with why. What it has left in a segment does not count when there is another one behind, or is taken for
// entries that raft was sent, after a crash. But it must not take away then what raft has seen again since, and may have acknowledged. The caller holds writing.
func (l *Log) undo(s *segment, p *plan, why error) error {
	if s != nil && p.cut {
		_, err := s.file.WriteAt(make([]byte, frameBytes), s.end)
		if err == nil {
			err = s.file.SyncData()
		}
		if err != nil {
			_, err = l.succeed(s)
		}
		if err != nil {
			why = errs.New(errs.Unavailable, "the raft log takes nothing more: entries were removed, and neither could others come in their place nor could that be undone: %w", why)
			l.lose(why)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hidden = 0
	return why
}

// lose ends the log, until it is opened again. The caller holds writing.
func (l *Log) lose(why error) {
	l.mu.Lock()
	l.lost = why
	l.mu.Unlock()
	if l.cfg.Lost != nil {
		l.cfg.Lost(why)
	}
}

// begin makes a segment the tail of the log. One that has nothing is replaced, and is there until then: without it what a failed write has left in the one
// before would count. The caller holds writing.
func (l *Log) begin(id uint64, h header) (*segment, error) {
	s, err := createSegment(l.cfg.FS, l.path(id), id, h, l.cfg.SegmentBytes)
	if err != nil {
		return nil, err
	}
	if err := l.syncDir(); err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.segments); n > 0 && l.segments[n-1].id == id {
		if err := l.segments[n-1].file.Close(); err != nil {
			l.log.Warn("close a segment of the raft log", "error", err)
		}
		l.segments = l.segments[:n-1]
	}
	l.segments = append(l.segments, s)
	return s, nil
}

// publish has entries that are durable be seen, and removes what they take the place of. The caller holds writing and mu.
func (l *Log) publish(s *segment, p *plan) {
	switch {
	case p.reset:
		for _, old := range l.segments {
			old.cut(0)
		}
		l.first, s.reset = p.from, true
	case p.cut:
		for _, old := range l.segments {
			old.cut(p.from)
		}
	}
	if len(s.offsets) == 0 {
		s.base = p.from
	}
	s.offsets = append(s.offsets, p.offsets...)
	s.end = p.end
	l.next, l.hidden, l.emptied = p.to, 0, false
}

// Truncate removes the entries from one on. They are there again if those that come in their place cannot be stored, or the process ends before:
// it is raft's to remove them again, as long as it has not been told that there are others.
func (l *Log) Truncate(from uint64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	if from < l.end() {
		l.hidden = max(from, l.first)
	}
	return nil
}

// DeleteRange implements raft.LogStore: it removes the beginning of the log, its end (see Truncate) or all. A crash may bring back what nothing has come
// in the place of; entries that are stored next may have any index where all was removed.
func (l *Log) DeleteRange(from, to uint64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	unneeded, err := l.deleteRange(from, to)
	l.mu.Unlock()
	l.remove(unneeded)
	return err
}

// deleteRange returns the segments of which nothing is needed. The caller holds writing and mu.
func (l *Log) deleteRange(from, to uint64) ([]*segment, error) {
	if l.closed {
		return nil, errClosed
	}
	end := l.end()
	switch {
	case from > to || from >= end || to < l.first:
	case from <= l.first && to >= end-1 && l.hidden == 0:
		l.emptied = true
	case from <= l.first:
		l.first = min(to+1, end)
		return l.drop(), nil
	case to >= end-1:
		l.hidden = from
	default:
		return nil, errs.New(errs.Internal, "the entries %d to %d are in the midst of the raft log", from, to)
	}
	return nil, nil
}

// drop takes out the segments of which nothing is needed. The caller holds writing and mu.
func (l *Log) drop() []*segment {
	n := 0
	for n < len(l.segments)-1 && l.segments[n].next() <= l.first {
		n++
	}
	unneeded := slices.Clone(l.segments[:n])
	l.segments = slices.Delete(l.segments, 0, n)
	return unneeded
}

// remove removes segments that nobody reads any more. What cannot be removed is when the log is opened again, or is read then as entries that raft does
// not need.
func (l *Log) remove(segments []*segment) {
	for _, s := range segments {
		if err := errors.Join(s.file.Close(), l.cfg.FS.Remove(l.path(s.id))); err != nil {
			l.log.Warn("remove a segment of the raft log", "segment", name(s.id), "error", err)
		}
	}
}
