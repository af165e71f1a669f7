package core

import (
	"context"
	"encoding/json"

	"arca/internal/cluster"
	"arca/internal/namespace"
	"arca/internal/storage"
)

func clusterEvents(c *Core) cluster.Events {
	return cluster.Events{Follow: c.follow, Lead: c.leads, Applied: c.applied}
}

// Cluster is what this node shares with others; nil for a node that shares nothing.
func (c *Core) Cluster() *cluster.Node { return c.cfg.Cluster }

// A JoinRequest says which cluster to join, and how to reach a node of it.
type JoinRequest struct {
	Address                       string // of its API
	CACert, ClientCert, ClientKey string // PEM
	ServerName                    string
	Retry                         bool // try on until it answers
	NonVoter                      bool
}

// AutopilotKey is where the settings of autopilot lie.
const AutopilotKey = "n/" + namespace.RootID + "/config/raft-autopilot"

// steer gives the cluster its settings.
func (a *Active) steer() {
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
