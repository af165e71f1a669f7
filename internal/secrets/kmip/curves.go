package kmip

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"

	"arca/internal/ttlv"
)

// Keys on curves, and RSA keys in parts, in the formats of the protocol that are
// structures (KMIP 1.4, section 2.1.7).

// A private key, or what only agrees on others (X25519), which signs nothing.
type secretKey interface{ Public() crypto.PublicKey }

// curveOf is a curve by its number in the protocol, nil for one that is not there.
func curveOf(number uint32) elliptic.Curve {
	switch number {
	case ttlv.RecommendedCurveP_224:
		return elliptic.P224()
	case ttlv.RecommendedCurveP_256:
		return elliptic.P256()
	case ttlv.RecommendedCurveP_384:
		return elliptic.P384()
	case ttlv.RecommendedCurveP_521:
		return elliptic.P521()
	}
	return nil
}

func numberOf(c elliptic.Curve) uint32 {
	return map[string]uint32{
		"P-224": ttlv.RecommendedCurveP_224, "P-256": ttlv.RecommendedCurveP_256, "P-384": ttlv.RecommendedCurveP_384, "P-521": ttlv.RecommendedCurveP_521,
	}[c.Params().Name]
}

// transparentPrivate and transparentPublic report whether a format is that of a key on a
// curve in parts. Until KMIP 1.2 there was one for each use of the key.
func transparentPrivate(format uint32) bool {
	return slices.Contains([]uint32{
		ttlv.KeyFormatTypeTransparentECPrivateKey, ttlv.KeyFormatTypeTransparentECDSAPrivateKey, ttlv.KeyFormatTypeTransparentECDHPrivateKey,
		ttlv.KeyFormatTypeTransparentECMQVPrivateKey,
	}, format)
}

func transparentPublic(format uint32) bool {
	return slices.Contains([]uint32{
		ttlv.KeyFormatTypeTransparentECPublicKey, ttlv.KeyFormatTypeTransparentECDSAPublicKey, ttlv.KeyFormatTypeTransparentECDHPublicKey,
		ttlv.KeyFormatTypeTransparentECMQVPublicKey,
	}, format)
}

// newerFormat reports whether clients before 1.3 do not know a format.
func newerFormat(format uint32) bool {
	return format == ttlv.KeyFormatTypeTransparentECPrivateKey || format == ttlv.KeyFormatTypeTransparentECPublicKey
}

// curvePrivate is a private key in parts; nil where it has none.
func curvePrivate(key secretKey) *ttlv.Node {
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		d, err := k.Bytes()
		if err != nil {
			return nil
		}
		return ttlv.Struct(ttlv.TagKeyMaterial, ttlv.Enum(ttlv.TagRecommendedCurve, numberOf(k.Curve)), ttlv.Big(ttlv.TagD, new(big.Int).SetBytes(d)))
	case *koblitzPrivate:
		return ttlv.Struct(ttlv.TagKeyMaterial, ttlv.Enum(ttlv.TagRecommendedCurve, ttlv.RecommendedCurveSECP256K1),
			ttlv.Big(ttlv.TagD, new(big.Int).SetBytes(k.key.Serialize())))
	case *ecdh.PrivateKey:
		return ttlv.Struct(ttlv.TagKeyMaterial, ttlv.Enum(ttlv.TagRecommendedCurve, ttlv.RecommendedCurveCURVE25519),
			ttlv.Big(ttlv.TagD, new(big.Int).SetBytes(k.Bytes())))
	}
	return nil
}

// curvePublic is a public key in parts.
func curvePublic(key crypto.PublicKey, compressed bool) *ttlv.Node {
	number, q := ttlv.RecommendedCurveCURVE25519, pointOf(key, compressed)
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		number = numberOf(k.Curve)
	case koblitzPublic:
		number = ttlv.RecommendedCurveSECP256K1
	case *ecdh.PublicKey:
	default:
		return nil
	}
	return ttlv.Struct(ttlv.TagKeyMaterial, ttlv.Enum(ttlv.TagRecommendedCurve, number), ttlv.Bytes(ttlv.TagQString, q))
}

// pointOf is the point that a public key is, nil for one that is none.
func pointOf(key crypto.PublicKey, compressed bool) []byte {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		raw, err := k.Bytes()
		if err != nil {
			return nil
		}
		if compressed {
			n := (len(raw) - 1) / 2
			return append([]byte{2 + raw[len(raw)-1]&1}, raw[1:1+n]...)
		}
		return raw
	case koblitzPublic:
		return k.point(compressed)
	case *ecdh.PublicKey:
		return k.Bytes()
	case ed25519.PublicKey:
		return k
	}
	return nil
}

// spki are the parts of an X.509 SubjectPublicKeyInfo.
type spki struct {
	Algorithm pkix.AlgorithmIdentifier
	Key       asn1.BitString
}

// compressedX509 is a public key on a curve with its point compressed.
func compressedX509(key *ecdsa.PublicKey) []byte {
	raw, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil
	}
	var info spki
	if _, err := asn1.Unmarshal(raw, &info); err != nil {
		return nil
	}
	q := pointOf(key, true)
	info.Key = asn1.BitString{Bytes: q, BitLength: 8 * len(q)}
	if raw, err = asn1.Marshal(info); err != nil {
		return nil
	}
	return raw
}

// parsePKIX reads a public key, also one whose point is compressed.
func parsePKIX(raw []byte) (crypto.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(raw)
	if err == nil {
		return key, nil
	}
	var info spki
	var curve asn1.ObjectIdentifier
	if rest, e := asn1.Unmarshal(raw, &info); e != nil || len(rest) > 0 {
		return nil, err
	}
	if l, ok := latticeIn(&info.Algorithm); ok {
		return latticePoint(l, info.Key.RightAlign())
	}
	if isKoblitz(&info.Algorithm) {
		return koblitzPoint(info.Key.RightAlign())
	}
	if rest, e := asn1.Unmarshal(info.Algorithm.Parameters.FullBytes, &curve); e != nil || len(rest) > 0 {
		return nil, err
	}
	for _, c := range map[string]elliptic.Curve{
		"1.3.132.0.33": elliptic.P224(), "1.2.840.10045.3.1.7": elliptic.P256(), "1.3.132.0.34": elliptic.P384(), "1.3.132.0.35": elliptic.P521(),
	} {
		if k := onCurve(c, info.Key.RightAlign()); k != nil && curve.String() == oidOf(c) {
			return k, nil
		}
	}
	return nil, err
}

func oidOf(c elliptic.Curve) string {
	return map[string]string{"P-224": "1.3.132.0.33", "P-256": "1.2.840.10045.3.1.7", "P-384": "1.3.132.0.34", "P-521": "1.3.132.0.35"}[c.Params().Name]
}

// onCurve reads a point, compressed or not; nil for one that is not on the curve.
func onCurve(c elliptic.Curve, q []byte) *ecdsa.PublicKey {
	if len(q) > 0 && (q[0] == 2 || q[0] == 3) {
		x, y := elliptic.UnmarshalCompressed(c, q)
		if x == nil {
			return nil
		}
		n := (c.Params().BitSize + 7) / 8
		q = append(append([]byte{4}, x.FillBytes(make([]byte, n))...), y.FillBytes(make([]byte, n))...)
	}
	k, err := ecdsa.ParseUncompressedPublicKey(c, q)
	if err != nil {
		return nil
	}
	return k
}

var errPrivateKey = fail(ttlv.ResultReasonCryptographicFailure, "the private key cannot be read")

// privateOnCurve reads a private key from its parts.
func privateOnCurve(m *ttlv.Node) (secretKey, error) {
	number, err := enum(m, ttlv.TagRecommendedCurve)
	if err != nil {
		return nil, err
	}
	d := m.Get(ttlv.TagD)
	if d == nil || d.Type != ttlv.BigInteger || len(d.Bytes) > 80 || d.BigInt().Sign() < 0 {
		return nil, missing("D")
	}
	if number == ttlv.RecommendedCurveCURVE25519 {
		if d.BigInt().BitLen() > 256 {
			return nil, errPrivateKey
		}
		k, err := ecdh.X25519().NewPrivateKey(d.BigInt().FillBytes(make([]byte, 32)))
		if err != nil {
			return nil, errPrivateKey
		}
		return k, nil
	}
	if number == ttlv.RecommendedCurveSECP256K1 {
		if d.BigInt().BitLen() > 256 {
			return nil, errPrivateKey
		}
		k, err := koblitzFrom(d.BigInt().FillBytes(make([]byte, koblitzBytes)))
		if err != nil {
			return nil, errPrivateKey
		}
		return k, nil
	}
	c := curveOf(number)
	if c == nil {
		return nil, fail(ttlv.ResultReasonKeyFormatTypeNotSupported, "keys on this curve cannot be used here")
	}
	n := (c.Params().BitSize + 7) / 8
	if d.BigInt().BitLen() > 8*n {
		return nil, errPrivateKey
	}
	k, err := ecdsa.ParseRawPrivateKey(c, d.BigInt().FillBytes(make([]byte, n)))
	if err != nil {
		return nil, errPrivateKey
	}
	return k, nil
}

// publicOnCurve reads a public key from its parts.
func publicOnCurve(m *ttlv.Node) (crypto.PublicKey, error) {
	bad := fail(ttlv.ResultReasonCryptographicFailure, "the public key cannot be read")
	number, err := enum(m, ttlv.TagRecommendedCurve)
	if err != nil {
		return nil, err
	}
	q := bytesField(m, ttlv.TagQString)
	if number == ttlv.RecommendedCurveCURVE25519 {
		k, err := ecdh.X25519().NewPublicKey(q)
		if err != nil {
			return nil, bad
		}
		return k, nil
	}
	if number == ttlv.RecommendedCurveSECP256K1 {
		k, err := koblitzPoint(q)
		if err != nil {
			return nil, bad
		}
		return k, nil
	}
	c := curveOf(number)
	if c == nil {
		return nil, fail(ttlv.ResultReasonKeyFormatTypeNotSupported, "keys on this curve cannot be used here")
	}
	if k := onCurve(c, q); k != nil {
		return k, nil
	}
	return nil, bad
}

// inPublic is a public key in a format, nil where that cannot be. compressed is how its
// point is wanted.
func inPublic(key crypto.PublicKey, format uint32, compressed bool) *ttlv.Node {
	_, ec := key.(*ecdsa.PublicKey)
	if k, ok := key.(latticePublic); ok {
		return k.in(format)
	}
	if k, ok := key.(koblitzPublic); ok && format == ttlv.KeyFormatTypeX_509 {
		raw, err := k.pkix(compressed)
		return bytesOf(raw, err)
	}
	switch {
	case transparentPublic(format):
		return curvePublic(key, compressed)
	case format == ttlv.KeyFormatTypeRaw:
		if q := pointOf(key, compressed); q != nil {
			return ttlv.Bytes(ttlv.TagKeyMaterial, q)
		}
		return nil
	case format == ttlv.KeyFormatTypeX_509 && compressed && ec:
		if raw := compressedX509(key.(*ecdsa.PublicKey)); raw != nil { //nolint:forcetypeassert // as ec says
			return ttlv.Bytes(ttlv.TagKeyMaterial, raw)
		}
		return nil
	}
	return publicIn(key, format)
}

// agreeing is a private key as one that agrees with others on a third.
func agreeing(key secretKey) (*ecdh.PrivateKey, error) {
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		return k.ECDH()
	case *ecdh.PrivateKey:
		return k, nil
	}
	return nil, errPrivateKey
}

func agreed(key crypto.PublicKey) (*ecdh.PublicKey, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return k.ECDH()
	case *ecdh.PublicKey:
		return k, nil
	}
	return nil, errPrivateKey
}

// transparentRSA makes a key of its parts: any that suffice (KMIP 1.4, section 2.1.7.4).
func transparentRSA(m *ttlv.Node) (*rsa.PrivateKey, error) {
	num := func(tag ttlv.Tag) *big.Int {
		if n := m.Get(tag); n != nil && n.Type == ttlv.BigInteger && len(n.Bytes) <= maxKeyBits/8+8 && n.BigInt().Sign() > 0 {
			return n.BigInt()
		}
		return nil
	}
	n, d, e, p, q := num(ttlv.TagModulus), num(ttlv.TagPrivateExponent), num(ttlv.TagPublicExponent), num(ttlv.TagP), num(ttlv.TagQ)
	bad := fail(ttlv.ResultReasonCryptographicFailure, "the private key is not consistent")
	one := big.NewInt(1)
	if p == nil || q == nil {
		switch {
		case n != nil && p != nil:
			q = new(big.Int).Div(n, p)
		case n != nil && q != nil:
			p = new(big.Int).Div(n, q)
		case n != nil && d != nil:
			if e == nil {
				e = big.NewInt(65537)
			}
			if p, q = primesOf(n, e, d); p == nil {
				return nil, bad
			}
		default:
			return nil, fail(ttlv.ResultReasonKeyFormatTypeNotSupported, "the parts of the RSA key do not suffice: give modulus and private exponent, or the primes")
		}
	}
	if p.Cmp(one) <= 0 || q.Cmp(one) <= 0 {
		return nil, bad
	}
	if n == nil {
		n = new(big.Int).Mul(p, q)
	}
	less := [2]*big.Int{new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)}
	lambda := new(big.Int).Div(new(big.Int).Mul(less[0], less[1]), new(big.Int).GCD(nil, nil, less[0], less[1]))
	if e == nil && d != nil {
		e = new(big.Int).ModInverse(d, lambda)
	}
	if e == nil {
		e = big.NewInt(65537)
	}
	if d == nil {
		d = new(big.Int).ModInverse(e, lambda)
	}
	if d == nil || !e.IsInt64() || n.BitLen() > maxKeyBits {
		return nil, bad
	}
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: int(e.Int64())}, D: d, Primes: []*big.Int{p, q}}
	if k.Validate() != nil {
		return nil, bad
	}
	k.Precompute()
	return k, nil
}

// primesOf factors the modulus of a key whose exponents are known (NIST SP 800-56B,
// appendix C.1); nil where they are not those of one.
func primesOf(n, e, d *big.Int) (p, q *big.Int) {
	one := big.NewInt(1)
	k := new(big.Int).Sub(new(big.Int).Mul(d, e), one)
	if k.Bit(0) != 0 || k.Sign() <= 0 || n.Bit(0) == 0 || d.Cmp(n) >= 0 || e.BitLen() > 64 {
		return nil, nil
	}
	twos := k.TrailingZeroBits()
	odd := new(big.Int).Rsh(k, twos)
	for g := int64(2); g < 100; g++ { // each has an even chance
		x := new(big.Int).Exp(big.NewInt(g), odd, n)
		unity := x.Cmp(one) == 0
		for range twos {
			y := new(big.Int).Mod(new(big.Int).Mul(x, x), n)
			if unity = y.Cmp(one) == 0; unity {
				p = new(big.Int).GCD(nil, nil, new(big.Int).Sub(x, one), n)
				if p.Cmp(one) > 0 && p.Cmp(n) < 0 {
					return p, new(big.Int).Div(n, p)
				}
				break
			}
			x = y
		}
		if !unity { // they are not those of this modulus
			return nil, nil
		}
	}
	return nil, nil
}
