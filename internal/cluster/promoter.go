package cluster

import (
	"maps"
	"slices"
	"time"

	hraft "github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
)

// What autopilot is told of a node beyond what it knows by itself.
const (
	metaZone    = "zone"
	metaVersion = "upgrade_version"
	metaHeard   = "heard" // whether the node was, by this leader
)

// Types of nodes, as they are shown.
const (
	nonVoter    autopilot.NodeType = "non-voter" // wants no vote
	zoneVoter   autopilot.NodeType = "zone-voter"
	zoneStandby autopilot.NodeType = "zone-standby" // stands by for its zone's voter
)

// promoter is autopilot's own, but that votes are given and taken by plot.
type promoter struct {
	autopilot.StablePromoter
	pilot *pilot
}

// course plots from a state.
func (p *promoter) course(c *autopilot.Config, s *autopilot.State) *course {
	now, minimum := time.Now(), s.ServerStabilizationTime(c)
	var list []elector
	for id, srv := range s.Servers {
		if srv.Server.NodeType == nonVoter || srv.State == autopilot.RaftStaging {
			continue
		}
		version, _ := parseVersion(srv.Server.Meta[metaVersion]) // what is none is lower than all others
		list = append(list, elector{
			id: string(id), zone: srv.Server.Meta[metaZone], version: version, voter: srv.HasVotingRights(), leader: srv.State == autopilot.RaftLeader,
			healthy: srv.Health.Healthy, stable: srv.Health.IsStable(now, minimum), since: srv.Health.StableSince,
		})
	}
	return plot(list, !p.pilot.settings().DisableUpgrade)
}

// early reports whether voters may still be heard that have had no time to be: this node has only just come to lead.
func (p *promoter) early(c *autopilot.Config, s *autopilot.State) bool {
	n := p.pilot.node
	n.mu.Lock()
	since := n.since
	n.mu.Unlock()
	if time.Since(since) > c.LastContactThreshold {
		return false
	}
	for _, srv := range s.Servers {
		if srv.HasVotingRights() && srv.Server.Meta[metaHeard] != "true" {
			return true
		}
	}
	return false
}

// GetStateExt implements autopilot.Promoter: the course, for those who look at the state.
func (p *promoter) GetStateExt(c *autopilot.Config, s *autopilot.State) any { return p.course(c, s) }

// GetNodeTypes implements autopilot.Promoter.
func (p *promoter) GetNodeTypes(_ *autopilot.Config, s *autopilot.State) map[hraft.ServerID]autopilot.NodeType {
	types := map[hraft.ServerID]autopilot.NodeType{}
	for id, srv := range s.Servers {
		types[id] = srv.Server.NodeType
		if srv.Server.NodeType == nonVoter || srv.Server.Meta[metaZone] == "" {
			continue
		}
		if types[id] = zoneStandby; srv.HasVotingRights() {
			types[id] = zoneVoter
		}
	}
	return types
}

// IsPotentialVoter implements autopilot.Promoter.
func (p *promoter) IsPotentialVoter(t autopilot.NodeType) bool { return t != nonVoter }

// CalculatePromotionsAndDemotions implements autopilot.Promoter.
func (p *promoter) CalculatePromotionsAndDemotions(c *autopilot.Config, s *autopilot.State) autopilot.RaftChanges {
	if p.early(c, s) {
		return autopilot.RaftChanges{}
	}
	way := p.course(c, s)
	ids := func(list []string) []hraft.ServerID {
		var out []hraft.ServerID
		for _, id := range list {
			out = append(out, hraft.ServerID(id))
		}
		return out
	}
	return autopilot.RaftChanges{Promotions: ids(way.promote), Demotions: ids(way.demote), Leader: hraft.ServerID(way.leader)}
}

// A ZoneState is how a redundancy zone is.
type ZoneState struct {
	Servers  []string
	Voters   []string
	Failures int // how many of its nodes may fail
}

// A VersionGroup is the nodes of the newest version, or of the others.
type VersionGroup struct{ Voters, NonVoters []string }

// A Migration is how far an upgrade is.
type Migration struct {
	Status, Target string
	Fresh, Old     VersionGroup
	Zones          map[string][2]VersionGroup // the same of each zone
}

// Zones are the redundancy zones of a state; none if no node has one.
func Zones(s *autopilot.State) map[string]ZoneState {
	zones := map[string]ZoneState{}
	for _, id := range slices.Sorted(maps.Keys(s.Servers)) {
		srv := s.Servers[id]
		name := srv.Server.Meta[metaZone]
		if name == "" || srv.Server.NodeType == nonVoter {
			continue
		}
		z := zones[name]
		z.Servers = append(z.Servers, string(id))
		if srv.HasVotingRights() {
			z.Voters = append(z.Voters, string(id))
		}
		if srv.Health.Healthy {
			z.Failures++ // and one less below
		}
		zones[name] = z
	}
	for name, z := range zones {
		z.Failures = max(z.Failures-1, 0)
		zones[name] = z
	}
	return zones
}

// ServerTraits are the zone and the version of a server, as autopilot was told.
func ServerTraits(s *autopilot.Server) (zone, version string) {
	return s.Meta[metaZone], s.Meta[metaVersion]
}

// Upgrade is how far an upgrade is.
func Upgrade(s *autopilot.State) Migration {
	way, ok := s.Ext.(*course)
	if !ok {
		return Migration{Status: upgradeIdle}
	}
	m := Migration{Status: way.status, Target: way.target.text, Zones: map[string][2]VersionGroup{}}
	if way.status == upgradeIdle || way.status == upgradeDisabled {
		return m
	}
	for _, id := range slices.Sorted(maps.Keys(s.Servers)) {
		srv := s.Servers[id]
		if srv.Server.NodeType == nonVoter {
			continue
		}
		version, _ := parseVersion(srv.Server.Meta[metaVersion]) // what is none is another
		which, group := 0, &m.Fresh
		if version.compare(way.target) != 0 {
			which, group = 1, &m.Old
		}
		group.add(string(id), srv.HasVotingRights())
		if name := srv.Server.Meta[metaZone]; name != "" {
			z := m.Zones[name]
			z[which].add(string(id), srv.HasVotingRights())
			m.Zones[name] = z
		}
	}
	return m
}

func (g *VersionGroup) add(id string, votes bool) {
	if votes {
		g.Voters = append(g.Voters, id)
	} else {
		g.NonVoters = append(g.NonVoters, id)
	}
}
