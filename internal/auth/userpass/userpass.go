// Package userpass lets people log in with a name and a password.
//
// Names are lower case. Passwords are kept as bcrypt hashes only; a name that
// does not exist costs a guesser as much time as one that does. The behaviour
// follows https://developer.hashicorp.com/vault/api-docs/auth/userpass.
//
// Keys within a mount: "u/<name>".
package userpass

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime"

	"golang.org/x/crypto/bcrypt"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/grant"
	"arca/internal/storage"
)

const maxNameBytes = 256

// An Engine is the method userpass.
type Engine struct {
	names *regexp.Regexp
	desk  *desk
	dummy []byte // a hash that no password has, for names that do not exist
}

var (
	_ engine.Engine      = (*Engine)(nil)
	_ engine.AuthRenewer = (*Engine)(nil)
)

// New makes the method.
func New() *Engine {
	return &Engine{
		names: regexp.MustCompile(`^\w([\w.@-]*\w)?$`),
		desk:  newDesk(runtime.GOMAXPROCS(0)),
		dummy: []byte("$2a$10$7EqJtq98hPqEX7fNZaFWoOa8x0DkLnpEDSUE.Vn5IzbDnY7oP6rVe"),
	}
}

// Type implements engine.Engine.
func (*Engine) Type() string { return "userpass" }

// Routes implements engine.Engine.
func (e *Engine) Routes() []engine.Route {
	return []engine.Route{
		engine.List("users", e.list, engine.ID("userpass-list-users"), engine.Help("List the users.")),
		engine.Read("users/{username}", e.read, engine.ID("userpass-read-user"), engine.Help("Read a user.")),
		engine.Write("users/{username}", e.write, engine.Exists(e.exists), engine.ID("userpass-write-user"), engine.Help("Write a user; what is not given stays.")),
		engine.Delete("users/{username}", e.delete, engine.ID("userpass-delete-user"), engine.Help("Delete a user.")),
		engine.Write("users/{username}/password", e.setPassword, engine.ID("userpass-reset-password"), engine.Help("Change a user's password.")),
		engine.Write("users/{username}/policies", e.setPolicies, engine.ID("userpass-update-policies"), engine.Help("Change a user's policies.")),
		engine.Write("login/{username}", e.login, engine.Login, engine.LoginName(loginName), engine.ID("userpass-login"), engine.Help("Log in.")),
	}
}

type nameIn struct {
	Name string `api:"username,lower" help:"Name of the user."`
}

type userIn struct {
	nameIn
	passwordIn
	grant.Params
	grant.Legacy
}

type passwordIn struct {
	Password string `api:"password" help:"The password."`
	Hash     string `api:"password_hash" help:"A bcrypt hash of the password, in place of it."`
}

type user struct {
	Version int    `json:"v"`
	Hash    []byte `json:"hash"`
	grant.Grant
}

func key(name string) string { return "u/" + name }

var (
	errNotFound = errs.New(errs.NotFound, "not found")
	errNoUser   = errs.List(errs.Failed, "username does not exist")
	errWrong    = errs.New(errs.Invalid, "invalid username or password")
)

func get(tx storage.Tx, name string) (*user, error) {
	raw, err := tx.Get(key(name))
	if err != nil {
		return nil, err
	}
	u := &user{}
	if err := json.Unmarshal(raw, u); err != nil {
		return nil, fmt.Errorf("decode user: %w", err)
	}
	return u, nil
}

func put(tx storage.Tx, name string, u *user) error {
	u.Version = 1
	raw, err := json.Marshal(u)
	if err != nil {
		return err
	}
	return tx.Put(key(name), raw)
}

func (e *Engine) checkName(name string) error {
	if len(name) > maxNameBytes || !e.names.MatchString(name) {
		return engine.ErrPath
	}
	return nil
}

func (e *Engine) list(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	names, err := call.Tx.List(key(""), in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errNotFound
	}
	return &engine.Response{Data: map[string]any{"keys": names}}, nil
}

func (e *Engine) exists(_ context.Context, call *engine.Call, in userIn) (bool, error) {
	_, err := get(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (e *Engine) read(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	u, err := get(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	u.Show(out)
	return &engine.Response{Data: out}, nil
}

func (e *Engine) write(ctx context.Context, call *engine.Call, in userIn) (*engine.Response, error) {
	if err := e.checkName(in.Name); err != nil {
		return nil, err
	}
	u, err := get(call.Tx, in.Name)
	fresh := errors.Is(err, storage.ErrNotFound)
	if fresh {
		u, err = &user{}, nil
	}
	if err != nil {
		return nil, err
	}
	if in.Password != "" || in.Hash != "" || fresh {
		if err := e.hash(ctx, call, u, in.passwordIn); err != nil {
			return nil, err
		}
	}
	warnings, err := u.Apply(&in.Params, &in.Legacy)
	if err != nil {
		return nil, err
	}
	return warned(warnings), put(call.Tx, in.Name, u)
}

// warned is the answer of a write: none, unless there is something to say.
func warned(warnings []string) *engine.Response {
	if len(warnings) == 0 {
		return nil
	}
	return &engine.Response{Bare: true, Warnings: warnings}
}

// hash sets a user's password.
func (e *Engine) hash(ctx context.Context, call *engine.Call, u *user, in passwordIn) error {
	switch {
	case in.Password != "" && in.Hash != "":
		return errs.New(errs.Invalid, "only one of password or password_hash may be provided")
	case in.Password == "" && in.Hash == "":
		return errs.New(errs.Invalid, "must provide either password or password_hash")
	case in.Hash != "":
		cost, err := bcrypt.Cost([]byte(in.Hash))
		if err != nil {
			return errs.New(errs.Invalid, "password_hash is no bcrypt hash")
		}
		if cost > maxCost {
			return errs.New(errs.Invalid, "password_hash has the cost %d: each login would keep a processor busy for long; the most is %d", cost, maxCost)
		}
		u.Hash = []byte(in.Hash)
		return nil
	}
	var hash []byte
	err := e.desk.work(ctx, call.Done, call.Mount.Accessor, func() (err error) {
		hash, err = bcrypt.GenerateFromPassword([]byte(in.Password), bcrypt.DefaultCost)
		return err
	})
	if errors.Is(err, bcrypt.ErrPasswordTooLong) {
		return errs.New(errs.Invalid, "the password is longer than 72 bytes, of which the hash takes no more")
	}
	if err != nil {
		return err
	}
	u.Hash = hash
	return nil
}

// maxCost is the cost that a given hash may have at most: about a second of one
// processor, where ours take a sixteenth of that.
const maxCost = bcrypt.DefaultCost + 4

func (e *Engine) delete(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	return nil, call.Tx.Delete(key(in.Name))
}

type setPasswordIn struct {
	nameIn
	passwordIn
}

func (e *Engine) setPassword(ctx context.Context, call *engine.Call, in setPasswordIn) (*engine.Response, error) {
	u, err := get(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNoUser
	}
	if err != nil {
		return nil, err
	}
	if err := e.hash(ctx, call, u, in.passwordIn); err != nil {
		return nil, err
	}
	return nil, put(call.Tx, in.Name, u)
}

type setPoliciesIn struct {
	nameIn
	Policies *[]string `api:"token_policies" help:"Policies of the tokens."`
	Old      *[]string `api:"policies" help:"Older name of token_policies."`
}

func (e *Engine) setPolicies(_ context.Context, call *engine.Call, in setPoliciesIn) (*engine.Response, error) {
	u, err := get(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNoUser
	}
	if err != nil {
		return nil, err
	}
	if _, err := u.Apply(&grant.Params{Policies: in.Policies}, &grant.Legacy{Policies: in.Old}); err != nil {
		return nil, err
	}
	return nil, put(call.Tx, in.Name, u)
}

type loginIn struct {
	nameIn
	Password string `api:"password" help:"The password."`
}

// loginName is a name that a user could have; others are not remembered.
func loginName(_ *engine.Call, in loginIn) string {
	if len(in.Name) > maxNameBytes {
		return ""
	}
	return in.Name
}

func (e *Engine) login(ctx context.Context, call *engine.Call, in loginIn) (*engine.Response, error) {
	if in.Password == "" {
		return nil, errs.New(errs.Failed, "missing password")
	}
	u, err := get(call.Tx, in.Name)
	missing := errors.Is(err, storage.ErrNotFound)
	if err != nil && !missing {
		return nil, err
	}
	hash := e.dummy
	if !missing {
		hash = u.Hash
	}
	err = e.desk.work(ctx, call.Done, call.Mount.Accessor, func() error { return bcrypt.CompareHashAndPassword(hash, []byte(in.Password)) })
	switch {
	case errors.Is(err, errBusy):
		return nil, err
	case missing, err != nil: // names that do not exist are locked out, too: who is here is nobody's business
		return nil, engine.BadCredentials(errWrong)
	case !u.Allows(call.Request.Remote.Addr()):
		return nil, errs.New(errs.Denied, "permission denied")
	}
	auth := u.Auth()
	auth.DisplayName = in.Name
	auth.Metadata = map[string]string{"username": in.Name}
	auth.Alias = &engine.Alias{Name: in.Name, MountAccessor: call.Mount.Accessor, MountType: call.Mount.Type}
	return &engine.Response{Auth: auth}, nil
}

// RenewAuth implements engine.AuthRenewer.
func (e *Engine) RenewAuth(_ context.Context, call *engine.Call, auth *engine.Auth) error {
	u, err := get(call.Tx, auth.Metadata["username"])
	if errors.Is(err, storage.ErrNotFound) {
		return engine.ErrNotRenewed
	}
	if err != nil {
		return err
	}
	if !u.Covers(auth.Policies) {
		return errs.New(errs.Invalid, "policies have changed, not renewing")
	}
	u.Renew(auth)
	return nil
}
