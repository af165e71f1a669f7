package kes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/kes/key"
	"arca/internal/kes/policy"
	"arca/internal/storage"
)

const (
	policyDir   = "policy/"
	identityDir = "identity/"

	maxRules = 1000 // of a policy
	maxRule  = 512  // bytes
)

func (e *Engine) accessRoutes() []engine.Route {
	return []engine.Route{
		engine.List("policies", e.listPolicies, engine.ID("kes-list-policies"), engine.Help("List the policies.")),
		engine.Read("policies/{name}", e.readPolicy, engine.ID("kes-read-policy"), engine.Help("Read a policy.")),
		engine.Write("policies/{name}", e.writePolicy, engine.Exists(e.policyExists), engine.ID("kes-write-policy"), engine.Help("Write a policy: which calls it allows and denies.")),
		engine.Delete("policies/{name}", e.deletePolicy, engine.ID("kes-delete-policy"), engine.Help("Delete a policy; whoever has it may do nothing then.")),
		engine.List("identities", e.listIdentities, engine.ID("kes-list-identities"), engine.Help("List the identities.")),
		engine.Read("identities/{name}", e.readIdentity, engine.ID("kes-read-identity"), engine.Help("Read an identity.")),
		engine.Write("identities/{name}", e.writeIdentity, engine.Exists(e.identityExists), engine.ID("kes-write-identity"), engine.Help("Give an identity a policy, or make it an admin.")),
		engine.Delete("identities/{name}", e.deleteIdentity, engine.ID("kes-delete-identity"), engine.Help("Delete an identity, which may do nothing then.")),
	}
}

// A policyRow is a stored policy, compiled.
type policyRow struct {
	Version   int       `json:"v"`
	Allow     []string  `json:"allow,omitempty"`
	Deny      []string  `json:"deny,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by,omitempty"`

	rules *policy.Policy
}

// An identityRow is a stored identity.
type identityRow struct {
	Version   int       `json:"v"`
	Policy    string    `json:"policy,omitempty"`
	Admin     bool      `json:"admin,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by,omitempty"`
}

const rowVersion = 1

func decodePolicy(at string, value []byte) (*policyRow, int, error) {
	row := &policyRow{}
	if json.Unmarshal(value, row) != nil || row.Version != rowVersion {
		return nil, 0, fmt.Errorf("the policy record %q cannot be decoded", at)
	}
	var err error
	row.rules, err = policy.New(row.Allow, row.Deny, row.CreatedAt, row.CreatedBy)
	return row, 3*len(value) + 256, err
}

func decodeIdentity(at string, value []byte) (*identityRow, int, error) {
	row := &identityRow{}
	if json.Unmarshal(value, row) != nil || row.Version != rowVersion {
		return nil, 0, fmt.Errorf("the identity record %q cannot be decoded", at)
	}
	return row, len(value) + 128, nil
}

func (e *Engine) policy(call *engine.Call, name string) (*policyRow, error) {
	row, err := e.policies.Get(call.Tx, policyDir+name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNoPolicy
	}
	return row, err
}

func (e *Engine) identity(call *engine.Call, id string) (*identityRow, error) {
	row, err := e.identities.Get(call.Tx, identityDir+id)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNoIdentity
	}
	return row, err
}

func (e *Engine) listPolicies(_ context.Context, call *engine.Call, in listIn) (*engine.Response, error) {
	return listed(call.Tx.List(policyDir, in.After, max(0, in.Limit)))
}

func (e *Engine) readPolicy(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	row, err := e.policy(call, in.Name)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{
		"name": in.Name, "allow": orEmpty(row.Allow), "deny": orEmpty(row.Deny), "created_at": row.CreatedAt, "created_by": row.CreatedBy,
	}}, nil
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

type policyIn struct {
	nameIn
	Allow []string `api:"allow" help:"Patterns of paths that are allowed, such as /v1/key/generate/my-app*."`
	Deny  []string `api:"deny" help:"Patterns of paths that are denied, whatever is allowed."`
	importedIn
}

func (e *Engine) policyExists(_ context.Context, call *engine.Call, in policyIn) (bool, error) {
	_, err := e.policy(call, in.Name)
	return exists(err)
}

func exists(err error) (bool, error) {
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	return err == nil, err
}

func (e *Engine) writePolicy(_ context.Context, call *engine.Call, in policyIn) (*engine.Response, error) {
	if err := key.CheckKnown(in.Name); err != nil {
		return nil, err
	}
	if len(in.Allow)+len(in.Deny) > maxRules {
		return nil, errs.New(errs.Invalid, "a policy has at most %d rules", maxRules)
	}
	for _, r := range append(in.Allow[:len(in.Allow):len(in.Allow)], in.Deny...) {
		if len(r) > maxRule {
			return nil, errs.New(errs.Invalid, "a rule is at most %d bytes long", maxRule)
		}
	}
	if _, err := policy.New(in.Allow, in.Deny, call.Now, ""); err != nil {
		return nil, err
	}
	old, err := e.policy(call, in.Name)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	if bad := key.CheckName(in.Name); bad != nil && err != nil && !in.Imported { // it is new
		return nil, bad
	}
	if write, err := in.settle(call, policyDir+in.Name, err == nil, sameRules(old, in)); err != nil || !write {
		return nil, err
	}
	row := policyRow{Version: rowVersion, Allow: in.Allow, Deny: in.Deny, CreatedAt: call.Now, CreatedBy: call.Caller.DisplayName}
	return nil, storage.PutJSON(call.Tx, policyDir+in.Name, row)
}

func (e *Engine) deletePolicy(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	return nil, call.Tx.Delete(policyDir + in.Name)
}

func (e *Engine) listIdentities(_ context.Context, call *engine.Call, in listIn) (*engine.Response, error) {
	return listed(call.Tx.List(identityDir, in.After, max(0, in.Limit)))
}

func (e *Engine) readIdentity(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	row, err := e.identity(call, in.Name)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{
		"identity": in.Name, "policy": row.Policy, "admin": row.Admin, "created_at": row.CreatedAt, "created_by": row.CreatedBy,
	}}, nil
}

type identityIn struct {
	nameIn
	Policy string `api:"policy" help:"The policy that it has."`
	Admin  bool   `api:"admin" help:"It may make every call; no policy then."`
	importedIn
}

func (e *Engine) identityExists(_ context.Context, call *engine.Call, in identityIn) (bool, error) {
	_, err := e.identity(call, in.Name)
	return exists(err)
}

func (e *Engine) writeIdentity(_ context.Context, call *engine.Call, in identityIn) (*engine.Response, error) {
	if !isIdentity(in.Name) {
		return nil, errs.New(errs.Invalid, "an identity is 64 lower-case hexadecimal digits, the SHA-256 of a public key: kes identity of CERTIFICATE tells it")
	}
	switch {
	case in.Admin && in.Policy != "":
		return nil, errs.New(errs.Invalid, "an admin has no policy")
	case !in.Admin && in.Policy == "":
		return nil, errs.New(errs.Invalid, "missing policy")
	}
	old, err := e.identity(call, in.Name)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	same := err == nil && old.Policy == in.Policy && old.Admin == in.Admin
	if write, err := in.settle(call, identityDir+in.Name, err == nil, same); err != nil || !write {
		return nil, err
	}
	if !in.Admin {
		if _, err := e.policy(call, in.Policy); err != nil {
			return nil, errs.New(errs.Invalid, "there is no policy %q", in.Policy)
		}
	}
	row := identityRow{Version: rowVersion, Policy: in.Policy, Admin: in.Admin, CreatedAt: call.Now, CreatedBy: call.Caller.DisplayName}
	return nil, storage.PutJSON(call.Tx, identityDir+in.Name, row)
}

func isIdentity(id string) bool {
	if len(id) != 64 {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func (e *Engine) deleteIdentity(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	return nil, call.Tx.Delete(identityDir + in.Name)
}
