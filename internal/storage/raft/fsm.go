package raft

import (
	"errors"
	"io"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"arca/internal/errs"
	"arca/internal/storage"
)

// fsm is the Store as hashicorp/raft's state machine. All its methods run on raft's one goroutine for that.
type fsm struct{ *Store }

var _ raft.BatchingFSM = fsm{}

// errVoid is the answer to an entry whose fence did not hold.
var errVoid = errs.New(errs.NotActive, "this node is no longer the active one: %w", storage.ErrNotApplied)

// Apply implements raft.FSM.
func (f fsm) Apply(log *raft.Log) any { return f.ApplyBatch([]*raft.Log{log})[0] }

// ApplyBatch implements raft.BatchingFSM. Entries that this node has proposed, and whose proposer waits, are published
// by the DB that waits; all others are published here, as changes from elsewhere.
func (f fsm) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	for from := 0; from < len(logs); {
		n, err := f.applyRun(logs[from:], results[from:])
		if err != nil {
			f.fail(err)
			for i := from; i < len(logs); i++ {
				results[i] = err
			}
			break
		}
		from += n
	}
	return results
}

// applyRun applies the first of logs, and as many behind it as are of its kind, in one batch.
func (f fsm) applyRun(logs []*raft.Log, results []any) (n int, err error) {
	if err := f.broken.get(); err != nil {
		return 0, err
	}
	r := run{store: f.Store, at: f.position(), results: results}
	for _, log := range logs {
		if more, err := r.add(log); err != nil {
			return 0, err
		} else if !more {
			break
		}
	}
	if r.own != nil {
		return r.n, f.applyOwn(&r)
	}
	return r.n, f.applyOthers(&r)
}

// A run is entries that are applied together.
type run struct {
	store   *Store
	own     *pending
	n       int
	at      position
	peers   *peers
	ops     storage.Batch
	sealed  bool // touches what unsealing reads
	results []any
}

// add takes log into the run, or reports that it does not belong there.
func (r *run) add(log *raft.Log) (more bool, err error) {
	if r.own != nil {
		return false, nil
	}
	if log.Type == raft.LogConfiguration {
		conf, err := decodeConfiguration(log.Data)
		if err != nil {
			return false, err
		}
		r.peers = &peers{log.Index, conf}
		r.count(log)
		return true, nil
	}
	e, err := decodeEntry(log.Data, r.ops)
	if err != nil {
		return false, err
	}
	if r.n > 0 && r.store.waits(e.proposal) {
		return false, nil
	}
	r.own = r.store.claim(e.proposal)
	if log.Index <= r.at.index { // nothing is applied twice
		r.count(log)
		return true, nil
	}
	if e.after != r.at.batch {
		r.results[r.n] = errVoid
		r.count(log)
		return true, nil
	}
	r.at.batch = log.Index
	for i := len(r.ops); i < len(e.ops); i++ {
		key := e.ops[i].Key
		r.sealed = r.sealed || strings.HasPrefix(key, sealPrefix) || e.ops[i].Kind == storage.DeletePrefix && strings.HasPrefix(sealPrefix, key)
	}
	r.ops = e.ops
	r.count(log)
	return true, nil
}

// sealPrefix begins the keys that are read while the node is sealed, when its log does not run: they are durable in the
// state itself.
const sealPrefix = "seal/"

func (r *run) count(log *raft.Log) {
	r.n++
	if log.Index > r.at.index {
		r.at.index, r.at.term = log.Index, log.Term
	}
}

// commit writes the run into the state.
func (r *run) commit() error {
	s := r.store
	if r.at.index <= s.position().index {
		return nil
	}
	ops := r.ops[:len(r.ops):len(r.ops)]
	if r.peers != nil {
		ops = append(ops, r.peers.op())
	}
	ops = append(ops, r.at.op())
	if s.doubted() != (doubt{}) {
		ops = append(ops, storage.Op{Kind: storage.Delete, Key: doubtKey})
	}
	size := 0
	for i := range ops {
		size += len(ops[i].Value)
	}
	if err := s.store(size, func() error { return s.state.Load().Replay(ops, r.sealed) }); err != nil {
		return err
	}
	s.moved(r.at, r.peers)
	return nil
}

// store has so many bytes be written to the state, or it be synced, and has hangs see how long that takes. The caller holds writing.
func (s *Store) store(size int, write func() error) error {
	s.replays.Store(&storing{time.Now(), size})
	defer s.replays.Store(nil)
	return write()
}

func (f fsm) applyOwn(r *run) error {
	f.writing.Lock()
	err := r.commit()
	f.writing.Unlock()
	if err != nil {
		r.own.finish(err)
		return err
	}
	void, _ := r.results[0].(error)
	if void == nil {
		void = r.own.show()
	}
	f.reached(r.at.index)
	r.own.finish(void)
	return nil
}

// applyOthers applies what other nodes wrote. If this node thinks that it leads, it does no longer.
func (f fsm) applyOthers(r *run) error {
	if len(r.ops) > 0 {
		f.mode.Lock()
		defer f.mode.Unlock()
		f.followLocked()
		f.askAgain()
	}
	f.writing.Lock()
	err := r.commit()
	f.writing.Unlock()
	if err != nil {
		return err
	}
	if r.peers != nil {
		f.told().peers()
	}
	if len(r.ops) > 0 {
		if err := f.told().applied(changeOf(r.ops)); err != nil {
			return err
		}
	}
	f.reached(r.at.index)
	return nil
}

func changeOf(ops storage.Batch) storage.Change {
	var ch storage.Change
	for i := range ops {
		switch ops[i].Kind {
		case storage.DeletePrefix:
			ch.Prefixes = append(ch.Prefixes, ops[i].Key)
		case storage.Put, storage.Delete:
			ch.Keys = append(ch.Keys, ops[i].Key)
		}
	}
	return ch
}

// Snapshot implements raft.FSM. The state is its own snapshot.
func (f fsm) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.broken.get(); err != nil {
		return nil, err
	}
	return &own{s: f.Store, of: f.state.Load()}, nil
}

// own is the snapshot that raft takes to shorten its log: all that it needs is that the state is on the disk. From Persist to Release no other
// state takes the place of this one: raft would go on from where this one ended.
type own struct {
	s    *Store
	of   *state
	held bool // the Store's shortening
}

var errReplaced = errs.New(errs.Conflict, "raft: another state has taken the place of the one behind which the log was to be shortened")

// Persist implements raft.FSMSnapshot.
func (o *own) Persist(to raft.SnapshotSink) error {
	in, ok := to.(*incoming)
	if !ok {
		return errs.New(errs.Internal, "raft: a snapshot for another store")
	}
	o.s.shortening.Lock()
	o.held = true
	if o.s.state.Load() != o.of {
		return errors.Join(errReplaced, to.Cancel())
	}
	err := o.s.settle(in.at)
	if err != nil {
		o.s.lost(o.of)
		return errors.Join(err, to.Cancel())
	}
	return to.Close()
}

// Release implements raft.FSMSnapshot. Raft calls it when it has taken note of the snapshot, or has not.
func (o *own) Release() {
	if o.held {
		o.held = false
		o.s.shortening.Unlock()
	}
}

// settle makes the state durable up to at. What lies between the state and at are raft's own entries, that leave no trace
// in it.
func (s *Store) settle(at position) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	st := s.state.Load()
	if now := s.position(); at.index > now.index {
		at.batch = now.batch
		ops := storage.Batch{at.op(), {Kind: storage.Delete, Key: doubtKey}}
		if err := s.store(0, func() error { return st.Replay(ops, true) }); err != nil {
			return err
		}
		s.mu.Lock()
		s.at, s.doubt = at, doubt{}
		s.mu.Unlock()
		return nil
	}
	return s.store(0, st.Sync)
}

// Restore implements raft.FSM: it goes over to the state that was received. Where a leader cannot, for an operator, the library ends the process.
func (f fsm) Restore(from io.ReadCloser) error {
	err := f.restore(from)
	if r := f.running.Load(); err != nil && r != nil && r.raft.State() == raft.Leader {
		f.end(errs.New(errs.Unavailable, "the snapshot cannot take the state's place; see to the disk of the storage folder, start arca again, and restore the snapshot once more: %w", err))
	}
	return err
}

func (f fsm) restore(from io.ReadCloser) error {
	for {
		w, ok := from.(raft.ReadCloserWrapper)
		if !ok {
			break
		}
		from = w.WrappedReadCloser()
	}
	r, ok := from.(*received)
	if !ok {
		return errs.New(errs.Internal, "raft: a snapshot from another store")
	}
	if err := f.broken.get(); err != nil {
		return err
	}
	f.shortening.Lock()
	defer f.shortening.Unlock()
	f.mode.Lock()
	defer f.mode.Unlock()
	f.followLocked()
	given := f.doubted()
	if err := f.adopt(r); err != nil {
		return err
	}
	f.told().peers()
	if err := f.told().applied(storage.Change{Prefixes: []string{""}}); err != nil {
		f.fail(err)
		return err
	}
	f.mu.Lock()
	f.reachAtLocked(r.at.index)
	f.mu.Unlock()
	f.given(given, r.at)
	return nil
}

// adopt makes the received state the present one.
func (s *Store) adopt(r *received) error {
	next := r.take()
	if next == nil {
		return errs.New(errs.Internal, "raft: a snapshot is restored twice")
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := setCurrent(s.fs, s.cfg.Dir, s.fs.PathBase(next.dir)); err != nil {
		next.dropped.Store(true)
		return errors.Join(errs.New(errs.Unavailable, "install a snapshot in the storage folder %q: %w", s.cfg.Dir, err), next.release())
	}
	old := s.state.Swap(next)
	s.moved(r.at, &r.peers)
	s.mu.Lock()
	s.doubt = r.doubt
	s.mu.Unlock()
	old.dropped.Store(true)
	if err := old.release(); err != nil {
		s.log.Warn("remove the state before the snapshot", "error", err)
	}
	return nil
}
