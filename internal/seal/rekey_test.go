package seal

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// openNode gives an unsealed node and its shares.
func openNode(t *testing.T, b storage.Backend, shares, threshold int) (*node, []barrier.Key) {
	t.Helper()
	n := newNode(t, b)
	res := mustInit(t, n, shares, threshold)
	if st := unsealWith(t, n, res.Shares[:threshold]...); st.Sealed {
		t.Fatalf("%+v", st)
	}
	return n, res.Shares
}

// rekeyWith runs a rekey to its end, but for a verification.
func rekeyWith(n *node, p RekeyParams, old []barrier.Key) (*Rekeyed, error) {
	ctx := context.Background()
	st, err := n.StartRekey(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, s := range old[:len(old)-1] {
		if res, err := n.UpdateRekey(ctx, clone(s), st.Nonce); err != nil || res != nil {
			return nil, fmt.Errorf("too early: %v, %w", res, err)
		}
	}
	return n.UpdateRekey(ctx, clone(old[len(old)-1]), st.Nonce)
}

// opens reports whether shares unseal a node that was started anew on b.
func opens(t *testing.T, b storage.Backend, shares []barrier.Key) bool {
	t.Helper()
	n := newNode(t, b)
	for _, s := range shares {
		st, err := n.Unseal(t.Context(), clone(s), false)
		if err != nil {
			return false
		}
		if !st.Sealed {
			if got := n.first(t); got != "content" {
				t.Errorf("read %q", got)
			}
			return true
		}
	}
	return false
}

// The course of scenario sys/rekey-basic and the texts of sys/rekey-cancel-errors.
func TestRekey(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := newStore(t)
	n, old := openNode(t, b, 3, 2)
	want := func(err error, kind errs.Kind, text string) {
		t.Helper()
		if !errs.Is(err, kind) || err.Error() != text {
			t.Errorf("%v, want %q", err, text)
		}
	}
	_, err := n.UpdateRekey(ctx, clone(old[0]), "x")
	want(err, errs.Invalid, "no barrier rekey in progress")
	for _, c := range []struct {
		in   RekeyParams
		kind errs.Kind
		text string
	}{
		{RekeyParams{Shares: 1, Threshold: 2}, errs.Failed, "invalid rekey seal configuration: threshold cannot be larger than shares"},
		{RekeyParams{}, errs.Failed, "invalid rekey seal configuration: shares must be at least one"},
		{RekeyParams{Shares: 5, Threshold: 3, Backup: true}, errs.Invalid, "cannot request a backup of the new keys without providing PGP keys for encryption"},
		{RekeyParams{Shares: 2, Threshold: 2, PGPKeys: []string{"x"}}, errs.Invalid, "incorrect number of PGP keys for rekey"},
		{RekeyParams{Shares: 1, Threshold: 1, PGPKeys: []string{"zzz"}}, errs.Failed, "invalid rekey seal configuration: error decoding given PGP key: illegal base64 data at input byte 0"},
	} {
		_, err := n.StartRekey(ctx, c.in)
		want(err, c.kind, c.text)
	}
	st, err := n.StartRekey(ctx, RekeyParams{Shares: 5, Threshold: 3})
	if w := (RekeyStatus{Nonce: st.Nonce, Started: true, T: 3, N: 5, Required: 2}); err != nil || !reflect.DeepEqual(st, w) || st.Nonce == "" {
		t.Fatalf("%+v, %v", st, err)
	}
	_, err = n.StartRekey(ctx, RekeyParams{Shares: 5, Threshold: 3})
	want(err, errs.Invalid, "rekey already in progress")
	_, err = n.UpdateRekey(ctx, clone(old[0]), "")
	want(err, errs.Invalid, fmt.Sprintf("incorrect nonce supplied; nonce for this rekey operation is %q", st.Nonce))
	for range 2 { // wrong shares begin the collection anew
		if res, err := n.UpdateRekey(ctx, clone(old[0]), st.Nonce); res != nil || err != nil {
			t.Fatal(res, err)
		}
		_, err = n.UpdateRekey(ctx, clone(old[0]), st.Nonce)
		want(err, errs.Invalid, "given key has already been provided during this generation operation")
		wrong := clone(old[1])
		wrong[0] ^= 1
		_, err = n.UpdateRekey(ctx, wrong, st.Nonce)
		want(err, errs.Invalid, "unseal key verification failed: cipher: message authentication failed")
		if now, _ := n.RekeyStatus(); now.Progress != 0 || now.Nonce != st.Nonce {
			t.Errorf("%+v", now)
		}
	}
	if _, err = n.UpdateRekey(ctx, clone(old[2]), st.Nonce); err != nil {
		t.Fatal(err)
	}
	res, err := n.UpdateRekey(ctx, clone(old[0]), st.Nonce)
	if err != nil || len(res.Shares) != 5 || res.Nonce != st.Nonce || res.VerificationNonce != "" {
		t.Fatalf("%+v, %v", res, err)
	}
	if now, err := n.RekeyStatus(); err != nil || !reflect.DeepEqual(now, RekeyStatus{Required: 3}) {
		t.Errorf("%+v, %v", now, err)
	}
	if opens(t, b, old[:2]) || opens(t, b, old) {
		t.Error("the old shares still open")
	}
	if !opens(t, b, res.Shares[2:]) {
		t.Error("the new shares do not open")
	}
	if now, _ := n.Status(ctx); now.N != 5 || now.T != 3 || now.Sealed {
		t.Errorf("%+v", now)
	}
	if _, err := n.StartRekey(ctx, RekeyParams{Shares: 1, Threshold: 1}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.CancelRekey(ctx); err != nil {
			t.Error(err)
		}
	}
	single, err := rekeyWith(n, RekeyParams{Shares: 1, Threshold: 1}, res.Shares[:3])
	if err != nil || len(single.Shares[0]) != 32 || !opens(t, b, single.Shares) {
		t.Errorf("rekey to one share: %v", err)
	}
}

// The course of scenario sys/rekey-verification.
func TestRekeyVerification(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := newStore(t)
	n, old := openNode(t, b, 1, 1)
	if _, err := n.VerifyStatus(); !errs.Is(err, errs.Invalid) {
		t.Errorf("without a rekey: %v", err)
	}
	res, err := rekeyWith(n, RekeyParams{Shares: 2, Threshold: 2, Verify: true}, old)
	if err != nil || res.VerificationNonce == "" {
		t.Fatalf("%+v, %v", res, err)
	}
	if !opens(t, b, old) || opens(t, b, res.Shares) {
		t.Error("unverified shares count")
	}
	if _, err := n.UpdateRekey(ctx, clone(old[0]), res.Nonce); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), res.VerificationNonce) {
		t.Errorf("update while verifying: %v", err)
	}
	if st, _ := n.RekeyStatus(); st.VerificationNonce != res.VerificationNonce || !st.VerificationRequired || st.Progress != 0 {
		t.Errorf("%+v", st)
	}
	nonce := res.VerificationNonce
	if _, err := n.VerifyRekey(ctx, clone(res.Shares[0]), "wrong"); err == nil || err.Error() != fmt.Sprintf("incorrect nonce supplied; nonce for this verify operation is %q", nonce) {
		t.Errorf("wrong nonce: %v", err)
	}
	if done, err := n.VerifyRekey(ctx, clone(res.Shares[0]), nonce); done || err != nil {
		t.Fatal(done, err)
	}
	if _, err := n.VerifyRekey(ctx, clone(res.Shares[0]), nonce); err == nil || err.Error() != "given key has already been provided during this verify operation" {
		t.Errorf("twice: %v", err)
	}
	wrong := clone(res.Shares[1])
	wrong[0] ^= 1
	if _, err := n.VerifyRekey(ctx, wrong, nonce); !errs.Is(err, errs.Invalid) {
		t.Errorf("wrong share: %v", err)
	}
	st, err := n.VerifyStatus()
	if want := (VerifyStatus{Nonce: st.Nonce, Started: true, T: 2, N: 2}); err != nil || st != want || st.Nonce == nonce {
		t.Errorf("after a wrong share: %+v, %v", st, err)
	}
	again, err := n.RestartVerify(ctx)
	if err != nil || again.Nonce == st.Nonce {
		t.Errorf("%+v, %v", again, err)
	}
	for i, s := range res.Shares {
		if done, err := n.VerifyRekey(ctx, clone(s), again.Nonce); done != (i == 1) || err != nil {
			t.Fatal(done, err)
		}
	}
	if opens(t, b, old) || !opens(t, b, res.Shares) {
		t.Error("verified shares do not count")
	}
	if st, _ := n.RekeyStatus(); st.Started || st.Required != 2 {
		t.Errorf("%+v", st)
	}
}

// Whatever write of a rekey fails, and however, some shares that the operators
// hold open the store: the new ones if they were told, else the old ones.
func TestRekeyFailures(t *testing.T) {
	t.Parallel()
	for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.Lost, storagetest.After} {
		for _, verify := range []bool{false, true} {
			for nth := 1; nth <= 2; nth++ {
				t.Run(fmt.Sprintf("fault %d at write %d, verify %v", fault, nth, verify), func(t *testing.T) {
					t.Parallel()
					testRekeyFailure(t, fault, nth, verify)
				})
			}
		}
	}
}

func testRekeyFailure(t *testing.T, fault storagetest.Fault, nth int, verify bool) {
	b := newStore(t)
	failing := storagetest.NewFailing(b)
	n, old := openNode(t, failing, 3, 2)
	failing.FailNth(nth, fault)
	res, err := rekeyWith(n, RekeyParams{Shares: 4, Threshold: 3, Verify: verify}, old[:2])
	if verify {
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range res.Shares[:3] {
			_, err = n.VerifyRekey(t.Context(), clone(s), res.VerificationNonce)
		}
		if (err != nil) != (nth == 1) {
			t.Errorf("verification: %v", err)
		}
		if o, fresh := opens(t, b, old[:2]), opens(t, b, res.Shares[:3]); !o && !fresh {
			t.Error("neither the old nor the new shares open")
		} else if err == nil && !fresh {
			t.Error("the verified shares do not open")
		}
		return
	}
	failing.Fail(storagetest.None)
	if err != nil {
		if !opens(t, b, old[:2]) {
			t.Errorf("no new shares were told (%v), and the old do not open", err)
		}
		if n.raw.Err() == nil { // the store goes on: so does the rekey
			st, _ := n.RekeyStatus()
			for _, s := range old[1:] {
				res, err = n.UpdateRekey(t.Context(), clone(s), st.Nonce)
			}
			if err != nil || !opens(t, b, res.Shares[1:]) || opens(t, b, old[:2]) {
				t.Errorf("repeated: %v", err)
			}
		}
		return
	}
	if !opens(t, b, res.Shares[1:]) {
		t.Error("the new shares do not open")
	}
	if opens(t, b, old[:2]) { // once the new ones were used
		t.Error("the old shares still open")
	}
}

// A rekey that died between its writes leaves both sets good, and the next
// rekey ends that.
func TestRekeyAfterHalf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ oldT, newT int }{{2, 3}, {3, 2}, {2, 2}} {
		b := newStore(t)
		failing := storagetest.NewFailing(b)
		n, old := openNode(t, failing, 3, c.oldT)
		failing.FailNth(2, storagetest.Before)
		res, err := rekeyWith(n, RekeyParams{Shares: 3, Threshold: c.newT}, old[:c.oldT])
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // their use does not end the state of two sets
			if !opens(t, b, old[:c.oldT]) {
				t.Errorf("%+v: the old shares do not open", c)
			}
		}
		if n := newNode(t, b); c.oldT == c.newT { // wrong ones still end the round
			bad := []barrier.Key{old[0], res.Shares[1]}
			_, _ = n.Unseal(t.Context(), clone(bad[0]), false)
			if _, err := n.Unseal(t.Context(), clone(bad[1]), false); !errs.Is(err, errs.Invalid) {
				t.Errorf("mixed shares: %v", err)
			}
		}
		next, err := rekeyWith(n, RekeyParams{Shares: 2, Threshold: 2}, old[:c.oldT])
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if !opens(t, b, next.Shares) || opens(t, b, old[:c.oldT]) || opens(t, b, res.Shares[:c.newT]) {
			t.Errorf("%+v: after the next rekey the wrong shares open", c)
		}
	}
}

// The course of scenarios sys/rekey-pgp and sys/init-pgp.
func TestPGP(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	alice, bob := newHolder(t, "alice"), newHolder(t, "bob")
	b := newStore(t)
	n := newNode(t, b)
	keys := []string{alice.public, bob.public}
	res, err := n.Init(ctx, InitParams{Shares: 2, Threshold: 2, PGPKeys: keys, RootTokenPGPKey: bob.public})
	if err != nil {
		t.Fatal(err)
	}
	token, err := base64.StdEncoding.DecodeString(string(res.RootToken))
	if err != nil || string(bob.decrypt(t, token)) != testToken {
		t.Errorf("the token: %v", err)
	}
	shares := []barrier.Key{alice.share(t, res.Shares[0]), bob.share(t, res.Shares[1])}
	if st := unsealWith(t, n, shares...); st.Sealed {
		t.Fatalf("%+v", st)
	}
	if _, err := n.RekeyBackup(ctx); !errors.Is(err, ErrNoBackup) {
		t.Errorf("backup: %v", err)
	}
	st, err := n.StartRekey(ctx, RekeyParams{Shares: 2, Threshold: 2, PGPKeys: keys, Backup: true})
	if err != nil || !reflect.DeepEqual(st.PGPFingerprints, []string{alice.fingerprint, bob.fingerprint}) || !st.Backup {
		t.Fatalf("%+v, %v", st, err)
	}
	if err := n.CancelRekey(ctx); err != nil {
		t.Fatal(err)
	}
	done, err := rekeyWith(n, RekeyParams{Shares: 2, Threshold: 2, PGPKeys: keys, Backup: true}, shares)
	if err != nil {
		t.Fatal(err)
	}
	backup, err := n.RekeyBackup(ctx)
	if err != nil || backup.Nonce != done.Nonce ||
		!reflect.DeepEqual(backup.Keys[bob.fingerprint], []string{hex.EncodeToString(done.Shares[1])}) ||
		!reflect.DeepEqual(backup.KeysBase64[alice.fingerprint], []string{base64.StdEncoding.EncodeToString(done.Shares[0])}) {
		t.Errorf("%+v, %v", backup, err)
	}
	if !opens(t, b, []barrier.Key{bob.share(t, done.Shares[1]), alice.share(t, done.Shares[0])}) {
		t.Error("the new shares do not open")
	}
	for range 2 {
		if err := n.DeleteRekeyBackup(ctx); err != nil {
			t.Error(err)
		}
	}
	if _, err := n.RekeyBackup(ctx); !errors.Is(err, ErrNoBackup) {
		t.Errorf("deleted backup: %v", err)
	}
}

func TestPGPErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"notakey":                            "error decoding given PGP key: illegal base64 data at input byte 4",
		"nonsense":                           "error parsing given PGP key: unexpected EOF",
		"":                                   "error parsing given PGP key: unexpected EOF",
		strings.Repeat("A", maxPGPText+1):    "error parsing given PGP key: longer than 1048576 bytes",
		newHolder(t, "x").public[:40] + "AA": "",
	} {
		_, err := parsePGP(text)
		if !errs.Is(err, errs.Invalid) || want != "" && err.Error() != want {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
}

func TestNothingWhileSealedOrStandby(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	n, old := openNode(t, newStore(t), 1, 1)
	all := map[string]func() error{
		"RekeyStatus":       func() error { _, err := n.RekeyStatus(); return err },
		"StartRekey":        func() error { _, err := n.StartRekey(ctx, RekeyParams{Shares: 1, Threshold: 1}); return err },
		"UpdateRekey":       func() error { _, err := n.UpdateRekey(ctx, clone(old[0]), ""); return err },
		"CancelRekey":       func() error { return n.CancelRekey(ctx) },
		"VerifyStatus":      func() error { _, err := n.VerifyStatus(); return err },
		"VerifyRekey":       func() error { _, err := n.VerifyRekey(ctx, clone(old[0]), ""); return err },
		"RestartVerify":     func() error { _, err := n.RestartVerify(ctx); return err },
		"RekeyBackup":       func() error { _, err := n.RekeyBackup(ctx); return err },
		"DeleteRekeyBackup": func() error { return n.DeleteRekeyBackup(ctx) },
		"RootStatus":        func() error { _, err := n.RootStatus(); return err },
		"StartRoot":         func() error { _, err := n.StartRoot(ctx, "", ""); return err },
		"UpdateRoot":        func() error { _, err := n.UpdateRoot(ctx, clone(old[0]), ""); return err },
		"CancelRoot":        func() error { return n.CancelRoot(ctx) },
		"Rotate":            func() error { return n.Rotate(ctx) },
		"SetRotation":       func() error { return n.SetRotation(ctx, RotationChange{}) },
	}
	n.standby = true
	for name, op := range all {
		if err := op(); !errors.Is(err, ErrStandby) {
			t.Errorf("%s on a standby: %v", name, err)
		}
	}
	n.Seal()
	all["KeyInfo"] = func() error { _, err := n.KeyInfo(); return err }
	all["Rotation"] = func() error { _, err := n.Rotation(); return err }
	all["Cluster"] = func() error { _, err := n.Cluster(); return err }
	all["Reload"] = func() error { return n.Reload(ctx) }
	for name, op := range all {
		if err := op(); !errors.Is(err, ErrSealed) {
			t.Errorf("%s while sealed: %v", name, err)
		}
	}
	if bytes.Contains([]byte(fmt.Sprintf("%+v %#v", n.state.Load(), old)), old[0]) {
		t.Error("a share was printed")
	}
}
