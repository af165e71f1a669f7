package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/vault/api"
)

// incorrect demands a number of arguments in the words of the raft commands.
func (c *call) incorrect(low, high int, want string) error {
	if n := len(c.args); n < low || n > high {
		return usagef("Incorrect arguments (expected %s, got %d)", want, n)
	}
	return nil
}

func raftListPeersCommand() command {
	return command{
		name: "operator raft list-peers", usage: "[options]", shared: withHTTP | withFormat,
		summary: "Show the raft cluster's nodes",
		about:   "Shows the nodes that hold the storage, and which leads.",
		setup:   func(f *flagSet) runFunc { return runRaftListPeers },
	}
}

// S3-59
func runRaftListPeers(c *call) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	s, err := client.Logical().ReadWithContext(c.ctx, "sys/storage/raft/configuration")
	if err != nil {
		return failf("Error reading the raft cluster configuration: %w", err)
	}
	if s == nil {
		return failf("No raft cluster configuration found")
	}
	return c.show(s, func() string {
		var rows [][]string
		config, _ := s.Data["config"].(map[string]any)
		servers, _ := config["servers"].([]any)
		for _, raw := range servers {
			server, _ := raw.(map[string]any)
			state := "follower"
			if server["leader"] == true {
				state = "leader"
			}
			rows = append(rows, []string{
				fmt.Sprint(server["node_id"]), fmt.Sprint(server["address"]), state, fmt.Sprint(server["voter"]),
			})
		}
		return table([]string{"Node", "Address", "State", "Voter"}, rows)
	})
}

// joinFlags are the flags of operator raft join.
type joinFlags struct {
	caCert, clientCert, clientKey *string
	scheme                        *string
	port                          *int
	retry, nonVoter               *bool
}

func raftJoinCommand() command {
	return command{
		name: "operator raft join", usage: "[options] [LEADER]", shared: withHTTP | withFormat,
		summary: "Join a raft cluster",
		about: `Makes this node join the cluster that the leader's address names, or that a
discovery rule ("provider=k8s …" or "provider=dns …") finds. A bare address is completed by https
and port 8200, then tried with http.

    $ vault operator raft join https://10.0.0.5:8200`,
		setup: func(f *flagSet) runFunc {
			j := joinFlags{
				caCert:     f.String("leader-ca-cert", "", "pem", "CA of the leader's certificate (text or @file)."),
				clientCert: f.String("leader-client-cert", "", "pem", "Certificate shown to the leader (text or @file)."),
				clientKey:  f.String("leader-client-key", "", "pem", "Its private key (text or @file)."),
				scheme:     f.String("auto-join-scheme", "https", "scheme", "Scheme of discovered addresses."),
				port:       f.Int("auto-join-port", 8200, "Port of discovered addresses."),
				retry:      f.Bool("retry", false, "Keep trying until it succeeds."),
				nonVoter:   f.Bool("non-voter", false, "Hold the data without a vote."),
			}
			return func(c *call) error { return runRaftJoin(c, j) }
		},
	}
}

// S3-65, T9
func runRaftJoin(c *call, j joinFlags) error {
	if err := c.incorrect(0, 1, "0-1"); err != nil {
		return err
	}
	in := &api.RaftJoinRequest{Retry: *j.retry, NonVoter: *j.nonVoter}
	for _, pem := range []struct {
		what string
		from *string
		to   *string
	}{
		{"CA certificate", j.caCert, &in.LeaderCACert},
		{"client certificate", j.clientCert, &in.LeaderClientCert},
		{"client key", j.clientKey, &in.LeaderClientKey},
	} {
		value, err := c.value(*pem.from)
		if err != nil {
			return usagef("Failed to parse leader %s: %w", pem.what, err)
		}
		*pem.to = value
	}
	bare := false
	if len(c.args) == 1 {
		leader := strings.TrimSpace(c.args[0])
		if strings.Contains(leader, "provider=") {
			in.AutoJoin, in.AutoJoinScheme, in.AutoJoinPort = leader, *j.scheme, uint(*j.port)
		} else {
			bare = !strings.Contains(leader, "://")
			in.LeaderAPIAddr = nodeAddress(leader, "https")
		}
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	resp, err := client.Sys().RaftJoinWithContext(c.ctx, in)
	if bare && (err != nil || !resp.Joined) && !*j.retry {
		in.LeaderAPIAddr = nodeAddress(c.args[0], "http")
		if second, err2 := client.Sys().RaftJoinWithContext(c.ctx, in); err2 == nil {
			resp, err = second, nil
		}
	}
	if err != nil {
		return failf("Error joining the node to the Raft cluster: %w", err)
	}
	return c.show(resp, func() string {
		return table([]string{"Key", "Value"}, [][]string{{"Joined", fmt.Sprint(resp.Joined)}})
	})
}

func raftRemovePeerCommand() command {
	return command{
		name: "operator raft remove-peer", usage: "[options] NODE", shared: withHTTP | withFormat,
		summary: "Remove a node from the raft cluster",
		about: `Removes a node by its id.

    $ vault operator raft remove-peer node3`,
		setup: func(f *flagSet) runFunc {
			drToken := f.String("dr-token", "", "token", "DR operation token, on a secondary.")
			return func(c *call) error { return runRaftRemovePeer(c, *drToken) }
		},
	}
}

func runRaftRemovePeer(c *call, drToken string) error {
	if err := c.incorrect(1, 1, "1"); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	data := map[string]any{"server_id": strings.TrimSpace(c.args[0])}
	if drToken != "" {
		data["dr_operation_token"] = drToken
	}
	if _, err := client.Logical().WriteWithContext(c.ctx, "sys/storage/raft/remove-peer", data); err != nil {
		return failf("Error removing the peer from raft cluster: %w", err)
	}
	c.printf("Peer removed successfully!\n")
	return nil
}

func snapshotSaveCommand() command {
	return command{
		name: "operator raft snapshot save", usage: "[options] FILE", shared: withHTTP,
		summary: "Save the storage to a file",
		about: `Writes a snapshot of the whole storage, still encrypted, to a file (- for
standard output).

    $ vault operator raft snapshot save backup.snap`,
		setup: func(f *flagSet) runFunc { return runSnapshotSave },
	}
}

// S3-70. The file appears under its name only when it is complete.
func runSnapshotSave(c *call) error {
	if err := c.incorrect(1, 1, "1"); err != nil {
		return err
	}
	path := c.env.expand(strings.TrimSpace(c.args[0]))
	if path == "" {
		return usagef("Output file name is required")
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	client.SetClientTimeout(0) // as long as it takes
	if path == "-" {
		if err := client.Sys().RaftSnapshotWithContext(c.ctx, c.Stdio.Out); err != nil {
			return failf("Error taking the snapshot: %w", err)
		}
		return nil
	}
	if c.globals.outputCurl || c.globals.outputHCL {
		return client.Sys().RaftSnapshotWithContext(c.ctx, c.Stdio.Out)
	}
	tmp := path + ".incomplete"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // the user names it
	if err != nil {
		return failf("Error opening output file: %w", err)
	}
	err = client.Sys().RaftSnapshotWithContext(c.ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // the first error counts
		return failf("Error taking the snapshot: %w", err)
	}
	return nil
}

func snapshotRestoreCommand() command {
	return command{
		name: "operator raft snapshot restore", usage: "[options] FILE", shared: withHTTP,
		summary: "Restore the storage from a file",
		about: `Replaces the whole storage by a snapshot's. Without -force it must come from a
cluster with the same unseal keys.

    $ vault operator raft snapshot restore backup.snap`,
		setup: func(f *flagSet) runFunc {
			force := f.Bool("force", false, "Accept a snapshot of another cluster.")
			f.also("f")
			return func(c *call) error { return runSnapshotRestore(c, *force) }
		},
	}
}

func runSnapshotRestore(c *call, force bool) error {
	if err := c.incorrect(1, 1, "1"); err != nil {
		return err
	}
	path := c.env.expand(strings.TrimSpace(c.args[0]))
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		return failf("Error opening policy file: %w", err)
	}
	defer func() { _ = f.Close() }() // closed by the request already
	client, err := c.client()
	if err != nil {
		return err
	}
	client.SetClientTimeout(0)
	if err := client.Sys().RaftSnapshotRestoreWithContext(c.ctx, f, force); err != nil {
		return failf("Error installing the snapshot: %w", err)
	}
	return nil
}

func autopilotGetCommand() command {
	return command{
		name: "operator raft autopilot get-config", usage: "[options]", shared: withHTTP | withFormat,
		summary: "Show autopilot's settings",
		about:   "Shows how dead nodes are found and removed.",
		setup: func(f *flagSet) runFunc {
			f.String("dr-token", "", "token", "DR operation token, on a secondary.")
			return runAutopilotGet
		},
	}
}

func runAutopilotGet(c *call) error {
	if err := c.incorrect(0, 0, "0"); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	conf, err := client.Sys().RaftAutopilotConfigurationWithContext(c.ctx)
	if err != nil {
		return failf("%w", err)
	}
	if conf == nil {
		return nil
	}
	return c.show(conf, func() string {
		rows := [][]string{
			{"Cleanup Dead Servers", fmt.Sprint(conf.CleanupDeadServers)},
			{"Last Contact Threshold", conf.LastContactThreshold.String()},
			{"Dead Server Last Contact Threshold", conf.DeadServerLastContactThreshold.String()},
			{"Server Stabilization Time", conf.ServerStabilizationTime.String()},
			{"Min Quorum", fmt.Sprint(conf.MinQuorum)},
			{"Max Trailing Logs", fmt.Sprint(conf.MaxTrailingLogs)},
		}
		if conf.DisableUpgradeMigration {
			rows = append(rows, []string{"Disable Upgrade Migration", "true"})
		}
		return table([]string{"Key", "Value"}, rows)
	})
}

func autopilotSetCommand() command {
	return command{
		name: "operator raft autopilot set-config", usage: "[options]", shared: withHTTP,
		summary: "Change autopilot's settings",
		about: `Changes the settings given and leaves the others.

    $ vault operator raft autopilot set-config -cleanup-dead-servers=true -min-quorum=3`,
		setup: func(f *flagSet) runFunc {
			values := map[string]func() any{}
			boolean := func(name, help string) {
				p := f.Bool(name, false, help)
				values[name] = func() any { return *p }
			}
			number := func(name, help string) {
				p := f.Int(name, 0, help)
				values[name] = func() any { return *p }
			}
			duration := func(name, help string) {
				p := f.Duration(name, help)
				values[name] = func() any { return p.String() }
			}
			boolean("cleanup-dead-servers", "Remove nodes that failed.")
			boolean("disable-upgrade-migration", "Do not move to nodes of a newer version by itself.")
			number("max-trailing-logs", "How many log entries a healthy node may be behind.")
			number("min-quorum", "Number of voters below which none is removed.")
			duration("last-contact-threshold", "Silence after which a node is unhealthy.")
			duration("dead-server-last-contact-threshold", "Silence after which a node is removed.")
			duration("server-stabilization-time", "Time a new node must be healthy to get a vote.")
			f.String("dr-token", "", "token", "DR operation token, on a secondary.")
			return func(c *call) error { return runAutopilotSet(c, values) }
		},
	}
}

func runAutopilotSet(c *call, values map[string]func() any) error {
	if err := c.incorrect(0, 0, "0"); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	data := map[string]any{}
	for name, value := range values {
		if c.flags.given(name) {
			data[strings.ReplaceAll(name, "-", "_")] = value()
		}
	}
	s, err := client.Logical().WriteWithContext(c.ctx, "sys/storage/raft/autopilot/configuration", data)
	if err != nil {
		return failf("%w", err)
	}
	if s != nil {
		return c.printSecret(s)
	}
	return nil
}

func autopilotStateCommand() command {
	return command{
		name: "operator raft autopilot state", usage: "[options]", shared: withHTTP | withFormat,
		summary: "Show the raft cluster's health",
		about:   "Shows the health of the cluster and of each node, as autopilot sees it.",
		setup: func(f *flagSet) runFunc {
			f.String("dr-token", "", "token", "DR operation token, on a secondary.")
			return runAutopilotState
		},
	}
}

func runAutopilotState(c *call) error {
	if err := c.incorrect(0, 0, "0"); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	state, err := client.Sys().RaftAutopilotStateWithContext(c.ctx)
	if err != nil {
		return failf("Error checking autopilot state: %w", err)
	}
	if state == nil {
		return nil
	}
	if c.globals.format == "pretty" || c.isTable() {
		c.printf("%s", autopilotText(state))
		return nil
	}
	return c.show(state, nil)
}

func autopilotText(s *api.AutopilotState) string {
	var b strings.Builder
	line := func(indent int, key string, value any) {
		fmt.Fprintf(&b, "%-*s%-*s%v\n", indent, "", 34-indent, key+":", value)
	}
	line(0, "Healthy", s.Healthy)
	line(0, "Failure Tolerance", s.FailureTolerance)
	line(0, "Leader", s.Leader)
	if len(s.RedundancyZones) > 0 {
		line(0, "Optimistic Failure Tolerance", s.OptimisticFailureTolerance)
	}
	b.WriteString("Voters:\n")
	for _, id := range s.Voters {
		fmt.Fprintf(&b, "   %s\n", id)
	}
	if len(s.NonVoters) > 0 {
		b.WriteString("Non Voters:\n")
		for _, id := range s.NonVoters {
			fmt.Fprintf(&b, "   %s\n", id)
		}
	}
	b.WriteString("Servers:\n")
	for _, id := range sortedKeys(s.Servers) {
		n := s.Servers[id]
		fmt.Fprintf(&b, "   %s\n", id)
		line(6, "Name", n.Name)
		line(6, "Address", n.Address)
		line(6, "Status", n.Status)
		line(6, "Node Status", n.NodeStatus)
		line(6, "Healthy", n.Healthy)
		line(6, "Last Contact", n.LastContact)
		line(6, "Last Term", n.LastTerm)
		line(6, "Last Index", n.LastIndex)
		line(6, "Version", n.Version)
		if n.UpgradeVersion != "" && n.UpgradeVersion != n.Version {
			line(6, "Upgrade Version", n.UpgradeVersion)
		}
		if n.RedundancyZone != "" {
			line(6, "Redundancy Zone", n.RedundancyZone)
		}
		if n.NodeType != "" {
			line(6, "Node Type", n.NodeType)
		}
	}
	ids := func(indent int, key string, list []string) {
		if len(list) > 0 {
			line(indent, key, strings.Join(list, ", "))
		}
	}
	if len(s.RedundancyZones) > 0 {
		b.WriteString("Redundancy Zones:\n")
	}
	for _, name := range sortedKeys(s.RedundancyZones) {
		z := s.RedundancyZones[name]
		fmt.Fprintf(&b, "   %s\n", name)
		ids(6, "Servers", z.Servers)
		ids(6, "Voters", z.Voters)
		line(6, "Failure Tolerance", z.FailureTolerance)
	}
	if u := s.Upgrade; u != nil && u.Status != "idle" {
		b.WriteString("Upgrade Info:\n")
		line(3, "Status", u.Status)
		line(3, "Target Version", u.TargetVersion)
		ids(3, "Target Version Voters", u.TargetVersionVoters)
		ids(3, "Target Version Non Voters", u.TargetVersionNonVoters)
		ids(3, "Other Version Voters", u.OtherVersionVoters)
		ids(3, "Other Version Non Voters", u.OtherVersionNonVoters)
	}
	return b.String()
}
