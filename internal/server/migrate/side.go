package migrate

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"arca/internal/cluster"
	"arca/internal/config"
	"arca/internal/core"
	"arca/internal/errs"
	"arca/internal/server/stores"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
	"arca/internal/storage/raft"
	"arca/internal/storage/remote"
)

// A side is one of the two stores, which nobody else uses.
type side struct {
	storage.Backend
	fresh func(ctx context.Context) error // whether nobody does yet
	close func() error
}

// OpenTarget opens the storage that a server's own goes over to. clusterAddr is that of the node with which storage "raft"
// begins.
func OpenTarget(ctx context.Context, source, s *config.Storage, clusterAddr string, log *slog.Logger) (*core.Target, error) {
	if err := apart(source, s); err != nil {
		return nil, err
	}
	to, err := open(ctx, s, &config.Migration{Destination: s, ClusterAddr: clusterAddr}, true, log)
	if err != nil {
		return nil, err
	}
	return &core.Target{Backend: to.Backend, Type: s.Type, Fresh: to.fresh, End: to.close}, nil
}

// apart refuses a target in the source's folder, or around it: who empties one would empty the other.
func apart(source, target *config.Storage) error {
	if stores.Known(source.Type) || stores.Known(target.Type) || source.Path() == "" || target.Path() == "" {
		return nil
	}
	a, b := realPath(source.Path()), realPath(target.Path())
	if isBelow(a, b) || isBelow(b, a) {
		return errs.New(errs.Invalid, "%s: the folder %q is that of the source, or one lies in the other: name another", target.Pos, target.Path())
	}
	return nil
}

// realPath resolves as much of a path as there is.
func realPath(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	for rest := ""; ; {
		if real, err := filepath.EvalSymlinks(abs); err == nil {
			return filepath.Join(real, rest)
		}
		if abs == filepath.Dir(abs) {
			return filepath.Join(abs, rest)
		}
		abs, rest = filepath.Dir(abs), filepath.Join(filepath.Base(abs), rest)
	}
}

func isBelow(path, folder string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// leadTime bounds how long it takes to have a store to ourselves.
const leadTime = 30 * time.Second

func open(ctx context.Context, s *config.Storage, cfg *config.Migration, write bool, log *slog.Logger) (*side, error) {
	switch {
	case strings.HasPrefix(s.Type, "inmem"):
		return nil, errs.New(errs.Invalid, "%s: storage %q keeps nothing when its server ends", s.Pos, s.Type)
	case stores.Known(s.Type):
		return openDatabase(ctx, s, log)
	}
	if !write {
		if err := present(s); err != nil {
			return nil, err
		}
	}
	if s.Type == "raft" {
		return openRaft(ctx, s, cfg, write, log)
	}
	b, err := pebble.Open(pebble.Config{Dir: s.Path(), Logger: log})
	if err != nil {
		return nil, errs.New(errs.KindOf(err), "%s: %w", s.Pos, err)
	}
	return &side{Backend: b, fresh: func(context.Context) error { return nil }, close: b.Close}, nil
}

// present checks that a folder is there, and of the kind file that it is a storage: one is made where there is none.
func present(s *config.Storage) error {
	if _, err := os.Stat(s.Path()); err != nil {
		return errs.New(errs.Invalid, "%s: there is no storage: %w", s.Pos, err)
	}
	if s.Type == "raft" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(s.Path(), "arca.storage")); err != nil {
		return errs.New(errs.Invalid, "%s: the folder %q is no storage of arca: %w", s.Pos, s.Path(), err)
	}
	return nil
}

// openDatabase takes the fence, as a server would.
func openDatabase(ctx context.Context, s *config.Storage, log *slog.Logger) (*side, error) {
	d, err := stores.Open(ctx, s, log)
	if err != nil {
		return nil, err
	}
	h, err := d.Holder(ctx)
	if err == nil && h.ID != "" && h.Left > 0 {
		err = errs.New(errs.Precondition, "%s: a server uses this storage, or was killed a moment ago: stop it, and try again in %s (%s)",
			s.Pos, h.Left.Round(time.Second), h.Value)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	store := remote.New(remote.Config{Driver: d, Name: s.Type, Node: "operator migrate", Log: log})
	ctx, cancel := context.WithTimeout(ctx, leadTime)
	defer cancel()
	if err := store.Start(ctx); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	if err := store.Fresh(ctx); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &side{Backend: store, fresh: store.Fresh, close: store.Close}, nil
}

// openRaft leads a cluster of this node alone.
func openRaft(ctx context.Context, s *config.Storage, cfg *config.Migration, write bool, log *slog.Logger) (*side, error) {
	address := "127.0.0.1:8201" // of a source; nobody is told
	if write {
		if cfg.ClusterAddr == "" {
			return nil, errs.New(errs.Invalid, `%s: storage "raft" needs a cluster_addr in the file, beside the stanzas: the address at which other nodes will find this one`, s.Pos)
		}
		var err error
		if address, err = cluster.HostPort(cfg.ClusterAddr); err != nil {
			return nil, err
		}
	}
	keep := stores.KeepNodeID
	if !write {
		keep = stores.NodeID
	}
	id, err := keep(s.Path(), s.Options["node_id"])
	if err != nil {
		return nil, errs.New(errs.KindOf(err), "%s: %w", s.Pos, err)
	}
	store, err := raft.Open(raft.Config{Dir: s.Path(), NodeID: id, Log: log})
	if err != nil {
		return nil, errs.New(errs.KindOf(err), "%s: %w", s.Pos, err)
	}
	if err := lone(store, id, write); err != nil {
		return nil, errors.Join(errs.New(errs.Precondition, "%s: %w", s.Pos, err), store.Close())
	}
	n := cluster.New(cluster.Config{Store: store, NodeID: id, Address: address, ClusterAddr: cfg.ClusterAddr, Log: log})
	n.Bind(cluster.Events{Follow: func() {}, Lead: func() {}, Applied: func(storage.Change) error { return nil }})
	ctx, cancel := context.WithTimeout(ctx, leadTime)
	defer cancel()
	if err := n.Bootstrap(ctx); err != nil {
		n.Stop()
		return nil, errors.Join(err, store.Close())
	}
	return &side{Backend: store, fresh: store.Fresh, close: func() error {
		n.Stop()
		return store.Close()
	}}, nil
}

// lone checks that a node has its cluster to itself: what others have cannot be known here.
func lone(store *raft.Store, id string, write bool) error {
	peers, err := store.NextPeers()
	switch {
	case err != nil:
		return err
	case write && len(peers) > 0 && peers[0].ID != id, len(peers) > 1:
		return errs.New(errs.Precondition, "the folder belongs to a cluster of %d nodes; only one that is the only node of its cluster can be copied: remove the others first (operator raft remove-peer), or have it begin anew alone (operator raft recover)", len(peers))
	case !write && !store.HasPeers():
		return errs.New(errs.Precondition, "the folder holds no cluster: it is empty, or was never initialised")
	}
	return nil
}
