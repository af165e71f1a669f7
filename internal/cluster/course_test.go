package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSemver(t *testing.T) {
	t.Parallel()
	// In ascending order; within a line they are equal. The table of Vault's documentation, and semver.org's.
	order := [][]string{
		{"1.0.0-alpha"},
		{"1.0.0-alpha.1"},
		{"1.0.0-alpha.beta"},
		{"1.0.0-beta"},
		{"1.0.0-beta.2"},
		{"1.0.0-beta.11"},
		{"1.0.0-rc.1", "1.0.0-rc.1+build"},
		{"1.0.0", "v1.0.0", "1.0", "1.0.0+ent"},
		{"1.11.0-release.1", "1.11.0-release.1+123", "1.11.0-release.1+456"},
		{"1.11.0-release.2"},
		{"1.11.0", "1.11.0+release.1", "1.11.0+release.2"},
		{"1.11.1"},
		{"1.12.0"},
	}
	for i, a := range order {
		for j, b := range order {
			for _, x := range a {
				for _, y := range b {
					v, err := parseVersion(x)
					w, err2 := parseVersion(y)
					if err != nil || err2 != nil {
						t.Fatal(err, err2)
					}
					if got := v.compare(w); got != min(max(i-j, -1), 1) {
						t.Errorf("%s and %s: %d", x, y, got)
					}
				}
			}
		}
	}
	for _, bad := range []string{"", "x", "1.2.3.4", "1.-2", "1.0.0-", "1.0.0-a..b", "1.0.0-ä", "99999999999.0.0"} {
		if err := ParseVersion(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// crew reads nodes: id, then V for a vote, L for the leader (who votes), h healthy, s stable, then @zone, then =version.
func crew(t *testing.T, text string) []elector {
	t.Helper()
	var list []elector
	for i, word := range strings.Fields(text) {
		word, version, ok := strings.Cut(word, "=")
		if !ok {
			version = "1.0.0"
		}
		word, zone, _ := strings.Cut(word, "@")
		id, flags, _ := strings.Cut(word, ":")
		v, err := parseVersion(version)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, elector{
			id: id, zone: zone, version: v, voter: strings.ContainsAny(flags, "VL"), leader: strings.Contains(flags, "L"),
			healthy: strings.ContainsAny(flags, "hs"), stable: strings.Contains(flags, "s"), since: time.Unix(int64(i), 0),
		})
	}
	return list
}

func (c *course) String() string {
	s := c.status
	slices.Sort(c.promote)
	slices.Sort(c.demote)
	for _, id := range c.promote {
		s += " +" + id
	}
	for _, id := range c.demote {
		s += " -" + id
	}
	if c.leader != "" {
		s += " >" + c.leader
	}
	return s
}

func TestPlot(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, nodes, want string }{
		{"all vote", "a:Ls b:Vs c:Vs", "idle"},
		{"a new one", "a:Ls b:Vs c:h", "idle"},
		{"a new one that is stable", "a:Ls b:Vs c:s", "idle +c"},
		{"a dead voter stays", "a:Ls b:Vs c:V", "idle"},

		{"zones that are complete", "a1:Ls@a a2:s@a b1:Vs@b b2:s@b c1:Vs@c c2:s@c", "idle"},
		{"too many in a zone", "a1:Ls@a a2:Vs@a b1:Vs@b c1:Vs@c", "idle -a2"},
		{"the leader keeps its vote", "a1:Vs@a a2:Ls@a b1:Vs@b", "idle -a1"},
		{"a voter dies", "a1:Ls@a b1:V@b b2:s@b c1:Vs@c", "idle +b2 -b1"},
		{"nobody is stable yet", "a1:Ls@a a2:s@a b1:V@b b2:h@b c1:Vs@c", "idle"},
		{"a zone dies", "a1:Ls@a a2:s@a b1:V@b b2:@b c1:Vs@c c2:s@c", "idle +a2 -b1"},
		{"a zone is dead, and stood in for", "a1:Ls@a a2:Vs@a b1:@b b2:@b c1:Vs@c", "idle"},
		{"it comes back", "a1:Ls@a a2:Vs@a b1:s@b b2:s@b c1:Vs@c", "idle +b1 -a2"},
		{"a zone dies, and nobody is to spare", "a1:Ls@a b1:V@b c1:Vs@c", "idle"},
		{"two zones die", "a1:Ls@a a2:s@a b1:V@b c1:V@c x:Vs y:Vs", "idle +a2 -b1"},
		{"nobody well to spare a vote", "a1:Ls@a a2:s@a b1:V@b c1:V@c", "idle +a2"},
		{"with and without zones", "a1:Ls@a a2:s@a x:s y:Vs", "idle +x"},

		{"an upgrade begins", "a:Ls b:Vs c:Vs d:s=2.0.0", "await-new-voters"},
		{"enough, but not stable", "a:Ls b:Vs c:Vs d:s=2.0.0 e:s=2.0.0 f:h=2.0.0", "await-new-voters"},
		{"enough", "a:Ls b:Vs c:Vs d:s=2.0.0 e:s=2.0.0 f:s=2.0.0", "promoting +d +e +f"},
		{"they vote", "a:Ls b:Vs c:Vs d:Vs=2.0.0 e:Vs=2.0.0 f:Vs=2.0.0", "demoting -b -c"},
		{"the leader is left", "a:Ls b:s c:s d:Vs=2.0.0 e:Vs=2.0.0 f:Vs=2.0.0", "leader-transfer >d"},
		{"it has gone over", "a:Vs b:s c:s d:Ls=2.0.0 e:Vs=2.0.0 f:Vs=2.0.0", "demoting -a"},
		{"all is done", "a:s b:s c:s d:Ls=2.0.0 e:Vs=2.0.0 f:Vs=2.0.0", "await-server-removal"},
		{"the old ones have gone", "d:Ls=2.0.0 e:Vs=2.0.0 f:Vs=2.0.0", "idle"},
		{"a new one dies meanwhile", "a:Ls b:s c:Vs d:Vs=2.0.0 e:Vs=2.0.0 f:V=2.0.0", "await-new-voters +b"},
		{"in place, the first", "a:Ls b:Vs c:Vs=2.0.0", "await-new-voters"},
		{"in place, the second", "a:Ls b:Vs=2.0.0 c:Vs=2.0.0", "await-new-voters"},
		{"in place, all", "a:Vs=2.0.0 b:Vs=2.0.0 c:Ls=2.0.0", "idle"},
		{"one by one", "a:Ls b:s=2.0.0", "promoting +b"},
		{"one by one, it votes", "a:Ls b:Vs=2.0.0", "leader-transfer >b"},
		{"an older one joins", "a:Ls b:Vs c:Vs d:s=0.9.0", "await-server-removal"},
		{"an old one that died without a vote", "a:=0.9.0 d:Ls e:Vs f:Vs", "await-server-removal"},

		{"zones, not all of them are new", "a1:Ls@a b1:Vs@b c1:Vs@c a2:s@a=2.0.0 b2:s@b=2.0.0 b3:s@b=2.0.0", "await-new-voters"},
		{"zones, all of them", "a1:Ls@a b1:Vs@b c1:Vs@c a2:s@a=2.0.0 b2:s@b=2.0.0 c2:s@c=2.0.0", "promoting +a2 +b2 +c2"},
		{"zones, a zone's last old one dies meanwhile", "a1:Ls@a b1:V@b c1:Vs@c a2:s@a=2.0.0 b2:s@b=2.0.0", "await-new-voters +b2 -b1"},
		{"zones, less redundancy than before", "a1:Ls@a a3:s@a b1:Vs@b c1:Vs@c a2:s@a=2.0.0 b2:s@b=2.0.0 c2:s@c=2.0.0", "await-new-voters"},
		{"zones, they vote", "a1:Ls@a b1:Vs@b c1:Vs@c a2:Vs@a=2.0.0 b2:Vs@b=2.0.0 c2:Vs@c=2.0.0", "demoting -b1 -c1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := plot(crew(t, tc.nodes), true).String(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	if got := plot(crew(t, "a:Ls b:Vs c:Vs d:s=2.0.0 e:s=2.0.0 f:s=2.0.0"), false).String(); got != "disabled +d +e +f" {
		t.Errorf("without upgrades: %q", got)
	}
}

// TestPlotComesToRest plays nodes that fail, return and are upgraded, and does what plot says, a step at a time as autopilot does. A step never takes
// the majority away that the healthy voters have, never touches the leader's own vote, and when nothing fails any more it comes to rest, with a
// vote in each zone that has somebody.
func TestPlotComesToRest(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		zones := []string{"", "a", "b", "c"}[rnd.IntN(2)*1:]
		if rnd.IntN(3) == 0 {
			zones = []string{""}
		}
		old, _ := parseVersion("1.0.0")
		next, _ := parseVersion("2.0.0")
		var ms []elector
		for i := range 2 + rnd.IntN(8) {
			m := elector{id: fmt.Sprint("n", i), zone: zones[rnd.IntN(len(zones))], version: old, since: time.Unix(int64(i), 0), healthy: true, stable: true}
			if rnd.IntN(3) == 0 {
				m.version = next
			}
			m.voter = i == 0 || rnd.IntN(2) == 0
			ms = append(ms, m)
		}
		ms[0].leader = true
		lively := 30
		for step := range 100 {
			if step < lively && rnd.IntN(3) == 0 { // one that fails, or returns
				m := &ms[rnd.IntN(len(ms))]
				m.healthy = !m.healthy || m.leader
				m.stable, m.since = m.healthy, time.Unix(int64(100+step), 0)
			}
			if step == lively {
				for i := range ms {
					ms[i].healthy, ms[i].stable = true, true
				}
			}
			if votes, well := count(ms); well <= votes/2 {
				continue // there is no leader, and nobody who plots
			}
			c := plot(ms, true)
			if step > 80 && (len(c.promote) > 0 || len(c.demote) > 0 || c.leader != "") {
				t.Fatalf("seed %d does not come to rest: %s of %+v", seed, c, ms)
			}
			follow(t, seed, c, ms)
		}
		served := map[string]bool{}
		for _, m := range ms {
			served[m.zone] = served[m.zone] || m.voter
		}
		for zone, ok := range served {
			fresh := slices.ContainsFunc(ms, func(m elector) bool { return m.zone == zone && m.version == next })
			if waits := plot(ms, true).status; !ok && zone != "" && (fresh || waits == upgradeAwait || waits == upgradeIdle) {
				t.Errorf("seed %d: nobody votes in zone %q: %s %+v", seed, zone, waits, ms)
			}
		}
	}
}

func count(ms []elector) (votes, well int) {
	for _, m := range ms {
		if m.voter {
			votes++
			if m.healthy {
				well++
			}
		}
	}
	return votes, well
}

// follow does what a course says, as autopilot: first one demotion of who is ill, where the votes are odd; then promotions, or all demotions, or the
// hand-over.
func follow(t *testing.T, seed uint64, c *course, ms []elector) {
	t.Helper()
	at := func(id string) *elector {
		return &ms[slices.IndexFunc(ms, func(m elector) bool { return m.id == id })]
	}
	demote := func(id string) {
		if at(id).leader {
			t.Fatalf("seed %d: the leader's vote is taken: %s of %+v", seed, c, ms)
		}
		at(id).voter = false
		if votes, well := count(ms); well <= votes/2 {
			t.Fatalf("seed %d: the majority is lost by %s: %+v", seed, c, ms)
		}
	}
	if votes, _ := count(ms); votes%2 != 0 {
		for _, id := range c.demote {
			if !at(id).healthy {
				demote(id)
				break
			}
		}
	}
	done := false
	for _, id := range c.promote {
		if m := at(id); !m.voter && m.healthy {
			m.voter, done = true, true
			if votes, well := count(ms); well <= votes/2 {
				t.Fatalf("seed %d: the majority is lost by %s: %+v", seed, c, ms)
			}
		}
	}
	if done {
		return
	}
	for _, id := range c.demote {
		if at(id).voter {
			demote(id)
			done = true
		}
	}
	if done || c.leader == "" {
		return
	}
	for i := range ms {
		ms[i].leader = ms[i].id == c.leader
	}
}
