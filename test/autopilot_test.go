package test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// quick are settings of raft under which autopilot looks often.
const quick = "  autopilot_update_interval = \"100ms\"\n  autopilot_reconcile_interval = \"100ms\"\n"

// joined starts a node and lets it join the cluster of another.
func (n *node) joined(first *node) {
	n.t.Helper()
	n.start()
	n.keys, n.root = first.keys, first.root
	n.vault("operator", "raft", "join", strings.TrimSuffix(first.url, "/v1/"))
	n.unseal()
}

// voters are the ids of the nodes that vote, as a node tells.
func (n *node) voters() []string {
	a, err := n.call(n.t.Context(), "GET", "sys/storage/raft/configuration", n.root, nil)
	if err != nil || a.code != 200 {
		return nil
	}
	servers, _ := a.dig("data", "config", "servers").([]any)
	var ids []string
	for _, s := range servers {
		if server, _ := s.(map[string]any); server["voter"] == true {
			ids = append(ids, server["node_id"].(string))
		}
	}
	slices.Sort(ids)
	return ids
}

// soon sets times that are short enough for a test.
func (n *node) soon() {
	n.t.Helper()
	n.must("POST", "sys/storage/raft/autopilot/configuration", map[string]any{"server_stabilization_time": "500ms", "last_contact_threshold": "5s"})
}

// TestRedundancyZones has one voter in each of three zones, and another of the same zone in its place when it is gone.
func TestRedundancyZones(t *testing.T) {
	t.Parallel()
	var nodes []*node
	for _, name := range []string{"a1", "b1", "c1", "a2", "b2"} {
		n := raftNode(t, name)
		n.inside(fmt.Sprintf("%s  autopilot_redundancy_zone = %q\n", quick, name[:1]))
		nodes = append(nodes, n)
	}
	first := nodes[0]
	first.start()
	first.initialise()
	first.soon()
	first.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	for _, n := range nodes[1:3] {
		n.joined(first)
	}
	await(t, "a voter in each zone", func() bool { return slices.Equal(first.voters(), []string{"a1", "b1", "c1"}) })
	for _, n := range nodes[3:] {
		n.joined(first)
	}
	state := func(n *node) answer { return n.get("sys/storage/raft/autopilot/state") }
	await(t, "all nodes' health", func() bool {
		a := state(first)
		return a.dig("data", "healthy") == true && fmt.Sprint(a.dig("data", "optimistic_failure_tolerance")) == "3"
	})
	a := state(first)
	if a.text("data", "servers", "a2", "node_type") != "zone-standby" || a.text("data", "servers", "a2", "redundancy_zone") != "a" ||
		a.text("data", "servers", "b1", "node_type") != "zone-voter" || a.text("data", "upgrade_info", "status") != "idle" ||
		fmt.Sprint(a.dig("data", "redundancy_zones", "a")) != "map[failure_tolerance:1 servers:[a1 a2] voters:[a1]]" {
		t.Errorf("state: %v", a.body)
	}
	if out := first.vault("operator", "raft", "autopilot", "state"); !strings.Contains(out, "Redundancy Zones:\n   a\n") || !strings.Contains(out, "Optimistic Failure Tolerance:     3") {
		t.Errorf("state:\n%s", out)
	}
	if !slices.Equal(first.voters(), []string{"a1", "b1", "c1"}) {
		t.Errorf("voters: %q", first.voters())
	}
	// The leader is killed: another leads, which knows of the zone only by what the leader told.
	first.kill()
	rest := &trio{t: t, nodes: nodes[1:]}
	leader := rest.leader()
	await(t, "another voter in its zone", func() bool { return slices.Equal(leader.voters(), []string{"a2", "b1", "c1"}) })
	leader.must("PUT", "secret/k", map[string]any{"v": "1"})
	nodes[0].client.CloseIdleConnections()
	nodes[0].start()
	nodes[0].unseal()
	await(t, "the node that is back", func() bool { return nodes[0].get("secret/k").text("data", "v") == "1" })
	await(t, "its health", func() bool { return state(leader).dig("data", "servers", "a1", "healthy") == true })
	if !slices.Equal(leader.voters(), []string{"a2", "b1", "c1"}) {
		t.Errorf("voters: %q", leader.voters())
	}
}

// TestUpgradeMigration goes over from three nodes to three others by autopilot_upgrade_version, while a client writes.
func TestUpgradeMigration(t *testing.T) {
	t.Parallel()
	c, fresh := &trio{t: t}, &trio{t: t}
	for i := range 6 {
		n := raftNode(t, fmt.Sprint("n", i+1))
		n.inside(fmt.Sprintf("%s  autopilot_upgrade_version = \"1.0.0-release.%d\"\n", quick, 1+i/3))
		c.nodes = append(c.nodes, n)
	}
	fresh.nodes = c.nodes[3:]
	first := c.nodes[0]
	first.start()
	first.initialise()
	first.soon()
	first.must("POST", "sys/mounts/secret", map[string]any{"type": "kv"})
	for _, n := range c.nodes[1:3] {
		n.joined(first)
	}
	await(t, "the old voters", func() bool { return len(first.voters()) == 3 })
	for _, n := range c.nodes[3:5] {
		n.joined(first)
	}
	status := func(n *node) string {
		return n.get("sys/storage/raft/autopilot/state").text("data", "upgrade_info", "status")
	}
	await(t, "an upgrade that waits", func() bool {
		a := first.get("sys/storage/raft/autopilot/state")
		return a.text("data", "upgrade_info", "status") == "await-new-voters" && a.dig("data", "healthy") == true
	})
	if got := first.voters(); !slices.Equal(got, []string{"n1", "n2", "n3"}) {
		t.Errorf("voters while it waits: %q", got)
	}
	c.nodes[5].joined(first)
	var leader *node
	await(t, "the upgrade", func() bool {
		leader = c.leader()
		return status(leader) == "await-server-removal"
	})
	first.must("PUT", "secret/k", map[string]any{"v": "1"})
	if got := leader.voters(); !slices.Equal(got, []string{"n4", "n5", "n6"}) || !slices.Contains(fresh.nodes, leader) {
		t.Errorf("voters: %q, leader %s", got, leader.url)
	}
	out := leader.vault("operator", "raft", "autopilot", "state")
	if !strings.Contains(out, "Target Version:                1.0.0-release.2") || !strings.Contains(out, "Other Version Non Voters:      n1, n2, n3") {
		t.Errorf("state:\n%s", out)
	}
	for i, n := range c.nodes[:3] {
		n.signal(syscall.SIGTERM)
		n.ended()
		leader.vault("operator", "raft", "remove-peer", fmt.Sprint("n", i+1))
	}
	await(t, "the end of the upgrade", func() bool { return status(leader) == "idle" })
	leader.must("PUT", "secret/k", map[string]any{"v": "2"})
	if a := fresh.standbys()[0].get("secret/k"); a.text("data", "v") != "2" {
		t.Errorf("read at a standby: %v", a.body)
	}

	bad := raftNode(t, "bad")
	bad.inside("  autopilot_upgrade_version = \"next\"\n")
	bad.refuses("autopilot_upgrade_version: the version")
}

// refuses starts a server that must not start.
func (n *node) refuses(want string) {
	n.t.Helper()
	n.write()
	p := launch(n.t, n.dir, "-config=vault.hcl")
	if code := p.ended(); code != 1 || !strings.Contains(p.output(), want) {
		n.t.Errorf("ended with %d, without %q:\n%s", code, want, p.output())
	}
}

// TestLastJoinCounts tells an empty node to join without a vote, as anybody may, and then to join with one.
func TestLastJoinCounts(t *testing.T) {
	t.Parallel()
	first, second := raftNode(t, "node1"), raftNode(t, "node2")
	first.start()
	first.initialise()
	second.start()
	second.keys, second.root = first.keys, first.root
	to := strings.TrimSuffix(first.url, "/v1/")
	second.vault("operator", "raft", "join", "-non-voter", to)
	second.vault("operator", "raft", "join", to)
	second.unseal()
	(&trio{t: t, nodes: []*node{first, second}}).await(2)
}
