package raft_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	hraft "github.com/hashicorp/raft"

	"arca/internal/storage/raft"
)

// A decoding transport has something be done, once, when raft looks at who a leader is.
type decoding struct {
	lagging
	do *atomic.Pointer[func()]
}

// DecodePeer implements raft.Transport.
func (d decoding) DecodePeer(b []byte) hraft.ServerAddress {
	if do := d.do.Swap(nil); do != nil {
		(*do)()
	}
	return d.lagging.DecodePeer(b)
}

// TestCandidateBelieves has a heartbeat be looked at while a node begins to stand for election, and its leader be lost then: it does not believe in that one for ever, and
// votes for the third, without which nobody would lead.
func TestCandidateBelieves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t}
		var decodes [3]atomic.Pointer[func()]
		for i := range decodes {
			m := newMember(t, fmt.Sprint("node", i+1), raft.Config{})
			_, m.transport = hraft.NewInmemTransport(hraft.ServerAddress(m.id))
			if err := m.store.Start(raft.StartOptions{Transport: decoding{newLagging(m), &decodes[i]}, Bootstrap: i == 0}); err != nil {
				t.Fatal(err)
			}
			c.members = append(c.members, m)
		}
		defer c.close()
		c.connect(func(int, int) bool { return true })
		l, candidate, third := c.leader(), c.members[1], c.members[2]
		for _, m := range c.members[1:] {
			if err := l.store.Add(m.id, m.id); err != nil {
				t.Fatal(err)
			}
			if err := l.store.Promote(m.id); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		c.connect(func(from, to int) bool { return from != 1 && to != 1 })
		if _, err := increment(t.Context(), l.db); err != nil { // which the candidate lacks: it cannot be elected itself
			t.Fatal(err)
		}
		looking, stands, handled := make(chan struct{}), make(chan struct{}), make(chan struct{})
		var armed, stood atomic.Bool
		candidate.store.Raft().RegisterObserver(hraft.NewObserver(nil, false, func(o *hraft.Observation) bool {
			if state, is := o.Data.(hraft.RaftState); is && state == hraft.Candidate && armed.Load() && !stood.Swap(true) {
				close(stands)
				<-handled
			}
			return false
		}))
		look := func() {
			armed.Store(true)
			close(looking)
			<-stands
			time.AfterFunc(time.Millisecond, func() { close(handled) })
		}
		l.busy.Store(true) // it sends heartbeats only
		decodes[1].Store(&look)
		c.connect(func(int, int) bool { return true })
		<-looking
		c.connect(func(from, to int) bool { return from != 0 && to != 0 })
		for began := time.Now(); !third.leads.Load(); time.Sleep(10 * time.Millisecond) {
			if time.Since(began) > time.Minute {
				id, _ := candidate.store.Leader()
				t.Fatalf("nobody leads; the candidate is a %v, and believes in %q", candidate.store.Raft().State(), id)
			}
		}
	})
}
