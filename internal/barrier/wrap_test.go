package barrier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// newWrapped is a keyring that wraps.
func newWrapped(t testing.TB) *Keyring {
	t.Helper()
	r := newRing(t)
	w, err := NewWrapKeyring(epoch)
	if err != nil {
		t.Fatal(err)
	}
	r.UseWrap(w, true)
	return r
}

// wrapAll asks for all values to be wrapped.
type wrapAll struct{ storage.Backend }

func (w wrapAll) Apply(ctx context.Context, b storage.Batch) error {
	for i := range b {
		b[i].Wrap = b[i].Kind == storage.Put
	}
	return w.Backend.Apply(ctx, b)
}

func putWrapped(t testing.TB, b storage.Backend, key, value string) {
	t.Helper()
	put(t, wrapAll{b}, key, value)
}

func rawOf(t testing.TB, b storage.Backend, key string) []byte {
	t.Helper()
	record, err := b.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// S3-29: a store of which all is wrapped is a store.
func TestWrappedContract(t *testing.T) {
	t.Parallel()
	storagetest.TestBackend(t, func(t *testing.T) storage.Backend {
		return wrapAll{New(storagetest.NewMap(), newWrapped(t))}
	})
}

// What the keyring alone gives of a wrapped value is not the value.
func TestKeyringAloneGivesNothing(t *testing.T) {
	t.Parallel()
	inner, ring := storagetest.NewMap(), newWrapped(t)
	b := New(inner, ring)
	putWrapped(t, b, "a", "the content")
	put(t, b, "b", "the content")
	for key, wrapped := range map[string]bool{"a": true, "b": false} {
		record := rawOf(t, inner, key)
		if is := record[0] == wrappedVersion; is != wrapped || bytes.Contains(record, []byte("content")) {
			t.Errorf("%s lies as %q", key, record)
		}
		if got, err := b.Get(t.Context(), key); err != nil || string(got) != "the content" {
			t.Errorf("%s: %q, %v", key, got, err)
		}
	}
	plain, err := ring.openOuter([]byte("a"), rawOf(t, inner, "a"))
	if err != nil || len(plain) == 0 || bytes.Contains(plain, []byte("content")) {
		t.Errorf("the keyring alone gives %q, %v", plain, err)
	}
	// The same keyring without the seal-wrap keyring.
	root := NewKey()
	alone, err := OpenKeyring(record(t, ring, root), root)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := New(inner, alone).Get(t.Context(), "a"); !errors.Is(err, ErrNoWrapKey) || got != nil {
		t.Errorf("without the seal-wrap keyring: %q, %v", got, err)
	}
	if got, err := New(inner, alone).Get(t.Context(), "b"); err != nil || string(got) != "the content" {
		t.Errorf("what is not wrapped, without it: %q, %v", got, err)
	}
}

func TestDamagedWrappedRecords(t *testing.T) {
	t.Parallel()
	inner := storagetest.NewMap()
	b := New(inner, newWrapped(t))
	putWrapped(t, b, "here", "the content")
	put(t, b, "plain", "the content")
	good, plain := rawOf(t, inner, "here"), rawOf(t, inner, "plain")
	check := func(name, key string, record []byte) {
		t.Helper()
		put(t, inner, key, string(record))
		value, err := b.Get(t.Context(), key)
		if !errs.Is(err, errs.Failed) || value != nil || bytes.Contains([]byte(err.Error()), []byte("content")) {
			t.Errorf("%s: got %q, %v", name, value, err)
		}
	}
	check("moved", "there", good)
	check("said to be not wrapped", "here", append([]byte{recordVersion}, good[1:]...))
	check("said to be wrapped", "plain", append([]byte{wrappedVersion}, plain[1:]...))
	for n := range good {
		check(fmt.Sprintf("cut to %d", n), "here", good[:n])
		altered := bytes.Clone(good)
		altered[n] ^= 0x10
		check(fmt.Sprintf("byte %d altered", n), "here", altered)
	}
	check("longer", "here", append(bytes.Clone(good), 0))
}

// The inner layer is bound to the key by itself: who has the keyring's keys cannot exchange wrapped values.
func TestInnerLayerIsBound(t *testing.T) {
	t.Parallel()
	inner, ring := storagetest.NewMap(), newWrapped(t)
	b := New(inner, ring)
	putWrapped(t, b, "a", "the content")
	layer, err := ring.openOuter([]byte("a"), rawOf(t, inner, "a"))
	if err != nil {
		t.Fatal(err)
	}
	term, err := ring.take()
	if err != nil {
		t.Fatal(err)
	}
	for name, layer := range map[string][]byte{"another key's": layer, "wrapped twice": rawOf(t, inner, "a"), "empty": {}} {
		put(t, inner, "b", string(term.append(nil, wrappedVersion, term.storage, wrappedData([]byte("b")), layer)))
		if got, err := b.Get(t.Context(), "b"); !errs.Is(err, errs.Failed) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestWrapping(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	inner, ring := storagetest.NewMap(), newRing(t)
	b := New(inner, ring)
	unlike := func(key string) bool {
		t.Helper()
		is, err := ring.Unlike(key, rawOf(t, inner, key))
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	putWrapped(t, b, "before", "v")
	if unlike("before") {
		t.Error("a value is to be wrapped where nothing wraps")
	}
	w, err := NewWrapKeyring(epoch)
	if err != nil {
		t.Fatal(err)
	}
	ring.UseWrap(nil, true)
	err = wrapAll{b}.Apply(ctx, storage.Batch{{Kind: storage.Put, Key: "lacking", Value: []byte("v")}})
	if !errors.Is(err, storage.ErrNotApplied) || !errs.Is(err, errs.Unavailable) {
		t.Errorf("write without the key: %v", err)
	}
	ring.UseWrap(w, true)
	putWrapped(t, b, "wrapped", "v")
	if !unlike("before") || unlike("wrapped") {
		t.Errorf("unlike: before %t, wrapped %t", unlike("before"), unlike("wrapped"))
	}
	grow(t, w)
	grow(t, ring)
	if !unlike("wrapped") {
		t.Error("a value under an older version is as it would be written")
	}
	putWrapped(t, b, "newer", "v")
	if unlike("newer") {
		t.Error("a value under the newest version is not as it would be written")
	}
	ring.SetWrapping(false)
	putWrapped(t, b, "after", "v")
	if !unlike("newer") || unlike("after") || unlike("before") {
		t.Error("where values are no longer wrapped")
	}
	for _, key := range []string{"before", "wrapped", "newer", "after"} {
		if got, err := b.Get(ctx, key); err != nil || string(got) != "v" {
			t.Errorf("%s: %q, %v", key, got, err)
		}
	}
	// Another one takes its place, and the first is wiped.
	other, err := NewWrapKeyring(epoch)
	if err != nil {
		t.Fatal(err)
	}
	ring.UseWrap(other, true)
	if _, err := w.Info(); !errors.Is(err, ErrSealed) {
		t.Errorf("the keyring that was replaced: %v", err)
	}
	if _, err := b.Get(ctx, "wrapped"); !errs.Is(err, errs.Failed) {
		t.Errorf("under another seal-wrap key: %v", err)
	}
	ring.Wipe()
	if _, err := other.Info(); !errors.Is(err, ErrSealed) {
		t.Errorf("the seal-wrap keyring of a wiped one: %v", err)
	}
	late, err := NewWrapKeyring(epoch)
	if err != nil {
		t.Fatal(err)
	}
	ring.UseWrap(late, true)
	if _, err := late.Info(); !errors.Is(err, ErrSealed) {
		t.Errorf("given to a wiped one: %v", err)
	}
	if _, err := b.Get(ctx, "wrapped"); !errors.Is(err, ErrSealed) {
		t.Errorf("read of a wiped one: %v", err)
	}
}

// The records of the two keyrings are bound to their places.
func TestWrapRecord(t *testing.T) {
	t.Parallel()
	w, err := NewWrapKeyring(epoch)
	if err != nil {
		t.Fatal(err)
	}
	key := NewKey()
	rec := record(t, w, key)
	if _, err := OpenWrapKeyring(rec, key); err != nil {
		t.Error(err)
	}
	if _, err := OpenKeyring(rec, key); !errs.Is(err, errs.Failed) {
		t.Errorf("as the keyring: %v", err)
	}
	if _, err := OpenWrapKeyring(record(t, newRing(t), key), key); !errs.Is(err, errs.Failed) {
		t.Errorf("the keyring as that: %v", err)
	}
	if w.RecordKey() != WrapRecordKey || newRing(t).RecordKey() != RecordKey {
		t.Error("places of the records")
	}
}

func FuzzWrappedRecord(f *testing.F) {
	ring := newWrapped(f)
	grow(f, ring)
	grow(f, ring.WrapRing())
	op := storage.Op{Kind: storage.Put, Key: "key", Value: []byte("value"), Wrap: true}
	good, err := ring.appendOp(nil, []byte("key"), &op)
	if err != nil {
		f.Fatal(err)
	}
	layer, err := ring.openOuter([]byte("key"), bytes.Clone(good))
	if err != nil {
		f.Fatal(err)
	}
	layer = bytes.Clone(layer)
	f.Add([]byte("key"), bytes.Clone(good), bytes.Clone(layer))
	f.Add([]byte("other"), bytes.Clone(good), bytes.Clone(layer))
	f.Add([]byte("key"), good[:40], layer[:10])
	f.Add([]byte(""), []byte{wrappedVersion}, []byte{wrappedVersion})
	f.Fuzz(func(t *testing.T, key, record, inner []byte) {
		if len(record) > 0 {
			record[0] = wrappedVersion
		}
		same := bytes.Equal(record, good) && string(key) == "key"
		if value, err := ring.openRecord(key, bytes.Clone(record)); same != (err == nil) {
			t.Fatalf("key %q record %x: %q, %v", key, record, value, err)
		}
		if _, err := ring.Unlike(string(key), bytes.Clone(record)); len(record) > 0 && same != (err == nil) {
			t.Fatalf("unlike: key %q record %x: %v", key, record, err)
		}
		// What somebody with the keyring's keys may have made.
		same = bytes.Equal(inner, layer) && string(key) == "key"
		if value, err := ring.WrapRing().openInner(key, bytes.Clone(inner)); same != (err == nil) {
			t.Fatalf("key %q inner %x: %q, %v", key, inner, value, err)
		}
		term, err := ring.take()
		if err != nil {
			t.Fatal(err)
		}
		made := term.append(nil, wrappedVersion, term.storage, wrappedData(key), inner)
		if value, err := ring.openRecord(key, made); same != (err == nil) {
			t.Fatalf("made: key %q inner %x: %q, %v", key, inner, value, err)
		}
	})
}

func BenchmarkWrapped(b *testing.B) {
	for _, wrapped := range []bool{false, true} {
		b.Run(fmt.Sprintf("wrapped=%t", wrapped), func(b *testing.B) {
			ring := newWrapped(b)
			op := storage.Op{Kind: storage.Put, Key: "n/root/m/0123/d/key", Value: make([]byte, 512), Wrap: wrapped}
			key, out := []byte(op.Key), make([]byte, 0, 1024)
			record, err := ring.appendOp(nil, key, &op)
			if err != nil {
				b.Fatal(err)
			}
			b.Run("write", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := ring.appendOp(out, key, &op); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("read", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := ring.openRecord(key, append(out, record...)); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
