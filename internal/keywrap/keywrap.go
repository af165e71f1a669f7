// Package keywrap encrypts keys for their way from one place to another: AES-KWP
// (RFC 5649, NIST SP 800-38F) and AES-KW (RFC 3394), and the form in which Vault's transit engine takes
// keys that were made elsewhere. The server and the command line use it.
package keywrap

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/binary"

	"arca/internal/errs"
)

// Bounds of a key that is wrapped.
const (
	maxWrapped = 16 << 10
	semi       = 8 // bytes of a semiblock
)

// Wrap encrypts a key under an AES key: AES-KWP (RFC 5649, NIST SP 800-38F).
func Wrap(kek, key []byte) ([]byte, error) {
	if len(key) == 0 || len(key) > maxWrapped {
		return nil, errs.New(errs.Invalid, "a key of %d bytes cannot be wrapped", len(key))
	}
	b, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	n := (len(key) + semi - 1) / semi
	out := make([]byte, semi*(n+1))
	binary.BigEndian.PutUint32(out, kwpMagic)
	binary.BigEndian.PutUint32(out[4:], uint32(len(key)))
	copy(out[semi:], key)
	if n == 1 {
		b.Encrypt(out, out)
		return out, nil
	}
	mix(b, out)
	return out, nil
}

// mix is the wrapping function W of NIST SP 800-38F, section 6.1, in place: the
// first semiblock is the initial value, of which there are at least three.
func mix(b cipher.Block, out []byte) {
	n := len(out)/semi - 1
	var block [aes.BlockSize]byte
	copy(block[:], out[:semi])
	for t := 1; t <= 6*n; t++ {
		r := out[semi*((t-1)%n+1):][:semi]
		copy(block[semi:], r)
		b.Encrypt(block[:], block[:])
		copy(r, block[semi:])
		binary.BigEndian.PutUint64(block[:], binary.BigEndian.Uint64(block[:])^uint64(t))
	}
	copy(out, block[:semi])
}

// WrapBlocks encrypts a key of two or more whole blocks of 8 bytes under an AES key:
// AES-KW (RFC 3394, section 2.2.1). KMIP's clients unwrap it.
func WrapBlocks(kek, key []byte) ([]byte, error) {
	if len(key) < 2*semi || len(key)%semi != 0 || len(key) > maxWrapped {
		return nil, errs.New(errs.Invalid, "a key of %d bytes cannot be wrapped without padding", len(key))
	}
	b, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	out := make([]byte, semi, semi+len(key))
	binary.BigEndian.PutUint64(out, kwMagic)
	out = append(out, key...)
	mix(b, out)
	return out, nil
}

const kwMagic = 0xa6a6a6a6a6a6a6a6

const kwpMagic = 0xa65959a6

var errUnwrap = errs.New(errs.Invalid, "the wrapped key cannot be decrypted: it was wrapped with another key, or changed")

// UnwrapBlocks undoes WrapBlocks. All failures look the same.
func UnwrapBlocks(kek, wrapped []byte) ([]byte, error) {
	if len(wrapped) < 3*semi || len(wrapped)%semi != 0 || len(wrapped) > maxWrapped+2*semi {
		return nil, errUnwrap
	}
	b, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	out := append([]byte(nil), wrapped...)
	unmix(b, out)
	var magic [semi]byte
	binary.BigEndian.PutUint64(magic[:], kwMagic)
	if subtle.ConstantTimeCompare(magic[:], out[:semi]) != 1 {
		return nil, errUnwrap
	}
	return out[semi:], nil
}

// unmix undoes mix.
func unmix(b cipher.Block, out []byte) {
	n := len(out)/semi - 1
	var block [aes.BlockSize]byte
	copy(block[:], out[:semi])
	for t := 6 * n; t >= 1; t-- {
		r := out[semi*((t-1)%n+1):][:semi]
		binary.BigEndian.PutUint64(block[:], binary.BigEndian.Uint64(block[:])^uint64(t))
		copy(block[semi:], r)
		b.Decrypt(block[:], block[:])
		copy(r, block[semi:])
	}
	copy(out, block[:semi])
}

// Unwrap undoes Wrap. All failures look the same.
func Unwrap(kek, wrapped []byte) ([]byte, error) {
	if len(wrapped) < 2*semi || len(wrapped)%semi != 0 || len(wrapped) > maxWrapped+2*semi {
		return nil, errUnwrap
	}
	b, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	n := len(wrapped)/semi - 1
	out := append([]byte(nil), wrapped...)
	if n == 1 {
		b.Decrypt(out, out)
	} else {
		unmix(b, out)
	}
	size := int(binary.BigEndian.Uint32(out[4:]))
	ok := subtle.ConstantTimeEq(int32(binary.BigEndian.Uint32(out)>>1), kwpMagic>>1) &
		subtle.ConstantTimeEq(int32(out[3]&1), kwpMagic&1)
	if ok != 1 || size > semi*n || size <= semi*(n-1) {
		return nil, errUnwrap
	}
	pad := byte(0)
	for _, x := range out[semi+size:] {
		pad |= x
	}
	if pad != 0 {
		return nil, errUnwrap
	}
	return out[semi : semi+size], nil
}

// Seal wraps a key for the holder of an RSA key, in the form that Vault's import
// takes: a new AES-256 key under RSA-OAEP, and behind it the key under AES-KWP.
func Seal(to *rsa.PublicKey, h crypto.Hash, key []byte) ([]byte, error) {
	kek := make([]byte, 32)
	_, _ = rand.Read(kek) // never fails (crypto/rand, since Go 1.24)
	defer clear(kek)
	head, err := rsa.EncryptOAEP(h.New(), rand.Reader, to, kek, nil)
	if err != nil {
		return nil, errs.With(errs.Invalid, err)
	}
	body, err := Wrap(kek, key)
	return append(head, body...), err
}

// Unseal undoes Seal. Errors are Invalid.
func Unseal(with *rsa.PrivateKey, h crypto.Hash, sealed []byte) ([]byte, error) {
	if len(sealed) <= with.Size() {
		return nil, errs.New(errs.Invalid, "provided ciphertext is too short")
	}
	kek, err := rsa.DecryptOAEP(h.New(), nil, with, sealed[:with.Size()], nil)
	if err != nil {
		return nil, errs.With(errs.Invalid, err)
	}
	defer clear(kek)
	if len(kek) != 16 && len(kek) != 24 && len(kek) != 32 {
		return nil, errs.New(errs.Invalid, "the wrapped AES key has %d bytes, not 16, 24 or 32", len(kek))
	}
	return Unwrap(kek, sealed[with.Size():])
}
