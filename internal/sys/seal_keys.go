package sys

import (
	"context"
	"time"

	"arca/internal/engine"
	"arca/internal/seal"
)

func (e *Engine) keyRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("key-status", e.keyStatus, engine.RootOnly, engine.TopLevel,
			engine.Help("Return the state of the encryption key.")),
		engine.Write("rotate", e.rotate, engine.RootOnly, engine.Sudo, engine.ActsOutside,
			engine.Help("Make a new encryption key.")),
		engine.Read("rotate/config", e.readRotation, engine.RootOnly,
			engine.Help("Return when the encryption key is replaced by itself.")),
		engine.Write("rotate/config", e.writeRotation, engine.RootOnly, engine.ActsOutside,
			engine.Help("Set when the encryption key is replaced by itself.")),
	}
}

func (e *Engine) keyStatus(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	k, err := e.seal.KeyInfo()
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{
		"term": k.Term, "install_time": k.Installed.Format(time.RFC3339Nano), "encryptions": k.Encryptions,
	}}, nil
}

func (e *Engine) rotate(ctx context.Context, _ *engine.Call, _ engine.None) (*engine.Response, error) {
	return nil, e.seal.Rotate(ctx)
}

func (e *Engine) readRotation(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	c, err := e.seal.Rotation()
	if err != nil {
		return nil, err
	}
	data := map[string]any{"enabled": !c.Disabled, "max_operations": c.MaxOperations, "interval": 0}
	if c.Interval > 0 {
		data["interval"] = c.Interval.String()
	}
	return &engine.Response{Data: data}, nil
}

type rotationIn struct {
	Enabled       *bool          `api:"enabled" help:"Whether the key is replaced by itself."`
	MaxOperations *int64         `api:"max_operations" help:"Number of encryptions after which it is."`
	Interval      *time.Duration `api:"interval" help:"Age at which it is; 0 for any."`
}

func (e *Engine) writeRotation(ctx context.Context, _ *engine.Call, in rotationIn) (*engine.Response, error) {
	return nil, e.seal.SetRotation(ctx, seal.RotationChange{
		Enabled: in.Enabled, MaxOperations: in.MaxOperations, Interval: in.Interval,
	})
}
