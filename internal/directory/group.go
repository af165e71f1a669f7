package directory

import (
	"context"
	"errors"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/identity"
	"arca/internal/param"
)

type groupIn struct {
	keyIn
	Type     string             `api:"type" help:"internal or external; a group stays what it is."`
	Metadata *map[string]string `api:"metadata" help:"Keys and values of the user's own."`
	Policies *[]string          `api:"policies" help:"Policies of all members."`
	Entities *[]string          `api:"member_entity_ids" help:"Ids of the entities in the group."`
	Groups   *[]string          `api:"member_group_ids" help:"Ids of the groups in the group."`
}

// group finds a group as a request names it.
func (in keyIn) group(call *engine.Call) (*identity.Group, error) {
	if in.ID != "" {
		return store(call).Group(call.Tx, call.NamespaceID, in.ID)
	}
	return store(call).GroupByName(call.Tx, call.NamespaceID, in.Name)
}

func groupType(g *identity.Group) string {
	if g.External {
		return "external"
	}
	return "internal"
}

func (Engine) writeGroup(_ context.Context, call *engine.Call, in groupIn) (*engine.Response, error) {
	switch in.Type {
	case "", "internal", "external":
	default:
		return nil, errs.New(errs.Invalid, "invalid group type %q", in.Type)
	}
	s := store(call)
	var old *identity.Group
	var err error
	if in.ID != "" || in.Name != "" {
		old, err = in.group(call)
		switch {
		case errors.Is(err, identity.ErrNotFound) && in.ID != "":
			return nil, errs.New(errs.Invalid, "invalid group ID")
		case errors.Is(err, identity.ErrNotFound):
			old = nil
		case err != nil:
			return nil, err
		}
	}
	g := s.NewGroup(call.NamespaceID, call.Now)
	g.External = in.Type == "external"
	if old != nil {
		g = old.Clone()
		if in.Type != "" && in.Type != groupType(old) {
			return nil, errs.New(errs.Invalid, "group type cannot be changed")
		}
	}
	if err := in.apply(call, old, g); err != nil || old != nil {
		return nil, err
	}
	return answer(map[string]any{"id": g.ID, "name": g.Name}), nil
}

// apply stores the group with what was given.
func (in *groupIn) apply(call *engine.Call, old, g *identity.Group) error {
	if g.External && in.Entities != nil && len(*in.Entities) > 0 {
		return errs.New(errs.Invalid, "member entities can't be set manually for external groups")
	}
	if g.External && in.Groups != nil && len(*in.Groups) > 0 {
		return errs.New(errs.Invalid, "member groups can't be set for external groups")
	}
	if in.Name != "" {
		g.Name = in.Name
	}
	if in.Metadata != nil {
		g.Metadata = *in.Metadata
	}
	if in.Policies != nil {
		g.Policies = identity.CleanPolicies(*in.Policies)
	}
	s := store(call)
	if err := s.PutGroup(call.Tx, old, g, call.Now); err != nil {
		return err
	}
	if in.Groups != nil {
		changed, err := s.SetMemberGroups(call.Tx, g, *in.Groups)
		if err != nil {
			return err
		}
		*g = *changed
	}
	if in.Entities != nil {
		return s.SetMembers(call.Tx, g, *in.Entities)
	}
	return nil
}

// writeNamedGroup serves the path of a name; see nameIn.
func (e Engine) writeNamedGroup(ctx context.Context, call *engine.Call, in groupIn) (*engine.Response, error) {
	in.ID = ""
	return e.writeGroup(ctx, call, in)
}

func (Engine) readGroup(_ context.Context, call *engine.Call, in keyIn) (*engine.Response, error) {
	g, err := in.group(call)
	if err != nil {
		return nil, missing(err)
	}
	return showGroup(call, g)
}

func showGroup(call *engine.Call, g *identity.Group) (*engine.Response, error) {
	members, err := store(call).Members(call.Tx, g.NamespaceID, g.ID)
	if err != nil {
		return nil, err
	}
	alias := map[string]any{}
	if g.Alias != nil {
		alias = showAlias(call, g.Alias, g.ID)
	}
	return answer(map[string]any{
		"id": g.ID, "name": g.Name, "namespace_id": g.NamespaceID, "type": groupType(g), "metadata": orNullMap(g.Metadata),
		"policies": param.OrEmpty(g.Policies), "member_entity_ids": orNull(members), "member_group_ids": orNull(g.Members),
		"parent_group_ids": orNull(g.Parents), "alias": alias, "modify_index": g.ModifyIndex,
		"creation_time": stamp(g.Created), "last_update_time": stamp(g.Updated),
	}), nil
}

func (Engine) deleteGroup(_ context.Context, call *engine.Call, in keyIn) (*engine.Response, error) {
	g, err := in.group(call)
	if errors.Is(err, identity.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, store(call).DeleteGroup(call.Tx, g, call.Now)
}

func (Engine) listGroups(_ context.Context, call *engine.Call, in namesIn) (*engine.Response, error) {
	s := store(call)
	ids, err := s.GroupIDs(call.Tx, call.NamespaceID, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	info := make(map[string]any, len(ids))
	for _, id := range ids {
		g, err := s.Group(call.Tx, call.NamespaceID, id)
		if err != nil {
			return nil, err
		}
		members, err := s.Count(call.Tx, call.NamespaceID, id)
		if err != nil {
			return nil, err
		}
		out := map[string]any{"name": g.Name, "num_member_entities": members, "num_parent_groups": len(g.Parents)}
		if g.Alias != nil {
			alias := map[string]any{}
			showMount(call, alias, g.Alias)
			out["alias"] = alias
		}
		info[id] = out
	}
	return listed(ids, info, nil)
}

func (Engine) lookupGroup(_ context.Context, call *engine.Call, in lookupIn) (*engine.Response, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	var g *identity.Group
	var err error
	switch s := store(call); {
	case in.ID != "" || in.Name != "":
		g, err = in.group(call)
	case in.AliasID != "":
		g, err = s.GroupByAliasID(call.Tx, call.NamespaceID, in.AliasID)
	default:
		g, err = s.GroupByAlias(call.Tx, call.NamespaceID, in.Accessor, in.AliasName)
	}
	if errors.Is(err, identity.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return showGroup(call, g)
}

type groupAliasIn struct {
	ID        string `api:"id" help:"Id of the alias."`
	Name      string `api:"name" help:"The group's name, as the auth method gives it."`
	Canonical string `api:"canonical_id" help:"Id of the group."`
	Accessor  string `api:"mount_accessor" help:"Accessor of the auth mount."`
}

func (Engine) writeGroupAlias(_ context.Context, call *engine.Call, in groupAliasIn) (*engine.Response, error) {
	s := store(call)
	var g *identity.Group
	var err error
	if in.ID != "" {
		g, err = s.GroupByAliasID(call.Tx, call.NamespaceID, in.ID)
		if errors.Is(err, identity.ErrNotFound) {
			return nil, errs.New(errs.Invalid, "invalid group alias ID")
		}
		if err != nil {
			return nil, err
		}
	}
	if in.Name == "" {
		return nil, errs.New(errs.Invalid, "missing alias name")
	}
	m, err := mountOf(call, in.Accessor)
	if err != nil {
		return nil, err
	}
	if in.Canonical != "" || g == nil {
		to, err := s.Group(call.Tx, call.NamespaceID, in.Canonical)
		if errors.Is(err, identity.ErrNotFound) {
			return nil, errs.New(errs.Invalid, "invalid group ID given in 'canonical_id'")
		}
		if err != nil {
			return nil, err
		}
		if g != nil && g.ID != to.ID {
			if err := s.DeleteGroupAlias(call.Tx, g, call.Now); err != nil {
				return nil, err
			}
		}
		g = to
	}
	if !g.External {
		return nil, errs.New(errs.Invalid, "alias can't be set on an internal group")
	}
	a := s.NewAlias(call.NamespaceID, call.Now)
	if have := g.Alias; have != nil && (have.ID == in.ID || strings.EqualFold(have.Name, in.Name) && have.MountAccessor == m.Accessor) {
		a = *have
	}
	a.Name, a.MountAccessor, a.MountType, a.MountPath, a.Local = in.Name, m.Accessor, m.Type, m.Path, m.Local
	if _, err := s.PutGroupAlias(call.Tx, g, a, call.Now); err != nil {
		return nil, err
	}
	return answer(map[string]any{"id": a.ID, "canonical_id": g.ID}), nil
}

func (Engine) readGroupAlias(_ context.Context, call *engine.Call, in aliasIDIn) (*engine.Response, error) {
	g, err := store(call).GroupByAliasID(call.Tx, call.NamespaceID, in.ID)
	if err != nil {
		return nil, missing(err)
	}
	out := showAlias(call, g.Alias, g.ID)
	out["namespace_id"] = g.NamespaceID
	return answer(out), nil
}

func (Engine) deleteGroupAlias(_ context.Context, call *engine.Call, in aliasIDIn) (*engine.Response, error) {
	g, err := store(call).GroupByAliasID(call.Tx, call.NamespaceID, in.ID)
	if errors.Is(err, identity.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, store(call).DeleteGroupAlias(call.Tx, g, call.Now)
}

func (Engine) listGroupAliases(_ context.Context, call *engine.Call, in namesIn) (*engine.Response, error) {
	s := store(call)
	ids, err := s.GroupAliasIDs(call.Tx, call.NamespaceID, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	info := make(map[string]any, len(ids))
	for _, id := range ids {
		g, err := s.GroupByAliasID(call.Tx, call.NamespaceID, id)
		if err != nil {
			return nil, err
		}
		out := map[string]any{
			"canonical_id": g.ID, "custom_metadata": nil, "local": g.Alias.Local, "metadata": orNullMap(g.Alias.Metadata),
		}
		showMount(call, out, g.Alias)
		delete(out, "id")
		info[id] = out
	}
	return listed(ids, info, nil)
}
