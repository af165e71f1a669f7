package cluster

import (
	"io"
	"log/slog"
	"strings"

	"github.com/hashicorp/raft"

	storage "arca/internal/storage/raft"
)

// A carrier is raft's transport. It speaks to nobody but the member that is meant: another node may have got the address of one that is away, and its
// acknowledgements and votes would count for that one's.
//
// Below, connections are kept by address; so a carrier puts the member's id into that, for stream.Dial and for the pool.
type carrier struct{ *raft.NetworkTransport }

var _ storage.Transport = carrier{}

func newCarrier(w *web, log *slog.Logger) carrier {
	return carrier{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: w.streams[protoRaft], MaxPool: transportPool, Timeout: transportTimeout, Logger: storage.NewLogger(log),
	})}
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
