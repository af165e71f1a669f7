// Package identity tells who a client of KES is: the SHA-256 of the public key
// in its certificate, in hex. A certificate that is renewed for the same key
// keeps its identity; names, issuer and validity do not count.
//
// An API key is a client's whole secret in one line, "kes:v1:" and the seed of
// an Ed25519 key: its certificate is made on the spot.
package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"math/big"
	"strings"
	"time"

	"arca/internal/errs"
)

// Prefix begins every API key.
const Prefix = "kes:v1:"

// typeEd25519 is the first byte of what follows the prefix.
const typeEd25519 = 0

// Of returns the identity of a certificate's public key.
func Of(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// Is reports whether the text is an identity: 64 hexadecimal digits.
func Is(text string) bool {
	if len(text) != 2*sha256.Size {
		return false
	}
	_, err := hex.DecodeString(text)
	return err == nil
}

// Errors of Pick.
var (
	ErrNone    = errs.New(errs.Invalid, "no client certificate, but this call needs one")
	ErrCAs     = errs.New(errs.Invalid, "no client certificate but such of certificate authorities, which cannot be used here")
	ErrOrder   = errs.New(errs.Invalid, "the client's own certificate must come first, and be none of a certificate authority")
	ErrSeveral = errs.New(errs.Invalid, "more than one client certificate: which one counts cannot be told")
)

// Pick chooses the client's certificate among those that it sent: the one that
// is no certificate authority's. It must be the first, of which alone TLS has
// proved that the client has the key (RFC 8446, section 4.4.2); the last KES did
// not look at that, and whoever sent somebody else's behind one of an authority
// was that somebody.
func Pick(sent []*x509.Certificate) (*x509.Certificate, error) {
	var found *x509.Certificate
	for _, c := range sent {
		switch {
		case c.IsCA:
		case found != nil:
			return nil, ErrSeveral
		default:
			found = c
		}
	}
	switch {
	case found != nil && found != sent[0]:
		return nil, ErrOrder
	case found != nil:
		return found, nil
	case len(sent) > 0:
		return nil, ErrCAs
	}
	return nil, ErrNone
}

// An APIKey is the seed of a client's private key. It prints nothing of itself;
// Text does.
type APIKey struct{ key ed25519.PrivateKey }

// NewAPIKey makes a random one.
func NewAPIKey() *APIKey {
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // never fails
	return &APIKey{ed25519.NewKeyFromSeed(seed)}
}

// KeyOf makes an API key of an Ed25519 private key.
func KeyOf(key ed25519.PrivateKey) *APIKey { return &APIKey{key} }

// ParseAPIKey reads an API key; the prefix may be missing. The error does not
// quote the text.
func ParseAPIKey(text string) (*APIKey, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, Prefix))
	if err != nil {
		return nil, errs.New(errs.Invalid, "invalid API key: what follows %q is not base64", Prefix)
	}
	if len(raw) != 1+ed25519.SeedSize {
		return nil, errs.New(errs.Invalid, "invalid API key: it has %d bytes instead of %d", len(raw), 1+ed25519.SeedSize)
	}
	if raw[0] != typeEd25519 {
		return nil, errs.New(errs.Invalid, "invalid API key: its type %d is unknown", raw[0])
	}
	return &APIKey{ed25519.NewKeyFromSeed(raw[1:])}, nil
}

// Text returns the API key as clients are given it.
func (k *APIKey) Text() string {
	return Prefix + base64.StdEncoding.EncodeToString(append([]byte{typeEd25519}, k.key.Seed()...))
}

// Private returns the private key.
func (k *APIKey) Private() ed25519.PrivateKey { return k.key }

// Identity returns the identity of the API key's certificates.
func (k *APIKey) Identity() string {
	der, err := x509.MarshalPKIXPublicKey(k.key.Public())
	if err != nil {
		return "" // cannot happen with an Ed25519 key
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Certificate makes a client certificate, valid for 90 days.
func (k *APIKey) Certificate(now time.Time) (tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: k.Identity()},
		NotBefore:             now.Add(-time.Minute), // clocks differ
		NotAfter:              now.Add(90 * 24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.key.Public(), k.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k.key, Leaf: leaf}, err
}

// String hides the seed from formatted output.
func (k *APIKey) String() string { return "API key of " + k.Identity() }

// LogValue hides the seed from logs.
func (k *APIKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// errNoCertificate is what ParseCertificate says of other data.
var errNoCertificate = errors.New("no certificate in PEM form")
