package seal

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"testing"

	"arca/internal/errs"
)

// The course of scenarios sys/generate-root-otp, -cancel and -bad-key.
func TestGenerateRoot(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	n, shares := openNode(t, newStore(t), 3, 2)
	want := func(err error, text string) {
		t.Helper()
		if !errs.Is(err, errs.Invalid) || err.Error() != text {
			t.Errorf("%v, want %q", err, text)
		}
	}
	idle := RootStatus{Required: 2, OTPLength: 26}
	if st, err := n.RootStatus(); err != nil || st != idle {
		t.Errorf("%+v, %v", st, err)
	}
	_, err := n.UpdateRoot(ctx, clone(shares[0]), "x")
	want(err, "no root generation in progress")
	_, err = n.StartRoot(ctx, "tooshort", "")
	want(err, "OTP string has incorrect length")
	_, err = n.StartRoot(ctx, "x", "nonsense")
	want(err, "OTP string has incorrect length")
	_, err = n.StartRoot(ctx, "", "notakey")
	want(err, "error parsing PGP key: error decoding given PGP key: illegal base64 data at input byte 4")

	st, err := n.StartRoot(ctx, "", "")
	if w := (RootStatus{Nonce: st.Nonce, Started: true, Required: 2, OTP: st.OTP, OTPLength: 26}); err != nil || st != w || len(st.OTP) != 26 {
		t.Fatalf("%+v, %v", st, err)
	}
	otp := st.OTP
	if now, _ := n.RootStatus(); now.OTP != "" || !now.Started {
		t.Errorf("%+v", now)
	}
	_, err = n.StartRoot(ctx, "", "")
	want(err, "root generation already in progress")
	_, err = n.UpdateRoot(ctx, clone(shares[0]), "bad")
	want(err, fmt.Sprintf("incorrect nonce supplied; nonce for this root generation operation is %q", st.Nonce))

	step, err := n.UpdateRoot(ctx, clone(shares[0]), st.Nonce)
	if w := (RootStatus{Nonce: st.Nonce, Started: true, Progress: 1, Required: 2}); err != nil || step != w {
		t.Errorf("%+v, %v", step, err)
	}
	_, err = n.UpdateRoot(ctx, clone(shares[0]), st.Nonce)
	want(err, "given key has already been provided during this generation operation")
	wrong := clone(shares[1])
	wrong[5] ^= 1
	_, err = n.UpdateRoot(ctx, wrong, st.Nonce)
	want(err, "root generation aborted: unable to authenticate: cipher: message authentication failed")
	if now, _ := n.RootStatus(); now.Progress != 0 || now.Nonce != st.Nonce || n.tokens != 0 {
		t.Errorf("%+v, %d tokens", now, n.tokens)
	}
	for _, s := range shares[1:] {
		if step, err = n.UpdateRoot(ctx, clone(s), st.Nonce); err != nil {
			t.Fatal(err)
		}
	}
	if !step.Complete || step.EncodedToken != step.EncodedRootToken || step.Progress != 2 || n.tokens != 1 {
		t.Errorf("%+v, %d tokens", step, n.tokens)
	}
	if got, err := DecodeToken(step.EncodedToken, otp); got != testToken || err != nil {
		t.Errorf("decoded %q, %v", got, err)
	}
	if now, _ := n.RootStatus(); now != idle {
		t.Errorf("%+v", now)
	}
	if _, err := DecodeToken(step.EncodedToken, "short"); err == nil || err.Error() != "error xoring token: length of byte slices is not equivalent: 26 != 5" {
		t.Errorf("short pad: %v", err)
	}
	if _, err := DecodeToken("*", otp); !errs.Is(err, errs.Invalid) {
		t.Errorf("no base64: %v", err)
	}
	for range 2 {
		if err := n.CancelRoot(ctx); err != nil {
			t.Error(err)
		}
	}
}

// The course of scenario sys/generate-root-pgp.
func TestGenerateRootPGP(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	n, shares := openNode(t, newStore(t), 1, 1)
	alice := newHolder(t, "alice")
	st, err := n.StartRoot(ctx, "", alice.public)
	if err != nil || st.PGPFingerprint != alice.fingerprint || st.OTP != "" {
		t.Fatalf("%+v, %v", st, err)
	}
	st, err = n.UpdateRoot(ctx, clone(shares[0]), st.Nonce)
	if err != nil || !st.Complete || st.PGPFingerprint != alice.fingerprint {
		t.Fatalf("%+v, %v", st, err)
	}
	b, err := base64.StdEncoding.DecodeString(st.EncodedToken)
	if err != nil || string(alice.decrypt(t, b)) != testToken {
		t.Errorf("decrypted another token: %v", err)
	}
}

// The token is made outside of the manager's turn: other operations go on.
func TestRootTokenCallsBack(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	n, shares := openNode(t, newStore(t), 1, 1)
	broken := errors.New("broken")
	n.cfg.RootToken = func(ctx context.Context) (string, error) { return "", errors.Join(broken, n.Rotate(ctx)) }
	st, err := n.StartRoot(ctx, "abcdefghijklmnopqrstuvwxyz", "")
	if err != nil || st.OTP != "" {
		t.Fatalf("%+v, %v", st, err)
	}
	if _, err = n.UpdateRoot(ctx, clone(shares[0]), st.Nonce); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if info, _ := n.KeyInfo(); info.Term != 2 {
		t.Errorf("%+v", info)
	}
	if now, _ := n.RootStatus(); now.Started {
		t.Errorf("%+v", now)
	}
}

func TestOTP(t *testing.T) {
	t.Parallel()
	seen := map[byte]bool{}
	for range 200 {
		otp := newOTP(26)
		if len(otp) != 26 {
			t.Fatalf("%d characters", len(otp))
		}
		for _, c := range otp {
			seen[c] = true
		}
	}
	if len(seen) != 62 {
		t.Errorf("%d different characters, want 62", len(seen))
	}
}
