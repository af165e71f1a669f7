package raft_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	hraft "github.com/hashicorp/raft"

	"arca/internal/storage/raft"
)

// TestStaleTransfer has a node that does not lead tell others to take over, as one that led may have done long before: nobody does.
func TestStaleTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{})
		defer c.close()
		l := c.leader()
		time.Sleep(time.Second)
		for _, from := range c.members {
			if from == l {
				continue
			}
			for _, to := range c.members {
				if to == from {
					continue
				}
				stale := hraft.TimeoutNowRequest{RPCHeader: hraft.RPCHeader{ProtocolVersion: hraft.ProtocolVersionMax, ID: []byte(from.id), Addr: []byte(from.id)}}
				err := from.transport.TimeoutNow(hraft.ServerID(to.id), hraft.ServerAddress(to.id), &stale, &hraft.TimeoutNowResponse{})
				if err == nil {
					t.Errorf("%s, where %s leads, obeyed %s", to.id, l.id, from.id)
				}
			}
		}
		time.Sleep(5 * time.Second)
		if now := c.leader(); now != l {
			t.Errorf("%s leads, it was %s", now.id, l.id)
		}
	})
}

// TestTransferOfAnEarlierTerm has the leader tell others to take over as it may have done when it led before: nobody does. What it says by a version of
// arca that does not tell the term is obeyed.
func TestTransferOfAnEarlierTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{})
		defer c.close()
		l := c.leader()
		time.Sleep(time.Second)
		term := l.store.Raft().CurrentTerm()
		to := c.members[slices.IndexFunc(c.members, func(m *member) bool { return m != l })]
		tell := func(from string) error {
			req := hraft.TimeoutNowRequest{RPCHeader: hraft.RPCHeader{ProtocolVersion: hraft.ProtocolVersionMax, ID: []byte(l.id), Addr: []byte(from)}}
			return l.transport.TimeoutNow(hraft.ServerID(to.id), hraft.ServerAddress(to.id), &req, &hraft.TimeoutNowResponse{})
		}
		for _, other := range []uint64{0, term - 1, term + 1} {
			if err := tell(fmt.Sprint(l.id, " ", other)); err == nil {
				t.Errorf("in the term %d, one of %d is obeyed", term, other)
			}
		}
		time.Sleep(5 * time.Second)
		if now := c.leader(); now != l {
			t.Errorf("%s leads, it was %s", now.id, l.id)
		}
		if err := tell(l.id); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if now := c.leader(); now != to {
			t.Errorf("%s leads, and not %s, which was told to", now.id, to.id)
		}
	})
}

// TestTransferBesideHeartbeat has a heartbeat be looked at when a node is told to take over, from before it is told until it is about to stand for election: it stands.
func TestTransferBesideHeartbeat(t *testing.T) {
	const tries = 100
	for range tries { // the heartbeat may come after that
		shown := false
		synctest.Test(t, func(t *testing.T) { shown = transferBesideHeartbeat(t) })
		if shown {
			return
		}
	}
	t.Errorf("in %d attempts no heartbeat came first", tries)
}

func transferBesideHeartbeat(t *testing.T) bool {
	c := newCluster(t, 3, raft.Config{})
	defer c.close()
	l := c.leader()
	time.Sleep(5 * time.Second)
	to := c.members[slices.IndexFunc(c.members, func(m *member) bool { return m != l })]
	var shown, candidate, handled atomic.Bool
	until := func(is *atomic.Bool) { // or not: the one may wait for the other
		for i := 0; i < 200000 && !is.Load(); i++ {
			runtime.Gosched()
		}
	}
	to.store.Raft().RegisterObserver(hraft.NewObserver(nil, false, func(o *hraft.Observation) bool {
		if state, is := o.Data.(hraft.RaftState); is && state == hraft.Candidate {
			candidate.Store(true)
			until(&handled)
		}
		return false
	}))
	var looks atomic.Int32
	to.store.Beating(func(settled bool) {
		switch looks.Add(1) {
		case 1:
			if settled {
				shown.Store(true)
				until(&candidate)
			}
		case 2:
			handled.Store(true)
		}
	})
	if err := l.store.StepDown(to.id); err != nil {
		t.Error(err)
	}
	time.Sleep(time.Second)
	if now := c.leader(); now != to {
		t.Errorf("%s leads, and not %s, which was told to take over", now.id, to.id)
	}
	return shown.Load()
}

// TestHeirHearsLeader has a node that was told to take over reach nobody, and hear another leader of that term: as it acknowledges what that one sends,
// nobody else is elected at its word.
func TestHeirHearsLeader(t *testing.T) {
	const tries = 100
	for range tries { // the others may elect none in that term
		shown := false
		synctest.Test(t, func(t *testing.T) { shown = heirHearsLeader(t) })
		if shown {
			return
		}
	}
	t.Errorf("in %d attempts none was elected in the term of the heir", tries)
}

func heirHearsLeader(t *testing.T) (shown bool) {
	c, heir := withHeir(t)
	defer c.close()
	l := c.leader()
	if heir.store.Raft().State() != hraft.Candidate {
		return false
	}
	c.connect(func(from, to int) bool { // the leader and the third hear nothing of each other
		return c.members[from] == heir || c.members[to] == heir
	})
	for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(5 * time.Millisecond) {
		if !l.leads.Load() || heir.leads.Load() {
			t.Fatalf("after %v the leader leads no more, whom the heir (a %v) hears", time.Since(start), heir.store.Raft().State())
		}
	}
	return true
}

// withHeir is a cluster of three, of which the last was told to take over and reached nobody: most often it still stands for election.
func withHeir(t *testing.T) (c *cluster, heir *member) {
	c = newCluster(t, 2, raft.Config{})
	heir = newMember(t, "heir", raft.Config{Multiplier: 10}) // it stands for election for long
	heir.start(false)
	c.members = append(c.members, heir)
	c.connect(func(int, int) bool { return true })
	l := c.leader()
	if err := errors.Join(l.store.Add(heir.id, heir.id), l.store.Promote(heir.id)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	c.connect(func(from, _ int) bool { return c.members[from] != heir })
	_ = l.store.StepDown(heir.id) // whether it says that this came to nothing depends on who is first
	time.Sleep(3 * time.Second)
	return c, heir
}

// TestHeirForgetsLeader has a node that was told to take over reach nobody, and hear another leader of that term, which is lost then: it does not believe in that one for
// ever, and votes for the third.
func TestHeirForgetsLeader(t *testing.T) {
	const tries = 100
	for range tries { // the others may elect none in that term
		shown := false
		synctest.Test(t, func(t *testing.T) { shown = heirForgetsLeader(t) })
		if shown {
			return
		}
	}
	t.Errorf("in %d attempts none was elected in the term of the heir", tries)
}

func heirForgetsLeader(t *testing.T) (shown bool) {
	c, heir := withHeir(t)
	defer c.close()
	l := c.leader()
	if id, _ := heir.store.Leader(); heir.store.Raft().State() != hraft.Candidate || id != l.id {
		return false
	}
	third := c.members[slices.IndexFunc(c.members[:2], func(m *member) bool { return m != l })]
	c.connect(func(from, to int) bool { return c.members[from] != heir && c.members[to] != heir })
	if _, err := increment(t.Context(), l.db); err != nil { // which the heir lacks: it cannot be elected itself
		t.Fatal(err)
	}
	c.connect(func(from, to int) bool { return c.members[from] != l && c.members[to] != l })
	for start := time.Now(); !third.leads.Load(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > 2*time.Minute {
			id, _ := heir.store.Leader()
			t.Fatalf("nobody leads; the heir is a %v, and believes in %q", heir.store.Raft().State(), id)
		}
	}
	return true
}

// moved is a member that was started again, with an address that may be that of others.
func (c *cluster) moved(m *member, to string, lag time.Duration) {
	c.t.Helper()
	_, m.transport = hraft.NewInmemTransport(hraft.ServerAddress(to))
	if err := m.store.Start(raft.StartOptions{Transport: slow{m.transport, lag}}); err != nil {
		c.t.Fatal(err)
	}
}

// A slow transport has requests and answers take their time.
type slow struct {
	*hraft.InmemTransport
	lag time.Duration
}

// AppendEntries implements raft.Transport.
func (s slow) AppendEntries(id hraft.ServerID, to hraft.ServerAddress, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) error {
	time.Sleep(s.lag)
	defer time.Sleep(s.lag)
	return s.InmemTransport.AppendEntries(id, to, args, resp)
}

// RequestVote implements raft.Transport.
func (s slow) RequestVote(id hraft.ServerID, to hraft.ServerAddress, args *hraft.RequestVoteRequest, resp *hraft.RequestVoteResponse) error {
	time.Sleep(s.lag)
	defer time.Sleep(s.lag)
	return s.InmemTransport.RequestVote(id, to, args, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (s slow) RequestPreVote(id hraft.ServerID, to hraft.ServerAddress, args *hraft.RequestPreVoteRequest, resp *hraft.RequestPreVoteResponse) error {
	time.Sleep(s.lag)
	defer time.Sleep(s.lag)
	return s.InmemTransport.RequestPreVote(id, to, args, resp)
}

// TestVoteOfLeadersAddress starts a node that states the leader's address, and does not hear it: nobody votes for it who hears the leader.
func TestVoteOfLeadersAddress(t *testing.T) {
	for name, reached := range map[string]bool{"the leader hears it": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3, raft.Config{})
				defer c.close()
				l := c.leader()
				if _, err := increment(t.Context(), l.db); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				others := slices.DeleteFunc(slices.Clone(c.members), func(m *member) bool { return m == l })
				x, voter := others[0], others[1]
				x.store.Stop()
				l.transport.Disconnect(hraft.ServerAddress(x.id))
				voter.transport.Disconnect(hraft.ServerAddress(x.id))
				time.Sleep(2 * time.Second)
				c.moved(x, l.id, 0)
				x.transport.Connect(hraft.ServerAddress(voter.id), voter.transport)
				if reached {
					x.transport.Connect(hraft.ServerAddress(l.id), l.transport)
				}
				for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
					if x.leads.Load() || !l.leads.Load() {
						t.Fatalf("after %v the node of the leader's address leads, or the leader does not", time.Since(start))
					}
					if err := l.store.Fresh(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}

// TestOneLeaderOfAnAddress has two nodes stand for election at the same time that state the same address: no term has two leaders.
func TestOneLeaderOfAnAddress(t *testing.T) {
	for range 40 { // who votes when is by chance
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 5, raft.Config{})
			defer c.close()
			first := c.members[0]
			if _, err := increment(t.Context(), first.db); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
			for _, m := range c.members[1:] {
				m.store.Stop()
				_, m.transport = hraft.NewInmemTransport(hraft.ServerAddress(m.id))
			}
			for _, m := range c.members[1:] {
				c.moved(m, "the same", 60*time.Millisecond)
			}
			c.connect(func(int, int) bool { return true })
			for deadline := time.Now().Add(time.Minute); !first.leads.Load(); time.Sleep(time.Second) {
				if time.Now().After(deadline) {
					t.Skip("another leads")
				}
				if l := c.leader(); l != first {
					_ = l.store.StepDown(first.id) // it may be too far behind
				}
			}
			time.Sleep(5 * time.Second)
			c.connect(func(from, to int) bool { return from > 0 && to > 0 && (from > 2 || to > 2) }) // the first is lost; the next two do not hear each other
			leaders := map[uint64]string{}
			for start := time.Now(); time.Since(start) < 6*time.Second; time.Sleep(time.Millisecond) {
				for _, m := range c.members[1:] {
					state, term := m.store.Elected()
					if !state {
						continue
					}
					if by, ok := leaders[term]; ok && by != m.id {
						t.Fatalf("%s and %s lead in term %d", by, m.id, term)
					}
					leaders[term] = m.id
				}
			}
			if len(leaders) == 0 {
				t.Error("nobody was elected")
			}
		})
	}
}

// TestOwnVote has a leader vote for another, at the word of one that may be believed, before what watches over its leadership was run: it answers no read for
// what others have promised, since its own vote was one of most.
func TestOwnVote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{})
		defer c.close()
		l := c.leader()
		if _, err := increment(t.Context(), l.db); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := l.store.Fresh(t.Context()); err != nil { // others have just promised
			t.Fatal(err)
		}
		to := c.members[slices.IndexFunc(c.members, func(m *member) bool { return m != l })]
		_, term := l.store.Elected()
		index, _ := l.store.Last()
		resume := l.store.Stall()
		defer resume()
		vote := hraft.RequestVoteRequest{
			RPCHeader: hraft.RPCHeader{ProtocolVersion: hraft.ProtocolVersionMax, ID: []byte(to.id), Addr: []byte(to.id)},
			Term:      term + 1, LastLogIndex: index + 10, LastLogTerm: term, LeadershipTransfer: true,
		}
		var answer hraft.RequestVoteResponse
		if err := to.transport.RequestVote(hraft.ServerID(l.id), hraft.ServerAddress(l.id), &vote, &answer); err != nil || !answer.Granted {
			t.Fatalf("it did not vote: %v", err)
		}
		if l.freshSoon() {
			t.Error("it answers a read as the leader although it has voted for another")
		}
	})
}

// TestVoteHalfNoted has a node fail to note a vote, or all of it: whom it voted for in the term before gets no vote for that, and not without a look at its log.
func TestVoteHalfNoted(t *testing.T) {
	for left := 1; left < 3; left++ { // the next term, and perhaps half of a vote
		t.Run(fmt.Sprint(left), func(t *testing.T) { testVoteHalfNoted(t, left) })
	}
}

func testVoteHalfNoted(t *testing.T, left int) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, raft.Config{})
		defer c.close()
		var notes atomic.Int32 // that can be written
		notes.Store(1000)
		voter := newMember(t, "voter", raft.Config{}.WithFS(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileWriteAt && strings.HasSuffix(op.Path, "/votes") && notes.Add(-1) < 0 {
				return syscall.EIO
			}
			return nil
		}))))
		voter.start(false)
		c.members = append(c.members, voter)
		c.connect(func(int, int) bool { return true })
		l := c.leader()
		if err := errors.Join(l.store.Add(voter.id, voter.id), l.store.Promote(voter.id)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		_, term := l.store.Elected()
		c.connect(func(a, b int) bool { return a != 2 && b != 2 })
		index, _ := voter.store.Last()
		vote := func(from *member, term, index, logTerm uint64) bool {
			from.transport.Connect("voter", voter.transport)
			req := hraft.RequestVoteRequest{
				RPCHeader: hraft.RPCHeader{ProtocolVersion: hraft.ProtocolVersionMax, ID: []byte(from.id), Addr: []byte(from.id)},
				Term:      term, LastLogIndex: index, LastLogTerm: logTerm, LeadershipTransfer: true,
			}
			var answer hraft.RequestVoteResponse
			err := from.transport.RequestVote("voter", "voter", &req, &answer)
			return err == nil && answer.Granted
		}
		a, b := c.members[0], c.members[1]
		if !vote(a, term+1, index, term) {
			t.Fatal("no vote for the first: this shows nothing")
		}
		notes.Store(int32(left))
		if vote(b, term+2, index, term) {
			if left == 1 {
				t.Fatal("a vote that cannot be noted: this shows nothing")
			}
			return // there is no half of it
		}
		if vote(a, term+2, 0, 0) {
			t.Error("it voted for one whose log is empty")
		}
	})
}

// TestNudge lets a node in that cannot be reached yet: once it can, and the leader was told so, it has all at once.
func TestNudge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, raft.Config{})
		defer c.close()
		late := newMember(t, "late", raft.Config{})
		late.start(false)
		c.members = append(c.members, late)
		c.connect(func(from, to int) bool { return from != 2 && to != 2 })
		l := c.leader()
		if err := l.store.Add(late.id, late.id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second) // so that it is seldom looked for
		c.connect(func(int, int) bool { return true })
		time.Sleep(10 * time.Millisecond)
		if index, _ := late.store.Last(); index != 0 {
			t.Fatalf("it has %d entries already: this shows nothing", index)
		}
		l.store.Nudge()
		time.Sleep(50 * time.Millisecond)
		want, _ := l.store.Last()
		if index, _ := late.store.Last(); index != want {
			t.Errorf("it has %d entries of %d", index, want)
		}
	})
}
