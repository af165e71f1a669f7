package seal

import (
	"bytes"
	"context"
	"errors"

	"github.com/google/uuid"

	"arca/internal/barrier"
	"arca/internal/errs"
)

// ErrNoRecovery says that this seal has no recovery keys: a Shamir seal's own
// shares serve in their place.
var ErrNoRecovery error = errs.New(errs.Invalid, "recovery rekeying not supported")

// RekeyParams say what the new shares shall be.
type RekeyParams struct {
	Shares, Threshold int
	PGPKeys           []string // one per share, or none; binary keys in base64
	Backup            bool     // keep the encrypted shares until RekeyBackup is deleted
	Verify            bool     // the new shares count only once they were given back
}

// A rekey collects the present shares to replace them. It is immutable but for
// wipe. A nil rekey is none.
type rekey struct {
	nonce  string
	params RekeyParams
	to     []recipient
	round  *round
	proof  *proof // set when the new shares were given out and wait for verification
}

// A proof collects the new shares.
type proof struct {
	nonce string
	kek   barrier.Key // what they must combine to
	round *round
}

func (k *rekey) wipe() {
	if k == nil {
		return
	}
	k.round.wipe()
	if k.proof != nil {
		k.proof.kek.Wipe()
		k.proof.round.wipe()
	}
}

// RekeyStatus is the answer of sys/rekey/init.
type RekeyStatus struct {
	Nonce                string   `json:"nonce"`
	Started              bool     `json:"started"`
	T                    int      `json:"t"`
	N                    int      `json:"n"`
	Progress             int      `json:"progress"`
	Required             int      `json:"required"`
	PGPFingerprints      []string `json:"pgp_fingerprints"`
	Backup               bool     `json:"backup"`
	VerificationRequired bool     `json:"verification_required"`
	VerificationNonce    string   `json:"verification_nonce,omitempty"`
}

// RekeyStatus tells how far a rekey is.
func (m *Manager) RekeyStatus() (RekeyStatus, error) {
	u, err := m.active()
	if err != nil {
		return RekeyStatus{}, err
	}
	st := RekeyStatus{Required: u.config.enough()}
	if k := u.rekey; k != nil {
		st.Nonce, st.Started = k.nonce, true
		st.T, st.N, st.Progress = k.params.Threshold, k.params.Shares, k.round.count()
		st.PGPFingerprints, st.Backup, st.VerificationRequired = fingerprints(k.to), k.params.Backup, k.params.Verify
		if k.proof != nil {
			st.VerificationNonce = k.proof.nonce
		}
	}
	return st, nil
}

// StartRekey begins a rekey. There is one at a time.
func (m *Manager) StartRekey(ctx context.Context, p RekeyParams) (RekeyStatus, error) {
	if err := m.startRekey(ctx, p); err != nil {
		return RekeyStatus{}, err
	}
	return m.RekeyStatus()
}

func (m *Manager) startRekey(ctx context.Context, p RekeyParams) error {
	u, err := m.beginOpen(ctx)
	if err != nil {
		return err
	}
	defer m.end()
	to, err := p.check()
	if err != nil {
		return err
	}
	if u.rekey != nil {
		return errs.New(errs.Invalid, "rekey already in progress")
	}
	m.set(u, func(u *unsealed) { u.rekey = &rekey{nonce: uuid.NewString(), params: p, to: to} })
	m.cfg.Log.Info("rekey started", "shares", p.Shares, "threshold", p.Threshold)
	return nil
}

// check gives the errors that Vault gives, of kind Failed where it answers
// with a server error.
func (p *RekeyParams) check() ([]recipient, error) {
	switch n := len(p.PGPKeys); {
	case p.Backup && n == 0:
		return nil, errs.New(errs.Invalid, "cannot request a backup of the new keys without providing PGP keys for encryption")
	case n > 0 && n != p.Shares:
		return nil, errs.New(errs.Invalid, "incorrect number of PGP keys for rekey")
	}
	err := checkCounts(p.Shares, p.Threshold)
	if err == nil {
		var to []recipient
		if to, err = parsePGPs(p.PGPKeys); err == nil {
			return to, nil
		}
	}
	return nil, errs.New(errs.Failed, "invalid rekey seal configuration: %w", err)
}

// CancelRekey ends a rekey, if there is one, also one that waits for verification.
func (m *Manager) CancelRekey(ctx context.Context) error {
	u, err := m.beginOpen(ctx)
	if err != nil {
		return err
	}
	defer m.end()
	u.rekey.wipe()
	m.set(u, func(u *unsealed) { u.rekey = nil })
	return nil
}

// Rekeyed is what a rekey gives, once.
type Rekeyed struct {
	Nonce             string
	Shares            []barrier.Key // encrypted if PGP keys were given
	PGPFingerprints   []string
	Backup            bool
	VerificationNonce string // set when the shares must be verified
	Warning           string // what is not as it should be, though the new shares are good
}

// Wipe overwrites the shares.
func (r *Rekeyed) Wipe() { wipeAll(r.Shares) }

// UpdateRekey takes one of the present shares, and owns it. With the last that
// is needed it gives the new shares, else nil.
func (m *Manager) UpdateRekey(ctx context.Context, share barrier.Key, nonce string) (*Rekeyed, error) {
	u, err := m.beginOpen(ctx)
	if err != nil {
		share.Wipe()
		return nil, err
	}
	defer m.end()
	k := u.rekey
	r, err := k.update(share, nonce)
	if err != nil {
		share.Wipe()
		return nil, err
	}
	next := *k
	next.round = r
	found, more, err := r.authorise(u)
	defer found.wipe()
	if more {
		m.set(u, func(u *unsealed) { u.rekey = &next })
		return nil, nil
	}
	defer r.wipe()
	next.round = nil
	m.set(u, func(u *unsealed) { u.rekey = &next })
	if err != nil {
		m.cfg.Log.Warn("rekey: the shares given do not fit")
		return nil, errs.New(errs.Invalid, "unseal key verification failed: %w", err)
	}
	if found.by == u.config.Next {
		m.set(u, func(u *unsealed) { u.rekey = &next; u.settleOn(found.by, found.fresh) })
		u = m.state.Load().open
	}
	if u.settles() { // first, as a failure below gives up what Next is
		if err := m.promoteOpen(ctx, u); err != nil {
			return nil, err
		}
		u = m.state.Load().open
	}
	return m.finishRekey(ctx, u, &next)
}

func (k *rekey) update(share barrier.Key, nonce string) (*round, error) {
	switch {
	case k == nil:
		return nil, errs.New(errs.Invalid, "no barrier rekey in progress")
	case k.proof != nil:
		return nil, errs.New(errs.Invalid, "rekey operation already finished; verification must be performed; nonce for the verification operation is %q", k.proof.nonce)
	case nonce != k.nonce:
		return nil, errs.New(errs.Invalid, "incorrect nonce supplied; nonce for this rekey operation is %q", k.nonce)
	}
	return k.round.add(share, "generation")
}

// finishRekey makes the new shares, and makes them count unless they are to be
// verified first.
func (m *Manager) finishRekey(ctx context.Context, u *unsealed, k *rekey) (*Rekeyed, error) {
	kek, shares, err := newShares(k.params.Shares, k.params.Threshold)
	if err != nil {
		return nil, err
	}
	defer wipeAll(shares)
	told, err := encryptShares(shares, k.to)
	if err != nil {
		kek.Wipe()
		return nil, err
	}
	if k.params.Backup {
		if err := m.saveBackup(ctx, u, k, told); err != nil {
			kek.Wipe()
			return nil, err
		}
	}
	res := &Rekeyed{Nonce: k.nonce, Shares: told, PGPFingerprints: fingerprints(k.to), Backup: k.params.Backup}
	if k.params.Verify {
		next := *k
		next.proof = &proof{nonce: uuid.NewString(), kek: kek}
		res.VerificationNonce = next.proof.nonce
		m.set(u, func(u *unsealed) { u.rekey = &next })
		return res, nil
	}
	defer kek.Wipe()
	r := u.renew()
	defer r.wipe()
	c, err := m.goOver(ctx, u, k, kek, r)
	if err != nil {
		m.set(u, func(u *unsealed) { u.take(c); u.rekey = k })
		return nil, err
	}
	m.set(u, func(u *unsealed) {
		u.config, u.rekey = c, nil
		u.settleOn(c.Next, r.to)
	})
	if c.Next != nil {
		res.Warning = warnBoth
		return res, nil
	}
	m.cfg.Log.Info("rekeyed", "shares", c.Shares, "threshold", c.Threshold)
	return res, nil
}

const warnBoth = "the storage failed before the rekey was complete: the new key shares are valid, but the old ones are still valid, too. " +
	"This server makes the old ones invalid as soon as it can write again. If it is restarted or sealed, or another node takes over before that, they are valid until the new ones were used on the active node " +
	"(to unseal it, to generate a root token, or to rekey). Until then keep the old ones as safe as the new"

// settleRekey puts the new shares, which were told or used, in the place of the others.
func (m *Manager) settleRekey(ctx context.Context) {
	u, err := m.beginOpen(ctx)
	if err != nil {
		return
	}
	defer m.end()
	if !u.settles() {
		return
	}
	if err := m.promoteOpen(ctx, u); err != nil {
		m.cfg.Log.Warn("the key shares before the last rekey stay valid", "error", err)
	}
}

// promoteOpen puts config.Next, whose shares were told or used, in the place of the other
// sharing, if it is what is stored.
func (m *Manager) promoteOpen(ctx context.Context, u *unsealed) error {
	c := u.config
	if c.Next != nil {
		r := u.settling()
		defer r.wipe()
		var err error
		if c, err = c.promoted(r); err != nil {
			return err
		}
		if err := m.replaceConfigWith(ctx, u.config, c, r.put); err != nil {
			stored, readErr := m.readStored(ctx)
			if readErr != nil || stored == nil || !bytes.Equal(stored.Root, c.Root) {
				return err
			}
			c = stored // a write whose outcome was not known had succeeded
		}
		u.renewed(r)
		m.cfg.Log.Info("rekeyed", "shares", c.Shares, "threshold", c.Threshold)
	}
	m.set(u, func(u *unsealed) { u.take(c) })
	return nil
}

// goOver makes the shares of kek the valid ones, in two writes. After the
// first, the old shares and the new are good, and the root key is the one before; when its outcome is not known,
// the caller learns of a failure and keeps the old shares. After the second, which does r,
// only the new are; when it fails or its outcome is not known, the caller gets the
// new shares, which are good either way, and it is repeated in the background. So no
// failure of the store leaves us with shares that nobody has.
//
// It returns the configuration in force, also with an error.
func (m *Manager) goOver(ctx context.Context, u *unsealed, k *rekey, kek barrier.Key, r renewal) (*config, error) {
	next, err := u.shared(k.params, kek, r)
	if err != nil {
		return u.config, err
	}
	both := u.config.beside(next)
	promoted, err := both.promoted(r)
	if err != nil {
		return u.config, err
	}
	if err := m.replaceConfig(ctx, u.config, both); err != nil {
		return u.config, err
	}
	if err := ctx.Err(); err != nil {
		return both, errs.New(errs.Unavailable, "nobody waits for the key shares: %w", err)
	}
	err = m.replaceConfigWith(context.WithoutCancel(ctx), both, promoted, r.put) // the new shares are told in any case
	switch {
	case err == nil:
		u.renewed(r)
		return promoted, nil
	case errors.Is(err, errChanged):
		return both, err
	}
	m.cfg.Log.Error("rekey: the old shares are still valid, too, until the storage takes what ends that", "error", err)
	return both, nil
}
