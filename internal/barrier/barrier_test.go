package barrier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newRing(t testing.TB) *Keyring {
	t.Helper()
	r, err := NewKeyring(epoch)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func grow(t testing.TB, r *Keyring) {
	t.Helper()
	d, err := r.Grow(epoch)
	if err != nil {
		t.Fatal(err)
	}
	d.Install()
}

func put(t testing.TB, b storage.Backend, key, value string) {
	t.Helper()
	if err := b.Apply(t.Context(), storage.Batch{{Kind: storage.Put, Key: key, Value: []byte(value)}}); err != nil {
		t.Fatal(err)
	}
}

// S3-29: a store behind the barrier is a store.
func TestContract(t *testing.T) {
	t.Parallel()
	storagetest.TestBackend(t, func(t *testing.T) storage.Backend {
		return New(storagetest.NewMap(), newRing(t))
	})
}

// S3-29: the storage is not trusted.
func TestStoreSeesNoContent(t *testing.T) {
	t.Parallel()
	inner := storagetest.NewMap()
	b := New(inner, newRing(t))
	put(t, b, "a", "the content")
	put(t, b, "b", "the content")
	var records [][]byte
	for _, key := range []string{"a", "b"} {
		record, err := inner.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(record, []byte("content")) {
			t.Errorf("%s lies in clear: %q", key, record)
		}
		records = append(records, record)
	}
	if bytes.Equal(records[0], records[1]) {
		t.Error("equal values have equal records")
	}
}

func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	inner := storagetest.NewMap()
	b := New(inner, newRing(t))
	put(t, b, "here", "the content")
	good, err := inner.Get(t.Context(), "here")
	if err != nil {
		t.Fatal(err)
	}
	check := func(name, key string, record []byte) {
		t.Helper()
		op := storage.Op{Kind: storage.Put, Key: key, Value: record}
		if err := inner.Apply(t.Context(), storage.Batch{op}); err != nil {
			t.Fatal(err)
		}
		value, err := b.Get(t.Context(), key)
		if !errs.Is(err, errs.Failed) || value != nil {
			t.Errorf("%s: got %q, %v", name, value, err)
			return
		}
		if !strings.Contains(err.Error(), fmt.Sprintf("%q", key)) || strings.Contains(err.Error(), "content") {
			t.Errorf("%s: the error is %q", name, err)
		}
	}
	check("moved", "there", good)
	for n := range good {
		check(fmt.Sprintf("cut to %d", n), "here", good[:n])
		altered := bytes.Clone(good)
		altered[n] ^= 0x10
		check(fmt.Sprintf("byte %d altered", n), "here", altered)
	}
	check("longer", "here", append(bytes.Clone(good), 0))
}

func TestClearAreaIsOutOfReach(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	inner := storagetest.NewMap()
	put(t, inner, "seal/config", "clear")
	b := New(inner, newRing(t))
	for _, key := range []string{"a", "seal", "seal0", "z"} {
		put(t, b, key, "v")
	}
	for _, op := range []storage.Op{
		{Kind: storage.Put, Key: "seal/config"},
		{Kind: storage.Delete, Key: "seal/config"},
		{Kind: storage.DeletePrefix, Key: "seal/c"},
		{Kind: storage.DeletePrefix, Key: "seal/"},
	} {
		if err := b.Apply(ctx, storage.Batch{op}); !errors.Is(err, storage.ErrNotApplied) {
			t.Errorf("%+v: %v", op, err)
		}
	}
	if _, err := b.Get(ctx, "seal/config"); err == nil {
		t.Error("Get went through")
	}
	if _, err := b.Scan(ctx, storage.ScanOptions{Prefix: "seal/"}); err == nil {
		t.Error("Scan went through")
	}
	if got := keysOf(t, b, "", ""); got != "a seal seal0 z" {
		t.Errorf("a scan of all shows %q", got)
	}
	if got := keysOf(t, b, "s", "seal/a"); got != "seal0" {
		t.Errorf("a scan from within shows %q", got)
	}
	if err := b.Apply(ctx, storage.Batch{{Kind: storage.DeletePrefix}}); err != nil {
		t.Fatal(err)
	}
	if got := keysOf(t, inner, "", ""); got != "seal/config" {
		t.Errorf("deleting all leaves %q", got)
	}
}

func keysOf(t *testing.T, r storage.Reader, prefix, from string) string {
	t.Helper()
	it, err := r.Scan(t.Context(), storage.ScanOptions{Prefix: prefix, From: from, KeysOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = it.Close() }()
	var keys []string
	for it.Next() {
		keys = append(keys, string(it.Key()))
	}
	return strings.Join(keys, " ")
}

func TestWipedRing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	ring := newRing(t)
	b := New(storagetest.NewMap(), ring)
	put(t, b, "a", "v")
	ring.Wipe()
	ring.Wipe()
	if _, err := b.Get(ctx, "a"); !errors.Is(err, ErrSealed) {
		t.Errorf("Get: %v", err)
	}
	err := b.Apply(ctx, storage.Batch{{Kind: storage.Put, Key: "b"}})
	if !errors.Is(err, storage.ErrNotApplied) || !errs.Is(err, errs.Sealed) {
		t.Errorf("Apply: %v", err)
	}
	if got := keysOf(t, b, "", ""); got != "a" { // keys alone need no decryption
		t.Errorf("keys: %q", got)
	}
	if _, err := ring.Seal(nil, nil); !errors.Is(err, ErrSealed) {
		t.Errorf("Seal: %v", err)
	}
	if _, err := ring.Derive("x"); !errors.Is(err, ErrSealed) {
		t.Errorf("Derive: %v", err)
	}
	if _, err := ring.Grow(epoch); !errors.Is(err, ErrSealed) {
		t.Errorf("Grow: %v", err)
	}
}

// Rotation, reading and writing at the same time, then sealing in the middle.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	b := New(storagetest.NewMap(), ring)
	put(t, b, "k", "v")
	var work sync.WaitGroup
	for i := range 4 {
		work.Go(func() {
			for n := range 300 {
				if i == 0 && n%20 == 0 {
					d, err := ring.Grow(epoch)
					if err != nil {
						return
					}
					if _, err := d.Record(NewKey()); err != nil {
						return
					}
					d.Install()
				}
				if v, err := b.Get(context.Background(), "k"); err == nil && string(v) != "v" {
					t.Errorf("read %q", v)
				} else if err != nil && !errors.Is(err, ErrSealed) {
					t.Error(err)
				}
				if i == 3 && n == 250 {
					ring.Wipe()
				}
				_, _ = ring.Seal([]byte("x"), []byte("y"))
				_, _ = ring.Derive("x")
			}
		})
	}
	work.Wait()
}

func FuzzRecord(f *testing.F) {
	ring := newRing(f)
	grow(f, ring)
	good, err := ring.appendRecord(nil, []byte("key"), []byte("value"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("key"), bytes.Clone(good))
	f.Add([]byte("other"), bytes.Clone(good))
	f.Add([]byte("key"), good[:10])
	f.Add([]byte(""), []byte{})
	f.Fuzz(func(t *testing.T, key, record []byte) {
		same := bytes.Equal(record, good) && string(key) == "key"
		value, err := ring.openRecord(key, bytes.Clone(record))
		if same != (err == nil) {
			t.Fatalf("key %q record %x: %q, %v", key, record, value, err)
		}
	})
}

func BenchmarkApply(b *testing.B) {
	for _, size := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			bar := New(discard{}, newRing(b))
			batch := storage.Batch{{Kind: storage.Put, Key: "logical/0123456789abcdef/secret/path", Value: make([]byte, size)}}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := bar.Apply(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	for _, size := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			const key = "logical/0123456789abcdef/secret/path"
			ring := newRing(b)
			record, err := ring.appendRecord(nil, []byte(key), make([]byte, size))
			if err != nil {
				b.Fatal(err)
			}
			bar := New(discard{record: record}, ring)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bar.Get(b.Context(), key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// discard is a store that keeps nothing and always answers a copy of record.
type discard struct {
	storage.Backend
	record []byte
}

func (discard) Apply(context.Context, storage.Batch) error { return nil }

func (d discard) Get(context.Context, string) ([]byte, error) { return bytes.Clone(d.record), nil }
