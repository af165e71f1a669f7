package sys

import (
	"context"
	"errors"
	"maps"
	"slices"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/mount"
	"arca/internal/policy"
	"arca/internal/storage"
	"arca/internal/token"
)

// internalRoutes serve the command line and user interfaces.
func (e *Engine) internalRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("internal/ui/mounts", e.uiMounts, engine.NoToken, engine.ID("internal-ui-list-enabled-visible-mounts"),
			engine.Help("List the mounts that the caller may see.")),
		engine.Read("internal/ui/mounts/{path...}", e.uiMount, engine.NoToken, engine.ID("internal-ui-read-mount-information"),
			engine.Help("Tell about the mount to which a path belongs.")),
		engine.Read("internal/ui/resultant-acl", e.resultantACL, engine.ID("internal-ui-read-resultant-acl"),
			engine.Help("Tell what the caller's policies allow together.")),
		engine.Read("internal/ui/namespaces", e.uiNamespaces, engine.NoToken, engine.ID("internal-ui-list-namespaces"),
			engine.Help("List the namespaces below this one.")),
	}
}

// A viewer sees the mounts and namespaces below which its policies grant
// anything. The zero value sees none.
type viewer struct {
	acl   *policy.ACL
	below string // in front of the paths of the call's namespace
}

func (v viewer) sees(path string) bool { return v.acl != nil && v.acl.Below(v.below+path) }

// viewerOf looks at a token itself: these routes answer without one, too.
func viewerOf(call *engine.Call, t *token.Entry, err error) (viewer, error) {
	if err != nil {
		return viewer{}, err
	}
	err = reaches(call, t)
	if errs.Is(err, errs.Invalid) {
		return viewer{}, token.ErrBad // of a namespace that is not above
	}
	if err != nil {
		return viewer{}, err
	}
	acl, err := aclOf(call, t)
	return viewer{acl, call.NamespacePath}, err
}

// anyViewer is the holder of the request's token, or nobody.
func anyViewer(call *engine.Call) (viewer, error) {
	t, err := desks(call).Caller(call.Tx, call.Request, call.Now)
	if err == nil && t.NumUses != 0 {
		return viewer{}, nil // a token with few uses is not spent on what needs none
	}
	v, err := viewerOf(call, t, err)
	if isBad(err) {
		return viewer{}, nil
	}
	return v, err
}

func (e *Engine) uiMounts(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	v, err := anyViewer(call)
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]any{"secret": {}, "auth": {}}
	for _, auth := range []bool{false, true} {
		ms, err := desks(call).Mounts.List(call.Tx, ns(call), auth)
		if err != nil {
			return nil, err
		}
		kind := "secret"
		if auth {
			kind = "auth"
		}
		for _, m := range ms {
			name := m.Path[len(prefixOf(auth)):]
			switch {
			case v.sees(m.Path):
				out[kind][name] = e.describe(m)
			case m.Config.ListingVisibility == "unauth":
				out[kind][name] = map[string]any{"type": shownType(m), "description": m.Description, "options": m.Options}
				if m.Options == nil {
					out[kind][name] = map[string]any{"type": shownType(m), "description": m.Description, "options": map[string]string{}}
				}
			}
		}
	}
	return data(map[string]any{"secret": out["secret"], "auth": out["auth"]}), nil
}

func (e *Engine) uiMount(_ context.Context, call *engine.Call, in pathIn) (*engine.Response, error) {
	t, err := desks(call).Caller(call.Tx, call.Request, call.Now)
	v, err := viewerOf(call, t, err)
	if isBad(err) {
		return nil, errs.New(errs.Denied, "permission denied")
	}
	if err != nil {
		return nil, err
	}
	m, _, err := desks(call).Mounts.Route(call.Tx, ns(call), in.Path)
	denied := errs.New(errs.Denied, "preflight capability check returned 403, please ensure client's policies grant access to path %q",
		mount.Canonical(in.Path))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, denied
	}
	if err != nil {
		return nil, err
	}
	if !v.sees(m.Path) {
		return nil, denied
	}
	out := e.describe(m)
	out["path"] = m.Path
	return data(out), nil
}

// shownRule is a rule as resultant-acl shows it.
func shownRule(r *policy.Rule) map[string]any {
	out := map[string]any{"capabilities": r.Capabilities.Names()}
	if len(r.Allowed) > 0 {
		out["allowed_parameters"] = r.Allowed
	}
	if len(r.Denied) > 0 {
		out["denied_parameters"] = r.Denied
	}
	if len(r.Required) > 0 {
		out["required_parameters"] = r.Required
	}
	return out
}

func (e *Engine) resultantACL(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	t, err := self(call)
	if err != nil {
		return nil, err
	}
	acl, err := aclOf(call, t)
	if err != nil {
		return nil, err
	}
	if acl.Root() {
		return data(map[string]any{"root": true}), nil
	}
	exact, glob := acl.Granted()
	show := func(rules map[string]*policy.Rule) map[string]any {
		out := make(map[string]any, len(rules))
		for _, path := range slices.Sorted(maps.Keys(rules)) {
			out[path] = shownRule(rules[path])
		}
		return out
	}
	return data(map[string]any{"root": false, "exact_paths": show(exact), "glob_paths": show(glob)}), nil
}

func (e *Engine) uiNamespaces(_ context.Context, call *engine.Call, in paging) (*engine.Response, error) {
	v, err := anyViewer(call)
	if err != nil {
		return nil, err
	}
	parent, err := here(call)
	if err != nil {
		return nil, err
	}
	list, err := desks(call).Namespaces.List(call.Tx, parent, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range list {
		if name := n.Name() + "/"; v.sees(name) {
			names = append(names, name)
		}
	}
	return keys(names)
}
