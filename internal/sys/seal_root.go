package sys

import (
	"context"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/seal"
)

func (e *Engine) rootRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("generate-root/attempt", e.readRoot, engine.Always, engine.RootOnly,
			engine.Help("Return the progress of the generation of a root token.")),
		engine.Write("generate-root/attempt", e.startRoot, engine.Always, engine.Recorded, engine.RootOnly, engine.NoParamWarn,
			engine.Help("Start to generate a root token.")),
		engine.Delete("generate-root/attempt", e.cancelRoot, engine.Always, engine.Recorded, engine.RootOnly,
			engine.Help("Cancel the generation of a root token.")),
		engine.Write("generate-root/update", e.updateRoot, engine.Always, engine.Recorded, engine.RootOnly, engine.NoParamWarn,
			engine.Help("Give one key share for the generation of a root token.")),
		engine.Write("decode-token", e.decodeToken, engine.NoToken, engine.RootOnly,
			engine.Help("Decode a token that generate-root told with a one-time password.")),
	}
}

func (e *Engine) readRoot(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	return plainOr(e.seal.RootStatus())
}

// GenerateRootInitRequest is the body of sys/generate-root/attempt.
type GenerateRootInitRequest struct {
	OTP    string `json:"otp"`
	PGPKey string `json:"pgp_key"`
}

func (e *Engine) startRoot(ctx context.Context, _ *engine.Call, in members) (*engine.Response, error) {
	var req GenerateRootInitRequest
	if err := in.decode(&req); err != nil {
		return nil, err
	}
	return plainOr(e.seal.StartRoot(ctx, req.OTP, req.PGPKey))
}

func (e *Engine) cancelRoot(ctx context.Context, _ *engine.Call, _ engine.None) (*engine.Response, error) {
	return nil, e.seal.CancelRoot(ctx)
}

func (e *Engine) updateRoot(ctx context.Context, _ *engine.Call, in members) (*engine.Response, error) {
	share, nonce, err := in.share()
	if err != nil {
		return nil, err
	}
	return plainOr(e.seal.UpdateRoot(ctx, share, nonce))
}

type decodeTokenIn struct {
	EncodedToken string `api:"encoded_token" help:"Encoded token, as generate-root gave it."`
	OTP          string `api:"otp" help:"One-time password with which it was encoded."`
}

func (e *Engine) decodeToken(_ context.Context, _ *engine.Call, in decodeTokenIn) (*engine.Response, error) {
	switch {
	case in.EncodedToken == "":
		return nil, errs.New(errs.Invalid, "missing encoded_token")
	case in.OTP == "":
		return nil, errs.New(errs.Invalid, "missing otp")
	}
	token, err := seal.DecodeToken(in.EncodedToken, in.OTP)
	if err != nil {
		return nil, errs.With(errs.Invalid, err)
	}
	return &engine.Response{Data: map[string]any{"token": token}}, nil
}
