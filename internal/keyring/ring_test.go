package keyring

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"testing"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
)

// A bench is a ring over a store in memory.
type bench struct {
	t    testing.TB
	db   *storage.DB
	ring *Ring
	now  time.Time
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, db: storage.Open(storagetest.NewMap(), storage.Config{}), ring: New(), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	t.Cleanup(func() {
		if err := b.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) update(fn func(tx storage.Tx) error) {
	b.t.Helper()
	if err := b.db.Update(context.Background(), func(tx storage.Tx) error { return fn(tx.Sub("m/")) }); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) create(k Key) (out *Key) {
	b.t.Helper()
	b.update(func(tx storage.Tx) error {
		m, err := Generate(k.Spec)
		if err != nil {
			return err
		}
		out, err = b.ring.Create(tx, k, m, b.now)
		return err
	})
	return out
}

func (b *bench) rotate(name string) (out *Key) {
	b.t.Helper()
	b.update(func(tx storage.Tx) error {
		k, err := b.ring.Get(tx, name)
		if err != nil {
			return err
		}
		m, err := Generate(k.Spec)
		if err != nil {
			return err
		}
		out, err = b.ring.Rotate(tx, k, m, b.now)
		return err
	})
	return out
}

// specs are all types but the slow ones.
func specs() []Spec {
	return []Spec{
		{Type: AES128GCM},
		{Type: AES256GCM},
		{Type: ChaCha20},
		{Type: XChaCha20},
		{Type: Ed25519},
		{Type: ECDSAP256},
		{Type: ECDSAP384},
		{Type: ECDSAP521},
		{Type: RSA2048},
		{Type: HMAC},
		{Type: HMAC, SizeBytes: 512},
		{Type: CMAC128},
		{Type: CMAC192},
		{Type: CMAC256},
		{Type: MLDSA, ParameterSet: "44"},
		{Type: MLDSA, ParameterSet: "65"},
		{Type: MLDSA, ParameterSet: "87"},
		{Type: Hybrid, ParameterSet: "65", EC: Ed25519},
		{Type: Hybrid, ParameterSet: "44", EC: ECDSAP384},
		{Type: MLKEM768},
		{Type: MLKEM1024},
		{Type: MLKEMX25519},
	}
}

// Every type does what it says that it can, and refuses the rest.
func TestTypes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for i, s := range specs() {
		name := fmt.Sprintf("k%d", i)
		k := b.create(Key{Name: name, Spec: s})
		what := fmt.Sprintf("%s %s %s", s.Type, s.ParameterSet, s.EC)
		b.update(func(tx storage.Tx) error {
			v, err := b.ring.Version(tx, k, 1)
			if err != nil {
				return err
			}
			sealed, err := k.Encrypt(v, nil, []byte("secret"), CryptOptions{})
			if (err == nil) != s.Type.Encrypts() {
				t.Errorf("%s: encrypt: %v", what, err)
			}
			if err == nil {
				if got, err := k.Decrypt(v, bytes.Clone(sealed), CryptOptions{}); err != nil || string(got) != "secret" {
					t.Errorf("%s: decrypt: %q, %v", what, got, err)
				}
				if s.Type.Authenticates() {
					if _, err := k.Decrypt(v, bytes.Clone(sealed), CryptOptions{AAD: []byte("x")}); err == nil {
						t.Errorf("%s: decrypted with other associated data", what)
					}
				}
				sealed[len(sealed)-1] ^= 1
				if _, err := k.Decrypt(v, sealed, CryptOptions{}); err == nil {
					t.Errorf("%s: decrypted what was changed", what)
				}
			}
			sig, _, err := k.Sign(v, []byte("text"), SignOptions{Hash: crypto.SHA256})
			if (err == nil) != s.Type.Signs() {
				t.Errorf("%s: sign: %v", what, err)
			}
			if err == nil {
				if ok, err := k.Verify(v, []byte("text"), sig, SignOptions{Hash: crypto.SHA256}); !ok || err != nil {
					t.Errorf("%s: verify: %v, %v", what, ok, err)
				}
				if ok, _ := k.Verify(v, []byte("texT"), sig, SignOptions{Hash: crypto.SHA256}); ok {
					t.Errorf("%s: verified another text", what)
				}
			}
			if _, err := v.CMAC(nil, 0); (err == nil) != s.Type.CMACs() {
				t.Errorf("%s: cmac: %v", what, err)
			}
			if len(v.MAC(crypto.SHA256, nil)) != 32 || len(v.HMACKey()) < 32 {
				t.Errorf("%s: hmac", what)
			}
			if s.Type.Symmetric() != (len(v.Material().Public) == 0) {
				t.Errorf("%s: a public key: %v", what, !s.Type.Symmetric())
			}
			if got := fmt.Sprintf("%v %s", v.Material(), v.Material().LogValue()); got != "(key material) (key material)" {
				t.Errorf("%s shows its material: %s", what, got)
			}
			return nil
		})
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	k := b.create(Key{Name: "k", Spec: Spec{Type: AES256GCM}})
	sealed := map[int][]byte{}
	for n := 1; n <= 40; n++ {
		b.update(func(tx storage.Tx) error {
			v, err := b.ring.Version(tx, k, n)
			if err != nil {
				return err
			}
			sealed[n], err = k.Encrypt(v, nil, fmt.Append(nil, n), CryptOptions{})
			return err
		})
		k = b.rotate("k")
	}
	if k.Latest != 41 {
		t.Fatalf("latest is %d", k.Latest)
	}
	open := func(n int) (string, error) {
		var out string
		err := b.db.View(context.Background(), func(tx storage.Tx) error {
			tx = tx.Sub("m/")
			k, err := b.ring.Get(tx, "k")
			if err != nil {
				return err
			}
			if err := k.ToOpen(n); err != nil {
				return err
			}
			v, err := b.ring.Version(tx, k, n)
			if err != nil {
				return err
			}
			p, err := k.Decrypt(v, bytes.Clone(sealed[n]), CryptOptions{})
			out = string(p)
			return err
		})
		return out, err
	}
	for n := 1; n <= 40; n++ {
		if got, err := open(n); err != nil || got != fmt.Sprint(n) {
			t.Fatalf("version %d: %q, %v", n, got, err)
		}
	}
	for _, least := range []int{2, 17, 33, 34} {
		b.update(func(tx storage.Tx) error {
			k, err := b.ring.Get(tx, "k")
			if err != nil {
				return err
			}
			_, err = b.ring.Trim(tx, k, least)
			return err
		})
		for n := 1; n <= 40; n++ {
			_, err := open(n)
			if n < least && !errors.Is(err, ErrTooOld) || n >= least && err != nil {
				t.Fatalf("trimmed to %d, version %d: %v", least, n, err)
			}
		}
		keys := 0
		b.update(func(tx storage.Tx) error {
			for _, err := range tx.Keys(versionDir, "") {
				if err != nil {
					return err
				}
				keys++
			}
			return nil
		})
		if want := 41 - least; keys != want { // the newest lies with the key
			t.Fatalf("trimmed to %d: %d versions are kept, want %d", least, keys, want)
		}
	}
	if _, err := open(41 + 1); !errors.Is(err, ErrTooNew) {
		t.Errorf("version 42: %v", err)
	}
	b.update(func(tx storage.Tx) error {
		infos, err := b.ring.Infos(tx, k, 40, 10)
		if len(infos) != 2 || infos[0].Number != 40 || infos[1].Number != 41 || !infos[0].Private {
			t.Errorf("infos: %+v", infos)
		}
		return err
	})
	b.update(func(tx storage.Tx) error { return b.ring.Delete(tx, "k") })
	b.update(func(tx storage.Tx) error {
		for key, err := range tx.Keys("", "") {
			t.Errorf("%s is left", key)
			return err
		}
		return nil
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create(Key{Name: "there", Spec: Spec{Type: AES256GCM}})
	cases := []struct {
		name string
		key  Key
		want string
	}{
		{"no name", Key{Spec: Spec{Type: AES256GCM}}, ErrName.Error()},
		{"a slash", Key{Name: "a/b", Spec: Spec{Type: AES256GCM}}, ErrName.Error()},
		{"a dash first", Key{Name: "-a", Spec: Spec{Type: AES256GCM}}, ErrName.Error()},
		{"unknown type", Key{Name: "a", Spec: Spec{Type: "des"}}, "unknown key type des"},
		{"short hmac", Key{Name: "a", Spec: Spec{Type: HMAC, SizeBytes: 8}}, "invalid key_size 8"},
		{"size", Key{Name: "a", Spec: Spec{Type: AES256GCM, SizeBytes: 32}}, "invalid key_size 32"},
		{"no set", Key{Name: "a", Spec: Spec{Type: MLDSA}}, `invalid parameter_set "": it must be 44, 65 or 87`},
		{"convergent only", Key{Name: "a", Spec: Spec{Type: AES256GCM}, Convergent: true}, "convergent encryption requires derivation to be enabled"},
		{"convergent signing", Key{Name: "a", Spec: Spec{Type: Ed25519}, Convergent: true, Derived: true}, "convergent encryption not supported for keys of type ed25519"},
		{"derived rsa", Key{Name: "a", Spec: Spec{Type: RSA2048}, Derived: true}, "key derivation and convergent encryption not supported for keys of type rsa-2048"},
		{"exists", Key{Name: "there", Spec: Spec{Type: AES256GCM}}, `key "there" already exists`},
	}
	for _, c := range cases {
		err := b.db.Update(context.Background(), func(tx storage.Tx) error {
			_, err := b.ring.Create(tx.Sub("m/"), c.key, &Material{Secret: make([]byte, 32)}, b.now)
			return err
		})
		if err == nil || err.Error() != c.want || errs.Is(err, errs.Internal) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

func TestDue(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	k := b.create(Key{Name: "k", Spec: Spec{Type: AES256GCM}, AutoRotate: time.Hour})
	for _, c := range []struct {
		after time.Duration
		want  bool
	}{{0, false}, {time.Hour - 1, false}, {time.Hour, true}, {1000 * time.Hour, true}} {
		if got := k.Due(b.now.Add(c.after)); got != c.want {
			t.Errorf("after %s due is %v", c.after, got)
		}
	}
	imported := *k
	imported.Imported = true
	if imported.Due(b.now.Add(time.Hour)) {
		t.Error("an imported key is due")
	}
	b.now = b.now.Add(2 * time.Hour)
	if k = b.rotate("k"); k.Due(b.now) || k.Latest != 2 {
		t.Errorf("after rotating: %+v", k)
	}
}
