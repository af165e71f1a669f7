package approle

import (
	"context"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/grant"
)

// A field is a role's option with a path of its own.
type field struct {
	path string
	show func(r *role, out map[string]any)
	// reset brings it back to its default.
	reset func(r *role)
	given func(in *roleIn) bool
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// pick is a show that takes one member of what is told of the whole grant.
func pick(names ...string) func(*role, map[string]any) {
	return func(r *role, out map[string]any) {
		all := map[string]any{}
		r.Show(all)
		for _, n := range names {
			if v, ok := all[n]; ok {
				out[n] = v
			}
		}
	}
}

func fields() []field {
	return []field{
		{
			"policies", pick("token_policies", "policies"),
			func(r *role) { r.Policies, r.Old = nil, nil },
			func(in *roleIn) bool { return in.Params.Policies != nil || in.OldPolicies != nil },
		},
		{
			"bind-secret-id", func(r *role, out map[string]any) { out["bind_secret_id"] = r.BindSecretID },
			func(r *role) { r.BindSecretID = true },
			func(in *roleIn) bool { return in.BindSecretID != nil },
		},
		{
			"secret-id-bound-cidrs", func(r *role, out map[string]any) { out["secret_id_bound_cidrs"] = r.shownCIDRs() },
			func(r *role) { r.SecretCIDRs, r.HasCIDRs = nil, false },
			func(in *roleIn) bool { return in.SecretCIDRs != nil },
		},
		{
			"bound-cidr-list", func(r *role, out map[string]any) { out["bound_cidr_list"] = r.shownCIDRs() },
			func(r *role) { r.SecretCIDRs, r.HasCIDRs = nil, false },
			func(in *roleIn) bool { return in.OldCIDRs != nil },
		},
		{
			"token-bound-cidrs", pick("token_bound_cidrs"),
			func(r *role) { r.BoundCIDRs = nil },
			func(in *roleIn) bool { return in.BoundCIDRs != nil },
		},
		{
			"secret-id-num-uses", func(r *role, out map[string]any) { out["secret_id_num_uses"] = r.SecretNumUses },
			func(r *role) { r.SecretNumUses = 0 },
			func(in *roleIn) bool { return in.SecretNumUses != nil },
		},
		{
			"secret-id-ttl", func(r *role, out map[string]any) { out["secret_id_ttl"] = seconds(r.SecretTTL) },
			func(r *role) { r.SecretTTL = 0 },
			func(in *roleIn) bool { return in.SecretTTL != nil },
		},
		{
			"token-num-uses", pick("token_num_uses"),
			func(r *role) { r.NumUses = 0 },
			func(in *roleIn) bool { return in.NumUses != nil },
		},
		{
			"token-ttl", pick("token_ttl"),
			func(r *role) { r.TTL = 0 },
			func(in *roleIn) bool { return in.TTL != nil },
		},
		{
			"token-max-ttl", pick("token_max_ttl"),
			func(r *role) { r.MaxTTL = 0 },
			func(in *roleIn) bool { return in.MaxTTL != nil },
		},
		{
			"period", pick("token_period", "period"),
			func(r *role) { r.Period, r.Old = 0, nil },
			func(in *roleIn) bool { return in.Period != nil || in.OldPeriod != nil },
		},
		{
			"local-secret-ids", func(r *role, out map[string]any) { out["local_secret_ids"] = r.Local },
			nil,
			nil,
		},
	}
}

func (e *Engine) fieldRoutes() []engine.Route {
	var routes []engine.Route
	for _, f := range fields() {
		path := "role/{role_name}/" + f.path
		routes = append(routes, engine.Read(path, f.read, engine.Help("Read this option of the role.")))
		if f.given != nil {
			routes = append(routes,
				engine.Write(path, f.write, engine.Help("Set this option of the role.")),
				engine.Delete(path, f.delete, engine.Help("Set this option of the role back.")))
		}
	}
	return routes
}

func (f field) read(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	r, err := existing(call.Tx, in.Name)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	f.show(r, out)
	return &engine.Response{Data: out}, nil
}

func (f field) write(_ context.Context, call *engine.Call, in roleIn) (*engine.Response, error) {
	r, err := existing(call.Tx, in.Name)
	if err != nil {
		return nil, err
	}
	if !f.given(&in) {
		return nil, errs.New(errs.Invalid, "missing the option's value")
	}
	if f.path == "token-max-ttl" && in.MaxTTL != nil && *in.MaxTTL > 0 && *in.MaxTTL < r.TTL {
		return nil, errs.New(errs.Invalid, "token_max_ttl should be greater than or equal to token_ttl")
	}
	// Only this option: what else came is not this path's.
	one := roleIn{Params: grant.Params{}}
	f.copy(&one, &in)
	if _, err := r.apply(&one); err != nil {
		return nil, err
	}
	return nil, r.put(call.Tx, in.Name, r.RoleID)
}

// copy takes the members that belong to the option.
func (f field) copy(to, in *roleIn) {
	switch f.path {
	case "policies":
		to.Params.Policies, to.OldPolicies = in.Params.Policies, in.OldPolicies
	case "bind-secret-id":
		to.BindSecretID = in.BindSecretID
	case "secret-id-bound-cidrs":
		to.SecretCIDRs = in.SecretCIDRs
	case "bound-cidr-list":
		to.OldCIDRs = in.OldCIDRs
	case "token-bound-cidrs":
		to.BoundCIDRs = in.BoundCIDRs
	case "secret-id-num-uses":
		to.SecretNumUses = in.SecretNumUses
	case "secret-id-ttl":
		to.SecretTTL = in.SecretTTL
	case "token-num-uses":
		to.NumUses = in.NumUses
	case "token-ttl":
		to.TTL = in.TTL
	case "token-max-ttl":
		to.MaxTTL = in.MaxTTL
	case "period":
		to.Period, to.OldPeriod = in.Period, in.OldPeriod
	}
}

func (f field) delete(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	r, err := existing(call.Tx, in.Name)
	if err != nil {
		return nil, err
	}
	f.reset(r)
	if err := r.bound(); err != nil {
		return nil, err
	}
	return nil, r.put(call.Tx, in.Name, r.RoleID)
}
