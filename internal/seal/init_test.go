package seal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"arca/internal/barrier"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// S0-18 and the texts of scenario sys/init-bad-parameters.
func TestInitErrors(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t))
	for _, c := range []struct {
		name string
		in   InitParams
		want string
	}{
		{"nothing", InitParams{}, "invalid seal configuration: shares must be at least one"},
		{"negative", InitParams{Shares: -1, Threshold: -1}, "invalid seal configuration: shares must be at least one"},
		{"threshold one of three", InitParams{Shares: 3, Threshold: 1}, "invalid seal configuration: threshold must be greater than one for multiple shares"},
		{"threshold too large", InitParams{Shares: 2, Threshold: 3}, "invalid seal configuration: threshold cannot be larger than shares"},
		{"shares too many", InitParams{Shares: 256, Threshold: 2}, "invalid seal configuration: shares must be less than 256"},
		{"no threshold", InitParams{Shares: 1}, "invalid seal configuration: threshold must be at least one"},
		{"one key for two", InitParams{Shares: 2, Threshold: 2, PGPKeys: []string{"AAAA"}}, "invalid seal configuration: count mismatch between number of provided PGP keys and number of shares"},
		{"no base64", InitParams{Shares: 1, Threshold: 1, PGPKeys: []string{"notakey"}}, "invalid seal configuration: error decoding given PGP key: illegal base64 data at input byte 4"},
		{"token key", InitParams{Shares: 1, Threshold: 1, RootTokenPGPKey: "not base64!"}, "error decoding given PGP key: illegal base64 data at input byte 3"},
	} {
		_, err := n.Init(t.Context(), c.in)
		if !errs.Is(err, errs.Invalid) || err.Error() != c.want {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if got, err := n.Initialised(t.Context()); got || err != nil {
		t.Errorf("initialised %v, %v", got, err)
	}
	if _, err := n.Unseal(t.Context(), barrier.NewKey(), false); !errors.Is(err, ErrNotInitialised) {
		t.Errorf("unseal: %v", err)
	}
}

// Whatever write of an init fails, and however: either the shares that were
// told open the store, or it is not initialised and the next init works.
func TestInitFailures(t *testing.T) {
	t.Parallel()
	for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.Lost, storagetest.After} {
		for nth := 1; nth <= 4; nth++ {
			t.Run(fmt.Sprintf("fault %d at write %d", fault, nth), func(t *testing.T) {
				t.Parallel()
				b := newStore(t)
				failing := storagetest.NewFailing(b)
				failing.FailNth(nth, fault)
				res, err := newNode(t, failing).Init(t.Context(), InitParams{Shares: 3, Threshold: 2})
				if err == nil && nth <= 2 {
					t.Error("no error")
				}
				n := newNode(t, b) // after a restart
				initialised, ierr := n.Initialised(t.Context())
				if ierr != nil {
					t.Fatal(ierr)
				}
				if initialised && err != nil {
					t.Fatalf("initialised, but the shares were not told: %v", err)
				}
				if !initialised {
					res = mustInit(t, n, 3, 2)
				}
				if st := unsealWith(t, n, res.Shares[2], res.Shares[0]); st.Sealed {
					t.Errorf("%+v", st)
				}
				if got := n.first(t); got != "content" {
					t.Errorf("read %q", got)
				}
			})
		}
	}
}

// What an init that died left is cleared, and only that.
func TestInitOnLeftovers(t *testing.T) {
	t.Parallel()
	b := newStore(t)
	put := func(key string) {
		t.Helper()
		if err := b.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: key, Value: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
	}
	put("core/leftover")
	n := newNode(t, b)
	if _, err := n.Init(t.Context(), InitParams{Shares: 1, Threshold: 1}); !errs.Is(err, errs.Failed) || !strings.Contains(err.Error(), "core/leftover") {
		t.Errorf("content without a seal configuration: %v", err)
	}
	put(markKey)
	n = newNode(t, b)
	mustInit(t, n, 1, 1)
	if _, err := b.Get(t.Context(), "core/leftover"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the leftover: %v", err)
	}
	if _, err := b.Get(t.Context(), markKey); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the mark: %v", err)
	}
}

func TestInitFailingBootstrap(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t))
	good := n.cfg.Bootstrap
	broken := errors.New("broken")
	n.cfg.Bootstrap = func(ctx context.Context, ring *barrier.Keyring) (string, error) {
		if _, err := good(ctx, ring); err != nil {
			t.Error(err)
		}
		return "", broken
	}
	if _, err := n.Init(t.Context(), InitParams{Shares: 1, Threshold: 1}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if got, err := n.Initialised(t.Context()); got || err != nil {
		t.Errorf("initialised %v, %v", got, err)
	}
	n.cfg.Bootstrap = good
	res := mustInit(t, n, 1, 1)
	if st := unsealWith(t, n, res.Shares[0]); st.Sealed {
		t.Errorf("%+v", st)
	}
}

func TestConfigOfOtherReleases(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{`, `{"version":2,"type":"shamir"}`, `{"version":1,"type":"awskms"}`} {
		b := newStore(t)
		if err := b.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: configKey, Value: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
		n := newNode(t, b)
		if _, err := n.Status(t.Context()); !errs.Is(err, errs.Failed) {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := n.Init(t.Context(), InitParams{Shares: 1, Threshold: 1}); !errs.Is(err, errs.Failed) {
			t.Errorf("%s: init: %v", text, err)
		}
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("no store: no error")
	}
	raw := storage.Open(storagetest.NewMap(), storage.Config{})
	defer func() { _ = raw.Close() }()
	if _, err := New(Config{Raw: raw}); err == nil {
		t.Error("no callbacks: no error")
	}
}
