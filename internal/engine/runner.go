package engine

import (
	"context"
	"log/slog"

	"arca/internal/storage"
	"arca/internal/telemetry"
)

// A Runner works for its mounts beside requests: it listens for a protocol of its
// own. Run is called when the node is unsealed, be it the active one of its cluster
// or a standby, and ends when ctx does.
type Runner interface {
	Run(ctx context.Context, host Host)
}

// A Teller is a Runner that keeps in memory what the store is to know in the end. Tell is called
// before the server stops, while it still serves, but not before it is sealed by a request; it has
// little time, which ctx bounds.
type Teller interface {
	Tell(ctx context.Context, host Host)
}

// A Host is what the hall offers a Runner.
type Host interface {
	// Handle serves a request as if it had come through a door. What comes from
	// the outside takes no other way. What a standby cannot serve is served by the
	// active node, which gets Path, Params, Raw, Remote and the certificates of the
	// client, but not Payload.
	Handle(ctx context.Context, req *Request) (*Response, error)
	// Leads reports whether this is the active node.
	Leads() bool
	// Mounts are the mounts of the runner's type, in all namespaces.
	Mounts(ctx context.Context) ([]Place, error)
	// Changed tells that there may be other mounts now, or that they moved.
	Changed() <-chan struct{}
	// View reads the keys of a mount.
	View(ctx context.Context, m *Mount, fn func(tx storage.Tx) error) error
	// Watch calls fn with the keys of a mount that a commit has changed, whichever
	// node made it, and with the prefixes under which it deleted all ("" is all
	// keys), until cancel is called. fn must be quick.
	Watch(m *Mount, fn func(keys, prefixes []string)) (cancel func())
	// Log takes what somebody should know.
	Log() *slog.Logger
	// Metrics keeps what is measured; nil, which takes everything and keeps nothing,
	// where that is not wanted.
	Metrics() *telemetry.Registry
}

// A Place is a mount and the path of its namespace.
type Place struct {
	Mount         *Mount
	NamespacePath string // "" is the root, else "a/b/"
}
