package transit

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strconv"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/keyring"
)

type csrIn struct {
	nameIn
	Version string `api:"version" help:"Version of the key, or latest."`
	CSR     string `api:"csr" help:"A certificate request in PEM to take everything but the key from."`
}

// versionOf reads a version's number: "" and "latest" are the newest.
func versionOf(k *keyring.Key, text string) (int, error) {
	if text == "" || text == "latest" {
		return k.Latest, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, errs.New(errs.Invalid, "invalid version %q", text)
	}
	return k.ToUse(n, "signing")
}

// forCertificates finds a key that certificates can be made for.
func (e *Engine) forCertificates(call *engine.Call, name, version string) (*keyring.Key, *keyring.Version, error) {
	k, err := e.get(call, name, errs.New(errs.NotFound, "key with provided name '%s' not found", name))
	if err != nil {
		return nil, nil, err
	}
	if k.Derived {
		return nil, nil, errs.New(errs.Invalid, "operation not supported on keys with derivation enabled")
	}
	n, err := versionOf(k, version)
	if err != nil {
		return nil, nil, err
	}
	v, err := e.ring.Version(call.Tx, k, n)
	if err != nil {
		return nil, nil, err
	}
	if v.PublicKey() == nil {
		return nil, nil, errs.New(errs.Invalid, "keys of type %s have no certificates", k.Type)
	}
	return k, v, nil
}

func (e *Engine) csr(_ context.Context, call *engine.Call, in csrIn) (*engine.Response, error) {
	k, v, err := e.forCertificates(call, in.Name, in.Version)
	if err != nil {
		return nil, err
	}
	template := &x509.CertificateRequest{}
	if in.CSR != "" {
		block, _ := pem.Decode([]byte(in.CSR))
		if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			return nil, errs.New(errs.Invalid, "could not decode PEM certificate request")
		}
		given, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return nil, errs.New(errs.Invalid, "could not parse certificate request: %w", err)
		}
		template = &x509.CertificateRequest{
			RawSubject: given.RawSubject, Subject: given.Subject, ExtraExtensions: given.Extensions,
		}
	}
	der, err := e.signRequest(call, k, v, template)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return &engine.Response{Data: map[string]any{"name": k.Name, "type": string(k.Type), "version": v.Number, "csr": string(text)}}, nil
}

func (e *Engine) signRequest(call *engine.Call, k *keyring.Key, v *keyring.Version, template *x509.CertificateRequest) ([]byte, error) {
	if k.Type == keyring.Managed {
		return (&worker{e: e, call: call, key: k}).csrOutside(v, template)
	}
	key := v.Signer()
	if key == nil {
		return nil, errs.New(errs.Invalid, "requested version for signing does not contain a private part")
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, errs.New(errs.Invalid, "could not create certificate request: %w", err)
	}
	return der, nil
}

type certificateIn struct {
	nameIn
	Version string `api:"version" help:"Version of the key, or latest."`
	Chain   string `api:"certificate_chain" help:"Certificates in PEM, that of the key first."`
}

// Bounds of a chain.
const (
	maxChainBytes = 256 << 10
	maxChain      = 32
)

func (e *Engine) setCertificate(_ context.Context, call *engine.Call, in certificateIn) (*engine.Response, error) {
	certs, err := parseChain(in.Chain)
	if err != nil {
		return nil, err
	}
	k, v, err := e.forCertificates(call, in.Name, in.Version)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(v.PublicKey())
	if err != nil {
		return nil, err
	}
	leaf, err := x509.MarshalPKIXPublicKey(certs[0].PublicKey)
	if err != nil {
		return nil, errs.With(errs.Invalid, err)
	}
	if !bytes.Equal(public, leaf) {
		return nil, errs.New(errs.Invalid, "the leaf certificate's public key does not match that of version %d of the key", v.Number)
	}
	raw := make([][]byte, len(certs))
	for i, c := range certs {
		raw[i] = c.Raw
	}
	if err := e.ring.SetChain(call.Tx, k, v.Number, raw); err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"name": k.Name, "type": string(k.Type), "certificate_chain": showChain(raw)}}, nil
}

func parseChain(text string) (certs []*x509.Certificate, err error) {
	if len(text) > maxChainBytes {
		return nil, errs.New(errs.TooLarge, "the chain has more than %d bytes", maxChainBytes)
	}
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errs.New(errs.Invalid, "failed to parse certificate chain: %w", err)
		}
		if certs = append(certs, c); len(certs) > maxChain {
			return nil, errs.New(errs.Invalid, "the chain has more than %d certificates", maxChain)
		}
	}
	switch {
	case len(certs) == 0:
		err = errs.New(errs.Invalid, "no certificates provided in certificate chain")
	case certs[0].IsCA && len(certs) > 1:
		err = errs.New(errs.Invalid, "the first certificate of the chain must be that of the key, not of an authority")
	}
	return certs, err
}
