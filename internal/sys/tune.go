package sys

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/mount"
	"arca/internal/param"
	"arca/internal/storage"
)

type tuneIn struct {
	Path    string             `api:"path" help:"Path of the mount."`
	Options *map[string]string `api:"options" help:"Options of the engine."`
	configIn
}

func (e *Engine) readMountTuning(_ context.Context, call *engine.Call, in pathIn) (*engine.Response, error) {
	return e.tuning(call, mount.Canonical(in.Path))
}

func (e *Engine) readAuthTuning(_ context.Context, call *engine.Call, in pathIn) (*engine.Response, error) {
	return e.tuning(call, mount.AuthPrefix+mount.Canonical(in.Path))
}

func (e *Engine) tuning(call *engine.Call, path string) (*engine.Response, error) {
	m, err := desks(call).Mounts.Get(call.Tx, ns(call), path)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "cannot fetch sysview for path %q", path)
	}
	if err != nil {
		return nil, err
	}
	out := map[string]any{
		"default_lease_ttl": seconds(m.Mount.DefaultTTL), "max_lease_ttl": seconds(m.Mount.MaxTTL),
		"force_no_cache": m.Config.ForceNoCache, "description": m.Description,
	}
	if m.Auth() {
		out["token_type"] = tokenType(&m.Config)
	}
	if len(m.Options) > 0 {
		out["options"] = m.Options
	}
	addTuning(out, &m.Config)
	if m.Config.Lockout != nil {
		addLockout(out, m.Config.Lockout)
	}
	return data(out), nil
}

func (e *Engine) tuneMount(ctx context.Context, call *engine.Call, in tuneIn) (*engine.Response, error) {
	return e.tune(ctx, call, mount.Canonical(in.Path), in)
}

func (e *Engine) tuneAuth(ctx context.Context, call *engine.Call, in tuneIn) (*engine.Response, error) {
	return e.tune(ctx, call, mount.AuthPrefix+mount.Canonical(in.Path), in)
}

func (e *Engine) tune(ctx context.Context, call *engine.Call, path string, in tuneIn) (*engine.Response, error) {
	d := desks(call)
	m, err := d.Mounts.Get(call.Tx, ns(call), path)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "tune of path %q failed: no mount entry found", path)
	}
	if err != nil {
		return nil, err
	}
	row := m.Row
	if err := e.tuneTTLs(&row, &in.configIn); err != nil {
		return nil, err
	}
	if in.TokenType != nil && !m.Auth() {
		return nil, errs.New(errs.Invalid, "'token_type' can only be modified on auth mounts")
	}
	if err := applyConfig(&row.Config, &in.configIn); err != nil {
		return nil, err
	}
	param.Take(&row.Description, in.Description)
	var old map[string]string
	options := in.Options != nil && len(*in.Options) > 0
	if options {
		old = row.Options
		row.Options, row.HasOptions = mergeOptions(old, *in.Options), true
		if err := checkVersionChange(old, *in.Options); err != nil {
			return nil, err
		}
	}
	changed, err := d.Mounts.Update(call.Tx, row)
	if err != nil {
		return nil, err
	}
	if t, ok := changed.Engine.(engine.Tuner); ok && options {
		tuned := d.CallFor(call.Tx, changed)
		if err := t.Tuned(ctx, tuned, old); err != nil {
			return nil, err
		}
		if w := tuned.Warnings(); len(w) > 0 {
			return &engine.Response{Warnings: w}, nil
		}
	}
	return nil, nil
}

// mergeOptions sets options over the old ones; an empty text removes one.
func mergeOptions(old, set map[string]string) map[string]string {
	out := make(map[string]string, len(old)+len(set))
	maps.Copy(out, old)
	maps.Copy(out, set)
	maps.DeleteFunc(out, func(name, v string) bool { return v == "" && name != "version" })
	return out
}

// checkVersionChange lets a KV mount go from version 1 to 2 and not back.
func checkVersionChange(old, set map[string]string) error {
	v, given := set["version"]
	if given && v != "1" && v != "2" {
		return errs.New(errs.Invalid, "invalid version provided: %s", v)
	}
	if given && old["version"] == "2" && v != "2" {
		return errs.New(errs.Invalid, "cannot downgrade mount from version 2")
	}
	return nil
}

// tuneTTLs checks the TTLs against one another and the system's.
func (e *Engine) tuneTTLs(row *mount.Row, in *configIn) error {
	if in.DefaultTTL == nil && in.MaxTTL == nil {
		return nil
	}
	name := strings.TrimPrefix(row.Path, mount.AuthPrefix)
	if row.Path == "cubbyhole/" || row.Path == "sys/" || row.Path == "identity/" {
		return errs.New(errs.Invalid, "cannot tune parameter default_lease_ttl of %s", name)
	}
	def, limit := row.Config.DefaultTTL, row.Config.MaxTTL
	for _, t := range []struct {
		text *string
		to   *time.Duration
	}{{in.DefaultTTL, &def}, {in.MaxTTL, &limit}} {
		if t.text == nil {
			continue
		}
		switch *t.text {
		case "":
			continue
		case "system":
			*t.to = 0
			continue
		}
		d, err := param.ParseDuration(*t.text)
		if err != nil {
			return errs.New(errs.Invalid, "%s", err.Error())
		}
		if d < 0 {
			return errs.New(errs.Invalid, "cannot provide negative value '%d'", seconds(d))
		}
		*t.to = d
	}
	_, systemMax := e.systemTTLs()
	effective := limit
	if effective == 0 {
		effective = systemMax
	}
	if def > effective {
		return errs.New(errs.Invalid, "backend max lease TTL of %d would be less than backend default lease TTL of %d",
			seconds(effective), seconds(def))
	}
	row.Config.DefaultTTL, row.Config.MaxTTL = def, limit
	return nil
}

func (e *Engine) systemTTLs() (def, limit time.Duration) {
	cfg := e.core.Config()
	return cfg.DefaultTTL, cfg.MaxTTL
}
