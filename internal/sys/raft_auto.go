package sys

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"arca/internal/core"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

// autoRoutes are sys/storage/raft/snapshot-auto: snapshots by schedule, as in Vault Enterprise.
func (e *Engine) autoRoutes() []engine.Route {
	return []engine.Route{
		engine.List("storage/raft/snapshot-auto/config", e.listAuto, engine.Sudo, engine.RootOnly, engine.Help("List the schedules of snapshots.")),
		engine.Read("storage/raft/snapshot-auto/config/{name}", e.readAuto, engine.Sudo, engine.RootOnly, engine.Help("Read a schedule of snapshots.")),
		engine.Write("storage/raft/snapshot-auto/config/{name}", e.writeAuto, engine.Sudo, engine.RootOnly, engine.Help("Make snapshots by a schedule.")),
		engine.Delete("storage/raft/snapshot-auto/config/{name}", e.deleteAuto, engine.Sudo, engine.RootOnly, engine.Help("End a schedule. Its files stay.")),
		engine.Read("storage/raft/snapshot-auto/status/{name}", e.autoStatus, engine.Sudo, engine.RootOnly, engine.Help("Tell how the snapshots of a schedule went.")),
	}
}

type autoName struct {
	Name string `api:"name" help:"Name of the schedule."`
}

type autoIn struct {
	Name        string         `api:"name" help:"Name of the schedule."`
	Interval    *time.Duration `api:"interval" help:"Time between two snapshots."`
	Retain      *int           `api:"retain" help:"How many snapshots are kept; 1 if not given."`
	PathPrefix  *string        `api:"path_prefix" help:"The folder for the files, on the active node."`
	FilePrefix  *string        `api:"file_prefix" help:"Beginning of the files' names; vault-snapshot if not given."`
	StorageType *string        `api:"storage_type" help:"Where the files go: local."`
	MaxSpace    *int64         `api:"local_max_space" help:"Bytes that all files of the schedule may take; 0 for no bound."`
}

func (e *Engine) listAuto(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	names, err := core.AutoSnapshots(call.Tx)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errNotFound
	}
	return data(map[string]any{"keys": names}), nil
}

func (e *Engine) readAuto(_ context.Context, call *engine.Call, in autoName) (*engine.Response, error) {
	s, _, err := core.ReadAutoSnapshot(call.Tx, in.Name)
	if storage.IsNotFound(err) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return data(map[string]any{
		"interval": int64(s.Interval / time.Second), "retain": s.Retain, "path_prefix": s.PathPrefix, "file_prefix": s.FilePrefix,
		"storage_type": "local", "local_max_space": s.MaxSpace,
	}), nil
}

func (e *Engine) writeAuto(_ context.Context, call *engine.Call, in autoIn) (*engine.Response, error) {
	s, _, err := core.ReadAutoSnapshot(call.Tx, in.Name)
	isNew := errors.Is(err, storage.ErrNotFound)
	if isNew {
		s, err = core.AutoSnapshot{Retain: 1, FilePrefix: "vault-snapshot", Since: call.Now}, nil
	}
	if err != nil {
		return nil, err
	}
	if isNew && in.StorageType == nil {
		return nil, errs.New(errs.Invalid, "storage_type must be given: local")
	}
	if in.StorageType != nil && *in.StorageType != "local" {
		return nil, errs.New(errs.Invalid, "storage_type %q is not part of this version of arca: snapshots by schedule go to files (local)", *in.StorageType)
	}
	changed := in.Interval != nil && *in.Interval != s.Interval
	set(&s.Interval, in.Interval)
	set(&s.Retain, in.Retain)
	set(&s.PathPrefix, in.PathPrefix)
	set(&s.FilePrefix, in.FilePrefix)
	set(&s.MaxSpace, in.MaxSpace)
	switch {
	case s.Interval < time.Second:
		return nil, errs.New(errs.Invalid, "interval must be given, and be a second at least")
	case s.Retain < 1:
		return nil, errs.New(errs.Invalid, "retain must be 1 at least")
	case !filepath.IsAbs(s.PathPrefix):
		return nil, errs.New(errs.Invalid, "path_prefix must be given: the absolute path of a folder on the node that is the active one")
	case s.FilePrefix == "" || strings.ContainsAny(s.FilePrefix, "/\\\x00"):
		return nil, errs.New(errs.Invalid, "file_prefix must be the beginning of a file's name")
	case s.MaxSpace < 0:
		return nil, errs.New(errs.Invalid, "local_max_space cannot be negative")
	}
	if isNew {
		names, err := core.AutoSnapshots(call.Tx)
		if err != nil {
			return nil, err
		}
		if len(names) >= core.MaxAutoSnapshots {
			return nil, errs.New(errs.Invalid, "there are %d schedules, and no more can be made", len(names))
		}
	}
	if changed {
		s.Since = call.Now
		if err := call.Tx.Delete(core.AutoStatusKey(in.Name)); err != nil {
			return nil, err
		}
	}
	call.Tx.OnCommit(e.core.RescheduleSnapshots)
	return nil, writeStored(call.Tx, core.AutoSnapshotKey(in.Name), s)
}

func (e *Engine) deleteAuto(_ context.Context, call *engine.Call, in autoName) (*engine.Response, error) {
	if err := call.Tx.Delete(core.AutoSnapshotKey(in.Name)); err != nil {
		return nil, err
	}
	call.Tx.OnCommit(e.core.RescheduleSnapshots)
	return nil, call.Tx.Delete(core.AutoStatusKey(in.Name))
}

func (e *Engine) autoStatus(_ context.Context, call *engine.Call, in autoName) (*engine.Response, error) {
	s, st, err := core.ReadAutoSnapshot(call.Tx, in.Name)
	if storage.IsNotFound(err) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return data(map[string]any{
		"consecutive_errors": st.Errors, "last_snapshot_start": st.LastStart, "last_snapshot_end": st.LastEnd,
		"last_snapshot_error": st.LastError, "last_snapshot_url": st.URL, "next_snapshot_start": s.Due(&st),
	}), nil
}
