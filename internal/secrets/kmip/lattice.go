package kmip

import (
	"bytes"
	"crypto"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"

	"github.com/cloudflare/circl/sign"
	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"github.com/cloudflare/circl/sign/mldsa/mldsa87"

	"arca/internal/ttlv"
)

// Post-quantum keys. Those of ML-DSA (FIPS 204) sign; those of ML-KEM (FIPS 203) are made,
// taken and given out, but no operation of the protocol uses them. KMIP 2 has no numbers for
// these algorithms: they are those of the draft of KMIP 3.0. In DER the keys are as RFC 9881
// and RFC 9935 say, private ones by their seed.

// A lattice is one of these algorithms, with the sizes of its keys in bytes.
type lattice struct {
	alg          uint32
	oid          int // the last number of its identifier
	kem          bool
	seed, public int
}

func lattices() []lattice {
	return []lattice{
		{ttlv.CryptographicAlgorithmMLDSA_44, 17, false, mldsa44.SeedSize, mldsa44.PublicKeySize},
		{ttlv.CryptographicAlgorithmMLDSA_65, 18, false, mldsa65.SeedSize, mldsa65.PublicKeySize},
		{ttlv.CryptographicAlgorithmMLDSA_87, 19, false, mldsa87.SeedSize, mldsa87.PublicKeySize},
		{ttlv.CryptographicAlgorithmMLKEM_768, 2, true, mlkem.SeedSize, mlkem.EncapsulationKeySize768},
		{ttlv.CryptographicAlgorithmMLKEM_1024, 3, true, mlkem.SeedSize, mlkem.EncapsulationKeySize1024},
	}
}

// latticeOf is an algorithm by its number; false for one that is another.
func latticeOf(alg uint32) (lattice, bool) {
	for _, l := range lattices() {
		if l.alg == alg {
			return l, true
		}
	}
	return lattice{}, false
}

func (l *lattice) identifier() asn1.ObjectIdentifier {
	group := 3 // signatures
	if l.kem {
		group = 4
	}
	return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, group, l.oid}
}

func latticeIn(a *pkix.AlgorithmIdentifier) (lattice, bool) {
	for _, l := range lattices() {
		if a.Algorithm.Equal(l.identifier()) && len(a.Parameters.FullBytes) == 0 {
			return l, true
		}
	}
	return lattice{}, false
}

func (l *lattice) scheme() sign.Scheme {
	switch l.alg {
	case ttlv.CryptographicAlgorithmMLDSA_44:
		return mldsa44.Scheme()
	case ttlv.CryptographicAlgorithmMLDSA_65:
		return mldsa65.Scheme()
	}
	return mldsa87.Scheme()
}

var errLattice = errors.New("this is no post-quantum key")

type latticePublic struct {
	lattice
	raw string
}

// Equal compares with another key, as keys of Go's library do.
func (k latticePublic) Equal(x crypto.PublicKey) bool { return x == crypto.PublicKey(k) }

// A latticePrivate is a private key. It is its seed.
type latticePrivate struct {
	seed []byte
	pub  latticePublic
}

// Public returns the public key.
func (k *latticePrivate) Public() crypto.PublicKey { return k.pub }

// A latticeSigner is a private key of ML-DSA.
type latticeSigner struct {
	latticePrivate
	key sign.PrivateKey
}

// Sign implements crypto.Signer. What is signed is the message, without a context (FIPS 204,
// algorithm 2), with what random gives mixed in.
func (k *latticeSigner) Sign(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	sig := make([]byte, k.pub.scheme().SignatureSize())
	var err error
	switch key := k.key.(type) {
	case *mldsa44.PrivateKey:
		err = mldsa44.SignTo(key, message, nil, true, sig)
	case *mldsa65.PrivateKey:
		err = mldsa65.SignTo(key, message, nil, true, sig)
	case *mldsa87.PrivateKey:
		err = mldsa87.SignTo(key, message, nil, true, sig)
	default:
		err = errLattice
	}
	return sig, err
}

// verify reports whether a signature of a message is right.
func (k latticePublic) verify(message, sig []byte) bool {
	if k.kem {
		return false
	}
	s := k.scheme()
	key, err := s.UnmarshalBinaryPublicKey([]byte(k.raw))
	return err == nil && len(sig) == s.SignatureSize() && s.Verify(key, message, sig, nil)
}

// newLattice makes a private key.
func newLattice(l lattice) (secretKey, error) {
	seed := make([]byte, l.seed)
	if _, err := rand.Read(seed); err != nil {
		return nil, err
	}
	return latticeFrom(l, seed)
}

// latticeFrom reads a private key that is its seed.
func latticeFrom(l lattice, seed []byte) (secretKey, error) {
	if len(seed) != l.seed {
		return nil, errLattice
	}
	k := latticePrivate{seed: seed, pub: latticePublic{lattice: l}}
	switch {
	case l.alg == ttlv.CryptographicAlgorithmMLKEM_768:
		d, err := mlkem.NewDecapsulationKey768(seed)
		if err != nil {
			return nil, errLattice
		}
		k.pub.raw = string(d.EncapsulationKey().Bytes())
		return &k, nil
	case l.kem:
		d, err := mlkem.NewDecapsulationKey1024(seed)
		if err != nil {
			return nil, errLattice
		}
		k.pub.raw = string(d.EncapsulationKey().Bytes())
		return &k, nil
	}
	pub, key := l.scheme().DeriveKey(seed)
	raw, err := pub.MarshalBinary()
	k.pub.raw = string(raw)
	return &latticeSigner{k, key}, err
}

// latticePoint reads a public key that is bytes alone.
func latticePoint(l lattice, raw []byte) (latticePublic, error) {
	var err error
	switch {
	case len(raw) != l.public:
		err = errLattice
	case l.alg == ttlv.CryptographicAlgorithmMLKEM_768:
		_, err = mlkem.NewEncapsulationKey768(raw)
	case l.kem:
		_, err = mlkem.NewEncapsulationKey1024(raw)
	default:
		_, err = l.scheme().UnmarshalBinaryPublicKey(raw)
	}
	if err != nil {
		return latticePublic{}, errLattice
	}
	return latticePublic{l, string(raw)}, nil
}

// latticePKCS8 reads a private key: its seed, or its seed and what follows from it, which
// must be so. What follows from a seed is no key here without it.
func latticePKCS8(raw []byte) (secretKey, error) {
	var in pkcs8
	if rest, err := asn1.Unmarshal(raw, &in); err != nil || len(rest) > 0 {
		return nil, errLattice
	}
	l, ok := latticeIn(&in.Algorithm)
	if !ok {
		return nil, errLattice
	}
	var choice asn1.RawValue
	if rest, err := asn1.Unmarshal(in.Key, &choice); err != nil || len(rest) > 0 {
		return nil, errLattice
	}
	if choice.Class == asn1.ClassContextSpecific && choice.Tag == 0 && !choice.IsCompound {
		return latticeFrom(l, bytes.Clone(choice.Bytes))
	}
	var both struct{ Seed, Expanded []byte }
	if rest, err := asn1.Unmarshal(in.Key, &both); err != nil || len(rest) > 0 {
		return nil, errLattice
	}
	k, err := latticeFrom(l, both.Seed)
	if err != nil || !follows(k, both.Expanded) {
		return nil, errLattice
	}
	return k, nil
}

// follows reports whether an expanded key is that of a seed; of ML-KEM, as far as the key
// holds the public one and the end of the seed (FIPS 203, algorithm 16).
func follows(k secretKey, expanded []byte) bool {
	if s, ok := k.(*latticeSigner); ok {
		raw, err := s.key.MarshalBinary()
		return err == nil && subtle.ConstantTimeCompare(raw, expanded) == 1
	}
	d, ok := k.(*latticePrivate)
	if !ok {
		return false
	}
	n := len(d.pub.raw)
	start := n - 32 // of the public key: the secret vector has the length of the public one
	return len(expanded) == start+n+64 && string(expanded[start:start+n]) == d.pub.raw && subtle.ConstantTimeCompare(expanded[start+n+32:], d.seed[32:]) == 1
}

// in is a private key in a format, nil where that cannot be.
func (k *latticePrivate) in(format uint32) *ttlv.Node {
	switch format {
	case ttlv.KeyFormatTypeRaw:
		return ttlv.Bytes(ttlv.TagKeyMaterial, k.seed)
	case ttlv.KeyFormatTypePKCS_8:
		inner, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, Bytes: k.seed})
		if err != nil {
			return nil
		}
		raw, err := asn1.Marshal(pkcs8{0, pkix.AlgorithmIdentifier{Algorithm: k.pub.identifier()}, inner, nil})
		return bytesOf(raw, err)
	}
	return nil
}

// in is a public key in a format, nil where that cannot be.
func (k latticePublic) in(format uint32) *ttlv.Node {
	switch format {
	case ttlv.KeyFormatTypeRaw:
		return ttlv.Bytes(ttlv.TagKeyMaterial, []byte(k.raw))
	case ttlv.KeyFormatTypeX_509:
		raw, err := asn1.Marshal(spki{pkix.AlgorithmIdentifier{Algorithm: k.identifier()}, asn1.BitString{Bytes: []byte(k.raw), BitLength: 8 * len(k.raw)}})
		return bytesOf(raw, err)
	}
	return nil
}
