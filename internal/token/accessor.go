package token

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"math/bits"
	"strings"

	"arca/internal/namespace"
)

// An accessor names a token to those who may not use it. It is the key of the
// token's record, encrypted as one block under a key of its own and written in
// base62: whoever knows it learns neither the token nor where its record lies,
// and the server needs no index to find the record.
type accessors struct{ block cipher.Block }

func newAccessors(key []byte) (*accessors, error) {
	b, err := aes.NewCipher(key)
	return &accessors{b}, err
}

// accessorLength is how many base62 characters hold 128 bits.
const accessorLength = 22

// of returns the accessor of the token with a key.
func (a *accessors) of(ns, key string) string {
	var block [aes.BlockSize]byte
	if n, err := base64.RawURLEncoding.Decode(block[:], []byte(key)); err != nil || n != len(block) {
		return "" // not a key of ours
	}
	a.block.Encrypt(block[:], block[:])
	text := encode62(block)
	if ns != namespace.RootID {
		text += "." + ns
	}
	return text
}

// key finds the namespace and key of the token that an accessor names.
func (a *accessors) key(accessor string) (ns, key string, ok bool) {
	text, ns, named := strings.Cut(accessor, ".")
	if !named {
		ns = namespace.RootID
	} else if !namespace.ValidID(ns) {
		return "", "", false
	}
	sealed, ok := decode62(text)
	if !ok {
		return "", "", false
	}
	var plain [aes.BlockSize]byte
	a.block.Decrypt(plain[:], sealed[:])
	return ns, base64.RawURLEncoding.EncodeToString(plain[:]), true
}

// encode62 writes 128 bits as a number in base62, most significant digit first.
func encode62(b [16]byte) string {
	hi, lo := be64(b[:8]), be64(b[8:])
	var out [accessorLength]byte
	for i := accessorLength - 1; i >= 0; i-- {
		var rest uint64
		hi, rest = hi/62, hi%62
		lo, rest = bits.Div64(rest, lo, 62)
		out[i] = alphabet[rest]
	}
	return string(out[:])
}

// decode62 reads what encode62 writes, and nothing else.
func decode62(s string) (b [16]byte, ok bool) {
	if len(s) != accessorLength {
		return b, false
	}
	var hi, lo uint64
	for i := range len(s) {
		digit := strings.IndexByte(alphabet, s[i])
		if digit < 0 {
			return b, false
		}
		over, h := bits.Mul64(hi, 62)
		carry, l := bits.Mul64(lo, 62)
		var c uint64
		l, c = bits.Add64(l, uint64(digit), 0)
		h, c = bits.Add64(h, carry, c)
		if over != 0 || c != 0 {
			return b, false
		}
		hi, lo = h, l
	}
	for i := range 8 {
		b[i], b[8+i] = byte(hi>>(56-8*i)), byte(lo>>(56-8*i))
	}
	return b, true
}

func be64(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}
