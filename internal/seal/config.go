package seal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
)

// Keys of the clear area, beside barrier.RecordKey.
const (
	configKey = barrier.ClearPrefix + "config" // its presence says: initialised
	markKey   = barrier.ClearPrefix + "init"   // present while Init is under way
	backupKey = barrier.ClearPrefix + "backup" // new shares of a rekey, encrypted to PGP keys

	handoverKey = barrier.ClearPrefix + "handover" // new root keys, for nodes that have the one before
)

// Labels that wrapped keys are bound to.
const (
	rootLabel   = "arca root key"
	priorLabel  = "arca root key before"
	backupLabel = "arca rekey backup"
)

const (
	typeShamir    = "shamir"
	configVersion = 1
	wrapVersion   = 3 // with a seal-wrap key: releases that would lose it know no such version
	// renewing is added where a sharing has a Prior, for the same reason.
	renewing = 10
)

// config is the stored description of the seal. It holds no secret: the root
// key in it is encrypted under the unseal key. It is immutable.
type config struct {
	Version int    `json:"version"`
	Type    string `json:"type"`
	sharing
	// Next is a sharing that a rekey is going over to. Both are good, until
	// shares of Next were used or Next has taken the place of the other.
	Next *sharing `json:"next,omitempty"`
	// Wrapped is the root key under each seal that opens by itself; with them the
	// sharing is that of recovery keys. There are none with a Shamir seal.
	Wrapped []wrapping `json:"wrapped,omitempty"`
	// SealWrap is the seal-wrap key under the root key, as long as shares or a seal give
	// the root key alone.
	SealWrap    []byte    `json:"seal_wrap,omitempty"`
	ClusterID   string    `json:"cluster_id"`
	ClusterName string    `json:"cluster_name"`
	Created     time.Time `json:"created"`
	Rekeyed     time.Time `json:"rekeyed,omitzero"`
}

// sharing is the root key encrypted under one set of shares.
type sharing struct {
	Shares    int    `json:"shares"`
	Threshold int    `json:"threshold"`
	Root      []byte `json:"root"`           // barrier.Wrap(unseal key, rootLabel, root key)
	Both      bool   `json:"both,omitempty"` // the seal-wrap key is in it, behind the root key
	// Prior is the root key that the keyring is under, encrypted under the one in Root, which is to take its place. It is nil
	// where that has happened, or there is but one.
	Prior []byte `json:"prior,omitempty"`
}

type digest [sha256.Size]byte

// digest names s; zero is that of none.
func (s *sharing) digest() digest {
	if s == nil {
		return digest{}
	}
	return sha256.Sum256(s.Root)
}

// sharings lists the sets of shares that open the store.
func (c *config) sharings() []*sharing {
	if c.Next == nil {
		return []*sharing{&c.sharing}
	}
	return []*sharing{&c.sharing, c.Next}
}

// enough is the number of shares that no set of shares needs more than.
func (c *config) enough() int {
	if c.Next == nil {
		return c.Threshold
	}
	return max(c.Threshold, c.Next.Threshold)
}

// base is the version of c but for what renewing says.
func (c *config) base() int {
	if c.Version > renewing {
		return c.Version - renewing
	}
	return c.Version
}

// mark gives c the version that keeps off releases which would lose something of it.
func (c *config) mark() {
	c.Version = c.base()
	if slices.ContainsFunc(c.sharings(), func(s *sharing) bool { return s.Prior != nil }) {
		c.Version += renewing
	}
}

// beside returns c with next as the sharing that it goes over to.
func (c *config) beside(next *sharing) *config {
	p := *c
	p.Next = next
	p.mark()
	return &p
}

// promoted returns c with Next in the place of the other sharing, and r done: without a renewal the root key stays, and
// what the shares give goes on to lead to it.
func (c *config) promoted(r renewal) (*config, error) {
	p := *c
	p.sharing, p.Next, p.Rekeyed = *c.Next, nil, now()
	p.dropCarried()
	if r.to != nil {
		p.Prior = nil
		if p.SealWrap != nil {
			var err error
			if p.SealWrap, err = barrier.Rewrap(r.from, r.to, wrapLabel, p.SealWrap); err != nil {
				return nil, errs.New(errs.Failed, "the stored seal-wrap key is damaged: %w", err)
			}
		}
	}
	p.mark()
	return &p, nil
}

func (c *config) cluster() Cluster { return Cluster{ID: c.ClusterID, Name: c.ClusterName} }

// fingerprint names the set of shares that fits c.
func (c *config) fingerprint() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, s := range c.sharings() {
		h.Write(s.Root)
	}
	h.Sum(sum[:0])
	return sum
}

// config returns the seal's description: the one in hand while open, else the
// stored one. Nil means not initialised.
func (m *Manager) config(ctx context.Context) (*config, error) {
	if u := m.state.Load().open; u != nil {
		return u.config, nil
	}
	return m.readConfig(ctx)
}

// readConfig returns the stored description, or that of the cluster that an empty node is about to join.
func (m *Manager) readConfig(ctx context.Context) (*config, error) {
	c, err := m.readStored(ctx)
	if err == nil && c == nil {
		if j := m.joining.Load(); j != nil {
			return j.config, nil
		}
	}
	return c, err
}

func (m *Manager) readStored(ctx context.Context) (c *config, err error) {
	err = m.cfg.Raw.View(ctx, func(tx storage.Tx) (err error) {
		c, err = readConfig(tx)
		return err
	})
	return c, err
}

// readConfig returns nil when there is none.
func readConfig(tx storage.Tx) (*config, error) {
	b, err := tx.Get(configKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeConfig(b)
}

func decodeConfig(b []byte) (*config, error) {
	if m := decodeMigrated(b); m != nil {
		return nil, errs.With(errs.Failed, m.left())
	}
	c := &config{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, errs.New(errs.Failed, "the seal configuration is damaged: %w", err)
	}
	switch {
	case c.base() != configVersion && c.base() != wrapVersion:
		return nil, errs.New(errs.Failed, "the seal configuration has version %d, which this release does not know", c.Version)
	case (c.Type != typeShamir) != c.auto():
		return nil, errs.New(errs.Failed, "the seal configuration is damaged: it has the type %q and %d wrapped keys", c.Type, len(c.Wrapped))
	}
	return c, nil
}

// Identify reads which cluster a store belongs to, which stands in clear. A store that was never initialised belongs to none: the zero value.
func Identify(ctx context.Context, store storage.Backend) (Cluster, error) {
	who, left, err := IdentifyLeft(ctx, store)
	if left != nil {
		return Cluster{}, errs.With(errs.Failed, left)
	}
	return who, err
}

// IdentifyLeft is Identify, also for a store that was migrated: then left is not nil.
func IdentifyLeft(ctx context.Context, store storage.Backend) (who Cluster, left *MigratedError, err error) {
	b, err := store.Get(ctx, configKey)
	return identify(b, err)
}

// identify takes what was read under configKey.
func identify(b []byte, err error) (who Cluster, left *MigratedError, _ error) {
	if errors.Is(err, storage.ErrNotFound) {
		return Cluster{}, nil, nil
	}
	if err != nil {
		return Cluster{}, nil, err
	}
	if m := decodeMigrated(b); m != nil {
		left, b = m.left(), m.Replaced
	}
	c, err := decodeConfig(b)
	if err != nil {
		return Cluster{}, left, err
	}
	return c.cluster(), left, nil
}

// Identity is the cluster that this node's store belongs to, sealed or not; the zero value where it was never initialised. Where the store
// was migrated left is not nil.
func (m *Manager) Identity(ctx context.Context) (who Cluster, left *MigratedError, err error) {
	err = m.cfg.Raw.View(ctx, func(tx storage.Tx) (err error) {
		who, left, err = identify(tx.Get(configKey))
		return err
	})
	if left != nil && err == nil {
		return who, left, nil
	}
	c, err := m.config(ctx) // in hand, or that of the cluster that it joins
	if c == nil || err != nil {
		return Cluster{}, nil, err
	}
	return c.cluster(), nil, nil
}

// equal reports whether two descriptions are stored alike.
func (c *config) equal(other *config) bool {
	a, errA := json.Marshal(c)
	b, errB := json.Marshal(other)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

func (c *config) put(tx storage.Tx) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return tx.Put(configKey, b)
}

// errChanged says that the stored configuration is not the one to be replaced.
var errChanged error = errs.New(errs.Conflict, "the seal configuration was changed by another node")

// replaceConfig writes next if old is still what is stored, in its shares and in its
// seals. A Next that old does not know of, from a rekey that failed half-way, is given
// up.
func (m *Manager) replaceConfig(ctx context.Context, old, next *config) error {
	return m.replaceConfigWith(ctx, old, next, func(storage.Tx) error { return nil })
}

// replaceConfigWith is replaceConfig with more to write.
func (m *Manager) replaceConfigWith(ctx context.Context, old, next *config, more func(tx storage.Tx) error) error {
	return m.cfg.Raw.Update(ctx, func(tx storage.Tx) error {
		stored, err := readConfig(tx)
		switch {
		case err != nil:
			return err
		case stored == nil || !bytes.Equal(stored.Root, old.Root),
			stored.wrappings() != old.wrappings(), stored.base() != old.base(), !bytes.Equal(stored.SealWrap, old.SealWrap),
			old.Next != nil && stored.fingerprint() != old.fingerprint():
			return errChanged
		}
		if err := more(tx); err != nil {
			return err
		}
		return next.put(tx)
	})
}

// checkCounts validates numbers of shares and threshold, with Vault's texts.
func checkCounts(shares, threshold int) error {
	var text string
	switch {
	case shares < 1:
		text = "shares must be at least one"
	case threshold < 1:
		text = "threshold must be at least one"
	case shares > 1 && threshold == 1:
		text = "threshold must be greater than one for multiple shares"
	case shares > 255:
		text = "shares must be less than 256"
	case threshold > 255:
		text = "threshold must be less than 256"
	case threshold > shares:
		text = "threshold cannot be larger than shares"
	default:
		return nil
	}
	return errs.New(errs.Invalid, "%s", text)
}
