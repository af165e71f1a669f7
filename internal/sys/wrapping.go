package sys

import (
	"context"
	"encoding/json"
	"time"

	"arca/internal/core"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/token"
)

// wrappingRoutes are sys/wrapping.
func (e *Engine) wrappingRoutes() []engine.Route {
	return []engine.Route{
		engine.Write("wrapping/wrap", e.wrap, engine.ID("wrap"), engine.Help("Wrap the body of the request.")),
		engine.Read("wrapping/wrap", e.wrap, engine.ID("wrap2"), engine.Help("Wrap the parameters of the request.")),
		engine.Write("wrapping/unwrap", e.unwrap, engine.TokenError(engine.ErrWrapping), engine.ID("unwrap"),
			engine.Help("Give back what a wrapping token stands for, once.")),
		engine.Write("wrapping/lookup", e.wrapLookup, engine.NoToken, engine.ID("read-wrapping-properties"),
			engine.Help("Tell what a wrapping token is.")),
		engine.Read("wrapping/lookup", e.wrapLookup, engine.NoToken, engine.ID("read-wrapping-properties2"),
			engine.Help("Tell what the caller's wrapping token is.")),
		engine.Write("wrapping/rewrap", e.rewrap, engine.ID("rewrap"), engine.Help("Exchange a wrapping token for a new one.")),
	}
}

type anyIn struct {
	Rest param.Object `api:"*,rest"`
}

func (e *Engine) wrap(_ context.Context, call *engine.Call, in anyIn) (*engine.Response, error) {
	if call.Request.WrapTTL == 0 {
		return nil, errs.New(errs.Invalid, "endpoint requires response wrapping to be used")
	}
	return &engine.Response{Data: in.Rest.JSON()}, nil
}

type wrapTokenIn struct {
	Token string `api:"token" help:"The wrapping token; the caller's when absent."`
}

// unwrap gives the wrapped answer as it was. The caller's own token may be the
// wrapping token, or the body names one.
func (e *Engine) unwrap(_ context.Context, call *engine.Call, in wrapTokenIn) (*engine.Response, error) {
	named := in.Token != ""
	if !named {
		in.Token = call.Request.Token
	}
	t, err := desks(call).WrappingToken(call.Tx, in.Token, call.Now)
	if err != nil {
		return nil, err
	}
	own := t.Key == call.Caller.Key // then its last use revokes it
	body, err := e.take(call, t, !own)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Raw: &engine.Raw{Body: append(body, '\n')}, Data: body}, nil
}

// take reads what a wrapping token stands for and, if so asked, revokes it.
func (e *Engine) take(call *engine.Call, t *token.Entry, revoke bool) (json.RawMessage, error) {
	if revoke {
		if err := desks(call).Tokens.Revoke(call.Tx, t, call.Now); err != nil {
			return nil, err
		}
	}
	return append(json.RawMessage(nil), t.Wrapped.Body...), nil
}

func (e *Engine) wrapLookup(_ context.Context, call *engine.Call, in wrapTokenIn) (*engine.Response, error) {
	if in.Token == "" {
		in.Token = call.Request.Token
	}
	t, err := desks(call).WrappingToken(call.Tx, in.Token, call.Now)
	if err != nil {
		return nil, err
	}
	return data(map[string]any{
		"creation_path": t.Wrapped.CreationPath, "creation_ttl": seconds(t.Wrapped.TTL), "creation_time": t.Created.Format(time.RFC3339Nano),
	}), nil
}

// rewrap moves the wrapped answer to a new token with the same path and TTL.
func (e *Engine) rewrap(_ context.Context, call *engine.Call, in wrapTokenIn) (*engine.Response, error) {
	d := desks(call)
	t, err := d.WrappingToken(call.Tx, in.Token, call.Now)
	if err != nil {
		return nil, err
	}
	body, err := e.take(call, t, true)
	if err != nil {
		return nil, err
	}
	info, err := d.NewWrapping(call.Tx, ns(call), core.WrapInput{
		Body: body, TTL: t.Wrapped.TTL, Path: t.Wrapped.CreationPath, JWT: t.Wrapped.JWT, Now: call.Now, Issuer: e.core.Config().APIAddr,
	})
	if err != nil {
		return nil, err
	}
	return &engine.Response{Wrap: info}, nil
}
