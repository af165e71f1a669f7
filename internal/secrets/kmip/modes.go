package kmip

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"slices"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"

	"arca/internal/ttlv"
)

// Ciphers and modes that the standard library does not have, or not in parts.

// A ghash is the hash of GCM (NIST SP 800-38D, section 6.4), in constant time.
type ghash struct {
	h, y   [2]uint64
	partly [aes.BlockSize]byte
	n      int // bytes in partly
}

func newGHash(c cipher.Block) *ghash {
	var zero [aes.BlockSize]byte
	c.Encrypt(zero[:], zero[:])
	return &ghash{h: [2]uint64{binary.BigEndian.Uint64(zero[:]), binary.BigEndian.Uint64(zero[8:])}}
}

func (g *ghash) write(b []byte) {
	for len(b) > 0 {
		n := copy(g.partly[g.n:], b)
		b = b[n:]
		if g.n += n; g.n == aes.BlockSize {
			g.block()
		}
	}
}

// fill completes a block with zeros.
func (g *ghash) fill() {
	if g.n > 0 {
		clear(g.partly[g.n:])
		g.block()
	}
}

func (g *ghash) block() {
	g.n = 0
	x := [2]uint64{g.y[0] ^ binary.BigEndian.Uint64(g.partly[:]), g.y[1] ^ binary.BigEndian.Uint64(g.partly[8:])}
	var z [2]uint64
	v := g.h
	for i := range 128 {
		bit := -(x[i/64] >> (63 - i%64) & 1)
		z[0] ^= v[0] & bit
		z[1] ^= v[1] & bit
		low := -(v[1] & 1)
		v[1] = v[1]>>1 | v[0]<<63
		v[0] = v[0]>>1 ^ low&(0xe1<<56)
	}
	g.y = z
}

func (g *ghash) sum(additional, text uint64) (out [aes.BlockSize]byte) {
	g.fill()
	binary.BigEndian.PutUint64(g.partly[:], additional*8)
	binary.BigEndian.PutUint64(g.partly[8:], text*8)
	g.block()
	binary.BigEndian.PutUint64(out[:], g.y[0])
	binary.BigEndian.PutUint64(out[8:], g.y[1])
	return out
}

// firstBlock is J0 of GCM.
func firstBlock(c cipher.Block, iv []byte) []byte {
	if len(iv) == 12 {
		return append(slices.Clone(iv), 0, 0, 0, 1)
	}
	g := newGHash(c)
	g.write(iv)
	sum := g.sum(0, uint64(len(iv)))
	return sum[:]
}

// xts is XTS-AES (IEEE 1619), with a tweak of 16 bytes; a last partial block steals
// from the one before.
func xts(key, tweak, in []byte, encrypt bool) ([]byte, error) {
	if len(key) != 32 && len(key) != 64 || len(tweak) != aes.BlockSize || len(in) < aes.BlockSize ||
		subtle.ConstantTimeCompare(key[:len(key)/2], key[len(key)/2:]) == 1 {
		return nil, cryptoFailure("XTS needs two different keys of 128 or 256 bits, a tweak of 16 bytes and at least one block")
	}
	c, err := aes.NewCipher(key[:len(key)/2])
	if err != nil {
		return nil, err
	}
	second, err := aes.NewCipher(key[len(key)/2:])
	if err != nil {
		return nil, err
	}
	t := slices.Clone(tweak)
	second.Encrypt(t, t)
	one := func(dst, src, t []byte) {
		var b [aes.BlockSize]byte
		subtle.XORBytes(b[:], src, t)
		if encrypt {
			c.Encrypt(b[:], b[:])
		} else {
			c.Decrypt(b[:], b[:])
		}
		subtle.XORBytes(dst, b[:], t)
	}
	double := func(t []byte) []byte {
		out, carry := make([]byte, len(t)), byte(0)
		for i, b := range t {
			out[i] = b<<1 | carry
			carry = b >> 7
		}
		out[0] ^= -carry & 0x87
		return out
	}
	out := make([]byte, len(in))
	rest := len(in) % aes.BlockSize
	whole := len(in) - rest
	if rest > 0 {
		whole -= aes.BlockSize
	}
	for i := 0; i < whole; i += aes.BlockSize {
		one(out[i:i+aes.BlockSize], in[i:i+aes.BlockSize], t)
		t = double(t)
	}
	if rest == 0 {
		return out, nil
	}
	first, last := t, double(t)
	if !encrypt {
		first, last = last, first
	}
	var block [aes.BlockSize]byte
	one(block[:], in[whole:whole+aes.BlockSize], first)
	copy(out[whole+aes.BlockSize:], block[:rest])
	copy(block[:], in[whole+aes.BlockSize:])
	one(out[whole:whole+aes.BlockSize], block[:], last)
	return out, nil
}

// ccm is CCM (NIST SP 800-38C) as an AEAD for one length of nonces and tags.
type ccm struct {
	c          cipher.Block
	nonce, tag int
}

func newCCM(c cipher.Block, nonce, tag int) (cipher.AEAD, error) {
	if c.BlockSize() != aes.BlockSize || nonce < 7 || nonce > 13 || tag < 4 || tag > 16 || tag%2 != 0 {
		return nil, cryptoFailure("CCM has nonces of 7 to 13 bytes and tags of 4, 6, … 16")
	}
	return &ccm{c, nonce, tag}, nil
}

// NonceSize implements cipher.AEAD.
func (m *ccm) NonceSize() int { return m.nonce }

// Overhead implements cipher.AEAD.
func (m *ccm) Overhead() int { return m.tag }

func (m *ccm) mac(nonce, plain, additional []byte) []byte {
	var y [aes.BlockSize]byte
	block := func(b []byte) {
		var x [aes.BlockSize]byte
		copy(x[:], b)
		subtle.XORBytes(y[:], y[:], x[:])
		m.c.Encrypt(y[:], y[:])
	}
	b0 := make([]byte, aes.BlockSize)
	q := 15 - m.nonce
	b0[0] = byte((m.tag-2)/2<<3 | (q - 1))
	if len(additional) > 0 {
		b0[0] |= 0x40
	}
	copy(b0[1:], nonce)
	for i, n := 15, len(plain); i > 15-q; i-- {
		b0[i] = byte(n)
		n >>= 8
	}
	block(b0)
	if len(additional) > 0 {
		var a []byte
		if len(additional) < 0xff00 {
			a = binary.BigEndian.AppendUint16(nil, uint16(len(additional)))
		} else {
			a = binary.BigEndian.AppendUint32([]byte{0xff, 0xfe}, uint32(len(additional)))
		}
		for part := range slices.Chunk(append(a, additional...), aes.BlockSize) {
			block(part)
		}
	}
	for part := range slices.Chunk(plain, aes.BlockSize) {
		block(part)
	}
	return y[:]
}

func (m *ccm) stream(nonce []byte) (cipher.Stream, []byte) {
	ctr := make([]byte, aes.BlockSize)
	ctr[0] = byte(14 - m.nonce)
	copy(ctr[1:], nonce)
	s := cipher.NewCTR(m.c, ctr)
	first := make([]byte, aes.BlockSize)
	s.XORKeyStream(first, first)
	return s, first
}

// Seal implements cipher.AEAD.
func (m *ccm) Seal(dst, nonce, plain, additional []byte) []byte {
	s, first := m.stream(nonce)
	tag := m.mac(nonce, plain, additional)
	subtle.XORBytes(tag, tag, first)
	out := make([]byte, len(plain))
	s.XORKeyStream(out, plain)
	return append(append(dst, out...), tag[:m.tag]...)
}

// Open implements cipher.AEAD.
func (m *ccm) Open(dst, nonce, sealed, additional []byte) ([]byte, error) {
	if len(sealed) < m.tag {
		return nil, errShortData
	}
	s, first := m.stream(nonce)
	out := make([]byte, len(sealed)-m.tag)
	s.XORKeyStream(out, sealed[:len(out)])
	tag := m.mac(nonce, out, additional)
	subtle.XORBytes(tag, tag, first)
	if subtle.ConstantTimeCompare(tag[:m.tag], sealed[len(out):]) != 1 {
		clear(out)
		return nil, errShortData
	}
	return append(dst, out...), nil
}

// cmac is CMAC (NIST SP 800-38B).
func cmac(c cipher.Block, in []byte) []byte {
	size := c.BlockSize()
	double := func(b []byte) []byte {
		out, carry := make([]byte, size), byte(0)
		for i := size - 1; i >= 0; i-- {
			out[i] = b[i]<<1 | carry
			carry = b[i] >> 7
		}
		r := byte(0x87)
		if size == 8 {
			r = 0x1b
		}
		out[size-1] ^= -carry & r
		return out
	}
	zero := make([]byte, size)
	c.Encrypt(zero, zero)
	k := double(zero)
	last := make([]byte, size)
	n := (len(in) + size - 1) / size
	if n == 0 {
		n = 1
	}
	copy(last, in[(n-1)*size:])
	if len(in) == 0 || len(in)%size != 0 {
		k = double(k)
		last[len(in)-(n-1)*size] = 0x80
	}
	subtle.XORBytes(last, last, k)
	y := make([]byte, size)
	for i := range n - 1 {
		subtle.XORBytes(y, y, in[i*size:(i+1)*size])
		c.Encrypt(y, y)
	}
	subtle.XORBytes(y, y, last)
	c.Encrypt(y, y)
	return y
}

// chacha is ChaCha20 from a place on. Nonces of 8 bytes are those of its first form.
func chacha(key, nonce []byte, counter uint32) (*chacha20.Cipher, error) {
	if len(nonce) == 8 {
		nonce = append(make([]byte, 4), nonce...)
	}
	s, err := chacha20.NewUnauthenticatedCipher(key, nonce)
	if err != nil {
		return nil, cryptoFailure("ChaCha20 has keys of 32 bytes and nonces of 8, 12 or 24")
	}
	s.SetCounter(counter)
	return s, nil
}

// algorithm is that of the key.
func (u *use) algorithm() uint32 {
	if n := u.o.get(attrAlgorithm); n != nil {
		return uint32(n.Int)
	}
	return 0
}

// aead is the authenticated cipher that a use means, nil for one that is none.
func (u *use) aead(mode uint32, nonce []byte) (cipher.AEAD, error) {
	switch {
	case u.algorithm() == ttlv.CryptographicAlgorithmChaCha20Poly1305:
		key, err := rawOf(u.key)
		if err != nil {
			return nil, err
		}
		a, err := chacha20poly1305.New(key)
		if err != nil || len(nonce) != a.NonceSize() {
			return nil, cryptoFailure("ChaCha20-Poly1305 has keys of 32 bytes and nonces of 12")
		}
		n, err := u.tagLength()
		if err != nil {
			return nil, err
		}
		if n != 16 {
			return shortTag{a, n}, nil
		}
		return a, nil
	case mode == ttlv.BlockCipherModeGCM:
		return u.gcm(nonce)
	case mode == ttlv.BlockCipherModeCCM:
		c, err := u.block()
		if err != nil {
			return nil, err
		}
		n := 16
		if t := u.params.Get(ttlv.TagTagLength); t != nil {
			n = int(t.Int)
		}
		return newCCM(c, len(nonce), n)
	}
	return nil, nil //nolint:nilnil // it is none
}

// nonceSize is how long a nonce is that the server makes; 0 where there is none.
func (u *use) nonceSize(mode uint32) (int, error) {
	alg := u.algorithm()
	switch {
	case alg == ttlv.CryptographicAlgorithmChaCha20, alg == ttlv.CryptographicAlgorithmChaCha20Poly1305, mode == ttlv.BlockCipherModeGCM, mode == ttlv.BlockCipherModeCCM:
		return 12, nil
	case slices.Contains([]uint32{ttlv.BlockCipherModeECB, ttlv.BlockCipherModeNISTKeyWrap, ttlv.BlockCipherModeAESKeyWrapPadding}, mode):
		return 0, nil
	case mode == ttlv.BlockCipherModeXTS:
		return aes.BlockSize, nil
	}
	c, err := u.block()
	if err != nil {
		return 0, err
	}
	return c.BlockSize(), nil
}
