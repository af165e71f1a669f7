package directory

import (
	"context"
	"errors"
	"slices"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/identity"
	"arca/internal/param"
)

type entityIn struct {
	keyIn
	Metadata *map[string]string `api:"metadata" help:"Keys and values of the user's own."`
	Policies *[]string          `api:"policies" help:"Policies that the entity's tokens have besides their own."`
	Disabled *bool              `api:"disabled" help:"Refuse the entity's tokens and logins."`
}

// entity finds an entity as a request names it.
func (in keyIn) entity(call *engine.Call) (*identity.Entity, error) {
	if in.ID != "" {
		return store(call).Entity(call.Tx, call.NamespaceID, in.ID)
	}
	return store(call).EntityByName(call.Tx, call.NamespaceID, in.Name)
}

func (Engine) writeEntity(_ context.Context, call *engine.Call, in entityIn) (*engine.Response, error) {
	s := store(call)
	var old *identity.Entity
	var err error
	switch {
	case in.ID != "":
		old, err = s.Entity(call.Tx, call.NamespaceID, in.ID)
		if errors.Is(err, identity.ErrNotFound) {
			return nil, errs.New(errs.Invalid, "entity not found from id")
		}
	case in.Name != "":
		old, err = s.EntityByName(call.Tx, call.NamespaceID, in.Name)
		if errors.Is(err, identity.ErrNotFound) {
			old, err = nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	e := s.NewEntity(call.NamespaceID, call.Now)
	if old != nil {
		e = old.Clone()
	}
	if in.Name != "" {
		e.Name = in.Name
	}
	if in.Metadata != nil {
		e.Metadata = *in.Metadata
	}
	if in.Policies != nil {
		e.Policies = identity.CleanPolicies(*in.Policies)
	}
	if in.Disabled != nil {
		e.Disabled = *in.Disabled
	}
	if err := s.PutEntity(call.Tx, old, e, call.Now); err != nil || old != nil {
		return nil, err
	}
	return answer(map[string]any{"id": e.ID, "name": e.Name, "aliases": nil}), nil
}

// writeNamedEntity serves the path of a name; see nameIn.
func (e Engine) writeNamedEntity(ctx context.Context, call *engine.Call, in entityIn) (*engine.Response, error) {
	in.ID = ""
	return e.writeEntity(ctx, call, in)
}

func (Engine) readEntity(_ context.Context, call *engine.Call, in keyIn) (*engine.Response, error) {
	e, err := in.entity(call)
	if err != nil {
		return nil, missing(err)
	}
	return showEntity(call, e)
}

func showEntity(call *engine.Call, e *identity.Entity) (*engine.Response, error) {
	aliases := make([]any, 0, len(e.Aliases))
	for i := range e.Aliases {
		aliases = append(aliases, showAlias(call, &e.Aliases[i], e.ID))
	}
	direct, inherited, err := store(call).GroupsOf(call.Tx, e)
	if err != nil {
		return nil, err
	}
	return answer(map[string]any{
		"id": e.ID, "name": e.Name, "namespace_id": e.NamespaceID, "metadata": orNullMap(e.Metadata), "policies": param.OrEmpty(e.Policies),
		"disabled": e.Disabled, "aliases": aliases, "creation_time": stamp(e.Created), "last_update_time": stamp(e.Updated),
		"merged_entity_ids": orNull(e.MergedIDs), "direct_group_ids": param.OrEmpty(direct), "inherited_group_ids": param.OrEmpty(inherited),
		"group_ids": param.OrEmpty(slices.Concat(direct, inherited)),
	}), nil
}

func (Engine) deleteEntity(_ context.Context, call *engine.Call, in keyIn) (*engine.Response, error) {
	e, err := in.entity(call)
	if errors.Is(err, identity.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, remove(call, e)
}

type deleteEntitiesIn struct {
	IDs []string `api:"entity_ids" help:"Ids of the entities."`
}

func (Engine) deleteEntities(_ context.Context, call *engine.Call, in deleteEntitiesIn) (*engine.Response, error) {
	if len(in.IDs) == 0 {
		return nil, errs.New(errs.Invalid, "missing entity ids to delete")
	}
	for _, id := range in.IDs {
		e, err := store(call).Entity(call.Tx, call.NamespaceID, id)
		if errors.Is(err, identity.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := remove(call, e); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (Engine) listEntities(_ context.Context, call *engine.Call, in namesIn) (*engine.Response, error) {
	s := store(call)
	ids, err := s.EntityIDs(call.Tx, call.NamespaceID, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	info := make(map[string]any, len(ids))
	for _, id := range ids {
		e, err := s.Entity(call.Tx, call.NamespaceID, id)
		if err != nil {
			return nil, err
		}
		aliases := make([]any, 0, len(e.Aliases))
		for i := range e.Aliases {
			out := map[string]any{}
			showMount(call, out, &e.Aliases[i])
			aliases = append(aliases, out)
		}
		info[id] = map[string]any{"name": e.Name, "aliases": aliases}
	}
	return listed(ids, info, nil)
}

type mergeIn struct {
	From  []string `api:"from_entity_ids" help:"Ids of the entities to merge; they go."`
	To    string   `api:"to_entity_id" help:"Id of the entity that stays."`
	Force bool     `api:"force" help:"Accepted; nothing here needs it."`
	Keep  []string `api:"conflicting_alias_ids_to_keep" help:"Which of two aliases at the same mount stays."`
}

func (Engine) mergeEntities(_ context.Context, call *engine.Call, in mergeIn) (*engine.Response, error) {
	switch {
	case len(in.From) == 0:
		return nil, errs.New(errs.Invalid, "missing entity ids to merge from")
	case in.To == "":
		return nil, errs.New(errs.Invalid, "missing entity id to merge to")
	case slices.Contains(in.From, in.To):
		return nil, errs.New(errs.Invalid, "to_entity_id should not be present in from_entity_ids")
	}
	s := store(call)
	to, err := s.Entity(call.Tx, call.NamespaceID, in.To)
	if errors.Is(err, identity.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "entity id to merge to is invalid")
	}
	if err != nil {
		return nil, err
	}
	for _, id := range in.From {
		from, err := s.Entity(call.Tx, call.NamespaceID, id)
		if errors.Is(err, identity.ErrNotFound) {
			return nil, errs.New(errs.Invalid, "entity id to merge from is invalid")
		}
		if err != nil {
			return nil, err
		}
		if to, from, err = in.settle(call, to, from); err != nil {
			return nil, err
		}
		if err := desks(call).MFA.DeleteSecrets(call.Tx, from.ID); err != nil {
			return nil, err
		}
		if to, err = s.Merge(call.Tx, to, from, call.Now); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// settle removes one of two aliases at the same mount: an entity has one name at
// each.
func (in *mergeIn) settle(call *engine.Call, to, from *identity.Entity) (*identity.Entity, *identity.Entity, error) {
	s := store(call)
	for _, a := range from.Aliases {
		i := slices.IndexFunc(to.Aliases, func(b identity.Alias) bool { return b.MountAccessor == a.MountAccessor })
		if i < 0 {
			continue
		}
		loser, id := from, a.ID
		switch {
		case slices.Contains(in.Keep, to.Aliases[i].ID):
		case slices.Contains(in.Keep, a.ID):
			loser, id = to, to.Aliases[i].ID
		default:
			return nil, nil, errs.New(errs.Invalid,
				"both entities have an alias at the mount %q: name the one that shall stay in conflicting_alias_ids_to_keep", a.MountAccessor)
		}
		if err := s.DeleteAlias(call.Tx, loser, id, call.Now); err != nil {
			return nil, nil, err
		}
		now, err := s.Entity(call.Tx, call.NamespaceID, loser.ID)
		if err != nil {
			return nil, nil, err
		}
		if loser == to {
			to = now
		} else {
			from = now
		}
	}
	return to, from, nil
}

type lookupIn struct {
	keyIn
	AliasID   string `api:"alias_id" help:"Id of an alias."`
	AliasName string `api:"alias_name" help:"Name of an alias; with alias_mount_accessor."`
	Accessor  string `api:"alias_mount_accessor" help:"Accessor of the alias's mount."`
}

func (in *lookupIn) check() error {
	switch {
	case in.ID == "" && in.Name == "" && in.AliasID == "" && in.AliasName == "" && in.Accessor == "":
		return errs.New(errs.Invalid, "query parameter not supplied")
	case (in.AliasName == "") != (in.Accessor == ""):
		return errs.New(errs.Invalid, "both 'alias_name' and 'alias_mount_accessor' needs to be set")
	}
	return nil
}

func (Engine) lookupEntity(_ context.Context, call *engine.Call, in lookupIn) (*engine.Response, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	var e *identity.Entity
	var err error
	switch s := store(call); {
	case in.ID != "" || in.Name != "":
		e, err = in.entity(call)
	case in.AliasID != "":
		e, _, err = s.EntityByAliasID(call.Tx, call.NamespaceID, in.AliasID)
	default:
		e, _, err = s.EntityByAlias(call.Tx, call.NamespaceID, in.Accessor, in.AliasName)
	}
	if errors.Is(err, identity.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return showEntity(call, e)
}

// remove deletes an entity with its secrets.
func remove(call *engine.Call, e *identity.Entity) error {
	if err := desks(call).MFA.DeleteSecrets(call.Tx, e.ID); err != nil {
		return err
	}
	return store(call).DeleteEntity(call.Tx, e)
}
