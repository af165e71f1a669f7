package seal

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"

	"github.com/google/uuid"

	"arca/internal/barrier"
	"arca/internal/errs"
)

// An attempt collects shares to make a root token. It is immutable but for
// wipe. A nil attempt is none.
type attempt struct {
	nonce string
	otp   barrier.Key // the token is told xored with it; empty when to is set
	to    *recipient
	round *round
}

func (a *attempt) wipe() {
	if a != nil {
		a.otp.Wipe()
		a.round.wipe()
	}
}

func (a *attempt) fingerprint() string {
	if a == nil || a.to == nil {
		return ""
	}
	return a.to.fingerprint
}

// RootStatus is the answer of sys/generate-root/attempt and update.
type RootStatus struct {
	Nonce            string `json:"nonce"`
	Started          bool   `json:"started"`
	Progress         int    `json:"progress"`
	Required         int    `json:"required"`
	Complete         bool   `json:"complete"`
	EncodedToken     string `json:"encoded_token"`
	EncodedRootToken string `json:"encoded_root_token"`
	PGPFingerprint   string `json:"pgp_fingerprint"`
	OTP              string `json:"otp"` // only where it was made for the caller
	OTPLength        int    `json:"otp_length"`
}

// RootStatus tells how far the making of a root token is.
func (m *Manager) RootStatus() (RootStatus, error) {
	u, err := m.active()
	if err != nil {
		return RootStatus{}, err
	}
	return m.rootStatus(u), nil
}

func (m *Manager) rootStatus(u *unsealed) RootStatus {
	st := RootStatus{Required: u.config.enough(), OTPLength: m.cfg.OTPLength}
	if a := u.attempt; a != nil {
		st.Nonce, st.Started, st.Progress, st.PGPFingerprint = a.nonce, true, a.round.count(), a.fingerprint()
	}
	return st
}

// StartRoot begins to make a root token, told xored with otp or encrypted to
// pgpKey. With neither, the answer holds an otp made for the caller. There is
// one attempt at a time.
func (m *Manager) StartRoot(ctx context.Context, otp, pgpKey string) (RootStatus, error) {
	u, err := m.beginOpen(ctx)
	if err != nil {
		return RootStatus{}, err
	}
	defer m.end()
	a := &attempt{nonce: uuid.NewString()}
	made := ""
	switch {
	case otp != "":
		if len(otp) != m.cfg.OTPLength {
			return RootStatus{}, errs.New(errs.Invalid, "OTP string has incorrect length")
		}
		a.otp = []byte(otp)
	case pgpKey != "":
		to, err := parsePGP(pgpKey)
		if err != nil {
			return RootStatus{}, errs.New(errs.Invalid, "error parsing PGP key: %w", err)
		}
		a.to = &to
	default:
		a.otp = newOTP(m.cfg.OTPLength)
		made = string(a.otp)
	}
	if u.attempt != nil {
		a.wipe()
		return RootStatus{}, errs.New(errs.Invalid, "root generation already in progress")
	}
	m.set(u, func(u *unsealed) { u.attempt = a })
	m.cfg.Log.Info("root token generation started", "nonce", a.nonce)
	st := m.rootStatus(m.state.Load().open)
	st.OTP = made
	return st, nil
}

// newOTP gives n random letters and digits.
func newOTP(n int) barrier.Key {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	const fair = 256 - 256%len(digits) // bytes from here on would favour the first digits
	otp := make(barrier.Key, 0, n)
	b := make([]byte, 2*n)
	for len(otp) < n {
		_, _ = rand.Read(b) // never fails (crypto/rand, since Go 1.24)
		for _, x := range b {
			if int(x) < fair && len(otp) < n {
				otp = append(otp, digits[int(x)%len(digits)])
			}
		}
	}
	clear(b)
	return otp
}

// CancelRoot ends the attempt, if there is one.
func (m *Manager) CancelRoot(ctx context.Context) error {
	u, err := m.beginOpen(ctx)
	if err != nil {
		return err
	}
	defer m.end()
	u.attempt.wipe()
	m.set(u, func(u *unsealed) { u.attempt = nil })
	return nil
}

// UpdateRoot takes one share, and owns it. With the last that is needed it
// makes the token and tells it encoded; the attempt is over then, whether that
// succeeds or not.
func (m *Manager) UpdateRoot(ctx context.Context, share barrier.Key, nonce string) (RootStatus, error) {
	st, granted, err := m.updateRoot(ctx, share, nonce)
	if granted == nil {
		return st, err
	}
	defer granted.wipe()
	token, err := m.cfg.RootToken(ctx) // no longer in our turn: the core may wait for others
	if err != nil {
		return RootStatus{}, err
	}
	if st.EncodedToken, err = granted.encode([]byte(token)); err != nil {
		return RootStatus{}, err
	}
	m.cfg.Log.Info("root token generated", "nonce", granted.nonce)
	st.EncodedRootToken, st.Complete = st.EncodedToken, true
	return st, nil
}

// updateRoot collects the share. When enough were given and fit, it hands over
// the attempt, which the caller owns then.
func (m *Manager) updateRoot(ctx context.Context, share barrier.Key, nonce string) (RootStatus, *attempt, error) {
	u, err := m.beginOpen(ctx)
	if err != nil {
		share.Wipe()
		return RootStatus{}, nil, err
	}
	defer m.end()
	a := u.attempt
	r, err := a.update(share, nonce)
	if err != nil {
		share.Wipe()
		return RootStatus{}, nil, err
	}
	st := RootStatus{
		Nonce: a.nonce, Started: true, Progress: r.count(), Required: u.config.enough(),
		PGPFingerprint: a.fingerprint(),
	}
	next := *a
	next.round = r
	found, more, err := r.authorise(u)
	defer found.wipe()
	if more {
		m.set(u, func(u *unsealed) { u.attempt = &next })
		return st, nil, nil
	}
	defer r.wipe()
	next.round = nil
	if err != nil {
		m.set(u, func(u *unsealed) { u.attempt = &next })
		m.cfg.Log.Warn("generate-root: the shares given do not fit")
		return RootStatus{}, nil, errs.New(errs.Invalid, "root generation aborted: unable to authenticate: %w", err)
	}
	m.set(u, func(u *unsealed) {
		u.attempt = nil
		if found.by == u.config.Next {
			u.settleOn(found.by, found.fresh)
		}
	})
	m.hasten()
	return st, &next, nil
}

func (a *attempt) update(share barrier.Key, nonce string) (*round, error) {
	switch {
	case a == nil:
		return nil, errs.New(errs.Invalid, "no root generation in progress")
	case nonce != a.nonce:
		return nil, errs.New(errs.Invalid, "incorrect nonce supplied; nonce for this root generation operation is %q", a.nonce)
	}
	return a.round.add(share, "generation")
}

// encode tells the token to whoever began the attempt, and wipes it.
func (a *attempt) encode(token barrier.Key) (string, error) {
	defer token.Wipe()
	if a.to != nil {
		b, err := a.to.encrypt(token)
		return base64.StdEncoding.EncodeToString(b), err
	}
	b, err := xor(token, a.otp)
	return base64.RawStdEncoding.EncodeToString(b), err
}

// DecodeToken restores the token that an attempt told xored with otp.
func DecodeToken(encoded, otp string) (string, error) {
	b, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil {
		return "", errs.New(errs.Invalid, "error decoding base64'd token: %w", err)
	}
	token, err := xor(b, []byte(otp))
	return string(token), err
}

func xor(a, b []byte) ([]byte, error) {
	if len(a) != len(b) {
		return nil, errs.New(errs.Failed, "error xoring token: length of byte slices is not equivalent: %d != %d", len(a), len(b))
	}
	out := make([]byte, len(a))
	subtle.XORBytes(out, a, b)
	return out, nil
}
