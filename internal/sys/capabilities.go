package sys

import (
	"context"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/token"
)

// capabilityRoutes tell what a token may do.
func (e *Engine) capabilityRoutes() []engine.Route {
	return []engine.Route{
		engine.Write("capabilities", e.capabilities, engine.TopLevel, engine.ID("query-token-capabilities"),
			engine.Help("Tell what a token may do with paths.")),
		engine.Write("capabilities-accessor", e.capabilitiesAccessor, engine.TopLevel, engine.ID("query-token-accessor-capabilities"),
			engine.Help("Tell what the token with an accessor may do with paths.")),
		engine.Write("capabilities-self", e.capabilitiesSelf, engine.TopLevel, engine.ID("query-token-self-capabilities"),
			engine.Help("Tell what the caller's token may do with paths.")),
	}
}

type capabilitiesIn struct {
	Token    string   `api:"token" help:"The token."`
	Accessor string   `api:"accessor" help:"Accessor of the token."`
	Path     []string `api:"path" help:"Older name of paths."`
	Paths    []string `api:"paths" help:"The paths."`
}

func (e *Engine) capabilities(_ context.Context, call *engine.Call, in capabilitiesIn) (*engine.Response, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if in.Token == "" {
		return nil, errs.List(errs.Failed, "no token found")
	}
	t, err := lookup(call, in.Token)
	if isBad(err) {
		return nil, errs.List(errs.Invalid, "invalid token")
	}
	return in.answer(call, t, err)
}

func (e *Engine) capabilitiesAccessor(_ context.Context, call *engine.Call, in capabilitiesIn) (*engine.Response, error) {
	if in.Accessor == "" {
		return nil, errs.New(errs.Invalid, "missing accessor")
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	t, err := desks(call).Tokens.ByAccessor(call.Tx, in.Accessor, call.Now)
	t, err = within(call, t, err)
	if isBad(err) {
		return nil, errs.List(errs.Invalid, "invalid accessor")
	}
	return in.answer(call, t, err)
}

func (e *Engine) capabilitiesSelf(_ context.Context, call *engine.Call, in capabilitiesIn) (*engine.Response, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	t, err := self(call)
	return in.answer(call, t, err)
}

// Bounds on what is asked at a time: each path is looked up among all rules.
const (
	maxPaths      = 1000
	maxPathsBytes = 256 << 10
)

func (in *capabilitiesIn) check() error {
	if len(in.Paths) == 0 {
		in.Paths = in.Path
	}
	if len(in.Paths) == 0 {
		return errs.New(errs.Invalid, "paths must be supplied")
	}
	size := 0
	for _, p := range in.Paths {
		size += len(p)
	}
	if len(in.Paths) > maxPaths || size > maxPathsBytes {
		return errs.New(errs.Invalid, "at most %d paths of %d bytes in all can be asked about at a time, these are %d of %d", maxPaths, maxPathsBytes, len(in.Paths), size)
	}
	return nil
}

func (in *capabilitiesIn) answer(call *engine.Call, t *token.Entry, err error) (*engine.Response, error) {
	if err != nil {
		return nil, err
	}
	acl, err := aclOf(call, t)
	if err != nil {
		return nil, err
	}
	if err := reaches(call, t); err != nil {
		return nil, err
	}
	out := make(map[string]any, len(in.Paths)+1)
	for _, p := range in.Paths {
		out[p] = acl.Capabilities(call.NamespacePath + p)
	}
	if len(in.Paths) == 1 {
		out["capabilities"] = out[in.Paths[0]]
	}
	return data(out), nil
}
