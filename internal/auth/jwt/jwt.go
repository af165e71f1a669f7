// Package jwt lets those log in who show a signed JSON web token, and those whom
// an OpenID Connect provider sends back from its login page.
//
// Tokens are verified with keys that the configuration holds, with those at a
// URL, or with those of a provider's discovery document. Whatever is fetched is
// fetched outside of transactions, with bounds on time, size and number, so that
// a provider that hangs holds up its own logins only. The behaviour follows
// https://developer.hashicorp.com/vault/api-docs/auth/jwt.
//
// Keys within a mount: "config", "role/<name>", "ended/<when>/<id>". Logins that have begun in a
// browser and not yet come back are in the state that the provider sends back.
package jwt

import (
	"arca/internal/engine"
)

// An Engine is the method, under one of its two names.
type Engine struct {
	name   string
	keys   keySets
	opened providers

	exchanges slots // logins whose codes are being given to providers
}

var (
	_ engine.Engine      = (*Engine)(nil)
	_ engine.AuthRenewer = (*Engine)(nil)
)

// New makes the method named "jwt" or "oidc"; both are the same.
func New(name string) *Engine { return &Engine{name: name} }

// Type implements engine.Engine.
func (e *Engine) Type() string { return e.name }

// Routes implements engine.Engine.
func (e *Engine) Routes() []engine.Route {
	return []engine.Route{
		engine.Read("config", e.readConfig, engine.ID(e.name+"-read-configuration"), engine.Help("Read how tokens are verified.")),
		engine.Write("config", e.writeConfig, engine.ID(e.name+"-configure"), engine.Help("Say how tokens are verified.")),
		engine.List("role", e.listRoles, engine.ID(e.name+"-list-roles"), engine.Help("List the roles.")),
		engine.Read("role/{name}", e.readRole, engine.ID(e.name+"-read-role"), engine.Help("Read a role.")),
		engine.Write("role/{name}", e.writeRole, engine.Exists(e.roleExists), engine.ID(e.name+"-write-role"),
			engine.Help("Write a role; what is not given stays.")),
		engine.Delete("role/{name}", e.deleteRole, engine.ID(e.name+"-delete-role"), engine.Help("Delete a role.")),
		engine.Write("login", e.login, engine.Login, engine.LoginRole(e.loginRole), engine.ID(e.name+"-login"), engine.Help("Log in with a token.")),
		engine.Write("oidc/auth_url", e.authURL, engine.NoToken, engine.ID(e.name+"-oidc-request-authorization-url"),
			engine.Help("Begin a login at the provider: get the address of its page.")),
		engine.Read("oidc/callback", e.callback, engine.Login, engine.LoginRole(e.callbackRole), engine.WriteTx, engine.NoParamWarn, engine.ID(e.name+"-oidc-callback"),
			engine.Help("End a login at the provider.")),
	}
}
