package sys

import (
	"context"

	"arca/internal/core"
	"arca/internal/engine"
)

// lockedRoutes show and free users who gave too many wrong passwords, as
// https://developer.hashicorp.com/vault/api-docs/system/user-lockout has it.
func (e *Engine) lockedRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("locked-users", e.lockedUsers, engine.ActiveOnly, engine.ID("list-locked-users"), engine.Help("List the users who are locked out.")),
		engine.Write("locked-users/{mount_accessor}/unlock/{alias_identifier...}", e.unlockUser, engine.ActiveOnly, engine.ID("unlock-user"),
			engine.Help("Let a user try again.")),
	}
}

type lockedIn struct {
	Accessor string `api:"mount_accessor" help:"Accessor of an auth mount; all when absent."`
}

// Groups of the answer, as it is shown.
type (
	lockedMount struct {
		Accessor string   `json:"mount_accessor"`
		Counts   int      `json:"counts"`
		Names    []string `json:"alias_identifiers"`
	}
	lockedNamespace struct {
		ID     string         `json:"namespace_id"`
		Path   string         `json:"namespace_path"`
		Counts int            `json:"counts"`
		Mounts []*lockedMount `json:"mount_accessors"`
	}
)

func (e *Engine) lockedUsers(_ context.Context, call *engine.Call, in lockedIn) (*engine.Response, error) {
	users := desks(call).LockedUsers(call.NamespacePath, in.Accessor, call.Now)
	return data(map[string]any{"by_namespace": grouped(users), "total": len(users)}), nil
}

// grouped puts users, who come in order, under their namespaces and mounts.
func grouped(users []core.LockedUser) []*lockedNamespace {
	out := []*lockedNamespace{}
	for _, u := range users {
		if n := len(out); n == 0 || out[n-1].ID != u.NamespaceID {
			out = append(out, &lockedNamespace{ID: u.NamespaceID, Path: u.NamespacePath})
		}
		ns := out[len(out)-1]
		if n := len(ns.Mounts); n == 0 || ns.Mounts[n-1].Accessor != u.Accessor {
			ns.Mounts = append(ns.Mounts, &lockedMount{Accessor: u.Accessor})
		}
		m := ns.Mounts[len(ns.Mounts)-1]
		m.Names = append(m.Names, u.Name)
		m.Counts++
		ns.Counts++
	}
	return out
}

type unlockUserIn struct {
	Accessor string `api:"mount_accessor" help:"Accessor of the auth mount."`
	Name     string `api:"alias_identifier" help:"Name of the user, or the role id."`
}

func (e *Engine) unlockUser(_ context.Context, call *engine.Call, in unlockUserIn) (*engine.Response, error) {
	desks(call).UnlockUser(call.NamespacePath, in.Accessor, in.Name)
	return nil, nil
}
