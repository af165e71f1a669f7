package sys

import (
	"context"
	"time"

	"arca/internal/engine"
)

// migrationRoutes are sys/storage/migration: the storage goes over to another one while the server runs.
func (e *Engine) migrationRoutes() []engine.Route {
	return []engine.Route{
		engine.Read("storage/migration", e.readMigration, engine.Sudo, engine.RootOnly, engine.ActiveOnly,
			engine.Help("Tell how far the migration of the storage is.")),
		engine.Write("storage/migration", e.startMigration, engine.Sudo, engine.RootOnly, engine.ActsOutside,
			engine.Help("Copy the storage into the one that the configuration names as storage_destination, and follow what changes.")),
		engine.Delete("storage/migration", e.stopMigration, engine.Sudo, engine.RootOnly, engine.ActsOutside,
			engine.Help("Cancel the migration. What was copied stays in the target.")),
		engine.Write("storage/migration/switch", e.switchMigration, engine.Sudo, engine.RootOnly, engine.ActsOutside,
			engine.Help("Go over to the target: this server seals itself, and servers are started on the target.")),
	}
}

func (e *Engine) readMigration(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	st := e.core.Migration()
	out := map[string]any{"state": st.State}
	if !st.Started.IsZero() {
		out["storage_type"], out["started"], out["copied"], out["behind"] = st.To, st.Started.Format(time.RFC3339), st.Copied, st.Behind
	}
	if st.Error != "" {
		out["error"] = st.Error
	}
	return data(out), nil
}

func (e *Engine) startMigration(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	return nil, e.core.StartMigration()
}

func (e *Engine) stopMigration(ctx context.Context, _ *engine.Call, _ engine.None) (*engine.Response, error) {
	return nil, e.core.StopMigration(ctx)
}

func (e *Engine) switchMigration(ctx context.Context, _ *engine.Call, _ engine.None) (*engine.Response, error) {
	return nil, e.core.SwitchMigration(ctx)
}
