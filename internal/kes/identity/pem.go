package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

// ParseCertificate reads the first certificate of a PEM file.
func ParseCertificate(data []byte) (*x509.Certificate, error) {
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			return nil, errNoCertificate
		}
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
}

// ErrEncrypted is what ParsePrivateKey says of a key that needs a password.
var ErrEncrypted = errors.New("the private key is encrypted")

// PrivateKeyPEM returns the private key's block of a PEM file, decrypted where it
// is of the old, encrypted form (RFC 1423). It skips certificates.
func PrivateKeyPEM(data, password []byte) (*pem.Block, error) {
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			return nil, errors.New("no private key in PEM form")
		}
		if block.Type == "CERTIFICATE" {
			continue
		}
		if !x509.IsEncryptedPEMBlock(block) { //nolint:staticcheck // the form that KES writes and reads
			return block, nil
		}
		if password == nil {
			return nil, ErrEncrypted
		}
		plain, err := x509.DecryptPEMBlock(block, password) //nolint:staticcheck // the same
		if err != nil {
			return nil, errors.New("the password does not open the private key")
		}
		return &pem.Block{Type: block.Type, Bytes: plain}, nil
	}
}

// ParsePrivateKey reads an Ed25519 private key from a PEM file.
func ParsePrivateKey(data []byte) (ed25519.PrivateKey, error) {
	block, err := PrivateKeyPEM(data, nil)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("no private key of the form PKCS #8")
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("only an Ed25519 private key has an API key")
	}
	return key, nil
}
