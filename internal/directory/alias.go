package directory

import (
	"context"
	"errors"
	"slices"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/identity"
)

type aliasIn struct {
	ID        string            `api:"id" help:"Id of the alias."`
	Name      string            `api:"name" help:"The name, as the auth method gives it."`
	Canonical string            `api:"canonical_id" help:"Id of the entity."`
	EntityID  string            `api:"entity_id" help:"Older name of canonical_id."`
	Accessor  string            `api:"mount_accessor" help:"Accessor of the auth mount."`
	Custom    map[string]string `api:"custom_metadata" help:"Keys and values of the user's own."`
}

func (Engine) writeAlias(_ context.Context, call *engine.Call, in aliasIn) (*engine.Response, error) {
	if in.Canonical == "" {
		in.Canonical = in.EntityID
	}
	if in.ID == "" && (in.Name == "" || in.Accessor == "") {
		return nil, errs.New(errs.Invalid, "'id' or 'mount_accessor' and 'name' must be provided")
	}
	s := store(call)
	owner, a, err := in.existing(call)
	if err != nil {
		return nil, err
	}
	if in.Accessor != "" {
		m, err := mountOf(call, in.Accessor)
		if err != nil {
			return nil, err
		}
		a.MountAccessor, a.MountType, a.MountPath, a.Local = m.Accessor, m.Type, m.Path, m.Local
	}
	if in.Name != "" {
		a.Name = in.Name
	}
	a.Custom = in.Custom
	if err := in.free(call, a); err != nil {
		return nil, err
	}
	to, err := in.target(call, owner)
	if err != nil {
		return nil, err
	}
	if owner != nil && owner.ID != to.ID {
		if err := s.DeleteAlias(call.Tx, owner, a.ID, call.Now); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(to.Aliases, func(b identity.Alias) bool { return b.ID != a.ID && b.MountAccessor == a.MountAccessor }) {
		return nil, errs.New(errs.Invalid, "the entity has an alias at this mount already; it can have one at each")
	}
	if to, err = s.PutAlias(call.Tx, to, *a, call.Now); err != nil {
		return nil, err
	}
	return answer(map[string]any{"id": a.ID, "canonical_id": to.ID}), nil
}

// existing finds the alias that is to be changed, with its owner, or makes one.
func (in *aliasIn) existing(call *engine.Call) (*identity.Entity, *identity.Alias, error) {
	s := store(call)
	var owner *identity.Entity
	var have *identity.Alias
	var err error
	if in.ID != "" {
		owner, have, err = s.EntityByAliasID(call.Tx, call.NamespaceID, in.ID)
		if errors.Is(err, identity.ErrNotFound) {
			return nil, nil, errs.New(errs.Invalid, "invalid alias ID provided")
		}
	} else {
		owner, have, err = s.EntityByAlias(call.Tx, call.NamespaceID, in.Accessor, in.Name)
		if errors.Is(err, identity.ErrNotFound) {
			a := s.NewAlias(call.NamespaceID, call.Now)
			return nil, &a, nil
		}
	}
	if err != nil {
		return nil, nil, err
	}
	a := *have
	return owner, &a, nil
}

// free refuses a name that another alias has at this mount.
func (in *aliasIn) free(call *engine.Call, a *identity.Alias) error {
	_, other, err := store(call).EntityByAlias(call.Tx, call.NamespaceID, a.MountAccessor, a.Name)
	if errors.Is(err, identity.ErrNotFound) {
		return nil
	}
	if err == nil && other.ID != a.ID {
		return errs.New(errs.Invalid, "alias with combination of mount accessor and name already exists")
	}
	return err
}

// target is the entity that the alias shall belong to.
func (in *aliasIn) target(call *engine.Call, owner *identity.Entity) (*identity.Entity, error) {
	s := store(call)
	if in.Canonical != "" {
		e, err := s.Entity(call.Tx, call.NamespaceID, in.Canonical)
		if errors.Is(err, identity.ErrNotFound) {
			return nil, errs.New(errs.Invalid, "invalid canonical ID")
		}
		return e, err
	}
	if owner != nil {
		return owner, nil
	}
	e := s.NewEntity(call.NamespaceID, call.Now)
	return e, s.PutEntity(call.Tx, nil, e, call.Now)
}

type aliasIDIn struct {
	ID string `api:"id" help:"Id of the alias."`
}

func (Engine) readAlias(_ context.Context, call *engine.Call, in aliasIDIn) (*engine.Response, error) {
	e, a, err := store(call).EntityByAliasID(call.Tx, call.NamespaceID, in.ID)
	if err != nil {
		return nil, missing(err)
	}
	out := showAlias(call, a, e.ID)
	out["namespace_id"] = e.NamespaceID
	return answer(out), nil
}

func (Engine) deleteAlias(_ context.Context, call *engine.Call, in aliasIDIn) (*engine.Response, error) {
	e, _, err := store(call).EntityByAliasID(call.Tx, call.NamespaceID, in.ID)
	if errors.Is(err, identity.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, store(call).DeleteAlias(call.Tx, e, in.ID, call.Now)
}

func (Engine) listAliases(_ context.Context, call *engine.Call, in namesIn) (*engine.Response, error) {
	s := store(call)
	ids, err := s.AliasIDs(call.Tx, call.NamespaceID, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	info := make(map[string]any, len(ids))
	for _, id := range ids {
		e, a, err := s.EntityByAliasID(call.Tx, call.NamespaceID, id)
		if err != nil {
			return nil, err
		}
		custom := a.Custom
		if custom == nil {
			custom = map[string]string{}
		}
		out := map[string]any{"canonical_id": e.ID, "custom_metadata": custom, "local": a.Local, "metadata": orNullMap(a.Metadata)}
		showMount(call, out, a)
		delete(out, "id")
		info[id] = out
	}
	return listed(ids, info, nil)
}
