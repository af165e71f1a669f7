package sys

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/param"
	"arca/internal/storage"
	"arca/internal/version"
)

// mountRoutes are sys/mounts: the secrets engines.
func (e *Engine) mountRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("mounts", e.listMounts, engine.TopLevel, engine.ID("mounts-list-secrets-engines"),
			engine.Help("List the currently mounted backends.")),
		engine.Read("mounts/{path...}", e.readMount, engine.TopLevel, engine.ID("mounts-read-configuration"),
			engine.Help("Read the configuration of the secrets engine at a path.")),
		engine.Write("mounts/{path...}", e.enableMount, engine.NoParamWarn, engine.ID("mounts-enable-secrets-engine"),
			engine.Help("Enable a secrets engine at a path.")),
		engine.Delete("mounts/{path...}", e.disableMount, engine.ID("mounts-disable-secrets-engine"),
			engine.Help("Disable the secrets engine at a path and remove all its data.")),
		engine.Read("mounts/{path...}/tune", e.readMountTuning, engine.TopLevel, engine.ID("mounts-read-tuning-information"),
			engine.Help("Read the tuning of the mount at a path.")),
		engine.Write("mounts/{path...}/tune", e.tuneMount, engine.NoParamWarn, engine.ID("mounts-tune-configuration-parameters"),
			engine.Help("Tune the mount at a path.")),
	}
}

// authRoutes are sys/auth: the auth methods.
func (e *Engine) authRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("auth", e.listAuth, engine.TopLevel, engine.ID("auth-list-enabled-methods"), engine.Help("List the enabled auth methods.")),
		engine.Read("auth/{path...}", e.readAuth, engine.TopLevel, engine.Sudo, engine.ID("auth-read-configuration"),
			engine.Help("Read the configuration of the auth method at a path.")),
		engine.Write("auth/{path...}", e.enableAuth, engine.Sudo, engine.NoParamWarn, engine.ID("auth-enable-method"),
			engine.Help("Enable an auth method at a path.")),
		engine.Delete("auth/{path...}", e.disableAuth, engine.Sudo, engine.ID("auth-disable-method"),
			engine.Help("Disable the auth method at a path: its tokens are revoked.")),
		engine.Read("auth/{path...}/tune", e.readAuthTuning, engine.TopLevel, engine.Sudo, engine.ID("auth-read-tuning-information"),
			engine.Help("Read the tuning of the auth method at a path.")),
		engine.Write("auth/{path...}/tune", e.tuneAuth, engine.Sudo, engine.NoParamWarn, engine.ID("auth-tune-configuration-parameters"),
			engine.Help("Tune the auth method at a path.")),
	}
}

// describe is a mount as sys/mounts and sys/auth show it.
func (e *Engine) describe(m *mount.Entry) map[string]any {
	c := &m.Config
	config := map[string]any{
		"default_lease_ttl": seconds(c.DefaultTTL), "max_lease_ttl": seconds(c.MaxTTL), "force_no_cache": c.ForceNoCache,
	}
	if m.Auth() {
		config["token_type"] = tokenType(c)
	}
	addTuning(config, c)
	if c.Lockout != nil {
		lockout := map[string]any{}
		addLockout(lockout, c.Lockout)
		config["user_lockout_config"] = lockout
	}
	var options any
	if m.HasOptions || len(m.Options) > 0 {
		options = m.Options
		if m.Options == nil {
			options = map[string]string{}
		}
	}
	out := map[string]any{
		"type": shownType(m), "description": m.Description, "accessor": m.Accessor, "uuid": m.ID, "local": m.Local,
		"seal_wrap":               m.SealWrap || m.Path == "sys/", // critical values of sys are wrapped whenever the seal can
		"external_entropy_access": m.EntropyAccess, "options": options, "config": config,
		"plugin_version": "", "running_plugin_version": runningVersion(), "running_sha256": "",
	}
	if !m.Hall {
		out["deprecation_status"] = "supported"
	}
	return out
}

// shownType is the type of a mount in answers: what every namespace has is
// marked outside the root.
func shownType(m *mount.Entry) string {
	if m.Hall && m.NamespaceID != namespace.RootID {
		return "ns_" + m.Type
	}
	return m.Type
}

// runningVersion is the version of the engines, which are all built in.
func runningVersion() string { return "v" + version.Compat("") + ".builtin.vault" }

func tokenType(c *mount.Config) string {
	if c.TokenType == "" {
		return engine.TokenDefaultService.String()
	}
	return c.TokenType
}

func addTuning(out map[string]any, c *mount.Config) {
	lists := map[string][]string{
		"audit_non_hmac_request_keys": c.AuditRequestKeys, "audit_non_hmac_response_keys": c.AuditResponseKeys,
		"passthrough_request_headers": c.PassthroughHeaders, "allowed_response_headers": c.ResponseHeaders,
		"allowed_managed_keys": c.ManagedKeys, "delegated_auth_accessors": c.DelegatedAccessors,
	}
	for name, list := range lists {
		if len(list) > 0 {
			out[name] = list
		}
	}
	if c.ListingVisibility != "" {
		out["listing_visibility"] = c.ListingVisibility
	}
	if c.IdentityTokenKey != "" {
		out["identity_token_key"] = c.IdentityTokenKey
	}
}

func addLockout(out map[string]any, l *mount.Lockout) {
	out["user_lockout_threshold"], out["user_lockout_duration"] = l.Threshold, seconds(l.Duration)
	out["user_lockout_counter_reset_duration"], out["user_lockout_disable"] = seconds(l.CounterReset), l.Disable
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

func (e *Engine) list(call *engine.Call, auth bool) (*engine.Response, error) {
	ms, err := desks(call).Mounts.List(call.Tx, ns(call), auth)
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(ms))
	for _, m := range ms {
		out[strings.TrimPrefix(m.Path, prefixOf(auth))] = e.describe(m)
	}
	return data(out), nil
}

func prefixOf(auth bool) string {
	if auth {
		return mount.AuthPrefix
	}
	return ""
}

func (e *Engine) listMounts(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	return e.list(call, false)
}

func (e *Engine) listAuth(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	return e.list(call, true)
}

type pathIn struct {
	Path string `api:"path" help:"Path of the mount."`
}

func (e *Engine) readMount(_ context.Context, call *engine.Call, in pathIn) (*engine.Response, error) {
	return e.read(call, in.Path, false, "No secret engine mount at %s")
}

func (e *Engine) readAuth(_ context.Context, call *engine.Call, in pathIn) (*engine.Response, error) {
	return e.read(call, in.Path, true, "No auth engine at %s")
}

func (e *Engine) read(call *engine.Call, path string, auth bool, missing string) (*engine.Response, error) {
	if path == "" || strings.HasSuffix(path, "/") {
		return nil, engine.ErrPath
	}
	m, err := desks(call).Mounts.Get(call.Tx, ns(call), prefixOf(auth)+mount.Canonical(path))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, missing, mount.Canonical(path))
	}
	if err != nil {
		return nil, err
	}
	return data(e.describe(m)), nil
}

type enableIn struct {
	Path          string            `api:"path" help:"Where to mount."`
	Type          string            `api:"type" help:"Type of the engine, such as kv or approle."`
	Description   string            `api:"description" help:"What the mount is for."`
	Config        json.RawMessage   `api:"config" help:"Tuning of the mount."`
	Options       map[string]string `api:"options" help:"Options of the engine, such as version for kv."`
	Local         bool              `api:"local" help:"Do not replicate the mount."`
	SealWrap      bool              `api:"seal_wrap" help:"Have its values wrapped by the seal, where that is not Shamir's."`
	EntropyAccess bool              `api:"external_entropy_access" help:"Give it the seal's entropy."`
	PluginName    string            `api:"plugin_name"`
	PluginVersion string            `api:"plugin_version"`
}

// configIn is the object "config" of an enable request, and the body of tune.
type configIn struct {
	DefaultTTL         *string         `api:"default_lease_ttl" help:"Default life of tokens and leases; \"system\" for the system's."`
	MaxTTL             *string         `api:"max_lease_ttl" help:"Longest life of tokens and leases; \"system\" for the system's."`
	ForceNoCache       *bool           `api:"force_no_cache"`
	Description        *string         `api:"description" help:"What the mount is for."`
	AuditRequestKeys   *[]string       `api:"audit_non_hmac_request_keys" help:"Request members that audit devices show in clear."`
	AuditResponseKeys  *[]string       `api:"audit_non_hmac_response_keys" help:"Answer members that audit devices show in clear."`
	ListingVisibility  *string         `api:"listing_visibility" help:"unauth lists the mount to who has no token; hidden does not."`
	PassthroughHeaders *[]string       `api:"passthrough_request_headers" help:"Headers that the engine may see."`
	ResponseHeaders    *[]string       `api:"allowed_response_headers" help:"Headers that the engine may set."`
	TokenType          *string         `api:"token_type" help:"Type of the tokens that the method gives."`
	ManagedKeys        *[]string       `api:"allowed_managed_keys"`
	DelegatedAccessors *[]string       `api:"delegated_auth_accessors"`
	IdentityTokenKey   *string         `api:"identity_token_key"`
	Lockout            json.RawMessage `api:"user_lockout_config" help:"When users are locked out."`
	PluginName         string          `api:"plugin_name"`
	PluginVersion      *string         `api:"plugin_version"`
}

func (e *Engine) enableMount(ctx context.Context, call *engine.Call, in enableIn) (*engine.Response, error) {
	return e.enable(ctx, call, in, false)
}

func (e *Engine) enableAuth(ctx context.Context, call *engine.Call, in enableIn) (*engine.Response, error) {
	return e.enable(ctx, call, in, true)
}

// reserved are the paths below which nothing can be mounted.
var reserved = []string{"auth/", "sys/", "cubbyhole/", "identity/", "audit/"}

func (e *Engine) enable(ctx context.Context, call *engine.Call, in enableIn, auth bool) (*engine.Response, error) {
	if in.Path == "" {
		return nil, engine.ErrPath
	}
	row, err := e.newRow(in, auth)
	if err != nil {
		return nil, err
	}
	// The command line sends null for none, and sees it again.
	row.HasOptions = string(call.Request.Params.Get("options")) != "null"
	shown := mount.Canonical(in.Path)
	if !auth {
		for _, r := range reserved {
			if strings.HasPrefix(shown, r) {
				return nil, errs.New(errs.Invalid, "cannot mount %q", shown)
			}
		}
	}
	d := desks(call)
	used, err := d.Mounts.InUse(call.Tx, ns(call), row.Path)
	if err != nil {
		return nil, err
	}
	if used != "" {
		return nil, errs.New(errs.Invalid, "path is already in use at %s", strings.TrimPrefix(used, prefixOf(auth)))
	}
	if err := notNamespace(call, row.Path); err != nil {
		return nil, err
	}
	if row.SealWrap {
		if err := e.seal.WantWrap(ctx); err != nil {
			return nil, err
		}
	}
	m, err := d.Mounts.Create(ctx, call.Tx, ns(call), *row)
	if err != nil {
		return nil, err
	}
	if p, ok := m.Engine.(engine.Mounter); ok {
		return nil, p.Mounted(ctx, d.CallFor(call.Tx, m))
	}
	return nil, nil
}

// kinds that exist once in each namespace and cannot be mounted.
var single = []string{"cubbyhole", "identity", "system", "ns_system", "ns_cubbyhole", "ns_identity"}

func (e *Engine) newRow(in enableIn, auth bool) (*mount.Row, error) {
	cfg, err := parseConfig(in.Config, auth)
	if err != nil {
		return nil, err
	}
	typ := in.Type
	if typ == "plugin" {
		if in.PluginName == "" {
			return nil, errs.New(errs.Invalid, "plugin_name must be provided for plugin backend")
		}
		typ = in.PluginName
	}
	row := &mount.Row{
		Path: prefixOf(auth) + mount.Canonical(in.Path), Type: typ, Description: in.Description, Options: in.Options,
		Local: in.Local, SealWrap: in.SealWrap, EntropyAccess: in.EntropyAccess, Config: *cfg,
	}
	if typ == "kv-v1" || typ == "kv-v2" {
		row.Type = "kv"
		if row.Options == nil {
			row.Options = map[string]string{}
		}
		row.Options["version"] = strings.TrimPrefix(typ, "kv-v")
	}
	if row.Type == "generic" {
		row.Type = "kv"
	}
	return row, e.checkType(row, auth)
}

func (e *Engine) checkType(row *mount.Row, auth bool) error {
	switch {
	case row.Type == "":
		return errs.New(errs.Invalid, "backend type must be specified as a string")
	case auth && row.Type == "token":
		return errs.New(errs.Invalid, "token credential backend cannot be instantiated")
	case !auth && slices.Contains(single, row.Type):
		return errs.New(errs.Invalid, "mount type of %q is not mountable", row.Type)
	}
	if _, _, ok := e.core.Catalog().Find(auth, row.Type, row.Options); !ok {
		return errs.New(errs.Invalid, "plugin not found in the catalog: %s", row.Type)
	}
	return nil
}

// configSchema decodes the inner object.
var configSchema = param.NewSchemaOf[configIn]()

func parseConfig(raw json.RawMessage, auth bool) (*mount.Config, error) {
	cfg := &mount.Config{}
	if len(raw) == 0 || string(raw) == "null" {
		return cfg, nil
	}
	if raw[0] != '{' {
		return nil, errs.New(errs.Invalid, "Field validation failed: error converting input for field \"config\": '' expected type 'map[string]interface {}', got unconvertible type '%s'", param.GoType(raw))
	}
	obj, err := param.ParseObject(raw)
	if err != nil {
		return nil, err
	}
	var in configIn
	if _, _, err := configSchema.Decode(param.Input{Body: obj}, &in); err != nil {
		return nil, err
	}
	for _, t := range []struct {
		what string
		text *string
		to   *time.Duration
	}{{"default", in.DefaultTTL, &cfg.DefaultTTL}, {"max", in.MaxTTL, &cfg.MaxTTL}} {
		if t.text == nil || *t.text == "" || *t.text == "system" {
			continue
		}
		if *t.to, err = param.ParseDuration(*t.text); err != nil {
			return nil, errs.New(errs.Invalid, "unable to parse %s TTL of %s: %s", t.what, *t.text, err.Error())
		}
		if *t.to < 0 {
			return nil, errs.New(errs.Invalid, "unable to parse %s TTL of %s: cannot provide negative value", t.what, *t.text)
		}
	}
	if cfg.MaxTTL > 0 && cfg.DefaultTTL > cfg.MaxTTL {
		return nil, errs.New(errs.Invalid, "given default lease TTL greater than given max lease TTL")
	}
	if !auth {
		in.TokenType = nil
	}
	return cfg, applyConfig(cfg, &in)
}

// applyConfig copies what was given, except for the TTLs.
func applyConfig(c *mount.Config, in *configIn) error {
	param.Take(&c.ForceNoCache, in.ForceNoCache)
	param.Take(&c.AuditRequestKeys, in.AuditRequestKeys)
	param.Take(&c.AuditResponseKeys, in.AuditResponseKeys)
	param.Take(&c.PassthroughHeaders, in.PassthroughHeaders)
	param.Take(&c.ResponseHeaders, in.ResponseHeaders)
	param.Take(&c.ManagedKeys, in.ManagedKeys)
	param.Take(&c.DelegatedAccessors, in.DelegatedAccessors)
	param.Take(&c.IdentityTokenKey, in.IdentityTokenKey)
	if v := in.ListingVisibility; v != nil {
		switch *v {
		case "", "unauth", "hidden":
			c.ListingVisibility = *v
		default:
			return errs.New(errs.Invalid, "invalid listing_visibility %s", *v)
		}
	}
	if v := in.TokenType; v != nil {
		switch *v {
		case "", "default-service", "default-batch", "service", "batch":
			c.TokenType = *v
		default:
			return errs.New(errs.Invalid, "invalid value for 'token_type'")
		}
	}
	if len(in.Lockout) > 0 {
		return applyLockout(c, in.Lockout)
	}
	return nil
}

type lockoutIn struct {
	Threshold    *string        `api:"lockout_threshold"`
	Duration     *time.Duration `api:"lockout_duration"`
	CounterReset *time.Duration `api:"lockout_counter_reset_duration"`
	Disable      *bool          `api:"lockout_disable"`
}

var lockoutSchema = param.NewSchemaOf[lockoutIn]()

func applyLockout(c *mount.Config, raw json.RawMessage) error {
	obj, err := param.ParseObject(raw)
	if err != nil {
		return err
	}
	var in lockoutIn
	if _, _, err := lockoutSchema.Decode(param.Input{Body: obj}, &in); err != nil {
		return err
	}
	l := mount.Lockout{}
	if c.Lockout != nil {
		l = *c.Lockout
	}
	if in.Threshold != nil {
		n, err := strconv.ParseUint(*in.Threshold, 10, 64)
		if err != nil {
			return errs.New(errs.Invalid, "unable to parse user lockout threshold: %s", err.Error())
		}
		l.Threshold = n
	}
	param.Take(&l.Duration, in.Duration)
	param.Take(&l.CounterReset, in.CounterReset)
	param.Take(&l.Disable, in.Disable)
	c.Lockout = &l
	return nil
}

func (e *Engine) disableMount(ctx context.Context, call *engine.Call, in pathIn) (*engine.Response, error) {
	path := mount.Canonical(in.Path)
	for _, r := range []string{"auth/", "sys/", "cubbyhole/", "identity/"} {
		if strings.HasPrefix(path, r) {
			return nil, errs.New(errs.Invalid, "cannot unmount %q", path)
		}
	}
	return e.disable(ctx, call, path)
}

func (e *Engine) disableAuth(ctx context.Context, call *engine.Call, in pathIn) (*engine.Response, error) {
	path := mount.AuthPrefix + mount.Canonical(in.Path)
	if path == "auth/token/" {
		return nil, errs.New(errs.Invalid, "token credential backend cannot be disabled")
	}
	return e.disable(ctx, call, path)
}

// disable removes a mount with its data, its leases and the tokens that it
// gave. A mount that is not there is gone already.
func (e *Engine) disable(ctx context.Context, call *engine.Call, path string) (*engine.Response, error) {
	d := desks(call)
	m, err := d.Mounts.Get(call.Tx, ns(call), path)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	queued, err := d.EndMount(ctx, call.Tx, m, call.Now)
	if err != nil || !queued {
		return nil, err
	}
	return &engine.Response{Accepted: true, Warnings: []string{
		"The mount has very many leases. It answers no more; it is removed, and its path is free, when they are revoked in the background.",
	}}, nil
}
