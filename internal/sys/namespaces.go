package sys

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/mount"
	"arca/internal/namespace"
)

// namespaceRoutes make, show and remove the namespaces directly below the one
// in which they are called, as
// https://developer.hashicorp.com/vault/api-docs/system/namespaces has it.
func (e *Engine) namespaceRoutes() []engine.Route {
	return []engine.Route{
		engine.List("namespaces", e.listNamespaces, engine.ID("list-namespaces"), engine.Help("List the namespaces below this one.")),
		engine.Write("namespaces/api-lock/lock", e.lockNamespace, engine.ID("lock-namespace"), engine.Help("Lock the API of this namespace.")),
		engine.Write("namespaces/api-lock/lock/{path...}", e.lockNamespace, engine.ID("lock-namespace-below"),
			engine.Help("Lock the API of a namespace below this one.")),
		engine.Write("namespaces/api-lock/unlock", e.unlockNamespace, engine.ID("unlock-namespace"), engine.Help("Unlock the API of this namespace.")),
		engine.Write("namespaces/api-lock/unlock/{path...}", e.unlockNamespace, engine.ID("unlock-namespace-below"),
			engine.Help("Unlock the API of a namespace below this one.")),
		engine.Read("namespaces/{path...}", e.readNamespace, engine.ID("read-namespace"), engine.Help("Read a namespace.")),
		engine.Write("namespaces/{path...}", e.writeNamespace, engine.ID("write-namespace"),
			engine.Help("Make a namespace, or replace its custom metadata.")),
		engine.Patch("namespaces/{path...}", e.patchNamespace, engine.ID("patch-namespace"), engine.Help("Change single keys of a namespace's custom metadata.")),
		engine.Delete("namespaces/{path...}", e.deleteNamespace, engine.ID("delete-namespace"), engine.Help("Delete a namespace with all that it holds.")),
	}
}

type namespaceIn struct {
	Path     string         `api:"path" help:"Name of the namespace."`
	Metadata map[string]any `api:"custom_metadata" help:"Keys and values of the user's own."`
}

// here is the namespace in which a call was made.
func here(call *engine.Call) (*namespace.Namespace, error) {
	return desks(call).Namespaces.ByID(call.Tx, ns(call))
}

// child finds the namespace that a call is about, and the one in which it was made.
func (in *namespaceIn) child(call *engine.Call) (parent, n *namespace.Namespace, err error) {
	if parent, err = here(call); err != nil {
		return nil, nil, err
	}
	n, err = desks(call).Namespaces.Child(call.Tx, parent, strings.TrimSuffix(in.Path, "/"))
	return parent, n, err
}

func showNamespace(n *namespace.Namespace) map[string]any {
	metadata := n.Metadata
	if metadata == nil {
		metadata = map[string]string{}
	}
	return map[string]any{
		"id": n.ID, "path": n.Path, "custom_metadata": metadata, "uuid": n.UUID, "locked": n.Locked, "tainted": false,
	}
}

func (e *Engine) listNamespaces(_ context.Context, call *engine.Call, in paging) (*engine.Response, error) {
	parent, err := here(call)
	if err != nil {
		return nil, err
	}
	list, err := desks(call).Namespaces.List(call.Tx, parent, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errNotFound
	}
	names, info := make([]string, 0, len(list)), make(map[string]any, len(list))
	for _, n := range list {
		name := n.Name() + "/"
		names = append(names, name)
		info[name] = showNamespace(n)
	}
	return data(map[string]any{"keys": names, "key_info": info}), nil
}

func (e *Engine) readNamespace(_ context.Context, call *engine.Call, in namespaceIn) (*engine.Response, error) {
	_, n, err := in.child(call)
	if errors.Is(err, namespace.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return data(showNamespace(n)), nil
}

func (e *Engine) writeNamespace(ctx context.Context, call *engine.Call, in namespaceIn) (*engine.Response, error) {
	metadata, err := textMetadata(in.Metadata)
	if err != nil {
		return nil, err
	}
	parent, n, err := in.child(call)
	switch {
	case errors.Is(err, namespace.ErrNotFound):
		n, err = desks(call).CreateNamespace(ctx, call.Tx, parent, strings.TrimSuffix(in.Path, "/"), metadata)
	case err == nil:
		n, err = desks(call).Namespaces.SetMetadata(call.Tx, n, metadata)
	}
	if err != nil {
		return nil, err
	}
	return data(showNamespace(n)), nil
}

// textMetadata takes values that are text, numbers or truth values.
func textMetadata(in map[string]any) (map[string]string, error) {
	out := make(map[string]string, len(in))
	for k, v := range in {
		text, err := metadataText(k, v)
		if err != nil {
			return nil, err
		}
		out[k] = text
	}
	return out, nil
}

func metadataText(key string, v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool, float64, json.Number:
		raw, err := json.Marshal(v)
		return string(raw), err
	}
	return "", errs.New(errs.Invalid, "custom_metadata: the value of %q is neither text nor a number", key)
}

func (e *Engine) patchNamespace(_ context.Context, call *engine.Call, in namespaceIn) (*engine.Response, error) {
	_, n, err := in.child(call)
	if errors.Is(err, namespace.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "namespace not found")
	}
	if err != nil {
		return nil, err
	}
	metadata := maps.Clone(n.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	for k, v := range in.Metadata {
		if v == nil {
			delete(metadata, k)
			continue
		}
		if metadata[k], err = metadataText(k, v); err != nil {
			return nil, err
		}
	}
	if n, err = desks(call).Namespaces.SetMetadata(call.Tx, n, metadata); err != nil {
		return nil, err
	}
	return data(showNamespace(n)), nil
}

func (e *Engine) deleteNamespace(_ context.Context, call *engine.Call, in namespaceIn) (*engine.Response, error) {
	_, n, err := in.child(call)
	if errors.Is(err, namespace.ErrNotFound) {
		return &engine.Response{Bare: true, Warnings: []string{"requested namespace does not exist"}}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := desks(call).DeleteNamespace(call.Tx, n, call.Now); err != nil {
		return nil, err
	}
	return data(map[string]any{"status": "in-progress"}), nil
}

type lockIn struct {
	Path      string `api:"path" help:"Path of the namespace below this one; this one when absent."`
	UnlockKey string `api:"unlock_key" help:"The key that locking gave; a root token needs none."`
}

// lockable finds the namespace to lock or unlock.
func (in *lockIn) lockable(call *engine.Call) (*namespace.Namespace, error) {
	p, err := desks(call).Namespaces.Resolve(call.Tx, call.NamespacePath+namespace.Canonical(in.Path))
	if errors.Is(err, namespace.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "requested namespace does not exist")
	}
	if err != nil {
		return nil, err
	}
	if p.Namespace.IsRoot() {
		return nil, errs.New(errs.Invalid, "root namespace cannot be locked/unlocked")
	}
	return p.Namespace, nil
}

func (e *Engine) lockNamespace(_ context.Context, call *engine.Call, in lockIn) (*engine.Response, error) {
	n, err := in.lockable(call)
	if err != nil {
		return nil, err
	}
	key, err := desks(call).Namespaces.Lock(call.Tx, n)
	if err != nil {
		return nil, err
	}
	return data(map[string]any{"unlock_key": key}), nil
}

func (e *Engine) unlockNamespace(_ context.Context, call *engine.Call, in lockIn) (*engine.Response, error) {
	n, err := in.lockable(call)
	if err != nil {
		return nil, err
	}
	force := in.UnlockKey == "" && call.Caller.Root && call.Caller.NamespaceID == namespace.RootID
	return nil, desks(call).Namespaces.Unlock(call.Tx, n, in.UnlockKey, force)
}

// notNamespace refuses to mount where a namespace is: its paths would lead there.
func notNamespace(call *engine.Call, path string) error {
	if strings.HasPrefix(path, mount.AuthPrefix) {
		return nil
	}
	parent, err := here(call)
	if err != nil {
		return err
	}
	name, _, _ := strings.Cut(path, "/")
	n, err := desks(call).Namespaces.Child(call.Tx, parent, name)
	if errors.Is(err, namespace.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return errs.New(errs.Invalid, "path is already in use at %s", n.Name()+"/")
}
