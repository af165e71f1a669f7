package migrate

import (
	"context"
	"errors"
	"log/slog"
	"maps"
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
	// lead takes the right to write from others; it is called once, by own. Until then the store can be read, and nothing is
	// written to it.
	lead   func(ctx context.Context) error
	led    bool
	logged bool                            // what is read before may lack what a log has: of raft
	fresh  func(ctx context.Context) error // whether nobody else does yet: of the kind Conflict where one does
	close  func() error
}

// own sees to it that nobody else can write any more.
func (s *side) own(ctx context.Context) error {
	if s.led {
		return nil
	}
	s.led = true
	return s.lead(ctx)
}

// A use is what a store is opened for.
type use int

const (
	toCopy     use = iota // from there
	toFill                // it is made where there is none
	toGiveBack            // as the source of -reset
	toLookAt              // as the target of -reset
)

// An opener opens storages.
type opener struct {
	node        string // that others are told as the user of a database
	clusterAddr string // of the node with which storage "raft" begins
	log         *slog.Logger
}

// commandName is the user of a database that the command opens.
const commandName = "operator migrate"

// OpenTarget opens the storage that a server's own goes over to. clusterAddr is that of the node with which storage "raft"
// begins.
func OpenTarget(ctx context.Context, source, s *config.Storage, clusterAddr string, log *slog.Logger) (*core.Target, error) {
	if err := apart(source, s); err != nil {
		return nil, err
	}
	o := opener{node: "a server that migrates its storage to this one", clusterAddr: clusterAddr, log: log}
	to, err := o.find(ctx, s, toFill)
	if err != nil {
		return nil, err
	}
	if err := to.own(ctx); err != nil {
		return nil, errors.Join(err, to.close())
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

// folderTime bounds how long a folder takes to open: its file system may hang.
const folderTime = 2 * time.Minute

// open is find for the command, which ends when it is told to, also where a file system hangs.
func (o opener) open(ctx context.Context, s *config.Storage, u use) (*side, error) {
	if stores.Known(s.Type) {
		return o.find(ctx, s, u)
	}
	brief, cancel := context.WithTimeout(ctx, folderTime)
	defer cancel()
	found, err := core.Outlast(brief, func() (*side, error) { return o.find(brief, s, u) }, func(late *side) { _ = late.close() })
	if errors.Is(err, core.ErrHangs) {
		return nil, errs.New(errs.Unavailable, "%s: the folder %q does not open, as when its file system hangs: try again when that is over", s.Pos, s.Path())
	}
	return found, err
}

// ours opens a storage, and leads it.
func (o opener) ours(ctx context.Context, s *config.Storage, u use) (*side, error) {
	found, err := o.open(ctx, s, u)
	if err != nil {
		return nil, err
	}
	if err := found.own(ctx); err != nil {
		return nil, errors.Join(err, found.close())
	}
	return found, nil
}

// find opens a storage, and does not lead it yet.
func (o opener) find(ctx context.Context, s *config.Storage, u use) (*side, error) {
	switch {
	case strings.HasPrefix(s.Type, "inmem"):
		return nil, errs.New(errs.Invalid, "%s: storage %q keeps nothing when its server ends", s.Pos, s.Type)
	case stores.Known(s.Type):
		return o.findDatabase(ctx, s, u)
	}
	if u != toFill {
		if err := present(s); err != nil {
			return nil, err
		}
	}
	if s.Type == "raft" {
		return o.findRaft(s, u)
	}
	b, err := pebble.Open(pebble.Config{Dir: s.Path(), Logger: o.log})
	if err != nil {
		return nil, errs.New(errs.KindOf(err), "%s: %w", s.Pos, err)
	}
	nothing := func(context.Context) error { return nil }
	return &side{Backend: b, lead: nothing, fresh: nothing, close: b.Close}, nil
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

// findDatabase opens a database that no server uses. Who leads it takes the fence, as a server would.
func (o opener) findDatabase(ctx context.Context, s *config.Storage, u use) (*side, error) {
	if u != toFill {
		s = asItIs(s)
	}
	d, err := stores.Open(ctx, s, o.log)
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
	store := remote.New(remote.Config{Driver: d, Name: s.Type, Node: o.node, Log: o.log})
	lead := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, leadTime)
		defer cancel()
		if err := store.Start(ctx); err != nil {
			return err
		}
		return store.Fresh(ctx)
	}
	return &side{Backend: store, lead: lead, fresh: func(ctx context.Context) error { return unshared(store.Fresh(ctx)) }, close: store.Close}, nil
}

// unshared gives the error of a store that others have taken the kind Conflict.
func unshared(err error) error {
	if errors.Is(err, remote.ErrFenced) {
		return errs.New(errs.Conflict, "a server was started on this storage meanwhile, end it (%w)", err)
	}
	return err
}

// asItIs is a stanza without the right to make what is missing, where its kind of database knows of that.
func asItIs(s *config.Storage) *config.Storage {
	if s.Type != "postgresql" {
		return s
	}
	as := *s
	as.Options = maps.Clone(s.Options)
	as.Options["skip_create_table"] = "true"
	return &as
}

// findRaft opens the folder of a node. Who leads it leads a cluster of this node alone.
func (o opener) findRaft(s *config.Storage, u use) (*side, error) {
	address := "127.0.0.1:8201" // of what is there; nobody is told
	keep := stores.NodeID
	if u == toFill {
		keep = stores.KeepNodeID
		if o.clusterAddr == "" {
			return nil, errs.New(errs.Invalid, `%s: storage "raft" needs a cluster_addr in the file, beside the stanzas: the address at which other nodes will find this one`, s.Pos)
		}
		var err error
		if address, err = cluster.HostPort(o.clusterAddr); err != nil {
			return nil, err
		}
	}
	id, err := keep(s.Path(), s.Options["node_id"])
	if err != nil {
		return nil, errs.New(errs.KindOf(err), "%s: %w", s.Pos, err)
	}
	store, err := raft.Open(raft.Config{Dir: s.Path(), NodeID: id, Log: o.log})
	if err != nil {
		return nil, errs.New(errs.KindOf(err), "%s: %w", s.Pos, err)
	}
	if err := lone(store, id, u); err != nil {
		return nil, errors.Join(errs.New(errs.Precondition, "%s: %w", s.Pos, err), store.Close())
	}
	n := cluster.New(cluster.Config{Store: store, NodeID: id, Address: address, ClusterAddr: o.clusterAddr, Log: o.log})
	n.Bind(cluster.Events{Follow: func() {}, Lead: func() {}, Applied: func(storage.Change) error { return nil }})
	lead := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, leadTime)
		defer cancel()
		return n.Bootstrap(ctx)
	}
	return &side{Backend: store, lead: lead, logged: true, fresh: store.Fresh, close: func() error {
		n.Stop()
		return store.Close()
	}}, nil
}

// lone checks that a node has its cluster to itself: what others have cannot be known here.
func lone(store *raft.Store, id string, u use) error {
	next, left, err := store.NextPeers()
	switch {
	case err != nil:
		return err
	case left && u != toGiveBack:
		return errs.New(errs.Precondition, "the folder has a peers.json, with which its node is to begin anew: start its server once, or remove the file, first")
	case u == toFill && len(next) > 0 && next[0].ID != id, len(next) > 1:
		return errs.New(errs.Precondition, "the folder belongs to a cluster of %d nodes; only one that is the only node of its cluster can be copied: remove the others first (operator raft remove-peer), or have it begin anew alone (operator raft recover)", len(next))
	case u != toFill && !store.HasPeers():
		return errs.New(errs.Precondition, "the folder holds no cluster: it is empty, or was never initialised")
	}
	return nil
}
