// Package engine is the contract between the hall and its rooms: what a
// secrets engine or auth method declares, what it is given per request, and
// what it may answer.
//
// An engine is a value shared by all its mounts: it holds no state of a mount.
// What a mount keeps lies in storage, and a handler reaches it through
// Call.Tx, a transaction over this mount's keys and no others.
//
// A handler runs inside one transaction and may run again when another commit
// got in between; it must not act on the outside, unless its route says so
// (ActsOutside).
package engine

import (
	"context"
	"fmt"
	"time"

	"arca/internal/storage"
)

// An Engine is a secrets engine or an auth method.
type Engine interface {
	// Type is the name by which it is mounted: "kv", "approle".
	Type() string
	// Routes declares its endpoints. It is asked once, at start.
	Routes() []Route
}

// Optional powers, asked for once when the parts are wired.
type (
	// A Varier answers with different engines for different mounts of its type
	// (KV version 1 and 2). Variants lists them all; Variant names the one that
	// serves a mount with these options.
	Varier interface {
		Variants() map[string]Engine
		Variant(options map[string]string) string
	}
	// A Mounter checks and prepares a new mount within the transaction that
	// makes it.
	Mounter interface {
		Mounted(ctx context.Context, call *Call) error
	}
	// A Tuner hears that a mount's options change, within that transaction.
	Tuner interface {
		Tuned(ctx context.Context, call *Call, old map[string]string) error
	}
	// A Renewer extends a lease; it may shorten lease.TTL.
	Renewer interface {
		Renew(ctx context.Context, call *Call, lease *Lease) (*Response, error)
	}
	// A Revoker takes back what a lease gave.
	Revoker interface {
		Revoke(ctx context.Context, call *Call, lease *Lease) error
	}
	// Counter tells how many secrets a mount has, counting up to limit.
	Counter interface {
		Count(ctx context.Context, call *Call, limit int) (int, error)
	}
	// An AuthRenewer checks the renewal of a token made by a login, and a login that
	// waited for its second factor: an error refuses it. It sets auth to what it would
	// grant now; of a renewal, the TTLs count, of a login all, but not other policies.
	AuthRenewer interface {
		RenewAuth(ctx context.Context, call *Call, auth *Auth) error
	}
	// A Hall is an engine of the hall itself (sys, auth/token, identity,
	// cubbyhole): its Tx covers the whole store, not the keys of one mount.
	Hall interface{ Hall() }
)

// A Mount is a row of the mount table, decoded. It is immutable.
type Mount struct {
	ID          string // UUID; names the mount's keys
	NamespaceID string
	Path        string // within the namespace: "secret/", "auth/approle/"
	Type        string
	Auth        bool
	Accessor    string
	Description string
	Options     map[string]string
	Local       bool
	SealWrap    bool
	// DefaultTTL and MaxTTL are those in force: the mount's, else the system's.
	DefaultTTL, MaxTTL time.Duration
	// TokenType is what an auth mount was tuned to.
	TokenType TokenType
}

// A Caller is who makes the request.
type Caller struct {
	Accessor    string
	DisplayName string
	EntityID    string
	Policies    []string // all in force, sorted
	Meta        map[string]string
	Type        TokenType
	Root        bool
	Wrapping    bool // the token stands for a wrapped answer
	LastUse     bool // this request spends the last use of its token
	// Key names the token's record; it is a keyed hash, never the token.
	Key string
	// NamespaceID is the namespace that the token belongs to.
	NamespaceID string
}

// A Call is one run of a handler.
type Call struct {
	Tx      storage.Tx
	Mount   *Mount
	Caller  *Caller // nil on a route that needs no token, and on renewals by the hall
	Request *Request
	Op      Operation // as decided by the existence check
	Path    string    // the request's path below the mount
	Now     time.Time // UTC; one value for the whole request
	// NamespaceID and NamespacePath ("" for the root, else "a/b/") are those of
	// the request.
	NamespaceID, NamespacePath string
	// SentNamespace is the one that the request's header named.
	SentNamespace string
	// Desks are the hall's desks (*core.Active), for rooms of the hall.
	Desks any
	// Asked is the result of the handler's Ask; nil before.
	Asked any
	// Managed finds managed keys; nil where there are none to find.
	Managed ManagedKeys
	// Done is closed when the node seals or the client is gone: what streams
	// an answer ends then.
	Done <-chan struct{}

	after    []func()
	one      [1]func() // room for after: most have one at most
	warnings []string
	captures captures
	taken    any // what LoginName has decoded of the parameters, for the handler, which takes the same
	odd      odd // ... and what of them the caller may not expect
}

// Warn adds a warning to the answer, if there will be one.
func (c *Call) Warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

// After runs fn when the request is finished and no longer counted, just before
// its answer is sent: a request that seals the node cannot wait for itself.
func (c *Call) After(fn func()) {
	if c.after == nil {
		c.after = c.one[:0]
	}
	c.after = append(c.after, fn)
}

// RunAfter runs what After collected. The hall calls it.
func (c *Call) RunAfter() {
	for _, fn := range c.after {
		fn()
	}
}

// Warnings returns the warnings so far.
func (c *Call) Warnings() []string { return c.warnings }
