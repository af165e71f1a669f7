package kmip

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

const (
	caKey    = "ca"
	caLife   = 10 * 365 * 24 * time.Hour
	caName   = "vault-kmip-default"
	backdate = 30 * time.Second // of what is issued, for clocks that differ
)

// An authority issues the certificates of a mount's server and clients.
type authority struct {
	Version      int    `json:"v"`
	Root         []byte `json:"root"` // certificates, DER
	RootKey      []byte `json:"root_key"`
	Intermediate []byte `json:"intermediate"`
	Key          []byte `json:"key"` // of the intermediate, PKCS#8
}

func newKey(k keyKind) (crypto.Signer, error) {
	if k.Type == "rsa" {
		return rsa.GenerateKey(rand.Reader, k.Bits)
	}
	curve := map[int]elliptic.Curve{224: elliptic.P224(), 256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}[k.Bits]
	if curve == nil {
		return nil, fmt.Errorf("no curve has %d bits", k.Bits)
	}
	return ecdsa.GenerateKey(curve, rand.Reader)
}

func newSerial() (*big.Int, error) {
	var b [20]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	b[0] &= 0x7f // positive in 20 bytes
	return new(big.Int).SetBytes(b[:]), nil
}

func keyID(pub crypto.PublicKey) ([]byte, error) {
	raw, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(raw)
	return sum[:], nil
}

func newAuthority(k keyKind, accessor string, now time.Time) (*authority, error) {
	a := &authority{Version: 1}
	rootKey, err := newKey(k)
	if err != nil {
		return nil, err
	}
	key, err := newKey(k)
	if err != nil {
		return nil, err
	}
	name := caName + "-" + accessor
	root, err := caTemplate(name, rootKey.Public(), now, 1)
	if err != nil {
		return nil, err
	}
	if a.Root, err = x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey); err != nil {
		return nil, err
	}
	inter, err := caTemplate(name+"-intermediate", key.Public(), now, 0)
	if err != nil {
		return nil, err
	}
	parent, err := x509.ParseCertificate(a.Root)
	if err != nil {
		return nil, err
	}
	if a.Intermediate, err = x509.CreateCertificate(rand.Reader, inter, parent, key.Public(), rootKey); err != nil {
		return nil, err
	}
	if a.RootKey, err = x509.MarshalPKCS8PrivateKey(rootKey); err != nil {
		return nil, err
	}
	a.Key, err = x509.MarshalPKCS8PrivateKey(key)
	return a, err
}

func caTemplate(name string, pub crypto.PublicKey, now time.Time, path int) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	id, err := keyID(pub)
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-backdate), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: path, MaxPathLenZero: path == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: id,
	}, err
}

func (a *authority) signer() (*x509.Certificate, crypto.Signer, error) {
	cert, err := x509.ParseCertificate(a.Intermediate)
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(a.Key)
	if err != nil {
		return nil, nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, errors.New("the authority's key cannot sign")
	}
	return cert, signer, nil
}

// issue signs a certificate. It ends with the authority at the latest.
func (a *authority) issue(t *x509.Certificate, pub crypto.PublicKey, now time.Time, life time.Duration) ([]byte, error) {
	parent, signer, err := a.signer()
	if err != nil {
		return nil, err
	}
	if t.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	if t.SubjectKeyId, err = keyID(pub); err != nil {
		return nil, err
	}
	t.NotBefore, t.NotAfter, t.BasicConstraintsValid = now.Add(-backdate), now.Add(life), true
	if t.NotAfter.After(parent.NotAfter) {
		t.NotAfter = parent.NotAfter
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
	return x509.CreateCertificate(rand.Reader, t, parent, pub, signer)
}

func selfSigned(t *x509.Certificate, key crypto.Signer) ([]byte, error) {
	return x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
}

func nowUTC() time.Time { return time.Now().UTC() }

// chain are the certificates that a client needs beside its own.
func (a *authority) chain() [][]byte {
	if a.Root == nil {
		return [][]byte{a.Intermediate}
	}
	return [][]byte{a.Intermediate, a.Root}
}

// server makes the certificate of a listener, with a key of its own.
func (a *authority) server(c *config, now time.Time) (der []byte, key crypto.Signer, err error) {
	if key, err = newKey(c.CA); err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{DNSNames: c.Hostnames, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if len(c.Hostnames) > 0 {
		t.Subject.CommonName = c.Hostnames[0]
	}
	for _, ip := range c.IPs {
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(ip))
	}
	der, err = a.issue(t, key.Public(), now, caLife)
	return der, key, err
}

func certPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func getAuthority(tx storage.Tx) (*authority, error) {
	a, err := storage.GetJSON[authority](tx, caKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errs.New(errs.Invalid, "the KMIP engine is not configured: write its config first")
	}
	return a, err
}

func (e *Engine) readCA(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	a, err := getAuthority(call.Tx)
	if err != nil {
		return nil, err
	}
	return data(map[string]any{"ca_pem": string(bytes.TrimSuffix([]byte(certPEM(a.Intermediate)+certPEM(a.Root)), []byte{'\n'}))}), nil
}

func (e *Engine) readRoot(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	a, err := getAuthority(call.Tx)
	if err != nil {
		return nil, err
	}
	return data(map[string]any{"ca_pem": string(bytes.TrimSuffix([]byte(certPEM(a.Root)), []byte{'\n'}))}), nil
}
