package raft

import (
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
}

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
