package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

// snapshots is the Store as hashicorp/raft's store of snapshots. There is always one, the present state; others exist only
// on their way: one that is received becomes the state, and is none any more.
type snapshots struct {
	store *Store

	mu       sync.Mutex
	received *received // by the id "received-" and its number
	number   int
}

var _ raft.SnapshotStore = (*snapshots)(nil)

const presentID = "present"

// List implements raft.SnapshotStore.
func (sn *snapshots) List() ([]*raft.SnapshotMeta, error) {
	s := sn.store
	s.mu.Lock()
	at, who := s.at, s.peers
	s.mu.Unlock()
	if at.index == 0 {
		return nil, nil
	}
	return []*raft.SnapshotMeta{metaOf(presentID, at, who, 0)}, nil
}

func metaOf(id string, at position, who peers, size int64) *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: id, Index: at.index, Term: at.term,
		Configuration: who.conf.Clone(), ConfigurationIndex: who.index, Size: size,
	}
}

// Open implements raft.SnapshotStore.
func (sn *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if id != presentID {
		sn.mu.Lock()
		defer sn.mu.Unlock()
		if r := sn.received; r != nil && r.id == id {
			return metaOf(id, r.at, r.peers, r.size), r, nil
		}
		return nil, nil, errs.New(errs.NotFound, "there is no snapshot %q", id)
	}
	c, err := sn.store.checkpoint()
	if err != nil {
		return nil, nil, err
	}
	return metaOf(id, c.at, c.peers, c.Size), c, nil
}

// A checkpoint is the state at one moment, as a stream. It costs links, until it is closed.
type checkpoint struct {
	*pebble.Container
	at    position
	peers peers
	drop  func() error
}

// Close removes the checkpoint.
func (c *checkpoint) Close() error { return errors.Join(c.Container.Close(), c.drop()) }

func (s *Store) checkpoint() (*checkpoint, error) {
	s.snaps.mu.Lock()
	s.snaps.number++
	dir := s.fs.PathJoin(s.cfg.Dir, fmt.Sprint(outgoingDir, s.snaps.number))
	s.snaps.mu.Unlock()
	s.writing.Lock()
	s.mu.Lock()
	c := &checkpoint{at: s.at, peers: s.peers}
	s.mu.Unlock()
	st := s.state.Load()
	err := st.Checkpoint(dir)
	s.writing.Unlock()
	if err != nil {
		s.lost(st)
	}
	c.drop = func() error { return s.fs.RemoveAll(dir) }
	if err == nil {
		c.Container, err = pebble.Pack(s.fs, dir)
	}
	if err != nil {
		return nil, errors.Join(errs.New(errs.Unavailable, "make a snapshot: %w", err), c.drop())
	}
	return c, nil
}

// Create implements raft.SnapshotStore.
func (sn *snapshots) Create(_ raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	sn.number++
	return &incoming{
		store: sn.store, id: fmt.Sprint("received-", sn.number),
		at: position{index: index, term: term}, peers: peers{confIndex, conf.Clone()},
	}, nil
}

// An incoming is a snapshot that is being received; or the state itself, of which nothing is written.
type incoming struct {
	store *Store
	id    string
	at    position
	peers peers
	pipe  *io.PipeWriter
	done  chan error
	size  int64
}

// ID implements raft.SnapshotSink.
func (in *incoming) ID() string {
	if in.pipe == nil {
		return presentID
	}
	return in.id
}

func (in *incoming) dir() string { return in.store.fs.PathJoin(in.store.cfg.Dir, incomingDir) }

// Write implements io.Writer.
func (in *incoming) Write(b []byte) (int, error) {
	s := in.store
	if r := s.running.Load(); r != nil && r.installs.ended() {
		return 0, errStops
	}
	if in.pipe == nil {
		if err := s.fs.RemoveAll(in.dir()); err != nil {
			return 0, err
		}
		var from *io.PipeReader
		from, in.pipe = io.Pipe()
		in.done = make(chan error, 1)
		go func() { // ends with Close or Cancel
			err := pebble.Unpack(from, s.fs, in.dir())
			_ = from.CloseWithError(err) // always nil
			in.done <- err
		}()
	}
	n, err := in.pipe.Write(b)
	in.size += int64(n)
	return n, err
}

// Cancel implements raft.SnapshotSink.
func (in *incoming) Cancel() error {
	if in.pipe == nil {
		return nil
	}
	_ = in.pipe.CloseWithError(io.ErrUnexpectedEOF) // always nil
	if err := <-in.done; err != nil {
		in.store.log.Debug("a snapshot was not received to its end", "error", err)
	}
	return in.store.fs.RemoveAll(in.dir())
}

// installs are the snapshots that take the state's place just now, and what the state machine is asked: raft is not ended meanwhile. Its library would end the process by a panic where an operator
// restores one.
type installs struct {
	mu    sync.Mutex
	over  bool           // this node's part is about to end: there are no more
	under sync.WaitGroup // not counted up once over is set

	asked map[*question]struct{} // those that are not answered; no more once over is set
}

// A question is something that the state machine answers when it has come so far.
type question struct {
	after    uint64 // its entry is behind this one in the log
	answered chan struct{}
}

// ask does, beside all else, what waits for the state machine, and reports whether there is time for it. Raft's library forgets who waits in the machine's queue when it ends: nobody may count
// on it that do comes to its end.
func (r *running) ask(do func()) bool {
	return r.installs.unlessOver(func() {
		q := &question{r.raft.LastIndex(), make(chan struct{})}
		if r.installs.asked == nil {
			r.installs.asked = map[*question]struct{}{}
		}
		r.installs.asked[q] = struct{}{}
		go func() { // ends when the machine has answered, or raft that it does not
			do()
			close(q.answered)
			r.installs.mu.Lock()
			defer r.installs.mu.Unlock()
			delete(r.installs.asked, q)
		}()
	})
}

// answered waits until the state machine has answered what it was asked, so that as few as can be are forgotten, but not for long. What is not committed is not in the machine's queue: to that
// raft's library says itself that it has ended.
func (r *running) answered() {
	r.installs.mu.Lock()
	asked := slices.Collect(maps.Keys(r.installs.asked))
	r.installs.mu.Unlock()
	patience := time.NewTimer(stopPatience)
	defer patience.Stop()
	look := time.NewTicker(answerLook)
	defer look.Stop()
	for _, q := range asked {
		for waits := true; waits; {
			select {
			case <-q.answered:
				waits = false
			case <-look.C:
				waits = r.raft.CommitIndex() > q.after
			case <-patience.C:
				return
			}
		}
	}
}

// answerLook is how long a stop waits for what was asked to be committed.
const answerLook = 10 * time.Millisecond

// change has the members changed, and returns what comes of it.
func (r *running) change(members func() raft.IndexFuture) error {
	answer := make(chan error, 1)
	if !r.ask(func() { answer <- members().Error() }) {
		return raft.ErrRaftShutdown
	}
	return r.wait(answer)
}

// wait returns what raft answers, or that it has ended: its library forgets some of what it was asked then, and who waits for that would wait for ever.
func (r *running) wait(answer <-chan error) error {
	select {
	case err := <-answer:
		return err
	case <-r.done:
		return raft.ErrRaftShutdown
	}
}

func (i *installs) ended() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.over
}

func (i *installs) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.over = true
}

// unlessOver does something that Stop waits for, unless it has begun to, and reports whether it did.
func (i *installs) unlessOver(do func()) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.over {
		do()
	}
	return !i.over
}

// install begins to have a snapshot take the state's place, and reports whether there is time for it. It is called on raft's own goroutine; that this comes to take
// something else tells that it is done with the snapshot.
func (r *running) install() bool {
	return r.installs.unlessOver(func() {
		r.installs.under.Add(1)
		r.work.Go(func() {
			defer r.installs.under.Done()
			r.raft.Barrier(0) // what comes of it does not count
		})
	})
}

var errStops = errs.New(errs.Unavailable, "this node ends its part in the cluster: the snapshot is not taken")

// Close implements raft.SnapshotSink: what was received can be restored now.
func (in *incoming) Close() error {
	if in.pipe == nil {
		return nil
	}
	if r := in.store.running.Load(); r != nil && !r.install() {
		return errors.Join(errStops, in.Cancel())
	}
	_ = in.pipe.Close() // always nil
	if err := <-in.done; err != nil {
		return errors.Join(err, in.store.fs.RemoveAll(in.dir()))
	}
	sn := in.store.snaps
	sn.mu.Lock()
	defer sn.mu.Unlock()
	sn.discardLocked() // its place is needed
	r, err := in.open()
	if err != nil {
		return errors.Join(err, in.store.fs.RemoveAll(in.dir()))
	}
	sn.received = r
	return nil
}

// discard closes a snapshot that was received and has not become the state.
func (sn *snapshots) discard() {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	sn.discardLocked()
}

func (sn *snapshots) discardLocked() {
	if sn.received != nil {
		sn.received.discard()
		sn.received = nil
	}
}

// open opens what was received as the next state.
func (in *incoming) open() (*received, error) {
	s := in.store
	dir := s.nextDir()
	if err := s.fs.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := s.fs.Rename(in.dir(), dir); err != nil {
		return nil, err
	}
	st, err := s.openStateIn(dir)
	if err != nil {
		return nil, errors.Join(errs.New(errs.Invalid, "the snapshot is damaged: %w", err), s.fs.RemoveAll(dir))
	}
	st.dropped.Store(true) // until it is the present state
	at, _, err := readPosition(st.Store)
	if err == nil {
		in.at.batch = at.batch
		ops := storage.Batch{in.at.op(), in.peers.op()}
		if at.index != in.at.index {
			in.at.batch = in.at.index // a snapshot that somebody has brought; entries under way know nothing of it
			ops = storage.Batch{in.at.op(), in.peers.op(), doubt{in.at.index, in.at.term}.op()}
		}
		ops = append(ops, s.formerLog(in.at)...)
		err = st.Replay(ops, true)
	}
	var unsure doubt
	if err == nil {
		unsure, err = readDoubt(st.Store, in.at)
	}
	if err != nil {
		return nil, errors.Join(err, st.release())
	}
	return &received{id: in.id, at: in.at, peers: in.peers, doubt: unsure, size: in.size, state: st}, nil
}

// formerLog notes, in a state that is to take the place of the present one, that the log begins behind it.
func (s *Store) formerLog(at position) storage.Batch {
	first, err := s.logs.FirstIndex()
	if last, err2 := s.logs.LastIndex(); err == nil && err2 == nil && first > at.index+1 {
		return storage.Batch{former{at.index, last}.op()}
	}
	return storage.Batch{{Kind: storage.Delete, Key: formerKey}} // who sent the state may have had one
}

// A received is a snapshot that can become the state.
type received struct {
	id    string
	at    position
	peers peers
	doubt doubt
	size  int64

	mu    sync.Mutex
	state *state // nil when taken
}

// take gives the state away, for good.
func (r *received) take() *state {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.state
	if st != nil {
		st.dropped.Store(false)
	}
	r.state = nil
	return st
}

func (r *received) discard() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != nil {
		_ = r.state.release() // its folder is removed when the store is opened again, if not now
		r.state = nil
	}
}

// Read is not used: Restore takes the state.
func (r *received) Read([]byte) (int, error) { return 0, io.EOF }

// Close implements io.Closer.
func (r *received) Close() error { return nil }

// Get reads a key of a snapshot before it is restored.
func (r *received) Get(ctx context.Context, key string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == nil {
		return nil, errs.New(errs.Internal, "the snapshot is taken")
	}
	return r.state.Get(ctx, key)
}
