// Package kubernetes lets pods log in with the token of their service account.
//
// The cluster is asked whether a token is good (TokenReview), with the reviewer's
// token or, without one, with the caller's own; with pem_keys the token's
// signature is checked here as well. With use_published_keys the cluster is not
// asked about each token: its signature is checked by the keys that the cluster
// publishes, which needs no reviewer, and learns later that an account is gone:
// when the token ends. Namespaces are named, or chosen by their labels.
//
// The cluster is asked outside of any transaction, with bounds on time, size and
// number, so that one that hangs holds up its own logins only. The behaviour
// follows https://developer.hashicorp.com/vault/api-docs/auth/kubernetes.
//
// Keys within a mount: "config", "role/<name>".
package kubernetes

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/url"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/grant"
	"arca/internal/storage"
)

// An Engine is the method kubernetes.
type Engine struct{ clusters clusters }

var (
	_ engine.Engine      = (*Engine)(nil)
	_ engine.AuthRenewer = (*Engine)(nil)
)

// New makes the method.
func New() *Engine { return &Engine{clusters: clusters{known: map[clusterKey]*cluster{}}} }

// Type implements engine.Engine.
func (*Engine) Type() string { return "kubernetes" }

// Routes implements engine.Engine.
func (e *Engine) Routes() []engine.Route {
	return []engine.Route{
		engine.Read("config", e.readConfig, engine.ID("kubernetes-read-auth-configuration"), engine.Help("Read how the cluster is reached.")),
		engine.Write("config", e.writeConfig, engine.ID("kubernetes-configure-auth"), engine.Help("Say how the cluster is reached.")),
		engine.List("role", e.listRoles, engine.ID("kubernetes-list-auth-roles"), engine.Help("List the roles.")),
		engine.Read("role/{name}", e.readRole, engine.ID("kubernetes-read-auth-role"), engine.Help("Read a role.")),
		engine.Write("role/{name}", e.writeRole, engine.Exists(e.roleExists), engine.ID("kubernetes-write-auth-role"),
			engine.Help("Write a role; what is not given stays.")),
		engine.Delete("role/{name}", e.deleteRole, engine.ID("kubernetes-delete-auth-role"), engine.Help("Delete a role.")),
		engine.Write("login", e.login, engine.Login, engine.LoginRole(e.loginRole), engine.ID("kubernetes-login"), engine.Help("Log in.")),
	}
}

// A config says how the cluster is reached.
type config struct {
	Version    int      `json:"v"`
	Host       string   `json:"host"`
	CA         string   `json:"ca,omitempty"`       // PEM
	Reviewer   string   `json:"reviewer,omitempty"` // JWT; "" is the caller's own
	PEMKeys    []string `json:"pem_keys,omitempty"`
	Issuer     string   `json:"issuer,omitempty"`
	SkipIssuer bool     `json:"skip_issuer,omitempty"`
	NoLocal    bool     `json:"no_local,omitempty"` // not from the pod's own files
	Published  bool     `json:"published,omitempty"`
}

const configKey = "config"

var errNotFound = errs.New(errs.NotFound, "not found")

func getConfig(tx storage.Tx) (*config, error) { return storage.GetJSON[config](tx, configKey) }

func (e *Engine) readConfig(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	c, err := getConfig(call.Tx)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	keys := c.PEMKeys
	if keys == nil {
		keys = []string{}
	}
	out := map[string]any{
		"kubernetes_host": c.Host, "kubernetes_ca_cert": c.CA, "pem_keys": keys, "issuer": c.Issuer,
		"disable_iss_validation": c.SkipIssuer, "disable_local_ca_jwt": c.NoLocal, "token_reviewer_jwt_set": c.Reviewer != "",
	}
	if c.Published { // an addition of ours: clients that do not use it see what Vault shows
		out["use_published_keys"] = true
	}
	return &engine.Response{Data: out}, nil
}

type configIn struct {
	Host       string   `api:"kubernetes_host" help:"URL of the cluster's API."`
	CA         string   `api:"kubernetes_ca_cert" help:"PEM of the authority that signed its certificate."`
	Reviewer   string   `api:"token_reviewer_jwt" help:"Token with which reviews are asked for; the caller's own when absent."`
	PEMKeys    []string `api:"pem_keys" help:"PEM of the keys or certificates that sign the tokens."`
	Issuer     string   `api:"issuer" help:"Issuer of the tokens, where that is checked."`
	SkipIssuer *bool    `api:"disable_iss_validation" help:"Do not check the issuer; true when absent."`
	NoLocal    bool     `api:"disable_local_ca_jwt" help:"Do not use the files of the pod in which this server runs."`
	Published  bool     `api:"use_published_keys" help:"Check tokens by the keys that the cluster publishes, instead of asking it about each."`
}

const maxPEMBytes = 64 << 10

func (e *Engine) writeConfig(_ context.Context, call *engine.Call, in configIn) (*engine.Response, error) {
	if in.Host == "" {
		return nil, errs.New(errs.Invalid, "no host provided")
	}
	if u, err := url.Parse(in.Host); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errs.New(errs.Invalid, "kubernetes_host %q is no URL, such as https://10.0.0.1:6443", in.Host)
	}
	switch {
	case in.Published && len(in.PEMKeys) > 0:
		return nil, errs.New(errs.Invalid, "use_published_keys and pem_keys exclude each other")
	case in.Published && !strings.HasPrefix(in.Host, "https://"):
		return nil, errs.New(errs.Invalid, "use_published_keys needs a kubernetes_host that begins with https://")
	}
	if in.NoLocal && in.CA == "" {
		return nil, errs.New(errs.Invalid, "kubernetes_ca_cert must be given when disable_local_ca_jwt is true")
	}
	if len(in.CA) > maxPEMBytes || len(in.PEMKeys) > 100 || len(in.Reviewer) > maxTokenBytes {
		return nil, errs.New(errs.Invalid, "a certificate, key or token is too large, or there are more than 100 keys")
	}
	for _, text := range in.PEMKeys {
		if len(text) > maxPEMBytes {
			return nil, errs.New(errs.Invalid, "a key of pem_keys is too large")
		}
		if _, err := publicKey(text); err != nil {
			return nil, errs.New(errs.Invalid, "pem_keys: %s", err.Error())
		}
	}
	c := config{
		Version: 1, Host: strings.TrimSuffix(in.Host, "/"), CA: in.CA, Reviewer: in.Reviewer, PEMKeys: in.PEMKeys, Issuer: in.Issuer,
		SkipIssuer: in.SkipIssuer == nil || *in.SkipIssuer, NoLocal: in.NoLocal,
		Published: in.Published,
	}
	return nil, storage.PutJSON(call.Tx, configKey, c)
}

// publicKey reads a public key, or that of a certificate.
func publicKey(text string) (any, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("data does not contain any valid RSA or ECDSA public keys")
	}
	if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
		return cert.PublicKey, nil
	}
	if key, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("data does not contain any valid RSA or ECDSA public keys")
	}
	return key, nil
}

// A role says which service accounts may log in.
type role struct {
	Version    int      `json:"v"`
	Names      []string `json:"names"`
	Namespaces []string `json:"namespaces"`
	Selector   string   `json:"selector,omitempty"` // of namespaces beside those, as it was written
	Audience   string   `json:"audience,omitempty"`
	AliasName  bool     `json:"alias_name,omitempty"` // the alias is namespace and name, not the uid
	grant.Grant
}

func roleKey(name string) string { return "role/" + strings.ToLower(name) }

func getRole(tx storage.Tx, name string) (*role, error) {
	if name == "" || len(name) > 256 {
		return nil, storage.ErrNotFound
	}
	return storage.GetJSON[role](tx, roleKey(name))
}

type nameIn struct {
	Name string `api:"name,lower" help:"Name of the role."`
}

type roleIn struct {
	nameIn
	Names      *[]string      `api:"bound_service_account_names" help:"Names of the service accounts; * is a wildcard."`
	Namespaces *[]string      `api:"bound_service_account_namespaces" help:"Their namespaces; * is a wildcard."`
	Selector   *string        `api:"bound_service_account_namespace_selector" help:"Label selector, in JSON or YAML, of namespaces beside those."`
	Audience   *string        `api:"audience" help:"Audience that the token must have."`
	AliasFrom  *string        `api:"alias_name_source" help:"serviceaccount_uid or serviceaccount_name."`
	NumUses    *int           `api:"num_uses" help:"Older name of token_num_uses."`
	Period     *time.Duration `api:"period" help:"Older name of token_period."`
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

const (
	sourceUID  = "serviceaccount_uid"
	sourceName = "serviceaccount_name"
)

func (e *Engine) readRole(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	r, err := getRole(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	namespaces := r.Namespaces
	if namespaces == nil {
		namespaces = []string{}
	}
	source := sourceUID
	if r.AliasName {
		source = sourceName
	}
	out := map[string]any{
		"bound_service_account_names": r.Names, "bound_service_account_namespaces": namespaces,
		"bound_service_account_namespace_selector": r.Selector, "alias_name_source": source,
	}
	if r.Audience != "" {
		out["audience"] = r.Audience
	}
	r.Show(out)
	return &engine.Response{Data: out}, nil
}

func (e *Engine) writeRole(_ context.Context, call *engine.Call, in roleIn) (*engine.Response, error) {
	r, err := getRole(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		r, err = &role{}, nil
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

func (r *role) apply(in *roleIn) (warnings []string, err error) {
	if in.Selector != nil {
		r.Selector = strings.TrimSpace(*in.Selector)
	}
	if r.Selector != "" {
		if _, err := parseSelector(r.Selector); err != nil {
			return nil, err
		}
	}
	if in.Names != nil {
		r.Names = *in.Names
	}
	if in.Namespaces != nil {
		r.Namespaces = *in.Namespaces
	}
	switch {
	case len(r.Names) == 0:
		return nil, errs.New(errs.Invalid, "%q can not be empty", "bound_service_account_names")
	case len(r.Namespaces) == 0 && r.Selector == "":
		return nil, errs.New(errs.Invalid, "%q can not be empty if %q is not set", "bound_service_account_namespaces", "bound_service_account_namespace_selector")
	case len(r.Names) > 1000 || len(r.Namespaces) > 1000:
		return nil, errs.New(errs.Invalid, "a role has at most 1000 names and 1000 namespaces")
	}
	if in.Audience != nil {
		r.Audience = *in.Audience
	}
	if in.AliasFrom != nil {
		switch *in.AliasFrom {
		case "", sourceUID:
			r.AliasName = false
		case sourceName:
			r.AliasName = true
		default:
			return nil, errs.New(errs.Invalid, "invalid alias_name_source, must be one of: %s, %s", sourceUID, sourceName)
		}
	}
	if in.Params.NumUses == nil {
		in.Params.NumUses = in.NumUses
	}
	if in.Params.Period == nil {
		r.SetPeriod(in.Period)
	}
	return r.Apply(&in.Params, &in.Legacy)
}

func (e *Engine) deleteRole(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	return nil, call.Tx.Delete(roleKey(in.Name))
}
