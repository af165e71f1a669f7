package seal

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
)

// A rekey of unseal keys makes a new root key. What hangs on the root key:
//
//   - the shares (config.sharing, under the unseal key): new ones, which give the new root key;
//   - the keyring (barrier.RecordKey), the backup of a rekey (backupKey), and the seal-wrap key where that is under the root
//     key (config.SealWrap): encrypted anew;
//   - the copies under seals that open by themselves (config.Wrapped): with them a rekey is one of recovery keys, which keeps
//     the root key;
//   - the answers to a cluster's challenge (join.go): derived from it when they are asked for.
//
// All of it is done in the one commit that makes the new shares the only ones. Nothing else is derived from the root key: what
// Keyring.Derive gives comes of a secret in the keyring.
//
// Where that commit cannot be made at once, both sets of shares are good until it is: config.Next has the new root key under
// the new shares, and the one of now under the new one (sharing.Prior). The new one is never under the one of now alone.
//
// Open nodes learn of it by a handover, which is made in the same commit: the new root key, under a key that the root key
// before and the secret of the keyring give together. Whoever has old shares, and what the store told of its seal before, has
// not got the second. A handover is deleted when the active node has known of it for an hour: who was away for longer needs the new
// shares.

const (
	handoverPurpose = "rekey handover"
	handoverLabel   = "arca rekey handover"
	handoverTime    = time.Hour
	maxHandovers    = 16
)

// A renewal is a root key that takes the place of another. The zero value is none: the root key stays.
type renewal struct{ from, to barrier.Key }

func (r renewal) wipe() {
	r.from.Wipe()
	r.to.Wipe()
}

// prior is the root key before, under the new one; nil for none.
func (r renewal) prior() ([]byte, error) {
	if r.to == nil {
		return nil, nil
	}
	return barrier.Wrap(r.to, priorLabel, r.from)
}

// renew makes the renewal of a rekey; of recovery keys it is none. The caller wipes it.
func (u *unsealed) renew() renewal {
	if u.config.auto() {
		return renewal{}
	}
	return renewal{from: u.root.get(), to: barrier.NewKey()}
}

// settling is the renewal that is done when config.Next takes the place of the other sharing. The caller wipes it.
func (u *unsealed) settling() renewal {
	root := u.root.get()
	defer root.Wipe()
	return renewalOf(u.config, find{whole: root, fresh: u.fresh})
}

// renewalOf is the renewal that shares of c.Next allow, of copies. It is none where seals that open by themselves keep the
// root key: they would keep the one before. The caller wipes it.
func renewalOf(c *config, f find) renewal {
	if f.fresh == nil || c.auto() {
		return renewal{}
	}
	root, _ := split(f.whole)
	return renewal{from: slices.Clone(root), to: slices.Clone(f.fresh)}
}

// renewed has u know the root key that is stored now.
func (u *unsealed) renewed(r renewal) {
	if r.to != nil {
		u.root.set(r.to)
	}
}

// put encrypts anew what is stored under the root key before. It belongs to the transaction that stores the configuration
// which gives the new one.
func (r renewal) put(tx storage.Tx) error {
	if r.to == nil {
		return nil
	}
	record, err := tx.Get(barrier.RecordKey)
	if err != nil {
		return err
	}
	if err := r.handOver(tx, record); err != nil {
		return err
	}
	if record, err = barrier.Rewrap(r.from, r.to, barrier.RecordKey, record); err != nil {
		return err
	}
	if err := tx.Put(barrier.RecordKey, record); err != nil {
		return err
	}
	return r.putBackup(tx)
}

// putBackup does so for the backup of a rekey. One that is damaged stays so.
func (r renewal) putBackup(tx storage.Tx) error {
	record, err := tx.Get(backupKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if record, err = barrier.Rewrap(r.from, r.to, backupLabel, record); err != nil {
		return nil //nolint:nilerr // its reader is told
	}
	return tx.Put(backupKey, record)
}

// A handover tells a root key to nodes that have the one before.
type handover struct {
	At   time.Time `json:"at"`   // by the clock of the node that made it: nothing is decided by that
	Root []byte    `json:"root"` // under handoverKeyOf the one before
}

// handoverKeyOf is the key of a handover to those who have the keyring and root.
func handoverKeyOf(ring *barrier.Keyring, root barrier.Key) (barrier.Key, error) {
	salt, err := ring.Derive(handoverPurpose)
	if err != nil {
		return nil, err
	}
	defer salt.Wipe()
	return hkdf.Key(sha256.New, root, salt, handoverLabel, barrier.KeyBytes)
}

// handovers are those that are stored, the oldest first.
type handovers []handover

func readHandovers(tx storage.Tx) (list handovers, err error) {
	b, err := tx.Get(handoverKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, errs.New(errs.Failed, "what tells of a new root key is damaged: %w", err)
	}
	return list, nil
}

// ages are since when this process has known of the stored handovers. The clock of the node that made one may be wrong, and a node that comes
// to lead with another time is not to delete it before others have found it.
type ages struct {
	mu    sync.Mutex
	since map[digest]time.Time
}

// rest are those of l whose time has not ended.
func (a *ages) rest(l handovers) (rest handovers) {
	a.mu.Lock()
	defer a.mu.Unlock()
	since := map[digest]time.Time{}
	for _, h := range l {
		d := digest(sha256.Sum256(h.Root))
		at, known := a.since[d]
		if !known {
			at = time.Now()
		}
		since[d] = at
		if time.Since(at) < handoverTime {
			rest = append(rest, h)
		}
	}
	a.since = since
	return rest
}

func (l handovers) put(tx storage.Tx) error {
	if len(l) == 0 {
		return tx.Delete(handoverKey)
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return tx.Put(handoverKey, b)
}

// handOver stores a handover of r. record is the keyring under the root key before.
func (r renewal) handOver(tx storage.Tx, record []byte) error {
	ring, err := barrier.OpenKeyring(record, r.from)
	if err != nil {
		return err
	}
	defer ring.Wipe()
	key, err := handoverKeyOf(ring, r.from)
	if err != nil {
		return err
	}
	defer key.Wipe()
	sealed, err := barrier.Wrap(key, handoverLabel, r.to)
	if err != nil {
		return err
	}
	list, err := readHandovers(tx)
	if err != nil && !errs.Is(err, errs.Failed) { // one that is damaged is of no use
		return err
	}
	list = append(list, handover{At: now(), Root: sealed})
	return list[max(0, len(list)-maxHandovers):].put(tx)
}

// handedOver gives the newest root key that handovers lead to from root, nil where they lead to none.
func (u *unsealed) handedOver(list handovers, root barrier.Key) (barrier.Key, error) {
	var newest barrier.Key
	for _, h := range list {
		key, err := handoverKeyOf(u.ring, root)
		if err != nil {
			newest.Wipe()
			return nil, err
		}
		next, err := barrier.Unwrap(key, handoverLabel, h.Root)
		key.Wipe()
		if err != nil || len(next) != barrier.KeyBytes {
			continue // from another root key
		}
		newest.Wipe()
		newest, root = next, next
	}
	return newest, nil
}

// loadRing takes over the stored keyring, and the root key that it is under, where that has taken the place of root: u's when
// what tx reads was not older.
func (m *Manager) loadRing(tx storage.Tx, u *unsealed, root barrier.Key) error {
	record, err := tx.Get(barrier.RecordKey)
	if err != nil {
		return err
	}
	err = u.ring.Reload(record, root)
	if err == nil {
		m.arriving.Store(false)
	}
	if err == nil || errors.Is(err, barrier.ErrSealed) {
		return err
	}
	list, failed := readHandovers(tx)
	if failed != nil {
		return failed
	}
	m.ages.rest(list) // whatever a clock says, all are used
	next, failed := u.handedOver(list, root)
	if failed != nil {
		return failed
	}
	if next == nil && m.arriving.Load() {
		return errArriving
	}
	if next == nil {
		return err
	}
	defer next.Wipe()
	if err := u.ring.Reload(record, next); err != nil {
		return err
	}
	m.arriving.Store(false)
	u.root.replace(root, next)
	m.cfg.Log.Info("a rekey has made a new root key")
	return nil
}

// errArriving says that the keyring is one of before a rekey, as the store has not come as far as that.
var errArriving error = errs.New(errs.Unavailable, "the store of the cluster that this node has joined is not here yet")

// keepUp takes over what another node has stored of the keys.
func (m *Manager) keepUp(ctx context.Context) {
	err := m.Reload(ctx)
	passes := err == nil || ctx.Err() != nil || errors.Is(err, ErrSealed) || errs.Is(err, errs.Unavailable) || errs.Is(err, errs.NotActive) || storage.IsNotFound(err)
	if passes {
		return
	}
	m.cfg.Log.Warn("take over the keys that another node has stored", "error", err)
	u := m.state.Load().open
	if u == nil || m.cfg.Unreadable == nil {
		return
	}
	err = m.reloadRing(ctx, u)
	if _, active := m.active(); errs.Is(err, errs.Failed) && errors.Is(active, ErrStandby) { // it is the keyring, and not the rest
		m.cfg.Unreadable(err)
	}
}

// endHandovers deletes the handovers whose time is over.
func (m *Manager) endHandovers(ctx context.Context) {
	var list handovers
	err := m.cfg.Raw.View(ctx, func(tx storage.Tx) (err error) {
		list, err = readHandovers(tx)
		return err
	})
	if err == nil && len(m.ages.rest(list)) < len(list) {
		err = m.cfg.Raw.Update(ctx, func(tx storage.Tx) error {
			list, err := readHandovers(tx)
			if err != nil {
				return err
			}
			return m.ages.rest(list).put(tx)
		})
	}
	if err != nil && ctx.Err() == nil {
		m.cfg.Log.Warn("delete what has told other nodes of a new root key", "error", err)
	}
}
