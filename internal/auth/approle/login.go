package approle

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/grant"
	"arca/internal/storage"
)

type loginIn struct {
	RoleID   string `api:"role_id" help:"Id of the role."`
	SecretID string `api:"secret_id" help:"A secret id of the role."`
}

// trim takes the blanks away that ids come with from files and terminals.
func (in *loginIn) trim() {
	in.RoleID, in.SecretID = strings.TrimSpace(in.RoleID), strings.TrimSpace(in.SecretID)
}

func (*Engine) loginName(_ *engine.Call, in loginIn) string {
	if in.trim(); len(in.RoleID) > maxIDBytes {
		return ""
	}
	return in.RoleID
}

func (e *Engine) loginRole(_ context.Context, call *engine.Call, in loginIn) (string, error) {
	id := e.loginName(call, in)
	if id == "" {
		return "", nil
	}
	name, err := call.Tx.Get(idKey(id))
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	return string(name), err
}

func (e *Engine) login(_ context.Context, call *engine.Call, in loginIn) (*engine.Response, error) {
	if in.trim(); in.RoleID == "" {
		return nil, errs.New(errs.Failed, "missing role_id")
	}
	if len(in.RoleID) > maxIDBytes || len(in.SecretID) > maxIDBytes {
		return nil, errBadLogin
	}
	name, err := call.Tx.Get(idKey(in.RoleID))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errBadLogin
	}
	if err != nil {
		return nil, err
	}
	r, err := e.roles.Get(call.Tx, roleKey(string(name))) // shared: not to be changed
	if err != nil {
		return nil, err
	}
	auth := r.Auth()
	auth.Metadata, auth.InternalData = r.says(string(name))
	if r.BindSecretID {
		if err := e.useSecretID(call, r, in.SecretID, auth); err != nil {
			return nil, err
		}
	}
	if from := call.Request.Remote.Addr(); !grant.Within(r.SecretCIDRs, from) {
		return nil, errs.New(errs.Invalid, "source address %q unauthorized by CIDR restrictions on the role: %%!w(<nil>)", from.Unmap())
	}
	auth.Alias = &engine.Alias{Name: in.RoleID, MountAccessor: call.Mount.Accessor, MountType: call.Mount.Type}
	return &engine.Response{Auth: auth}, nil
}

// useSecretID checks a secret id and takes one of its uses.
func (e *Engine) useSecretID(call *engine.Call, r *role, value string, auth *engine.Auth) error {
	if value == "" {
		return errs.New(errs.Invalid, "missing secret_id")
	}
	hash := r.hash(value)
	s, err := e.secretIDs.Get(call.Tx, secretDir(r.UID)+hash) // shared: not to be changed
	if errors.Is(err, storage.ErrNotFound) || err == nil && s.expired(call.Now) {
		return engine.BadCredentials(errBadLogin)
	}
	if err != nil {
		return err
	}
	from := call.Request.Remote.Addr()
	if !grant.Within(s.CIDRs, from) {
		return errs.New(errs.Invalid, "source address %q unauthorized through CIDR restrictions on the secret ID", from.Unmap())
	}
	if len(s.Metadata) > 0 {
		own := auth.Metadata
		auth.Metadata = maps.Clone(s.Metadata)
		maps.Copy(auth.Metadata, own)
	}
	if len(s.TokenCIDRs) > 0 {
		auth.BoundCIDRs = slices.Clone(s.TokenCIDRs)
	}
	switch s.Uses {
	case 0:
		return nil
	case 1:
		return r.removeSecretID(call.Tx, hash, s)
	}
	left := *s
	left.Uses--
	left.Updated = call.Now
	return r.putSecretID(call.Tx, hash, &left)
}

// RenewAuth implements engine.AuthRenewer.
func (*Engine) RenewAuth(_ context.Context, call *engine.Call, auth *engine.Auth) error {
	name, _ := auth.InternalData["role_name"].(string)
	r, err := getRole(call.Tx, name)
	if errors.Is(err, storage.ErrNotFound) {
		return errs.New(errs.Invalid, "role %q does not exist during renewal", name)
	}
	if err != nil {
		return err
	}
	r.Renew(auth)
	return nil
}
