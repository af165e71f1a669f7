package server

import (
	"os"
	"os/signal"
	"strings"
	"syscall"

	"arca/internal/cluster"
	"arca/internal/errs"
	"arca/internal/server/stores"
	"arca/internal/storage/remote"
	"arca/internal/token"
	"arca/internal/version"
)

// openShared opens a database, and makes this node one that may share it.
func (n *node) openShared() error {
	s, log := n.cfg.Storage, n.log.Named("storage")
	shared, err := stores.Shared(s)
	if err != nil {
		return errs.New(errs.Invalid, "%s: %w", s.Pos, err)
	}
	lock := s
	if n.cfg.HAStorage != nil {
		lock, shared = n.cfg.HAStorage, true
	}
	if shared && n.cfg.DisableClustering {
		return errs.New(errs.Invalid, "disable_clustering cannot be set where nodes share a storage (ha_enabled): standbys send requests to the active node")
	}
	cfg := remote.Config{Name: s.Type, Node: nodeName(), Log: log}
	share := cluster.Config{
		NodeID: cfg.Node, APIAddr: n.apiAddr(), ClusterAddr: n.clusterAddr(), Version: version.Compat(n.cfg.CompatVersion),
		Log: n.log.Named("cluster"), Serve: n.serveForwarded,
	}
	if shared {
		if share.Address, err = cluster.HostPort(share.ClusterAddr); err != nil {
			return err
		}
		if share.Bind, err = n.clusterBinds(); err != nil {
			return err
		}
		cfg.Address = share.Address
	}
	ctx, stop := signal.NotifyContext(n.ctx, os.Interrupt, syscall.SIGTERM) // it may read a lot, and nobody else listens yet
	defer stop()
	if cfg.Driver, err = stores.Open(ctx, s, log); err != nil {
		return err
	}
	if shared {
		if cfg.Lock, err = stores.OpenLock(n.ctx, lock, log); err != nil {
			_ = cfg.Driver.Close() // nothing was written
			return err
		}
	}
	store := remote.New(cfg)
	share.Shared = store
	n.store, n.cluster = store, cluster.New(share)
	return nil
}

// nodeName tells a node from others on the same database. It is a new one with each start: nothing is kept on its disk.
func nodeName() string {
	const random = 8
	host, err := os.Hostname()
	if err != nil {
		host = "node"
	}
	return host + "-" + strings.ToLower(token.Random(random))
}
