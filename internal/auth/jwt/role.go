package jwt

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/grant"
	"arca/internal/param"
	"arca/internal/storage"
)

// Types of roles, and of bounds on claims.
const (
	typeJWT    = "jwt"
	typeOIDC   = "oidc"
	boundText  = "string"
	boundGlob  = "glob"
	maxEntries = 1000 // of each list of a role
)

// A role says whose tokens may log in.
type role struct {
	Version     int               `json:"v"`
	Type        string            `json:"role_type"`
	Redirects   []string          `json:"redirects,omitempty"`
	Audiences   []string          `json:"audiences,omitempty"`
	Subject     string            `json:"subject,omitempty"`
	Claims      boundClaims       `json:"claims,omitempty"`
	ClaimsType  string            `json:"claims_type,omitempty"`
	Mappings    map[string]string `json:"mappings,omitempty"` // claim to metadata
	UserClaim   string            `json:"user_claim"`
	UserPointer bool              `json:"user_pointer,omitempty"`
	GroupsClaim string            `json:"groups_claim,omitempty"`
	Scopes      []string          `json:"scopes,omitempty"`
	MaxAge      time.Duration     `json:"max_age,omitempty"`
	ExpLeeway   time.Duration     `json:"exp_leeway,omitempty"`
	NbfLeeway   time.Duration     `json:"nbf_leeway,omitempty"`
	SkewLeeway  time.Duration     `json:"skew_leeway,omitempty"`
	Verbose     bool              `json:"verbose,omitempty"`
	grant.Grant
}

func roleKey(name string) string { return "role/" + strings.ToLower(name) }

func getRole(tx storage.Tx, name string) (*role, error) {
	if name == "" || len(name) > 256 || strings.Contains(name, "/") {
		return nil, storage.ErrNotFound
	}
	return storage.GetJSON[role](tx, roleKey(name))
}

type nameIn struct {
	Name string `api:"name,lower" help:"Name of the role."`
}

type roleIn struct {
	nameIn
	Type        *string            `api:"role_type" help:"jwt or oidc; oidc when absent."`
	Redirects   *[]string          `api:"allowed_redirect_uris" help:"Addresses to which the provider may send back."`
	Audiences   *[]string          `api:"bound_audiences" help:"Audiences of which tokens must have one."`
	Subject     *string            `api:"bound_subject" help:"Subject that tokens must have."`
	Claims      *map[string]any    `api:"bound_claims" help:"Claims that tokens must have, with a value or one of a list."`
	ClaimsType  *string            `api:"bound_claims_type" help:"string, or glob for values with *."`
	Mappings    *map[string]string `api:"claim_mappings" help:"Claims to keep as metadata, with its names."`
	UserClaim   *string            `api:"user_claim" help:"Claim that names who logs in."`
	UserPointer *bool              `api:"user_claim_json_pointer" help:"user_claim is a JSON pointer."`
	GroupsClaim *string            `api:"groups_claim" help:"Claim that lists groups."`
	Scopes      *[]string          `api:"oidc_scopes" help:"Scopes to ask the provider for, beside openid."`
	MaxAge      *time.Duration     `api:"max_age" help:"How long ago the login at the provider may be."`
	ExpLeeway   *time.Duration     `api:"expiration_leeway,signed" help:"Added to exp; 0 is 150 s, below 0 is none."`
	NbfLeeway   *time.Duration     `api:"not_before_leeway,signed" help:"Taken from nbf; 0 is 150 s, below 0 is none."`
	SkewLeeway  *time.Duration     `api:"clock_skew_leeway,signed" help:"Granted to all times; 0 is 60 s, below 0 is none."`
	Verbose     *bool              `api:"verbose_oidc_logging" help:"Taken and shown; what providers say is never logged."`
	NumUses     *int               `api:"num_uses" help:"Older name of token_num_uses."`
	Period      *time.Duration     `api:"period" help:"Older name of token_period."`
	grant.Params
	grant.Legacy
}

func (e *Engine) roleExists(_ context.Context, call *engine.Call, in roleIn) (bool, error) {
	_, err := getRole(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (e *Engine) listRoles(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	names, err := call.Tx.List("role/", in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errNotFound
	}
	return &engine.Response{Data: map[string]any{"keys": names}}, nil
}

func (e *Engine) readRole(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	r, err := getRole(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	seconds := func(d time.Duration) int64 { return int64(d / time.Second) }
	out := map[string]any{
		"role_type": r.Type, "allowed_redirect_uris": r.Redirects, "bound_audiences": r.Audiences, "bound_subject": r.Subject,
		"bound_claims": r.Claims, "bound_claims_type": r.ClaimsType, "claim_mappings": r.Mappings, "user_claim": r.UserClaim,
		"user_claim_json_pointer": r.UserPointer, "groups_claim": r.GroupsClaim, "oidc_scopes": r.Scopes, "max_age": seconds(r.MaxAge),
		"expiration_leeway": seconds(r.ExpLeeway), "not_before_leeway": seconds(r.NbfLeeway), "clock_skew_leeway": seconds(r.SkewLeeway),
		"verbose_oidc_logging": r.Verbose,
	}
	r.Show(out)
	return &engine.Response{Data: out}, nil
}

func (e *Engine) writeRole(_ context.Context, call *engine.Call, in roleIn) (*engine.Response, error) {
	r, err := getRole(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		r, err = &role{ClaimsType: boundText}, nil
	}
	if err != nil {
		return nil, err
	}
	warnings, err := r.apply(&in)
	if err != nil {
		return nil, err
	}
	r.Version = 1
	if err := storage.PutJSON(call.Tx, roleKey(in.Name), r); err != nil || len(warnings) == 0 {
		return nil, err
	}
	return &engine.Response{Bare: true, Warnings: warnings}, nil
}

// boundClaims are decoded as those of tokens are.
type boundClaims map[string]any

// UnmarshalJSON implements json.Unmarshaler.
func (b *boundClaims) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		*b = nil
		return nil
	}
	out, err := claimsOf(raw)
	*b = out
	return err
}

// plain brings claims into the form that those of tokens are decoded to: numbers
// are json.Number.
func plain(claims map[string]any) (boundClaims, error) {
	raw, err := json.Marshal(claims)
	if err != nil {
		return nil, err
	}
	var out boundClaims
	return out, json.Unmarshal(raw, &out)
}

func (r *role) apply(in *roleIn) (warnings []string, err error) {
	param.Take(&r.Type, in.Type)
	if r.Type == "" {
		r.Type = typeOIDC
	}
	param.Take(&r.Redirects, in.Redirects)
	param.Take(&r.Audiences, in.Audiences)
	param.Take(&r.Subject, in.Subject)
	if in.Claims != nil {
		if r.Claims, err = plain(*in.Claims); err != nil {
			return nil, err
		}
	}
	param.Take(&r.ClaimsType, in.ClaimsType)
	param.Take(&r.Mappings, in.Mappings)
	param.Take(&r.UserClaim, in.UserClaim)
	param.Take(&r.UserPointer, in.UserPointer)
	param.Take(&r.GroupsClaim, in.GroupsClaim)
	param.Take(&r.Scopes, in.Scopes)
	param.Take(&r.MaxAge, in.MaxAge)
	param.Take(&r.ExpLeeway, in.ExpLeeway)
	param.Take(&r.NbfLeeway, in.NbfLeeway)
	param.Take(&r.SkewLeeway, in.SkewLeeway)
	param.Take(&r.Verbose, in.Verbose)
	if err := r.check(); err != nil {
		return nil, err
	}
	if in.Params.NumUses == nil {
		in.Params.NumUses = in.NumUses
	}
	if in.Params.Period == nil {
		r.SetPeriod(in.Period)
	}
	return r.Apply(&in.Params, &in.Legacy)
}

func (r *role) check() error {
	if r.Type != typeJWT && r.Type != typeOIDC {
		return errs.New(errs.Invalid, "invalid 'role_type': %s", r.Type)
	}
	if r.UserClaim == "" {
		return errs.New(errs.Invalid, "a user claim must be defined on the role")
	}
	if r.ClaimsType == "" {
		r.ClaimsType = boundText
	}
	if err := r.checkClaims(); err != nil {
		return err
	}
	if len(r.Redirects) > maxEntries || len(r.Audiences) > maxEntries || len(r.Scopes) > maxEntries {
		return errs.New(errs.Invalid, "a list of a role has at most %d entries", maxEntries)
	}
	if r.Type == typeOIDC {
		if len(r.Redirects) == 0 {
			return errs.New(errs.Invalid, "'allowed_redirect_uris' must be set if 'role_type' is 'oidc' or unspecified.")
		}
		for _, text := range r.Redirects {
			if u, err := url.Parse(text); err != nil || u.Scheme == "" {
				return errs.New(errs.Invalid, "allowed_redirect_uris: %q is no URL", text)
			}
		}
		return nil
	}
	if len(r.Audiences) == 0 && r.Subject == "" && len(r.Claims) == 0 && len(r.BoundCIDRs) == 0 {
		return errs.New(errs.Invalid, "must have at least one bound constraint when creating/updating a role")
	}
	return nil
}

func (r *role) checkClaims() error {
	if r.ClaimsType != boundText && r.ClaimsType != boundGlob {
		return errs.New(errs.Invalid, "invalid 'bound_claims_type': %s", r.ClaimsType)
	}
	if len(r.Claims) > maxEntries || len(r.Mappings) > maxEntries {
		return errs.New(errs.Invalid, "a role has at most %d claims", maxEntries)
	}
	for name, want := range r.Claims {
		values, ok := listOf(want)
		if !ok || len(values) > maxEntries {
			return errs.New(errs.Invalid, "bound_claims: the value of %q is neither text, number or truth nor a list of at most %d of these", name, maxEntries)
		}
		for _, v := range values {
			if _, isText := v.(string); r.ClaimsType == boundGlob && !isText {
				return errs.New(errs.Invalid, "claim is not a string: %v", v)
			}
		}
	}
	seen := make([]string, 0, len(r.Mappings))
	for _, to := range r.Mappings {
		if slices.Contains(seen, to) {
			return errs.New(errs.Invalid, "multiple keys are mapped to metadata key %q", to)
		}
		if to == "role" {
			return errs.New(errs.Invalid, "metadata key %q is reserved and may not be a mapping destination", to)
		}
		seen = append(seen, to)
	}
	return nil
}

func (e *Engine) deleteRole(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	return nil, call.Tx.Delete(roleKey(in.Name))
}
