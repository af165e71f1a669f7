package sys

import (
	"context"
	"encoding/hex"
	"slices"

	"arca/internal/engine"
	"arca/internal/errs"
)

// pluginRoutes are sys/plugins: the catalog of engines. All are built in; own
// plugins come with the plugins issue, and until then registering one is
// refused.
func (e *Engine) pluginRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("plugins/catalog", e.catalog, engine.ID("plugins-catalog-list-plugins"), engine.Help("List the engines of all types.")),
		engine.List("plugins/catalog/{type}", e.catalogOf, engine.Sudo, engine.ID("plugins-catalog-list-plugins-with-type"), engine.Help("List the engines of a type.")),
		engine.Read("plugins/catalog/{type}/{name}", e.readPlugin, engine.Sudo, engine.ID("plugins-catalog-read-plugin-configuration-with-type"),
			engine.Help("Tell about an engine.")),
		engine.Write("plugins/catalog/{type}/{name}", e.registerPlugin, engine.Sudo, engine.RootOnly, engine.ID("plugins-catalog-register-plugin-with-type"),
			engine.Help("Register a plugin.")),
		engine.Delete("plugins/catalog/{type}/{name}", e.deletePlugin, engine.Sudo, engine.RootOnly, engine.ID("plugins-catalog-remove-plugin-with-type"),
			engine.Help("Remove a plugin.")),
		engine.Write("plugins/reload/backend", e.reloadPlugin, engine.Sudo, engine.RootOnly, engine.ID("plugins-reload-backends"), engine.Help("Reload a plugin.")),
	}
}

func (e *Engine) names(kind string) ([]string, bool) {
	switch kind {
	case "auth":
		return e.core.Catalog().Names(true), true
	case "secret":
		return e.core.Catalog().Names(false), true
	case "database":
		return []string{}, true
	}
	return nil, false
}

func (e *Engine) catalog(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	out := map[string]any{}
	detailed := []map[string]any{}
	for _, kind := range []string{"auth", "database", "secret"} {
		names, _ := e.names(kind)
		out[kind] = list(names)
		for _, n := range names {
			detailed = append(detailed, map[string]any{
				"type": kind, "name": n, "version": runningVersion(), "builtin": true, "deprecation_status": "supported",
			})
		}
	}
	out["detailed"] = detailed
	return data(out), nil
}

type pluginIn struct {
	Type    string   `api:"type" help:"auth, database or secret."`
	Name    string   `api:"name" help:"Name of the plugin."`
	SHA256  string   `api:"sha256" help:"Hash of its program, in hex."`
	SHA     string   `api:"sha_256"`
	Command string   `api:"command" help:"Its program, within the plugin directory."`
	Args    []string `api:"args"`
	Env     []string `api:"env"`
	Version string   `api:"version"`
}

func (e *Engine) catalogOf(_ context.Context, _ *engine.Call, in pluginIn) (*engine.Response, error) {
	names, ok := e.names(in.Type)
	if !ok {
		return nil, engine.ErrOperation
	}
	return keys(names)
}

func (e *Engine) readPlugin(_ context.Context, _ *engine.Call, in pluginIn) (*engine.Response, error) {
	names, _ := e.names(in.Type)
	if !slices.Contains(names, in.Name) {
		return nil, errNotFound
	}
	return data(map[string]any{
		"name": in.Name, "args": nil, "command": "", "builtin": true, "deprecation_status": "supported", "sha256": "",
		"version": runningVersion(),
	}), nil
}

func (e *Engine) registerPlugin(_ context.Context, _ *engine.Call, in pluginIn) (*engine.Response, error) {
	sum := in.SHA256
	if sum == "" {
		sum = in.SHA
	}
	if sum == "" {
		return nil, errs.New(errs.Invalid, "missing SHA-256 value")
	}
	if _, err := hex.DecodeString(sum); err != nil {
		return nil, errs.New(errs.Invalid, "Could not decode SHA-256 value from Hex")
	}
	return nil, errs.List(errs.Failed, "could not set plugin, plugin directory is not configured")
}

func (e *Engine) deletePlugin(context.Context, *engine.Call, pluginIn) (*engine.Response, error) {
	return nil, nil // none is ever there
}

type reloadIn struct {
	Plugin string   `api:"plugin" help:"Name of the plugin."`
	Mounts []string `api:"mounts" help:"Mounts to reload."`
	Scope  string   `api:"scope"`
}

func (e *Engine) reloadPlugin(_ context.Context, call *engine.Call, in reloadIn) (*engine.Response, error) {
	if in.Plugin == "" && len(in.Mounts) == 0 {
		return nil, errs.New(errs.Invalid, "plugin or mounts must be provided")
	}
	if in.Plugin != "" {
		all := append(e.core.Catalog().Names(true), e.core.Catalog().Names(false)...)
		if !slices.Contains(all, in.Plugin) {
			return nil, errs.New(errs.Invalid, "plugin not found in the catalog: %q", in.Plugin)
		}
		return nil, nil // built-in engines have nothing to reload
	}
	for _, m := range in.Mounts {
		if _, err := desks(call).Mounts.Get(call.Tx, ns(call), m); err != nil {
			return nil, errs.List(errs.Invalid, "cannot fetch mount entry on \""+m+"\"")
		}
	}
	return nil, nil
}
