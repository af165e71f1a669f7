// Package shamir splits a secret into shares of which a threshold suffices to
// restore it, and fewer tell nothing (Shamir, "How to share a secret", 1979).
//
// Each byte of the secret is the constant term of a random polynomial over
// GF(2^8) with the reduction polynomial of AES (FIPS 197, 4.2). A share is the
// value of all polynomials at one point, followed by that point: the layout of
// Vault's key shares, so that a share of a 32-byte secret has 33 bytes.
//
// Arithmetic runs in constant time: no branch and no table index depends on a
// secret byte.
package shamir

import (
	"crypto/rand"
	"errors"
)

// MaxShares is how many shares there can be: the non-zero points of the field.
const MaxShares = 255

// Overhead is how much longer a share is than the secret.
const Overhead = 1

// Errors of Split and Combine. The texts of Combine are those Vault's clients see.
var (
	ErrCounts    = errors.New("need 2 <= threshold <= shares <= 255")
	ErrEmpty     = errors.New("cannot split an empty secret")
	ErrTooFew    = errors.New("less than two parts cannot be used to reconstruct the secret")
	ErrShort     = errors.New("parts must be at least two bytes")
	ErrLengths   = errors.New("all parts must be the same length")
	ErrDuplicate = errors.New("duplicate part detected")
	ErrPoint     = errors.New("a part has no valid coordinate")
)

// Split makes n shares of secret, any t of which restore it. The shares are
// the caller's to wipe.
func Split(secret []byte, n, t int) ([][]byte, error) {
	if t < 2 || t > n || n > MaxShares {
		return nil, ErrCounts
	}
	if len(secret) == 0 {
		return nil, ErrEmpty
	}
	shares := make([][]byte, n)
	for i := range shares {
		shares[i] = make([]byte, len(secret)+Overhead)
		shares[i][len(secret)] = byte(i + 1)
	}
	poly := make([]byte, t)
	defer clear(poly)
	for at, b := range secret {
		poly[0] = b
		_, _ = rand.Read(poly[1:]) // never fails (crypto/rand, since Go 1.24)
		for _, s := range shares {
			s[at] = eval(poly, s[len(secret)])
		}
	}
	return shares, nil
}

// Combine restores the secret from shares. With too few, wrong or altered
// shares it gives some other bytes: only their user can tell. The result is
// the caller's to wipe.
func Combine(shares [][]byte) ([]byte, error) {
	if len(shares) < 2 {
		return nil, ErrTooFew
	}
	size := len(shares[0]) - Overhead
	if size < 1 {
		return nil, ErrShort
	}
	var seen [256]bool // points are no secrets
	points := make([]byte, len(shares))
	for i, s := range shares {
		if len(s) != size+Overhead {
			return nil, ErrLengths
		}
		x := s[size]
		if x == 0 {
			return nil, ErrPoint
		}
		if seen[x] {
			return nil, ErrDuplicate
		}
		seen[x] = true
		points[i] = x
	}
	weights := atZero(points)
	secret := make([]byte, size)
	for i, s := range shares {
		for at := range secret {
			secret[at] ^= mul(s[at], weights[i])
		}
	}
	return secret, nil
}

// atZero gives the Lagrange weights with which the values at the points add up
// to the value at zero.
func atZero(points []byte) []byte {
	weights := make([]byte, len(points))
	for i, xi := range points {
		num, den := byte(1), byte(1)
		for j, xj := range points {
			if i == j {
				continue
			}
			num = mul(num, xj)
			den = mul(den, xi^xj)
		}
		weights[i] = mul(num, inverse(den))
	}
	return weights
}

// eval gives the value at x of the polynomial with these coefficients, the
// constant term first.
func eval(poly []byte, x byte) byte {
	var y byte
	for i := len(poly) - 1; i >= 0; i-- {
		y = mul(y, x) ^ poly[i]
	}
	return y
}

// mul multiplies in GF(2^8) by shifting and adding, all eight steps always.
func mul(a, b byte) byte {
	var p byte
	for range 8 {
		p ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return p
}

// inverse gives a^254, which is 1/a, and 0 for 0.
func inverse(a byte) byte {
	p := byte(1)
	for range 7 { // 254 is seven ones and a zero in binary
		a = mul(a, a)
		p = mul(p, a)
	}
	return p
}
