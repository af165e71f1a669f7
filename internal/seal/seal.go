// Package seal keeps the root key shut away until enough key shares are given.
//
// The chain of keys: the shares combine to the unseal key (Shamir, package
// shamir); that decrypts the root key; that decrypts the keyring (package
// barrier), which encrypts everything else. Beside the root key goes the seal-wrap
// key, which decrypts the keyring for values that are wrapped (wrap.go). The
// ciphertexts lie in the clear area of the store. New unseal keys come with a new root key (renew.go); new recovery
// keys are one new wrapping of the root key and no other write.
//
// A Manager is made once. It initialises the store, unseals it, and while it
// is open changes shares (rekey), makes root tokens (generate-root) and
// rotates the keyring. Its state is one immutable value, swapped as a whole;
// the secrets that a state owns are wiped when it is left for good.
//
// Behaviour and texts are those of Vault's sys/init, sys/unseal, sys/rekey,
// sys/generate-root and sys/rotate, as the conformance scenarios recorded them.
//
// With seals that open by themselves (Config.Wrappers) the root key is kept under
// each of them besides, and the shares are recovery keys: they authorise, and they
// open the store when no seal answers any more. To go over from one sort to the
// other is one write, as the shares stay what they are.
package seal

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/version"
)

// Errors that callers may match with errors.Is.
var (
	ErrSealed         error = errs.New(errs.Sealed, "Vault is sealed")
	ErrInitialised    error = errs.New(errs.Invalid, "Vault is already initialized")
	ErrNotInitialised error = errs.New(errs.Invalid, "Vault is not initialized")
	ErrStandby        error = errs.New(errs.NotActive, "Vault is in standby mode")
)

// Cluster is the identity that init gave to the store.
type Cluster struct {
	ID   string
	Name string
}

// Config is what a Manager needs.
type Config struct {
	// Raw gives transactions over the store without the barrier. The manager
	// touches the clear area, and all of it only while it initialises.
	Raw *storage.DB
	// Bootstrap writes the first content behind the barrier of ring and gives
	// the first root token. It runs once within Init, and must have let go of
	// ring when it returns.
	Bootstrap func(ctx context.Context, ring *barrier.Keyring) (rootToken string, err error)
	// Opened takes over when unsealing has opened ring. An error leaves the
	// node sealed. It must not call the manager's operations before it returns.
	Opened func(ctx context.Context, ring *barrier.Keyring, cluster Cluster) error
	// RootToken makes a new root token, of OTPLength characters.
	RootToken func(ctx context.Context) (string, error)
	// Wrappers are the seals that open by themselves, the one to ask first in
	// front. With none that is enabled the seal is Shamir's.
	Wrappers []Wrapper
	// Unreadable, if set, is told that the keys of a standby do not open what is stored, or those that a node was just opened with, which may be active
	// by now. It must not wait for the manager.
	Unreadable func(why error)
	// Founding, if set, makes the store ready for its first content, and gives what ends that.
	Founding func(ctx context.Context) (done func(), err error)
	// Standby, if set, reports that another node is active: rekey and
	// generate-root then fail with ErrStandby.
	Standby func() bool
	// Shared says that other nodes write the same store: this one does not while it is
	// sealed, once it is initialised.
	Shared bool

	Version     string // reported; default version.Default
	StorageType string // reported
	ClusterName string // for a new cluster; default "vault-cluster-" and eight hex digits
	OTPLength   int    // length of a root token; default 26
	Log         *slog.Logger
	// DisableSealWrap has values of mounts with seal_wrap written without the seal's layer.
	// What has it is read.
	DisableSealWrap bool
}

// A Manager holds the seal of one node. It is safe for concurrent use; its
// operations run one after another.
type Manager struct {
	cfg     Config
	state   atomic.Pointer[state]   // never nil
	joining atomic.Pointer[joining] // nil unless this node is empty and about to join a cluster
	// arriving is set while the store of a cluster that this node has joined comes by itself, from its beginning: until it has the keyring
	// under the root key that the node was let in with, it may be as before a rekey.
	arriving atomic.Bool
	looking  chan struct{} // holds one value while the cluster that is to be joined is asked for its seal
	turn     chan struct{} // holds one value while an operation runs; only it may swap state
	ill      illnesses
	kick     chan struct{} // tells Watch to look now
	invites  invites       // of nodes that join
	ages     ages          // of handovers
	// heard counts what was told of changes by other nodes, and loaded is how many of them Reload has taken over: shares
	// count by the configuration that is in hand, and so not before it has.
	heard, loaded atomic.Uint64
	loading       sync.Mutex // held while the seal-wrap keyring is loaded
	reading       sync.Mutex // held from when the stored keyring is read until it is taken over: who reads later takes over later
	// wanted says that a mount has seal_wrap; renew is when the seals were last asked to
	// encrypt anew what they keep (Unix ns). Of this process.
	wanted atomic.Bool
	renew  atomic.Int64
	// opened says that the node was open once.
	opened atomic.Bool
}

// state is what the manager knows: immutable, swapped as a whole.
type state struct {
	round *round    // shares given to unseal so far; nil when none
	open  *unsealed // nil while sealed
}

// unsealed is what an open manager owns.
type unsealed struct {
	config  *config
	root    *heldKey // the same in all copies, as wrap
	wrap    *heldKey
	plain   bool // values are not wrapped when they are written
	ring    *barrier.Keyring
	rekey   *rekey   // nil when none is under way
	attempt *attempt // of generate-root; nil when none is under way
	// crossing is a migration that is pending; nil when none is.
	crossing *crossing
	// settle names the Next whose shares were told or used: they are to take the place of
	// the others. It is zero for none. Another Next, of a later rekey, it says nothing of:
	// the shares of that one may have been told to nobody.
	settle digest
	// fresh is the root key that comes with those shares; nil where that stays, and where nothing settles.
	fresh barrier.Key
}

// settles reports whether the shares of config.Next are to take the place of the others.
func (u *unsealed) settles() bool { return u.config.Next != nil && u.settle == u.config.Next.digest() }

// settleOn has s, nil for none, take the place of the other sharing, with a copy of fresh as the root key.
func (u *unsealed) settleOn(s *sharing, fresh barrier.Key) {
	if s == nil {
		fresh = nil
	}
	fresh = slices.Clone(fresh)
	u.fresh.Wipe()
	u.settle, u.fresh = s.digest(), fresh
}

// take takes c over.
func (u *unsealed) take(c *config) {
	if u.config = c; !u.settles() {
		u.settleOn(nil, nil)
	}
	if u.ring != nil {
		u.ring.SetWrapping(u.wraps(c))
	}
}

// wipe overwrites what an open state owns.
func (u *unsealed) wipe() {
	if u.ring != nil {
		u.ring.Wipe()
	}
	u.root.set(nil)
	u.wrap.set(nil)
	u.fresh.Wipe()
	u.dropCeremonies()
}

// dropCeremonies ends a rekey and a making of a root token that are under way.
func (u *unsealed) dropCeremonies() {
	u.rekey.wipe()
	u.attempt.wipe()
	u.rekey, u.attempt = nil, nil
}

// New makes a sealed manager. It starts nothing.
func New(cfg Config) (*Manager, error) {
	switch {
	case cfg.Raw == nil:
		return nil, errors.New("seal: no store given")
	case cfg.Bootstrap == nil || cfg.Opened == nil || cfg.RootToken == nil:
		return nil, errors.New("seal: Bootstrap, Opened and RootToken are needed")
	}
	if cfg.Version == "" {
		cfg.Version = version.Default
	}
	if cfg.OTPLength == 0 {
		cfg.OTPLength = 26
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m := &Manager{cfg: cfg, turn: make(chan struct{}, 1), kick: make(chan struct{}, 1), looking: make(chan struct{}, 1)}
	m.state.Store(&state{})
	m.invites.init()
	return m, nil
}

// begin waits for the operation under way, if there is one; end lets the next.
func (m *Manager) begin(ctx context.Context) error {
	select {
	case m.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errs.New(errs.Unavailable, "waiting for another seal operation: %w", ctx.Err())
	}
}

func (m *Manager) end() { <-m.turn }

// beginOpen is begin for an operation that needs an open, active node.
func (m *Manager) beginOpen(ctx context.Context) (*unsealed, error) {
	if err := m.begin(ctx); err != nil {
		return nil, err
	}
	u, err := m.active()
	if err == nil && m.behind() {
		if err = m.reload(ctx); err != nil {
			err = errs.New(errs.KindOf(err), "read the seal's configuration, which another node may have changed: %w", err)
		}
		u = m.state.Load().open
	}
	if err != nil {
		m.end()
		return nil, err
	}
	return u, nil
}

// behind reports whether another node may have stored another configuration than the one in hand.
func (m *Manager) behind() bool { return m.heard.Load() != m.loaded.Load() }

// active returns the open state of an active node.
func (m *Manager) active() (*unsealed, error) {
	u := m.state.Load().open
	switch {
	case u == nil:
		return nil, ErrSealed
	case m.cfg.Standby != nil && m.cfg.Standby():
		return nil, ErrStandby
	}
	return u, nil
}

// set swaps in a changed copy of the open state.
func (m *Manager) set(u *unsealed, change func(*unsealed)) {
	next := *u
	change(&next)
	m.state.Store(&state{open: &next})
}

// Sealed reports whether the node is sealed. It costs one atomic load.
func (m *Manager) Sealed() bool { return m.state.Load().open == nil }

// Initialised reports whether the store was initialised. While the node is
// open it reads nothing.
func (m *Manager) Initialised(ctx context.Context) (bool, error) {
	c, err := m.config(ctx)
	return c != nil, err
}

// Cluster returns the cluster's identity, or ErrSealed.
func (m *Manager) Cluster() (Cluster, error) {
	u := m.state.Load().open
	if u == nil {
		return Cluster{}, ErrSealed
	}
	return u.config.cluster(), nil
}

// Status is the answer of sys/seal-status.
type Status struct {
	Type         string `json:"type"`
	Initialized  bool   `json:"initialized"`
	Sealed       bool   `json:"sealed"`
	T            int    `json:"t"`
	N            int    `json:"n"`
	Progress     int    `json:"progress"`
	Nonce        string `json:"nonce"`
	Version      string `json:"version"`
	BuildDate    string `json:"build_date"`
	Migration    bool   `json:"migration"`
	ClusterName  string `json:"cluster_name,omitempty"`
	ClusterID    string `json:"cluster_id,omitempty"`
	RecoverySeal bool   `json:"recovery_seal"`
	RecoveryType string `json:"recovery_seal_type,omitempty"`
	StorageType  string `json:"storage_type,omitempty"`
	ArcaVersion  string `json:"arca_version"`
	// RemovedFromCluster is for who asks the node, which knows its cluster: a Manager does not.
	RemovedFromCluster bool `json:"removed_from_cluster,omitempty"`
	// UnhealthySeals are those that failed when they were asked last.
	UnhealthySeals []string `json:"unhealthy_seals,omitempty"`
}

// Status tells the state of the seal. It waits for no operation.
func (m *Manager) Status(ctx context.Context) (Status, error) {
	st := Status{
		Type: m.Type(), RecoverySeal: m.Auto(), UnhealthySeals: m.unhealthy(), Sealed: true, Version: m.cfg.Version, BuildDate: version.BuildDate,
		StorageType: m.cfg.StorageType, ArcaVersion: version.Arca,
	}
	s := m.state.Load()
	c, err := m.config(ctx)
	if st.RecoverySeal {
		st.RecoveryType = typeShamir
	}
	if err != nil || c == nil {
		return st, err
	}
	if st.RecoverySeal, st.RecoveryType = c.auto(), ""; c.auto() {
		st.RecoveryType = typeShamir
	}
	st.Migration = m.migrating(c)
	st.Initialized, st.Type, st.T, st.N = true, c.Type, c.Threshold, c.Shares
	if s.open != nil {
		st.Sealed = false
		st.ClusterName, st.ClusterID = c.ClusterName, c.ClusterID
		return st, nil
	}
	if s.round != nil && s.round.of == c.fingerprint() {
		st.Progress, st.Nonce = len(s.round.parts), s.round.nonce
	}
	return st, nil
}

// Seal forgets all keys. The keyring is dead when it returns; whoever uses it
// fails with ErrSealed.
func (m *Manager) Seal() {
	if u := m.state.Load().open; u != nil {
		u.ring.Wipe() // at once, whatever operation runs
	}
	m.turn <- struct{}{}
	defer m.end()
	m.shut()
}

// shut leaves the present state and wipes what it owns.
func (m *Manager) shut() {
	s := m.state.Swap(&state{})
	s.round.wipe()
	if s.open != nil {
		s.open.wipe()
	}
}

// Reload takes over what another node saved: the keyring's new terms, and the
// root key and the counts of shares after a rekey. Call it when the commit feed shows a change
// under barrier.ClearPrefix, and before this node becomes active.
func (m *Manager) Reload(ctx context.Context) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	defer m.end()
	return m.reload(ctx)
}

// reload is Reload within an operation.
func (m *Manager) reload(ctx context.Context) error {
	u := m.state.Load().open
	if u == nil {
		return ErrSealed
	}
	heard := m.heard.Load()
	var c *config
	err := m.viewRing(ctx, u, func(tx storage.Tx, root barrier.Key) (err error) {
		if c, err = readConfig(tx); err != nil {
			return err
		}
		if err := m.loadRing(tx, u, root); err != nil {
			return err
		}
		return m.loadWrap(tx, c, u)
	})
	if errors.Is(err, errArriving) {
		return nil
	}
	if err != nil {
		return err
	}
	if c == nil {
		return ErrNotInitialised
	}
	m.loaded.Store(heard)
	if !c.equal(u.config) { // else what works with it goes on
		m.set(u, func(u *unsealed) {
			if !bytes.Equal(c.Root, u.config.Root) { // by shares that count no more
				u.dropCeremonies()
			}
			u.take(c)
		})
		m.hasten() // to look at what the seals have now
	}
	return nil
}

// Refresh takes over the keyring's terms that another node saved, at once: before anything that is encrypted with them is
// read. While sealed it does nothing. The rest of what another node may have changed is taken over in the background: if that fails
// Watch goes on with it, and operations by shares do it first.
func (m *Manager) Refresh(ctx context.Context) error {
	m.heard.Add(1)
	u := m.state.Load().open
	if u == nil {
		return nil
	}
	err := m.reloadRing(ctx, u)
	if err == nil {
		go func() { // an operation may be under way; ends with it
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			if err := m.Reload(ctx); err != nil && !errors.Is(err, ErrSealed) {
				m.cfg.Log.Warn("take over the seal's configuration", "error", err)
				m.hasten()
			}
		}()
	}
	return err
}

// reloadRing takes over the stored terms. It is an error when the store was migrated, and all is done: before, nobody writes,
// and what is read is as it was.
func (m *Manager) reloadRing(ctx context.Context, u *unsealed) error {
	err := m.viewRing(ctx, u, func(tx storage.Tx, root barrier.Key) error {
		var gone *MigratedError
		c, err := readConfig(tx)
		if errors.As(err, &gone) && gone.Done {
			return err
		}
		if err := m.loadRing(tx, u, root); err != nil || c == nil {
			return err
		}
		return m.loadWrap(tx, c, u)
	})
	if errors.Is(err, errArriving) {
		return nil
	}
	return err
}

// viewRing has take, which has the root key, take over the stored keyring by loadRing. One after another: else a term that one has found would be forgotten by another, who
// began to read before that.
func (m *Manager) viewRing(ctx context.Context, u *unsealed, take func(tx storage.Tx, root barrier.Key) error) error {
	m.reading.Lock()
	defer m.reading.Unlock()
	root := u.root.get()
	defer root.Wipe()
	return m.cfg.Raw.View(ctx, func(tx storage.Tx) error { return take(tx, root) })
}

// Arrived takes over what is stored of the keys by a node that is about to become the active one: the store of a cluster that it has joined
// is here, too. What cannot be read is an error. Operations by shares read the rest first.
func (m *Manager) Arrived(ctx context.Context) error {
	m.heard.Add(1)
	m.arriving.Store(false)
	u := m.state.Load().open
	if u == nil {
		return nil // it is being opened: that ends with the same, or the core is told that the keys do not fit
	}
	return m.reloadRing(ctx, u)
}

func now() time.Time { return time.Now().UTC() }
