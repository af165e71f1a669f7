package sys

import (
	"context"

	"arca/internal/engine"
	"arca/internal/errs"
)

// mfaRoutes end logins that have two factors.
func (e *Engine) mfaRoutes() []engine.Route {
	return []engine.Route{
		engine.Write("mfa/validate", e.validateMFA, engine.Login, engine.ID("mfa-validate"),
			engine.Help("Show the second factor of a login that waits for it.")),
	}
}

type mfaIn struct {
	ID      string         `api:"mfa_request_id" help:"Id that the login's answer named."`
	Payload map[string]any `api:"mfa_payload" help:"Lists of codes by the methods' ids."`
}

// S3-50
func (e *Engine) validateMFA(ctx context.Context, call *engine.Call, in mfaIn) (*engine.Response, error) {
	if in.ID == "" {
		return nil, errs.New(errs.Invalid, "missing request ID")
	}
	if len(in.Payload) > 100 {
		return nil, errs.New(errs.Invalid, "mfa_payload names more than 100 methods")
	}
	codes := make(map[string][]string, len(in.Payload))
	for id, v := range in.Payload {
		list, ok := v.([]any)
		if one, isText := v.(string); isText {
			list, ok = []any{one}, true
		}
		if !ok {
			return nil, errs.New(errs.Invalid, "mfa_payload holds a list of codes for each method")
		}
		for _, c := range list {
			text, ok := c.(string)
			if !ok {
				return nil, errs.New(errs.Invalid, "mfa_payload holds a list of codes for each method")
			}
			codes[id] = append(codes[id], text)
		}
	}
	return desks(call).FinishLogin(ctx, call.Tx, call, in.ID, codes)
}
