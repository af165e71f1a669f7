package keyring

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// exampleKey has what records of keys can have.
func exampleKey(t testing.TB, s Spec, inside bool) (*Key, *stored) {
	t.Helper()
	k := &Key{
		Form: jsonForm, Name: "k", Spec: s, Derived: true, BackupAllowed: true, SoftDeleted: true, RotationAllowed: true, Latest: 7, MinDecryption: 3, MinEncryption: 5,
		MinAvailable: 2, AutoRotate: 90 * time.Minute, Created: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Rotated: time.Date(1960, 1, 2, 3, 4, 5, 999_999_999, time.UTC),
		Meta: map[string]string{"by": "somebody", "": "empty", "none": ""},
	}
	if err := k.Check(); err != nil {
		t.Fatal(err)
	}
	m, err := Generate(k.Spec)
	if err != nil {
		t.Fatal(err)
	}
	st := &stored{Form: jsonForm, Spec: k.Spec, Material: *m, Created: k.Rotated.Add(time.Second), Chain: [][]byte{[]byte("one"), []byte("two")}}
	if inside {
		v, err := newVersion(k.Latest, st)
		if err != nil {
			t.Fatal(err)
		}
		k.newest = hold(v)
	}
	return k, st
}

// sameKey compares all that is kept.
func sameKey(a, b *Key) bool {
	c, d := *a, *b
	c.newest, d.newest, c.Name, d.Name = nil, nil, "", ""
	if !reflect.DeepEqual(c, d) || (a.newest == nil) != (b.newest == nil) {
		return false
	}
	v, w := a.newest.get(), b.newest.get()
	return v == nil || v.Number == w.Number && reflect.DeepEqual(v.stored(), w.stored())
}

// Records are read as they were written, and those of the older form, too. What is cut or
// has more than it should is refused.
func TestRecords(t *testing.T) {
	t.Parallel()
	outside := &stored{Form: jsonForm, Spec: Spec{Type: Managed}, Material: Material{Public: []byte("p"), Outside: &Outside{ID: "i", Ref: "r", OAEP: 5}}}
	if back, ok := parseVersion(outside.encode()); !ok || !reflect.DeepEqual(outside, back) {
		t.Errorf("a managed key: %v", ok)
	}
	for _, s := range specs() {
		for _, inside := range []bool{true, false} {
			k, st := exampleKey(t, s, inside)
			for n := range len(k.encode()) {
				if _, ok := parseKey(k.encode()[:n]); ok {
					t.Errorf("%v: %d bytes are a key", s, n)
				}
			}
			if _, ok := parseKey(append(k.encode(), 0)); ok {
				t.Errorf("%v: more than a key is a key", s)
			}
			if back, ok := parseKey(k.encode()); !ok || !sameKey(k, back) {
				t.Errorf("%v came back as %+v, %v", s, back, ok)
			}
			old, err := json.Marshal(k)
			if err != nil {
				t.Fatal(err)
			}
			bare := *k
			bare.newest = nil
			if back, ok := parseKey(old); !ok || !sameKey(&bare, back) {
				t.Errorf("the older form of %v came back as %+v, %v", s, back, ok)
			}
			raw := st.encode()
			for n := range len(raw) {
				if _, ok := parseVersion(raw[:n]); ok {
					t.Errorf("%v: %d bytes are a version", s, n)
				}
			}
			if _, ok := parseVersion(append(raw, 0)); ok {
				t.Errorf("%v: more than a version is a version", s)
			}
			if old, err = json.Marshal(st); err != nil {
				t.Fatal(err)
			}
			for _, record := range [][]byte{raw, old} {
				if back, ok := parseVersion(record); !ok || !reflect.DeepEqual(st, back) {
					t.Errorf("a version of %v came back as %+v, %v", s, back, ok)
				}
			}
		}
	}
	for _, record := range []string{"", "\x03", "{", `{"v":2}`} {
		if _, ok := parseKey([]byte(record)); ok {
			t.Errorf("%q is a key", record)
		}
		if _, ok := parseVersion([]byte(record)); ok {
			t.Errorf("%q is a version", record)
		}
	}
}

// The numbers of types in records do not change, and every type has one.
func TestTypeNumbers(t *testing.T) {
	t.Parallel()
	want := "aes128-gcm96 aes256-gcm96 chacha20-poly1305 xchacha20-poly1305 ed25519 ecdsa-p256 ecdsa-p384 ecdsa-p521 rsa-2048 rsa-3072 rsa-4096 hmac " +
		"aes128-cmac aes192-cmac aes256-cmac ml-dsa hybrid ml-kem-768 ml-kem-1024 ml-kem-768-x25519 managed_key"
	if got := strings.Trim(fmt.Sprint(typeNumbers), "[]"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, s := range specs() {
		if numberOf(s.Type) == 0 {
			t.Errorf("%s has no number", s.Type)
		}
	}
}

func FuzzKeyRecord(f *testing.F) {
	for _, s := range specs() {
		k, _ := exampleKey(f, s, true)
		f.Add(k.encode())
	}
	k, _ := exampleKey(f, Spec{Type: AES256GCM}, false)
	old, err := json.Marshal(k)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.encode())
	f.Add(old)
	f.Fuzz(func(t *testing.T, record []byte) {
		k, size, err := decodeKey("k/a", record)
		if err != nil {
			return
		}
		if size < len(record) {
			t.Errorf("%d bytes take %d", len(record), size)
		}
		if !k.Type.Known() || k.EC != "" && !k.EC.Known() {
			return // only JSON has such types
		}
		if back, _, err := decodeKey("k/a", k.encode()); err != nil || !sameKey(inUTC(k), back) {
			t.Fatalf("%x came back as %+v, %v", record, back, err)
		}
	})
}

// inUTC is k with the times as records have them.
func inUTC(k *Key) *Key {
	out := *k
	out.Form, out.Created, out.Rotated = jsonForm, k.Created.UTC(), k.Rotated.UTC()
	if len(out.Meta) == 0 {
		out.Meta = nil
	}
	return &out
}

func FuzzVersionRecord(f *testing.F) {
	for _, s := range specs() {
		_, st := exampleKey(f, s, true)
		f.Add(st.encode())
	}
	_, st := exampleKey(f, Spec{Type: AES256GCM}, false)
	old, err := json.Marshal(st)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(old)
	f.Fuzz(func(t *testing.T, record []byte) {
		v, _, err := decodeVersion("v/a/0000002a", record)
		if err != nil {
			return
		}
		if v.Number != 42 {
			t.Errorf("version %d", v.Number)
		}
		back, _, err := decodeVersion("v/a/0000002a", v.stored().encode())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.m.Secret, v.m.Secret) || !bytes.Equal(back.HMACKey(), v.HMACKey()) || !back.Created.Equal(v.Created) || len(back.Chain) != len(v.Chain) {
			t.Fatalf("%x came back as another", record)
		}
	})
}

// A counting backend counts the keys that are read from it, and the writes.
type counting struct {
	storage.Backend

	reads, writes atomic.Int64
}

type countingSnapshot struct {
	storage.Snapshot

	of *counting
}

func (c *counting) Snapshot(ctx context.Context) (storage.Snapshot, error) {
	s, err := c.Backend.Snapshot(ctx)
	return countingSnapshot{s, c}, err
}

func (c *counting) Apply(ctx context.Context, b storage.Batch) error {
	c.writes.Add(int64(len(b)))
	return c.Backend.Apply(ctx, b)
}

func (s countingSnapshot) Get(ctx context.Context, key string) ([]byte, error) {
	s.of.reads.Add(1)
	return s.Snapshot.Get(ctx, key)
}

// A key that is in no cache costs one read of the store, and one read and one record when it
// is made; what its older versions have sealed, two.
func TestReads(t *testing.T) {
	t.Parallel()
	store := &counting{Backend: storagetest.NewMap()}
	b := &bench{t: t, db: storage.Open(store, storage.Config{}), ring: New(), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	t.Cleanup(func() {
		if err := b.db.Close(); err != nil {
			t.Error(err)
		}
	})
	expect := func(what string, reads, writes int64) {
		t.Helper()
		if r, w := store.reads.Swap(0), store.writes.Swap(0); r != reads || w != writes {
			t.Errorf("%s: %d reads and %d writes, want %d and %d", what, r, w, reads, writes)
		}
	}
	seal := func(name string, n int) func(tx storage.Tx) error {
		return func(tx storage.Tx) error {
			k, err := b.ring.Get(tx.Sub("m/"), name)
			if err != nil {
				return err
			}
			v, err := b.ring.Version(tx.Sub("m/"), k, n)
			if err != nil {
				return err
			}
			_, err = k.Encrypt(v, nil, []byte("x"), CryptOptions{})
			return err
		}
	}
	for _, s := range []Spec{{Type: AES256GCM}, {Type: ChaCha20}} {
		name := string(s.Type)
		store.reads.Store(0)
		store.writes.Store(0)
		b.create(Key{Name: name, Spec: s})
		expect("create", 1, 1)
		b.ring = New() // nothing is in a cache
		if err := b.db.View(t.Context(), seal(name, 1)); err != nil {
			t.Fatal(err)
		}
		expect("use", 1, 0)
		if err := b.db.View(t.Context(), seal(name, 1)); err != nil {
			t.Fatal(err)
		}
		expect("use again", 0, 0)
		for range 3 {
			b.ring = New()
			b.rotate(name)
			expect("rotate", 1, 2)
		}
		for n, reads := range map[int]int64{4: 1, 1: 2, 3: 2} {
			b.ring = New()
			if err := b.db.View(t.Context(), seal(name, n)); err != nil {
				t.Fatal(err)
			}
			expect(fmt.Sprint("version ", n), reads, 0)
		}
	}
}

// older rewrites a key into the form of older versions of arca.
func older(tx storage.Tx, r *Ring, name string) error {
	k, err := r.Get(tx, name)
	if err != nil {
		return err
	}
	versions := map[int]*stored{}
	err = r.each(tx, k, 1, MaxVersions, func(n int, s *stored) error {
		versions[n] = s
		return nil
	})
	if err != nil {
		return err
	}
	for n, s := range versions {
		if err := storage.PutJSON(tx, versionKey(name, n), s); err != nil {
			return err
		}
	}
	return storage.PutJSON(tx, keyDir+name, k)
}

// olderRecords are a key with three versions, as arca kept it until November 2026.
func olderRecords() map[string]string {
	return map[string]string{
		"k/old":          `{"v":1,"type":"aes256-gcm96","exportable":true,"latest":3,"min_decryption":1,"min_encryption":0,"min_available":0,"created":"2026-01-02T03:04:05Z","rotated":"2026-01-02T03:04:05Z","meta":{"by":"somebody"}}`,
		"v/old/00000001": `{"v":1,"type":"aes256-gcm96","key":"oM/mEW0fm1+baKPGknplsgUTUQnZBoJxY0lW8P9wdFw=","hmac":"gv8Ur06BEJG8mjTFk2QoBP13071NZCcXiupbFZrIAN0=","created":"2026-01-02T03:04:05Z"}`,
		"v/old/00000002": `{"v":1,"type":"aes256-gcm96","key":"lk5VnOxzKWEa1D1OfrM9myfIEn0AfZ7Rb/fOYbQFz8U=","hmac":"WW1Ys2g1qkL9AFgZ+eS3u5DvYgK4vggJMwxlBYIYhug=","created":"2026-01-02T03:04:05Z"}`,
		"v/old/00000003": `{"v":1,"type":"aes256-gcm96","key":"dGORzLIW/OPIxHEkah1CtQFDxV5NP8bYCJS3E9r19fw=","hmac":"VOQWFXTnIuBsA2AFVvuwYt8j0UvpM8WHoLjdV/r+o+A=","created":"2026-01-02T03:04:05Z"}`,
	}
}

// olderSealed is what its versions have made of "text 1", "text 2" and "text 3".
func olderSealed() map[int]string {
	return map[int]string{
		1: "AZxh6QkVSBDpFKBfUNl/XqJYZjXDsOYuTv2yZSMa8besvw==",
		2: "+zeHWJZk65RDPeFAoRV/zVlWevUPd+jtM6g3zwDCAssTVg==",
		3: "weWL32vSNzFt65pEDvAEkKeyMyOEoqnSwPioP/M+f/zCTw==",
	}
}

// A store that an older version of arca wrote (these are its records) is read; it goes over
// to today's form when it is written.
func TestOlderForm(t *testing.T) {
	t.Parallel()
	for what, write := range map[string]func(b *bench, tx storage.Tx, k *Key) (*Key, error){
		"nothing": func(_ *bench, _ storage.Tx, k *Key) (*Key, error) { return k, nil },
		"settings": func(b *bench, tx storage.Tx, k *Key) (*Key, error) {
			next := *k
			next.DeletionAllowed = true
			return &next, b.ring.Put(tx, &next)
		},
		"settings, with what was read before": func(b *bench, tx storage.Tx, k *Key) (*Key, error) {
			next := *k
			return k, b.ring.Put(tx, &next)
		},
		"rotation": func(b *bench, tx storage.Tx, k *Key) (*Key, error) {
			m, err := Generate(k.Spec)
			if err != nil {
				return nil, err
			}
			return b.ring.Rotate(tx, k, m, b.now)
		},
		"trim": func(b *bench, tx storage.Tx, k *Key) (*Key, error) { return b.ring.Trim(tx, k, 2) },
	} {
		b := newBench(t)
		check := func(tx storage.Tx, k *Key) error {
			for n, sealed := range olderSealed() {
				v, err := b.ring.Version(tx, k, n)
				if err != nil {
					if what == "trim" && n == 1 && errors.Is(err, ErrVersion) {
						continue
					}
					return fmt.Errorf("%s: version %d: %w", what, n, err)
				}
				raw, err := base64.StdEncoding.DecodeString(sealed)
				if err != nil {
					return err
				}
				if got, err := k.Decrypt(v, raw, CryptOptions{}); err != nil || string(got) != fmt.Sprint("text ", n) {
					return fmt.Errorf("%s: version %d: %q, %w", what, n, got, err)
				}
			}
			infos, err := b.ring.Infos(tx, k, k.Latest, 10)
			if len(infos) != 1 || infos[0].Number != k.Latest || !infos[0].Private {
				return fmt.Errorf("%s: infos of the newest: %+v", what, infos)
			}
			return err
		}
		b.update(func(tx storage.Tx) error {
			for at, record := range olderRecords() {
				if err := tx.Put(at, []byte(record)); err != nil {
					return err
				}
			}
			return nil
		})
		b.update(func(tx storage.Tx) error {
			k, err := b.ring.Get(tx, "old")
			if err != nil {
				return err
			}
			if err := check(tx, k); err != nil {
				return err
			}
			if k, err = write(b, tx, k); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			return check(tx, k)
		})
		b.update(func(tx storage.Tx) error {
			k, err := b.ring.Get(tx, "old")
			if err != nil {
				return err
			}
			if (k.newest != nil) != (what != "nothing") || k.Meta["by"] != "somebody" || !k.Exportable {
				t.Errorf("%s: %+v", what, k)
			}
			return check(tx, k)
		})
	}
}

// Who goes on with a key that has another newest version meanwhile loses none.
func TestStale(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	first := b.create(Key{Name: "k", Spec: Spec{Type: AES256GCM}})
	b.rotate("k")
	m, err := Generate(first.Spec)
	if err != nil {
		t.Fatal(err)
	}
	b.update(func(tx storage.Tx) error {
		next := *first
		if err := b.ring.Put(tx, &next); err == nil {
			t.Error("settings of before the rotation are stored")
		}
		if _, err := b.ring.Add(tx, first, m, b.now); err == nil {
			t.Error("version 2 is replaced")
		}
		next.Name = "other"
		if err := b.ring.Put(tx, &next); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("settings of a key that does not exist: %v", err)
		}
		return nil
	})
	if k := b.rotate("k"); k.Latest != 3 {
		t.Errorf("latest is %d", k.Latest)
	}
}

// Material shows in no format, no JSON, no log and no error.
func TestHidden(t *testing.T) {
	t.Parallel()
	for _, s := range specs() {
		k, st := exampleKey(t, s, true)
		record := k.encode()
		_, _, wrong := decodeKey("k/a", append(record, 0))
		_, _, wrongVersion := decodeVersion("v/a/00000001", append(st.encode(), 0))
		var out bytes.Buffer
		newest := k.newest.get()
		for _, v := range []any{k, *k, newest, []*Version{newest}, map[string]*Key{"k": k}, struct{ k *Key }{k}, wrong, wrongVersion} {
			for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
				fmt.Fprintf(&out, format+"\n", v)
			}
			text, err := json.Marshal(v)
			if err != nil {
				t.Error(err)
			}
			out.Write(text)
			slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		}
		shown := out.String()
		for what, secret := range map[string][]byte{"secret": st.Secret, "hmac": st.HMAC, "second": st.SecondSecret} {
			if len(secret) == 0 {
				continue
			}
			coded := base64.StdEncoding.EncodeToString(secret)[:12]
			secret = secret[len(secret)-8:]
			plain := strings.Trim(fmt.Sprintf("%d", secret), "[]")
			for _, text := range []string{
				string(secret), hex.EncodeToString(secret), plain, coded,
				strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", secret), "[]byte{"), "}"),
			} {
				if strings.Contains(shown, text) {
					t.Errorf("%v: the %s shows", s, what)
				}
			}
		}
	}
}

// The cache is told how much memory a key takes: not much less than it does, or it grows above
// its bound.
func TestMemory(t *testing.T) { //nolint:paralleltest // others would count, too
	for _, s := range []Spec{{Type: AES256GCM}, {Type: ChaCha20}, {Type: HMAC, SizeBytes: 512}} {
		k, st := exampleKey(t, s, true)
		k.Meta = map[string]string{"created_by": strings.Repeat("0123456789abcdef", 4)}
		record, version := k.encode(), st.encode()
		took := map[string][2]int{}
		const n = 4000
		keys, versions := make([]*Key, n), make([]*Version, n)
		took["a key"] = measured(t, n, func(i int) (size int, err error) {
			keys[i], size, err = decodeKey("k/a", bytes.Clone(record))
			if err == nil && s.Type != HMAC {
				_, err = keys[i].newest.get().aead()
			}
			return size, err
		})
		took["a version"] = measured(t, n, func(i int) (size int, err error) {
			versions[i], size, err = decodeVersion("v/a/00000001", bytes.Clone(version))
			if err == nil && s.Type != HMAC {
				_, err = versions[i].aead()
			}
			return size, err
		})
		runtime.KeepAlive(keys)
		runtime.KeepAlive(versions)
		for what, got := range took {
			if takes, told := got[0], got[1]; told < takes*9/10 || told > 3*takes {
				t.Errorf("%s: %s takes %d bytes, the cache is told %d", s.Type, what, takes, told)
			}
		}
	}
}

// measured is how many bytes one of n things takes, and how many it says.
func measured(t *testing.T, n int, decode func(i int) (size int, err error)) [2]int {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	told := 0
	for i := range n {
		var err error
		if told, err = decode(i); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	return [2]int{(int(after.HeapAlloc) - int(before.HeapAlloc)) / n, told}
}
