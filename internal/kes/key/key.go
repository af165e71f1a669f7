// Package key holds what KES keeps under a name: a 256-bit key with its cipher,
// its HMAC key, and who made it when; and what is done with it.
//
// A Key encrypts and decrypts (ciphertext.go), authenticates (HMAC), and turns
// into the bytes that a key store holds and back (stored.go). All forms that any
// KES ever wrote are read: three of ciphertexts, two of stored keys, the second
// in four dialects. Written is one form of each, today's, so that the last KES
// reads it too.
//
// The rules come from the project's requirements for KES (sections 6 and 7),
// which were read off the public behaviour of KES; the vectors in the tests were
// made by its releases.
package key

import (
	"bytes"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sys/cpu"
)

// Size is the length of a key, and of an HMAC key, in bytes.
const Size = 32

// A Cipher says how a key seals.
type Cipher uint8

// The ciphers. The zero value belongs to keys that name none: those from before v0.20
// of KES, and what clients of 2023 imported. A KES sealed with them as its processor
// was good at, and their ciphertexts of that time name the cipher. They seal with
// AES256 here, and open what their ciphertexts name, or both where these name none.
const (
	Unspecified Cipher = iota
	AES256
	ChaCha20
)

// String returns the name that the API uses; an unspecified cipher counts as
// AES256.
func (c Cipher) String() string {
	if c == ChaCha20 {
		return "ChaCha20"
	}
	return "AES256"
}

// ParseCipher returns the cipher of a name, of which there are an old and a new
// one each, in exact case.
func ParseCipher(name string) (Cipher, bool) {
	switch name {
	case "AES256", "AES256-GCM_SHA256":
		return AES256, true
	case "ChaCha20", "XCHACHA20-POLY1305":
		return ChaCha20, true
	}
	return Unspecified, false
}

// Default is the cipher of new keys: AES256 where the processor has
// instructions for AES-GCM, or where FIPS 140 asks for it, else ChaCha20.
func Default() Cipher {
	fast := cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL ||
		cpu.S390X.HasAES && cpu.S390X.HasAESCTR && cpu.S390X.HasGHASH
	if fast || fips140.Enabled() {
		return AES256
	}
	return ChaCha20
}

// Usable reports whether keys of the cipher may be used: in FIPS 140 mode, only
// AES may.
func (c Cipher) Usable() bool { return c != ChaCha20 || !fips140.Enabled() }

// Errors of this package. Nothing else is said of a ciphertext that does not
// open, whatever the reason.
var (
	ErrNotAuthentic = errors.New("decryption failed: ciphertext is not authentic")
	ErrNoHMACKey    = errors.New("the key was made before keys had an HMAC key")
	ErrSize         = errors.New("a key has 32 bytes")
	ErrCipher       = errors.New("there is no such cipher")
)

// A Key is a named key's content. It is not changed once made, and safe for
// concurrent use.
type Key struct {
	Cipher    Cipher
	CreatedAt time.Time // UTC; the zero time when unknown
	CreatedBy string    // identity of the maker; empty when unknown

	secret  [Size]byte
	hmacKey []byte // Size bytes, or none in keys from before 2024
}

// New makes a random key.
func New(c Cipher, now time.Time, by string) (*Key, error) {
	secret := make([]byte, Size)
	_, _ = rand.Read(secret) // never fails
	return Import(secret, c, now, by)
}

// Import makes a key of the given bytes, with a fresh HMAC key. The error is
// ErrSize or ErrCipher.
func Import(secret []byte, c Cipher, now time.Time, by string) (*Key, error) {
	if len(secret) != Size {
		return nil, ErrSize
	}
	if !c.Usable() {
		return nil, ErrCipher
	}
	k := &Key{Cipher: c, CreatedAt: now.UTC().Round(0), CreatedBy: by, hmacKey: make([]byte, Size)}
	if k.Cipher == Unspecified {
		k.Cipher = AES256
	}
	copy(k.secret[:], secret)
	_, _ = rand.Read(k.hmacKey) // never fails
	return k, nil
}

// Parts are what a key is made of, for those who keep it in another form.
type Parts struct {
	Cipher    Cipher
	Secret    []byte // Size bytes
	HMACKey   []byte // Size bytes, or none
	CreatedAt time.Time
	CreatedBy string
}

// String hides the key's bytes from formatted output.
func (Parts) String() string { return "parts of a key" }

// GoString hides the key's bytes from formatted output.
func (p Parts) GoString() string { return p.String() }

// LogValue hides the key's bytes from logs.
func (p Parts) LogValue() slog.Value { return slog.StringValue(p.String()) }

// Of makes a key of its parts.
func Of(p Parts) (*Key, error) {
	if len(p.Secret) != Size || len(p.HMACKey) != 0 && len(p.HMACKey) != Size {
		return nil, ErrSize
	}
	k := &Key{Cipher: p.Cipher, CreatedAt: p.CreatedAt.UTC(), CreatedBy: p.CreatedBy, hmacKey: p.HMACKey}
	copy(k.secret[:], p.Secret)
	return k, k.check()
}

// Parts takes a key apart. The slices are copies.
func (k *Key) Parts() Parts {
	return Parts{k.Cipher, bytes.Clone(k.secret[:]), bytes.Clone(k.hmacKey), k.CreatedAt, k.CreatedBy}
}

// ID returns a public name of the key's bytes: the first 16 bytes of their
// SHA-256, in hex. Old ciphertexts and the API of 2023 name keys by it.
func (k *Key) ID() string {
	sum := sha256.Sum256(k.secret[:])
	return hex.EncodeToString(sum[:16])
}

// HMAC returns the HMAC-SHA256 of the message under the key's own HMAC key, or
// ErrNoHMACKey.
func (k *Key) HMAC(message []byte) ([]byte, error) {
	if len(k.hmacKey) == 0 {
		return nil, ErrNoHMACKey
	}
	m := hmac.New(sha256.New, k.hmacKey)
	m.Write(message)
	return m.Sum(nil), nil
}

// String hides the key's bytes from formatted output.
func (k *Key) String() string { return "key of " + k.Cipher.String() }

// GoString hides the key's bytes from formatted output.
func (k *Key) GoString() string { return k.String() }

// LogValue hides the key's bytes from logs.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }
