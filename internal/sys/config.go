package sys

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/storage"
)

// configRoutes are sys/config: settings that are kept in the store.
func (e *Engine) configRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("config/cors", e.readCORS, engine.Sudo, engine.TopLevel, engine.RootOnly, engine.ID("cors-read-configuration"), engine.Help("Read the CORS settings.")),
		engine.Write("config/cors", e.writeCORS, engine.Sudo, engine.RootOnly, engine.ID("cors-configure"), engine.Help("Let browsers of other origins in.")),
		engine.Delete("config/cors", e.deleteCORS, engine.Sudo, engine.RootOnly, engine.ID("cors-delete-configuration"), engine.Help("Let no other origins in.")),
		engine.List("config/ui/headers", e.listUIHeaders, engine.Sudo, engine.RootOnly, engine.ID("ui-headers-list"), engine.Help("List the headers of the user interface.")),
		engine.Read("config/group-policy-application", e.readGroupPolicies, engine.RootOnly, engine.TopLevel,
			engine.Help("Tell for which tokens policies of groups hold.")),
		engine.Write("config/group-policy-application", e.writeGroupPolicies, engine.RootOnly,
			engine.Help("Let policies of groups hold in the namespaces above and below only, or in any.")),
		engine.Read("config/ui/headers/{header}", e.readUIHeader, engine.Sudo, engine.RootOnly, engine.ID("ui-headers-read-configuration"),
			engine.Help("Read a header of the user interface.")),
		engine.Write("config/ui/headers/{header}", e.writeUIHeader, engine.Sudo, engine.RootOnly, engine.ID("ui-headers-configure"),
			engine.Help("Set a header of the user interface.")),
		engine.Delete("config/ui/headers/{header}", e.deleteUIHeader, engine.Sudo, engine.RootOnly, engine.ID("ui-headers-delete-configuration"),
			engine.Help("Remove a header of the user interface.")),
		engine.Read("config/state/sanitized", e.sanitized, engine.RootOnly, engine.ID("read-sanitized-configuration-state"),
			engine.Help("Show the server's configuration without secrets.")),
	}
}

// CORS is what is stored at CORSKey.
type CORS struct {
	Origins []string `json:"allowed_origins"`
	Headers []string `json:"allowed_headers,omitempty"`
}

// CORSKey is where the CORS settings lie.
const CORSKey = "n/" + namespace.RootID + "/config/cors"

// StandardCORSHeaders are always allowed to an origin that is let in.
var StandardCORSHeaders = []string{
	"Content-Type", "Authorization", "X-Vault-Token", "X-Vault-MFA", "X-Vault-No-Request-Forwarding", "X-Vault-Wrap-Format",
	"X-Vault-Wrap-TTL", "X-Requested-With", "X-Vault-AWS-IAM-Server-ID", "X-Vault-Policy-Override",
}

// readStored decodes the record at key, or returns storage.ErrNotFound.
func readStored(tx storage.Tx, key string, into any) error {
	raw, err := tx.Get(key)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func writeStored(tx storage.Tx, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Put(key, raw)
}

func (e *Engine) readCORS(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	var c CORS
	err := readStored(call.Tx, CORSKey, &c)
	if errors.Is(err, storage.ErrNotFound) {
		return data(map[string]any{"enabled": false}), nil
	}
	if err != nil {
		return nil, err
	}
	return data(map[string]any{
		"enabled": true, "allow_credentials": false, "allowed_origins": c.Origins,
		"allowed_headers": append(slices.Clone(StandardCORSHeaders), c.Headers...),
	}), nil
}

type corsIn struct {
	Origins []string `api:"allowed_origins" help:"Origins to let in; * is all."`
	Headers []string `api:"allowed_headers" help:"Headers to allow besides the standard ones."`
	Enable  bool     `api:"enable"`
}

func (e *Engine) writeCORS(_ context.Context, call *engine.Call, in corsIn) (*engine.Response, error) {
	if len(in.Origins) == 0 {
		return nil, errs.List(errs.Failed, "at least one origin or the wildcard must be provided")
	}
	if slices.Contains(in.Origins, "*") && len(in.Origins) > 1 {
		return nil, errs.List(errs.Failed, "to allow all origins the '*' must be the only value for allowed_origins")
	}
	return nil, writeStored(call.Tx, CORSKey, CORS{Origins: in.Origins, Headers: in.Headers})
}

func (e *Engine) deleteCORS(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	return nil, call.Tx.Delete(CORSKey)
}

// UIHeaderDir is where the headers of the user interface are kept, each a JSON
// list of values under its name.
const UIHeaderDir = "n/" + namespace.RootID + "/config/ui/"

func uiHeaderKey(name string) string { return UIHeaderDir + name }

type uiHeaderIn struct {
	Header string   `api:"header" help:"Name of the header."`
	Values []string `api:"values,nosplit" help:"Its values."`
	Multi  bool     `api:"multivalue" help:"Show all values."`
}

func (e *Engine) listUIHeaders(_ context.Context, call *engine.Call, in paging) (*engine.Response, error) {
	names, err := call.Tx.List(uiHeaderKey(""), in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	return keys(names)
}

func (e *Engine) readUIHeader(_ context.Context, call *engine.Call, in uiHeaderIn) (*engine.Response, error) {
	var values []string
	err := readStored(call.Tx, uiHeaderKey(in.Header), &values)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	if in.Multi {
		return data(map[string]any{"values": values}), nil
	}
	return data(map[string]any{"value": values[0]}), nil
}

func (e *Engine) writeUIHeader(_ context.Context, call *engine.Call, in uiHeaderIn) (*engine.Response, error) {
	if in.Header == "" || len(in.Values) == 0 {
		return nil, errs.New(errs.Invalid, "header and values must be specified")
	}
	if strings.HasPrefix(strings.ToLower(in.Header), "x-vault-") {
		return nil, errs.New(errs.Invalid, "X-Vault headers cannot be set")
	}
	for _, v := range in.Values {
		if strings.ContainsAny(v, "\r\n") {
			return nil, errs.New(errs.Invalid, "a header's value must be one line")
		}
	}
	if err := writeStored(call.Tx, uiHeaderKey(in.Header), in.Values); err != nil {
		return nil, err
	}
	return &engine.Response{Bare: true}, nil
}

func (e *Engine) deleteUIHeader(_ context.Context, call *engine.Call, in uiHeaderIn) (*engine.Response, error) {
	return nil, call.Tx.Delete(uiHeaderKey(in.Header))
}

func (e *Engine) sanitized(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	if e.core.Config().Sanitized == nil {
		return nil, engine.ErrPath
	}
	return data(e.core.Config().Sanitized()), nil
}

// The modes of https://developer.hashicorp.com/vault/api-docs/system/config-group-policy-application.
const (
	modeHierarchy = "within_namespace_hierarchy"
	modeAny       = "any"
)

type groupPoliciesIn struct {
	Mode string `api:"group_policy_application_mode" help:"within_namespace_hierarchy or any."`
}

func (e *Engine) readGroupPolicies(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	all, err := desks(call).Identity.AllNamespaces(call.Tx)
	if err != nil {
		return nil, err
	}
	mode := modeHierarchy
	if all {
		mode = modeAny
	}
	return data(map[string]any{"group_policy_application_mode": mode}), nil
}

func (e *Engine) writeGroupPolicies(_ context.Context, call *engine.Call, in groupPoliciesIn) (*engine.Response, error) {
	switch in.Mode {
	case modeHierarchy, modeAny:
		return nil, desks(call).Identity.SetAllNamespaces(call.Tx, in.Mode == modeAny)
	}
	return nil, errs.New(errs.Invalid, "group_policy_application_mode is %s or %s, not %q", modeHierarchy, modeAny, in.Mode)
}
