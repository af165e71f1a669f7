// Package core is the hall: every request of every door passes through
// Core.Handle, and there is no second way in.
//
// A node is sealed or unsealed, and unsealed it is the active one or a standby.
// Each state is a value that owns what it holds: Active has the store in clear,
// the keyring and the desks, and on the active node the work that only that one
// does; leaving it cancels its context, waits for the requests inside and for its
// goroutines, wipes the keys and drops it.
package core

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/activity"
	"arca/internal/audit"
	"arca/internal/barrier"
	"arca/internal/cluster"
	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/identity"
	"arca/internal/lease"
	"arca/internal/logging"
	"arca/internal/managed"
	"arca/internal/mfa"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/policy"
	"arca/internal/quota"
	"arca/internal/seal"
	"arca/internal/storage"
	"arca/internal/storage/mirror"
	"arca/internal/telemetry"
	"arca/internal/token"
	"arca/internal/tracing"
	"arca/internal/version"
)

// Config of a Core. Backend, StorageType and Catalog are needed; the rest has
// good defaults.
type Config struct {
	Backend     storage.Backend
	StorageType string // as shown in seal-status: file, inmem, raft
	// Catalog makes the list of engines; it may keep the core for the rooms of
	// the hall.
	Catalog func(*Core) Catalog

	Log           *slog.Logger
	Logs          *logging.Log  // behind Log, for sys/loggers and sys/monitor; nil leaves these out
	DefaultTTL    time.Duration // 0: 768h
	MaxTTL        time.Duration // 0: 768h
	CompatVersion string        // Vault version to report; "" for the default
	ClusterName   string
	APIAddr       string
	ClusterAddr   string
	// Seals are those that open by themselves; none is a Shamir seal.
	Seals []seal.Wrapper
	// Managed are the services that keep managed keys; nil is none.
	Managed managed.Services
	// Cluster is what the node shares its store with; nil is nobody.
	Cluster *cluster.Node
	// Bucket opens the part of a bucket whose keys begin with prefix, for snapshots by schedule; nil: there is no S3.
	Bucket func(prefix string, s *S3) (SnapshotPlace, error)
	// Target opens the storage that a migration goes to; nil: there is none.
	Target func(ctx context.Context) (*Target, error)
	// Join asks a node of a cluster to be let in; it reports whether that one has
	// answered. Needed with Cluster.
	Join        func(ctx context.Context, req JoinRequest) (bool, error)
	RawEndpoint bool // sys/raw
	// DisableSealWrap has what mounts with seal_wrap write encrypted by the barrier alone.
	DisableSealWrap bool
	// Lockouts are the rules for users who give wrong passwords, in place of the
	// defaults; the mounts' own come before them.
	Lockouts      []Lockout
	Introspection bool // sys/internal/inspect
	// Sanitized is the server's configuration without secrets; nil when there is none to show.
	Sanitized func() map[string]any
	// Metrics takes what is measured; nil is nothing.
	Metrics *telemetry.Registry
	// Traces tells how long requests take; nil tells nothing.
	Traces *tracing.Tracer
	// ForwardRunner has the active node serve a request of a Runner, as
	// Core.HandleForwarded; needed with Cluster. An error of the kind NotActive says
	// that nothing has happened.
	ForwardRunner func(ctx context.Context, req *engine.Request) (*engine.Response, error)
	// Forbidden tells why an audit device must not write a file; nil allows all.
	Forbidden func(path string) error
	// AuditPrefixes says that audit devices may begin their lines with a text.
	AuditPrefixes bool
	// Changed is told when the node may be sealed or unsealed, active or a standby; it must not wait. Nil is nobody.
	Changed func()
	// Usage is about gauges that are costly to find.
	Usage Usage
	// Storage settings of the transaction layer; zero is good.
	DB storage.Config
}

// A Catalog knows the engines and the routes that are served sealed.
type Catalog interface {
	mount.Catalog
	// System are the routes of sys, of which some are served sealed.
	System() *engine.Table
	// Names lists the types of engines that can be mounted.
	Names(auth bool) []string
}

const defaultTTL = 768 * time.Hour

// A Core is one node. Safe for concurrent use.
type Core struct {
	cfg     Config
	log     *slog.Logger
	source  *mirror.Source // the store
	raw     *storage.DB    // the store below the barrier: what unsealing needs
	seal    *seal.Manager
	catalog Catalog

	active  atomic.Pointer[Active]
	told    atomic.Pointer[Active] // who hears of what other nodes write: active, and after that until its store is closed
	flights flights
	meters  *meters
	changes sync.Mutex // held while the state changes
	past    []*lead    // whose work may not have ended; only for the events of the cluster
	started time.Time

	snapshots chan struct{} // the schedules of snapshots have changed
	rewraps   chan struct{} // values are to be wrapped anew
	migrating migrating
}

// New makes a sealed core over a backend.
func New(cfg Config) (*Core, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.DefaultTTL == 0 {
		cfg.DefaultTTL = defaultTTL
	}
	if cfg.MaxTTL == 0 {
		cfg.MaxTTL = defaultTTL
	}
	if cfg.DefaultTTL > cfg.MaxTTL {
		return nil, errs.New(errs.Invalid, "default_lease_ttl (%s) is greater than max_lease_ttl (%s)", cfg.DefaultTTL, cfg.MaxTTL)
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	source := mirror.NewSource(cfg.Backend) // which also holds the seal's store and the one behind the barrier to one Apply at a time
	cfg.Backend = source
	c := &Core{cfg: cfg, log: cfg.Log, source: source, started: time.Now(), snapshots: make(chan struct{}, 1), rewraps: make(chan struct{}, 1)}
	c.meters = newMeters(cfg.Metrics, c)
	c.raw = storage.Open(unpinned{cfg.Backend}, storage.Config{ValueCacheBytes: -1})
	c.catalog = cfg.Catalog(c)
	var err error
	c.seal, err = seal.New(seal.Config{
		Raw:         c.raw,
		StorageType: cfg.StorageType,
		ClusterName: cfg.ClusterName,
		Version:     version.Compat(cfg.CompatVersion),
		Log:         cfg.Log,
		Bootstrap:   c.bootstrap,
		Opened:      c.open,
		RootToken:   c.newRootToken,
		OTPLength:   len(rootTokenPrefix) + rootTokenLength,
		Wrappers:    cfg.Seals,
		Standby:     c.Standby,
		Unreadable:  c.keysUnreadable,
		Founding:    c.founding,
		Shared:      cfg.Cluster != nil,

		DisableSealWrap: cfg.DisableSealWrap,
	})
	if err == nil && cfg.Cluster != nil {
		c.bind()
	}
	return c, err
}

// founding prepares the store for its first content, and returns what ends that.
func (c *Core) founding(ctx context.Context) (done func(), err error) {
	if c.cfg.Cluster == nil {
		return func() {}, nil
	}
	if err := c.cfg.Cluster.Bootstrap(ctx); err != nil {
		c.cfg.Cluster.Stop()
		return nil, err
	}
	return c.cfg.Cluster.Stop, nil
}

// SealManager returns the manager of the seal.
func (c *Core) SealManager() *seal.Manager { return c.seal }

// Config returns the node's configuration.
func (c *Core) Config() *Config { return &c.cfg }

// Catalog returns the list of engines.
func (c *Core) Catalog() Catalog { return c.catalog }

// Started is when this process's core was made.
func (c *Core) Started() time.Time { return c.started }

// Active returns the active state, nil while sealed.
func (c *Core) Active() *Active { return c.active.Load() }

// Sealed reports whether the node is sealed.
func (c *Core) Sealed() bool { return c.active.Load() == nil }

// Active is an unsealed node: the store in clear and the desks. Whether it is the
// active one of its cluster, Leads says.
type Active struct {
	DB         *storage.DB
	Ring       *barrier.Keyring
	Namespaces *namespace.Store
	Identity   *identity.Store
	MFA        *mfa.Store
	Mounts     *mount.Table
	Managed    *managed.Store
	Policies   *policy.Store
	Tokens     *token.Store
	Audit      *audit.Broker
	Quotas     *quota.Keeper
	Queue      *lease.Queue
	Activity   *activity.Log
	Makers     *activity.Makers // since the node became active

	lockouts lockouts

	Since   time.Time
	Cluster seal.Cluster

	lead atomic.Pointer[lead] // nil on a standby

	core   *Core
	gate   sync.RWMutex // read-held by each request; sealing waits for it
	ctx    context.Context
	cancel context.CancelFunc

	starting sync.Mutex                  // held while work is added to
	over     bool                        // nothing starts any more; guarded by starting
	tell     []func(ctx context.Context) // what engines that run have to say before the end; guarded by starting
	work     sync.WaitGroup

	tidying sync.Map // namespaces whose records are tidied just now, by id
}

// Done is closed when the node leaves this state.
func (a *Active) Done() <-chan struct{} { return a.ctx.Done() }

// Go runs fn in the background until the node leaves this state; fn must end
// when its context does. Once the state is left it does nothing.
func (a *Active) Go(fn func(ctx context.Context)) {
	a.starting.Lock()
	defer a.starting.Unlock()
	if !a.over {
		a.work.Go(func() { fn(a.ctx) })
	}
}

// Tidying reports whether the records of a namespace are tidied just now.
func (a *Active) Tidying(ns string) bool {
	_, running := a.tidying.Load(ns)
	return running
}

// Tidy runs fn as Go does, unless the records of the namespace are tidied already.
func (a *Active) Tidy(ns string, fn func(ctx context.Context)) {
	if _, running := a.tidying.LoadOrStore(ns, true); running {
		return
	}
	a.Go(func(ctx context.Context) {
		defer a.tidying.Delete(ns)
		fn(ctx)
	})
}

// stop ends the background work, and returns when it has ended.
func (a *Active) stop() {
	a.starting.Lock()
	a.over = true
	a.starting.Unlock()
	a.work.Wait()
	if l := a.cease(); l != nil {
		l.work.Wait()
	}
}

// desks builds the desks over a keyring. It starts nothing.
func (c *Core) desks(ring *barrier.Keyring) (*Active, error) {
	a := &Active{core: c, Ring: ring, Since: time.Now().UTC()}
	hashKey, err := ring.Derive("token-hash")
	if err != nil {
		return nil, err
	}
	db := c.cfg.DB
	db.MayWrap = ring.MayWrap
	a.DB = storage.Open(c.meters.measure(barrier.New(keepOpen{c.cfg.Backend}, ring)), db)
	a.Namespaces = namespace.NewStore(a.DB)
	a.Identity = identity.NewStore(a.DB, a.Namespaces)
	a.MFA = mfa.NewStore(a.DB)
	a.Mounts = mount.NewTable(a.DB, mount.TableConfig{
		Catalog: c.catalog, DefaultTTL: c.cfg.DefaultTTL, MaxTTL: c.cfg.MaxTTL,
	})
	a.Managed = managed.NewStore(a.DB, c.cfg.Managed)
	a.Policies = policy.NewStore(a.DB)
	a.Activity = activity.NewLog(a.DB, c.log)
	if c.cfg.Cluster != nil {
		a.Activity.Elsewhere = c.reportClients
	}
	a.Makers = &activity.Makers{}
	aad := []byte("batch token")
	accessorKey, err := ring.Derive("token-accessor")
	if err != nil {
		return nil, err
	}
	a.Tokens, err = token.NewStore(a.DB, token.Keys{
		Hash: hashKey, Accessor: accessorKey,
		Seal: func(plain []byte) ([]byte, error) { return ring.Seal(aad, plain) },
		Open: func(sealed []byte) ([]byte, error) { return ring.Open(aad, sealed) }, Mounted: a.Mounts.Holds,
	})
	if err != nil {
		return nil, err
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a, nil
}

var (
	_ storage.Shower = measured{}
	_ storage.Shower = unpinned{}
	_ storage.Shower = keepOpen{}
)

// unpinned is the backend for the store of the seal: reads see the newest state
// and hold no snapshot. That store is written a few times in a server's life,
// and a snapshot held as long would keep every value that is overwritten behind
// the barrier meanwhile. The seal's manager writes one operation after another. On another node
// a commit may come between two reads of a view: what does not fit together then is refused, and
// read again when the node is told of the commit.
type unpinned struct{ storage.Backend }

// ApplyShow implements storage.Shower.
func (u unpinned) ApplyShow(ctx context.Context, b storage.Batch, show func() error) error {
	return storage.ApplyShow(ctx, u.Backend, b, show)
}

// Snapshot implements storage.Backend.
func (u unpinned) Snapshot(context.Context) (storage.Snapshot, error) { return newest{u.Backend}, nil }

type newest struct{ storage.Reader }

func (newest) Close() error { return nil }

// keepOpen keeps the store over the barrier from closing the backend, which
// outlives it.
type keepOpen struct{ storage.Backend }

// ApplyShow implements storage.Shower.
func (k keepOpen) ApplyShow(ctx context.Context, b storage.Batch, show func() error) error {
	return storage.ApplyShow(ctx, k.Backend, b, show)
}

func (keepOpen) Close() error { return nil }

// open makes the node active; the seal's manager calls it with the keyring.
func (c *Core) open(ctx context.Context, ring *barrier.Keyring, cluster seal.Cluster) error {
	defer c.cfg.Changed()
	c.changes.Lock()
	defer c.changes.Unlock()
	defer c.meters.opened.Since(c.meters.clock())
	if c.active.Load() != nil {
		return nil
	}
	c.source.Return()       // it was opened, so it is not marked as migrated
	c.migrating.forget(nil) // it has ended when the node was sealed
	a, err := c.desks(ring)
	if err != nil {
		return err
	}
	a.Cluster = cluster
	auditing := audit.Config{DB: a.DB, Log: c.log, CompatVersion: c.cfg.CompatVersion, Forbidden: c.cfg.Forbidden, Prefixes: c.cfg.AuditPrefixes}
	if c.cfg.Cluster != nil {
		auditing.Node, auditing.Elsewhere = c.cfg.Cluster.Self().ID, c.reportEnd
	}
	a.Audit, err = audit.NewBroker(ctx, auditing)
	if err != nil {
		a.cancel()
		_ = a.DB.Close() // nothing was written
		return err
	}
	if a.Quotas, err = quota.NewKeeper(a.DB, c.log); err != nil {
		a.Audit.Close()
		a.cancel()
		_ = a.DB.Close() // nothing was written
		return err
	}
	a.Queue = lease.NewQueue(lease.Config{DB: a.DB, Log: c.log, Requests: c.flights.came, Handlers: map[string]lease.Handler{
		token.QueueKind:     a.Tokens.Expire,
		token.CleanupKind:   a.Tokens.CleanUp,
		lease.QueueKind:     a.expireLease,
		lease.TokenGoneKind: a.tokenGone,
		PrefixKind:          a.revokeMore,
		LeasesKind:          a.revokeLeases,
		EndKind:             a.endMount,
		MoveKind:            forgetMove,
		NamespaceKind:       a.endNamespace,
		AssignKind:          a.assign,
	}, Failed: map[string]func(context.Context, storage.Tx, lease.Item, error) error{
		lease.QueueKind: a.leaseFailed,
	}})
	a.Go(a.Activity.Run)
	a.Go(c.seal.Watch)
	if c.cfg.Cluster == nil {
		a.begin()
		c.active.Store(a)
		a.listen()
		return nil
	}
	a.DB.Follow() // until the cluster says that it leads
	c.told.Store(a)
	c.active.Store(a)
	if err := c.cfg.Cluster.Start(ctx, ring); err != nil {
		c.active.Store(nil)
		c.cfg.Cluster.Stop()
		_ = c.leave(a) // the first error counts
		c.told.Store(nil)
		return err
	}
	a.listen()
	return nil
}

// leave ends a state that no request finds any more.
func (c *Core) leave(a *Active) error {
	a.cancel()
	a.gate.Lock() // waits for the requests inside
	// Whoever still comes finds the context done. The seal's manager and those who
	// listen may be among them: stop waits for these, so that they must not wait
	// for the gate.
	a.gate.Unlock() //nolint:staticcheck // SA2001: the lock is there to wait
	a.stop()
	a.Quotas.Close()
	a.Audit.Close() // keeps the ends of its chains in the store
	err := a.DB.Close()
	return err
}

// Shut seals the node: no request enters any more, those inside end, the keys
// are wiped. It returns when all that is done.
func (c *Core) Shut() error { return c.shut(nil) }

// shut is Shut, unless the node has left the state only by now; nil is any.
func (c *Core) shut(only *Active) error {
	c.changes.Lock()
	defer c.changes.Unlock()
	a := c.active.Load()
	if a == nil || only != nil && a != only {
		return nil
	}
	if c.cfg.Cluster != nil && a.Leads() {
		a.Audit.KeepEnds()
		if err := c.cfg.Cluster.StepDown(); err != nil {
			c.log.Debug("no other node takes over", "error", err)
		}
	}
	c.active.Store(nil)
	c.cfg.Changed()
	err := c.leave(a) // the requests inside may read: what others write is still told
	c.told.Store(nil)
	if c.cfg.Cluster != nil {
		c.awaitRestored()
		c.cfg.Cluster.Stop()
	}
	c.seal.Seal() // wipes the keys
	c.log.Info("sealed")
	return err
}

// Close shuts the node for good. The backend stays open: it belongs to who made it.
func (c *Core) Close() error {
	if a := c.active.Load(); a != nil {
		a.farewell()
	}
	err := c.Shut()
	if rawErr := c.raw.Close(); err == nil {
		err = rawErr
	}
	return err
}

// ErrSealed is the refusal of a sealed node.
var ErrSealed = errs.New(errs.Sealed, "Vault is sealed")

// enter counts a request in. leave must be called when it is done.
func (c *Core) enter() (*Active, error) {
	a := c.active.Load()
	if a == nil {
		return nil, ErrSealed
	}
	a.gate.RLock()
	if a.ctx.Err() != nil {
		a.gate.RUnlock()
		return nil, ErrSealed
	}
	return a, nil
}

func (a *Active) leave() { a.gate.RUnlock() }

// APIAddr is the address at which clients reach this node: scheme, host, port.
func (a *Active) APIAddr() string { return a.core.cfg.APIAddr }
