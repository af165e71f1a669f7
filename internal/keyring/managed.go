package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"

	"arca/internal/errs"
)

// Outside says where the private part of a version of a managed_key is: the id of the
// managed key, and what its service calls that very key. The public part is with us, so
// that all that needs no more is done here, and what the service signs is verified.
type Outside struct {
	ID   string      `json:"id"`
	Ref  string      `json:"ref"`
	OAEP crypto.Hash `json:"oaep,omitempty"` // 0: SHA-256
}

// ManagedMaterial is the material of a key that a service keeps.
func ManagedMaterial(public crypto.PublicKey, where Outside) (*Material, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, errs.With(errs.Invalid, err)
	}
	return &Material{Public: der, Outside: &where}, nil
}

func (v *Version) openManaged() error {
	p, err := x509.ParsePKIXPublicKey(v.m.Public)
	if err != nil || v.m.Outside == nil || v.m.Outside.OAEP != 0 && !v.m.Outside.OAEP.Available() {
		return errMaterial
	}
	switch p := p.(type) {
	case *rsa.PublicKey:
		v.rsaPub = p
	case *ecdsa.PublicKey:
		v.ecPub = p
	default:
		return errMaterial
	}
	return nil
}

func (v *Version) encryptManaged(dst, plaintext []byte, padding string) ([]byte, error) {
	if err := v.CheckOAEP(padding); err != nil {
		return nil, err
	}
	hash := v.m.Outside.OAEP
	if hash == 0 {
		return v.encryptRSA(dst, plaintext, padding)
	}
	sealed, err := rsa.EncryptOAEP(hash.New(), rand.Reader, v.rsaPub, plaintext, nil)
	if err != nil {
		return nil, errs.New(errs.Invalid, "failed to RSA encrypt the plaintext: %w", err)
	}
	return append(dst, sealed...), nil
}

// CheckOAEP refuses what a managed key cannot encrypt or decrypt with.
func (v *Version) CheckOAEP(padding string) error {
	switch old, err := checkPadding(padding); {
	case err != nil:
		return err
	case v.rsaPub == nil:
		return errs.New(errs.Invalid, "version %d of the key is of ECDSA, which does not encrypt", v.Number)
	case old:
		return errs.New(errs.Invalid, "keys of type %s encrypt with padding_scheme oaep only", Managed)
	}
	return nil
}

func (v *Version) verifyManaged(input, sig []byte, o SignOptions) (bool, error) {
	if v.ecPub != nil {
		return verifyEC(v.ecPub, o.digest(input), sig, o.Raw)
	}
	return v.verifyRSA(o.digest(input), sig, o)
}

// ToSign is what the service that keeps a version is to sign, and how.
func (v *Version) ToSign(input []byte, o SignOptions) (digest []byte, opts crypto.SignerOpts, err error) {
	digest = o.digest(input)
	if v.ecPub != nil {
		if o.Hash == 0 || len(digest) != o.Hash.Size() {
			return nil, nil, errs.New(errs.Invalid, "the hash has %d bytes, but those of hash_algorithm have %d", len(digest), sizeOf(o.Hash))
		}
		return digest, o.Hash, nil
	}
	old, err := o.checkRSA(digest)
	if err != nil {
		return nil, nil, err
	}
	if old {
		return digest, o.Hash, nil
	}
	if o.Salt > 0 && o.Salt != o.Hash.Size() { // negative ones are auto and hash, 0 is auto
		return nil, nil, errs.New(errs.Invalid, "keys of type %s sign with a salt as long as the hash: salt_length is auto, hash or %d", Managed, o.Hash.Size())
	}
	return digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: o.Hash}, nil
}

func sizeOf(h crypto.Hash) int {
	if h == 0 {
		return 0
	}
	return h.Size()
}

// Signed checks what the service has signed, and brings it into the form that was asked for.
func (v *Version) Signed(digest, sig []byte, o SignOptions) ([]byte, error) {
	o.Prehashed = true
	raw := o.Raw
	o.Raw = false
	good, err := v.verifyManaged(digest, sig, o)
	if err != nil || !good {
		return nil, errs.New(errs.Failed, "what the service signed is no signature by version %d of the key: the managed key has become another one, or the service lies", v.Number)
	}
	if !raw || v.ecPub == nil {
		return sig, nil
	}
	var rs ecSignature
	if _, err := asn1.Unmarshal(sig, &rs); err != nil {
		return nil, errs.With(errs.Failed, err)
	}
	return v.rawEC(&rs), nil
}

func (v *Version) rawEC(rs *ecSignature) []byte {
	n := (v.ecPub.Params().N.BitLen() + 7) / 8
	out := make([]byte, 2*n)
	rs.R.FillBytes(out[:n])
	rs.S.FillBytes(out[n:])
	return out
}
