package raft

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"arca/internal/errs"
	"arca/internal/storage/clock"
)

// A Transport carries what nodes say to one another. Those of hashicorp/raft are some.
type Transport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// A Parting is a Transport that can end what this node says to others, and waits for. Raft's library waits for all of it when it ends, and some of the others may be gone without a word.
type Parting interface{ Part() }

// An inlet is a Transport through which this node can also speak to its own raft, in the words of others: see
// Store.Await and Store.electSelf.
//
// It tells what others acknowledge, and when that was sent: see Store.Fresh.
type inlet struct {
	Transport
	calls  chan raft.RPC
	left   chan struct{} // closed when raft has been told to end
	done   chan struct{}
	heard  func(id raft.ServerID, term uint64, sent time.Duration)
	others *others
	clock  *clock.Clock
	// intercept answers what raft must not hear, and reports whether it has; else it returns what raft is to hear.
	intercept func(raft.RPC) (raft.RPC, bool)
	patience  time.Duration          // with a node that is told to take over
	handed    func() uint64          // the last term in which this node, as its leader, has told another to take over
	settled   func(term uint64) bool // whether what a leader of a term says is of the past, or of the one that this node follows
	beaten    func()                 // told of each heartbeat, before raft is
	follows   func() bool            // whether this node may not stand for election, for what it has promised to a leader
	believes  func() *raft.RPCHeader // another node that raft takes for the leader; nil for none
	hangs     func() bool            // whether this node's log or state waits for its disk, so that it is not to be heard as the leader
	returns   returns
	resuming  atomic.Bool                                                     // resume waits
	renew     func()                                                          // has raft send to all what they lack, if this node leads
	lately    func() time.Duration                                            // what was sent since then, and answered, is news of a node that is there
	leads     func(id raft.ServerID, to raft.ServerAddress, term uint64) bool // whether raft leads in a term, and sends its log to a node at an address
	ends      func() bool                                                     // whether this node ends its part in the cluster
	heir      atomic.Uint64                                                   // the term in which this node may lead because the leader of the one before has told it to

	watching sync.WaitGroup // for answers

	beats   sync.RWMutex  // held, for reading, while raft looks at a heartbeat
	deaf    bool          // raft has ended; guarded by beats
	told    bool          // raft is being told to stand for election; guarded by beats
	changed chan struct{} // closed when told changes, and replaced; guarded by beats
}

// SetHeartbeatHandler implements raft.Transport. Transports call the handler from where they read: beside raft's own goroutine, also when raft has
// ended, and it writes to the log, which is closed then. It compares terms, and sets them, as if it were alone. So it gets what can change nothing but when
// the leader was heard; the rest raft takes between two other things: it would fall back behind a term in which it has voted, or go on leading in another's.
func (in *inlet) SetHeartbeatHandler(handle func(raft.RPC)) {
	if handle == nil {
		in.Transport.SetHeartbeatHandler(nil)
		return
	}
	in.Transport.SetHeartbeatHandler(func(call raft.RPC) {
		in.beaten()
		for began := time.Now(); time.Since(began) <= beatPatience; {
			done, to, changed := in.beat(call, handle)
			if done {
				return
			}
			again := time.NewTimer(beatAgain)
			select {
			case to <- call:
				done = true
			case <-in.done:
				call.Respond(nil, raft.ErrTransportShutdown)
				done = true
			case <-changed:
			case <-again.C: // raft may be in the term by now, and busy
			}
			if again.Stop(); done {
				return
			}
		}
		call.Respond(nil, errBusy)
	})
}

// beatAgain is how long a heartbeat waits for raft until it is looked at again, and beatPatience how long at all: nobody waits for its answer any more.
const (
	beatAgain    = 50 * time.Millisecond
	beatPatience = 10 * time.Second
)

var errBusy = errs.New(errs.Unavailable, "this node is busy, and does not hear its leader")

// beat has a heartbeat looked at at once, and reports whether that may be. Else it is to be given to raft by a channel, which is nil for the time being if
// it must wait; changed is closed when that is over, or begins.
func (in *inlet) beat(call raft.RPC, handle func(raft.RPC)) (done bool, to chan<- raft.RPC, changed <-chan struct{}) {
	in.beats.RLock()
	defer in.beats.RUnlock()
	if in.deaf {
		call.Respond(nil, raft.ErrTransportShutdown)
		return true, nil, nil
	}
	if in.told {
		return false, nil, in.changed
	}
	req, is := call.Command.(*raft.AppendEntriesRequest)
	if !is || !in.settled(req.Term) {
		return false, in.calls, in.changed
	}
	handle(call)
	return true, nil, nil
}

// raising has a term be noted that is higher than the one before: while no heartbeat is looked at, which would set the lower one again.
func (in *inlet) raising(note func() error) error {
	in.beats.Lock()
	defer in.beats.Unlock()
	return note()
}

// ended waits until raft, which has ended, looks at no heartbeat any more.
func (in *inlet) ended() {
	in.beats.Lock()
	defer in.beats.Unlock()
	in.deaf = true
}

func newInlet(t Transport) *inlet {
	return &inlet{Transport: t, calls: make(chan raft.RPC), left: make(chan struct{}), done: make(chan struct{}), changed: make(chan struct{})}
}

// run hands on what others say, until done is closed.
func (in *inlet) run() {
	defer in.watching.Wait()
	from := in.Transport.Consumer()
	answered := make(chan struct{}) // closed while raft is not about to install a snapshot, or to be told to stand for election
	close(answered)
	for {
		select {
		case call := <-from:
			select {
			case <-answered: // what intercept looks at is as raft will find it
			case <-in.done:
				call.Respond(nil, raft.ErrTransportShutdown)
				return
			}
			if call.Reader != nil {
				call.Reader = ending{call.Reader, in.ends}
			}
			if _, is := call.Command.(*raft.TimeoutNowRequest); is {
				call, answered = in.undisturbed(call)
			}
			call, kept := in.intercept(call)
			if kept {
				continue
			}
			if _, is := call.Command.(*raft.InstallSnapshotRequest); is {
				call, answered = in.watched(call, func() {})
			}
			call = named(call)
			select {
			case in.calls <- call:
			case <-in.done:
				call.Respond(nil, raft.ErrTransportShutdown)
				return
			}
		case <-in.done:
			return
		}
	}
}

// An ending reader is of what comes with a message, until this node ends its part in the cluster: raft's library reads all of a snapshot, also of one that it cannot take any more.
type ending struct {
	from io.Reader
	ends func() bool
}

// Read implements io.Reader.
func (e ending) Read(b []byte) (int, error) {
	if e.ends() {
		return 0, errStops
	}
	return e.from.Read(b)
}

// watched is a call whose answer is handed on, when then has been done; answered is closed after that.
func (in *inlet) watched(call raft.RPC, then func()) (same raft.RPC, answered chan struct{}) {
	to, answer := call.RespChan, make(chan raft.RPCResponse, 1)
	call.RespChan, answered = answer, make(chan struct{})
	in.watching.Go(func() {
		defer close(answered)
		a := raft.RPCResponse{Error: raft.ErrTransportShutdown}
		select {
		case a = <-answer:
		case <-in.done:
		}
		then()
		to <- a
	})
	return call, answered
}

// undisturbed is a call that tells raft to stand for election, which no heartbeat comes beside until it is answered. Raft becomes a candidate first, and one that was told so
// then: between the two a heartbeat of the leader that has told it would have it follow again, and stand the next time without asking whether it may. And one of a later
// leader, before, would have it stand against that.
func (in *inlet) undisturbed(call raft.RPC) (same raft.RPC, answered chan struct{}) {
	in.setTold(true)
	return in.watched(call, func() { in.setTold(false) })
}

func (in *inlet) setTold(told bool) {
	in.beats.Lock()
	defer in.beats.Unlock()
	in.told = told
	close(in.changed)
	in.changed = make(chan struct{})
}

// named has raft tell candidates apart by their ids. It does so by the addresses that they state: it votes for one although it hears a leader, if that
// states the same address, and votes again in a term for whoever states that of the one that it has voted for. A wrong configuration, or addresses
// that change, give two nodes the same.
func named(call raft.RPC) raft.RPC {
	switch req := call.Command.(type) {
	case *raft.RequestVoteRequest:
		own := *req // transports may share it
		own.RPCHeader = withID(req.RPCHeader)
		call.Command = &own
	case *raft.RequestPreVoteRequest:
		own := *req
		own.RPCHeader = withID(req.RPCHeader)
		call.Command = &own
	}
	return call
}

// withID is a candidate's header with an address that is nobody else's. Raft does nothing with it but to compare it.
func withID(h raft.RPCHeader) raft.RPCHeader {
	h.Addr = slices.Concat(h.Addr, []byte(" "), h.ID)
	return h
}

// AppendEntries implements raft.Transport.
func (in *inlet) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	sent := in.clock.Now()
	err := in.deliver(id, to, args, resp)
	if err != nil || resp.Term != args.Term {
		return err
	}
	in.others.answered(id, args.Term, sent)
	switch {
	case isHeartbeat(args):
		in.returns.answered(id)
	case resp.Success:
		in.heard(id, args.Term, sent)
		in.others.took(id, args)
	}
	return nil
}

// AppendEntriesPipeline implements raft.Transport. Raft looks at no answer behind one that refuses, and may send on before it notices: it would wait for ever until there is room
// behind answers that nobody takes, and neither send that node anything more as long as this one leads, nor end. So those are thrown away here.
func (in *inlet) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := in.Transport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	seen := &pipeline{AppendPipeline: p, in: in, answers: make(chan raft.AppendFuture), closed: make(chan struct{})}
	in.watching.Go(func() { // raft closes it when it ends
		for {
			select {
			case answer := <-p.Consumer():
				if seen.over.Load() {
					continue
				}
				args, resp := answer.Request(), answer.Response()
				if seen.over.Store(!resp.Success || resp.Term > args.Term); seen.over.Load() {
					in.resume()
				} else if resp.Term == args.Term {
					in.others.took(id, args)
				}
				select {
				case seen.answers <- answer:
				case <-seen.closed:
					return
				}
			case <-seen.closed:
				return
			}
		}
	})
	return seen, nil
}

// A pipeline is one whose answers are looked at before raft has them.
type pipeline struct {
	raft.AppendPipeline
	in      *inlet
	over    atomic.Bool // an answer refuses, or there is none
	answers chan raft.AppendFuture
	closed  chan struct{}
}

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	answer, err := raft.AppendFuture(nil), errOver
	switch {
	case p.in.hangs():
		err = errDiskHangs
	case !p.over.Load():
		answer, err = p.AppendPipeline.AppendEntries(args, resp)
	}
	if err != nil {
		p.in.resume()
	}
	return answer, err
}

var errOver error = errs.New(errs.Unavailable, "the node has refused what it was sent before, or does not answer")

var errDiskHangs error = errs.New(errs.Unavailable, "the disk of this node does not answer")

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline. Raft calls it once.
func (p *pipeline) Close() error {
	close(p.closed)
	return p.AppendPipeline.Close()
}

// TimeoutNow implements raft.Transport: it says in which term this node leads, which raft leaves out. Such a message may be under way for long: raft, which would take nothing else
// meanwhile, waits for it as long as for what comes of it. It does not look at the answer.
func (in *inlet) TimeoutNow(id raft.ServerID, to raft.ServerAddress, args *raft.TimeoutNowRequest, _ *raft.TimeoutNowResponse) error {
	own := *args
	own.Addr = fmt.Appendf(slices.Clone(args.Addr), " %d", in.handed())
	answer := make(chan error, 1)
	go func() { // ends when the transport gives up, or ends; the message may come late, in a term without a lease
		answer <- anew(func() error { return in.Transport.TimeoutNow(id, to, &own, new(raft.TimeoutNowResponse)) })
	}()
	patience := time.NewTimer(in.patience)
	defer patience.Stop()
	select {
	case err := <-answer:
		return err
	case <-patience.C:
		return errHangs
	case <-in.done:
		return raft.ErrTransportShutdown
	}
}

var errHangs = errs.New(errs.Unavailable, "the node does not answer")

// handedIn is the term in which the author of a TimeoutNow led; false where it does not say so, as older versions of arca.
func handedIn(req *raft.TimeoutNowRequest) (term uint64, told bool) {
	i := bytes.LastIndexByte(req.Addr, ' ')
	if i < 0 {
		return 0, false
	}
	term, err := strconv.ParseUint(string(req.Addr[i+1:]), 10, 64)
	return term, err == nil
}

// RequestVote implements raft.Transport. Voters break their promises to a leader for who was told to take over, so that holds for the term behind that
// leader's, and no later one: what this node was told may have waited, or this node stood still.
func (in *inlet) RequestVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if args.LeadershipTransfer && args.Term != in.heir.Load() {
		own := *args
		own.LeadershipTransfer = false
		args = &own
	}
	return anew(func() error { return in.Transport.RequestVote(id, to, args, resp) })
}

// anew asks for a vote, or tells a node to take over, again where that fails at once: transports keep connections to processes that have ended since, up to three to each, and an election, or a hand-over,
// would be lost by each of them. To be asked twice is the same to a voter, and who has stood for election at a leader's word does not in the next term.
func anew(ask func() error) (err error) {
	for range staleConns + 1 {
		began := time.Now()
		if err = ask(); err == nil || time.Since(began) > anewWithin {
			return err
		}
	}
	return err
}

const (
	staleConns = 3
	anewWithin = 50 * time.Millisecond
)

// RequestPreVote implements raft.WithPreVote. A node that was told to take over acknowledges, while it stands for election, what another leader of
// that term sends, and would stand again at once after that.
//
// It believes in that leader then, as does one that begins to stand while a heartbeat is looked at beside that. Should nothing more come of the leader, raft would believe in
// it for ever: it does not ask, while it stands, when the leader was heard, and votes for nobody else. So it is told of that leader once more, in the term in which it stands:
// it follows, and stands again when it has waited. That is no harm where the leader is there: the node keeps its promise to it, and for longer.
func (in *inlet) RequestPreVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if leader := in.believes(); leader != nil {
		in.watching.Go(func() { // raft waits, when it ends, for who asks
			in.say(&raft.AppendEntriesRequest{RPCHeader: *leader, Term: args.Term - 1, Leader: leader.Addr}) //nolint:staticcheck // as raft's leaders fill it
		})
		return errFollows
	}
	if in.follows() {
		return errFollows
	}
	return anew(func() error { return in.Transport.RequestPreVote(id, to, args, resp) })
}

var errFollows = errs.New(errs.NotActive, "this node hears a leader, or lacks what one has: it does not stand for election")

// isHeartbeat reports whether a node may answer while its raft does something else, as raft's transports have it: even while it
// votes for another.
func isHeartbeat(a *raft.AppendEntriesRequest) bool {
	return a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0
}

// Consumer implements raft.Transport.
func (in *inlet) Consumer() <-chan raft.RPC { return in.calls }

// say gives this node's raft a command. The answer comes by the channel, if it comes.
func (in *inlet) say(command any) <-chan raft.RPCResponse {
	answer := make(chan raft.RPCResponse, 1)
	select {
	case in.calls <- raft.RPC{Command: command, RespChan: answer}:
	case <-in.done:
		answer <- raft.RPCResponse{Error: raft.ErrTransportShutdown}
	}
	return answer
}
