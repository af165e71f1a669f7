package keyring

import (
	"crypto"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cloudflare/circl/sign"
	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"github.com/cloudflare/circl/sign/mldsa/mldsa87"

	"arca/internal/errs"
)

// Material is what a version is made of. It is secret: String and LogValue print
// nothing of it.
//
//	symmetric types   Secret is the key
//	ed25519           Secret is the seed (RFC 8032), Public the key, 32 bytes both
//	ecdsa, rsa        Secret is PKCS #8, Public is PKIX, both DER
//	ml-dsa            Secret is the seed (FIPS 204), Public the encoded key
//	ml-kem            Secret and Public as RFC 9180 serialises them
//	hybrid            those of ml-dsa; SecondSecret and SecondPublic of the curve
//	managed_key       Public is PKIX in DER; there is no secret, and no key for MACs
type Material struct {
	Secret []byte `json:"key,omitempty"` // none where only the public part is known
	Public []byte `json:"pub,omitempty"`
	HMAC   []byte `json:"hmac"` // every version can make MACs, by a key of its own

	SecondSecret []byte `json:"key2,omitempty"`
	SecondPublic []byte `json:"pub2,omitempty"`

	Outside *Outside `json:"outside,omitempty"` // of a managed_key
}

// String implements fmt.Stringer and shows nothing.
func (Material) String() string { return "(key material)" }

// LogValue implements slog.LogValuer and shows nothing.
func (Material) LogValue() slog.Value { return slog.StringValue("(key material)") }

const hmacBytes = 32

// stored is a version as it is kept (record.go); in JSON, it is so in backups, too.
type stored struct {
	Form int `json:"v"`
	Spec
	Material
	Created time.Time `json:"created"`
	Chain   [][]byte  `json:"chain,omitempty"` // certificates of Public, DER
}

// A Version is one version of a key, ready to use. It is immutable and shared, and shows
// nothing of its material.
type Version struct {
	Number  int
	Created time.Time
	Chain   [][]byte

	spec Spec
	m    Material

	// Where the type is an AEAD, made when it is first used: KES never needs it.
	once   sync.Once
	cipher cipher.AEAD
	failed error

	ed      ed25519.PrivateKey
	ec      *ecdsa.PrivateKey
	rsa     *rsa.PrivateKey
	edPub   ed25519.PublicKey
	ecPub   *ecdsa.PublicKey
	rsaPub  *rsa.PublicKey
	lattice sign.PrivateKey
	latPub  sign.PublicKey
	kem     hpke.PrivateKey
	kemPub  hpke.PublicKey
}

// Material returns what the version is made of, for export and backup.
func (v *Version) Material() Material { return v.m }

// Private reports whether there is more than a public part.
func (v *Version) Private() bool { return len(v.m.Secret) > 0 }

// PublicKey returns the key's public part for certificates: *rsa.PublicKey,
// *ecdsa.PublicKey, ed25519.PublicKey, or nil.
func (v *Version) PublicKey() crypto.PublicKey {
	switch {
	case v.rsaPub != nil:
		return v.rsaPub
	case v.ecPub != nil && v.spec.Type != Hybrid:
		return v.ecPub
	case v.edPub != nil && v.spec.Type != Hybrid:
		return v.edPub
	}
	return nil
}

// Signer returns the key as crypto.Signer for certificates and tokens, or nil
// where there is none or only a public part. The key is not derived.
func (v *Version) Signer() crypto.Signer {
	switch {
	case v.spec.Type == Hybrid:
		return nil
	case v.rsa != nil:
		return v.rsa
	case v.ec != nil:
		return v.ec
	case v.ed != nil:
		return v.ed
	}
	return nil
}

// Format implements fmt.Formatter and shows nothing.
func (v *Version) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.m.String()) }

// LogValue implements slog.LogValuer and shows nothing.
func (v *Version) LogValue() slog.Value { return v.m.LogValue() }

// newVersion makes version n of what is stored.
func newVersion(n int, s *stored) (*Version, error) {
	v := &Version{Number: n, Created: s.Created, Chain: s.Chain, spec: s.Spec, m: s.Material}
	if err := v.open(); err != nil {
		return nil, err
	}
	return v, nil
}

// stored is what newVersion has made v of.
func (v *Version) stored() *stored {
	return &stored{Form: jsonForm, Spec: v.spec, Material: v.m, Created: v.Created, Chain: v.Chain}
}

// aead is the cipher of a type that has one.
func (v *Version) aead() (cipher.AEAD, error) {
	v.once.Do(func() { v.cipher, v.failed = newAEAD(v.spec.Type, v.m.Secret) })
	return v.cipher, v.failed
}

// errMaterial hides what is wrong with a key that is stored: its bytes would be
// in the text.
var errMaterial = errors.New("key material of the wrong form")

// open makes the values that work with the material.
func (v *Version) open() error {
	t := v.spec.Type
	switch t.traits().family {
	case aead:
		if len(v.m.Secret) == t.traits().bytes {
			return nil // as newAEAD, which is called when the cipher is needed
		}
		return errMaterial
	case edwards:
		return v.openEd(v.m.Secret, v.m.Public)
	case ecdsaKey:
		return v.openEC(v.m.Secret, v.m.Public)
	case rsaKey:
		return v.openRSA()
	case lattice:
		return v.openLattice()
	case both:
		if err := v.openLattice(); err != nil {
			return err
		}
		if (len(v.m.Secret) == 0) != (len(v.m.SecondSecret) == 0) { // it signs with both, or not at all
			return errMaterial
		}
		if v.spec.EC == Ed25519 {
			return v.openEd(v.m.SecondSecret, v.m.SecondPublic)
		}
		return v.openEC(v.m.SecondSecret, v.m.SecondPublic)
	case kem:
		return v.openKEM()
	case managedKey:
		return v.openManaged()
	case hmacKey, cmacKey:
		return nil
	case none:
	}
	return errMaterial
}

func (v *Version) openEd(seed, public []byte) error {
	if len(public) != ed25519.PublicKeySize || len(seed) != ed25519.SeedSize && len(seed) != 0 {
		return errMaterial
	}
	v.edPub = public
	if len(seed) > 0 {
		v.ed = ed25519.NewKeyFromSeed(seed)
	}
	return nil
}

func (v *Version) openEC(secret, public []byte) error {
	p, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		return errMaterial
	}
	var ok bool
	if v.ecPub, ok = p.(*ecdsa.PublicKey); !ok {
		return errMaterial
	}
	if len(secret) > 0 {
		p, err := x509.ParsePKCS8PrivateKey(secret)
		if err != nil {
			return errMaterial
		}
		if v.ec, ok = p.(*ecdsa.PrivateKey); !ok {
			return errMaterial
		}
	}
	return nil
}

func (v *Version) openRSA() error {
	p, err := x509.ParsePKIXPublicKey(v.m.Public)
	if err != nil {
		return errMaterial
	}
	var ok bool
	if v.rsaPub, ok = p.(*rsa.PublicKey); !ok {
		return errMaterial
	}
	if len(v.m.Secret) > 0 {
		p, err := x509.ParsePKCS8PrivateKey(v.m.Secret)
		if err != nil {
			return errMaterial
		}
		if v.rsa, ok = p.(*rsa.PrivateKey); !ok {
			return errMaterial
		}
	}
	return nil
}

// schemeOf is the ML-DSA (FIPS 204) with that parameter set, or nil.
func schemeOf(set string) sign.Scheme {
	switch set {
	case "44":
		return mldsa44.Scheme()
	case "65":
		return mldsa65.Scheme()
	case "87":
		return mldsa87.Scheme()
	}
	return nil
}

func (v *Version) openLattice() error {
	s := schemeOf(v.spec.ParameterSet)
	if s == nil {
		return errMaterial
	}
	var err error
	if v.latPub, err = s.UnmarshalBinaryPublicKey(v.m.Public); err != nil {
		return errMaterial
	}
	if len(v.m.Secret) > 0 {
		if len(v.m.Secret) != s.SeedSize() {
			return errMaterial
		}
		_, v.lattice = s.DeriveKey(v.m.Secret)
	}
	return nil
}

func kemOf(t Type) hpke.KEM {
	switch t { //nolint:exhaustive // the others have none
	case MLKEM1024:
		return hpke.MLKEM1024()
	case MLKEMX25519:
		return hpke.MLKEM768X25519()
	}
	return hpke.MLKEM768()
}

func (v *Version) openKEM() error {
	var err error
	k := kemOf(v.spec.Type)
	if v.kemPub, err = k.NewPublicKey(v.m.Public); err != nil {
		return errMaterial
	}
	if len(v.m.Secret) > 0 {
		if v.kem, err = k.NewPrivateKey(v.m.Secret); err != nil {
			return errMaterial
		}
	}
	return nil
}

func curveOf(t Type) elliptic.Curve {
	switch t { //nolint:exhaustive // the others have none
	case ECDSAP384:
		return elliptic.P384()
	case ECDSAP521:
		return elliptic.P521()
	}
	return elliptic.P256()
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand, since Go 1.24)
	return b
}

// Generate makes the material of a new version. For Type.Slow it takes seconds.
func Generate(s Spec) (*Material, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	m := &Material{HMAC: random(hmacBytes)}
	var err error
	switch tr := s.Type.traits(); tr.family {
	case aead, cmacKey:
		m.Secret = random(tr.bytes)
	case hmacKey:
		m.Secret = random(s.SizeBytes)
		m.HMAC = nil // the key is it
	case edwards:
		m.Secret, m.Public = newEd()
	case ecdsaKey:
		m.Secret, m.Public, err = newEC(s.Type)
	case rsaKey:
		var k *rsa.PrivateKey
		if k, err = rsa.GenerateKey(rand.Reader, tr.bits); err == nil {
			m.Secret, m.Public, err = pair(k, &k.PublicKey)
		}
	case lattice:
		m.newLattice(s)
	case both:
		m.newLattice(s)
		if s.EC == Ed25519 {
			m.SecondSecret, m.SecondPublic = newEd()
		} else {
			m.SecondSecret, m.SecondPublic, err = newEC(s.EC)
		}
	case kem:
		var k hpke.PrivateKey
		if k, err = kemOf(s.Type).GenerateKey(); err == nil {
			m.Public = k.PublicKey().Bytes()
			m.Secret, err = k.Bytes()
		}
	case managedKey:
		return nil, errs.New(errs.Invalid, "keys of type %s are made by the service that keeps them", s.Type)
	case none:
	}
	return m, err
}

func newEd() (seed, public []byte) {
	seed = random(ed25519.SeedSize)
	return seed, edPublic(seed)
}

func edPublic(seed []byte) []byte { return ed25519.NewKeyFromSeed(seed)[ed25519.SeedSize:] }

func newEC(t Type) (secret, public []byte, err error) {
	k, err := ecdsa.GenerateKey(curveOf(t), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	return pair(k, &k.PublicKey)
}

func pair(private crypto.PrivateKey, public crypto.PublicKey) (secret, pub []byte, err error) {
	if secret, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
		return nil, nil, err
	}
	pub, err = x509.MarshalPKIXPublicKey(public)
	return secret, pub, err
}

func (m *Material) newLattice(s Spec) {
	scheme := schemeOf(s.ParameterSet)
	m.Secret = random(scheme.SeedSize())
	pub, _ := scheme.DeriveKey(m.Secret)
	m.Public, _ = pub.MarshalBinary() // a key that was just made can be encoded
}

// maxKeyBytes bounds what is parsed: RSA of 4096 bits takes 2.4 kB.
const maxKeyBytes = 8 << 10

// Parse reads a key that was made elsewhere, as Vault's import takes it: the
// bytes of a symmetric key, PKCS #8 (also SEC 1 and PKCS #1) of the others. s is
// brought into its full form. Errors are Invalid.
func Parse(s *Spec, raw []byte) (*Material, error) {
	tr := s.Type.traits()
	m := &Material{HMAC: random(hmacBytes)}
	if len(raw) > maxKeyBytes {
		return nil, errs.New(errs.Invalid, "invalid key size %d bytes for key type %s", len(raw), s.Type)
	}
	switch tr.family {
	case aead, cmacKey:
		if len(raw) != tr.bytes {
			return nil, errs.New(errs.Invalid, "invalid key size %d bytes for key type %s", len(raw), s.Type)
		}
		m.Secret = raw
		return m, s.Check()
	case hmacKey:
		if len(raw) < MinHMACBytes || len(raw) > MaxHMACBytes {
			return nil, errs.New(errs.Invalid, "invalid key size %d bytes for key type %s", len(raw), s.Type)
		}
		s.SizeBytes = len(raw)
		m.Secret, m.HMAC = raw, nil
		return m, s.Check()
	case edwards, ecdsaKey, rsaKey:
		if err := s.Check(); err != nil {
			return nil, err
		}
		p, err := parsePrivate(raw)
		if err != nil {
			return nil, errs.New(errs.Invalid, "error parsing asymmetric key: %w", err)
		}
		return m, m.take(s.Type, p)
	case lattice, both, kem, managedKey, none:
	}
	return nil, errs.New(errs.Invalid, "keys of type %s cannot be imported", s.Type)
}

func parsePrivate(raw []byte) (any, error) {
	p, err := x509.ParsePKCS8PrivateKey(raw)
	if err == nil {
		return p, nil
	}
	switch { // the library says which form it is instead
	case strings.Contains(err.Error(), "use ParseECPrivateKey"):
		return x509.ParseECPrivateKey(raw)
	case strings.Contains(err.Error(), "use ParsePKCS1PrivateKey"):
		return x509.ParsePKCS1PrivateKey(raw)
	}
	return nil, err
}

// take fills m with an asymmetric key, if it is of that type.
func (m *Material) take(t Type, private any) (err error) {
	wrong := errs.New(errs.Invalid, "invalid key type: expected %s, got %T", t, private)
	switch k := private.(type) {
	case ed25519.PrivateKey:
		if t != Ed25519 {
			return wrong
		}
		m.Secret, m.Public = k.Seed(), edPublic(k.Seed())
	case *ecdsa.PrivateKey:
		if t.traits().family != ecdsaKey {
			return wrong
		}
		if k.Curve != curveOf(t) {
			return errs.New(errs.Invalid, "invalid curve: expected %s, got %s", curveOf(t).Params().Name, k.Curve.Params().Name)
		}
		m.Secret, m.Public, err = pair(k, &k.PublicKey)
	case *rsa.PrivateKey:
		if !t.RSA() {
			return wrong
		}
		if err := checkBits(t, k.N.BitLen()); err != nil {
			return err
		}
		if len(k.Primes) != 2 {
			return errs.New(errs.Invalid, "invalid RSA key: it has %d primes, not 2", len(k.Primes))
		}
		m.Secret, m.Public, err = pair(k, &k.PublicKey)
	default:
		return wrong
	}
	return err
}

func checkBits(t Type, got int) error {
	if want := t.traits().bits; got != want {
		return errs.New(errs.Invalid, "invalid key size: expected %d bits, got %d bits", want, got)
	}
	return nil
}

// ParsePublic reads a public key, PEM (PKIX), of which no private part is known.
// Errors are Invalid.
func ParsePublic(s *Spec, text string) (*Material, error) {
	switch s.Type.traits().family {
	case edwards, ecdsaKey, rsaKey:
	case none, aead, hmacKey, cmacKey, lattice, both, kem, managedKey:
		return nil, errs.New(errs.Invalid, "provided type does not support public_key import")
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errs.New(errs.Invalid, "error parsing public key: not in PEM format")
	}
	p, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errs.New(errs.Invalid, "error parsing public key: %w", err)
	}
	m := &Material{HMAC: random(hmacBytes)}
	wrong := errs.New(errs.Invalid, "invalid key type: expected %s, got %T", s.Type, p)
	switch k := p.(type) {
	case ed25519.PublicKey:
		if s.Type != Ed25519 {
			return nil, wrong
		}
		m.Public = k
		return m, nil
	case *ecdsa.PublicKey:
		if s.Type.traits().family != ecdsaKey {
			return nil, wrong
		}
		if k.Curve != curveOf(s.Type) {
			return nil, errs.New(errs.Invalid, "invalid curve: expected %s, got %s", curveOf(s.Type).Params().Name, k.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if !s.Type.RSA() {
			return nil, wrong
		}
		if err := checkBits(s.Type, k.N.BitLen()); err != nil {
			return nil, err
		}
	default:
		return nil, wrong
	}
	m.Public, err = x509.MarshalPKIXPublicKey(p)
	return m, err
}
