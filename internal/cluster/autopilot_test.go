package cluster

import (
	"testing"
	"time"

	hraft "github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"arca/internal/errs"
	"arca/internal/storage/raft"
)

// TestDeadServers has autopilot remove members that are not heard for long, when it is told to: as many as min_quorum allows, and nobody who is heard.
func TestDeadServers(t *testing.T) {
	t.Parallel()
	m := newMeeting(t, "a", "a:1", "b", "b:1", "c", "c:1", "d", "d:1")
	m.echo("a", "a:1")
	m.mu.Lock()
	m.since = time.Now().Add(-2 * time.Hour) // when it began to lead
	m.mu.Unlock()
	set := DefaultAutopilot()
	set.DeadServerLastContact, set.MinQuorum = time.Hour, 3
	m.SetAutopilot(set)
	m.cfg.Reconcile, m.cfg.Update = 10*time.Millisecond, 10*time.Millisecond
	m.pilot.start()
	defer m.pilot.wait()
	defer m.pilot.stop()
	count := func() (n int, a bool) {
		for _, p := range m.cfg.Store.Peers() {
			if p.ID != "leader" {
				n++
			}
			a = a || p.ID == "a"
		}
		return n, a
	}
	pause := func() { <-time.After(150 * time.Millisecond) }
	pause()
	if n, _ := count(); n != 4 {
		t.Errorf("%d members are left, and nobody was to be removed", n)
	}
	set.CleanupDeadServers = true
	m.SetAutopilot(set)
	for deadline := time.Now().Add(30 * time.Second); ; pause() {
		if n, _ := count(); n <= 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("dead members are not removed")
		}
	}
	pause()
	if n, a := count(); n != 2 || !a {
		t.Errorf("%d members are left, and the one that is heard among them: %t; want 2, with the leader min_quorum", n, a)
	}
}

// TestAutopilotAsksTheStore has autopilot change members and votes through the store, which ends the wait when raft has ended; there is no raft here.
func TestAutopilotAsksTheStore(t *testing.T) {
	t.Parallel()
	store, err := raft.Open(raft.Config{NodeID: "here", Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	var a autopilot.Raft = handler{store: store}
	for what, f := range map[string]hraft.Future{
		"a vote given": a.AddVoter("x", "x:1", 0, 0), "one taken": a.DemoteVoter("x", 0, 0), "a member removed": a.RemoveServer("x", 0, 0),
		"a hand-over": a.LeadershipTransferToServer("x", "x:1"),
	} {
		if err := f.Error(); !errs.Is(err, errs.NotActive) && !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
