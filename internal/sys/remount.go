package sys

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/google/uuid"

	"arca/internal/core"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/lease"
	"arca/internal/mount"
	"arca/internal/storage"
)

// remountRoutes move mounts.
func (e *Engine) remountRoutes() []engine.Route {
	return []engine.Route{
		engine.Write("remount", e.remount, engine.TopLevel, engine.Sudo, engine.ID("remount"),
			engine.Help("Move a mount to another path, with all its data.")),
		engine.Read("remount/status/{migration_id}", e.remountStatus, engine.ID("remount-status"), engine.Help("Tell how far a move is.")),
	}
}

type remountIn struct {
	From string `api:"from" help:"Path of the mount."`
	To   string `api:"to" help:"Its new path."`
}

// move is the record of a move, kept for who asks how it went.
type move struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// remount moves a mount within the request's transaction: its data lies under
// its id, so that nothing else has to move. Its leases and tokens, which carry
// the old path, are revoked as Vault does.
func (e *Engine) remount(ctx context.Context, call *engine.Call, in remountIn) (*engine.Response, error) {
	from, to, err := checkMove(in)
	if err != nil {
		return nil, err
	}
	d := desks(call)
	m, err := d.Mounts.Get(call.Tx, ns(call), from)
	if errors.Is(err, storage.ErrNotFound) || err == nil && m.Ending {
		return nil, errs.New(errs.Invalid, "no matching mount at %q", from)
	}
	if err != nil {
		return nil, err
	}
	if err := notNamespace(call, to); err != nil {
		return nil, err
	}
	used, err := d.Mounts.InUse(call.Tx, ns(call), to)
	if err != nil {
		return nil, err
	}
	if used != "" {
		return nil, errs.New(errs.Invalid, "path already in use at %q", used)
	}
	queued, err := d.RevokeBelow(ctx, call.Tx, m.NamespaceID, m.Path, false, call.Now)
	if err != nil {
		return nil, err
	}
	if queued { // their ids tell the old path: whoever disables the mount later would not find them
		return nil, errs.New(errs.Conflict, "%q has very many leases, which end with a move: revoke them first (lease revoke -prefix %s), and move it when they are gone", m.Path, m.Path)
	}
	if err := d.MoveMount(call.Tx, m, to, call.Now); err != nil {
		return nil, err
	}
	id := uuid.NewString()
	raw, err := json.Marshal(move{From: from, To: to})
	if err != nil {
		return nil, err
	}
	if err := call.Tx.Put(core.MoveKey(ns(call), id), raw); err != nil {
		return nil, err
	}
	// The record is of use for a day.
	item := lease.Item{Due: call.Now.AddDate(0, 0, 1), Kind: core.MoveKind, NS: ns(call), ID: id}
	if err := lease.Schedule(call.Tx, item); err != nil {
		return nil, err
	}
	call.Warn("Mount move has been queued. Progress will be reported in Vault's server log, tagged with the returned migration_id")
	return data(map[string]any{"migration_id": id}), nil
}

func checkMove(in remountIn) (from, to string, err error) {
	if in.From == "" || in.To == "" {
		return "", "", errs.New(errs.Invalid, "both 'from' and 'to' path must be specified as a string")
	}
	if strings.TrimSpace(in.From) != in.From {
		return "", "", errs.New(errs.Invalid, "'from' path cannot contain trailing whitespace")
	}
	if strings.TrimSpace(in.To) != in.To {
		return "", "", errs.New(errs.Invalid, "'to' path cannot contain trailing whitespace")
	}
	from, to = mount.Canonical(in.From), mount.Canonical(in.To)
	if slices.Contains([]string{"auth/token/", "sys/", "cubbyhole/", "identity/"}, from) {
		return "", "", errs.New(errs.Invalid, "cannot remount %q", from)
	}
	fromAuth, toAuth := strings.HasPrefix(from, mount.AuthPrefix), strings.HasPrefix(to, mount.AuthPrefix)
	switch {
	case fromAuth && !toAuth:
		return "", "", errs.New(errs.Invalid, "cannot remount auth mount to non-auth mount %q", to)
	case !fromAuth && toAuth:
		return "", "", errs.New(errs.Invalid, "cannot remount secrets mount to auth mount %q", to)
	}
	for _, r := range []string{"sys/", "cubbyhole/", "identity/", "audit/", "auth/token/"} {
		if strings.HasPrefix(to, r) {
			return "", "", errs.New(errs.Invalid, "cannot remount to destination %s", to)
		}
	}
	return from, to, nil
}

type moveIn struct {
	ID string `api:"migration_id" help:"What sys/remount answered."`
}

func (e *Engine) remountStatus(_ context.Context, call *engine.Call, in moveIn) (*engine.Response, error) {
	raw, err := call.Tx.Get(core.MoveKey(ns(call), in.ID))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	var m move
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	return data(map[string]any{
		"migration_id":   in.ID,
		"migration_info": map[string]any{"source_mount": m.From, "target_mount": m.To, "status": "success"},
	}), nil
}
