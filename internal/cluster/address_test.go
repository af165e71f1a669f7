package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/raft"
)

// A meeting is a node that leads, with members without a vote of whom nothing but their addresses is there.
type meeting struct {
	t    *testing.T
	ring *barrier.Keyring
	*Node
}

func newMeeting(t *testing.T, members ...string) *meeting {
	t.Helper()
	ring, err := barrier.NewKeyring(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	n, _ := listening(t, ring, "leader")
	n.cfg.Store.Bind(raft.Events{Follow: func() {}, Lead: func() {}, Applied: func(storage.Change) error { return nil }})
	if err := n.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(members); i += 2 {
		if err := n.cfg.Store.Add(members[i], members[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	return &meeting{t, ring, n}
}

// answer has a node answer at an address; an address of "" is any that is free.
func (m *meeting) answer(id, address string) string {
	m.t.Helper()
	p, err := newPass(m.ring, id)
	if err != nil {
		m.t.Fatal(err)
	}
	if address == "" {
		address = "127.0.0.1:0"
	}
	w, err := openWeb(p, "", []string{address}, slog.New(slog.DiscardHandler))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(w.close)
	return w.listeners[0].Addr().String()
}

// echo has a member say where it is.
func (m *meeting) echo(id, address string) {
	m.t.Helper()
	if _, err := m.heard(m.t.Context(), "", Info{ID: id, Address: address}); err != nil {
		m.t.Errorf("%s at %s: %v", id, address, err)
	}
}

// later is as if those who were let in had been so long ago.
func (m *meeting) later() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.admitted {
		m.admitted[id] = time.Now().Add(-justNow)
	}
}

func (m *meeting) want(when string, members ...string) {
	m.t.Helper()
	got := map[string]string{}
	for _, p := range m.cfg.Store.Peers() {
		if p.ID != "leader" {
			got[p.ID] = p.Address
		}
	}
	want := map[string]string{}
	for i := 0; i < len(members); i += 2 {
		want[members[i]] = members[i+1]
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		m.t.Errorf("%s the members are %v, want %v", when, got, want)
	}
}

// TestAddressUsedAgain has a member come up at the address of another, which stays a member.
func TestAddressUsedAgain(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"a", "b"} {
		t.Run(first+" first", func(t *testing.T) {
			t.Parallel()
			m := newMeeting(t)
			x := m.answer("b", "") // a's, until now
			list := []string{"a", x, "b", "b:1"}
			if first == "b" {
				list = []string{"b", "b:1", "a", x}
			}
			for i := 0; i < len(list); i += 2 {
				if err := m.cfg.Store.Add(list[i], list[i+1]); err != nil {
					t.Fatal(err)
				}
			}
			m.echo("b", x)
			m.want("when b has come up", "a", raft.AtNoAddress+"a", "b", x)
			m.echo("a", "a:2")
			m.want("when a has, too", "a", "a:2", "b", x)
		})
	}
}

// TestAddressInUse has a member claim the address of one that is there, and of one that is not heard: it does not get it until the other has moved.
func TestAddressInUse(t *testing.T) {
	t.Parallel()
	m := newMeeting(t, "c", "c:1", "d", "d:1")
	x := m.answer("a", "")
	if err := m.cfg.Store.Add("a", x); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		m.echo("c", x)
		m.echo("c", "d:1")
		m.want("while nobody moves", "a", x, "c", "c:1", "d", "d:1")
	}
	m.echo("d", "d:2")
	m.echo("c", "d:1")
	m.want("when d has moved", "a", x, "c", "d:1", "d", "d:2")
}

// TestAddressesSwapped has two members come up with each other's addresses.
func TestAddressesSwapped(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	x, y := m.answer("b", ""), m.answer("a", "")
	for _, p := range [][2]string{{"a", x}, {"b", y}} {
		if err := m.cfg.Store.Add(p[0], p[1]); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		m.echo("b", x)
		m.echo("a", y)
	}
	m.want("after the swap", "a", y, "b", x)
}

// TestLeaderHasItsAddress has a node lead that came up at another's address.
func TestLeaderHasItsAddress(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	old := m.cfg.Address
	m.cfg.Address = m.answer("leader", "")
	if err := m.cfg.Store.Add("a", m.cfg.Address); err != nil {
		t.Fatal(err)
	}
	m.settle(m.running.Load())
	m.want("when the leader has moved", "a", raft.AtNoAddress+"a")
	for _, p := range m.cfg.Store.Peers() {
		if p.ID == "leader" && p.Address != m.cfg.Address {
			t.Errorf("the leader is at %s rather than %s", p.Address, m.cfg.Address)
		}
	}
	m.echo("a", old)
	m.want("when the other is at the leader's", "a", old)
}

// TestJoinRemovesNobodyThere has nodes join with an id or an address of a member.
func TestJoinRemovesNobodyThere(t *testing.T) {
	t.Parallel()
	m := newMeeting(t, "quiet", "127.0.0.1:1")
	x := m.answer("a", "")
	if err := m.cfg.Store.Add("a", x); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	m.since = time.Now().Add(-time.Minute)
	m.mu.Unlock()
	m.echo("a", x)
	refused := func(what, id, address, why string) {
		t.Helper()
		if err := m.Admit(t.Context(), id, "https://"+address); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", what, err)
		}
		m.want(what, "a", x, "quiet", "127.0.0.1:1")
	}
	refused("the address of one that is there", "new", x, "answers at")
	refused("the id of one that is there", "a", "127.0.0.1:2", "answers at")
	refused("both", "a", x, "answers at")
	refused("the address of the leader", "new", m.cfg.Address, "answers at")
	m.mu.Lock()
	m.known["quiet"] = Info{ID: "quiet", Heard: time.Now()}
	m.mu.Unlock()
	refused("the address of one that was just heard", "new", "127.0.0.1:1", "may still be there")
	refused("the id of one that was just heard", "quiet", "127.0.0.1:2", "may still be there")
	if err := m.Admit(t.Context(), "quiet", "https://127.0.0.1:1"); err != nil {
		t.Errorf("the same node joins anew: %v", err)
	}
	m.want("as before", "a", x, "quiet", "127.0.0.1:1")
	m.later()
	if err := m.Admit(t.Context(), "quiet", "https://127.0.0.1:2"); err != nil {
		t.Errorf("a node that lost its folder joins at another address: %v", err)
	}
	m.later()
	if err := m.Admit(t.Context(), "new", "https://127.0.0.1:2"); err != nil {
		t.Errorf("a node joins at the address of one that is gone: %v", err)
	}
	m.want("after all", "a", x, "new", "127.0.0.1:2")
}

// TestOneIDTwice has a member say that it is elsewhere: it is believed, unless another process with its id answers where it was.
func TestOneIDTwice(t *testing.T) {
	t.Parallel()
	m := newMeeting(t, "b", "127.0.0.1:1")
	x := m.answer("a", "")
	if err := m.cfg.Store.Add("a", x); err != nil {
		t.Fatal(err)
	}
	_, its := m.shownAt(t.Context(), x)
	for range 2 {
		if _, err := m.heard(t.Context(), "another", Info{ID: "a", Address: "a:2"}); !errs.Is(err, errs.Conflict) {
			t.Errorf("two nodes with one id: %v", err)
		}
	}
	m.want("while both are there", "a", x, "b", "127.0.0.1:1")
	for _, c := range []struct{ id, its string }{{"a", its}, {"b", "another"}} { // it answers at both; nobody answers at the other's
		if _, err := m.heard(t.Context(), c.its, Info{ID: c.id, Address: c.id + ":3"}); err != nil {
			t.Errorf("%s has moved: %v", c.id, err)
		}
	}
	m.want("after all", "a", "a:3", "b", "b:3")
}

// TestJoinTwice has nodes with the same id, or address, join one after the other and at the same time: the first is not removed before it can be there.
func TestJoinTwice(t *testing.T) {
	t.Parallel()
	m := newMeeting(t)
	m.mu.Lock()
	m.since = time.Now().Add(-time.Minute)
	m.mu.Unlock()
	join := func(id, address string) error { return m.Admit(t.Context(), id, "https://"+address) }
	if err := join("a", "127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{"a", "127.0.0.1:2"}, {"b", "127.0.0.1:1"}} {
		if err := join(c[0], c[1]); !errs.Is(err, errs.Conflict) {
			t.Errorf("%s at %s: %v", c[0], c[1], err)
		}
	}
	if err := join("a", "127.0.0.1:1"); err != nil {
		t.Errorf("the same once more: %v", err)
	}
	m.want("after one", "a", "127.0.0.1:1")
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the look at it takes long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() }) // nothing was said
	if err := m.cfg.Store.Add("c", silent.Addr().String()); err != nil {
		t.Fatal(err)
	}
	var in atomic.Int32
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if join("c", fmt.Sprint("127.0.0.1:", 3+i)) == nil {
				in.Add(1)
			}
		})
	}
	all.Wait()
	if n := in.Load(); n != 1 {
		t.Errorf("%d nodes joined as one", n)
	}
}

// TestJoinGivenUp has a node that joins go away: nobody was asked who is there, and nobody loses a place for it.
func TestJoinGivenUp(t *testing.T) {
	t.Parallel()
	m := newMeeting(t, "a", "127.0.0.1:1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Admit(ctx, "a", "https://127.0.0.1:1"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("let in: %v", err)
	}
	if !slices.ContainsFunc(m.cfg.Store.Peers(), func(p raft.Peer) bool { return p.ID == "a" }) {
		t.Error("the member is gone")
	}
	m.mu.Lock()
	_, admitted := m.admitted["a"]
	m.mu.Unlock()
	if admitted {
		t.Error("it was let in anew")
	}
}

// TestProbeIsToldOfTheLeader has a node that hears of no leader ask one that does: it finds the leader at an address that it did not know.
func TestProbeIsToldOfTheLeader(t *testing.T) {
	t.Parallel()
	m := newMeeting(t, "b", "b:1")
	serve := func(n *Node) {
		r := n.running.Load()
		r.work.Go(func() {
			for {
				c, err := r.web.streams[protoAsk].Accept()
				if err != nil {
					return
				}
				r.work.Go(func() { n.serve(r.ctx, c) })
			}
		})
	}
	serve(m.Node)
	standby, _ := listening(t, m.ring, "standby")
	standby.part = led{id: "leader", address: m.cfg.Address}
	standby.cfg.Store.Bind(raft.Events{})
	serve(standby)
	b, r := listening(t, m.ring, "b")
	b.cfg.Store.Bind(raft.Events{})
	if err := b.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.cfg.Store.Add("standby", standby.cfg.Address); err != nil { // whom it knows
		t.Fatal(err)
	}
	b.part = led{}
	b.probe(r)
	m.want("when it has asked", "b", b.cfg.Address)
}
