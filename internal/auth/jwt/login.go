package jwt

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/hashicorp/cap/jwt"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

type loginIn struct {
	Role string `api:"role,lower" help:"Name of the role; the default role when absent."`
	JWT  string `api:"jwt" help:"The token."`
}

var errDenied = errs.New(errs.Denied, "permission denied")

func (*Engine) loginRole(_ context.Context, call *engine.Call, in loginIn) (string, error) {
	if in.Role != "" {
		return in.Role, nil
	}
	c, err := getConfig(call.Tx)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return c.DefaultRole, nil
}

// roleFor finds the role of a login, by its name or the default.
func roleFor(tx storage.Tx, c *config, name string) (*role, string, error) {
	if name == "" {
		name = c.DefaultRole
	}
	if name == "" {
		return nil, "", errs.New(errs.Invalid, "missing role")
	}
	r, err := getRole(tx, name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, "", errs.New(errs.Invalid, "role %q could not be found", name)
	}
	return r, name, err
}

// verified are the claims of a token, with what they were verified by: when that
// has changed meanwhile, they count for nothing.
type verified struct {
	by     string
	claims map[string]any
}

// by is a configuration as one text.
func (c *config) by() string {
	raw, err := json.Marshal(c)
	if err != nil {
		return "" // it holds nothing that cannot be encoded
	}
	return string(raw)
}

// with is a configuration and a role as one text: who is verified by both counts
// while neither has changed.
func (c *config) with(r *role) string {
	raw, err := json.Marshal(r)
	if err != nil {
		return "" // as above
	}
	return c.by() + string(raw)
}

func (e *Engine) login(_ context.Context, call *engine.Call, in loginIn) (*engine.Response, error) {
	c, err := configured(call.Tx)
	if err != nil {
		return nil, err
	}
	r, name, err := roleFor(call.Tx, c, in.Role)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Type == typeOIDC:
		return nil, errs.New(errs.Invalid, "role with oidc role_type is not allowed")
	case in.JWT == "":
		return nil, errs.New(errs.Invalid, "missing token")
	case len(in.JWT) > maxTokenBytes:
		return nil, errs.New(errs.Invalid, "error validating token: it is larger than %d bytes", maxTokenBytes)
	case !r.Allows(call.Request.Remote.Addr()):
		return nil, errDenied
	}
	got, ok := call.Asked.(verified)
	if !ok {
		set, err := e.keys.of(c)
		if err != nil {
			return nil, err
		}
		return nil, engine.Ask(func(ctx context.Context) (any, error) {
			claims, err := r.verify(ctx, c, set, in.JWT, call.Now)
			return verified{c.with(r), claims}, err
		})
	}
	if got.by != c.with(r) {
		return nil, errDenied
	}
	if _, has := got.claims["aud"]; has && len(r.Audiences) == 0 && !emptyAudience(got.claims["aud"]) {
		return nil, errs.New(errs.Invalid, "audience claim found in JWT but no audiences bound to the role")
	}
	return r.admit(call, name, got.claims)
}

func emptyAudience(v any) bool {
	list, isList := v.([]any)
	return v == nil || v == "" || isList && len(list) == 0
}

// verify checks a token's signature, times, issuer, subject and audience.
func (r *role) verify(ctx context.Context, c *config, s *set, token string, now time.Time) (map[string]any, error) {
	v, err := jwt.NewValidator(s.keys...)
	if err != nil {
		return nil, err
	}
	expected := jwt.Expected{
		Issuer: c.Issuer, Subject: r.Subject, Audiences: r.Audiences, ExpirationLeeway: r.ExpLeeway, NotBeforeLeeway: r.NbfLeeway,
		ClockSkewLeeway: r.SkewLeeway, Now: func() time.Time { return now },
	}
	for _, name := range c.Algorithms {
		expected.SigningAlgorithms = append(expected.SigningAlgorithms, jwt.Alg(name))
	}
	if len(c.Algorithms) == 0 {
		for _, a := range algorithms() {
			expected.SigningAlgorithms = append(expected.SigningAlgorithms, jwt.Alg(a))
		}
	}
	claims, err := v.Validate(ctx, token, expected)
	if err != nil {
		return nil, errs.New(errs.Invalid, "error validating token: %s", err.Error())
	}
	return claims, nil
}

// admit checks what the role demands of the claims and answers with the token
// that it grants.
func (r *role) admit(call *engine.Call, name string, claims map[string]any) (*engine.Response, error) {
	if err := r.checkBound(claims); err != nil {
		return nil, err
	}
	p, err := r.person(claims, name)
	if err != nil {
		return nil, err
	}
	auth := r.Auth()
	auth.DisplayName = p.name
	auth.Metadata = p.metadata
	auth.InternalData = map[string]any{"role": name}
	auth.Alias = &engine.Alias{Name: p.name, MountAccessor: call.Mount.Accessor, MountType: call.Mount.Type, Metadata: p.metadata}
	auth.GroupAliases = make([]engine.Alias, 0, len(p.groups))
	for _, g := range p.groups {
		auth.GroupAliases = append(auth.GroupAliases, engine.Alias{Name: g, MountAccessor: call.Mount.Accessor, MountType: call.Mount.Type})
	}
	return &engine.Response{Auth: auth}, nil
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
