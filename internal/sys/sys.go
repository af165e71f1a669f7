// Package sys is the hall's own room: the endpoints of sys/ and auth/token/, the
// cubbyhole and the empty identity mount. They reach the hall's desks directly,
// and their transactions cover the whole store.
package sys

import (
	"slices"

	"arca/internal/core"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/namespace"
	"arca/internal/seal"
)

// An Engine serves sys/.
type Engine struct {
	core *core.Core
	seal *seal.Manager // nil until Bind
}

// New makes the engine of sys/ for a core.
func New(c *core.Core) *Engine { return &Engine{core: c} }

// Bind gives the engine the manager of the seal, which is made after it.
func (e *Engine) Bind(m *seal.Manager) { e.seal = m }

// Type implements engine.Engine.
func (e *Engine) Type() string { return "system" }

// Hall implements engine.Hall.
func (e *Engine) Hall() {}

// Routes implements engine.Engine.
func (e *Engine) Routes() []engine.Route {
	return slices.Concat(
		e.sealRoutes(), e.stateRoutes(), e.mountRoutes(), e.authRoutes(), e.remountRoutes(), e.policyRoutes(),
		e.capabilityRoutes(), e.explainRoutes(), e.mfaRoutes(), e.wrappingRoutes(), e.leaseRoutes(), e.auditRoutes(), e.toolRoutes(), e.internalRoutes(),
		e.configRoutes(), e.rawRoutes(), e.namespaceRoutes(), e.lockedRoutes(), e.managedRoutes(), e.quotaRoutes(), e.pluginRoutes(), e.observeRoutes(), e.logRoutes(), e.raftRoutes(), e.migrationRoutes(), e.sealWrapRoutes(),
	)
}

// desks returns the desks of a call.
func desks(call *engine.Call) *core.Active { return call.Desks.(*core.Active) }

// ns is the id of the namespace that a call is about.
func ns(call *engine.Call) string {
	if call.NamespaceID == "" {
		return namespace.RootID // a route that is served sealed, too
	}
	return call.NamespaceID
}

var errNotFound = errs.New(errs.NotFound, "not found") // doors answer it without words

// keys is the answer of a listing; an empty one is not found.
func keys(list []string) (*engine.Response, error) {
	if len(list) == 0 {
		return nil, errNotFound
	}
	return &engine.Response{Data: map[string]any{"keys": list}}, nil
}

// paging are the parameters of a listing that pages.
type paging struct {
	After string `api:"after" help:"List what comes behind this name."`
	Limit int    `api:"limit" help:"List at most so many names."`
}

func data(m map[string]any) *engine.Response { return &engine.Response{Data: m} }
