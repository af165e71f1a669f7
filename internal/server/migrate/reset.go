package migrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"arca/internal/config"
	"arca/internal/errs"
	"arca/internal/seal"
	"arca/internal/storage"
)

// A left is a store that was marked as migrated while servers used it.
type left struct {
	*seal.MigratedError
	cluster string // its id
}

// reset gives back a source that is marked. Unless the target is said to be lost, it must be seen there, and lack the last step.
//
// Both are looked at as they are found, and again when nobody else can write to them: what is refused at first sight is left
// as it was, with its fence, its log and its peers.json. (A mark that only a node's log has is seen when that node leads.)
func reset(ctx context.Context, cfg *config.Migration, lost bool, log *slog.Logger) (was bool, err error) {
	if err := apart(cfg.Source, cfg.Destination); err != nil {
		return false, err
	}
	o := opener{node: commandName, log: log}
	from, err := o.open(ctx, cfg.Source, toGiveBack)
	if err != nil {
		return false, fmt.Errorf("source: %w", err)
	}
	defer func() { err = errors.Join(err, from.close()) }()
	mark, err := found(ctx, from)
	if from.logged && mark == nil && (err == nil || errors.Is(err, errNoSource)) {
		mark, err = ledMark(ctx, from)
	}
	if mark == nil {
		return false, err
	}
	if !lost {
		to, err := half(ctx, o, cfg.Destination, mark)
		if err != nil {
			return false, err
		}
		defer func() { // it stays ours until the source is given back
			if err := to.close(); err != nil {
				log.Warn("close the target", "error", err)
			}
		}()
	}
	switch again, err := ledMark(ctx, from); {
	case err != nil:
		return false, err
	case again == nil, again.ID != mark.ID, again.Done && !lost:
		return false, errs.New(errs.Conflict, "the source is another than it was at first sight: try again")
	}
	if was, err = seal.UnmarkMigrated(ctx, from); err != nil {
		return false, err
	}
	return was, nil
}

// found returns what the mark of a source says; nil where there is none.
func found(ctx context.Context, from *side) (*left, error) {
	if _, err := from.Get(ctx, seal.ConfigKey); storage.IsNotFound(err) {
		return nil, errNoSource
	}
	who, mark, err := seal.IdentifyLeft(ctx, from)
	if err != nil {
		return nil, fmt.Errorf("read the source: %w", err)
	}
	if mark == nil {
		return nil, nil
	}
	return &left{mark, who.ID}, nil
}

// ledMark is found of a source that nobody else writes to any more.
func ledMark(ctx context.Context, from *side) (*left, error) {
	if err := from.own(ctx); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	return found(ctx, from)
}

// half opens the target of the migration that left a mark, and takes it from others. It is known by the mark's id, and has no seal's
// configuration.
func half(ctx context.Context, o opener, where *config.Storage, mark *left) (to *side, err error) {
	switch {
	case mark.Done:
		return nil, errs.New(errs.Precondition, "the migration is complete: the servers are to be started on the target. %s", goBack)
	case mark.To != where.Type:
		return nil, errs.New(errs.Precondition, "%s: the storage was migrated to %q, not to %q: name that target", where.Pos, mark.To, where.Type)
	}
	if to, err = o.open(ctx, where, toLookAt); err != nil {
		return nil, fmt.Errorf("target, which must be seen not to be in use (a path: on the machine of the node that was the active one): %w", err)
	}
	if !to.logged {
		err = unfinished(ctx, to, where, mark)
	}
	if err == nil {
		err = to.own(ctx)
	}
	if err == nil {
		err = to.fresh(ctx)
	}
	if err == nil {
		err = unfinished(ctx, to, where, mark)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("target: %w", err), to.close())
	}
	return to, nil
}

const goBack = "To go back, migrate from there; only where the target is lost, -target-lost gives the source back, without what was written to the target"

// unfinished returns an error unless a store is the target of the migration that left a mark, and is without a seal's
// configuration.
func unfinished(ctx context.Context, to storage.Backend, where *config.Storage, mark *left) error {
	switch _, err := to.Get(ctx, seal.ConfigKey); {
	case err == nil:
		return initialised(ctx, to, where, mark)
	case !storage.IsNotFound(err):
		return fmt.Errorf("read it: %w", err)
	}
	id, err := to.Get(ctx, seal.TargetKey)
	switch {
	case err != nil && !storage.IsNotFound(err):
		return fmt.Errorf("read it: %w", err)
	case err != nil, mark.ID == "", string(id) != mark.ID:
		return errs.New(errs.Precondition, "%s: it is not the target that the storage was copied to, which may be complete: name that; only where it is lost, say so (-target-lost)", where.Pos)
	}
	return nil
}

// initialised says what a store is that has a seal's configuration, where a target without one was expected.
func initialised(ctx context.Context, to storage.Backend, where *config.Storage, mark *left) error {
	who, moved, err := seal.IdentifyLeft(ctx, to)
	if err != nil {
		return fmt.Errorf("read it: %w", err)
	}
	switch {
	case who.ID != mark.cluster:
		return errs.New(errs.Precondition, "%s: it is not the target: it is initialised, and of another cluster (%s, the source is of %s)", where.Pos, who.ID, mark.cluster)
	case moved != nil && moved.ID == mark.ID:
		return errs.New(errs.Precondition, "%s: it is not the target: it is the source, or a copy of it", where.Pos)
	case moved != nil:
		return errs.New(errs.Precondition, "%s: it is initialised, and was itself migrated, to %s at %s: "+
			"if it is the one that the source was copied to, the migration is complete; else name that", where.Pos, moved.To, moved.At.Format(time.RFC3339))
	}
	return errs.New(errs.Precondition, "%s: it is initialised, and of the same cluster: "+
		"if it is the one that the source was copied to, the migration is complete: the servers are to be started on it; else name that. %s", where.Pos, goBack)
}
