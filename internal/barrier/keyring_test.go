package barrier

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"arca/internal/errs"
	"arca/internal/storage/storagetest"
)

func record(t testing.TB, r *Keyring, root Key) []byte {
	t.Helper()
	d, err := r.Same()
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Record(root)
	if err != nil {
		t.Fatal(err)
	}
	d.Install()
	return b
}

func TestRotation(t *testing.T) {
	t.Parallel()
	root := NewKey()
	ring := newRing(t)
	inner := storagetest.NewMap()
	b := New(inner, ring)
	put(t, b, "old", "1")
	token, err := ring.Seal([]byte("aad"), []byte("token"))
	if err != nil {
		t.Fatal(err)
	}
	hash, err := ring.Derive("token-hash")
	if err != nil {
		t.Fatal(err)
	}
	info, _ := ring.Info()
	if want := (Info{Term: 1, Installed: epoch, Encryptions: 2}); info != want {
		t.Errorf("info %+v, want %+v", info, want)
	}
	grow(t, ring)
	if info, _ = ring.Info(); info.Term != 2 || info.Encryptions != 0 {
		t.Errorf("after rotation: %+v", info)
	}
	put(t, b, "new", "2")

	again, err := OpenKeyring(record(t, ring, root), root)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := mustInfo(t, again), mustInfo(t, ring); got != want {
		t.Errorf("info after reopening %+v, want %+v", got, want)
	}
	for _, r := range []*Keyring{ring, again} {
		b := New(inner, r)
		for key, want := range map[string]string{"old": "1", "new": "2"} {
			if got, err := b.Get(t.Context(), key); string(got) != want {
				t.Errorf("%s: %q, %v", key, got, err)
			}
		}
		if got, err := r.Open([]byte("aad"), token); string(got) != "token" {
			t.Errorf("token: %q, %v", got, err)
		}
		if got, err := r.Derive("token-hash"); !bytes.Equal(got, hash) {
			t.Errorf("derived key changed: %v", err)
		}
		if got, _ := r.Derive("other"); bytes.Equal(got, hash) {
			t.Error("two purposes have one key")
		}
	}
	if _, err := OpenKeyring(record(t, ring, root), NewKey()); !errs.Is(err, errs.Failed) {
		t.Errorf("wrong root key: %v", err)
	}
}

func mustInfo(t *testing.T, r *Keyring) Info {
	t.Helper()
	i, err := r.Info()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// A stored record and a sealed token are never taken for one another.
func TestUsesAreApart(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	stored, _ := ring.appendRecord(nil, []byte("x"), []byte("v"))
	if _, err := ring.Open([]byte("x"), stored); !errs.Is(err, errs.Invalid) {
		t.Errorf("a record as token: %v", err)
	}
	token, _ := ring.Seal([]byte("x"), []byte("v"))
	if _, err := ring.openRecord([]byte("x"), bytes.Clone(token)); !errs.Is(err, errs.Failed) {
		t.Errorf("a token as record: %v", err)
	}
	if _, err := ring.Open([]byte("y"), token); !errs.Is(err, errs.Invalid) {
		t.Errorf("another aad: %v", err)
	}
	for n := range token {
		if _, err := ring.Open([]byte("x"), token[:n]); !errs.Is(err, errs.Invalid) {
			t.Errorf("cut to %d: %v", n, err)
		}
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	root := NewKey()
	active := newRing(t)
	standby, err := OpenKeyring(record(t, active, root), root)
	if err != nil {
		t.Fatal(err)
	}
	grow(t, active)
	sealed, _ := active.Seal(nil, []byte("new"))
	if _, err := standby.Open(nil, sealed); err == nil {
		t.Error("read with a term it does not have")
	}
	if err := standby.Reload(record(t, active, root), root); err != nil {
		t.Fatal(err)
	}
	if got, err := standby.Open(nil, sealed); string(got) != "new" {
		t.Errorf("after reload: %q, %v", got, err)
	}
	if got, want := mustInfo(t, standby), mustInfo(t, active); got != want {
		t.Errorf("info %+v, want %+v", got, want)
	}
	// Two nodes that made the same term apart must not go on.
	grow(t, active)
	grow(t, standby)
	if err := standby.Reload(record(t, active, root), root); !errs.Is(err, errs.Failed) {
		t.Errorf("another key for a term: %v", err)
	}
	if _, err := standby.Open(nil, sealed); err != nil {
		t.Errorf("after a refused reload: %v", err)
	}
}

func TestDroppedDraft(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	d, err := ring.Grow(epoch)
	if err != nil {
		t.Fatal(err)
	}
	d.Drop()
	if !bytes.Equal(d.fresh.key, make([]byte, KeyBytes)) {
		t.Error("the key of a dropped draft is not wiped")
	}
	if mustInfo(t, ring).Term != 1 {
		t.Error("a dropped draft counts")
	}
	d, _ = ring.Grow(epoch)
	ring.Wipe()
	if _, err := d.Record(NewKey()); !errors.Is(err, ErrSealed) {
		t.Errorf("record of a wiped ring: %v", err)
	}
	d.Install()
	if _, err := ring.Info(); !errors.Is(err, ErrSealed) {
		t.Error("installing a draft brought a wiped ring back")
	}
}

func TestDue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		rotation Rotation
		count    uint64
		age      time.Duration
		want     bool
	}{
		{"new", DefaultRotation(), 0, 0, false},
		{"old without interval", DefaultRotation(), 100, 1e6 * time.Hour, false},
		{"below the operations", Rotation{MaxOperations: 5e6}, 5e6 - 1, 0, false},
		{"at the operations", Rotation{MaxOperations: 5e6}, 5e6, 0, true},
		{"below the interval", Rotation{MaxOperations: 5e6, Interval: 24 * time.Hour}, 0, 24*time.Hour - 1, false},
		{"at the interval", Rotation{MaxOperations: 5e6, Interval: 24 * time.Hour}, 0, 24 * time.Hour, true},
		{"disabled", Rotation{Disabled: true, MaxOperations: 5e6, Interval: 24 * time.Hour}, 6e6, 48 * time.Hour, false},
		{"own limit by default", DefaultRotation(), 1 << 31, 0, true},
		{"own limit when disabled", Rotation{Disabled: true, MaxOperations: MaxOperations}, 1 << 31, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ring := newRing(t)
			d, err := ring.Configure(c.rotation)
			if err != nil {
				t.Fatal(err)
			}
			d.Install()
			ring.keys.Load().newest().count.Store(c.count)
			if got := ring.Due(epoch.Add(c.age)); got != c.want {
				t.Errorf("due %v, want %v", got, c.want)
			}
			root := NewKey()
			again, err := OpenKeyring(record(t, ring, root), root)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := again.Rotation(); got != c.rotation {
				t.Errorf("reopened with %+v, want %+v", got, c.rotation)
			}
			if got := again.Due(epoch.Add(c.age)); got != c.want {
				t.Errorf("reopened: due %v, want %v", got, c.want)
			}
		})
	}
}

// The hard end: no 2^32nd encryption under one key.
func TestUsedUpTerm(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	ring.keys.Load().newest().count.Store(maxPerTerm - 1)
	if _, err := ring.Seal(nil, nil); err != nil {
		t.Errorf("the last encryption: %v", err)
	}
	if _, err := ring.Seal(nil, nil); !errs.Is(err, errs.Failed) {
		t.Errorf("one too many: %v", err)
	}
	grow(t, ring)
	if _, err := ring.Seal(nil, nil); err != nil {
		t.Errorf("after rotation: %v", err)
	}
}

func TestKeysPrintNothing(t *testing.T) {
	t.Parallel()
	k := Key("0123456789abcdef0123456789abcdef")
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%s", "%x", "%q", "%#v", "%d", "%+v"} {
		fmt.Fprintf(&out, verb+" ", k)
		fmt.Fprintf(&out, verb+" ", struct{ K Key }{k})
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", k, "in", struct{ K Key }{k})
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "key", k)
	text, _ := json.Marshal(map[string]any{"k": k})
	out.Write(text)
	for _, leak := range []string{"0123", "3031", "MDEy", "48 49"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("printed: %s", out.String())
		}
	}
}

func FuzzDecodeKeys(f *testing.F) {
	root := NewKey()
	ring := newRing(f)
	grow(f, ring)
	plain, err := Unwrap(root, RecordKey, record(f, ring, root))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add(plain[:len(plain)-1])
	f.Add([]byte{})
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decodeKeys(b)
		if err != nil {
			if !errs.Is(err, errs.Failed) {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		again, err := k.record(root, RecordKey)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRecord(again, root, RecordKey); err != nil {
			t.Fatal(err)
		}
	})
}
