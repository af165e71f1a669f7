package sys

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/lease"
	"arca/internal/namespace"
)

// Bounds on the listing of irrevocable leases, as Vault's documentation of sys/leases
// has them, but for "none", which here is bounded, too.
const (
	defaultIrrevocable = 10_000
	maxIrrevocable     = 100_000
)

type countIn struct {
	Type    string `api:"type" help:"irrevocable"`
	Include bool   `api:"include_child_namespaces" help:"Count those of the namespaces below, too."`
}

type listIn struct {
	countIn
	Limit string `api:"limit" help:"At most so many, 10000 when absent; \"none\" for all, up to 100000."`
	Force bool   `api:"force" help:"As limit=none."`
}

func (in *listIn) limit() (int, error) {
	switch {
	case in.Force, in.Limit == "none":
		return maxIrrevocable, nil
	case in.Limit == "":
		return defaultIrrevocable, nil
	}
	n, err := strconv.Atoi(in.Limit)
	if err != nil || n < 1 {
		return 0, errs.New(errs.Invalid, "limit must be 'none' or a positive number")
	}
	return min(n, maxIrrevocable), nil
}

func (e *Engine) listIrrevocable(ctx context.Context, call *engine.Call, in listIn) (*engine.Response, error) {
	if !strings.EqualFold(in.Type, "irrevocable") {
		return nil, errNotFound
	}
	limit, err := in.limit()
	if err != nil {
		return nil, err
	}
	out := []map[string]any{}
	count := 0
	err = in.each(ctx, call, func(ns, id, accessor string) error {
		if count++; count > limit {
			return nil
		}
		l, err := lease.Get(call.Tx, ns, id)
		if errors.Is(err, lease.ErrNotFound) {
			return nil
		}
		if err == nil {
			out = append(out, map[string]any{"lease_id": id, "mount_id": accessor, "error": l.Error})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	res := data(map[string]any{"lease_count": count, "leases": out})
	if count > limit {
		res.Warn(fmt.Sprintf("There are %d irrevocable leases; the first %d are listed. Ask for more with limit, of at most %d.", count, limit, maxIrrevocable))
	}
	return res, nil
}

func (e *Engine) countLeases(ctx context.Context, call *engine.Call, in countIn) (*engine.Response, error) {
	if !strings.EqualFold(in.Type, "irrevocable") {
		return nil, errNotFound
	}
	counts := map[string]int{}
	count := 0
	err := in.each(ctx, call, func(_, _, accessor string) error {
		count++
		if accessor != "" {
			counts[accessor]++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return data(map[string]any{"lease_count": count, "counts": counts}), nil
}

// each goes over the irrevocable leases, with the accessors of their mounts, "" where
// these are gone. It keeps none of them, and ends with ctx.
func (in *countIn) each(ctx context.Context, call *engine.Call, fn func(ns, id, accessor string) error) error {
	d := desks(call)
	n := 0
	within := func(ns *namespace.Namespace) error {
		path, accessor := "\x00", "" // of the mount of the lease before: leases of one stand together
		for id, err := range lease.Irrevocable(call.Tx, ns.ID) {
			if err != nil {
				return err
			}
			if n++; n%1024 == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if !strings.HasPrefix(id, path) {
				path, accessor = "\x00", ""
				if m, _, err := d.Mounts.Route(call.Tx, ns.ID, id); err == nil {
					path, accessor = m.Path, m.Accessor
				}
			}
			if err := fn(ns.ID, id, accessor); err != nil {
				return err
			}
		}
		return nil
	}
	here, err := d.Namespaces.ByID(call.Tx, ns(call))
	if err != nil {
		return err
	}
	if in.Include {
		return d.Namespaces.Subtree(call.Tx, here, within)
	}
	return within(here)
}
