package server

import (
	"context"

	"arca/internal/core"
	"arca/internal/errs"
	"arca/internal/server/migrate"
)

// openTarget opens the storage_destination of the configuration, as its files have it now.
func (n *node) openTarget(ctx context.Context) (*core.Target, error) {
	cfg, _, err := n.configure()
	if err != nil {
		return nil, err
	}
	if cfg.Destination == nil {
		return nil, errs.New(errs.Invalid, `the configuration names no target: add a stanza like storage_destination "postgresql" { connection_url = "…" }`)
	}
	return migrate.OpenTarget(ctx, n.cfg.Storage, cfg.Destination, n.clusterAddr(), n.log.Named("migration"))
}
