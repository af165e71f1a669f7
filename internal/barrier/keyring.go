package barrier

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"arca/internal/errs"
)

// The layout of everything that a keyring encrypts:
//
//	version (1 byte) | term (4 bytes, big endian) | nonce (12) | ciphertext | tag (16)
//
// In a record of version 2 what is encrypted is itself a record, of the seal-wrap keyring.
const (
	recordVersion  = 1
	wrappedVersion = 2

	headerBytes = 1 + 4
	overhead    = headerBytes + 12 + 16
)

// maxPerTerm is where a term refuses to encrypt any more: with random nonces,
// NIST SP 800-38D (8.3) allows 2^32 encryptions under one key. Rotation comes
// long before (Rotation.MaxOperations).
const maxPerTerm = 1 << 32

// ErrSealed says that the keyring was wiped.
var ErrSealed error = errs.New(errs.Sealed, "Vault is sealed")

// A Keyring holds the encryption keys by term, and encrypts with the newest.
// It is safe for concurrent use. After Wipe it does nothing but fail with
// ErrSealed.
type Keyring struct {
	label string               // where its record lies, and what that is bound to
	keys  atomic.Pointer[keys] // nil when wiped
	wrap  atomic.Pointer[wrap] // nil where nothing is wrapped by the seal

	// mu guards the bytes of the raw keys, which only changes and Wipe touch, and changes of wrap.
	mu sync.Mutex
}

// RecordKey is where the keyring's record lies in the clear area.
func (r *Keyring) RecordKey() string { return r.label }

// keys is one state of a keyring: immutable, but for the counters of its terms.
type keys struct {
	terms    []*term // ascending
	secret   Key     // what Derive starts from; never rotated
	rotation Rotation
}

type term struct {
	id        uint32
	key       Key
	installed time.Time
	storage   cipher.AEAD // for what lies in storage
	other     cipher.AEAD // for Seal and Open, under a key of its own
	count     atomic.Uint64
	saved     atomic.Uint64 // count in the newest saved record
}

// NewKeyring makes a keyring with one new term.
func NewKeyring(now time.Time) (*Keyring, error) { return makeRing(now, RecordKey) }

func makeRing(now time.Time, label string) (*Keyring, error) {
	t, err := newTerm(1, NewKey(), now)
	if err != nil {
		return nil, err
	}
	r := &Keyring{label: label}
	r.keys.Store(&keys{terms: []*term{t}, secret: NewKey(), rotation: DefaultRotation()})
	return r, nil
}

func newTerm(id uint32, key Key, installed time.Time) (*term, error) {
	storage, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	sub, err := hkdf.Key(sha256.New, key, nil, "arca barrier: other uses", KeyBytes)
	if err != nil {
		return nil, err
	}
	defer clear(sub)
	other, err := newAEAD(sub)
	if err != nil {
		return nil, err
	}
	return &term{id: id, key: key, installed: installed.UTC(), storage: storage, other: other}, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (k *keys) newest() *term { return k.terms[len(k.terms)-1] }

// term finds a term by its number. Terms are few and mostly consecutive.
func (k *keys) term(id uint32) *term {
	for i := len(k.terms) - 1; i >= 0; i-- {
		if k.terms[i].id == id {
			return k.terms[i]
		}
	}
	return nil
}

// Seal encrypts plaintext under the newest term and binds it to aad, for uses
// other than storage (batch tokens). What it gives is never valid as a stored
// record, and the other way round.
func (r *Keyring) Seal(aad, plaintext []byte) ([]byte, error) {
	t, err := r.take()
	if err != nil {
		return nil, err
	}
	return t.append(make([]byte, 0, len(plaintext)+overhead), recordVersion, t.other, aad, plaintext), nil
}

// Open decrypts what Seal made with the same aad, under whichever term. The
// error is Invalid, or ErrSealed. sealed is left as it is.
func (r *Keyring) Open(aad, sealed []byte) ([]byte, error) {
	t, err := r.find(sealed)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, errOpen
	}
	plain, err := t.other.Open(nil, nil, sealed[headerBytes:], aad)
	if err != nil {
		return nil, errOpen
	}
	return plain, nil
}

var errOpen error = errs.New(errs.Invalid, "not encrypted by this server, or altered")

// take returns the newest term for one encryption.
func (r *Keyring) take() (*term, error) {
	k := r.keys.Load()
	if k == nil {
		return nil, ErrSealed
	}
	t := k.newest()
	if t.count.Add(1) > maxPerTerm {
		return nil, errs.New(errs.Failed, "encryption key of term %d is used up; rotate it", t.id)
	}
	return t, nil
}

// append adds the record of plaintext to dst, which must not overlap it.
func (t *term) append(dst []byte, version byte, aead cipher.AEAD, aad, plaintext []byte) []byte {
	dst = append(dst, version)
	dst = binary.BigEndian.AppendUint32(dst, t.id)
	return aead.Seal(dst, nil, plaintext, aad)
}

// find returns the term that a record names, or nil when there is none.
func (r *Keyring) find(record []byte) (*term, error) {
	k := r.keys.Load()
	if k == nil {
		return nil, ErrSealed
	}
	if len(record) < overhead || record[0] != recordVersion {
		return nil, nil
	}
	return k.term(binary.BigEndian.Uint32(record[1:])), nil
}

// appendRecord encrypts the value of a storage key behind dst.
func (r *Keyring) appendRecord(dst, key, value []byte) ([]byte, error) {
	t, err := r.take()
	if err != nil {
		return nil, err
	}
	return t.append(dst, recordVersion, t.storage, key, value), nil
}

// openRecord decrypts the record of a storage key in place. The result lies in
// record. A bad record's error names the key and nothing else.
func (r *Keyring) openRecord(key, record []byte) ([]byte, error) {
	if len(record) > 0 && record[0] == wrappedVersion {
		return r.openWrapped(key, record)
	}
	t, err := r.find(record)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, damaged(key)
	}
	sealed := record[headerBytes:]
	value, err := t.storage.Open(sealed[:0], nil, sealed, key)
	if err != nil {
		return nil, damaged(key)
	}
	return value, nil
}

func damaged(key []byte) error {
	return errs.New(errs.Failed, "the stored record %q is damaged, or was not written at this place by this server", key)
}

// Derive gives the key for a purpose. It stays the same over rotations and
// restarts, and tells nothing about the keys for other purposes. The caller
// owns it.
func (r *Keyring) Derive(purpose string) (Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keys.Load()
	if k == nil {
		return nil, ErrSealed
	}
	return hkdf.Key(sha256.New, k.secret, nil, "arca: "+purpose, KeyBytes)
}

// Wipe ends the keyring: its keys are overwritten and forgotten.
func (r *Keyring) Wipe() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.keys.Swap(nil); k != nil {
		k.wipe()
	}
	if w := r.wrap.Load(); w != nil && w.ring != nil {
		w.ring.Wipe()
	}
}

func (k *keys) wipe() {
	for _, t := range k.terms {
		t.key.Wipe()
	}
	k.secret.Wipe()
}

// Info describes the newest term.
type Info struct {
	Term        uint32
	Installed   time.Time
	Encryptions uint64 // under this term; after a crash, up to a million may be missing
}

// Info describes the newest term, or fails with ErrSealed.
func (r *Keyring) Info() (Info, error) {
	k := r.keys.Load()
	if k == nil {
		return Info{}, ErrSealed
	}
	t := k.newest()
	return Info{Term: t.id, Installed: t.installed, Encryptions: t.count.Load()}, nil
}
