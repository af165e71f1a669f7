package seal

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/pebble"
)

// A node is a manager over a store in memory, with what the core would do.
type node struct {
	*Manager
	backend storage.Backend
	ring    *barrier.Keyring // as Opened gave it
	raw     *storage.DB
	tokens  int
	standby bool
}

const testToken = "s.abcdefghijklmnopqrstuvwx"

// newStore gives an empty store.
func newStore(t *testing.T) storage.Backend {
	t.Helper()
	b, err := pebble.Open(pebble.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// newNode starts a sealed node on b.
func newNode(t *testing.T, b storage.Backend) *node {
	t.Helper()
	n := &node{backend: b}
	raw := storage.Open(b, storage.Config{ValueCacheBytes: -1}) // as the core does
	n.raw = raw
	t.Cleanup(func() { _ = raw.Close() })
	m, err := New(Config{
		Raw: raw,
		Bootstrap: func(ctx context.Context, ring *barrier.Keyring) (string, error) {
			db := storage.Open(barrier.New(b, ring), storage.Config{})
			defer func() { _ = db.Close() }()
			return testToken, db.Update(ctx, func(tx storage.Tx) error {
				return tx.Put("core/first", []byte("content"))
			})
		},
		Opened: func(_ context.Context, ring *barrier.Keyring, _ Cluster) error {
			n.ring = ring
			return nil
		},
		RootToken:   func(context.Context) (string, error) { n.tokens++; return testToken, nil },
		Standby:     func() bool { return n.standby },
		StorageType: "inmem",
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Manager = m
	return n
}

// first reads what Bootstrap wrote.
func (n *node) first(t *testing.T) string {
	t.Helper()
	b, err := barrier.New(n.backend, n.ring).Get(t.Context(), "core/first")
	if err != nil {
		t.Fatalf("read behind the barrier: %v", err)
	}
	return string(b)
}

func clone(k barrier.Key) barrier.Key { return append(barrier.Key(nil), k...) }

func mustInit(t *testing.T, n *node, shares, threshold int) *Initialised {
	t.Helper()
	res, err := n.Init(t.Context(), InitParams{Shares: shares, Threshold: threshold})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// unsealWith gives shares in turn and returns the last status.
func unsealWith(t *testing.T, n *node, shares ...barrier.Key) Status {
	t.Helper()
	var st Status
	for _, s := range shares {
		var err error
		if st, err = n.Unseal(t.Context(), clone(s), false); err != nil {
			t.Fatalf("unseal: %v", err)
		}
	}
	return st
}

// S0-15, S0-16, S0-20, S3-29.
func TestInitUnseal(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t))
	st, err := n.Status(t.Context())
	if err != nil || st.Initialized || !st.Sealed || st.T != 0 || st.N != 0 || st.Type != "shamir" {
		t.Fatalf("status of an empty store: %+v, %v", st, err)
	}
	res := mustInit(t, n, 5, 3)
	if string(res.RootToken) != testToken || len(res.Shares) != 5 {
		t.Fatalf("init gave %d shares, token %q", len(res.Shares), string(res.RootToken))
	}
	for _, s := range res.Shares {
		if len(s) != 33 {
			t.Errorf("a share has %d bytes, want 33", len(s))
		}
	}
	if !n.Sealed() {
		t.Error("open after init")
	}
	st = unsealWith(t, n, res.Shares[4], res.Shares[1])
	if st.Progress != 2 || st.Nonce == "" || !st.Sealed || st.ClusterID != "" {
		t.Errorf("after two shares: %+v", st)
	}
	nonce := st.Nonce
	if st = unsealWith(t, n, res.Shares[1]); st.Progress != 2 || st.Nonce != nonce {
		t.Errorf("after a share twice: %+v", st)
	}
	st = unsealWith(t, n, res.Shares[0])
	if st.Sealed || st.Progress != 0 || st.Nonce != "" || st.ClusterID == "" || !strings.HasPrefix(st.ClusterName, "vault-cluster-") {
		t.Errorf("after three shares: %+v", st)
	}
	if got := n.first(t); got != "content" {
		t.Errorf("read %q", got)
	}
	again := unsealWith(t, n, res.Shares[2])
	if !reflect.DeepEqual(again, st) {
		t.Errorf("a share to an open node changed the status to %+v", again)
	}

	ring := n.ring
	n.Seal()
	if _, err := ring.Info(); !errors.Is(err, barrier.ErrSealed) || !n.Sealed() {
		t.Errorf("the ring after sealing: %v", err)
	}
	id := st.ClusterID
	if st = unsealWith(t, n, res.Shares[3], res.Shares[2], res.Shares[4]); st.Sealed || st.ClusterID != id {
		t.Errorf("after sealing and unsealing: %+v", st)
	}
	if _, err := n.Init(t.Context(), InitParams{Shares: 1, Threshold: 1}); !errors.Is(err, ErrInitialised) {
		t.Errorf("second init: %v", err)
	}
}

// S4-21: one share is the key itself.
func TestSingleShare(t *testing.T) {
	t.Parallel()
	b := newStore(t)
	res := mustInit(t, newNode(t, b), 1, 1)
	if len(res.Shares) != 1 || len(res.Shares[0]) != 32 {
		t.Fatalf("shares of %d bytes", len(res.Shares[0]))
	}
	n := newNode(t, b) // a restart
	wrong := clone(res.Shares[0])
	wrong[0] ^= 1
	if _, err := n.Unseal(t.Context(), wrong, false); !errs.Is(err, errs.Invalid) {
		t.Errorf("wrong key: %v", err)
	}
	if st := unsealWith(t, n, res.Shares[0]); st.Sealed {
		t.Errorf("%+v", st)
	}
	if got := n.first(t); got != "content" {
		t.Errorf("read %q", got)
	}
}
