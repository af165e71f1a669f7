package raft

import (
	"github.com/hashicorp/raft"
)

// A Transport carries what nodes say to one another. Those of hashicorp/raft are some.
type Transport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// An inlet is a Transport through which this node can also speak to its own raft, in the words of others: see
// Store.Await and Store.electSelf.
type inlet struct {
	Transport
	calls chan raft.RPC
	done  chan struct{}
}

func newInlet(t Transport) *inlet {
	in := &inlet{Transport: t, calls: make(chan raft.RPC), done: make(chan struct{})}
	return in
}

// run hands on what others say, until done is closed.
func (in *inlet) run() {
	from := in.Transport.Consumer()
	for {
		select {
		case call := <-from:
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
