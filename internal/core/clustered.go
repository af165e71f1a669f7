package core

import (
	"context"
	"encoding/json"
	"slices"

	"arca/internal/activity"
	"arca/internal/audit"
	"arca/internal/cluster"
	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
)

func clusterEvents(c *Core) cluster.Events {
	return cluster.Events{Follow: c.follow, Lead: c.leads, Applied: c.applied, Report: c.reported}
}

// A report is what a standby has seen and may not store.
type report struct {
	Clients []activity.Sighting `json:"clients,omitempty"`
	End     *audit.End          `json:"end,omitempty"` // of an audit device's chain
}

// perReport bounds the clients of one report by the room that a message has.
const perReport = cluster.MaxReport / activity.MaxSighting

// reportClients tells the active node of clients that came to this one.
func (c *Core) reportClients(ctx context.Context, seen []activity.Sighting) error {
	for part := range slices.Chunk(seen, perReport) {
		if err := c.cfg.Cluster.Report(ctx, report{Clients: part}); err != nil {
			return err
		}
	}
	return nil
}

func (c *Core) reportEnd(ctx context.Context, end audit.End) error {
	return c.cfg.Cluster.Report(ctx, report{End: &end})
}

// reported takes a standby's report.
func (c *Core) reported(ctx context.Context, what []byte) error {
	var r report
	if err := json.Unmarshal(what, &r); err != nil {
		return errs.New(errs.Invalid, "the report of another node cannot be decoded")
	}
	a, err := c.enter()
	if err != nil {
		return err
	}
	defer a.leave()
	a.Activity.Take(r.Clients)
	if r.End == nil {
		return nil
	}
	return a.Audit.Keep(ctx, *r.End)
}

// Cluster is what this node shares with others; nil for a node that shares nothing.
func (c *Core) Cluster() *cluster.Node { return c.cfg.Cluster }

// A JoinRequest says which cluster to join, and how to reach a node of it.
type JoinRequest struct {
	Address                       string // of its API
	AutoJoin                      string // a rule by which nodes are found, in place of Address
	Configured                    bool   // it stands in the configuration file: its rule may name files
	Scheme                        string // of addresses that are found; "" is https
	Port                          uint   // of those without one; 0 is 8200
	CACert, ClientCert, ClientKey string // PEM
	ServerName                    string
	Retry                         bool // try on until it answers
	NonVoter                      bool
}

// AutopilotKey is where the settings of autopilot lie.
const AutopilotKey = "n/" + namespace.RootID + "/config/raft-autopilot"

// steer gives the cluster its settings.
func (a *Active) steer() {
	if a.core.cfg.Cluster.Store() == nil {
		return
	}
	set := cluster.DefaultAutopilot()
	err := a.DB.View(a.ctx, func(tx storage.Tx) error {
		raw, err := tx.Get(AutopilotKey)
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &set)
	})
	if err != nil && !storage.IsNotFound(err) && context.Cause(a.ctx) == nil {
		a.core.log.Warn("read autopilot's settings", "error", err)
	}
	a.core.cfg.Cluster.SetAutopilot(set)
}
