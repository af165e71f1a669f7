package cluster

import (
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	storage "arca/internal/storage/raft"
)

// A carrier is raft's transport. It speaks to nobody but the member that is meant: another node may have got the address of one that is away, and its
// acknowledgements and votes would count for that one's.
//
// Below, connections are kept by address; so a carrier puts the member's id into that, for stream.Dial and for the pool.
//
// And it ends the connections with who has begun to send a snapshot and sends nothing more: raft reads a snapshot on its own goroutine, and does
// not vote meanwhile. Where a machine or a network is gone TCP would tell after minutes.
type carrier struct {
	*raft.NetworkTransport
	web   *web
	calls chan raft.RPC
}

var (
	_ storage.Transport = carrier{}
	_ storage.Parting   = carrier{}
)

func newCarrier(w *web, log *slog.Logger) carrier {
	c := carrier{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: w.streams[protoRaft], MaxPool: transportPool, Timeout: transportTimeout, Logger: storage.NewLogger(log),
	}), w, make(chan raft.RPC)}
	w.beside(c.run)
	return c
}

// Consumer implements raft.Transport.
func (c carrier) Consumer() <-chan raft.RPC { return c.calls }

// run hands on what others say, until the web ends.
func (c carrier) run() {
	for {
		select {
		case call := <-c.NetworkTransport.Consumer():
			if req, is := call.Command.(*raft.InstallSnapshotRequest); is {
				call.Reader = &progress{call.Reader, func() { c.web.beside(func() { c.stalled(string(req.ID)) }) }}
			}
			select {
			case c.calls <- call:
			case <-c.web.ctx.Done():
				call.Respond(nil, raft.ErrTransportShutdown)
				return
			}
		case <-c.web.ctx.Done():
			return
		}
	}
}

// Part implements storage.Parting.
func (c carrier) Part() { c.web.streams[protoRaft].part() }

// stalled ends the connections that a node has opened which sends nothing more of a snapshot: all, as it is not told which of them that comes by. One that is
// there opens others.
func (c carrier) stalled(id string) {
	c.web.log.Warn("a node has begun to send a snapshot and sends nothing more: it is given up", "node", id, "after", snapshotPatience.String())
	c.web.streams[protoRaft].cut(id)
}

// snapshotPatience is for how long nothing may come of a snapshot. How long all of it takes is open.
const snapshotPatience = 10 * time.Second

// progress is a reader that tells when nothing comes.
type progress struct {
	from    io.Reader
	stalled func()
}

// Read implements io.Reader.
func (p *progress) Read(b []byte) (int, error) {
	t := time.AfterFunc(snapshotPatience, p.stalled)
	defer t.Stop()
	return p.from.Read(b)
}

// whomSep is in no address.
const whomSep = "\x00"

func at(id raft.ServerID, to raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(id) + whomSep + to
}

// whom takes apart what at has made. An address without an id is that of any node.
func whom(to raft.ServerAddress) (id, address string) {
	i := strings.LastIndex(string(to), whomSep)
	if i < 0 {
		return "", string(to)
	}
	return string(to[:i]), string(to[i+len(whomSep):])
}

// AppendEntriesPipeline implements raft.Transport.
func (c carrier) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	return c.NetworkTransport.AppendEntriesPipeline(id, at(id, to))
}

// AppendEntries implements raft.Transport.
func (c carrier) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return c.NetworkTransport.AppendEntries(id, at(id, to), args, resp)
}

// RequestVote implements raft.Transport.
func (c carrier) RequestVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return c.NetworkTransport.RequestVote(id, at(id, to), args, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (c carrier) RequestPreVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return c.NetworkTransport.RequestPreVote(id, at(id, to), args, resp)
}

// InstallSnapshot implements raft.Transport.
func (c carrier) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return c.NetworkTransport.InstallSnapshot(id, at(id, to), args, resp, data)
}

// TimeoutNow implements raft.Transport.
func (c carrier) TimeoutNow(id raft.ServerID, to raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return c.NetworkTransport.TimeoutNow(id, at(id, to), args, resp)
}
