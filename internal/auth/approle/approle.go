// Package approle lets programs log in with a role id and a secret id.
//
// The role id names the role; a secret id is a password that may be bound to
// addresses, a number of uses and a time. Secret ids are kept as hashes under a
// key of their role only. A login is one commit: the use of the secret id, the
// token and its lease belong to one transaction, and one that stores nothing (a
// batch token by a secret id without a limit) writes nothing. The behaviour follows
// https://developer.hashicorp.com/vault/api-docs/auth/approle.
//
// Keys within a mount:
//
//	role/<name>            a role
//	id/<role id>           the name of the role with this id
//	s/<uid>/<hash>         a secret id of the role with this uid
//	a/<uid>/<accessor>     the hash of the secret id with this accessor
//	x/<time>/<uid>/<hash>  when a secret id ends
package approle

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/grant"
	"arca/internal/storage"
)

// An Engine is the method approle.
type Engine struct {
	names *regexp.Regexp
	// What logins read, decoded. It is shared and must not be changed.
	roles     *storage.Shared[*role]
	secretIDs *storage.Shared[*secretID]
}

var (
	_ engine.Engine      = (*Engine)(nil)
	_ engine.AuthRenewer = (*Engine)(nil)
)

// New makes the method.
func New() *Engine {
	return &Engine{
		names: regexp.MustCompile(`^\w([\w.@-]*\w)?$`),
		roles: storage.NewShared(cacheBytes, decodeRole), secretIDs: storage.NewShared(cacheBytes, decodeSecretID),
	}
}

// cacheBytes is how much memory each kind of records takes that logins read.
const cacheBytes = 4 << 20

// Type implements engine.Engine.
func (*Engine) Type() string { return "approle" }

// Routes implements engine.Engine.
func (e *Engine) Routes() []engine.Route {
	routes := []engine.Route{
		engine.List("role", e.listRoles, engine.ID("app-role-list-roles"), engine.Help("List the roles.")),
		engine.Read("role/{role_name}", e.readRole, engine.ID("app-role-read-role"), engine.Help("Read a role.")),
		engine.Write("role/{role_name}", e.writeRole, engine.Exists(e.roleExists), engine.ID("app-role-write-role"),
			engine.Help("Write a role; what is not given stays.")),
		engine.Delete("role/{role_name}", e.deleteRole, engine.ID("app-role-delete-role"), engine.Help("Delete a role with its secret ids.")),
		engine.Read("role/{role_name}/role-id", e.readRoleID, engine.ID("app-role-read-role-id"), engine.Help("Read the role's id.")),
		engine.Write("role/{role_name}/role-id", e.writeRoleID, engine.ID("app-role-write-role-id"), engine.Help("Give the role another id.")),
		engine.Write("role/{role_name}/secret-id", e.makeSecretID, engine.ID("app-role-write-secret-id"), engine.Help("Make a secret id.")),
		engine.List("role/{role_name}/secret-id", e.listSecretIDs, engine.ID("app-role-list-secret-ids"), engine.Help("List the accessors of the secret ids.")),
		engine.Write("role/{role_name}/custom-secret-id", e.makeCustomSecretID, engine.ID("app-role-write-custom-secret-id"),
			engine.Help("Register a secret id of the caller's choice.")),
		engine.Write("tidy/secret-id", e.tidy, engine.ID("app-role-tidy-secret-id"), engine.Help("Remove secret ids that have ended.")),
		engine.Write("login", e.login, engine.Login, engine.LoginName(e.loginName), engine.LoginRole(e.loginRole), engine.ID("app-role-login"),
			engine.Help("Log in.")),
		engine.Read("login", e.login, engine.Login, engine.LoginName(e.loginName), engine.LoginRole(e.loginRole),
			engine.Help("Log in, by parameters in the query.")),
	}
	for _, p := range []string{"secret-id", "secret-id-accessor"} {
		name := "role/{role_name}/" + p
		routes = append(routes,
			engine.Write(name+"/lookup", e.lookup, engine.Help("Tell about a secret id.")),
			engine.Write(name+"/destroy", e.destroy, engine.Help("Remove a secret id.")),
			engine.Delete(name+"/destroy", e.destroy, engine.Help("Remove a secret id.")))
	}
	return append(routes, e.fieldRoutes()...)
}

type nameIn struct {
	Name string `api:"role_name,lower" help:"Name of the role."`
}

// A role is stored under its name.
type role struct {
	Version       int            `json:"v"`
	UID           string         `json:"uid"` // names its secret ids; another one when the role is made anew
	RoleID        string         `json:"role_id"`
	Key           []byte         `json:"key"` // of the hashes of its secret ids
	BindSecretID  bool           `json:"bind_secret_id,omitempty"`
	SecretCIDRs   []netip.Prefix `json:"secret_cidrs,omitempty"`
	HasCIDRs      bool           `json:"has_cidrs,omitempty"` // [] rather than null in answers
	SecretNumUses int            `json:"secret_uses,omitempty"`
	SecretTTL     time.Duration  `json:"secret_ttl,omitempty"`
	Local         bool           `json:"local,omitempty"`
	grant.Grant

	macs  sync.Pool // of *mac, HMACs under Key: a login makes one
	named sync.Once
	meta  map[string]string // what tokens of the role say of it; set by named
	inner map[string]any    // ... and keep of it
}

// says is what tokens of the role, which has a name, say and keep of it. The maps are shared: not to be changed.
func (r *role) says(name string) (meta map[string]string, inner map[string]any) {
	r.named.Do(func() {
		r.meta, r.inner = map[string]string{"role_name": name}, map[string]any{"role_name": name}
	})
	return r.meta, r.inner
}

func roleKey(name string) string { return "role/" + name }
func idKey(roleID string) string { return "id/" + roleID }

const maxIDBytes = 512

var (
	errNotFound = errs.New(errs.NotFound, "not found")
	errBadLogin = errs.New(errs.Invalid, "invalid role or secret ID")
)

func getRole(tx storage.Tx, name string) (*role, error) {
	raw, err := tx.Get(roleKey(name))
	if err != nil {
		return nil, err
	}
	r, _, err := decodeRole("", raw)
	return r, err
}

// decodeRole decodes a role and tells about how much memory it takes.
func decodeRole(_ string, raw []byte) (*role, int, error) {
	r := &role{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, 0, fmt.Errorf("decode role: %w", err)
	}
	return r, 2*len(raw) + 512, nil
}

// existing is getRole for paths below a role that must be there.
func existing(tx storage.Tx, name string) (*role, error) {
	r, err := getRole(tx, name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	return r, err
}

// put stores a role, and its id in place of the one it had before.
func (r *role) put(tx storage.Tx, name, oldID string) error {
	if r.RoleID != oldID {
		if len(r.RoleID) > maxIDBytes {
			return errs.New(errs.Invalid, "role_id is longer than %d bytes", maxIDBytes)
		}
		if strings.TrimSpace(r.RoleID) != r.RoleID { // logins are trimmed
			return errs.New(errs.Invalid, "role_id begins or ends with a blank: nobody could log in with it")
		}
		_, err := tx.Get(idKey(r.RoleID))
		if err == nil {
			return errs.List(errs.Failed, "role_id already in use")
		}
		if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if oldID != "" {
			if err := tx.Delete(idKey(oldID)); err != nil {
				return err
			}
		}
		if err := tx.Put(idKey(r.RoleID), []byte(name)); err != nil {
			return err
		}
	}
	r.Version = 1
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return tx.Put(roleKey(name), raw)
}

func newRole() *role {
	key := make([]byte, 32)
	rand.Read(key)
	return &role{UID: uuid.NewString(), RoleID: uuid.NewString(), Key: key, BindSecretID: true}
}

type roleIn struct {
	nameIn
	RoleID        *string        `api:"role_id" help:"Id of the role; a random one when absent."`
	BindSecretID  *bool          `api:"bind_secret_id" help:"Whether a login needs a secret id."`
	SecretCIDRs   *[]string      `api:"secret_id_bound_cidrs" help:"Addresses from which one can log in."`
	OldCIDRs      *[]string      `api:"bound_cidr_list" help:"Older name of secret_id_bound_cidrs."`
	SecretNumUses *int           `api:"secret_id_num_uses" help:"How often a secret id can be used; 0 is without limit."`
	SecretTTL     *time.Duration `api:"secret_id_ttl" help:"How long a secret id lives; 0 is for ever."`
	Local         *bool          `api:"local_secret_ids" help:"Keep secret ids within this cluster."`
	OldPolicies   *[]string      `api:"policies" help:"Older name of token_policies."`
	OldPeriod     *time.Duration `api:"period" help:"Older name of token_period."`
	grant.Params
}

func (e *Engine) roleExists(_ context.Context, call *engine.Call, in roleIn) (bool, error) {
	_, err := getRole(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (e *Engine) listRoles(_ context.Context, call *engine.Call, in engine.Paging) (*engine.Response, error) {
	return keys(call.Tx, "role/", in)
}

// keys is the answer of a listing; an empty one is not found.
func keys(tx storage.Tx, dir string, in engine.Paging) (*engine.Response, error) {
	names, err := tx.List(dir, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errNotFound
	}
	return &engine.Response{Data: map[string]any{"keys": names}}, nil
}

func (e *Engine) readRole(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	r, err := existing(call.Tx, in.Name)
	if err != nil {
		return nil, err
	}
	out := map[string]any{
		"bind_secret_id": r.BindSecretID, "local_secret_ids": r.Local, "secret_id_bound_cidrs": r.shownCIDRs(),
		"secret_id_num_uses": r.SecretNumUses, "secret_id_ttl": int64(r.SecretTTL / time.Second),
	}
	r.Show(out)
	return &engine.Response{Data: out}, nil
}

func (r *role) shownCIDRs() any {
	if !r.HasCIDRs {
		return nil
	}
	return blocks(r.SecretCIDRs)
}

func (e *Engine) writeRole(_ context.Context, call *engine.Call, in roleIn) (*engine.Response, error) {
	if len(in.Name) > 256 || !e.names.MatchString(in.Name) {
		return nil, engine.ErrPath
	}
	r, err := getRole(call.Tx, in.Name)
	oldID := ""
	switch {
	case errors.Is(err, storage.ErrNotFound):
		r, err = newRole(), nil
	case err == nil:
		oldID = r.RoleID
		if in.Local != nil && *in.Local != r.Local {
			return nil, errs.New(errs.Invalid, "local_secret_ids can only be modified during role creation")
		}
	}
	if err != nil {
		return nil, err
	}
	warnings, err := r.apply(&in)
	if err != nil {
		return nil, err
	}
	if err := r.put(call.Tx, in.Name, oldID); err != nil {
		return nil, err
	}
	if len(warnings) > 0 {
		return &engine.Response{Bare: true, Warnings: warnings}, nil
	}
	return nil, nil
}

func (r *role) apply(in *roleIn) (warnings []string, err error) {
	if in.RoleID != nil && *in.RoleID != "" {
		r.RoleID = *in.RoleID
	}
	if in.BindSecretID != nil {
		r.BindSecretID = *in.BindSecretID
	}
	if in.SecretCIDRs == nil {
		in.SecretCIDRs = in.OldCIDRs
	}
	if in.SecretCIDRs != nil {
		if r.SecretCIDRs, err = parseBlocks(*in.SecretCIDRs); err != nil {
			return nil, err
		}
		r.HasCIDRs = len(r.SecretCIDRs) > 0
	}
	if in.SecretNumUses != nil {
		if r.SecretNumUses = *in.SecretNumUses; r.SecretNumUses < 0 {
			return nil, errs.New(errs.Invalid, "secret_id_num_uses cannot be negative")
		}
	}
	if in.SecretTTL != nil {
		r.SecretTTL = *in.SecretTTL
	}
	if in.Local != nil {
		r.Local = *in.Local
	}
	if in.Period == nil {
		r.SetPeriod(in.OldPeriod)
	}
	if warnings, err = r.Apply(&in.Params, &grant.Legacy{Policies: in.OldPolicies}); err != nil {
		return nil, err
	}
	return warnings, r.bound()
}

// bound refuses a role by which anybody could log in.
func (r *role) bound() error {
	if !r.BindSecretID && len(r.SecretCIDRs) == 0 && len(r.BoundCIDRs) == 0 {
		return errs.List(errs.Failed, "at least one constraint should be enabled on the role")
	}
	return nil
}

// parseBlocks reads CIDR blocks; an address alone is none.
func parseBlocks(texts []string) ([]netip.Prefix, error) {
	if len(texts) > engine.MaxPrefixes {
		return nil, errs.New(errs.Invalid, "at most %d CIDR blocks can be given, these are %d", engine.MaxPrefixes, len(texts))
	}
	out := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, errs.List(errs.Failed, "failed to validate CIDR blocks: invalid CIDR address: "+text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func blocks(list []netip.Prefix) []string {
	out := make([]string, 0, len(list))
	for _, p := range list {
		out = append(out, p.String())
	}
	return out
}

func (e *Engine) deleteRole(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	r, err := getRole(call.Tx, in.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, key := range []string{roleKey(in.Name), idKey(r.RoleID)} {
		if err := call.Tx.Delete(key); err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{secretDir(r.UID), accessorDir(r.UID)} {
		if err := call.Tx.DeletePrefix(dir); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (e *Engine) readRoleID(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	r, err := existing(call.Tx, in.Name)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"role_id": r.RoleID}}, nil
}

type roleIDIn struct {
	nameIn
	RoleID string `api:"role_id" help:"Id of the role."`
}

func (e *Engine) writeRoleID(_ context.Context, call *engine.Call, in roleIDIn) (*engine.Response, error) {
	r, err := existing(call.Tx, in.Name)
	if err != nil {
		return nil, err
	}
	if in.RoleID == "" {
		return nil, errs.New(errs.Invalid, "missing role_id")
	}
	old := r.RoleID
	r.RoleID = in.RoleID
	return nil, r.put(call.Tx, in.Name, old)
}
