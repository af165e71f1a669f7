package raft

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// stale is a Transport whose connections are to processes that have ended, so many of them; each takes a time to tell.
type stale struct {
	Transport
	conns int
	after time.Duration
	asked int
}

func (s *stale) ask() error {
	if s.asked++; s.asked <= s.conns {
		time.Sleep(s.after)
		return io.EOF
	}
	return nil
}

// RequestVote implements raft.Transport.
func (s *stale) RequestVote(raft.ServerID, raft.ServerAddress, *raft.RequestVoteRequest, *raft.RequestVoteResponse) error {
	return s.ask()
}

// TimeoutNow implements raft.Transport.
func (s *stale) TimeoutNow(raft.ServerID, raft.ServerAddress, *raft.TimeoutNowRequest, *raft.TimeoutNowResponse) error {
	return s.ask()
}

// RequestPreVote implements raft.WithPreVote.
func (s *stale) RequestPreVote(raft.ServerID, raft.ServerAddress, *raft.RequestPreVoteRequest, *raft.RequestPreVoteResponse) error {
	return s.ask()
}

// TestVotesByStaleConnections has a node ask for votes, or tell another to take over, by connections to processes that have ended since: the election is not lost by that. Who says nothing for long is not asked again.
func TestVotesByStaleConnections(t *testing.T) {
	for name, c := range map[string]struct {
		conns int
		after time.Duration
		asked int
		gets  bool
	}{
		"none":                 {asked: 1, gets: true},
		"all that are kept":    {conns: 3, asked: 4, gets: true},
		"and nobody is there":  {conns: 9, asked: 4},
		"one that tells later": {conns: 1, after: time.Second, asked: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for kind, ask := range map[string]func(*inlet) error{
					"vote": func(in *inlet) error {
						return in.RequestVote("b", "b", &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{})
					},
					"pre-vote": func(in *inlet) error {
						return in.RequestPreVote("b", "b", &raft.RequestPreVoteRequest{}, &raft.RequestPreVoteResponse{})
					},
					"hand-over": func(in *inlet) error {
						in.patience, in.handed = time.Minute, func() uint64 { return 1 }
						return in.TimeoutNow("b", "b", &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{})
					},
				} {
					to := &stale{conns: c.conns, after: c.after}
					in := newInlet(to)
					in.follows, in.believes = func() bool { return false }, func() *raft.RPCHeader { return nil }
					if err := ask(in); (err == nil) != c.gets || to.asked != c.asked {
						t.Errorf("%s: asked %d times: %v", kind, to.asked, err)
					}
				}
			})
		})
	}
}
