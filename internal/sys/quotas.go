package sys

import (
	"context"
	"errors"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/quota"
	"arca/internal/storage"
)

// quotaRoutes bound how often clients may ask, and how many leases there may be.
func (e *Engine) quotaRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("quotas/config", e.readQuotaConfig, engine.RootOnly, engine.ID("rate-limit-quotas-read-configuration"),
			engine.Help("Read what holds for all quotas.")),
		engine.Write("quotas/config", e.writeQuotaConfig, engine.RootOnly, engine.ID("rate-limit-quotas-configure"),
			engine.Help("Set what holds for all quotas.")),
		engine.List("quotas/rate-limit", listQuotas(quota.Rate), engine.RootOnly, engine.ID("rate-limit-quotas-list"), engine.Help("List the rate limits.")),
		engine.Read("quotas/rate-limit/{name}", e.readQuota, engine.RootOnly, engine.ID("rate-limit-quotas-read"), engine.Help("Read a rate limit.")),
		engine.Write("quotas/rate-limit/{name}", e.writeQuota, engine.RootOnly, engine.ID("rate-limit-quotas-write"), engine.Help("Write a rate limit.")),
		engine.Delete("quotas/rate-limit/{name}", deleteQuota(quota.Rate), engine.RootOnly, engine.ID("rate-limit-quotas-delete"),
			engine.Help("Delete a rate limit.")),
		engine.List("quotas/lease-count", listQuotas(quota.Leases), engine.RootOnly, engine.ID("lease-count-quotas-list"),
			engine.Help("List the quotas for leases.")),
		engine.Read("quotas/lease-count/{name}", e.readLeaseQuota, engine.RootOnly, engine.ID("lease-count-quotas-read"),
			engine.Help("Read a quota for leases, with how many there are.")),
		engine.Write("quotas/lease-count/{name}", e.writeLeaseQuota, engine.RootOnly, engine.ID("lease-count-quotas-write"),
			engine.Help("Bound how many leases there may be.")),
		engine.Delete("quotas/lease-count/{name}", deleteQuota(quota.Leases), engine.RootOnly, engine.ID("lease-count-quotas-delete"),
			engine.Help("Delete a quota for leases.")),
	}
}

func (e *Engine) readQuotaConfig(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	c, err := quota.ReadConfig(call.Tx)
	if err != nil {
		return nil, err
	}
	return data(map[string]any{
		"enable_rate_limit_audit_logging": c.Audit, "enable_rate_limit_response_headers": c.Headers,
		"rate_limit_exempt_paths": list(c.Exempt),
	}), nil
}

type quotaConfigIn struct {
	Audit   *bool     `api:"enable_rate_limit_audit_logging" help:"Record requests that are refused by a rate limit."`
	Headers *bool     `api:"enable_rate_limit_response_headers" help:"Tell clients how they stand."`
	Exempt  *[]string `api:"rate_limit_exempt_paths" help:"Paths that no rate limit bounds."`
}

func (e *Engine) writeQuotaConfig(_ context.Context, call *engine.Call, in quotaConfigIn) (*engine.Response, error) {
	c, err := quota.ReadConfig(call.Tx)
	if err != nil {
		return nil, err
	}
	param.Take(&c.Audit, in.Audit)
	param.Take(&c.Headers, in.Headers)
	if in.Exempt != nil {
		if len(*in.Exempt) > quota.MaxRules {
			return nil, errs.New(errs.Invalid, "more than %d paths", quota.MaxRules)
		}
		c.Exempt = *in.Exempt
	}
	return nil, quota.WriteConfig(call.Tx, c)
}

func listQuotas(kind quota.Kind) engine.Handler[paging] {
	return func(_ context.Context, call *engine.Call, in paging) (*engine.Response, error) {
		names, err := quota.Names(call.Tx, kind, in.After, in.Limit)
		if err != nil {
			return nil, err
		}
		return keys(names)
	}
}

type quotaNameIn struct {
	Name string `api:"name" help:"Name of the quota."`
}

func (e *Engine) readQuota(_ context.Context, call *engine.Call, in quotaNameIn) (*engine.Response, error) {
	r, err := quota.Get(call.Tx, quota.Rate, in.Name)
	if errors.Is(err, quota.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	by, secondary := r.Groups()
	return data(map[string]any{
		"name": r.Name, "type": "rate-limit", "path": r.Path, "role": r.Role, "rate": r.Rate, "interval": seconds(r.Interval),
		"block_interval": seconds(r.Block), "inheritable": r.Inheritable, "group_by": string(by), "secondary_rate": secondary,
	}), nil
}

type quotaIn struct {
	quotaNameIn
	Type        string         `api:"type" help:"rate-limit."`
	Path        string         `api:"path" help:"Namespace, mount or path that it holds for; all when empty."`
	Role        string         `api:"role" help:"Role of the auth method at path, for whose logins it holds."`
	Rate        float64        `api:"rate" help:"How many requests a client may make in an interval."`
	Interval    *time.Duration `api:"interval" help:"How long an interval is; one second when absent."`
	Block       time.Duration  `api:"block_interval" help:"How long a client who asks too often is kept out."`
	Inheritable *bool          `api:"inheritable" help:"Whether it holds for the namespaces below."`
	GroupBy     string         `api:"group_by" help:"Which requests count together: ip (the default), none (all), entity_then_ip, entity_then_none."`
	Secondary   float64        `api:"secondary_rate" help:"How many requests without an entity may be made in an interval, where entities are counted; rate when absent."`
}

func (e *Engine) writeQuota(_ context.Context, call *engine.Call, in quotaIn) (*engine.Response, error) {
	if !(in.Rate > 0) || in.Rate > quota.MaxRate {
		return nil, errs.New(errs.Invalid, "'rate' is invalid")
	}
	r := &quota.Rule{
		Name: in.Name, Path: in.Path, Role: in.Role, Rate: in.Rate, Interval: time.Second, Block: in.Block,
		GroupBy: quota.GroupBy(in.GroupBy), Secondary: in.Secondary,
	}
	if in.Interval != nil && *in.Interval > 0 {
		r.Interval = *in.Interval
	}
	if err := r.CheckGroups(); err != nil {
		return nil, err
	}
	if err := resolve(call, r); err != nil {
		return nil, err
	}
	if err := inherit(r, in.Inheritable); err != nil {
		return nil, err
	}
	_, err := quota.Put(call.Tx, quota.Rate, r)
	return nil, err
}

// inherit decides whether a quota holds for the namespaces below.
func inherit(r *quota.Rule, wanted *bool) error {
	switch {
	case r.Path == "":
		r.Inheritable = true // holds for all
	case wanted != nil && *wanted:
		if r.Mount != "" {
			return errs.New(errs.Invalid, "only quotas of namespaces can be configured as inheritable")
		}
		r.Inheritable = true
	}
	return nil
}

func (e *Engine) readLeaseQuota(_ context.Context, call *engine.Call, in quotaNameIn) (*engine.Response, error) {
	r, err := quota.Get(call.Tx, quota.Leases, in.Name)
	if errors.Is(err, quota.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	n, err := quota.Count(call.Tx, r.ID)
	if err != nil {
		return nil, err
	}
	return data(map[string]any{
		"name": r.Name, "type": string(quota.Leases), "path": r.Path, "role": r.Role, "max_leases": r.Max, "counter": n,
		"inheritable": r.Inheritable,
	}), nil
}

type leaseQuotaIn struct {
	quotaNameIn
	Type        string `api:"type" help:"lease-count."`
	Path        string `api:"path" help:"Namespace, mount or path that it holds for; all when empty."`
	Role        string `api:"role" help:"Role of the auth method at path, for whose logins it holds."`
	Max         int    `api:"max_leases" help:"How many leases there may be."`
	Inheritable *bool  `api:"inheritable" help:"Whether it holds for the namespaces below."`
}

func (e *Engine) writeLeaseQuota(_ context.Context, call *engine.Call, in leaseQuotaIn) (*engine.Response, error) {
	if in.Max <= 0 {
		return nil, errs.New(errs.Invalid, "'max_leases' is invalid")
	}
	r := &quota.Rule{Name: in.Name, Path: in.Path, Role: in.Role, Max: in.Max}
	if err := resolve(call, r); err != nil {
		return nil, err
	}
	if err := inherit(r, in.Inheritable); err != nil {
		return nil, err
	}
	moved, err := quota.Put(call.Tx, quota.Leases, r)
	if err != nil || !moved {
		return nil, err
	}
	return nil, desks(call).AssignLeases(call.Tx, call.Now)
}

// resolve finds what a quota's path means: a namespace, then a mount, then a path.
func resolve(call *engine.Call, r *quota.Rule) error {
	if r.Path == "" {
		if r.Role != "" {
			return errs.New(errs.Invalid, "'path' is required with 'role'")
		}
		return nil
	}
	d := desks(call)
	p, err := d.Namespaces.Resolve(call.Tx, "")
	if err == nil {
		err = d.Namespaces.Descend(call.Tx, &p, strings.TrimPrefix(r.Path, "/"))
	}
	if err != nil {
		return err
	}
	r.Namespace = p.Namespace.Path
	if p.Rest == "" {
		return nil
	}
	m, rest, err := d.Mounts.Route(call.Tx, p.Namespace.ID, strings.TrimSuffix(p.Rest, "*"))
	if errors.Is(err, storage.ErrNotFound) {
		return errs.New(errs.Invalid, "invalid mount path %q", r.Path)
	}
	if err != nil {
		return err
	}
	r.Mount, r.Below = m.Path, rest
	if strings.HasSuffix(p.Rest, "*") {
		r.Below += "*"
	}
	if r.Role == "" {
		return nil
	}
	if m.Routes == nil || !m.Routes.NamesRoles() {
		return errs.New(errs.Invalid, "Mount path %q does not support use with role-based quotas", r.Path)
	}
	return nil
}

func deleteQuota(kind quota.Kind) engine.Handler[quotaNameIn] {
	return func(_ context.Context, call *engine.Call, in quotaNameIn) (*engine.Response, error) {
		moved, err := quota.Delete(call.Tx, kind, in.Name)
		if err != nil || !moved {
			return nil, err
		}
		return nil, desks(call).AssignLeases(call.Tx, call.Now)
	}
}
