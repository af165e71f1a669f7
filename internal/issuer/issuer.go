// Package issuer issues signed tokens that say who somebody is: identity tokens
// by roles, and those of the OpenID Connect provider, to which applications send
// their users (https://developer.hashicorp.com/vault/api-docs/secret/identity).
// Its routes are part of identity/.
//
// Keys below a namespace's "i/oidc/":
//
//	config             the issuer of identity tokens
//	key/<name>         a signing key, the next one, and those that still verify
//	role/<name>        a role of identity tokens
//	assignment/<name>  who may use a client
//	scope/<name>       claims that a client may ask for
//	client/<name>      an application
//	cid/<client id>    the name of the client with this id
//	provider/<name>    a provider
//	code/<hash>        what an authorization code stands for, by its SHA-256
//	codedue/<when>/<hash>  the same by when it ends, in Unix seconds, hexadecimal
//	used/role/<key>/<role>, used/client/<key>/<client>, used/assignment/<assignment>/<client>,
//	used/scope/<scope>/<provider>  what uses what
package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"

	"arca/internal/core"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// An Issuer serves identity/oidc/.
type Issuer struct{}

// New makes the issuer.
func New() *Issuer { return &Issuer{} }

// Routes are those of identity/oidc/.
func (i *Issuer) Routes() []engine.Route {
	return slices.Concat(i.keyRoutes(), i.roleRoutes(), i.providerRoutes(), i.flowRoutes())
}

var errNotFound = errs.New(errs.NotFound, "not found")

func desks(call *engine.Call) *core.Active { return call.Desks.(*core.Active) }

// at is where the call's namespace keeps what this package keeps.
func at(call *engine.Call) storage.Tx { return call.Tx.Sub(dir(call.NamespaceID)) }

func dir(ns string) string { return namespace.Prefix(ns) + "i/oidc/" }

func answer(m map[string]any) *engine.Response { return &engine.Response{Data: m} }

func rawJSON(status int, v any) (*engine.Response, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Raw: &engine.Raw{Status: status, Body: append(raw, '\n'), Header: map[string]string{"Cache-Control": "no-store"}}}, nil
}

// found turns the store's word for what is missing into that of the door.
func found(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return errNotFound
	}
	return err
}

const maxNameBytes = 256

func checkName(name string) error {
	if name == "" || len(name) > maxNameBytes || strings.ContainsAny(name, "/\x00") {
		return errs.New(errs.Invalid, "a name has 1 to %d bytes and no slash", maxNameBytes)
	}
	return nil
}

type nameIn struct {
	Name string `api:"name" help:"The name."`
}

// list lists a page of the names below a directory, with those that are always
// there.
func list(tx storage.Tx, in engine.Paging, dir string, always ...string) ([]string, error) {
	names, err := tx.List(dir, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	for _, n := range always {
		if n > in.After {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if in.Limit > 0 && len(names) > in.Limit {
		names = names[:in.Limit]
	}
	return names, nil
}

func listed(names []string, info map[string]any, err error) (*engine.Response, error) {
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errNotFound
	}
	out := map[string]any{"keys": names}
	if info != nil {
		out["key_info"] = info
	}
	return answer(out), nil
}

// use notes that user no longer uses what it used, but what it uses now: names
// of one kind.
func use(tx storage.Tx, kind, user string, before, now []string) error {
	key := func(name string) string { return "used/" + kind + "/" + name + "/" + user }
	for _, name := range before {
		if !slices.Contains(now, name) {
			if err := tx.Delete(key(name)); err != nil {
				return err
			}
		}
	}
	for _, name := range now {
		if !slices.Contains(before, name) {
			if err := tx.Put(key(name), []byte{1}); err != nil {
				return err
			}
		}
	}
	return nil
}

// users lists who uses what has a name, at most a few of them.
func users(tx storage.Tx, kind, name string) ([]string, error) {
	return tx.List("used/"+kind+"/"+name+"/", "", 21)
}

// inUse lists the names of a kind that anybody uses.
func inUse(tx storage.Tx, kind string) ([]string, error) {
	names, err := tx.List("used/"+kind+"/", "", 0)
	for i := range names {
		names[i] = strings.TrimSuffix(names[i], "/")
	}
	return names, err
}

const (
	warnIssuer = "If \"issuer\" is set explicitly, all tokens must be validated against that address, including those issued by secondary " +
		"clusters. Setting issuer to \"\" will restore the default behavior of using the cluster's api_addr as the issuer."
)

// checkIssuer takes an address without a path.
func checkIssuer(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return errs.New(errs.Invalid, "invalid issuer, which must include only a scheme, host, and optional port (e.g. https://example.com:8200)")
	}
	return nil
}

type config struct {
	Version int    `json:"v"`
	Issuer  string `json:"issuer"`
}

type configIn struct {
	Issuer string `api:"issuer" help:"Scheme, host and port that tokens name as their issuer; that of api_addr when empty."`
}

func configOf(call *engine.Call) (*config, error) {
	c, err := storage.GetJSON[config](at(call), "config")
	if errors.Is(err, storage.ErrNotFound) {
		return &config{}, nil
	}
	return c, err
}

// base is the address at which clients find identity/oidc.
func base(call *engine.Call, issuer string) string {
	if issuer == "" {
		issuer = desks(call).APIAddr()
	}
	return issuer + "/v1/" + call.NamespacePath + "identity/oidc"
}

func (i *Issuer) readConfig(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	c, err := configOf(call)
	if err != nil {
		return nil, err
	}
	return answer(map[string]any{"issuer": c.Issuer}), nil
}

func (i *Issuer) writeConfig(_ context.Context, call *engine.Call, in configIn) (*engine.Response, error) {
	if err := checkIssuer(in.Issuer); err != nil {
		return nil, err
	}
	if err := storage.PutJSON(at(call), "config", config{1, in.Issuer}); err != nil || in.Issuer == "" {
		return nil, err
	}
	return &engine.Response{Bare: true, Warnings: []string{warnIssuer}}, nil
}
