package seal

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"time"

	"github.com/google/uuid"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
)

// InitParams say how to initialise.
type InitParams struct {
	Shares, Threshold int      // of the recovery keys, where the seal opens by itself
	PGPKeys           []string // one per share, or none; binary keys in base64
	RootTokenPGPKey   string
}

// Initialised is what Init gives, once: it is kept nowhere.
type Initialised struct {
	Shares []barrier.Key // encrypted if PGP keys were given
	// RootToken is the token's text, or, for a PGP key, the base64 of its encryption.
	RootToken barrier.Key
}

// Wipe overwrites the shares and the token.
func (r *Initialised) Wipe() {
	wipeAll(r.Shares)
	r.RootToken.Wipe()
}

// Init makes the keys and the first content of an empty store, and leaves it
// sealed. The seal's configuration is written last: a crash or failure before
// leaves a store that is not initialised, and the next Init clears what was
// left. The caller owns the result.
func (m *Manager) Init(ctx context.Context, p InitParams) (*Initialised, error) {
	to, err := p.check()
	if err != nil {
		what := "seal"
		if m.Auto() {
			what = "recovery"
		}
		return nil, errs.New(errs.Invalid, "invalid %s configuration: %w", what, err)
	}
	if err := m.begin(ctx); err != nil {
		return nil, err
	}
	defer m.end()
	switch c, err := m.config(ctx); {
	case err != nil:
		return nil, err
	case c != nil:
		return nil, ErrInitialised
	}
	// Vault reads this key when all is written already, and leaves a server
	// behind that nobody has the keys of. We look first.
	var tokenTo *recipient
	if p.RootTokenPGPKey != "" {
		r, err := parsePGP(p.RootTokenPGPKey)
		if err != nil {
			return nil, err
		}
		tokenTo = &r
	}
	return m.init(ctx, p, to, tokenTo)
}

func (p *InitParams) check() ([]recipient, error) {
	if err := checkCounts(p.Shares, p.Threshold); err != nil {
		return nil, err
	}
	if n := len(p.PGPKeys); n > 0 && n != p.Shares {
		return nil, errs.New(errs.Invalid, "count mismatch between number of provided PGP keys and number of shares")
	}
	return parsePGPs(p.PGPKeys)
}

func (m *Manager) init(ctx context.Context, p InitParams, to []recipient, tokenTo *recipient) (*Initialised, error) {
	fresh, err := newFresh()
	if err != nil {
		return nil, err
	}
	defer fresh.wipe()
	kek, shares, err := newShares(p.Shares, p.Threshold)
	if err != nil {
		return nil, err
	}
	defer kek.Wipe()
	defer wipeAll(shares)
	wrapped, err := barrier.Wrap(kek, rootLabel, fresh.whole)
	if err != nil {
		return nil, err
	}
	told, err := encryptShares(shares, to)
	if err != nil {
		return nil, err
	}
	var under []wrapping
	if m.Auto() { // before anything is written: a seal that fails leaves nothing behind
		if under, err = m.encryptAll(ctx, fresh.whole); err != nil {
			return nil, err
		}
	}
	done, err := m.found(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := m.claim(ctx, fresh); err != nil {
		return nil, err
	}
	token, err := m.cfg.Bootstrap(ctx, fresh.ring)
	if err != nil {
		return nil, err
	}
	result := &Initialised{Shares: told, RootToken: []byte(token)}
	if tokenTo != nil {
		b, err := tokenTo.encrypt(result.RootToken)
		if err != nil {
			return nil, err
		}
		result.RootToken.Wipe()
		result.RootToken = base64.StdEncoding.AppendEncode(nil, b)
	}
	c := &config{
		Version: wrapVersion, Type: m.Type(), Wrapped: under,
		sharing:   sharing{Shares: p.Shares, Threshold: p.Threshold, Root: wrapped, Both: true},
		ClusterID: uuid.NewString(), ClusterName: m.cfg.ClusterName, Created: now(),
	}
	if c.ClusterName == "" {
		c.ClusterName = "vault-cluster-" + hex.EncodeToString(barrier.NewKey()[:4])
	}
	switch err := m.commitInit(ctx, c, fresh); {
	case errors.Is(err, storage.ErrUncertain):
		// The shares are told all the same: if the commit happened and they were
		// not, nobody could ever unseal; if it did not, they are good for nothing
		// and the store is still empty.
		m.cfg.Log.Error("it is not known whether the initialisation was saved: check the status after a restart", "error", err)
	case err != nil:
		result.Wipe()
		return nil, err
	}
	m.cfg.Log.Info("initialised", "shares", c.Shares, "threshold", c.Threshold, "cluster_id", c.ClusterID)
	return result, nil
}

// foundTime bounds how long it may take until a sealed node can write.
const foundTime = 15 * time.Second

// found makes the store of a sealed node ready to be written. A node that shares
// its store with others cannot do it alone.
func (m *Manager) found(ctx context.Context) (done func(), err error) {
	if m.cfg.Founding == nil {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, foundTime)
	defer cancel()
	return m.cfg.Founding(ctx)
}

// claim clears what an unfinished Init left, and saves the keyring together
// with the mark that says that Init is under way. A store with content but
// without that mark has lost its seal configuration: it is left alone.
func (m *Manager) claim(ctx context.Context, k *fresh) error {
	return m.cfg.Raw.Update(ctx, func(tx storage.Tx) error {
		switch c, err := readConfig(tx); {
		case err != nil:
			return err
		case c != nil:
			return ErrInitialised
		}
		unfinished := false
		for key, err := range tx.Keys("", "") {
			if err != nil {
				return err
			}
			unfinished = true
			if _, err := tx.Get(markKey); err != nil {
				return errs.New(errs.Failed, "the store is not empty (it has %q) and has no seal configuration: restore that, or clear the store", key)
			}
			break
		}
		if unfinished {
			if err := tx.DeletePrefix(""); err != nil {
				return err
			}
		}
		if err := tx.Put(markKey, []byte(now().Format("2006-01-02T15:04:05Z"))); err != nil {
			return err
		}
		return k.save(tx)
	})
}

// commitInit writes what makes the store initialised, unless the caller is
// gone, who should learn the shares.
func (m *Manager) commitInit(ctx context.Context, c *config, k *fresh) error {
	if err := ctx.Err(); err != nil {
		return errs.New(errs.Unavailable, "nobody waits for the key shares: %w", err)
	}
	ctx = context.WithoutCancel(ctx)
	return m.cfg.Raw.Update(ctx, func(tx storage.Tx) error {
		if _, err := tx.Get(configKey); err == nil {
			return ErrInitialised
		}
		if err := k.save(tx); err != nil { // with the count so far
			return err
		}
		if err := tx.Delete(markKey); err != nil {
			return err
		}
		return c.put(tx)
	})
}

// fresh are the keys of a new store.
type fresh struct {
	whole      barrier.Key // root and wrap
	root, wrap barrier.Key
	ring       *barrier.Keyring // under root
	wrapRing   *barrier.Keyring // under wrap
}

func newFresh() (*fresh, error) {
	k := &fresh{whole: append(barrier.NewKey(), barrier.NewKey()...)}
	k.root, k.wrap = split(k.whole)
	var err error
	if k.ring, err = barrier.NewKeyring(now()); err != nil {
		return nil, err
	}
	k.wrapRing, err = barrier.NewWrapKeyring(now())
	return k, err
}

func (k *fresh) save(tx storage.Tx) error {
	if err := saveRing(tx, k.ring, k.root); err != nil {
		return err
	}
	return saveRing(tx, k.wrapRing, k.wrap)
}

func (k *fresh) wipe() {
	k.whole.Wipe()
	k.ring.Wipe()
	k.wrapRing.Wipe()
}

func saveRing(tx storage.Tx, ring *barrier.Keyring, key barrier.Key) error {
	d, err := ring.Same()
	if err != nil {
		return err
	}
	record, err := d.Record(key)
	if err != nil {
		return err
	}
	return tx.Put(ring.RecordKey(), record)
}
