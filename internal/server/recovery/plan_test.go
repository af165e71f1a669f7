package recovery

import (
	"strings"
	"testing"

	"arca/internal/storage/raft"
)

func members(ids ...string) []raft.Peer {
	var list []raft.Peer
	for _, id := range ids {
		voter := !strings.HasPrefix(id, "-")
		id = strings.TrimPrefix(id, "-")
		list = append(list, raft.Peer{ID: id, Address: id + ":8201", Voter: voter})
	}
	return list
}

func node(id string, term, index uint64, state string, peers []raft.Peer) Survivor {
	s := Survivor{ID: id, Where: "at-" + id, State: state, Term: term, Index: index, ClusterID: "c"}
	if state == stopped {
		s.Peers = peers
	}
	return s
}

func TestPlan(t *testing.T) {
	t.Parallel()
	three, five := members("a", "b", "c"), members("a", "b", "c", "d", "e")
	one := []Survivor{node("a", 3, 90, stopped, three)}
	two := []Survivor{node("a", 3, 90, stopped, five), node("b", 3, 95, stopped, five)}
	running := []Survivor{node("a", 3, 90, stopped, five), node("b", 4, 80, "sealed", nil)}
	with := func(s Survivor, fn func(*Survivor)) []Survivor { fn(&s); return []Survivor{s, one[0]} }
	restored := func(index uint64) []Survivor {
		s := node("b", 3, index, stopped, five)
		s.Restored = true
		return []Survivor{s, two[0]}
	}
	for _, tc := range []struct {
		name string
		in   request
		want string // of the error; "" for none
		keep string
	}{
		{"nothing", request{}, "name the folders", ""},
		{"look", request{survivors: one, lost: []string{"b", "c"}}, "", ""},
		{"keep", request{survivors: one, lost: []string{"b", "c"}, keep: "a"}, "", "a"},
		{"unaccounted", request{survivors: one, lost: []string{"b"}, keep: "a"}, "not accounted for: c", ""},
		{"unaccounted, two", request{survivors: one}, "-lost=b -lost=c", ""},
		{"a lost stranger", request{survivors: one, lost: []string{"b", "c", "x"}, keep: "a"}, `no node "x"`, ""},
		{"lost and here", request{survivors: one, lost: []string{"a", "b", "c"}, keep: "a"}, "named as lost and as a survivor", ""},
		{"keep a stranger", request{survivors: one, lost: []string{"b", "c"}, keep: "x"}, "none of the survivors", ""},
		{"majority", request{survivors: []Survivor{node("a", 3, 90, stopped, three), node("b", 3, 90, "sealed", nil)}, lost: []string{"c"}, keep: "a"}, "start and unseal them", ""},
		{"no majority without votes", request{survivors: with(node("b", 3, 90, stopped, three), func(s *Survivor) { s.Voteless = true }), lost: []string{"c"}, keep: "a"}, "", "a"},
		{"alone, without votes", request{survivors: with(node("b", 3, 95, stopped, three), func(s *Survivor) { s.Voteless = true }), lost: []string{"c"}, keep: "b"}, "", "b"},
		{"a vote that does not count", request{survivors: []Survivor{node("a", 3, 90, stopped, members("a", "-b", "c")), node("b", 3, 90, "sealed", nil)}, lost: []string{"c"}, keep: "a"}, "", "a"},
		{"not the freshest", request{survivors: two, lost: []string{"c", "d", "e"}, keep: "a"}, `"b" up to entry 95`, ""},
		{"not the freshest, accepted", request{survivors: two, lost: []string{"c", "d", "e"}, keep: "a", accept: true}, "", "a"},
		{"the freshest", request{survivors: two, lost: []string{"c", "d", "e"}, keep: "b"}, "", "b"},
		{"a later term counts more than a longer log", request{survivors: running, lost: []string{"c", "d", "e"}, keep: "a"}, `"b" up to entry 80 of term 4`, ""},
		{"restored or not", request{survivors: restored(95), lost: []string{"c", "d", "e"}, keep: "b"}, `"b" has a snapshot that was restored`, ""},
		{"without what was restored", request{survivors: restored(95), lost: []string{"c", "d", "e"}, keep: "a"}, `"a" does not have it`, ""},
		{"more than what was restored", request{survivors: restored(80), lost: []string{"c", "d", "e"}, keep: "a"}, "", "a"},
		{"restored, and another has more", request{survivors: restored(80), lost: []string{"c", "d", "e"}, keep: "b"}, `"a" up to entry 90`, ""},
		{"restored, accepted", request{survivors: restored(95), lost: []string{"c", "d", "e"}, keep: "b", accept: true}, "", "b"},
		{"restored, alone", request{survivors: restored(95)[:1], lost: []string{"a", "c", "d", "e"}, keep: "b"}, "", "b"},
		{"keep one that runs", request{survivors: running, lost: []string{"c", "d", "e"}, keep: "b"}, "stop its server", ""},
		{"only running ones", request{survivors: running[1:]}, "", ""},
		{"keep among running ones only", request{survivors: running[1:], keep: "b"}, "only where its folder is", ""},
		{"another cluster", request{survivors: with(node("b", 1, 1, stopped, three), func(s *Survivor) { s.ClusterID = "d" })}, "different clusters", ""},
		{"never initialised", request{survivors: with(node("b", 0, 0, stopped, nil), func(s *Survivor) { s.ClusterID = "" })}, "holds nothing", ""},
		{"a leader", request{survivors: with(node("b", 3, 91, "leaderless", nil), func(s *Survivor) { s.Leader = "c" })}, "has a leader", ""},
		{"twice", request{survivors: with(one[0], func(s *Survivor) { s.Where = "elsewhere" })}, "name it once", ""},
		{"removed before", request{survivors: []Survivor{one[0], node("z", 2, 20, stopped, three)}, lost: []string{"b", "c"}}, "does not belong to the cluster", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, err := plan(&tc.in)
			switch {
			case tc.want == "" && err != nil, tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Fatalf("got %v, want %q", err, tc.want)
			case err == nil && p.Keep != tc.keep:
				t.Errorf("keeps %q, want %q", p.Keep, tc.keep)
			}
			if tc.keep != "" && (p.peer.ID != tc.keep || p.peer.Address != tc.keep+":8201") {
				t.Errorf("peer: %+v", p.peer)
			}
		})
	}
}
