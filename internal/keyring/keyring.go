// Package keyring keeps named keys with versions, and does all that is done
// with them: the transit engine, KES and KMIP are doors to it.
//
// # Keeping
//
// A Ring is made once and shared: it holds no keys but caches of decoded ones,
// which are bounded and follow the commits as all caches of storage do. Where
// the keys lie is said with each call, by a transaction over a prefix of the
// caller's own (call.Tx.Sub("keys/")), so that each mount has keys of its own:
//
//	k/<name>            the key: type, settings, the number of its newest version, and of
//	                    a symmetric key that version's material
//	v/<name>/<version>  the material of another version, in eight hexadecimal digits
//
// So what uses the newest version of a symmetric key, as nearly all does, reads one
// record, and one is all that makes a key. The next version takes the place of the
// newest, which moves to v/ in the same transaction. Records that older versions of
// arca wrote have all material at v/; what writes a key brings it into this form.
//
// A key with 100,000 versions costs what one with one version costs: using,
// rotating, trimming and deleting it touch a bounded number of storage keys.
// Names have no slash, see CheckName.
//
// What Get returns is shared and must not be changed: copy the Key, change the
// copy, give it to Put. Material is with it, but shows in no format and no JSON.
// Everything is part of the caller's transaction.
//
// # Making
//
// Generate makes new Material, Parse takes a key that was made elsewhere; Create
// keeps it as version 1 of a new key, Add as the next version. Making an RSA key
// takes seconds (Type.Slow): a handler does it outside of its transaction, with
// engine.Ask.
//
// # Rotation by period
//
// A key with a period (Key.AutoRotate) is due by what its record says, not by a
// clock that runs: Key.Due tells it, and whoever is about to use or show the key
// adds a version then. A key that nobody uses stays as it is, and a million keys
// cost nothing while they wait.
//
// # Using
//
// Key.ToUse and Key.ToOpen say which version a request may use, Ring.Version
// fetches it, and Encrypt, Decrypt, Sign, Verify, MAC and CMAC work with raw
// bytes: prefixes such as "vault:v1:" are the doors' own. Errors have the kind
// Invalid, and the texts that Vault's clients know where Vault has one.
//
// The formats are those of Vault's transit engine, so that what one has encrypted
// or signed the other can read: AES-GCM and ChaCha20-Poly1305 as nonce and
// ciphertext, RSA-OAEP with SHA-256, contexts by HKDF-SHA256 (RFC 5869) without
// salt, convergent nonces as HMAC-SHA256 of the plaintext under the second half
// of what the context gives (version 3 of that scheme).
package keyring

import (
	"errors"
	"fmt"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
)

// A Key is a named key. It is immutable once stored.
type Key struct {
	Form int    `json:"v"`
	Name string `json:"-"`
	Spec

	Derived    bool `json:"derived,omitempty"`    // each use gives a context, from which its key is derived
	Convergent bool `json:"convergent,omitempty"` // the same plaintext and context give the same ciphertext

	Exportable      bool          `json:"exportable,omitempty"`
	BackupAllowed   bool          `json:"backup,omitempty"`   // in plaintext
	DeletionAllowed bool          `json:"deletion,omitempty"` // asked by the doors, not by Delete
	SoftDeleted     bool          `json:"soft_deleted,omitempty"`
	Imported        bool          `json:"imported,omitempty"`    // the newest version was made elsewhere
	RotationAllowed bool          `json:"may_rotate,omitempty"`  // although imported
	Latest          int           `json:"latest"`                // number of the newest version
	MinDecryption   int           `json:"min_decryption"`        // versions below only wait to be trimmed; at least 1
	MinEncryption   int           `json:"min_encryption"`        // 0: only the newest is used unless another is asked for
	MinAvailable    int           `json:"min_available"`         // versions below are gone; 0: none was trimmed
	AutoRotate      time.Duration `json:"auto_rotate,omitempty"` // 0: by hand only
	Created         time.Time     `json:"created"`
	Rotated         time.Time     `json:"rotated"` // when the newest version was made

	// Meta is for the doors: who made the key, what for. It is kept with the key
	// and should be small.
	Meta map[string]string `json:"meta,omitempty"`

	newest held // where the record has it; nil where it is at v/
}

// held gives a version: fmt looks into whatever a field is, but not into a function.
type held func() *Version

func hold(v *Version) held { return func() *Version { return v } }

// get returns the version, or nil where none is held.
func (h held) get() *Version {
	if h == nil {
		return nil
	}
	return h()
}

// Bounds.
const (
	MaxNameBytes  = 512
	MaxVersions   = 1 << 30
	MinAutoRotate = time.Hour
	keyCache      = 8 << 20
	versionCache  = 16 << 20
)

const (
	keyDir     = "k/"
	versionDir = "v/"
)

// A Ring reads and writes keys. It is safe for concurrent use.
type Ring struct {
	keys     *storage.Shared[*Key]
	versions *storage.Shared[*Version]
}

// New makes a ring.
func New() *Ring {
	return &Ring{
		keys:     storage.NewShared(keyCache, decodeKey),
		versions: storage.NewShared(versionCache, decodeVersion),
	}
}

// Errors that callers may match with errors.Is.
var (
	ErrName    error = errs.New(errs.Invalid, "a key's name has letters, digits, '_', '-' and '.', begins and ends with a letter, a digit or '_', and is not longer than %d bytes", MaxNameBytes)
	ErrTooNew  error = errs.New(errs.Invalid, "version is too new")
	ErrTooOld  error = errs.New(errs.Invalid, "ciphertext or signature version is disallowed by policy (too old)")
	ErrVersion error = errs.New(errs.Invalid, "version does not exist or cannot be found")
)

// CheckName reports whether name can be a key's, which is what Vault takes.
func CheckName(name string) error {
	if name == "" || len(name) > MaxNameBytes {
		return ErrName
	}
	for i := range len(name) {
		c := name[i]
		word := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
		if !word && (c != '-' && c != '.' || i == 0 || i == len(name)-1) {
			return ErrName
		}
	}
	return nil
}

// Get returns a key, or storage.ErrNotFound.
func (r *Ring) Get(tx storage.Tx, name string) (*Key, error) { return r.keys.Get(tx, keyDir+name) }

// List returns names in their order, beginning behind after; limit 0 is all.
func (r *Ring) List(tx storage.Tx, after string, limit int) ([]string, error) {
	return tx.List(keyDir, after, limit)
}

// Create keeps m as version 1 of a new key. Of k the spec and the settings are
// taken. A key of that name is a Conflict.
func (r *Ring) Create(tx storage.Tx, k Key, m *Material, now time.Time) (*Key, error) {
	if err := CheckName(k.Name); err != nil {
		return nil, err
	}
	return r.create(tx, k, m, now)
}

// Adopt is Create for a key whose name others have chosen: what is within a name may also
// be at its ends.
func (r *Ring) Adopt(tx storage.Tx, k Key, m *Material, now time.Time) (*Key, error) {
	if err := CheckName("_" + k.Name + "_"); err != nil || k.Name == "" {
		return nil, ErrName
	}
	return r.create(tx, k, m, now)
}

func (r *Ring) create(tx storage.Tx, k Key, m *Material, now time.Time) (*Key, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	_, err := r.Get(tx, k.Name)
	if err == nil {
		return nil, errs.New(errs.Conflict, "key %q already exists", k.Name)
	}
	if !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	k.Created, k.Latest, k.MinDecryption, k.MinEncryption, k.MinAvailable = now, 0, 1, 0, 0
	return r.Add(tx, &k, m, now)
}

// check validates what does not change after a key was made.
func (k *Key) check() error {
	if err := k.Spec.Check(); err != nil {
		return err
	}
	switch {
	case k.Convergent && !k.Derived:
		return errs.New(errs.Invalid, "convergent encryption requires derivation to be enabled")
	case k.Convergent && !k.Type.Converges():
		return errs.New(errs.Invalid, "convergent encryption not supported for keys of type %s", k.Type)
	case k.Derived && !k.Type.Derives():
		return errs.New(errs.Invalid, "key derivation and convergent encryption not supported for keys of type %s", k.Type)
	}
	return nil
}

// Add keeps m as the next version, and returns the key as it is then.
func (r *Ring) Add(tx storage.Tx, k *Key, m *Material, now time.Time) (*Key, error) {
	if k.Latest >= MaxVersions {
		return nil, errs.New(errs.Invalid, "key %q has %d versions, which is the most", k.Name, k.Latest)
	}
	if k.Latest > 0 {
		kept, err := r.kept(tx, k)
		if err != nil {
			return nil, err
		}
		if former := kept.newest.get(); former != nil {
			if err := r.putVersion(tx, k, former.Number, former.stored()); err != nil {
				return nil, err
			}
		}
	}
	next := *k
	next.Latest++
	next.Rotated = now
	return &next, r.putNewest(tx, &next, &stored{Material: *m, Created: now})
}

// kept returns a key as the transaction sees it. If that has another newest version than k,
// to go on with k would lose one.
func (r *Ring) kept(tx storage.Tx, k *Key) (*Key, error) {
	kept, err := r.Get(tx, k.Name)
	if err == nil && kept.Latest != k.Latest {
		return nil, errs.New(errs.Internal, "key %q has version %d, and is written as of version %d", k.Name, kept.Latest, k.Latest)
	}
	return kept, err
}

// putNewest stores a key with its newest version.
func (r *Ring) putNewest(tx storage.Tx, k *Key, s *stored) error {
	s.Spec = k.Spec
	if k.newest = nil; k.Type.Symmetric() {
		v, err := newVersion(k.Latest, s)
		if err != nil {
			return err
		}
		k.newest = hold(v)
	} else if err := r.putVersion(tx, k, k.Latest, s); err != nil {
		return err
	}
	return r.put(tx, k)
}

// Rotate is Add of a version made here: an imported key is that no longer.
func (r *Ring) Rotate(tx storage.Tx, k *Key, m *Material, now time.Time) (*Key, error) {
	next := *k
	next.Imported, next.RotationAllowed = false, false
	return r.Add(tx, &next, m, now)
}

// CanRotate is nil where Rotate is allowed.
func (k *Key) CanRotate() error {
	if k.Imported && !k.RotationAllowed {
		return errs.New(errs.Invalid, "imported key %s does not allow rotation within Vault", k.Name)
	}
	return nil
}

// Due reports whether the period of the newest version is over.
func (k *Key) Due(now time.Time) bool {
	return k.AutoRotate > 0 && !now.Before(k.Rotated.Add(k.AutoRotate)) && !k.SoftDeleted && k.CanRotate() == nil
}

// Put stores the settings of a key that exists. Its versions stay as they are.
func (r *Ring) Put(tx storage.Tx, k *Key) error {
	kept, err := r.kept(tx, k)
	if err != nil {
		return err
	}
	k.newest = kept.newest
	if k.newest == nil && k.Type.Symmetric() { // the record is of the older form
		v, err := r.Version(tx, k, k.Latest)
		switch {
		case errors.Is(err, ErrVersion): // its settings can be changed all the same, and it be deleted
			return r.put(tx, k)
		case err != nil:
			return err
		}
		if err := tx.Delete(versionKey(k.Name, k.Latest)); err != nil {
			return err
		}
		k.newest = hold(v)
	}
	return r.put(tx, k)
}

func (r *Ring) put(tx storage.Tx, k *Key) error { return tx.Put(keyDir+k.Name, k.encode()) }

// Delete wipes a key and all its versions.
func (r *Ring) Delete(tx storage.Tx, name string) error {
	if err := tx.DeletePrefix(versionDir + name + "/"); err != nil {
		return err
	}
	return tx.Delete(keyDir + name)
}

// Trim wipes all versions below least, which become unreadable for good. The
// caller has checked that least is neither above the newest version nor below
// what was trimmed before.
func (r *Ring) Trim(tx storage.Tx, k *Key, least int) (*Key, error) {
	// The numbers below least, as the few prefixes of digits that make them up.
	digits := fmt.Sprintf("%08x", least)
	const hex = "0123456789abcdef"
	for i := range digits {
		for d := 0; hex[d] < digits[i]; d++ {
			if err := tx.DeletePrefix(versionDir + k.Name + "/" + digits[:i] + hex[d:d+1]); err != nil {
				return nil, err
			}
		}
	}
	next := *k
	next.MinAvailable = least
	return &next, r.Put(tx, &next)
}

// CheckPeriod refuses a period of rotation that is too short; 0 is none.
func CheckPeriod(d time.Duration) error {
	if d != 0 && d < MinAutoRotate {
		return errs.New(errs.Invalid, "auto rotate period must be 0 to disable or at least an hour")
	}
	return nil
}

// ToUse says which version encrypts, signs or makes MACs when version n is asked
// for, 0 being the newest. doing is the word of the error: "encryption".
func (k *Key) ToUse(n int, doing string) (int, error) {
	switch {
	case n == 0:
		return k.Latest, nil
	case n < 0:
		return 0, errs.New(errs.Invalid, "requested version for %s is negative", doing)
	case n > k.Latest:
		return 0, errs.New(errs.Invalid, "requested version for %s is higher than the latest key version", doing)
	case n < k.MinEncryption:
		return 0, errs.New(errs.Invalid, "requested version for %s is less than the minimum encryption key version", doing)
	case n < k.MinAvailable, n < k.MinDecryption: // nothing could open, or should trust, what it made
		return 0, ErrVersion
	}
	return n, nil
}

// ToOpen checks that version n may decrypt or verify: ErrTooNew or ErrTooOld.
func (k *Key) ToOpen(n int) error {
	switch {
	case n > k.Latest:
		return ErrTooNew
	case n < 1, n < k.MinDecryption, n < k.MinAvailable:
		return ErrTooOld
	}
	return nil
}

func versionKey(name string, n int) string {
	const hex = "0123456789abcdef"
	b := make([]byte, 0, len(versionDir)+len(name)+9)
	b = append(append(append(b, versionDir...), name...), '/')
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, hex[n>>shift&15])
	}
	return string(b)
}

// Version fetches a version's material, ready to use. One that does not exist is
// ErrVersion. k is as the transaction has it: not from before a Delete or Restore in it.
func (r *Ring) Version(tx storage.Tx, k *Key, n int) (*Version, error) {
	if newest := k.newest.get(); newest != nil && newest.Number == n {
		return newest, nil
	}
	v, err := r.versions.Get(tx, versionKey(k.Name, n))
	if !errors.Is(err, storage.ErrNotFound) {
		return v, err
	}
	newest, err := r.newest(tx, k)
	switch {
	case err != nil:
		return nil, err
	case newest == nil, newest.Number != n:
		return nil, ErrVersion
	}
	return newest, nil
}

// newest returns the newest version, if it is where the key is. What k says is not enough:
// it may be from before this transaction changed the key.
func (r *Ring) newest(tx storage.Tx, k *Key) (*Version, error) {
	if !k.Type.Symmetric() {
		return nil, nil //nolint:nilnil // there is none
	}
	kept, err := r.Get(tx, k.Name)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	return kept.newest.get(), nil
}

func (r *Ring) putVersion(tx storage.Tx, k *Key, n int, s *stored) error {
	s.Spec = k.Spec
	return tx.Put(versionKey(k.Name, n), s.encode())
}

var errNoPublic error = errs.New(errs.Invalid, "the key has no public part")

// Complete replaces a version that has a public part only by m, of the same key.
func (r *Ring) Complete(tx storage.Tx, k *Key, n int, m *Material) error {
	s, err := r.stored(tx, k, n)
	if err != nil {
		return err
	}
	if string(s.Public) != string(m.Public) {
		return errs.New(errs.Invalid, "cannot import key, key pair does not match")
	}
	m.HMAC = s.HMAC
	s.Material = *m
	return r.putVersion(tx, k, n, s)
}

// SetChain keeps the certificates, DER, of a version's public key, its own first.
func (r *Ring) SetChain(tx storage.Tx, k *Key, n int, chain [][]byte) error {
	s, err := r.stored(tx, k, n)
	if err != nil {
		return err
	}
	s.Chain = chain
	return r.putVersion(tx, k, n, s)
}

// stored returns a version of a key that has a public part, all of whose versions are at v/.
func (r *Ring) stored(tx storage.Tx, k *Key, n int) (*stored, error) {
	if k.Type.Symmetric() {
		return nil, errNoPublic
	}
	at := versionKey(k.Name, n)
	raw, err := tx.Get(at)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrVersion
	}
	if err != nil {
		return nil, err
	}
	_, s, err := decodeStored(at, raw)
	return s, err
}

// An Info is what may be shown of a version.
type Info struct {
	Number  int
	Created time.Time
	Public  []byte // see Material
	Chain   [][]byte
	Private bool // false where only the public part was imported
	Outside *Outside
}

// Infos returns the versions from number from on, at most limit of them.
func (r *Ring) Infos(tx storage.Tx, k *Key, from, limit int) ([]Info, error) {
	var out []Info
	err := r.each(tx, k, from, limit, func(n int, s *stored) error {
		out = append(out, Info{Number: n, Created: s.Created, Public: s.Public, Chain: s.Chain, Private: len(s.Secret) > 0, Outside: s.Outside})
		return nil
	})
	return out, err
}

// each calls fn with the versions from number from on, at most limit of them.
func (r *Ring) each(tx storage.Tx, k *Key, from, limit int, fn func(n int, s *stored) error) error {
	newest, err := r.newest(tx, k)
	if err != nil {
		return err
	}
	from = max(from, 1)
	after := ""
	if from > 1 {
		after = versionKey(k.Name, from-1)
	}
	for e, err := range tx.Scan(versionDir+k.Name+"/", after) {
		if err != nil {
			return err
		}
		if limit <= 0 {
			return nil
		}
		n, s, err := decodeStored(e.Key, e.Value)
		if err == nil {
			err = fn(n, s)
		}
		if err != nil {
			return err
		}
		limit--
	}
	if newest == nil || newest.Number < from || limit <= 0 {
		return nil
	}
	return fn(newest.Number, newest.stored())
}
