package cluster

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"arca/internal/barrier"
)

// TestCarrierKnowsWhoAnswers has a node answer at an address at which others are meant: what it says counts for itself only, also over a
// connection that is open already.
func TestCarrierKnowsWhoAnswers(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	open := func(id string) (*web, raft.ServerAddress) {
		w := newWeb(t, ring, id)
		return w, raft.ServerAddress(w.listeners[0].Addr().String())
	}
	log := slog.New(slog.DiscardHandler)
	from, _ := open("leader")
	to, address := open("d")
	leader, d := newCarrier(from, log), newCarrier(to, log)
	for _, c := range []carrier{leader, d} {
		t.Cleanup(func() { _ = c.Close() }) // never fails
	}
	go func() {
		for {
			select {
			case call := <-d.Consumer():
				var answer any = &raft.AppendEntriesResponse{Success: true}
				switch call.Command.(type) {
				case *raft.RequestVoteRequest:
					answer = &raft.RequestVoteResponse{Granted: true}
				case *raft.RequestPreVoteRequest:
					answer = &raft.RequestPreVoteResponse{Granted: true}
				case *raft.InstallSnapshotRequest:
					answer = &raft.InstallSnapshotResponse{Success: true}
				case *raft.TimeoutNowRequest:
					answer = &raft.TimeoutNowResponse{}
				}
				call.Respond(answer, nil)
			case <-t.Context().Done():
				return
			}
		}
	}()
	for range 2 { // the second time there are open connections
		for name, say := range map[string]func(id raft.ServerID) error{
			"append": func(id raft.ServerID) error {
				return leader.AppendEntries(id, address, &raft.AppendEntriesRequest{}, &raft.AppendEntriesResponse{})
			},
			"vote": func(id raft.ServerID) error {
				return leader.RequestVote(id, address, &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{})
			},
			"pre-vote": func(id raft.ServerID) error {
				return leader.RequestPreVote(id, address, &raft.RequestPreVoteRequest{}, &raft.RequestPreVoteResponse{})
			},
			"snapshot": func(id raft.ServerID) error {
				return leader.InstallSnapshot(id, address, &raft.InstallSnapshotRequest{}, &raft.InstallSnapshotResponse{}, strings.NewReader(""))
			},
			"hand-over": func(id raft.ServerID) error {
				return leader.TimeoutNow(id, address, &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{})
			},
			"pipeline": func(id raft.ServerID) error {
				p, err := leader.AppendEntriesPipeline(id, address)
				if err != nil {
					return err
				}
				return p.Close()
			},
		} {
			if err := say("d"); err != nil {
				t.Errorf("%s to the node itself: %v", name, err)
			}
			if err := say("a"); err == nil {
				t.Errorf("%s: the node d answers for the node a", name)
			}
		}
	}
}

// newRing is the keyring of a new cluster.
func newRing(t *testing.T) *barrier.Keyring {
	t.Helper()
	ring, err := barrier.NewKeyring(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// newWeb is that of a node, which listens on a free port.
func newWeb(t *testing.T, ring *barrier.Keyring, id string) *web {
	t.Helper()
	p, err := newPass(ring, id)
	if err != nil {
		t.Fatal(err)
	}
	w, err := openWeb(p, "", []string{"127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w
}
