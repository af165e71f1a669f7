package raft

import (
	"testing"

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
	at := uint64(7)
	in.settled = func(term uint64) bool { return term <= at }
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
			t.Errorf("a heartbeat of term %d waits for raft, which follows in term %d", term, at)
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
	waiting := say(&raft.AppendEntriesRequest{Term: 8})
	in.ended() // while raft takes nothing more
	if a := <-say(&raft.AppendEntriesRequest{Term: 7}); a.Error == nil || beside != 2 {
		t.Error("a heartbeat is looked at when raft has ended")
	}
	close(in.done)
	if a := <-waiting; a.Error == nil {
		t.Error("a heartbeat is answered by nobody, and without an error")
	}
}
