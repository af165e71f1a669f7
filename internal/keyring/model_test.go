package keyring

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"arca/internal/storage"
)

// Every ciphertext, signature and MAC ever made can be opened or verified, whatever was done
// to its key: rotation, import, trimming, settings, chains, backup and restore, with records
// that are of the older form in between. The seed is printed.
func TestModel(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 3, rand.Uint64()} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m := &model{bench: newBench(t), r: rand.New(rand.NewPCG(seed, 0)), keys: map[string]*modelKey{}}
			for i := range 250 {
				m.update(m.step)
				if i%20 == 0 {
					m.forget()
				}
				m.update(m.check)
			}
		})
	}
}

type model struct {
	*bench

	r    *rand.Rand
	keys map[string]*modelKey
	made int
}

// A modelKey is what must be true of a key.
type modelKey struct {
	spec    Spec
	latest  int
	least   int // that is there
	note    string
	half    map[int]bool // versions that have a public part only
	chained map[int]string
	made    []use
}

// A use is what a version has made of a text.
type use struct {
	version          int
	text             string
	sealed, sig, mac []byte
}

func (k *modelKey) clone() *modelKey {
	out := *k
	out.half, out.chained, out.made = maps.Clone(k.half), maps.Clone(k.chained), slices.Clone(k.made)
	return &out
}

// forget empties the caches.
func (m *model) forget() { m.ring = New() }

func (m *model) pick() (string, *modelKey) {
	name := string(rune('a' + m.r.IntN(5)))
	return name, m.keys[name]
}

func (m *model) create(tx storage.Tx, name string) error {
	types := []Spec{
		{Type: AES128GCM},
		{Type: AES256GCM},
		{Type: ChaCha20},
		{Type: XChaCha20},
		{Type: HMAC, SizeBytes: MinHMACBytes + m.r.IntN(MaxHMACBytes-MinHMACBytes+1)},
		{Type: CMAC256},
		{Type: Ed25519},
		{Type: ECDSAP256},
		{Type: MLKEM768},
		{Type: MLDSA, ParameterSet: "44"},
	}
	spec := types[m.r.IntN(len(types))]
	material, err := Generate(spec)
	if err != nil {
		return err
	}
	k := Key{Name: name, Spec: spec, Exportable: true, BackupAllowed: true, RotationAllowed: true, Meta: map[string]string{"note": "new"}}
	if _, err := m.ring.Create(tx, k, material, m.now); err != nil {
		return err
	}
	m.keys[name] = &modelKey{spec: spec, latest: 1, note: "new", half: map[int]bool{}, chained: map[int]string{}}
	return nil
}

func (m *model) step(tx storage.Tx) error {
	name, mk := m.pick()
	if mk == nil {
		return m.create(tx, name)
	}
	k, err := m.ring.Get(tx, name)
	if err != nil {
		return err
	}
	m.now = m.now.Add(time.Minute)
	switch m.r.IntN(12) {
	case 0, 1, 2:
		return m.use(tx, k, mk)
	case 3, 4:
		return m.rotate(tx, k, mk)
	case 5:
		return m.trim(tx, k, mk)
	case 6: // settings
		next := *k
		m.made++
		mk.note = fmt.Sprint("note ", m.made)
		next.Meta = map[string]string{"note": mk.note}
		next.SoftDeleted = !k.SoftDeleted
		return m.ring.Put(tx, &next)
	case 7:
		return older(tx, m.ring, name)
	case 8:
		return m.restore(tx, k, mk)
	case 9: // delete
		if m.r.IntN(3) == 0 {
			delete(m.keys, name)
			return m.ring.Delete(tx, name)
		}
	case 10:
		return m.chain(tx, k, mk)
	case 11:
		return m.public(tx, k, mk)
	}
	return nil
}

// any is a version that is there.
func (m *model) any(mk *modelKey) int {
	least := max(1, mk.least)
	return least + m.r.IntN(mk.latest-least+1)
}

func (m *model) use(tx storage.Tx, k *Key, mk *modelKey) error {
	n := m.any(mk)
	v, err := m.ring.Version(tx, k, n)
	if err != nil || !v.Private() {
		return err
	}
	m.made++
	u := use{version: n, text: fmt.Sprint("text ", m.made)}
	if k.Type.Encrypts() {
		if u.sealed, err = k.Encrypt(v, nil, []byte(u.text), CryptOptions{}); err != nil {
			return err
		}
	}
	if k.Type.Signs() {
		if u.sig, _, err = k.Sign(v, []byte(u.text), SignOptions{Hash: crypto.SHA256}); err != nil {
			return err
		}
	}
	u.mac = v.MAC(crypto.SHA256, []byte(u.text))
	mk.made = append(mk.made, u)
	return nil
}

// rotate adds a version, or several, made here or elsewhere.
func (m *model) rotate(tx storage.Tx, k *Key, mk *modelKey) error {
	for range 1 + m.r.IntN(3) {
		material, err := Generate(k.Spec)
		if err != nil {
			return err
		}
		if k.Type.Symmetric() && m.r.IntN(2) == 0 {
			spec := k.Spec
			spec.SizeBytes = 0
			if material, err = Parse(&spec, material.Secret); err != nil {
				return err
			}
			k, err = m.ring.Add(tx, k, material, m.now)
		} else {
			k, err = m.ring.Rotate(tx, k, material, m.now)
		}
		if err != nil {
			return err
		}
		mk.latest++
	}
	return nil
}

func (m *model) trim(tx storage.Tx, k *Key, mk *modelKey) error {
	least := m.any(mk)
	if least < 2 {
		return nil
	}
	k, err := m.ring.Trim(tx, k, least)
	if err != nil {
		return err
	}
	mk.least = least
	mk.made = slices.DeleteFunc(mk.made, func(u use) bool { return u.version < least })
	next := *k // trimmed and set in one transaction
	next.MinDecryption = least
	return m.ring.Put(tx, &next)
}

// restore backs a key up, and restores it in its place, or in that of another.
func (m *model) restore(tx storage.Tx, k *Key, mk *modelKey) error {
	raw, err := m.ring.Backup(tx, k, m.now)
	if err != nil {
		return err
	}
	name, other := m.pick()
	if name == k.Name && m.r.IntN(2) == 0 {
		if err := m.ring.Delete(tx, name); err != nil {
			return err
		}
		other = nil
	}
	if _, err = m.ring.Restore(tx, raw, name, other != nil); err != nil {
		return err
	}
	m.keys[name] = mk.clone()
	if slices.Contains(vaultTypes(), k.Type) {
		m.keys[name].note = "" // Vault's form has no marks
	}
	return nil
}

func (m *model) chain(tx storage.Tx, k *Key, mk *modelKey) error {
	n := m.any(mk)
	m.made++
	text := fmt.Sprint("certificate ", m.made)
	err := m.ring.SetChain(tx, k, n, [][]byte{[]byte(text)})
	if k.Type.Symmetric() {
		if !errors.Is(err, errNoPublic) {
			return fmt.Errorf("a chain of %s: %w", k.Type, err)
		}
		return nil
	}
	mk.chained[n] = text
	return err
}

// public adds a version of which only the public part is known, or completes that.
func (m *model) public(tx storage.Tx, k *Key, mk *modelKey) error {
	if k.Type != ECDSAP256 {
		return nil
	}
	material, err := Generate(k.Spec)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: material.Public})
	half, err := ParsePublic(&k.Spec, string(text))
	if err != nil {
		return err
	}
	if k, err = m.ring.Add(tx, k, half, m.now); err != nil {
		return err
	}
	mk.latest++
	if m.r.IntN(2) == 0 {
		mk.half[k.Latest] = true
		return nil
	}
	return m.ring.Complete(tx, k, k.Latest, material)
}

// check looks whether all is as it must be.
func (m *model) check(tx storage.Tx) error {
	names, err := m.ring.List(tx, "", 0)
	if err != nil || len(names) != len(m.keys) {
		return fmt.Errorf("there are %q, want %d: %w", names, len(m.keys), err)
	}
	for _, name := range names {
		if err := m.checkKey(tx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return m.checkPlaces(tx)
}

func (m *model) checkKey(tx storage.Tx, name string) error {
	k, err := m.ring.Get(tx, name)
	if err != nil {
		return err
	}
	mk := m.keys[name]
	if k.Latest != mk.latest || k.MinAvailable != mk.least || k.Spec != mk.spec || k.Meta["note"] != mk.note {
		return fmt.Errorf("it is %+v, want %+v", k, mk)
	}
	from := m.any(mk)
	infos, err := m.ring.Infos(tx, k, from, MaxVersions)
	if err != nil || len(infos) != mk.latest-from+1 {
		return fmt.Errorf("%d versions from %d to %d: %w", len(infos), from, mk.latest, err)
	}
	for i := range infos {
		in := &infos[i]
		if in.Number != from+i || in.Private == mk.half[in.Number] || string(bytes.Join(in.Chain, nil)) != mk.chained[in.Number] {
			return fmt.Errorf("version %d is shown as %+v", from+i, in)
		}
	}
	if few, err := m.ring.Infos(tx, k, from, 1); err != nil || len(few) != 1 || few[0].Number != from {
		return fmt.Errorf("one version: %+v, %w", few, err)
	}
	if v, err := m.ring.Version(tx, k, mk.least-1); !errors.Is(err, ErrVersion) {
		return fmt.Errorf("version %d is there: %v, %w", mk.least-1, v, err)
	}
	for _, u := range mk.made {
		if err := m.open(tx, k, u); err != nil {
			return fmt.Errorf("version %d of %d, %s: %w", u.version, k.Latest, k.Type, err)
		}
	}
	return nil
}

func (m *model) open(tx storage.Tx, k *Key, u use) error {
	v, err := m.ring.Version(tx, k, u.version)
	if err != nil {
		return err
	}
	if v.Number != u.version || !bytes.Equal(v.MAC(crypto.SHA256, []byte(u.text)), u.mac) {
		return fmt.Errorf("the MAC is another")
	}
	if u.sealed != nil {
		if got, err := k.Decrypt(v, bytes.Clone(u.sealed), CryptOptions{}); err != nil || string(got) != u.text {
			return fmt.Errorf("%q, %w", got, err)
		}
	}
	if u.sig != nil {
		if good, err := k.Verify(v, []byte(u.text), u.sig, SignOptions{Hash: crypto.SHA256}); err != nil || !good {
			return fmt.Errorf("verified: %v, %w", good, err)
		}
	}
	return nil
}

// checkPlaces looks whether all that lies in the store belongs to a key.
func (m *model) checkPlaces(tx storage.Tx) error {
	want := 0
	for name, mk := range m.keys {
		k, err := m.ring.Get(tx, name)
		if err != nil {
			return err
		}
		want += mk.latest - max(1, mk.least) + 1
		if k.newest != nil {
			want--
		}
	}
	got := 0
	for at, err := range tx.Keys("", "") {
		if err != nil {
			return err
		}
		if strings.HasPrefix(at, versionDir) {
			got++
		}
	}
	if got != want {
		return fmt.Errorf("%d versions lie in the store, want %d", got, want)
	}
	return nil
}
