// Package directory is the room that serves identity/: entities, their aliases,
// and groups, as https://developer.hashicorp.com/vault/api-docs/secret/identity
// has them. What it shows and changes is kept by the package identity.
package directory

import (
	"context"
	"errors"
	"time"

	"arca/internal/core"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/identity"
	"arca/internal/issuer"
	"arca/internal/storage"
)

// An Engine serves identity/.
type Engine struct{ issuer *issuer.Issuer }

// New makes the room, with the issuer of identity tokens.
func New() Engine { return Engine{issuer.New()} }

// Type implements engine.Engine.
func (Engine) Type() string { return "identity" }

// Hall implements engine.Hall.
func (Engine) Hall() {}

// Routes implements engine.Engine.
func (e Engine) Routes() []engine.Route {
	routes := []engine.Route{
		engine.Write("entity", e.writeEntity, engine.ID("entity-create"), engine.Help("Make or change an entity.")),
		engine.List("entity/id", e.listEntities, engine.ID("entity-list-by-id"), engine.Help("List the ids of the entities.")),
		engine.Read("entity/id/{id}", e.readEntity, engine.ID("entity-read-by-id"), engine.Help("Read an entity.")),
		engine.Write("entity/id/{id}", e.writeEntity, engine.ID("entity-update-by-id"), engine.Help("Change an entity.")),
		engine.Delete("entity/id/{id}", e.deleteEntity, engine.ID("entity-delete-by-id"), engine.Help("Delete an entity.")),
		engine.List("entity/name", e.listEntityNames, engine.ID("entity-list-by-name"), engine.Help("List the names of the entities.")),
		engine.Read("entity/name/{name+}", named(e.readEntity), engine.ID("entity-read-by-name"), engine.Help("Read an entity.")),
		engine.Write("entity/name/{name+}", e.writeNamedEntity, engine.ID("entity-update-by-name"), engine.Help("Make or change an entity.")),
		engine.Delete("entity/name/{name+}", named(e.deleteEntity), engine.ID("entity-delete-by-name"), engine.Help("Delete an entity.")),
		engine.Write("entity/batch-delete", e.deleteEntities, engine.ID("entity-batch-delete"), engine.Help("Delete entities.")),
		engine.Write("entity/merge", e.mergeEntities, engine.ID("entity-merge"), engine.Help("Merge entities into one.")),
		engine.Write("lookup/entity", e.lookupEntity, engine.ID("entity-look-up"), engine.Help("Find an entity by one of its names.")),

		engine.Write("group", e.writeGroup, engine.ID("group-create"), engine.Help("Make or change a group.")),
		engine.List("group/id", e.listGroups, engine.ID("group-list-by-id"), engine.Help("List the ids of the groups.")),
		engine.Read("group/id/{id}", e.readGroup, engine.ID("group-read-by-id"), engine.Help("Read a group.")),
		engine.Write("group/id/{id}", e.writeGroup, engine.ID("group-update-by-id"), engine.Help("Change a group.")),
		engine.Delete("group/id/{id}", e.deleteGroup, engine.ID("group-delete-by-id"), engine.Help("Delete a group.")),
		engine.List("group/name", e.listGroupNames, engine.ID("group-list-by-name"), engine.Help("List the names of the groups.")),
		engine.Read("group/name/{name+}", named(e.readGroup), engine.ID("group-read-by-name"), engine.Help("Read a group.")),
		engine.Write("group/name/{name+}", e.writeNamedGroup, engine.ID("group-update-by-name"), engine.Help("Make or change a group.")),
		engine.Delete("group/name/{name+}", named(e.deleteGroup), engine.ID("group-delete-by-name"), engine.Help("Delete a group.")),
		engine.Write("lookup/group", e.lookupGroup, engine.ID("group-look-up"), engine.Help("Find a group by one of its names.")),

		engine.Write("group-alias", e.writeGroupAlias, engine.ID("group-create-alias"), engine.Help("Give an external group its alias.")),
		engine.List("group-alias/id", e.listGroupAliases, engine.ID("group-list-aliases-by-id"), engine.Help("List the aliases of groups.")),
		engine.Read("group-alias/id/{id}", e.readGroupAlias, engine.ID("group-read-alias-by-id"), engine.Help("Read the alias of a group.")),
		engine.Write("group-alias/id/{id}", e.writeGroupAlias, engine.ID("group-update-alias-by-id"), engine.Help("Change the alias of a group.")),
		engine.Delete("group-alias/id/{id}", e.deleteGroupAlias, engine.ID("group-delete-alias-by-id"), engine.Help("Delete the alias of a group.")),
	}
	routes = append(append(routes, e.mfaRoutes()...), e.issuer.Routes()...)
	// Aliases of entities have an older path, too.
	for _, name := range []string{"entity-alias", "alias"} {
		routes = append(routes,
			engine.Write(name, e.writeAlias, engine.Help("Give an entity a name at an auth mount.")),
			engine.List(name+"/id", e.listAliases, engine.Help("List the aliases of entities.")),
			engine.Read(name+"/id/{id}", e.readAlias, engine.Help("Read an alias.")),
			engine.Write(name+"/id/{id}", e.writeAlias, engine.Help("Change an alias.")),
			engine.Delete(name+"/id/{id}", e.deleteAlias, engine.Help("Delete an alias.")))
	}
	return routes
}

var errNotFound = errs.New(errs.NotFound, "not found")

func desks(call *engine.Call) *core.Active { return call.Desks.(*core.Active) }

func store(call *engine.Call) *identity.Store { return desks(call).Identity }

// missing turns the store's word for it into that of the door.
func missing(err error) error {
	if errors.Is(err, identity.ErrNotFound) {
		return errNotFound
	}
	return err
}

// keyIn names an entity or a group by its id or its name, as the path does.
type keyIn struct {
	ID   string `api:"id" help:"The id."`
	Name string `api:"name,anycase" help:"The name."`
}

// nameIn is a path that names by the name. It takes no id: who may use the path
// of one name must not reach another by an id in the query or the body.
type nameIn struct {
	Name string `api:"name,anycase" help:"The name."`
}

// named serves a path of a name with a handler that finds by either.
func named(fn func(context.Context, *engine.Call, keyIn) (*engine.Response, error)) func(context.Context, *engine.Call, nameIn) (*engine.Response, error) {
	return func(ctx context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
		return fn(ctx, call, keyIn{Name: in.Name})
	}
}

func answer(m map[string]any) *engine.Response { return &engine.Response{Data: m} }

// listed is the answer of a listing; an empty one is not found.
func listed(keys []string, info map[string]any, err error) (*engine.Response, error) {
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, errNotFound
	}
	out := map[string]any{"keys": keys}
	if info != nil {
		out["key_info"] = info
	}
	return answer(out), nil
}

// orNull is null for what is empty, as the API shows metadata and ids.
func orNull[T any](list []T) any {
	if len(list) == 0 {
		return nil
	}
	return list
}

func orNullMap(m map[string]string) any {
	if len(m) == 0 {
		return nil
	}
	return m
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// mountOf finds the auth mount with an accessor.
func mountOf(call *engine.Call, accessor string) (*engine.Mount, error) {
	bad := errs.New(errs.Invalid, "invalid mount accessor %q", accessor)
	if accessor == "" || len(accessor) > 256 {
		return nil, bad
	}
	m, err := desks(call).Mounts.ByAccessor(call.Tx, call.NamespaceID, accessor)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, bad
	}
	if err != nil {
		return nil, err
	}
	return m.Mount, nil
}

// showMount adds where an alias belongs: the mount as it is now, else as it was.
func showMount(call *engine.Call, out map[string]any, a *identity.Alias) {
	path, typ := a.MountPath, a.MountType
	if m, err := mountOf(call, a.MountAccessor); err == nil {
		path, typ = m.Path, m.Type
	}
	out["id"], out["name"] = a.ID, a.Name
	out["mount_accessor"], out["mount_path"], out["mount_type"] = a.MountAccessor, path, typ
}

// showAlias is an alias within its entity or group.
func showAlias(call *engine.Call, a *identity.Alias, canonical string) map[string]any {
	out := map[string]any{
		"canonical_id": canonical, "creation_time": stamp(a.Created), "last_update_time": stamp(a.Updated),
		"metadata": orNullMap(a.Metadata), "custom_metadata": orNullMap(a.Custom), "local": a.Local,
		"merged_from_canonical_ids": orNull(a.MergedFrom),
	}
	showMount(call, out, a)
	return out
}

type namesIn struct {
	engine.Paging
}

func (Engine) listEntityNames(_ context.Context, call *engine.Call, in namesIn) (*engine.Response, error) {
	names, err := store(call).EntityNames(call.Tx, call.NamespaceID, in.After, in.Limit)
	return listed(names, nil, err)
}

func (Engine) listGroupNames(_ context.Context, call *engine.Call, in namesIn) (*engine.Response, error) {
	names, err := store(call).GroupNames(call.Tx, call.NamespaceID, in.After, in.Limit)
	return listed(names, nil, err)
}
