package kmip

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"arca/internal/ttlv"
)

// Keys on secp256k1 (SEC 2, section 2.4.1), which Go's own library does not have. The
// arithmetic is dcrec's. It takes longer for some numbers than for others, so that no
// secret number is ever given to it as it is: a multiplier goes in as two that are random
// and come to it, and what is inverted was multiplied by something random before.

const koblitzBytes = 32 // of a private key, and of a coordinate

type koblitzPublic struct{ *secp256k1.PublicKey }

// Equal compares with another key, as keys of Go's library do.
func (k koblitzPublic) Equal(x crypto.PublicKey) bool {
	other, ok := x.(koblitzPublic)
	return ok && k.IsEqual(other.PublicKey)
}

type koblitzPrivate struct {
	key *secp256k1.PrivateKey
	pub koblitzPublic
}

// Public implements crypto.Signer.
func (k *koblitzPrivate) Public() crypto.PublicKey { return k.pub }

var errKoblitz = errors.New("this is no key on secp256k1")

// randomScalar is from 1 to the order of the curve less 1, each alike.
func randomScalar(r io.Reader) (*secp256k1.ModNScalar, error) {
	for {
		var raw [koblitzBytes]byte
		if _, err := io.ReadFull(r, raw[:]); err != nil {
			return nil, err
		}
		var s secp256k1.ModNScalar
		over := s.SetBytes(&raw)
		clear(raw[:])
		if over == 0 && !s.IsZero() {
			return &s, nil
		}
	}
}

// timesSecret multiplies by a number that is secret; nil is the curve's base point. The
// result is affine.
func timesSecret(k *secp256k1.ModNScalar, point *secp256k1.JacobianPoint) (*secp256k1.JacobianPoint, error) {
	a, err := randomScalar(rand.Reader)
	if err != nil {
		return nil, err
	}
	var b secp256k1.ModNScalar
	b.NegateVal(a).Add(k) // a + b = k
	var p, q, sum secp256k1.JacobianPoint
	if point == nil {
		secp256k1.ScalarBaseMultNonConst(a, &p)
		secp256k1.ScalarBaseMultNonConst(&b, &q)
	} else {
		secp256k1.ScalarMultNonConst(a, point, &p)
		secp256k1.ScalarMultNonConst(&b, point, &q)
	}
	secp256k1.AddNonConst(&p, &q, &sum)
	if sum.X.IsZero() && sum.Y.IsZero() || sum.Z.IsZero() { // of a number between 0 and the order it is never that
		return nil, errKoblitz
	}
	sum.ToAffine()
	return &sum, nil
}

// newKoblitz makes a private key.
func newKoblitz() (*koblitzPrivate, error) {
	k, err := randomScalar(rand.Reader)
	if err != nil {
		return nil, err
	}
	return koblitzOf(k)
}

func koblitzOf(k *secp256k1.ModNScalar) (*koblitzPrivate, error) {
	point, err := timesSecret(k, nil)
	if err != nil {
		return nil, err
	}
	return &koblitzPrivate{secp256k1.NewPrivateKey(k), koblitzPublic{secp256k1.NewPublicKey(&point.X, &point.Y)}}, nil
}

// koblitzFrom reads a private key that is its number alone.
func koblitzFrom(raw []byte) (*koblitzPrivate, error) {
	var k secp256k1.ModNScalar
	if len(raw) > koblitzBytes || k.SetByteSlice(raw) || k.IsZero() {
		return nil, errKoblitz
	}
	return koblitzOf(&k)
}

// koblitzPoint reads a public key that is a point, compressed or not.
func koblitzPoint(q []byte) (koblitzPublic, error) {
	if len(q) == 0 || q[0] < 2 || q[0] > 4 { // no hybrids
		return koblitzPublic{}, errKoblitz
	}
	k, err := secp256k1.ParsePubKey(q)
	if err != nil {
		return koblitzPublic{}, errKoblitz
	}
	return koblitzPublic{k}, nil
}

func (k koblitzPublic) point(compressed bool) []byte {
	if compressed {
		return k.SerializeCompressed()
	}
	return k.SerializeUncompressed()
}

// hashScalar is what is signed of a digest: its first 256 bits (SEC 1, section 4.1.3).
func hashScalar(digest []byte) *secp256k1.ModNScalar {
	var s secp256k1.ModNScalar
	s.SetByteSlice(digest[:min(len(digest), koblitzBytes)])
	return &s
}

type koblitzSignature struct{ R, S *big.Int }

// Sign implements crypto.Signer: ECDSA, in DER. The nonce is made of the key, the digest
// and what random gives (RFC 6979, section 3.6): a source that fails gives nothing away.
// Of the two numbers that would do, the second is the smaller one, which some who verify
// want.
func (k *koblitzPrivate) Sign(random io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	var extra, hash [koblitzBytes]byte
	if _, err := io.ReadFull(random, extra[:]); err != nil {
		return nil, err
	}
	e := hashScalar(digest)
	e.PutBytes(&hash)
	secret := k.key.Serialize()
	defer clear(secret)
	for again := uint32(0); ; again++ {
		nonce := secp256k1.NonceRFC6979(secret, hash[:], extra[:], nil, again)
		point, err := timesSecret(nonce, nil)
		if err != nil {
			return nil, err
		}
		mask, err := randomScalar(rand.Reader)
		if err != nil {
			return nil, err
		}
		var r, s secp256k1.ModNScalar
		r.SetBytes(point.X.Bytes())
		var inverse secp256k1.ModNScalar
		inverse.Mul2(nonce, mask).InverseNonConst().Mul(mask) // 1/nonce
		s.Mul2(&r, &k.key.Key).Add(e).Mul(&inverse)
		nonce.Zero()
		inverse.Zero()
		if r.IsZero() || s.IsZero() {
			continue
		}
		if s.IsOverHalfOrder() {
			s.Negate()
		}
		rb, sb := r.Bytes(), s.Bytes()
		return asn1.Marshal(koblitzSignature{new(big.Int).SetBytes(rb[:]), new(big.Int).SetBytes(sb[:])})
	}
}

// verify takes a signature in DER, or its two numbers, one behind the other.
func (k koblitzPublic) verify(digest, sig []byte) bool {
	if len(sig) > 80 {
		return false
	}
	var r, s secp256k1.ModNScalar
	var der koblitzSignature
	if rest, err := asn1.Unmarshal(sig, &der); err == nil && len(rest) == 0 {
		if der.R.Sign() <= 0 || der.S.Sign() <= 0 || der.R.BitLen() > 256 || der.S.BitLen() > 256 ||
			r.SetByteSlice(der.R.Bytes()) || s.SetByteSlice(der.S.Bytes()) {
			return false
		}
	} else if len(sig) != 2*koblitzBytes || r.SetByteSlice(sig[:koblitzBytes]) || s.SetByteSlice(sig[koblitzBytes:]) {
		return false
	}
	if r.IsZero() || s.IsZero() {
		return false
	}
	s.InverseNonConst()
	e := hashScalar(digest)
	var u, v secp256k1.ModNScalar
	u.Mul2(e, &s)
	v.Mul2(&r, &s)
	var q, p1, p2, sum secp256k1.JacobianPoint
	k.AsJacobian(&q)
	secp256k1.ScalarBaseMultNonConst(&u, &p1)
	secp256k1.ScalarMultNonConst(&v, &q, &p2)
	secp256k1.AddNonConst(&p1, &p2, &sum)
	if sum.X.IsZero() && sum.Y.IsZero() || sum.Z.IsZero() {
		return false
	}
	sum.ToAffine()
	var x secp256k1.ModNScalar
	x.SetBytes(sum.X.Bytes())
	return x.Equals(&r)
}

// agree is ECDH: the coordinate x of the common point.
func (k *koblitzPrivate) agree(with koblitzPublic) ([]byte, error) {
	var q secp256k1.JacobianPoint
	with.AsJacobian(&q)
	point, err := timesSecret(&k.key.Key, &q)
	if err != nil {
		return nil, err
	}
	return point.X.Bytes()[:], nil
}

// The structures of keys in DER: RFC 5915, RFC 5958 and RFC 5480.

func oidEC() asn1.ObjectIdentifier      { return asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} }
func oidKoblitz() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 132, 0, 10} }

type sec1 struct {
	Version int
	Key     []byte
	Curve   asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	Point   asn1.BitString        `asn1:"optional,explicit,tag:1"`
}

type pkcs8 struct {
	Version   int
	Algorithm pkix.AlgorithmIdentifier
	Key       []byte
	Rest      []asn1.RawValue `asn1:"optional,omitempty"`
}

func koblitzAlgorithm() (pkix.AlgorithmIdentifier, error) {
	curve, err := asn1.Marshal(oidKoblitz())
	return pkix.AlgorithmIdentifier{Algorithm: oidEC(), Parameters: asn1.RawValue{FullBytes: curve}}, err
}

func isKoblitz(a *pkix.AlgorithmIdentifier) bool {
	curve, err := asn1.Marshal(oidKoblitz())
	return err == nil && a.Algorithm.Equal(oidEC()) && bytes.Equal(a.Parameters.FullBytes, curve)
}

func (k *koblitzPrivate) sec1(curve asn1.ObjectIdentifier) ([]byte, error) {
	q := k.pub.point(false)
	secret := k.key.Serialize()
	defer clear(secret)
	return asn1.Marshal(sec1{1, secret, curve, asn1.BitString{Bytes: q, BitLength: 8 * len(q)}})
}

func (k *koblitzPrivate) pkcs8() ([]byte, error) {
	inner, err := k.sec1(nil)
	if err != nil {
		return nil, err
	}
	alg, err := koblitzAlgorithm()
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(pkcs8{0, alg, inner, nil})
}

func (k koblitzPublic) pkix(compressed bool) ([]byte, error) {
	alg, err := koblitzAlgorithm()
	if err != nil {
		return nil, err
	}
	q := k.point(compressed)
	return asn1.Marshal(spki{alg, asn1.BitString{Bytes: q, BitLength: 8 * len(q)}})
}

// koblitzSEC1 reads a private key in SEC 1; known tells that its curve was named outside.
// A public key that comes along must be its own.
func koblitzSEC1(raw []byte, known bool) (*koblitzPrivate, error) {
	var in sec1
	if rest, err := asn1.Unmarshal(raw, &in); err != nil || len(rest) > 0 || in.Version != 1 {
		return nil, errKoblitz
	}
	if !in.Curve.Equal(oidKoblitz()) && (!known || len(in.Curve) > 0) {
		return nil, errKoblitz
	}
	k, err := koblitzFrom(in.Key)
	if err != nil {
		return nil, err
	}
	if in.Point.BitLength > 0 {
		if q, err := koblitzPoint(in.Point.RightAlign()); err != nil || !q.IsEqual(k.pub.PublicKey) {
			return nil, errKoblitz
		}
	}
	return k, nil
}

func koblitzPKCS8(raw []byte) (*koblitzPrivate, error) {
	var in pkcs8
	if rest, err := asn1.Unmarshal(raw, &in); err != nil || len(rest) > 0 || !isKoblitz(&in.Algorithm) {
		return nil, errKoblitz
	}
	return koblitzSEC1(in.Key, true)
}

// in is a private key in a format, nil where that cannot be.
func (k *koblitzPrivate) in(format uint32) *ttlv.Node {
	switch format {
	case ttlv.KeyFormatTypeECPrivateKey:
		raw, err := k.sec1(oidKoblitz())
		return bytesOf(raw, err)
	case ttlv.KeyFormatTypePKCS_8:
		raw, err := k.pkcs8()
		return bytesOf(raw, err)
	}
	return nil
}
