package sys

import (
	"context"
	"slices"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/mount"
	"arca/internal/version"
)

// specRoutes serve the OpenAPI document, which is made from the routes.
func (e *Engine) specRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("internal/specs/openapi", e.openAPI, engine.NoToken, engine.ID("internal-generate-open-api-document"),
			engine.Help("Give the OpenAPI document of the mounts that the caller may see.")),
		engine.Write("internal/specs/openapi", e.openAPI, engine.NoToken, engine.NoParamWarn, engine.ID("internal-generate-open-api-document-with-parameters"),
			engine.Help("Give the OpenAPI document of the mounts that the caller may see.")),
	}
}

type specIn struct {
	Context string `api:"context" help:"Added to operation ids."`
	Generic bool   `api:"generic_mount_paths" help:"Use {mount_path} in place of the mounts' own paths."`
}

func (e *Engine) openAPI(_ context.Context, call *engine.Call, in specIn) (*engine.Response, error) {
	v, err := anyViewer(call)
	if err != nil {
		return nil, err
	}
	paths := map[string]any{}
	for _, auth := range []bool{false, true} {
		ms, err := desks(call).Mounts.List(call.Tx, ns(call), auth)
		if err != nil {
			return nil, err
		}
		ms = slices.DeleteFunc(ms, func(m *mount.Entry) bool { // the others are not even counted
			open := m.Path == "sys/" || m.Path == "auth/token/"
			return m.Routes == nil || !open && !v.sees(m.Path)
		})
		const most = 200 // a document of 10,000 mounts serves nobody
		if len(ms) > most && !in.Generic {
			return nil, errs.New(errs.TooLarge, "there are %d mounts: ask with generic_mount_paths=true", len(ms))
		}
		seen := map[string]bool{}
		for _, m := range ms {
			prefix := "/" + m.Path
			if in.Generic && !m.Hall {
				if seen[m.Type] {
					continue
				}
				seen[m.Type] = true
				prefix = "/" + prefixOf(auth) + "{" + m.Type + "_mount_path}/"
			}
			describePaths(paths, prefix, m)
		}
	}
	return rawJSON(document(paths))
}

func document(paths map[string]any) map[string]any {
	return map[string]any{
		"openapi": "3.0.2",
		"info": map[string]any{
			"title": "Vault API", "version": version.Compat(""),
			"description": "HTTP API that gives you full access to Vault. All API routes are prefixed with `/v1/`.",
			"license":     map[string]any{"name": "Mozilla Public License 2.0", "url": "https://www.mozilla.org/en-US/MPL/2.0"},
		},
		"paths":      paths,
		"components": map[string]any{"schemas": map[string]any{}},
	}
}

// describePaths adds the routes of a mount.
func describePaths(paths map[string]any, prefix string, m *mount.Entry) {
	for i := range m.Routes.Routes {
		r := &m.Routes.Routes[i]
		if r.OperationID == "" && !r.Always {
			continue
		}
		path := prefix + strings.NewReplacer("...}", "}", "+}", "}").Replace(r.Pattern)
		if r.Op == engine.OpList {
			path += "/"
		}
		item, _ := paths[path].(map[string]any)
		if item == nil {
			item = map[string]any{"description": r.Summary}
			paths[path] = item
		}
		if r.Sudo {
			item["x-vault-sudo"] = true
		}
		if r.NoToken {
			item["x-vault-unauthenticated"] = true
		}
		item[method(r.Op)] = describeRoute(r)
		if r.HasExists() {
			item["x-vault-createSupported"] = true
		}
	}
}

func method(op engine.Operation) string {
	switch op { //nolint:exhaustive // the others write
	case engine.OpRead, engine.OpList:
		return "get"
	case engine.OpDelete:
		return "delete"
	case engine.OpPatch:
		return "patch"
	}
	return "post"
}

func describeRoute(r *engine.Route) map[string]any {
	op := map[string]any{"summary": r.Summary, "operationId": r.OperationID, "responses": map[string]any{"200": map[string]any{"description": "OK"}}}
	var params []map[string]any
	body := map[string]any{}
	for _, f := range r.Schema.Fields() {
		inPath := r.IsCaptured(f.Name)
		schema := map[string]any{"type": f.Type}
		if f.Type == "array" {
			schema["items"] = map[string]any{"type": "string"}
		}
		if f.Default != "" {
			schema["default"] = f.Default
		}
		switch {
		case inPath:
			params = append(params, map[string]any{"name": f.Name, "description": f.Help, "in": "path", "required": true, "schema": schema})
		case r.Op == engine.OpRead || r.Op == engine.OpList || r.Op == engine.OpDelete:
			params = append(params, map[string]any{"name": f.Name, "description": f.Help, "in": "query", "schema": schema})
		default:
			schema["description"] = f.Help
			body[f.Name] = schema
		}
	}
	if r.Op == engine.OpList {
		params = append(params, map[string]any{
			"name": "list", "in": "query", "required": true, "description": "Must be set to `true`",
			"schema": map[string]any{"type": "string", "enum": []string{"true"}},
		})
	}
	if len(params) > 0 {
		op["parameters"] = params
	}
	if len(body) > 0 {
		op["requestBody"] = map[string]any{"content": map[string]any{"application/json": map[string]any{
			"schema": map[string]any{"type": "object", "properties": body},
		}}}
	}
	return op
}
