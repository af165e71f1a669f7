package raft

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// A handling transport keeps what takes heartbeats.
type handling struct {
	Transport
	handle func(raft.RPC)
	calls  chan raft.RPC
}

func (h *handling) Consumer() <-chan raft.RPC { return h.calls }

func (h *handling) SetHeartbeatHandler(handle func(raft.RPC)) { h.handle = handle }

// TestHeartbeatsBeside has heartbeats come: what could change term or state waits for raft's own goroutine, and not for ever.
func TestHeartbeatsBeside(t *testing.T) {
	under := &handling{}
	in := newInlet(under)
	var at atomic.Uint64
	at.Store(7)
	in.settled = func(term uint64) bool { return term <= at.Load() }
	in.beaten = func() {}
	beside := 0
	in.SetHeartbeatHandler(func(call raft.RPC) { beside++; call.Respond(nil, nil) })
	say := func(command any) chan raft.RPCResponse {
		answer := make(chan raft.RPCResponse, 1)
		go under.handle(raft.RPC{Command: command, RespChan: answer})
		return answer
	}
	for i, term := range []uint64{6, 7} {
		if <-say(&raft.AppendEntriesRequest{Term: term}); beside != i+1 {
			t.Errorf("a heartbeat of term %d waits for raft, which follows in term 7", term)
		}
	}
	for _, command := range []any{&raft.AppendEntriesRequest{Term: 8}, &raft.RequestVoteRequest{Term: 7}} {
		answer := say(command)
		call := <-in.calls
		if call.Command != command || beside != 2 {
			t.Errorf("%T is looked at beside raft", command)
		}
		call.Respond(nil, nil)
		<-answer
	}
	busy := say(&raft.AppendEntriesRequest{Term: 8})
	at.Store(8) // raft has come into the term by another way, and does not ask
	if <-busy; beside != 3 {
		t.Error("a heartbeat of the term that raft is in waits for it")
	}
	at.Store(7)
	waiting := say(&raft.AppendEntriesRequest{Term: 8})
	in.ended() // while raft takes nothing more
	if a := <-say(&raft.AppendEntriesRequest{Term: 7}); a.Error == nil || beside != 3 {
		t.Error("a heartbeat is looked at when raft has ended")
	}
	close(in.done)
	if a := <-waiting; a.Error == nil {
		t.Error("a heartbeat is answered by nobody, and without an error")
	}
}

// TestTermRises has a heartbeat be looked at: a later term is noted when that is over.
func TestTermRises(t *testing.T) {
	under := &handling{}
	in := newInlet(under)
	in.settled, in.beaten = func(uint64) bool { return true }, func() {}
	looking, goOn := make(chan struct{}), make(chan struct{})
	over := false
	in.SetHeartbeatHandler(func(call raft.RPC) { close(looking); <-goOn; over = true; call.Respond(nil, nil) })
	go under.handle(raft.RPC{Command: &raft.AppendEntriesRequest{Term: 7}, RespChan: make(chan raft.RPCResponse, 1)})
	<-looking
	time.AfterFunc(10*time.Millisecond, func() { close(goOn) })
	if err := in.raising(func() error {
		if !over {
			t.Error("a term is noted while a heartbeat is looked at")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestHeartbeatGivesUp has raft be busy for ever: a heartbeat whose answer nobody waits for any more does not stay.
func TestHeartbeatGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		under := &handling{}
		in := newInlet(under)
		in.settled, in.beaten = func(uint64) bool { return false }, func() {}
		in.SetHeartbeatHandler(func(raft.RPC) { t.Error("it is looked at beside raft") })
		answer := make(chan raft.RPCResponse, 1)
		under.handle(raft.RPC{Command: &raft.AppendEntriesRequest{Term: 8}, RespChan: answer})
		if a := <-answer; a.Error == nil {
			t.Error("it is answered without an error")
		}
	})
}

// TestHeartbeatsWaitForTransfer has heartbeats come before this node is told to stand for election, and after it: raft hears of none, until it has taken that.
func TestHeartbeatsWaitForTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		under := &handling{calls: make(chan raft.RPC)}
		in := newInlet(under)
		in.settled, in.beaten = func(term uint64) bool { return term <= 7 }, func() {}
		refuse := false
		in.intercept = func(call raft.RPC) (raft.RPC, bool) {
			if refuse {
				call.Respond(nil, errFollows)
			}
			return call, refuse
		}
		var beside atomic.Int32
		in.SetHeartbeatHandler(func(call raft.RPC) { beside.Add(1); call.Respond(nil, nil) })
		var work sync.WaitGroup
		work.Go(in.run)
		come := func(term uint64) {
			work.Go(func() {
				answer := make(chan raft.RPCResponse, 1)
				under.handle(raft.RPC{Command: &raft.AppendEntriesRequest{Term: term}, RespChan: answer})
				<-answer
			})
		}
		come(8) // raft is busy
		synctest.Wait()
		answer := make(chan raft.RPCResponse, 1)
		under.calls <- raft.RPC{Command: &raft.TimeoutNowRequest{}, RespChan: answer}
		synctest.Wait()
		come(7)
		come(8)
		time.Sleep(time.Second)
		call := <-in.calls
		if _, is := call.Command.(*raft.TimeoutNowRequest); !is {
			t.Errorf("raft hears of a %T first", call.Command)
		}
		time.Sleep(time.Second)
		select {
		case <-in.calls:
			t.Error("raft hears of a heartbeat before it has answered")
		default:
		}
		if n := beside.Load(); n != 0 {
			t.Errorf("%d heartbeats are looked at beside raft", n)
		}
		call.Respond(&raft.TimeoutNowResponse{}, nil)
		if a := <-answer; a.Error != nil {
			t.Error(a.Error)
		}
		for range 2 {
			call = <-in.calls
			call.Respond(nil, nil)
		}
		if synctest.Wait(); beside.Load() != 1 {
			t.Error("no heartbeat is looked at beside raft any more")
		}
		refuse = true
		under.calls <- raft.RPC{Command: &raft.TimeoutNowRequest{}, RespChan: answer}
		if a := <-answer; a.Error == nil {
			t.Error("it is answered without an error")
		}
		come(7)
		if synctest.Wait(); beside.Load() != 2 {
			t.Error("no heartbeat is looked at beside raft after one that was refused")
		}
		close(in.done)
		work.Wait()
	})
}

// TestBelievesWhileRaftEnds has a candidate that believes in a leader ask for pre-votes: none is asked for, and who asks does not wait for raft, which waits for that when
// it ends.
func TestBelievesWhileRaftEnds(t *testing.T) {
	in := newInlet(&handling{})
	in.believes = func() *raft.RPCHeader { return &raft.RPCHeader{ID: []byte("node1"), Addr: []byte("there")} }
	if err := in.RequestPreVote("node2", "elsewhere", &raft.RequestPreVoteRequest{Term: 8}, nil); err == nil {
		t.Error("it asks for a pre-vote")
	}
	call := <-in.calls
	if req, is := call.Command.(*raft.AppendEntriesRequest); !is || req.Term != 7 || string(req.ID) != "node1" || string(req.Addr) != "there" {
		t.Errorf("raft hears %+v", call.Command)
	}
	if err := in.RequestPreVote("node2", "elsewhere", &raft.RequestPreVoteRequest{Term: 8}, nil); err == nil {
		t.Error("it asks for a pre-vote")
	}
	close(in.done)
	in.watching.Wait()
}
