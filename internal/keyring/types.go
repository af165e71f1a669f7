package keyring

import (
	"slices"

	"arca/internal/errs"
)

// A Type is an algorithm, under the name that Vault's transit engine has for it.
type Type string

// The types. Those from MLDSA on are post-quantum ones; hybrid and the KEMs have
// no form that is known outside of arca.
const (
	AES128GCM   Type = "aes128-gcm96"
	AES256GCM   Type = "aes256-gcm96"
	ChaCha20    Type = "chacha20-poly1305"
	XChaCha20   Type = "xchacha20-poly1305"
	Ed25519     Type = "ed25519"
	ECDSAP256   Type = "ecdsa-p256"
	ECDSAP384   Type = "ecdsa-p384"
	ECDSAP521   Type = "ecdsa-p521"
	RSA2048     Type = "rsa-2048"
	RSA3072     Type = "rsa-3072"
	RSA4096     Type = "rsa-4096"
	HMAC        Type = "hmac"
	CMAC128     Type = "aes128-cmac"
	CMAC192     Type = "aes192-cmac"
	CMAC256     Type = "aes256-cmac"
	MLDSA       Type = "ml-dsa"            // signatures; parameter sets 44, 65, 87
	Hybrid      Type = "hybrid"            // ML-DSA and an elliptic curve, both signatures
	MLKEM768    Type = "ml-kem-768"        // encryption by HPKE
	MLKEM1024   Type = "ml-kem-1024"       // encryption by HPKE
	MLKEMX25519 Type = "ml-kem-768-x25519" // encryption by HPKE, hybrid
	Managed     Type = "managed_key"       // its private part is with a service outside: see managed.go
)

type family uint8

const (
	none family = iota
	aead
	edwards
	ecdsaKey
	rsaKey
	hmacKey
	cmacKey
	lattice // ML-DSA
	both    // hybrid signatures
	kem
	managedKey
)

// traits are the facts about a type.
type traits struct {
	family family
	bytes  int // of a symmetric key
	bits   int // of an RSA key
}

func (t Type) traits() traits {
	switch t {
	case AES128GCM:
		return traits{family: aead, bytes: 16}
	case AES256GCM, ChaCha20, XChaCha20:
		return traits{family: aead, bytes: 32}
	case Ed25519:
		return traits{family: edwards}
	case ECDSAP256, ECDSAP384, ECDSAP521:
		return traits{family: ecdsaKey}
	case RSA2048:
		return traits{family: rsaKey, bits: 2048}
	case RSA3072:
		return traits{family: rsaKey, bits: 3072}
	case RSA4096:
		return traits{family: rsaKey, bits: 4096}
	case HMAC:
		return traits{family: hmacKey, bytes: 32}
	case CMAC128:
		return traits{family: cmacKey, bytes: 16}
	case CMAC192:
		return traits{family: cmacKey, bytes: 24}
	case CMAC256:
		return traits{family: cmacKey, bytes: 32}
	case MLDSA:
		return traits{family: lattice}
	case Hybrid:
		return traits{family: both}
	case MLKEM768, MLKEM1024, MLKEMX25519:
		return traits{family: kem}
	case Managed:
		return traits{family: managedKey}
	}
	return traits{}
}

// Known reports whether t is a type.
func (t Type) Known() bool { return t.traits().family != none }

// Encrypts reports whether keys of the type encrypt and decrypt.
func (t Type) Encrypts() bool {
	return slices.Contains([]family{aead, rsaKey, kem, managedKey}, t.traits().family)
}

// Signs reports whether keys of the type sign and verify.
func (t Type) Signs() bool {
	return slices.Contains([]family{edwards, ecdsaKey, rsaKey, lattice, both, managedKey}, t.traits().family)
}

// Derives reports whether keys of the type can be derived from a context.
func (t Type) Derives() bool { return slices.Contains([]family{aead, edwards}, t.traits().family) }

// Converges reports whether keys of the type can encrypt convergently.
func (t Type) Converges() bool { return t.traits().family == aead }

// Symmetric reports whether the key is one secret, without a public part.
func (t Type) Symmetric() bool {
	return slices.Contains([]family{aead, hmacKey, cmacKey}, t.traits().family)
}

// Authenticates reports whether encryption takes associated data.
func (t Type) Authenticates() bool { return slices.Contains([]family{aead, kem}, t.traits().family) }

// CMACs reports whether keys of the type make CMACs.
func (t Type) CMACs() bool { return t.traits().family == cmacKey }

// RSA reports whether the type is one of RSA.
func (t Type) RSA() bool { return t.traits().family == rsaKey }

// Slow reports whether making a key takes so long that no transaction should
// wait for it.
func (t Type) Slow() bool { return t.RSA() }

// A Spec says all that is needed to make a key.
type Spec struct {
	Type Type `json:"type"`
	// SizeBytes is the length of an hmac key, 0 otherwise.
	SizeBytes int `json:"size,omitempty"`
	// ParameterSet of ml-dsa, and of the ML-DSA in a hybrid key: 44, 65, 87.
	ParameterSet string `json:"set,omitempty"`
	// EC is the curve of a hybrid key: ed25519 or one of ecdsa.
	EC Type `json:"ec,omitempty"`
}

// Bounds of an hmac key, in bytes, as Vault documents them.
const (
	MinHMACBytes = 32
	MaxHMACBytes = 512
)

// Check brings s into its full form. Errors are Invalid.
func (s *Spec) Check() error {
	f := s.Type.traits().family
	switch f {
	case none:
		return errs.New(errs.Invalid, "unknown key type %s", s.Type)
	case hmacKey:
		if s.SizeBytes == 0 {
			s.SizeBytes = MinHMACBytes
		}
		if s.SizeBytes < MinHMACBytes || s.SizeBytes > MaxHMACBytes {
			return errs.New(errs.Invalid, "invalid key_size %d", s.SizeBytes)
		}
	case aead, edwards, ecdsaKey, rsaKey, cmacKey, lattice, both, kem, managedKey:
		if s.SizeBytes != 0 {
			return errs.New(errs.Invalid, "invalid key_size %d", s.SizeBytes)
		}
	}
	switch f { //nolint:exhaustive // the others have no parameters
	case lattice, both:
		if schemeOf(s.ParameterSet) == nil {
			return errs.New(errs.Invalid, "invalid parameter_set %q: it must be 44, 65 or 87", s.ParameterSet)
		}
	default:
		if s.ParameterSet != "" {
			return errs.New(errs.Invalid, "parameter_set is for keys of type ml-dsa and hybrid")
		}
	}
	if ec := s.EC.traits().family; (f == both) != (ec == edwards || ec == ecdsaKey) || f != both && s.EC != "" {
		return errs.New(errs.Invalid, "invalid hybrid_key_type_ec %q: a hybrid key needs ecdsa-p256, ecdsa-p384, ecdsa-p521 or ed25519, others none", s.EC)
	}
	return nil
}
