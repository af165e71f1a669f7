package core

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"arca/internal/engine"
	"arca/internal/namespace"
	"arca/internal/storage"
	"arca/internal/token"
)

// wrappingKey is where the key that signs wrapping tokens in JWT form lies. It
// is made when it is first needed.
const wrappingKey = "core/wrapping-key"

// jwtPrefix is how every JWT begins: {" in base64.
const jwtPrefix = "eyJ"

var errNotWrapping = engine.ErrWrapping

// wrapClaims are the claims of a wrapping token in JWT form, as clients of
// Vault read them: where to unwrap, and the real token as jti.
type wrapClaims struct {
	Accessor string `json:"accessor"`
	Addr     string `json:"addr"`
	Type     string `json:"type"`
}

func (a *Active) wrapJWT(tx storage.Tx, id string, e *token.Entry, in WrapInput) (string, error) {
	key, err := a.jwtKey(tx)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES512, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(jwt.Claims{
		ID: id, IssuedAt: jwt.NewNumericDate(in.Now), Expiry: jwt.NewNumericDate(in.Now.Add(in.TTL)),
	}).Claims(wrapClaims{Accessor: e.Accessor, Addr: in.Issuer, Type: "wrapping"}).Serialize()
}

func (a *Active) jwtKey(tx storage.Tx) (*ecdsa.PrivateKey, error) {
	der, err := tx.Get(wrappingKey)
	if err == nil {
		return x509.ParseECPrivateKey(der)
	}
	if !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if der, err = x509.MarshalECPrivateKey(key); err != nil {
		return nil, err
	}
	return key, tx.Put(wrappingKey, der)
}

// WrappingToken finds the wrapping token that text names, in either form. The
// error is engine.ErrWrapping when it is none, or no longer valid.
func (a *Active) WrappingToken(tx storage.Tx, text string, now time.Time) (*token.Entry, error) {
	if strings.HasPrefix(text, jwtPrefix) && len(text) <= token.MaxIDBytes {
		id, err := a.openJWT(tx, text)
		if err != nil {
			return nil, err
		}
		text = id
	}
	e, err := a.Tokens.Lookup(tx, text, now)
	if errors.Is(err, token.ErrBad) {
		return nil, errNotWrapping
	}
	if err != nil {
		return nil, err
	}
	if e.Wrapped == nil {
		return nil, errNotWrapping
	}
	return e, a.open(tx, e)
}

// open refuses a wrapping token whose namespace is gone or locked. One that the
// body of a request names comes by no other check of where it belongs.
func (a *Active) open(tx storage.Tx, e *token.Entry) error {
	n, err := a.Namespaces.ByID(tx, e.NamespaceID)
	if errors.Is(err, namespace.ErrNotFound) {
		return errNotWrapping
	}
	if err != nil || n.IsRoot() {
		return err
	}
	p, err := a.Namespaces.Resolve(tx, n.Path)
	if err != nil {
		return err
	}
	if p.IsLocked() {
		return errLocked(p.Locked)
	}
	return nil
}

func (a *Active) openJWT(tx storage.Tx, text string) (string, error) {
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES512})
	if err != nil {
		return "", errNotWrapping
	}
	key, err := a.jwtKey(tx)
	if errors.Is(err, storage.ErrReadOnly) {
		return "", errNotWrapping // nothing was ever signed
	}
	if err != nil {
		return "", err
	}
	var std jwt.Claims
	var own wrapClaims
	if parsed.Claims(&key.PublicKey, &std, &own) != nil || own.Type != "wrapping" {
		return "", errNotWrapping
	}
	return std.ID, nil
}
