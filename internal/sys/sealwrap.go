package sys

import (
	"context"

	"arca/internal/engine"
)

// sealWrapRoutes are sys/sealwrap/rewrap.
func (e *Engine) sealWrapRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("sealwrap/rewrap", e.readRewrap, engine.RootOnly,
			engine.Help("Tell how far the wrapping anew of values is, or how the last one went.")),
		engine.Write("sealwrap/rewrap", e.startRewrap, engine.RootOnly,
			engine.Help("Have the values of mounts with seal_wrap written anew, in the background: wrapped with a new version of the seal-wrap key, or no longer wrapped where the seal or the configuration says so.")),
	}
}

func (e *Engine) readRewrap(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	r, err := desks(call).Rewrap(call.Tx)
	if err != nil {
		return nil, err
	}
	return data(map[string]any{
		"entries": map[string]any{
			"processed": r.Succeeded + r.Failed, "succeeded": r.Succeeded, "failed": r.Failed,
		},
		"is_running": r.Running,
	}), nil
}

func (e *Engine) startRewrap(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	started, err := desks(call).StartRewrap(call.Tx)
	if err != nil || started {
		return nil, err
	}
	return &engine.Response{Bare: true}, nil // 200, as in Vault: one is running
}
