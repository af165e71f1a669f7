package seal

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage/storagetest"
)

// Hex and base64 may be mixed (S4-26); the texts of scenario sys/unseal-wrong-keys.
func TestParseShare(t *testing.T) {
	t.Parallel()
	k := barrier.NewKey()
	for _, c := range []struct {
		name, in string
		want     barrier.Key
		err      error
	}{
		{"hex", hex.EncodeToString(k), k, nil},
		{"upper case hex", strings.ToUpper(hex.EncodeToString(k)), k, nil},
		{"base64", base64.StdEncoding.EncodeToString(k), k, nil},
		{"short base64", "aGVsbG8=", barrier.Key("hello"), nil},
		{"short hex is no base64", "00", nil, errKeyText},
		{"neither", "zz-not-hex-or-base64!", nil, errKeyText},
		{"blank", " ", nil, errKeyText},
		{"very long", strings.Repeat("A", 1<<20), nil, errTooLong},
	} {
		got, err := ParseShare(c.in)
		if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%s: error %v", c.name, err)
		}
	}
}

func FuzzParseShare(f *testing.F) {
	f.Add("00")
	f.Add("aGVsbG8=")
	f.Add(strings.Repeat("ab", 33))
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseShare(text)
		if (k == nil) == (err == nil) && text != "" || err != nil && !errs.Is(err, errs.Invalid) {
			t.Fatalf("%q: %d bytes, %v", text, len(k), err)
		}
	})
}

// A wrong round resets the progress; so does reset; a bad share changes nothing.
func TestUnsealRounds(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	n := newNode(t, newStore(t))
	res := mustInit(t, n, 3, 2)
	foreign := mustInit(t, newNode(t, newStore(t)), 3, 2)

	progress := func(want int) {
		t.Helper()
		st, err := n.Status(ctx)
		if err != nil || st.Progress != want || !st.Sealed || (st.Nonce == "") != (want == 0) {
			t.Errorf("status %+v, %v; want progress %d", st, err, want)
		}
	}
	refused := func(share barrier.Key, text string) {
		t.Helper()
		_, err := n.Unseal(ctx, clone(share), false)
		if !errs.Is(err, errs.Invalid) || err.Error() != text {
			t.Errorf("%v, want %q", err, text)
		}
	}
	unsealWith(t, n, res.Shares[0])
	refused(barrier.Key("hello"), "invalid key: key is shorter than minimum 16 bytes")
	refused(make(barrier.Key, 34), "invalid key: key is longer than maximum 33 bytes")
	progress(1)
	refused(make(barrier.Key, 32), "invalid key: failed to compute combined key: all parts must be the same length")
	progress(0)
	unsealWith(t, n, res.Shares[0])
	refused(foreign.Shares[1], "invalid key: cipher: message authentication failed")
	progress(0)
	unsealWith(t, n, res.Shares[0])
	duplicate := clone(res.Shares[0])
	duplicate[3] ^= 1 // the same coordinate
	refused(duplicate, "invalid key: failed to compute combined key: duplicate part detected")
	progress(0)

	first := unsealWith(t, n, res.Shares[2]).Nonce
	if st, err := n.ResetUnseal(ctx); err != nil || st.Progress != 0 || st.Nonce != "" {
		t.Errorf("reset: %+v, %v", st, err)
	}
	if second := unsealWith(t, n, res.Shares[2]).Nonce; second == first {
		t.Error("two rounds have one nonce")
	}
	if _, err := n.Unseal(ctx, clone(res.Shares[0]), true); err == nil || !strings.Contains(err.Error(), "no migration seal found") {
		t.Errorf("migrate: %v", err)
	}
	if st := unsealWith(t, n, res.Shares[1]); st.Sealed {
		t.Errorf("%+v", st)
	}
	if _, err := n.ResetUnseal(ctx); !errs.Is(err, errs.Invalid) || err.Error() != "vault is unsealed" {
		t.Errorf("reset while open: %v", err)
	}
}

// When the core cannot take over, the node stays sealed and nothing is left.
func TestUnsealRefusedByCore(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t))
	res := mustInit(t, n, 1, 1)
	good, broken := n.cfg.Opened, errors.New("broken")
	n.cfg.Opened = func(ctx context.Context, r *barrier.Keyring, c Cluster) error {
		_ = good(ctx, r, c)
		return broken
	}
	if _, err := n.Unseal(t.Context(), clone(res.Shares[0]), false); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := n.ring.Info(); !errors.Is(err, barrier.ErrSealed) || !n.Sealed() {
		t.Errorf("the ring: %v", err)
	}
	n.cfg.Opened = good
	if st := unsealWith(t, n, res.Shares[0]); st.Sealed {
		t.Errorf("%+v", st)
	}
}

func TestUnsealUnreadableStore(t *testing.T) {
	t.Parallel()
	b := storagetest.NewFailing(newStore(t))
	n := newNode(t, b)
	res := mustInit(t, n, 1, 1)
	b.FailReads(true)
	if _, err := n.Status(t.Context()); !errors.Is(err, storagetest.ErrInjected) {
		t.Errorf("status: %v", err)
	}
	if _, err := n.Unseal(t.Context(), clone(res.Shares[0]), false); !errors.Is(err, storagetest.ErrInjected) {
		t.Errorf("unseal: %v", err)
	}
	b.FailReads(false)
	if st := unsealWith(t, n, res.Shares[0]); st.Sealed {
		t.Errorf("%+v", st)
	}
}

// Key bytes do not outlive their owner.
func TestSecretsAreWiped(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	n := newNode(t, newStore(t))
	res := mustInit(t, n, 3, 2)
	gone := func(what string, k barrier.Key) {
		t.Helper()
		for _, b := range k {
			if b != 0 {
				t.Errorf("%s is not wiped", what)
				return
			}
		}
	}
	given := clone(res.Shares[0])
	if _, err := n.Unseal(ctx, given, false); err != nil {
		t.Fatal(err)
	}
	again := clone(given)
	if _, err := n.Unseal(ctx, again, false); err != nil {
		t.Fatal(err)
	}
	gone("a share given twice", again)
	if _, err := n.ResetUnseal(ctx); err != nil {
		t.Fatal(err)
	}
	gone("a share of a reset round", given)

	given, last := clone(res.Shares[0]), clone(res.Shares[1])
	for _, s := range []barrier.Key{given, last} {
		if _, err := n.Unseal(ctx, s, false); err != nil {
			t.Fatal(err)
		}
	}
	gone("a share", given)
	gone("the last share", last)

	if _, err := n.StartRekey(ctx, RekeyParams{Shares: 1, Threshold: 1}); err != nil {
		t.Fatal(err)
	}
	st, _ := n.RekeyStatus()
	given = clone(res.Shares[0])
	if _, err := n.UpdateRekey(ctx, given, st.Nonce); err != nil {
		t.Fatal(err)
	}
	if _, err := n.StartRoot(ctx, "", ""); err != nil {
		t.Fatal(err)
	}
	u := n.state.Load().open
	root, otp := u.root.key, u.attempt.otp
	n.Seal()
	gone("a share given to a rekey", given)
	gone("the root key", root)
	gone("the one-time password", otp)
	res.Wipe()
	gone("the told share", res.Shares[0])
	gone("the told token", res.RootToken)
}

// Everything at once: no race, and sealed means sealed.
func TestConcurrentOperations(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	n := newNode(t, newStore(t))
	res := mustInit(t, n, 3, 2)
	var work sync.WaitGroup
	for i := range 6 {
		work.Go(func() {
			for j := range 15 {
				switch (i + j) % 5 {
				case 0:
					n.Seal()
				case 1:
					if n.Rotate(ctx) == nil {
						_, _ = n.KeyInfo()
					}
				case 2:
					_, _ = n.StartRoot(ctx, "", "")
					_ = n.CancelRoot(ctx)
				case 3:
					if st, err := n.Status(ctx); err != nil || !st.Initialized {
						t.Errorf("status %+v, %v", st, err)
					}
				}
				for _, s := range res.Shares[:2] {
					_, _ = n.Unseal(ctx, clone(s), false)
				}
			}
		})
	}
	work.Wait()
	n.Seal()
	if st := unsealWith(t, n, res.Shares[1:]...); st.Sealed {
		t.Errorf("%+v", st)
	}
	if got := n.first(t); got != "content" {
		t.Errorf("read %q", got)
	}
}

// An operation that waits for another gives up with its context.
func TestWaitingEnds(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t))
	n.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Unseal(ctx, barrier.NewKey(), false); !errs.Is(err, errs.Unavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := n.Status(t.Context()); err != nil { // status does not wait
		t.Error(err)
	}
	<-n.turn
}
