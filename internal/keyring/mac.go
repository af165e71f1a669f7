package keyring

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/subtle"

	"arca/internal/errs"
)

// HMACKey is the key of MAC: that of an hmac key, else one that every version has.
func (v *Version) HMACKey() []byte {
	if v.spec.Type == HMAC {
		return v.m.Secret
	}
	return v.m.HMAC
}

// MAC returns the HMAC of input (RFC 2104).
func (v *Version) MAC(h crypto.Hash, input []byte) []byte {
	m := hmac.New(h.New, v.HMACKey())
	m.Write(input)
	return m.Sum(nil)
}

// CMAC returns the first n bytes, 0 for all 16, of the AES-CMAC of input (NIST
// SP 800-38B, RFC 4493).
func (v *Version) CMAC(input []byte, n int) ([]byte, error) {
	if !v.spec.Type.CMACs() {
		return nil, errs.New(errs.Invalid, "key type %s does not support CMAC", v.spec.Type)
	}
	if n < 0 || n > aes.BlockSize {
		return nil, errs.New(errs.Invalid, "mac_length %d is not between 1 and %d", n, aes.BlockSize)
	}
	b, err := aes.NewCipher(v.m.Secret)
	if err != nil {
		return nil, errMaterial
	}
	if n == 0 {
		n = aes.BlockSize
	}
	sum := cmac(b, input)
	return sum[:n], nil
}

func cmac(b cipher.Block, input []byte) (sum [aes.BlockSize]byte) {
	var sub [aes.BlockSize]byte
	b.Encrypt(sub[:], sub[:])
	double(&sub)
	for len(input) > aes.BlockSize {
		subtle.XORBytes(sum[:], sum[:], input[:aes.BlockSize])
		b.Encrypt(sum[:], sum[:])
		input = input[aes.BlockSize:]
	}
	var last [aes.BlockSize]byte
	if n := copy(last[:], input); n < aes.BlockSize {
		last[n] = 0x80
		double(&sub)
	}
	subtle.XORBytes(sum[:], sum[:], last[:])
	subtle.XORBytes(sum[:], sum[:], sub[:])
	b.Encrypt(sum[:], sum[:])
	return sum
}

// double multiplies by x in GF(2^128), in constant time.
func double(s *[aes.BlockSize]byte) {
	carry := byte(0)
	for i := len(s) - 1; i >= 0; i-- {
		next := s[i] >> 7
		s[i] = s[i]<<1 | carry
		carry = next
	}
	s[len(s)-1] ^= 0x87 & -carry
}
