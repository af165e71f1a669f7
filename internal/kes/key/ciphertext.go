package key

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"slices"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
)

// A ciphertext of today is what was sealed, its tag, the IV and the nonce.
const (
	tagSize   = 16
	ivSize    = 16
	nonceSize = 12
	// Overhead is how many bytes a ciphertext is longer than its plaintext.
	Overhead = tagSize + ivSize + nonceSize
)

// Encrypt seals the plaintext; the context is authenticated and not kept. Each
// call draws a fresh IV and nonce.
func (k *Key) Encrypt(plaintext, context []byte) ([]byte, error) {
	var random [ivSize + nonceSize]byte
	_, _ = rand.Read(random[:]) // never fails
	return k.seal(plaintext, context, &random)
}

// EncryptAs is Encrypt for a key with versions, of which k is number n: the last
// four bytes of the IV tell it, and the other twelve are random. To all others
// the ciphertext is one like others; what is sealed depends on the whole IV.
func (k *Key) EncryptAs(n uint32, plaintext, context []byte) ([]byte, error) {
	var random [ivSize + nonceSize]byte
	_, _ = rand.Read(random[:]) // never fails
	binary.BigEndian.PutUint32(random[ivSize-4:ivSize], n)
	return k.seal(plaintext, context, &random)
}

// VersionOf returns the number that EncryptAs has put into a ciphertext; of one
// that it has not made, any number.
func VersionOf(ciphertext []byte) uint32 {
	c, ok := parse(ciphertext)
	if !ok {
		return 0
	}
	return binary.BigEndian.Uint32(c.iv[ivSize-4:])
}

func (k *Key) seal(plaintext, context []byte, random *[ivSize + nonceSize]byte) ([]byte, error) {
	iv, nonce := random[:ivSize], random[ivSize:]
	aead, err := k.sealer(k.Cipher, iv)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(plaintext)+Overhead)
	out = aead.Seal(out, nonce, plaintext, context)
	return append(out, random[:]...), nil
}

// Decrypt opens a ciphertext of any form. Whatever is wrong with it, the error
// is ErrNotAuthentic.
func (k *Key) Decrypt(ciphertext, context []byte) ([]byte, error) {
	c, ok := parse(ciphertext)
	if !ok {
		return nil, ErrNotAuthentic
	}
	use := k.Cipher
	switch {
	case use == Unspecified:
		use = c.cipher
	case c.cipher != Unspecified && c.cipher != use:
		return nil, ErrNotAuthentic
	}
	if c.id != "" && subtle.ConstantTimeCompare([]byte(c.id), []byte(k.ID())) != 1 {
		return nil, ErrNotAuthentic
	}
	plaintext, err := k.open(use, c, context)
	if err != nil && use == Unspecified && ChaCha20.Usable() {
		// Neither the key nor the ciphertext names a cipher: it was the KES' that made
		// it, by its processor.
		plaintext, err = k.open(ChaCha20, c, context)
	}
	if err != nil {
		return nil, ErrNotAuthentic
	}
	return plaintext, nil
}

func (k *Key) open(use Cipher, c parsed, context []byte) ([]byte, error) {
	aead, err := k.sealer(use, c.iv)
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, c.nonce, c.sealed, context)
}

// sealer derives the key of one ciphertext from its IV.
func (k *Key) sealer(c Cipher, iv []byte) (cipher.AEAD, error) {
	if !c.Usable() {
		return nil, ErrCipher
	}
	if c == ChaCha20 {
		derived, err := chacha20.HChaCha20(k.secret[:], iv)
		if err != nil {
			return nil, err
		}
		return chacha20poly1305.New(derived)
	}
	m := hmac.New(sha256.New, k.secret[:])
	m.Write(iv)
	block, err := aes.NewCipher(m.Sum(nil))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// A parsed ciphertext. Today's form names no cipher and no key.
type parsed struct {
	cipher Cipher
	id     string
	iv     []byte
	nonce  []byte
	sealed []byte // with the tag
}

// parse takes a ciphertext apart. What begins like an old form and is none is
// taken for today's: a random ciphertext may begin so.
func parse(b []byte) (parsed, bool) {
	if len(b) == 0 {
		return parsed{}, false
	}
	old, ok := parsed{}, false
	switch b[0] {
	case 0x95:
		old, ok = parseMsgpack(b)
	case '{':
		old, ok = parseJSON(b)
	}
	if ok {
		return old, true
	}
	if len(b) < Overhead {
		return parsed{}, false
	}
	n := len(b) - nonceSize - ivSize
	return parsed{sealed: b[:n], iv: b[n : n+ivSize], nonce: b[n+ivSize:]}, true
}

// parseJSON reads the form from before 2022.
func parseJSON(b []byte) (parsed, bool) {
	var in struct {
		AEAD   string `json:"aead"`
		ID     string `json:"id"`
		IV     []byte `json:"iv"`
		Nonce  []byte `json:"nonce"`
		Sealed []byte `json:"bytes"`
	}
	if json.Unmarshal(b, &in) != nil {
		return parsed{}, false
	}
	c := parsed{id: in.ID, iv: in.IV, nonce: in.Nonce, sealed: in.Sealed}
	switch in.AEAD {
	case "AES-256-GCM-HMAC-SHA-256":
		c.cipher = AES256
	case "ChaCha20Poly1305":
		c.cipher = ChaCha20
	default:
		return parsed{}, false
	}
	return c, c.fits()
}

// parseMsgpack reads the form of 2022 to January 2024: an array of cipher, key
// ID, IV, nonce and sealed bytes.
func parseMsgpack(b []byte) (parsed, bool) {
	r := msgpack(b[1:])
	name, ok1 := r.text()
	id, ok2 := r.text()
	iv, ok3 := r.bytes()
	nonce, ok4 := r.bytes()
	sealed, ok5 := r.bytes()
	alg, known := ParseCipher(string(name))
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !known || len(r) != 0 {
		return parsed{}, false
	}
	c := parsed{cipher: alg, id: string(id), iv: iv, nonce: nonce, sealed: sealed}
	return c, c.fits()
}

func (c parsed) fits() bool {
	return len(c.iv) == ivSize && len(c.nonce) == nonceSize && len(c.sealed) >= tagSize
}

// A msgpack is what is left to read of a MessagePack document: of that format,
// strings and byte strings.
type msgpack []byte

// text reads a string: a fixstr, str 8, str 16 or str 32.
func (r *msgpack) text() ([]byte, bool) {
	if len(*r) == 0 {
		return nil, false
	}
	head := (*r)[0]
	if head&0xe0 == 0xa0 {
		*r = (*r)[1:]
		return r.take(int(head & 0x1f))
	}
	return r.sized(0xd9)
}

// bytes reads a byte string: a bin 8, bin 16 or bin 32.
func (r *msgpack) bytes() ([]byte, bool) { return r.sized(0xc4) }

// sized reads a value whose head is one of three, from first on, with a length
// of one, two or four bytes.
func (r *msgpack) sized(first byte) ([]byte, bool) {
	if len(*r) == 0 {
		return nil, false
	}
	width := slices.Index([]byte{first, first + 1, first + 2}, (*r)[0])
	if width < 0 {
		return nil, false
	}
	*r = (*r)[1:]
	digits, ok := r.take(1 << width)
	if !ok {
		return nil, false
	}
	n := 0
	for _, d := range digits {
		n = n<<8 | int(d)
	}
	return r.take(n)
}

func (r *msgpack) take(n int) ([]byte, bool) {
	if n < 0 || n > len(*r) {
		return nil, false
	}
	out := (*r)[:n]
	*r = (*r)[n:]
	return out, true
}
