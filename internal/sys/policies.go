package sys

import (
	"context"
	"errors"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/policy"
	"arca/internal/storage"
)

// policyRoutes are sys/policies/acl, sys/policies/password and the older sys/policy.
func (e *Engine) policyRoutes() []engine.Route {
	return []engine.Route{
		engine.List("policies/acl", e.listPolicies, engine.ID("policies-list-acl-policies"), engine.Help("List the ACL policies.")),
		// The path exists for listings only; that a read of it is no such operation is what clients see.
		engine.Read("policies/acl/{name+}", e.readPolicy, engine.ID("policies-read-acl-policy"), engine.Help("Read an ACL policy.")),
		engine.Write("policies/acl/{name+}", e.writePolicy, engine.NoParamWarn, engine.ID("policies-write-acl-policy"),
			engine.Help("Write an ACL policy.")),
		engine.Delete("policies/acl/{name+}", e.deletePolicy, engine.ID("policies-delete-acl-policy"), engine.Help("Delete an ACL policy.")),

		engine.Read("policy", e.listPoliciesOld, engine.TopLevel, engine.ID("policies-list-acl-policies2"), engine.Help("List the ACL policies.")),
		engine.List("policy", e.listPoliciesOld, engine.TopLevel, engine.ID("policies-list-acl-policies3"), engine.Help("List the ACL policies.")),
		engine.Read("policy/{name+}", e.readPolicyOld, engine.TopLevel, engine.ID("policies-read-acl-policy2"), engine.Help("Read an ACL policy.")),
		engine.Write("policy/{name+}", e.writePolicy, engine.NoParamWarn, engine.ID("policies-write-acl-policy2"), engine.Help("Write an ACL policy.")),
		engine.Delete("policy/{name+}", e.deletePolicy, engine.ID("policies-delete-acl-policy2"), engine.Help("Delete an ACL policy.")),

		engine.List("policies/password", e.listPasswordPolicies, engine.ID("policies-list-password-policies"), engine.Help("List the password policies.")),
		engine.Read("policies/password/{name+}", e.readPasswordPolicy, engine.ID("policies-read-password-policy"), engine.Help("Read a password policy.")),
		engine.Write("policies/password/{name+}", e.writePasswordPolicy, engine.NoParamWarn, engine.ID("policies-write-password-policy"),
			engine.Help("Write a password policy.")),
		engine.Delete("policies/password/{name+}", e.deletePasswordPolicy, engine.ID("policies-delete-password-policy"),
			engine.Help("Delete a password policy.")),
		engine.Read("policies/password/{name+}/generate", e.generatePassword, engine.ID("policies-generate-password-from-password-policy"),
			engine.Help("Generate a password by a policy.")),
	}
}

func (e *Engine) listPolicies(_ context.Context, call *engine.Call, in paging) (*engine.Response, error) {
	names, err := desks(call).Policies.List(call.Tx, ns(call), in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	return keys(names)
}

func (e *Engine) listPoliciesOld(_ context.Context, call *engine.Call, in paging) (*engine.Response, error) {
	names, err := desks(call).Policies.List(call.Tx, ns(call), in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	return data(map[string]any{"keys": names, "policies": names}), nil
}

type nameIn struct {
	Name string `api:"name,lower" help:"Name of the policy."`
}

func (e *Engine) policy(call *engine.Call, name string) (*policy.Policy, error) {
	p, err := desks(call).Policies.Get(call.Tx, ns(call), name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	return p, err
}

// template says that templates of identity resolve neither wildcards nor
// slashes, which cannot be changed here.
func template(m map[string]any) map[string]any {
	m["allow_slashes_in_identity_templates"] = false
	m["allow_wildcards_in_identity_templates"] = false
	return m
}

func (e *Engine) readPolicy(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	p, err := e.policy(call, in.Name)
	if err != nil {
		return nil, err
	}
	return data(template(map[string]any{"name": p.Name, "policy": p.Text})), nil
}

func (e *Engine) readPolicyOld(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	p, err := e.policy(call, in.Name)
	if err != nil {
		return nil, err
	}
	return data(template(map[string]any{"name": p.Name, "rules": p.Text})), nil
}

type policyIn struct {
	Name   string `api:"name,lower" help:"Name of the policy."`
	Policy string `api:"policy" help:"The rules, in HCL or JSON, plain or in base64."`
	Rules  string `api:"rules" help:"Older name of policy."`
}

func (e *Engine) writePolicy(_ context.Context, call *engine.Call, in policyIn) (*engine.Response, error) {
	text := in.Policy
	if text == "" {
		text = in.Rules
	}
	if text == "" {
		return nil, errs.New(errs.Invalid, "'policy' parameter not supplied or empty")
	}
	return nil, desks(call).Policies.Put(call.Tx, ns(call), in.Name, policy.DecodeText(text))
}

func (e *Engine) deletePolicy(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	return nil, desks(call).Policies.Delete(call.Tx, ns(call), in.Name)
}

func (e *Engine) listPasswordPolicies(_ context.Context, call *engine.Call, in paging) (*engine.Response, error) {
	names, err := policy.ListPasswords(call.Tx, ns(call), in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	return keys(names)
}

var errNoPasswordPolicy = errs.List(errs.NotFound, "policy does not exist")

func passwordPolicy(call *engine.Call, name string) (*policy.Password, error) {
	p, err := policy.GetPassword(call.Tx, ns(call), name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNoPasswordPolicy
	}
	return p, err
}

func (e *Engine) readPasswordPolicy(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	p, err := passwordPolicy(call, in.Name)
	if err != nil {
		return nil, err
	}
	return data(map[string]any{"policy": p.Text}), nil
}

func (e *Engine) writePasswordPolicy(ctx context.Context, call *engine.Call, in policyIn) (*engine.Response, error) {
	text := strings.TrimSpace(policy.DecodeText(in.Policy))
	if text == "" {
		return nil, errs.List(errs.Invalid, "missing policy")
	}
	return nil, policy.PutPassword(ctx, call.Tx, ns(call), in.Name, text)
}

func (e *Engine) deletePasswordPolicy(_ context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	return nil, policy.DeletePassword(call.Tx, ns(call), in.Name)
}

func (e *Engine) generatePassword(ctx context.Context, call *engine.Call, in nameIn) (*engine.Response, error) {
	p, err := passwordPolicy(call, in.Name)
	if err != nil {
		return nil, err
	}
	password, err := p.Generate(ctx)
	if err != nil {
		return nil, errs.List(errs.Failed, err.Error())
	}
	return data(map[string]any{"password": password}), nil
}
