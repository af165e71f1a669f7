package kubernetes

import (
	"context"
	"errors"

	"github.com/ryanuber/go-glob"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

type loginIn struct {
	Role string `api:"role" help:"Name of the role."`
	JWT  string `api:"jwt" help:"Token of the service account."`
}

var errDenied = errs.New(errs.Denied, "permission denied")

func (*Engine) loginRole(_ context.Context, _ *engine.Call, in loginIn) (string, error) {
	return in.Role, nil
}

func (e *Engine) login(_ context.Context, call *engine.Call, in loginIn) (*engine.Response, error) {
	switch {
	case in.Role == "":
		return nil, errs.New(errs.Invalid, "missing role")
	case in.JWT == "":
		return nil, errs.New(errs.Invalid, "missing jwt")
	}
	r, err := getRole(call.Tx, in.Role)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "invalid role name %q", in.Role)
	}
	if err != nil {
		return nil, err
	}
	c, err := getConfig(call.Tx)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Failed, "could not load backend configuration")
	}
	if err != nil {
		return nil, err
	}
	if !r.Allows(call.Request.Remote.Addr()) {
		return nil, errDenied
	}
	q, err := c.read(in.JWT, call.Now, r)
	if err != nil {
		return nil, err
	}
	// The review is of this token by this cluster: when configuration or role have
	// changed while it was asked, it counts for nothing.
	if reviewed, ok := call.Asked.(review); !ok {
		return nil, engine.Ask(func(ctx context.Context) (any, error) { return e.clusters.judge(ctx, c, q) })
	} else if reviewed != reviewOf(c, q) {
		return nil, errDenied
	}
	return &engine.Response{Auth: r.auth(call, in.Role, &q.account)}, nil
}

// auth is the token that a service account gets.
func (r *role) auth(call *engine.Call, name string, a *account) *engine.Auth {
	about := map[string]string{
		"service_account_name": a.name, "service_account_namespace": a.namespace,
		"service_account_uid": a.uid, "service_account_secret_name": a.secret,
	}
	auth := r.Auth()
	auth.DisplayName = a.namespace + "-" + a.name
	auth.Metadata = map[string]string{"role": name}
	for k, v := range about {
		auth.Metadata[k] = v
	}
	auth.InternalData = map[string]any{"role": name}
	auth.Alias = &engine.Alias{Name: a.uid, MountAccessor: call.Mount.Accessor, MountType: call.Mount.Type, Metadata: about}
	if r.AliasName {
		auth.Alias.Name = a.namespace + "/" + a.name
	}
	return auth
}

// RenewAuth implements engine.AuthRenewer.
func (*Engine) RenewAuth(_ context.Context, call *engine.Call, auth *engine.Auth) error {
	name, _ := auth.InternalData["role"].(string)
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

// matches reports whether a value is one of the patterns, in which * stands for
// anything.
func matches(patterns []string, value string) bool {
	for _, p := range patterns {
		if glob.Glob(p, value) {
			return true
		}
	}
	return false
}
