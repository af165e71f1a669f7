package seal

import (
	"context"
	"crypto/subtle"

	"github.com/google/uuid"

	"arca/internal/barrier"
	"arca/internal/errs"
)

// VerifyStatus is the answer of sys/rekey/verify.
type VerifyStatus struct {
	Nonce    string `json:"nonce"`
	Started  bool   `json:"started"`
	T        int    `json:"t"`
	N        int    `json:"n"`
	Progress int    `json:"progress"`
}

// VerifyStatus tells how far the verification of new shares is.
func (m *Manager) VerifyStatus() (VerifyStatus, error) {
	u, err := m.active()
	if err != nil {
		return VerifyStatus{}, err
	}
	k := u.rekey
	if k == nil {
		return VerifyStatus{}, errs.New(errs.Invalid, "no rekey configuration found")
	}
	st := VerifyStatus{T: k.params.Threshold, N: k.params.Shares}
	if k.proof != nil {
		st.Nonce, st.Started, st.Progress = k.proof.nonce, true, k.proof.round.count()
	}
	return st, nil
}

// RestartVerify drops the new shares given so far. The nonce changes.
func (m *Manager) RestartVerify(ctx context.Context) (VerifyStatus, error) {
	if err := m.restartVerify(ctx); err != nil {
		return VerifyStatus{}, err
	}
	return m.VerifyStatus()
}

func (m *Manager) restartVerify(ctx context.Context) error {
	u, err := m.beginOpen(ctx)
	if err != nil {
		return err
	}
	defer m.end()
	if u.rekey == nil || u.rekey.proof == nil {
		return errNoVerify
	}
	u.rekey.proof.round.wipe()
	m.setProof(u, nil, uuid.NewString())
	return nil
}

var errNoVerify error = errs.New(errs.Invalid, "no rekey verification in progress")

// setProof swaps in the new shares given so far.
func (m *Manager) setProof(u *unsealed, r *round, nonce string) {
	k := *u.rekey
	k.proof = &proof{nonce: nonce, kek: k.proof.kek, round: r}
	m.set(u, func(u *unsealed) { u.rekey = &k })
}

// VerifyRekey takes one of the new shares, and owns it. When enough of them
// were given they take the place of the old ones, and done is true; nonce is
// that of the verification.
func (m *Manager) VerifyRekey(ctx context.Context, share barrier.Key, nonce string) (done bool, err error) {
	u, err := m.beginOpen(ctx)
	if err != nil {
		share.Wipe()
		return false, err
	}
	defer m.end()
	k := u.rekey
	r, err := k.verify(share, nonce)
	if err != nil {
		share.Wipe()
		return false, err
	}
	if r.count() < k.params.Threshold {
		m.setProof(u, r, nonce)
		return false, nil
	}
	defer r.wipe()
	given, err := r.combine()
	if err != nil || subtle.ConstantTimeCompare(given, k.proof.kek) != 1 {
		given.Wipe()
		m.setProof(u, nil, uuid.NewString())
		return false, errs.New(errs.Invalid, "rekey verification failed; incorrect key shares supplied")
	}
	defer given.Wipe()
	return true, m.acceptRekey(ctx, u, given)
}

func (k *rekey) verify(share barrier.Key, nonce string) (*round, error) {
	switch {
	case k == nil:
		return nil, errs.New(errs.Invalid, "no rekey in progress")
	case k.proof == nil:
		return nil, errNoVerify
	case nonce != k.proof.nonce:
		return nil, errs.New(errs.Invalid, "incorrect nonce supplied; nonce for this verify operation is %q", k.proof.nonce)
	}
	return k.proof.round.add(share, "verify")
}

// acceptRekey makes the verified shares the valid ones, in one write: the
// operators have both sets in hand, whatever becomes of it.
func (m *Manager) acceptRekey(ctx context.Context, u *unsealed, kek barrier.Key) error {
	k := u.rekey
	r := u.renew()
	defer r.wipe()
	next, err := u.shared(k.params, kek, r)
	if err != nil {
		return err
	}
	c, err := u.config.beside(next).promoted(r)
	if err != nil {
		return err
	}
	if err := m.replaceConfigWith(ctx, u.config, c, r.put); err != nil {
		m.setProof(u, nil, k.proof.nonce)
		m.takeStored(ctx, m.state.Load().open)
		return err
	}
	k.wipe()
	u.renewed(r)
	m.set(u, func(u *unsealed) {
		u.config, u.rekey = c, nil
		u.settleOn(nil, nil)
	})
	m.cfg.Log.Info("rekeyed", "shares", c.Shares, "threshold", c.Threshold)
	return nil
}
