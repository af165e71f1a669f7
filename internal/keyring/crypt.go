package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"

	"golang.org/x/crypto/chacha20poly1305"

	"arca/internal/errs"
)

// CryptOptions say how to encrypt or decrypt.
type CryptOptions struct {
	Context []byte // of a derived key; looked at for no other
	AAD     []byte // associated data, where the type authenticates
	Padding string // of RSA: "" and "oaep", or "pkcs1v15"
}

var (
	errNoContext = errs.New(errs.Invalid, "missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request information must be included in order to perform operations with the key")
	errLength    = errs.New(errs.Invalid, "invalid ciphertext length")
	errAuth      = errs.New(errs.Invalid, "cipher: message authentication failed")
)

func newAEAD(t Type, key []byte) (cipher.AEAD, error) {
	if len(key) != t.traits().bytes {
		return nil, errMaterial
	}
	switch t { //nolint:exhaustive // the others are no AEADs
	case ChaCha20:
		return chacha20poly1305.New(key)
	case XChaCha20:
		return chacha20poly1305.NewX(key)
	}
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// derive gives n bytes for a context: HKDF-SHA256 without salt (RFC 5869).
func (v *Version) derive(context []byte, n int) ([]byte, error) {
	if len(context) == 0 {
		return nil, errNoContext
	}
	secret := v.m.Secret
	if v.spec.Type == Ed25519 {
		secret = v.ed // Vault derives from the seed with the public key behind it
	}
	return hkdf.Key(sha256.New, secret, nil, string(context), n)
}

// aeadFor returns the cipher for a use of the key, and for a convergent one the
// key of its nonces.
//
// With associated data that key is another one, and the data go into the nonce: the
// same plaintext with different data would else be sealed under one nonce, which
// gives the authentication key of GCM away. Vault does that; what either makes, the
// other reads all the same.
func (k *Key) aeadFor(v *Version, o *CryptOptions) (c cipher.AEAD, nonces []byte, err error) {
	if !k.Derived {
		c, err = v.aead()
		return c, nil, err
	}
	n := k.Type.traits().bytes
	from, to := n, n
	if k.Convergent {
		to += sha256.Size
		if len(o.AAD) > 0 {
			from, to = to, to+sha256.Size
		}
	}
	keys, err := v.derive(o.Context, to)
	if err != nil {
		return nil, nil, err
	}
	c, err = newAEAD(k.Type, keys[:n])
	return c, keys[from:], err
}

// convergentNonce fills nonce for a plaintext.
func convergentNonce(nonce, key, plaintext, aad []byte) {
	h := hmac.New(sha256.New, key)
	h.Write(plaintext)
	if len(aad) > 0 {
		h.Write(aad)
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(aad))))
	}
	copy(nonce, h.Sum(nil))
}

// Encrypt appends the ciphertext of plaintext, under a version that ToUse
// allowed, to dst.
func (k *Key) Encrypt(v *Version, dst, plaintext []byte, o CryptOptions) ([]byte, error) {
	if len(o.AAD) > 0 && !k.Type.Authenticates() {
		return nil, errs.New(errs.Invalid, "associated data provided for non-AEAD cipher suite %s", k.Type)
	}
	if o.Padding != "" && !k.Type.RSA() && k.Type.Encrypts() && k.Type != Managed {
		return nil, errPaddingType(k.Type)
	}
	switch k.Type.traits().family { //nolint:exhaustive // the others do not encrypt
	case managedKey:
		return v.encryptManaged(dst, plaintext, o.Padding)
	case aead:
		c, nonces, err := k.aeadFor(v, &o)
		if err != nil {
			return nil, err
		}
		at, size := len(dst), c.NonceSize()
		var room [chacha20poly1305.NonceSizeX]byte
		nonce := room[:size]
		if k.Convergent {
			convergentNonce(nonce, nonces, plaintext, o.AAD)
		} else {
			_, _ = rand.Read(nonce) // never fails (crypto/rand, since Go 1.24)
		}
		dst = append(dst, nonce...)
		return c.Seal(dst, dst[at:at+size], plaintext, o.AAD), nil
	case rsaKey:
		return v.encryptRSA(dst, plaintext, o.Padding)
	case kem:
		sealed, err := hpke.Seal(v.kemPub, hpke.HKDFSHA256(), hpke.AES256GCM(), o.AAD, plaintext)
		return append(dst, sealed...), err
	}
	return nil, errs.New(errs.Invalid, "message encryption not supported for key type %s", k.Type)
}

// Decrypt returns the plaintext of what Encrypt made with v.
func (k *Key) Decrypt(v *Version, ciphertext []byte, o CryptOptions) ([]byte, error) {
	if len(o.AAD) > 0 && !k.Type.Authenticates() {
		return nil, errs.New(errs.Invalid, "associated data provided for non-AEAD cipher suite %s", k.Type)
	}
	if o.Padding != "" && !k.Type.RSA() && k.Type.Encrypts() {
		return nil, errPaddingType(k.Type)
	}
	switch k.Type.traits().family { //nolint:exhaustive // the others do not encrypt
	case aead:
		c, _, err := k.aeadFor(v, &o)
		if err != nil {
			return nil, err
		}
		if len(ciphertext) < c.NonceSize() {
			return nil, errLength
		}
		nonce, sealed := ciphertext[:c.NonceSize()], ciphertext[c.NonceSize():]
		plain, err := c.Open(sealed[:0], nonce, sealed, o.AAD) // in place: the caller's copy is not needed again
		if err != nil {
			return nil, errAuth
		}
		return plain, nil
	case rsaKey:
		return v.decryptRSA(ciphertext, o.Padding)
	case kem:
		if v.kem == nil {
			return nil, errNoPrivate("decryption")
		}
		plain, err := hpke.Open(v.kem, hpke.HKDFSHA256(), hpke.AES256GCM(), o.AAD, ciphertext)
		if err != nil {
			return nil, errAuth
		}
		return plain, nil
	}
	return nil, errs.New(errs.Invalid, "message decryption not supported for key type %s", k.Type)
}

// ErrPublic is matched by the refusal of what needs a private part.
var ErrPublic error = errs.New(errs.Invalid, "does not contain a private part")

func errNoPrivate(doing string) error {
	return errs.New(errs.Invalid, "requested version for %s %w", doing, ErrPublic)
}

func errPaddingType(t Type) error {
	return errs.New(errs.Invalid, "padding_scheme argument invalid: unsupported key type %s for padding scheme", t)
}

func checkPadding(padding string) (old bool, err error) {
	switch padding {
	case "", "oaep":
		return false, nil
	case "pkcs1v15":
		return true, nil
	}
	return false, errs.New(errs.Invalid, "unsupported padding scheme %q: it must be oaep or pkcs1v15", padding)
}

func (v *Version) encryptRSA(dst, plaintext []byte, padding string) ([]byte, error) {
	old, err := checkPadding(padding)
	if err != nil {
		return nil, err
	}
	var sealed []byte
	if old {
		sealed, err = rsa.EncryptPKCS1v15(rand.Reader, v.rsaPub, plaintext) //nolint:staticcheck // asked for: Vault's padding_scheme
	} else {
		sealed, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, v.rsaPub, plaintext, nil)
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "failed to RSA encrypt the plaintext: %w", err)
	}
	return append(dst, sealed...), nil
}

func (v *Version) decryptRSA(ciphertext []byte, padding string) ([]byte, error) {
	old, err := checkPadding(padding)
	if err != nil {
		return nil, err
	}
	if v.rsa == nil {
		return nil, errNoPrivate("decryption")
	}
	var plain []byte
	if old {
		plain, err = rsa.DecryptPKCS1v15(nil, v.rsa, ciphertext) //nolint:staticcheck // asked for: Vault's padding_scheme
	} else {
		plain, err = rsa.DecryptOAEP(sha256.New(), nil, v.rsa, ciphertext, nil)
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "failed to RSA decrypt the ciphertext: %w", err)
	}
	return plain, nil
}

// DataKey makes a random key of 128, 256 or 512 bits. Errors are Invalid.
func DataKey(bits int) ([]byte, error) {
	switch bits {
	case 128, 256, 512:
		return random(bits / 8), nil
	}
	return nil, errs.New(errs.Invalid, "invalid bit length")
}
