package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/identity"
	"arca/internal/storage"
	"arca/internal/token"
)

func (i *Issuer) roleRoutes() []engine.Route {
	return []engine.Route{
		engine.List("oidc/role", i.listRoles, engine.ID("oidc-list-roles"), engine.Help("List the roles of identity tokens.")),
		engine.Read("oidc/role/{name}", i.readRole, engine.ID("oidc-read-role"), engine.Help("Read a role of identity tokens.")),
		engine.Write("oidc/role/{name}", i.writeRole, engine.ID("oidc-write-role"), engine.Help("Make or change a role of identity tokens.")),
		engine.Delete("oidc/role/{name}", i.deleteRole, engine.ID("oidc-delete-role"), engine.Help("Delete a role of identity tokens.")),
		engine.Read("oidc/token/{name}", i.token, engine.ID("oidc-generate-token"), engine.Help("Get an identity token.")),
		engine.Write("oidc/introspect", i.introspect, engine.ID("oidc-introspect"), engine.Help("Tell whether an identity token is good.")),
		engine.Read("oidc/.well-known/openid-configuration", i.discovery, engine.NoToken, engine.ID("oidc-read-open-id-configuration"),
			engine.Help("Tell where the keys of identity tokens are.")),
		engine.Read("oidc/.well-known/keys", i.roleKeys, engine.NoToken, engine.ID("oidc-read-public-keys"),
			engine.Help("Get the public keys of identity tokens.")),
	}
}

// A role says what identity tokens hold.
type role struct {
	Version  int           `json:"v"`
	Key      string        `json:"key"`
	ClientID string        `json:"client_id"`
	TTL      time.Duration `json:"ttl"`
	Template string        `json:"template,omitempty"`
}

func roleOf(call *engine.Call, name string) (*role, error) {
	if checkName(name) != nil {
		return nil, storage.ErrNotFound
	}
	return storage.GetJSON[role](at(call), "role/"+name)
}

type roleIn struct {
	nameIn
	Key      *string        `api:"key" help:"Key that signs."`
	Template *string        `api:"template" help:"JSON with {{…}} that becomes claims; text or base64."`
	TTL      *time.Duration `api:"ttl" help:"How long tokens are good; 24 hours when absent."`
	ClientID *string        `api:"client_id" help:"Audience of the tokens; made when absent."`
}

func (i *Issuer) writeRole(_ context.Context, call *engine.Call, in roleIn) (*engine.Response, error) {
	if err := checkName(in.Name); err != nil {
		return nil, err
	}
	r, err := roleOf(call, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		r, err = &role{TTL: day}, nil
	}
	if err != nil {
		return nil, err
	}
	before := r.keys()
	if in.Key != nil {
		r.Key = *in.Key
	}
	if in.Template != nil {
		r.Template = decodeTemplate(*in.Template)
	}
	if in.TTL != nil {
		r.TTL = *in.TTL
	}
	if in.ClientID != nil {
		r.ClientID = *in.ClientID
	}
	if r.Key == "" {
		return nil, errs.New(errs.Invalid, "the key parameter is required")
	}
	if err := checkTemplate(r.Template); err != nil {
		return nil, err
	}
	k, err := keyOf(call, r.Key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "cannot find key %q", r.Key)
	}
	if err != nil {
		return nil, err
	}
	if r.TTL > k.Verify {
		return nil, errs.New(errs.Invalid, "a role's token ttl cannot be longer than the verification_ttl of the key it references")
	}
	if len(r.ClientID) > maxNameBytes {
		return nil, errs.New(errs.Invalid, "client_id is longer than %d bytes", maxNameBytes)
	}
	if r.ClientID == "" {
		r.ClientID = token.Random(26)
	}
	if k.Signing.Key == nil { // of the key default, which others will want to fetch
		if err := storeFresh(call, r.Key, k); err != nil {
			return nil, err
		}
	}
	if err := use(at(call), "role", in.Name, before, r.keys()); err != nil {
		return nil, err
	}
	r.Version = 1
	return nil, storage.PutJSON(at(call), "role/"+in.Name, r)
}

func (r *role) keys() []string {
	if r.Key == "" {
		return nil
	}
	return []string{r.Key}
}

func (i *Issuer) readRole(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	r, err := roleOf(call, in.Name)
	if err != nil {
		return nil, found(err)
	}
	return answer(map[string]any{"key": r.Key, "client_id": r.ClientID, "ttl": int64(r.TTL / time.Second), "template": r.Template}), nil
}

func (i *Issuer) listRoles(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	names, err := list(at(call), in, "role/")
	return listed(names, nil, err)
}

func (i *Issuer) deleteRole(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	r, err := roleOf(call, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := use(at(call), "role", in.Name, r.keys(), nil); err != nil {
		return nil, err
	}
	return nil, at(call).Delete("role/" + in.Name)
}

// identityClaims are the claims of every token of the issuer.
type identityClaims struct {
	Issuer    string `json:"iss"`
	Namespace string `json:"namespace"`
	Subject   string `json:"sub"`
	Audience  string `json:"aud"`
	Expires   int64  `json:"exp"`
	Issued    int64  `json:"iat"`
}

// merge adds claims of templates to the issuer's own, which they cannot replace.
func merge(own any, more map[string]json.RawMessage) ([]byte, error) {
	raw, err := json.Marshal(own)
	if err != nil {
		return nil, err
	}
	all := map[string]json.RawMessage{}
	for name, v := range more {
		if !slices.Contains(reserved, name) {
			all[name] = v
		}
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

func (i *Issuer) token(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	r, err := roleOf(call, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "role %q not found", in.Name)
	}
	if err != nil {
		return nil, err
	}
	k, err := keyOf(call, r.Key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "key %q not found", r.Key)
	}
	if err != nil {
		return nil, err
	}
	if !k.allows(r.ClientID) {
		return nil, errs.New(errs.Invalid, "the key %q does not list the client ID of the role %q as an allowed client ID", r.Key, in.Name)
	}
	if call.Caller.EntityID == "" {
		return nil, errs.New(errs.Invalid, "no entity associated with the request's token")
	}
	p, err := desks(call).Identity.Person(call.Tx, call.Caller.EntityID)
	if err != nil {
		return nil, err
	}
	c, err := configOf(call)
	if err != nil {
		return nil, err
	}
	more, err := fillTemplate(r.Template, p, call.NamespaceID, call.Now)
	if err != nil {
		return nil, err
	}
	claims, err := merge(identityClaims{
		Issuer: base(call, c.Issuer), Namespace: call.NamespaceID, Subject: p.Entity.ID, Audience: r.ClientID,
		Expires: call.Now.Add(r.TTL).Unix(), Issued: call.Now.Unix(),
	}, more)
	if err != nil {
		return nil, err
	}
	text, err := sign(call, r.Key, k, claims)
	if err != nil {
		return nil, err
	}
	return answer(map[string]any{"token": text, "client_id": r.ClientID, "ttl": int64(r.TTL / time.Second)}), nil
}

// publicOf are the public keys of keys by their names.
func publicOf(call *engine.Call, names []string) ([]jose.JSONWebKey, error) {
	slices.Sort(names)
	out := []jose.JSONWebKey{}
	for _, name := range slices.Compact(names) {
		k, err := keyOf(call, name)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if k.Signing.Key != nil {
			out = append(out, k.public(call.Now)...)
		}
	}
	return out, nil
}

func (i *Issuer) roleKeys(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	names, err := inUse(at(call), "role")
	if err != nil {
		return nil, err
	}
	keys, err := publicOf(call, names)
	if err != nil {
		return nil, err
	}
	return rawJSON(0, jose.JSONWebKeySet{Keys: keys})
}

func (i *Issuer) discovery(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	c, err := configOf(call)
	if err != nil {
		return nil, err
	}
	issuer := base(call, c.Issuer)
	return rawJSON(0, map[string]any{
		"issuer": issuer, "jwks_uri": issuer + "/.well-known/keys", "response_types_supported": []string{"id_token"},
		"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": algorithms,
	})
}

type introspectIn struct {
	Token    string `api:"token" help:"The identity token."`
	ClientID string `api:"client_id" help:"Audience that it must have."`
}

func (i *Issuer) introspect(_ context.Context, call *engine.Call, in introspectIn) (*engine.Response, error) {
	reason, err := i.judge(call, &in)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		return rawJSON(0, map[string]any{"active": false, "error": reason})
	}
	return rawJSON(0, map[string]any{"active": true})
}

// judge says what is wrong with an identity token, "" for nothing.
func (i *Issuer) judge(call *engine.Call, in *introspectIn) (string, error) {
	if len(in.Token) > 64<<10 {
		return "error parsing token: it is too large", nil
	}
	parsed, err := jwt.ParseSigned(in.Token, algorithms)
	if err != nil {
		return "error parsing token: " + err.Error(), nil
	}
	names, err := inUse(at(call), "role")
	if err != nil {
		return "", err
	}
	keys, err := publicOf(call, names)
	if err != nil {
		return "", err
	}
	var claims jwt.Claims
	good := false
	for n := range keys {
		if good = parsed.Claims(keys[n], &claims) == nil; good {
			break
		}
	}
	if !good {
		return "unable to validate the token signature", nil
	}
	c, err := configOf(call)
	if err != nil {
		return "", err
	}
	expected := jwt.Expected{Issuer: base(call, c.Issuer), Time: call.Now}
	if in.ClientID != "" {
		expected.AnyAudience = jwt.Audience{in.ClientID}
	}
	if err := claims.Validate(expected); err != nil {
		return "error validating claims: " + err.Error(), nil
	}
	_, err = desks(call).Identity.Person(call.Tx, claims.Subject)
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return "entity was not found", nil
	case errors.Is(err, identity.ErrDisabled):
		return "entity is disabled", nil
	}
	return "", err
}
