package pkcs12

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // G502: files of others have it
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"hash"
	"math/bits"
	"slices"
	"unicode/utf16"
)

func hashOf(id asn1.ObjectIdentifier) func() hash.Hash {
	switch id.String() {
	case "1.3.14.3.2.26", "1.2.840.113549.2.7":
		return sha1.New
	case "2.16.840.1.101.3.4.2.1", "1.2.840.113549.2.9":
		return sha256.New
	case "2.16.840.1.101.3.4.2.2", "1.2.840.113549.2.10":
		return sha512.New384
	case "2.16.840.1.101.3.4.2.3", "1.2.840.113549.2.11":
		return sha512.New
	}
	return nil
}

func mac(h func() hash.Hash, key, data []byte) []byte {
	m := hmac.New(h, key)
	m.Write(data)
	return m.Sum(nil)
}

// spend takes runs of hashing from what is left for the file.
func (r *reader) spend(n int) error {
	if n < 1 || n > r.runs {
		return ErrFile
	}
	r.runs -= n
	return nil
}

// derive makes a key of the password as files of PKCS #12 do (RFC 7292, appendix B.2).
func (r *reader) derive(newHash func() hash.Hash, salt []byte, runs int, id byte, n int) ([]byte, error) {
	h := newHash()
	u, v := h.Size(), h.BlockSize()
	if len(salt) > 1024 || runs < 1 || runs > maxRuns {
		return nil, ErrFile
	}
	if err := r.spend(runs * ((n + u - 1) / u)); err != nil {
		return nil, err
	}
	text := []byte{}
	for _, c := range utf16.Encode([]rune(string(r.password))) {
		text = append(text, byte(c>>8), byte(c))
	}
	text = append(text, 0, 0)
	fill := func(b []byte) []byte {
		if len(b) == 0 {
			return nil
		}
		size := (len(b) + v - 1) / v * v
		return slices.Repeat(b, size/len(b)+1)[:size]
	}
	in := append(fill(salt), fill(text)...)
	d := slices.Repeat([]byte{id}, v)
	var out []byte
	for len(out) < n {
		h.Reset()
		h.Write(d)
		h.Write(in)
		a := h.Sum(nil)
		for range runs - 1 {
			h.Reset()
			h.Write(a)
			a = h.Sum(a[:0])
		}
		out = append(out, a...)
		b := slices.Repeat(a, v/u+1)[:v]
		for at := 0; at < len(in); at += v { // each block plus b plus one
			carry := uint16(1)
			for i := v - 1; i >= 0; i-- {
				carry += uint16(in[at+i]) + uint16(b[i])
				in[at+i] = byte(carry)
				carry >>= 8
			}
		}
	}
	return out[:n], nil
}

type pbeParams struct {
	Salt []byte
	Runs int
}

type pbes2Params struct {
	KDF    pkix.AlgorithmIdentifier
	Cipher pkix.AlgorithmIdentifier
}

type pbkdf2Params struct {
	Salt   []byte
	Runs   int
	Length int                      `asn1:"optional"`
	PRF    pkix.AlgorithmIdentifier `asn1:"optional"`
}

// decrypt undoes the encryption that an algorithm names.
func (r *reader) decrypt(alg *pkix.AlgorithmIdentifier, data []byte) ([]byte, error) {
	if alg.Algorithm.Equal(pkcs(5, 13)) {
		return r.decrypt2(alg, data)
	}
	var p pbeParams
	if unmarshal(alg.Parameters.FullBytes, &p) != nil {
		return nil, ErrFile
	}
	size := map[string]int{"1.2.840.113549.1.12.1.3": 24, "1.2.840.113549.1.12.1.4": 16, "1.2.840.113549.1.12.1.5": 16, "1.2.840.113549.1.12.1.6": 5}[alg.Algorithm.String()]
	if size == 0 {
		return nil, ErrFile
	}
	key, err := r.derive(sha1.New, p.Salt, p.Runs, 1, size)
	if err != nil {
		return nil, err
	}
	iv, err := r.derive(sha1.New, p.Salt, p.Runs, 2, 8)
	if err != nil {
		return nil, err
	}
	var c cipher.Block
	switch alg.Algorithm[len(alg.Algorithm)-1] {
	case 3, 4:
		if size == 16 {
			key = append(key, key[:8]...)
		}
		c, err = des.NewTripleDESCipher(key) //nolint:gosec // G405: as above
	default:
		c = newRC2(key)
	}
	if err != nil {
		return nil, ErrFile
	}
	return open(c, iv, data)
}

func (r *reader) decrypt2(alg *pkix.AlgorithmIdentifier, data []byte) ([]byte, error) {
	var p pbes2Params
	var k pbkdf2Params
	var iv []byte
	if unmarshal(alg.Parameters.FullBytes, &p) != nil || !p.KDF.Algorithm.Equal(pkcs(5, 12)) ||
		unmarshal(p.KDF.Parameters.FullBytes, &k) != nil || unmarshal(p.Cipher.Parameters.FullBytes, &iv) != nil {
		return nil, ErrFile
	}
	size := map[string]int{
		"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32, "1.2.840.113549.3.7": 24,
	}[p.Cipher.Algorithm.String()]
	h := sha1.New
	if k.PRF.Algorithm != nil {
		h = hashOf(k.PRF.Algorithm)
	}
	if size == 0 || h == nil || len(k.Salt) > 1024 || k.Runs < 1 || k.Runs > maxRuns {
		return nil, ErrFile
	}
	if err := r.spend(k.Runs * ((size + h().Size() - 1) / h().Size())); err != nil {
		return nil, err
	}
	key, err := pbkdf2.Key(h, string(r.password), k.Salt, k.Runs, size)
	if err != nil {
		return nil, ErrFile
	}
	c, err := aes.NewCipher(key)
	if p.Cipher.Algorithm.Equal(oid(1, 2, 840, 113549, 3, 7)) {
		c, err = des.NewTripleDESCipher(key) //nolint:gosec // G405: as above
	}
	if err != nil {
		return nil, ErrFile
	}
	return open(c, iv, data)
}

// open undoes CBC with padding. That it is not right means another password.
func open(c cipher.Block, iv, data []byte) ([]byte, error) {
	size := c.BlockSize()
	if len(iv) != size || len(data) == 0 || len(data)%size != 0 {
		return nil, ErrFile
	}
	out := make([]byte, len(data))
	cipher.NewCBCDecrypter(c, iv).CryptBlocks(out, data)
	n := int(out[len(out)-1])
	if n < 1 || n > size {
		return nil, ErrPassword
	}
	for _, b := range out[len(out)-n:] {
		if int(b) != n {
			return nil, ErrPassword
		}
	}
	return out[:len(out)-n], nil
}

// encrypt encrypts with AES-256 under the password.
func (w *writer) encrypt(data []byte) ([]byte, pkix.AlgorithmIdentifier) {
	salt, iv := w.random(16), w.random(aes.BlockSize)
	key, err := pbkdf2.Key(sha256.New, string(w.password), salt, runs, 32)
	if err != nil {
		w.err = err
		return nil, pkix.AlgorithmIdentifier{}
	}
	raw := func(v any) asn1.RawValue { return asn1.RawValue{FullBytes: w.marshal(v)} }
	alg := pkix.AlgorithmIdentifier{Algorithm: pkcs(5, 13), Parameters: raw(pbes2Params{
		KDF: pkix.AlgorithmIdentifier{Algorithm: pkcs(5, 12), Parameters: raw(pbkdf2Params{
			Salt: salt, Runs: runs, PRF: pkix.AlgorithmIdentifier{Algorithm: oid(1, 2, 840, 113549, 2, 9), Parameters: asn1.NullRawValue},
		})},
		Cipher: pkix.AlgorithmIdentifier{Algorithm: oid(2, 16, 840, 1, 101, 3, 4, 1, 42), Parameters: raw(iv)},
	})}
	c, err := aes.NewCipher(key)
	if err != nil {
		w.err = err
		return nil, alg
	}
	n := aes.BlockSize - len(data)%aes.BlockSize
	out := append(slices.Clone(data), slices.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(c, iv).CryptBlocks(out, out)
	return out, alg
}

// An rc2 is the cipher of old files (RFC 2268). It only decrypts.
type rc2 [64]uint16

// newRC2 expands a key, all of whose bits count.
func newRC2(key []byte) *rc2 {
	pi := piTable()
	var l [128]byte
	t := copy(l[:], key)
	for i := t; i < 128; i++ {
		l[i] = pi[l[i-1]+l[i-t]]
	}
	l[128-t] = pi[l[128-t]]
	for i := 127 - t; i >= 0; i-- {
		l[i] = pi[l[i+1]^l[i+t]]
	}
	var k rc2
	for i := range k {
		k[i] = binary.LittleEndian.Uint16(l[2*i:])
	}
	return &k
}

// BlockSize implements cipher.Block.
func (*rc2) BlockSize() int { return 8 }

// Encrypt implements cipher.Block. Nothing is encrypted so.
func (*rc2) Encrypt([]byte, []byte) { panic("pkcs12: RC2 only decrypts") }

// Decrypt implements cipher.Block.
func (k *rc2) Decrypt(dst, src []byte) {
	var r [4]uint16
	for i := range r {
		r[i] = binary.LittleEndian.Uint16(src[2*i:])
	}
	j := 63
	mix := func() {
		for i := 3; i >= 0; i-- {
			r[i] = bits.RotateLeft16(r[i], -[]int{1, 2, 3, 5}[i])
			r[i] -= k[j] + r[(i+3)%4]&r[(i+2)%4] + ^r[(i+3)%4]&r[(i+1)%4]
			j--
		}
	}
	mash := func() {
		for i := 3; i >= 0; i-- {
			r[i] -= k[r[(i+3)%4]&63]
		}
	}
	for range 5 {
		mix()
	}
	mash()
	for range 6 {
		mix()
	}
	mash()
	for range 5 {
		mix()
	}
	for i, v := range r {
		binary.LittleEndian.PutUint16(dst[2*i:], v)
	}
}

// piTable is the permutation that RC2 takes from the digits of pi.
func piTable() *[256]byte {
	return &[256]byte{
		0xd9, 0x78, 0xf9, 0xc4, 0x19, 0xdd, 0xb5, 0xed, 0x28, 0xe9, 0xfd, 0x79, 0x4a, 0xa0, 0xd8, 0x9d,
		0xc6, 0x7e, 0x37, 0x83, 0x2b, 0x76, 0x53, 0x8e, 0x62, 0x4c, 0x64, 0x88, 0x44, 0x8b, 0xfb, 0xa2,
		0x17, 0x9a, 0x59, 0xf5, 0x87, 0xb3, 0x4f, 0x13, 0x61, 0x45, 0x6d, 0x8d, 0x09, 0x81, 0x7d, 0x32,
		0xbd, 0x8f, 0x40, 0xeb, 0x86, 0xb7, 0x7b, 0x0b, 0xf0, 0x95, 0x21, 0x22, 0x5c, 0x6b, 0x4e, 0x82,
		0x54, 0xd6, 0x65, 0x93, 0xce, 0x60, 0xb2, 0x1c, 0x73, 0x56, 0xc0, 0x14, 0xa7, 0x8c, 0xf1, 0xdc,
		0x12, 0x75, 0xca, 0x1f, 0x3b, 0xbe, 0xe4, 0xd1, 0x42, 0x3d, 0xd4, 0x30, 0xa3, 0x3c, 0xb6, 0x26,
		0x6f, 0xbf, 0x0e, 0xda, 0x46, 0x69, 0x07, 0x57, 0x27, 0xf2, 0x1d, 0x9b, 0xbc, 0x94, 0x43, 0x03,
		0xf8, 0x11, 0xc7, 0xf6, 0x90, 0xef, 0x3e, 0xe7, 0x06, 0xc3, 0xd5, 0x2f, 0xc8, 0x66, 0x1e, 0xd7,
		0x08, 0xe8, 0xea, 0xde, 0x80, 0x52, 0xee, 0xf7, 0x84, 0xaa, 0x72, 0xac, 0x35, 0x4d, 0x6a, 0x2a,
		0x96, 0x1a, 0xd2, 0x71, 0x5a, 0x15, 0x49, 0x74, 0x4b, 0x9f, 0xd0, 0x5e, 0x04, 0x18, 0xa4, 0xec,
		0xc2, 0xe0, 0x41, 0x6e, 0x0f, 0x51, 0xcb, 0xcc, 0x24, 0x91, 0xaf, 0x50, 0xa1, 0xf4, 0x70, 0x39,
		0x99, 0x7c, 0x3a, 0x85, 0x23, 0xb8, 0xb4, 0x7a, 0xfc, 0x02, 0x36, 0x5b, 0x25, 0x55, 0x97, 0x31,
		0x2d, 0x5d, 0xfa, 0x98, 0xe3, 0x8a, 0x92, 0xae, 0x05, 0xdf, 0x29, 0x10, 0x67, 0x6c, 0xba, 0xc9,
		0xd3, 0x00, 0xe6, 0xcf, 0xe1, 0x9e, 0xa8, 0x2c, 0x63, 0x16, 0x01, 0x3f, 0x58, 0xe2, 0x89, 0xa9,
		0x0d, 0x38, 0x34, 0x1b, 0xab, 0x33, 0xff, 0xb0, 0xbb, 0x48, 0x0c, 0x5f, 0xb9, 0xb1, 0xcd, 0x2e,
		0xc5, 0xf3, 0xdb, 0x47, 0xe5, 0xa5, 0x9c, 0x77, 0x0a, 0xa6, 0x20, 0x68, 0xfe, 0x7f, 0xc1, 0xad,
	}
}
