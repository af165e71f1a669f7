package cluster

import (
	"maps"
	"slices"
	"sort"
	"time"
)

// What becomes of the nodes' votes is decided by plot, from what autopilot knows of them and from nothing else: it keeps no state, so that a new
// leader goes on where the last one was. Rules and words are those that Vault Enterprise documents for redundancy zones and automated upgrades
// (developer.hashicorp.com/vault/docs/enterprise/redundancy-zones, …/automated-upgrades); where these are silent, availability decides.

// An elector is a node that may have a vote.
type elector struct {
	id      string
	zone    string // of redundancy; "" for none
	version semver // that counts for upgrades
	voter   bool
	leader  bool
	healthy bool
	stable  bool // healthy for the stabilisation time
	since   time.Time
}

// A course is what is to be done next, and how far an upgrade is.
type course struct {
	promote, demote []string
	leader          string // to which the leadership is to go; "" to stay
	status          string
	target          semver
}

// States of an upgrade.
const (
	upgradeIdle      = "idle"
	upgradeDisabled  = "disabled"
	upgradeAwait     = "await-new-voters"
	upgradePromoting = "promoting"
	upgradeDemoting  = "demoting"
	upgradeTransfer  = "leader-transfer"
	upgradeRemoval   = "await-server-removal"
)

// plot decides. list are those that want a vote, in any order.
func plot(list []elector, upgrades bool) *course {
	c := draw(list, upgrades)
	c.guard(list)
	return c
}

// guard leaves out what would take the majority from those who are well, in the order in which it is done: the ill lose their votes first.
func (c *course) guard(list []elector) {
	votes, well := 0, 0
	ill := map[string]bool{}
	for _, m := range list {
		if !m.voter {
			continue
		}
		votes++
		if m.healthy || m.leader {
			well++
		} else {
			ill[m.id] = true
		}
	}
	slices.SortStableFunc(c.demote, func(a, b string) int {
		switch {
		case ill[a] == ill[b]:
			return 0
		case ill[a]:
			return -1
		}
		return 1
	})
	c.demote = slices.DeleteFunc(c.demote, func(id string) bool {
		left := well
		if !ill[id] {
			left--
		}
		if left <= (votes-1)/2 {
			return true
		}
		votes, well = votes-1, left
		return false
	})
}

func draw(list []elector, upgrades bool) *course {
	c := &course{status: upgradeIdle}
	ms := slices.Clone(list)
	sort.Slice(ms, func(i, j int) bool { return ms[i].id < ms[j].id }) // slices.SortFunc would be 25 kB of code for a struct of this size
	for _, m := range ms {
		if m.version.compare(c.target) > 0 {
			c.target = m.version
		}
	}
	if !upgrades {
		c.status = upgradeDisabled
		c.settle(ms)
		return c
	}
	var fresh, old []elector
	for _, m := range ms {
		if m.version.compare(c.target) == 0 {
			fresh = append(fresh, m)
		} else {
			old = append(old, m)
		}
	}
	switch {
	case len(old) == 0:
		c.settle(ms)
	case !enough(fresh, old):
		c.status = upgradeAwait
		c.settle(waiting(fresh, old))
	default:
		c.migrate(fresh, old)
	}
	return c
}

// enough reports whether the nodes of the new version can take over: as many as there are others, in as many zones, and so many that one of them
// may fail, where that was so before. The last keeps a cluster of three whose nodes are upgraded in their places from being one of two meanwhile.
func enough(fresh, old []elector) bool {
	stable, present := 0, 0
	zones := map[string]bool{}
	for _, m := range fresh {
		if m.stable {
			stable++
			zones[m.zone] = true
		}
	}
	for _, m := range old {
		if !m.voter && !m.healthy {
			continue // it was left behind
		}
		present++
		if m.zone != "" && m.voter && m.healthy && !zones[m.zone] {
			return false
		}
	}
	return stable >= present && (stable >= 3 || stable == present || stable+present <= 2)
}

// waiting are the nodes that have votes until there are enough new ones: the old, and those new ones that vote already, since they were upgraded
// in their places. Where a zone would have nobody, all its nodes count.
func waiting(fresh, old []elector) []elector {
	list := slices.Clone(old)
	served := map[string]bool{}
	for _, m := range old {
		served[m.zone] = served[m.zone] || m.healthy
	}
	for _, m := range fresh {
		if m.voter || m.zone != "" && !served[m.zone] {
			list = append(list, m)
		}
	}
	return list
}

// migrate goes one step on the way from the old nodes to the new ones.
func (c *course) migrate(fresh, old []elector) {
	c.status = upgradePromoting
	var next course
	next.settle(fresh)
	if len(next.promote) > 0 {
		c.promote = next.promote
		return
	}
	c.status = upgradeDemoting
	for _, m := range old {
		if m.voter && !m.leader {
			c.demote = append(c.demote, m.id)
		}
	}
	if len(c.demote) > 0 {
		return
	}
	for _, m := range old {
		if !m.leader {
			continue
		}
		if to := heir(fresh); to != "" {
			c.status, c.leader = upgradeTransfer, to
		}
		return
	}
	c.status = upgradeRemoval
	c.promote, c.demote = next.promote, next.demote
}

// heir is who is to lead: the voter that has been well for longest.
func heir(list []elector) string {
	var best *elector
	for i := range list {
		if m := &list[i]; m.voter && m.stable && (best == nil || m.since.Before(best.since)) {
			best = m
		}
	}
	if best == nil {
		return ""
	}
	return best.id
}

// settle gives a vote to every node without a zone, and to one of each zone: to one that has it already, if it is well. A zone without any node that
// is well is stood in for by another's, if there is one to spare. A vote is taken only where its owner is replaced.
func (c *course) settle(ms []elector) {
	zones := map[string][]elector{}
	for _, m := range ms {
		switch {
		case m.zone != "":
			zones[m.zone] = append(zones[m.zone], m)
		case !m.voter && m.stable:
			c.promote = append(c.promote, m.id)
		}
	}
	var extra, spare []string // who votes, or could, beside the one of its zone
	var lost [][]string       // the votes of zones without anybody, each zone's
	for _, name := range slices.Sorted(maps.Keys(zones)) {
		z := survey(zones[name])
		spare = append(spare, z.spare...)
		switch {
		case z.seated != "":
			extra = append(extra, z.extra...)
			c.demote = append(c.demote, z.ill...)
		case z.next != "":
			c.promote = append(c.promote, z.next)
			c.demote = append(c.demote, z.ill...)
		case !z.soon:
			lost = append(lost, z.ill)
		}
	}
	stay := min(len(lost), len(extra))
	c.demote = append(c.demote, extra[stay:]...)
	more := min(len(lost)-stay, len(spare))
	c.promote = append(c.promote, spare[:more]...)
	for _, ill := range lost[:stay+more] {
		c.demote = append(c.demote, ill...)
	}
}

// A zone is how one is.
type zone struct {
	seated string   // the one that votes
	extra  []string // who votes, too
	next   string   // who could vote in place of seated, where that is ""
	spare  []string // who could vote besides
	ill    []string // who votes and is not well
	soon   bool     // somebody is well and will be stable
}

func survey(ms []elector) (z zone) {
	sort.SliceStable(ms, func(i, j int) bool {
		a, b := &ms[i], &ms[j]
		if a.leader != b.leader {
			return a.leader
		}
		return a.since.Before(b.since)
	})
	for _, m := range ms {
		well := m.healthy || m.leader
		switch {
		case m.voter && well && z.seated == "":
			z.seated = m.id
		case m.voter && well:
			z.extra = append(z.extra, m.id)
		case m.voter:
			z.ill = append(z.ill, m.id)
		case m.stable:
			z.spare = append(z.spare, m.id)
		}
		z.soon = z.soon || m.healthy
	}
	if z.seated == "" && len(z.spare) > 0 {
		z.next, z.spare = z.spare[0], z.spare[1:]
	}
	return z
}
