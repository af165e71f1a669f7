package raft_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	hraft "github.com/hashicorp/raft"

	"arca/internal/errs"
	"arca/internal/storage/raft"
)

// TestHandOverToOneThatHangs has a node be told to take over that says nothing: who leads goes on when it has waited as long as for an election.
func TestHandOverToOneThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{})
		defer c.close()
		time.Sleep(time.Second)
		l := c.leader()
		l.untold.Store(c.members[1].id, hangs)
		began := time.Now()
		if err := l.store.StepDown(c.members[1].id); err == nil {
			t.Error("it handed over")
		}
		if next := c.leader(); next != l {
			t.Errorf("%s leads", next.id)
		}
		if _, err := increment(t.Context(), l.db); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("nobody could write for %v", took)
		}
		time.Sleep(15 * time.Second) // the message comes to its end
		c.check(1, 1)
		l.untold.Clear()
		if err := l.store.StepDown(c.members[1].id); err != nil { // it has taken what was written, as it goes on to say
			t.Error(err)
		}
		if next := c.leader(); next != c.members[1] {
			t.Errorf("%s leads", next.id)
		}
	})
}

// TestHandOverGoesRound has nodes that are equally far lead one after the other: two whose disks are full would else take turns, beside one that is well.
func TestHandOverGoesRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{})
		defer c.close()
		led := map[*member]bool{}
		for range c.members {
			time.Sleep(2 * time.Second)
			l := c.leader()
			led[l] = true
			if err := l.store.StepDown(""); err != nil {
				t.Fatal(err)
			}
		}
		if len(led) != len(c.members) {
			t.Errorf("%d of %d nodes have led", len(led), len(c.members))
		}
	})
}

// TestHandOverToTheNext has those that are told first refuse to take over, as they were stopped a moment ago: others do, at once.
func TestHandOverToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 5, raft.Config{})
		defer c.close()
		for _, refuse := range []int{1, 2, 3, 4} {
			time.Sleep(2 * time.Second)
			l := c.leader()
			at := slices.Index(c.members, l)
			for n := range refuse {
				l.untold.Store(c.members[(at+1+n)%len(c.members)].id, refuses)
			}
			began := time.Now()
			err := l.store.StepDown("")
			if took := time.Since(began); took > 200*time.Millisecond {
				t.Errorf("%d refuse: it took %v", refuse, took)
			}
			next := c.leader()
			if want := c.members[(at+1+refuse)%len(c.members)]; next != want || (err == nil) != (refuse < 4) {
				t.Errorf("%d refuse: %s leads after %s, %v", refuse, next.id, l.id, err)
			}
			l.untold.Clear()
			if _, err := increment(t.Context(), next.db); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestHandOverToTheFurthest has one of five be cut off, and the disk of another fail, which is behind then and answers all the same: those that have all take over, also from
// who leads since a moment ago.
func TestHandOverToTheFurthest(t *testing.T) {
	for ill := range 4 {
		synctest.Test(t, func(t *testing.T) {
			c, wards := newWards(t, 5, raft.Config{})
			defer c.close()
			l := c.leader()
			others := slices.DeleteFunc(slices.Clone(wards), func(w *ward) bool { return w.member == l })
			if _, err := increment(t.Context(), l.db); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			others[ill].ails.Store(syncsFail)
			out := slices.Index(c.members, others[(ill+1)%4].member)
			c.connect(func(from, to int) bool { return from != out && to != out })
			for _, m := range c.members {
				m.untold.Store(c.members[out].id, hangs)
			}
			if _, err := increment(t.Context(), l.db); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			for range 6 {
				began := time.Now()
				if err := l.store.StepDown(""); err != nil {
					t.Fatal(err)
				}
				next := c.leader()
				if took := time.Since(began); took > 300*time.Millisecond || next == others[ill].member || next == c.members[out] {
					t.Errorf("%s leads after %s, after %v", next.id, l.id, took)
				}
				l = next
			}
			others[ill].ails.Store(well)
			c.connect(func(int, int) bool { return true })
		})
	}
}

// TestHandOverToNoVoter has a member without a vote be told to take over, the leader itself, and a stranger: nothing comes of it, and the leader leads on in its term.
func TestHandOverToNoVoter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, raft.Config{})
		defer c.close()
		l := c.leader()
		if err := l.store.Demote(c.members[1].id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		_, term := l.store.Elected()
		for _, id := range []string{c.members[1].id, l.id, "stranger"} {
			err := l.store.StepDown(id)
			next := c.leader()
			if _, now := next.store.Elected(); !errs.Is(err, errs.Unavailable) || next != l || now != term {
				t.Errorf("told to hand over to %q: %v; %s leads in term %d, after %s in %d", id, err, next.id, now, l.id, term)
			}
		}
	})
}

// A doored transport has what its member sends a node of the log wait at a door, each as long as a transport over networks does.
type doored struct {
	unpiped
	to   string
	door *atomic.Pointer[chan struct{}] // a value for each that may pass; nil for all
}

// AppendEntries implements raft.Transport.
func (d doored) AppendEntries(id hraft.ServerID, to hraft.ServerAddress, args *hraft.AppendEntriesRequest, resp *hraft.AppendEntriesResponse) error {
	if door := d.door.Load(); door != nil && string(id) == d.to && args.PrevLogEntry > 0 {
		select {
		case <-*door:
		case <-time.After(10 * time.Second):
			return errGivenUp
		}
	}
	return d.unpiped.AppendEntries(id, to, args, resp)
}

// TestHandOverToOneThatHangsAgain has a node hang that is told to take over, take all that was written by then, hang again with the next entry, and be told again: who leads goes on. Raft's library
// may not have noticed in between that it has the answer to what it has asked the first time.
func TestHandOverToOneThatHangsAgain(t *testing.T) {
	for range 10 { // it notices by chance
		synctest.Test(t, handOverToOneThatHangsAgain)
	}
}

func handOverToOneThatHangsAgain(t *testing.T) {
	c := &cluster{t: t}
	var door atomic.Pointer[chan struct{}]
	for i := range 3 {
		m := newMember(t, fmt.Sprint("node", i+1), raft.Config{}.WithFS(vfs.NewMem()))
		_, m.transport = hraft.NewInmemTransport(hraft.ServerAddress(m.id))
		if err := m.store.Start(raft.StartOptions{Transport: doored{unpiped{delaying{newLagging(m)}}, "node2", &door}, Bootstrap: i == 0}); err != nil {
			t.Fatal(err)
		}
		c.members = append(c.members, m)
	}
	defer c.close()
	c.gather()
	l, ill := c.leader(), c.members[1]
	if l != c.members[0] {
		t.Fatal("another leads: this shows nothing")
	}
	write := func() {
		t.Helper()
		for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			_, err := increment(t.Context(), l.db)
			if err == nil {
				return
			}
			if time.Since(began) > 5*time.Second {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(5 * time.Second) // all have all
	pass := make(chan struct{})
	door.Store(&pass)
	write()
	if err := l.store.StepDown(ill.id); err == nil {
		t.Fatal("it handed over")
	}
	write()
	pass <- struct{}{}
	time.Sleep(100 * time.Millisecond)
	if err := l.store.StepDown(ill.id); err == nil {
		t.Fatal("it handed over")
	}
	write()
	door.Store(nil)
	close(pass)
	time.Sleep(time.Minute)
	if err := l.store.StepDown(ill.id); err != nil {
		t.Error(err)
	}
	if now := c.leader(); now != ill {
		t.Errorf("%s leads, and not the node that was to take over", now.id)
	}
}
