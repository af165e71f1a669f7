// Package raft is the replicated storage.Backend: every Apply is one entry of a log that hashicorp/raft keeps the same on
// all nodes, and is acknowledged when most of them have it on their disks.
//
// The log (package wal) is the only thing that is synced. The state machine is an unsynced Pebble store: the position in the
// log is written with each batch, so that after a crash the state is that after some entry, and the log is replayed from
// there. It is its own snapshot: the log is shortened once the state is on the disk, and a node that is too far behind
// gets the files of a checkpoint.
//
// A Store can be read from Open on; it takes part in the cluster from Start to Stop, for which it needs a Transport. It
// promises: what was acknowledged is not lost while most voters keep their disks; a deposed leader acknowledges nothing; a
// new leader has applied everything that was committed before it takes a write; Fresh and Await let no reader see less
// than what was acknowledged before it asked.
//
// DESIGN.md beside this file tells how; docs/adr/0013 tells why.
package raft

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/clock"
	"arca/internal/storage/raft/wal"
)

// Config of a Store.
type Config struct {
	Dir    string // the folder, made if absent
	Memory bool   // keep log and state in memory, for tests; Dir is ignored
	NodeID string // of this node, unique in the cluster for ever
	Log    *slog.Logger

	// Multiplier stretches the timers by which a lost leader is noticed (performance_multiplier); 0 is 1.
	Multiplier        int
	TrailingLogs      uint64        // entries kept behind a snapshot; 0 is 10,000
	SnapshotThreshold uint64        // entries after which the log is shortened; 0 is 8,192
	SnapshotInterval  time.Duration // how often that is looked at; 0 is two minutes

	Clock *clock.Clock // by which leases are measured; nil is the machine's

	// Exit ends the process, when the log has said why: raft cannot go on, and its library would end it by a panic. It does not return; nil leaves it to the library.
	Exit func()

	survey bool   // only look: where the votes are lost there are none
	fs     vfs.FS // instead of the memory or the operating system's, for tests of what a disk does
}

// Timers, at a multiplier of 1.
const (
	heartbeatTime = 900 * time.Millisecond // without a word from the leader, after which another is elected: once to twice
	stepDownTime  = 850 * time.Millisecond // without most voters, after which a leader gives up
	// goneTime is heartbeatTime where the leader's process has ended, for all that can be seen: once, not to twice. Raft
	// has none that is less than stepDownTime. goneSpread is by how much voters differ then, so that not all stand at once.
	goneTime   = stepDownTime
	goneSpread = 150 * time.Millisecond
	// beatTime is how often a leader is heard.
	beatTime = 400 * time.Millisecond
	// leaderTime, over ten to five, is when raft itself would have the leader be heard: after beatTime. Its half is the longest
	// pause between attempts to reach a node that does not answer.
	leaderTime = 4000 * time.Millisecond
	// commitTime is when followers hear at the latest what is committed. Reads do not wait for it: see Await.
	commitTime = 2 * time.Second
	// leaseTime is how long after most voters have answered no other leader can exist, whatever the others' multipliers
	// are: they grant no vote for goneTime at least. The difference is for clocks that do not run alike.
	leaseTime = 350 * time.Millisecond
)

const (
	defaultTrailing  = 10_000
	defaultThreshold = 8192
	defaultInterval  = 2 * time.Minute
	maxAppend        = 64
	enqueueTimeout   = time.Second
)

// Events tell the owner of a Store what becomes of it. They are called one at a time.
type Events struct {
	// Follow takes the right to write from this node; it returns when no Apply is under way. Applies fail already.
	Follow func()
	// Lead gives it the right to write: everything that was committed before is applied.
	Lead func()
	// Applied tells what others have written.
	Applied func(storage.Change) error
	// Peers tells that the configuration of the cluster has changed. It must not call the Store.
	Peers func()
}

// A Store is a storage.Backend. It is safe for concurrent use.
type Store struct {
	cfg    Config
	log    *slog.Logger
	fs     vfs.FS
	clock  *clock.Clock
	state  atomic.Pointer[state]
	logs   *logStore
	stable *wal.Votes // nil where they are lost, of a store that is surveyed

	closers []io.Closer
	snaps   *snapshots
	silent  time.Time // since when this node answers no other, where it does not; guarded by starts
	broken  failure
	leaving atomic.Bool // since the state takes no more writes
	former  former      // as it was when the store was opened

	on Events // set before Start

	// mode is held while this node comes to lead, ceases to, or applies what others wrote.
	mode    sync.Mutex
	leading atomic.Pointer[leadership] // nil while following

	replays    atomic.Pointer[storing] // the write to the state that is under way; nil for none
	writing    sync.Mutex              // held while state, at and peers change together
	shortening sync.Mutex              // held while raft takes note of how far the state is durable, and while another takes its place; taken before mode

	mu       sync.Mutex
	at       position
	ran      position // the last entry that the state machine was given: at may be beyond, by raft's own entries
	peers    peers
	doubt    doubt
	waiting  *pending // the Apply under way
	by       uint64
	number   uint64
	progress chan struct{} // closed when reachedAt grows; nil if nobody waits
	reachAt  uint64        // position up to which the DBs above have been told

	running atomic.Pointer[running] // nil while stopped
	starts  sync.Mutex              // held by Start and Stop
	lease   lease
	others  others
	// applies holds one value while an Apply is under way: there is one at a time. It is no mutex, since one who hands the
	// leadership over waits for it only so long.
	applies chan struct{}
	gaveWay time.Time // when leadership was handed over for want of room; guarded by applies

	changing sync.Mutex // who the members are: a look at them and what follows from it are one
}

var _ storage.Backend = (*Store)(nil)

// Open opens the store in cfg.Dir, or makes a new one. It takes no part in a cluster yet.
func Open(cfg Config) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.NodeID == "" {
		return nil, errs.New(errs.Invalid, "raft storage needs a node id")
	}
	if cfg.Multiplier == 0 {
		cfg.Multiplier = 1
	}
	setDefault(&cfg.TrailingLogs, defaultTrailing)
	setDefault(&cfg.SnapshotThreshold, defaultThreshold)
	if cfg.SnapshotInterval == 0 {
		cfg.SnapshotInterval = defaultInterval
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.New()
	}
	s := &Store{cfg: cfg, clock: cfg.Clock, log: cfg.Log, silent: time.Now(), applies: make(chan struct{}, 1)}
	var by [8]byte
	_, _ = rand.Read(by[:]) // never fails
	s.by = binary.BigEndian.Uint64(by[:])
	if cfg.Memory {
		s.cfg.Dir = "arca"
	}
	switch {
	case cfg.fs != nil:
		s.fs = cfg.fs
	case cfg.Memory:
		s.fs = vfs.NewMem()
	default:
		s.fs = disk(cfg.Log)
	}
	if s.cfg.Dir == "" {
		return nil, errs.New(errs.Invalid, "raft storage needs a path to a folder")
	}
	if err := s.openState(); err != nil {
		return nil, err
	}
	s.snaps = &snapshots{store: s}
	if err := s.openLog(); err != nil {
		return nil, errors.Join(err, s.state.Load().release())
	}
	s.ran, s.reachAt = s.at, s.at.index
	return s, nil
}

func setDefault(v *uint64, d uint64) {
	if *v == 0 {
		*v = d
	}
}

// openLog opens the log after the state, whose lock keeps other processes away.
func (s *Store) openLog() error {
	dir := s.fs.PathJoin(s.cfg.Dir, walDir)
	if !s.cfg.Memory {
		if err := s.importLog(dir); err != nil {
			return err
		}
	}
	log, err := wal.Open(wal.Config{FS: s.fs, Dir: dir, Log: s.log, Lost: s.leave})
	if err != nil {
		return err
	}
	votes, err := wal.OpenVotes(s.fs, dir, log.Fresh() && s.position().index == 0)
	if errs.Is(err, errs.Invalid) {
		votes, err = s.withoutVotes(dir, err)
	}
	if err != nil {
		return errors.Join(err, log.Close())
	}
	s.logs = &logStore{Log: log, applied: func() uint64 { return s.position().index }, failed: s.unreadable}
	s.closers = []io.Closer{log}
	if votes != nil {
		s.stable, s.closers = votes, append(s.closers, votes)
	}
	return nil
}

// withoutVotes has a node begin votes anew whose votes are lost, for a reason, where the operator says that it is the cluster alone: nobody can count then on whom it voted
// for. Among others it could vote twice in a term, and two leaders have other entries in the same places.
func (s *Store) withoutVotes(dir string, why error) (*wal.Votes, error) {
	if s.cfg.survey {
		return nil, nil
	}
	who, is, err := s.left()
	switch {
	case err != nil:
		return nil, errors.Join(why, err)
	case !is:
		return nil, why
	case len(who.Servers) > 1:
		return nil, errs.New(errs.Invalid, notAlone, peersFile, why)
	}
	s.log.Warn("the node's votes are lost: as it is to be the cluster alone, it begins with new ones", "error", why)
	return wal.RenewVotes(s.fs, dir)
}

const notAlone = "%q lists other nodes, too: without its votes this one can be the cluster only alone, to which the others are joined anew: %w"

// Bind says whom to tell. It must be called once, before Start.
func (s *Store) Bind(on Events) { s.on = on }

// events calls the owner, if there is one.
type events struct{ s *Store }

func (e events) applied(ch storage.Change) error {
	if e.s.on.Applied == nil {
		return nil
	}
	return e.s.on.Applied(ch)
}

func (e events) peers() {
	if e.s.on.Peers != nil {
		e.s.on.Peers()
	}
}

// Close stops the store and closes it. Snapshots and iterators must be closed before.
func (s *Store) Close() error {
	s.Stop()
	s.snaps.discard()
	var err error
	for _, c := range s.closers {
		err = errors.Join(err, c.Close())
	}
	return errors.Join(err, s.state.Load().release())
}

// A failure is the first thing after which a store cannot go on.
type failure struct{ err atomic.Pointer[error] }

func (f *failure) get() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

// fail ends the store's part in the cluster: what it cannot apply it must not skip. Others go on without it.
func (s *Store) fail(err error) {
	s.leave(errs.New(errs.Unavailable, "the raft state cannot be written; the node leaves the cluster until arca is started again: %w", err))
}

// lost looks whether a state takes no more writes, and reports that. The node leaves the cluster then, also where there is no entry that it cannot apply: a leader that writes
// nothing, and can send no snapshot, would keep those from going on that can. Another is told to take over before, if one can.
func (s *Store) lost(st *state) bool {
	why := st.Failed()
	if why == nil || st != s.state.Load() { // a snapshot may have replaced it
		return false
	}
	if s.leaving.CompareAndSwap(false, true) {
		go func() { // StepDown waits for what the caller may hold
			_ = s.StepDown("") // or it does not lead, or the others find one by themselves
			s.fail(why)
		}()
	}
	return true
}

// leave ends the store's part in the cluster for good, until it is opened again. The first reason stays.
func (s *Store) leave(why error) {
	if !s.broken.err.CompareAndSwap(nil, &why) {
		return
	}
	s.log.Error("this node takes no part in the cluster until arca is started again", "error", why)
	go s.Stop() // it waits for the goroutine that calls this
}

func (s *Store) position() position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

// moved says where the state stands now, by an entry that it was given. The caller holds writing.
func (s *Store) moved(at position, who *peers) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.ran = at, at
	if at.index > s.doubt.index {
		s.doubt = doubt{}
	}
	if who != nil {
		s.peers = *who
	}
}

// reached says that all up to an entry is in the state, and whoever reads through a DB sees it.
func (s *Store) reached(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if index > s.reachAt {
		s.reachAtLocked(index)
	}
}

// reachAtLocked sets how far readers are. It goes back only where another state takes the place of one that nobody had
// committed. The caller holds mu.
func (s *Store) reachAtLocked(index uint64) {
	s.reachAt = index
	if s.progress != nil {
		close(s.progress)
		s.progress = nil
	}
}

// NodeID is this node's.
func (s *Store) NodeID() string { return s.cfg.NodeID }

// Err says why the store cannot go on, if it cannot.
func (s *Store) Err() error { return s.broken.get() }

// HasPeers reports whether this node belongs to a cluster, be it of itself alone.
func (s *Store) HasPeers() bool {
	s.mu.Lock()
	known := len(s.peers.conf.Servers) > 0
	s.mu.Unlock()
	if known {
		return true
	}
	last, err := s.logs.LastIndex()
	return err != nil || last > 0
}

// A logStore tells when entries have come, and has the newest in memory: they are read soon, to be sent and to be applied.
type logStore struct {
	*wal.Log
	applied func() uint64 // the newest entry that the state has
	failed  func(index uint64, why error)

	// believed is up to where raft believes that the log leads, although a state has taken its place that ends before, or there; 0 where raft
	// is right. See Store.given.
	believed atomic.Uint64

	under atomic.Pointer[storing] // the write that is under way; nil for none

	mu     sync.Mutex
	stored chan struct{} // closed when entries have come; nil if nobody waits
	recent []*raft.Log   // one after the other
	bytes  int           // of recent
}

// A storing is a write to the log, or to the state, of so many bytes.
type storing struct {
	since time.Time
	bytes int
}

// Bounds of what a logStore has in memory.
const (
	recentEntries = 512
	recentBytes   = 2 << 20
)

// GetLog implements raft.LogStore.
func (l *logStore) GetLog(index uint64, log *raft.Log) error {
	l.mu.Lock()
	if n := len(l.recent); n > 0 {
		if first := l.recent[0].Index; index >= first && index < first+uint64(n) {
			*log = *l.recent[index-first]
			l.mu.Unlock()
			return nil
		}
	}
	l.mu.Unlock()
	err := l.Log.GetLog(index, log)
	if errors.Is(err, raft.ErrLogNotFound) && l.gone(index) {
		*log = raft.Log{Index: index} // of no term: whatever a leader has is another entry, which comes in its place
		return nil
	}
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		l.failed(index, err)
	}
	return err
}

// gone reports whether raft believes in an entry whose log a state has taken the place of.
func (l *logStore) gone(index uint64) bool {
	return index <= l.believed.Load() && index > l.applied()
}

// DeleteRange implements raft.LogStore. Entries that the state has not are removed because a leader has others in their place: should these not be
// stored, raft goes on believing in the old ones, which must be there then. Only a log that begins behind the state's next entry is removed as a whole: it is a former one.
func (l *logStore) DeleteRange(first, last uint64) error {
	l.mu.Lock()
	l.recent, l.bytes = nil, 0
	l.mu.Unlock()
	begin, err := l.FirstIndex()
	if err != nil {
		return err
	}
	if at := l.applied(); first > at && begin <= at+1 {
		return l.Truncate(first)
	}
	return l.Log.DeleteRange(first, last)
}

// StoreLog implements raft.LogStore.
func (l *logStore) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (l *logStore) StoreLogs(logs []*raft.Log) error {
	w := &storing{since: time.Now()}
	for _, log := range logs {
		w.bytes += len(log.Data)
	}
	l.under.Store(w)
	err := l.Log.StoreLogs(logs)
	l.under.Store(nil)
	if err != nil {
		return err
	}
	l.believed.Store(0) // raft goes by these
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, log := range logs {
		if n := len(l.recent); n > 0 && l.recent[n-1].Index+1 != log.Index {
			l.recent, l.bytes = nil, 0
		}
		l.recent = append(l.recent, log)
		l.bytes += len(log.Data)
	}
	drop := 0
	for ; drop < len(l.recent) && (len(l.recent)-drop > recentEntries || l.bytes > recentBytes); drop++ {
		l.bytes -= len(l.recent[drop].Data)
		l.recent[drop] = nil
	}
	l.recent = l.recent[drop:]
	if l.stored != nil {
		close(l.stored)
		l.stored = nil
	}
	return nil
}

// more returns what is closed when entries have come.
func (l *logStore) more() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stored == nil {
		l.stored = make(chan struct{})
	}
	return l.stored
}

// Committed and Applied are positions of the log, for those who ask how a node is.
func (s *Store) Committed() uint64 {
	if r := s.running.Load(); r != nil {
		return r.raft.CommitIndex()
	}
	return s.position().index
}

// Applied is the last entry that raft has handed to the state.
func (s *Store) Applied() uint64 {
	if r := s.running.Load(); r != nil {
		return r.raft.AppliedIndex()
	}
	return s.position().index
}

// Last is the newest entry of this node's log and its term.
func (s *Store) Last() (index, term uint64) {
	r := s.running.Load()
	if r == nil {
		if index, term, err := s.newest(); err == nil {
			return index, term
		}
		at := s.position()
		return at.index, at.term
	}
	index = r.raft.LastIndex()
	var log raft.Log
	at := s.position()
	switch err := s.logs.GetLog(index, &log); {
	case err != nil:
		return index, at.term
	case log.Term == 0: // it is gone
		return at.index, at.term
	}
	return index, log.Term
}

// contextErr gives the end of a context a kind.
func contextErr(ctx context.Context) error {
	return errs.New(errs.Unavailable, "raft: %w", context.Cause(ctx))
}

func (s *Store) told() events { return events{s} }
