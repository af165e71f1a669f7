package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // the hashes that the API names are linked in
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
	"math/big"

	"github.com/cloudflare/circl/sign"
	_ "golang.org/x/crypto/sha3"

	"arca/internal/errs"
)

// HashOf returns the hash of that name in Vault's API; "none" is 0.
func HashOf(name string) (h crypto.Hash, ok bool) {
	switch name {
	case "none":
		return 0, true
	case "sha1":
		return crypto.SHA1, true
	case "sha2-224":
		return crypto.SHA224, true
	case "sha2-256":
		return crypto.SHA256, true
	case "sha2-384":
		return crypto.SHA384, true
	case "sha2-512":
		return crypto.SHA512, true
	case "sha3-224":
		return crypto.SHA3_224, true
	case "sha3-256":
		return crypto.SHA3_256, true
	case "sha3-384":
		return crypto.SHA3_384, true
	case "sha3-512":
		return crypto.SHA3_512, true
	}
	return 0, false
}

// ErrPadding is matched by the refusal of a padding of RSA that is not known.
var ErrPadding error = errs.New(errs.Invalid, "unsupported rsa signature algorithm")

// SignOptions say how to sign or verify.
type SignOptions struct {
	Context   []byte      // of a derived key
	Hash      crypto.Hash // 0: the input is signed as it is (RSA, PKCS #1 v1.5 only)
	Prehashed bool        // the input is a hash already
	Padding   string      // of RSA: "" and "pss", or "pkcs1v15"
	Salt      int         // of PSS: its length in bytes, or rsa.PSSSaltLengthAuto, …EqualsHash
	Raw       bool        // ECDSA signatures are R and S side by side (RFC 7515), not ASN.1
	Label     []byte      // the context of Ed25519ctx, Ed25519ph (RFC 8032) and ML-DSA (FIPS 204)
}

// Sign signs input. Of a derived key the public key for the context is returned,
// too.
func (k *Key) Sign(v *Version, input []byte, o SignOptions) (sig, public []byte, err error) {
	if !v.Private() {
		return nil, nil, errNoPrivate("signing")
	}
	switch k.Type.traits().family { //nolint:exhaustive // the others do not sign
	case edwards:
		priv := v.ed
		if k.Derived {
			seed, err := v.derive(o.Context, ed25519.SeedSize)
			if err != nil {
				return nil, nil, err
			}
			priv = ed25519.NewKeyFromSeed(seed)
			public = priv[ed25519.SeedSize:]
		}
		sig, err = signEd(priv, input, o)
		return sig, public, err
	case ecdsaKey:
		sig, err = signEC(v.ec, o.digest(input), o.Raw)
	case rsaKey:
		sig, err = v.signRSA(o.digest(input), o)
	case lattice:
		sig, err = v.signLattice(input, o)
	case both:
		sig, err = v.signBoth(input, o)
	default:
		err = errs.New(errs.Invalid, "key type %s does not support signing", k.Type)
	}
	return sig, nil, err
}

// Verify reports whether sig is a signature of input. An error says that it has
// not even the form of one.
func (k *Key) Verify(v *Version, input, sig []byte, o SignOptions) (bool, error) {
	switch k.Type.traits().family { //nolint:exhaustive // the others do not sign
	case edwards:
		pub := v.edPub
		if k.Derived {
			p, err := k.DerivePublic(v, o.Context)
			if err != nil {
				return false, err
			}
			pub = p
		}
		return verifyEd(pub, input, sig, o)
	case ecdsaKey:
		return verifyEC(v.ecPub, o.digest(input), sig, o.Raw)
	case rsaKey:
		return v.verifyRSA(o.digest(input), sig, o)
	case lattice:
		return v.verifyLattice(input, sig, o)
	case both:
		return v.verifyBoth(input, sig, o)
	case managedKey:
		return v.verifyManaged(input, sig, o)
	}
	return false, errs.New(errs.Invalid, "key type %s does not support verification", k.Type)
}

// DerivePublic returns the public key that a derived ed25519 key has for a
// context.
func (k *Key) DerivePublic(v *Version, context []byte) (ed25519.PublicKey, error) {
	if !v.Private() {
		return nil, errNoPrivate("derivation")
	}
	seed, err := v.derive(context, ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	return edPublic(seed), nil
}

func (o *SignOptions) digest(input []byte) []byte {
	if o.Prehashed || o.Hash == 0 {
		return input
	}
	h := o.Hash.New()
	h.Write(input)
	return h.Sum(nil)
}

const maxLabelBytes = 255

func (o *SignOptions) checkLabel() error {
	if len(o.Label) > maxLabelBytes {
		return errs.New(errs.Invalid, "signature_context has %d bytes, the most is %d", len(o.Label), maxLabelBytes)
	}
	return nil
}

// edOptions choose pure Ed25519, Ed25519ctx or Ed25519ph; the last is asked for
// by a prehashed input with SHA-512.
func (o *SignOptions) edOptions(input []byte) (*ed25519.Options, error) {
	if err := o.checkLabel(); err != nil {
		return nil, err
	}
	opts := &ed25519.Options{Context: string(o.Label)}
	if o.Prehashed && o.Hash == crypto.SHA512 {
		if len(input) != crypto.SHA512.Size() {
			return nil, errs.New(errs.Invalid, "Ed25519ph takes a hash of %d bytes, not of %d", crypto.SHA512.Size(), len(input))
		}
		opts.Hash = crypto.SHA512
	}
	return opts, nil
}

func signEd(priv ed25519.PrivateKey, input []byte, o SignOptions) ([]byte, error) {
	opts, err := o.edOptions(input)
	if err != nil {
		return nil, err
	}
	return priv.Sign(nil, input, opts)
}

func verifyEd(pub ed25519.PublicKey, input, sig []byte, o SignOptions) (bool, error) {
	opts, err := o.edOptions(input)
	if err != nil {
		return false, err
	}
	return ed25519.VerifyWithOptions(pub, input, sig, opts) == nil, nil
}

type ecSignature struct{ R, S *big.Int }

func signEC(priv *ecdsa.PrivateKey, digest []byte, raw bool) ([]byte, error) {
	if len(digest) == 0 {
		return nil, errs.New(errs.Invalid, "there is no hash to sign")
	}
	sig, err := ecdsa.SignASN1(rand.Reader, priv, digest)
	if err != nil || !raw {
		return sig, err
	}
	var rs ecSignature
	if _, err := asn1.Unmarshal(sig, &rs); err != nil {
		return nil, err
	}
	n := (priv.Params().N.BitLen() + 7) / 8
	out := make([]byte, 2*n)
	rs.R.FillBytes(out[:n])
	rs.S.FillBytes(out[n:])
	return out, nil
}

func verifyEC(pub *ecdsa.PublicKey, digest, sig []byte, raw bool) (bool, error) {
	if raw {
		n := (pub.Params().N.BitLen() + 7) / 8
		if len(sig) != 2*n {
			return false, errs.New(errs.Invalid, "supplied signature is invalid")
		}
		return ecdsa.Verify(pub, digest, new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:])), nil
	}
	var rs ecSignature
	rest, err := asn1.Unmarshal(sig, &rs)
	if err != nil {
		return false, errs.New(errs.Invalid, "supplied signature is invalid")
	}
	if len(rest) > 0 {
		return false, errs.New(errs.Invalid, "supplied signature contains extra data")
	}
	return ecdsa.VerifyASN1(pub, digest, sig), nil
}

// checkRSA says which padding is meant, and that the digest fits its hash.
func (o *SignOptions) checkRSA(digest []byte) (old bool, err error) {
	switch o.Padding {
	case "", "pss":
		if o.Hash == 0 {
			return false, errs.New(errs.Invalid, "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15")
		}
	case "pkcs1v15":
		old = true
	default:
		return false, errs.New(errs.Invalid, "%w %s", ErrPadding, o.Padding)
	}
	if o.Hash != 0 && len(digest) != o.Hash.Size() {
		return false, errs.New(errs.Invalid, "the hash has %d bytes, but those of hash_algorithm have %d", len(digest), o.Hash.Size())
	}
	return old, nil
}

func (v *Version) signRSA(digest []byte, o SignOptions) (sig []byte, err error) {
	old, err := o.checkRSA(digest)
	if err != nil {
		return nil, err
	}
	if old {
		sig, err = rsa.SignPKCS1v15(nil, v.rsa, o.Hash, digest)
	} else {
		sig, err = rsa.SignPSS(rand.Reader, v.rsa, o.Hash, digest, &rsa.PSSOptions{SaltLength: o.Salt})
	}
	if err != nil {
		return nil, errs.With(errs.Invalid, err) // salt or hash too long for the key
	}
	return sig, nil
}

func (v *Version) verifyRSA(digest, sig []byte, o SignOptions) (bool, error) {
	old, err := o.checkRSA(digest)
	if err != nil {
		return false, err
	}
	if old {
		return rsa.VerifyPKCS1v15(v.rsaPub, o.Hash, digest, sig) == nil, nil
	}
	return rsa.VerifyPSS(v.rsaPub, o.Hash, digest, sig, &rsa.PSSOptions{SaltLength: o.Salt}) == nil, nil
}

func (v *Version) signLattice(input []byte, o SignOptions) ([]byte, error) {
	if err := o.checkLabel(); err != nil {
		return nil, err
	}
	return v.lattice.Scheme().Sign(v.lattice, input, &sign.SignatureOpts{Context: string(o.Label)}), nil
}

func (v *Version) verifyLattice(input, sig []byte, o SignOptions) (bool, error) {
	if err := o.checkLabel(); err != nil {
		return false, err
	}
	s := v.latPub.Scheme()
	return len(sig) == s.SignatureSize() && s.Verify(v.latPub, input, sig, &sign.SignatureOpts{Context: string(o.Label)}), nil
}

// A hybrid signature is ASN.1: SEQUENCE { OCTET STRING of ML-DSA, OCTET STRING of
// the curve (ASN.1 of ECDSA, or 64 bytes of Ed25519) }, both over the input as it
// is; ECDSA hashes it as SignOptions say. Both must be good.
type hybridSignature struct{ Lattice, Curve []byte }

func (v *Version) signBoth(input []byte, o SignOptions) ([]byte, error) {
	one, err := v.signLattice(input, o)
	if err != nil {
		return nil, err
	}
	var two []byte
	if v.ed != nil {
		two, err = signEd(v.ed, input, SignOptions{})
	} else {
		two, err = signEC(v.ec, o.digest(input), false)
	}
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(hybridSignature{one, two})
}

func (v *Version) verifyBoth(input, sig []byte, o SignOptions) (bool, error) {
	var s hybridSignature
	rest, err := asn1.Unmarshal(sig, &s)
	if err != nil || len(rest) > 0 {
		return false, errs.New(errs.Invalid, "supplied signature is invalid")
	}
	ok, err := v.verifyLattice(input, s.Lattice, o)
	if err != nil || !ok {
		return false, err
	}
	if v.edPub != nil {
		return verifyEd(v.edPub, input, s.Curve, SignOptions{})
	}
	return verifyEC(v.ecPub, o.digest(input), s.Curve, false)
}
