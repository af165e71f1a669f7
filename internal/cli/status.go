package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// sealStatus is what status and unseal print as JSON: the seal's state and,
// when the node is open, its part in the cluster.
type sealStatus struct {
	api.SealStatusResponse
	HAEnabled                bool       `json:"ha_enabled"`
	IsSelf                   bool       `json:"is_self,omitempty"`
	ActiveTime               *time.Time `json:"active_time,omitempty"`
	LeaderAddress            string     `json:"leader_address,omitempty"`
	LeaderClusterAddress     string     `json:"leader_cluster_address,omitempty"`
	PerfStandby              bool       `json:"performance_standby,omitempty"`
	PerfStandbyLastRemoteWAL uint64     `json:"performance_standby_last_remote_wal,omitempty"`
	LastWAL                  uint64     `json:"last_wal,omitempty"`
	RaftCommittedIndex       uint64     `json:"raft_committed_index,omitempty"`
	RaftAppliedIndex         uint64     `json:"raft_applied_index,omitempty"`
}

func statusCommand() command {
	return command{
		name: "status", usage: "[options]", shared: withHTTP | withFormat,
		summary: "Show whether the server is sealed",
		about: `Shows the server's seal and cluster state. Exit code 0: unsealed, 2: sealed,
1: error.`,
		setup: func(f *flagSet) runFunc { return runStatus },
	}
}

// S3-7, S4-19, S4-22, S4-24
func runStatus(c *call) error {
	if err := c.exactly(0); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return usagef("%w", err)
	}
	// The question itself works with every namespace, but only in the root.
	client.ClearNamespace()
	status, err := client.Sys().SealStatusWithContext(c.ctx)
	if err != nil {
		return usagef("Error checking seal status: %w", err)
	}
	if err := c.printSealStatus(client, status); err != nil {
		return usagef("%w", err)
	}
	if status.Sealed {
		return exit(exitFailure)
	}
	return nil
}

// printSealStatus adds the cluster's state to a seal status and prints both.
func (c *call) printSealStatus(client *api.Client, status *api.SealStatusResponse) error {
	full := &sealStatus{SealStatusResponse: *status}
	leader, err := client.Sys().LeaderWithContext(c.ctx)
	switch {
	case err != nil && strings.Contains(err.Error(), "Vault is sealed"):
		full.HAEnabled = true // a sealed node answers so only where there is a cluster
	case err != nil:
		return fmt.Errorf("Error checking leader status: %w", err)
	default:
		full.addLeader(leader)
	}
	if c.isTable() {
		c.printWarnings(status.Warnings)
	}
	return c.show(full, func() string { return table([]string{"Key", "Value"}, full.rows()) })
}

func (s *sealStatus) addLeader(l *api.LeaderResponse) {
	s.HAEnabled, s.IsSelf = l.HAEnabled, l.IsSelf
	s.LeaderAddress, s.LeaderClusterAddress = l.LeaderAddress, l.LeaderClusterAddress
	s.PerfStandby, s.PerfStandbyLastRemoteWAL, s.LastWAL = l.PerfStandby, l.PerfStandbyLastRemoteWAL, l.LastWAL
	s.RaftCommittedIndex, s.RaftAppliedIndex = l.RaftCommittedIndex, l.RaftAppliedIndex
	if !l.ActiveTime.IsZero() {
		s.ActiveTime = &l.ActiveTime
	}
}

// rows are the lines of the table; scripts compare them whole.
func (s *sealStatus) rows() [][]string {
	var rows [][]string
	row := func(key string, value any) { rows = append(rows, []string{key, fmt.Sprint(value)}) }
	sealPrefix := ""
	row("Seal Type", s.Type)
	if s.RecoverySeal {
		sealPrefix = "Recovery "
		if s.RecoverySealType != "" {
			row("Recovery Seal Type", s.RecoverySealType)
		}
	}
	row("Initialized", s.Initialized)
	row("Sealed", s.Sealed)
	row("Total "+sealPrefix+"Shares", s.N)
	row("Threshold", s.T)
	if s.Sealed {
		row("Unseal Progress", fmt.Sprintf("%d/%d", s.Progress, s.T))
		row("Unseal Nonce", s.Nonce)
	}
	if s.Migration {
		row("Seal Migration in Progress", true)
	}
	row("Version", s.Version)
	row("Build Date", s.BuildDate)
	row("Storage Type", s.StorageType)
	if s.ClusterName != "" {
		row("Cluster Name", s.ClusterName)
	}
	if s.ClusterID != "" {
		row("Cluster ID", s.ClusterID)
	}
	if s.RemovedFromCluster != nil && *s.RemovedFromCluster {
		row("Removed From Cluster", true)
	}
	row("HA Enabled", s.HAEnabled)
	if s.HAEnabled && !s.Sealed {
		rows = append(rows, s.clusterRows()...)
	}
	return rows
}

func (s *sealStatus) clusterRows() [][]string {
	var rows [][]string
	row := func(key string, value any) { rows = append(rows, []string{key, fmt.Sprint(value)}) }
	row("HA Cluster", s.LeaderClusterAddress)
	if s.IsSelf {
		row("HA Mode", "active")
		if s.ActiveTime != nil {
			row("Active Since", s.ActiveTime.Format(time.RFC3339Nano))
		}
	} else {
		row("HA Mode", "standby")
		if s.LeaderAddress != "" && !s.PerfStandby {
			row("Active Node Address", s.LeaderAddress)
		}
		if s.PerfStandby {
			row("Performance Standby Node", true)
			row("Performance Standby Last Remote WAL", s.PerfStandbyLastRemoteWAL)
		}
	}
	if s.RaftCommittedIndex > 0 {
		row("Raft Committed Index", s.RaftCommittedIndex)
	}
	if s.RaftAppliedIndex > 0 {
		row("Raft Applied Index", s.RaftAppliedIndex)
	}
	if s.LastWAL > 0 {
		row("Last WAL", s.LastWAL)
	}
	return rows
}
