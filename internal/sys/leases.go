package sys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/lease"
	"arca/internal/token"
)

// leaseRoutes are sys/leases and the older paths that Vault still answers.
func (e *Engine) leaseRoutes() []engine.Route {
	tidied := engine.Help("Remove records that nothing refers to any more.")
	return []engine.Route{
		engine.Read("leases", e.listIrrevocable, engine.Sudo, engine.ID("leases-list"), engine.Help("List leases of a kind (type=irrevocable).")),
		engine.Read("leases/count", e.countLeases, engine.ID("leases-count"), engine.Help("Count leases of a kind (type=irrevocable).")),
		engine.Write("leases/lookup", e.lookupLease, engine.ID("leases-read-lease"), engine.Help("Tell about a lease.")),
		engine.List("leases/lookup/{prefix...}", e.listLeases, engine.Sudo, engine.ID("leases-look-up"), engine.Help("List leases below a path.")),
		engine.Write("leases/renew", e.renewLease, engine.ID("leases-renew-lease"), engine.Help("Renew a lease.")),
		engine.Write("leases/renew/{url_lease_id...}", e.renewLease, engine.ID("leases-renew-lease-with-id"), engine.Help("Renew a lease.")),
		engine.Write("leases/revoke", e.revokeLease, engine.ID("leases-revoke-lease"), engine.Help("Revoke a lease.")),
		engine.Write("leases/revoke/{url_lease_id...}", e.revokeLease, engine.ID("leases-revoke-lease-with-id"), engine.Help("Revoke a lease.")),
		engine.Write("leases/revoke-prefix/{prefix...}", e.revokePrefix, engine.Sudo, engine.ID("leases-revoke-lease-with-prefix"),
			engine.Help("Revoke all leases and tokens below a path.")),
		engine.Write("leases/revoke-force/{prefix...}", e.revokeForce, engine.Sudo, engine.ID("leases-force-revoke-lease-with-prefix"),
			engine.Help("Revoke all leases below a path, whatever their engine says.")),
		engine.Write("leases/tidy", e.tidyLeases, engine.ID("leases-tidy"), tidied),
		engine.Write("renew", e.renewLease, engine.ID("leases-renew-lease2"), engine.Help("Renew a lease.")),
		engine.Write("renew/{url_lease_id...}", e.renewLease, engine.ID("leases-renew-lease-with-id2"), engine.Help("Renew a lease.")),
		engine.Write("revoke", e.revokeLease, engine.ID("leases-revoke-lease2"), engine.Help("Revoke a lease.")),
		engine.Write("revoke/{url_lease_id...}", e.revokeLease, engine.ID("leases-revoke-lease-with-id2"), engine.Help("Revoke a lease.")),
		engine.Write("revoke-prefix/{prefix...}", e.revokePrefix, engine.Sudo, engine.ID("leases-revoke-lease-with-prefix2"),
			engine.Help("Revoke all leases and tokens below a path.")),
		engine.Write("revoke-force/{prefix...}", e.revokeForce, engine.Sudo, engine.ID("leases-force-revoke-lease-with-prefix2"),
			engine.Help("Revoke all leases below a path, whatever their engine says.")),
	}
}

type leaseIn struct {
	ID        string        `api:"lease_id" help:"Id of the lease."`
	URL       string        `api:"url_lease_id" help:"Id of the lease, in the path."`
	Increment time.Duration `api:"increment" help:"How long it shall live from now."`
	Sync      bool          `api:"sync" help:"Answer when it is done."`
}

func (in *leaseIn) id() (string, error) {
	if in.ID == "" {
		in.ID = in.URL
	}
	if in.ID == "" {
		return "", errs.New(errs.Invalid, "lease_id must be specified")
	}
	return strings.Trim(in.ID, "/"), nil
}

func when(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func (e *Engine) lookupLease(_ context.Context, call *engine.Call, in leaseIn) (*engine.Response, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	l, err := lease.Get(call.Tx, ns(call), id)
	if err == nil {
		return data(map[string]any{
			"id": id, "path": l.Path(), "issue_time": when(l.Issued), "expire_time": when(l.Expires),
			"last_renewal": when(l.LastRenewal), "renewable": l.Renewable, "ttl": ttlSeconds(l.Expires, call.Now),
		}), nil
	}
	if !errors.Is(err, lease.ErrNotFound) {
		return nil, err
	}
	t, err := desks(call).Tokens.ByLease(call.Tx, ns(call), id, call.Now)
	if isBad(err) {
		return nil, errs.New(errs.Invalid, "invalid lease")
	}
	if err != nil {
		return nil, err
	}
	return data(map[string]any{
		"id": id, "path": t.Path, "issue_time": when(t.Created), "expire_time": when(t.Expires),
		"last_renewal": when(t.LastRenewal), "renewable": t.Renewable, "ttl": ttlSeconds(t.Expires, call.Now),
	}), nil
}

// ttlSeconds is the rest of a life in whole seconds, rounded to the nearest.
func ttlSeconds(expires, now time.Time) int64 {
	if expires.IsZero() {
		return 0
	}
	return int64(expires.Sub(now).Round(time.Second) / time.Second)
}

type prefixIn struct {
	Prefix string `api:"prefix" help:"Path of the leases."`
	Sync   *bool  `api:"sync"`
	paging
}

func (e *Engine) listLeases(_ context.Context, call *engine.Call, in prefixIn) (*engine.Response, error) {
	prefix := in.Prefix
	if prefix != "" {
		prefix += "/"
	}
	secrets, err := lease.List(call.Tx, ns(call), prefix, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	tokens, err := desks(call).Tokens.ListLeases(call.Tx, ns(call), prefix, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	all := append(secrets, tokens...)
	slices.Sort(all)
	all = slices.Compact(all)
	if in.Limit > 0 && len(all) > in.Limit {
		all = all[:in.Limit]
	}
	return keys(all)
}

func (e *Engine) renewLease(ctx context.Context, call *engine.Call, in leaseIn) (*engine.Response, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	d := desks(call)
	l, err := lease.Get(call.Tx, ns(call), id)
	if errors.Is(err, lease.ErrNotFound) {
		if _, tokErr := d.Tokens.ByLease(call.Tx, ns(call), id, call.Now); tokErr == nil {
			return nil, errs.New(errs.Invalid, "tokens cannot be renewed through this endpoint")
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	res, err := d.RenewLease(ctx, call.Tx, l, in.Increment, call.Now)
	if err != nil {
		return nil, err
	}
	res.LeaseID = id
	return res, nil
}

func (e *Engine) revokeLease(ctx context.Context, call *engine.Call, in leaseIn) (*engine.Response, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	d := desks(call)
	l, err := lease.Get(call.Tx, ns(call), id)
	if err == nil {
		return nil, d.RevokeLease(ctx, call.Tx, l, false)
	}
	if !errors.Is(err, lease.ErrNotFound) {
		return nil, err
	}
	t, err := d.Tokens.ByLease(call.Tx, ns(call), id, call.Now)
	if isBad(err) {
		return nil, nil // gone already
	}
	if err != nil {
		return nil, err
	}
	return nil, d.Tokens.Revoke(call.Tx, t, call.Now)
}

func (e *Engine) revokePrefix(ctx context.Context, call *engine.Call, in prefixIn) (*engine.Response, error) {
	return revokeBelow(ctx, call, in.Prefix, false)
}

func (e *Engine) revokeForce(ctx context.Context, call *engine.Call, in prefixIn) (*engine.Response, error) {
	return revokeBelow(ctx, call, in.Prefix, true)
}

func revokeBelow(ctx context.Context, call *engine.Call, prefix string, force bool) (*engine.Response, error) {
	if prefix == "" {
		return nil, errs.New(errs.Invalid, "prefix must be specified")
	}
	queued, err := desks(call).RevokeBelow(ctx, call.Tx, ns(call), strings.TrimSuffix(prefix, "/")+"/", force, call.Now)
	if err != nil || !queued {
		return nil, err
	}
	return &engine.Response{Accepted: true, Warnings: []string{"There are very many leases; they are revoked in the background."}}, nil
}

const (
	tidyStarted = "Tidy operation successfully started. Any information from the operation will be printed to Vault's server logs."
	tidyRunning = "Tidy operation already in progress."
)

func (e *Engine) tidyLeases(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	return e.tidy(call), nil
}

// tidy starts the background's look for records that nothing refers to, of which a
// namespace has one at a time.
func (e *Engine) tidy(call *engine.Call) *engine.Response {
	d := desks(call)
	id := ns(call)
	if d.Tidying(id) {
		return &engine.Response{Bare: true, Warnings: []string{tidyRunning}}
	}
	call.After(func() {
		d.Tidy(id, func(ctx context.Context) {
			removed, err := token.TidyAll(ctx, d.DB, d.Tokens, id)
			if err != nil && ctx.Err() == nil {
				e.core.Config().Log.Error("tidy", "error", err)
				return
			}
			e.core.Config().Log.Info("tidy done", "removed", fmt.Sprint(removed))
		})
	})
	return &engine.Response{Accepted: true, Warnings: []string{tidyStarted}}
}
