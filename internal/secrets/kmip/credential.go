package kmip

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

// A credential is a client certificate that was issued.
type credential struct {
	Version int       `json:"v"`
	Cert    []byte    `json:"cert"`         // DER
	CA      string    `json:"ca,omitempty"` // name of the authority; "" is the mount's own
	Expires time.Time `json:"exp"`
	// From is the serial number of the certificate that was renewed for this one, and Line
	// that of the first one.
	From string `json:"from,omitempty"`
	Line string `json:"line,omitempty"`
	// Renewed says that one has come of it.
	Renewed bool `json:"renewed,omitempty"`
}

type listCredentialsIn struct {
	roleIn
	Detail bool `api:"detail" help:"Show also how long each is valid."`
}

func (e *Engine) listCredentials(_ context.Context, call *engine.Call, in listCredentialsIn) (*engine.Response, error) {
	s, r, err := e.findRole(call.Tx, in.roleIn)
	if err != nil {
		return nil, err
	}
	serials, info := []string{}, map[string]any{}
	for kv, err := range call.Tx.Scan(credDir(s.ID, r.ID), "") {
		if err != nil {
			return nil, err
		}
		c, _, err := decoded[credential](kv.Key, kv.Value)
		if err != nil {
			return nil, err
		}
		if call.Now.Before(c.Expires) {
			serial := kv.Key[strings.LastIndexByte(kv.Key, '/')+1:]
			serials = append(serials, serial)
			known := map[string]any{"expiration": c.Expires.UTC().Format(time.RFC3339), "expires_in": int64(c.Expires.Sub(call.Now) / time.Second)}
			if c.From != "" {
				known["renewed_from"] = c.From
			}
			info[serial] = known
		}
	}
	if len(serials) == 0 {
		return nil, errNotFound
	}
	out := map[string]any{"keys": serials}
	if in.Detail {
		out["key_info"] = info
	}
	return data(out), nil
}

type generateIn struct {
	roleIn
	Format string         `api:"format" help:"pem, pem_bundle (the default) or der."`
	TTL    *time.Duration `api:"ttl" help:"How long the certificate is valid, in place of the role's time."`
}

func checkFormat(format string) (string, error) {
	switch format {
	case "":
		return "pem_bundle", nil
	case "pem", "pem_bundle", "der":
		return format, nil
	}
	return "", errs.New(errs.Invalid, "format must be pem, pem_bundle or der, not %q", format)
}

// kindFor is the kind of keys and the time of a role's certificates.
func kindFor(tx storage.Tx, r *role, ttl *time.Duration) (keyKind, time.Duration, error) {
	c, err := get[config](tx, configKey)
	if err != nil {
		return keyKind{}, 0, errs.New(errs.Invalid, "the KMIP engine is not configured: write its config first")
	}
	kind, life := c.Client, c.ClientTTL
	if r.Key.Type != "" {
		kind = r.Key
	}
	if r.TTL > 0 {
		life = r.TTL
	}
	if ttl != nil {
		if *ttl <= 0 || *ttl > caLife {
			return kind, 0, errs.New(errs.Invalid, "ttl must be from one second to ten years")
		}
		life = *ttl
	}
	return kind, life, nil
}

func (e *Engine) generate(_ context.Context, call *engine.Call, in generateIn) (*engine.Response, error) {
	format, err := checkFormat(in.Format)
	if err != nil {
		return nil, err
	}
	s, r, err := e.findRole(call.Tx, in.roleIn)
	if err != nil {
		return nil, err
	}
	kind, life, err := kindFor(call.Tx, r, in.TTL)
	if err != nil {
		return nil, err
	}
	key, ok := call.Asked.(crypto.Signer)
	if !ok { // making an RSA key takes long: not in the transaction
		return nil, engine.Ask(func(context.Context) (any, error) { return newKey(kind) })
	}
	if in.TTL == nil && r.TTL == 0 && life < shortLife {
		call.Warn("The certificate is valid for %s, because no time was chosen (ttl, tls_client_ttl of the role, default_tls_client_ttl of config). credential/renew and Re-Provision replace it without a break.", life)
	}
	return e.issueTo(call, s, r, key.Public(), key, life, format, "")
}

type signIn struct {
	roleIn
	CSR    string `api:"csr" help:"Request for a certificate (PKCS#10), PEM."`
	Format string `api:"format" help:"pem, pem_bundle (the default) or der."`
}

func (e *Engine) sign(_ context.Context, call *engine.Call, in signIn) (*engine.Response, error) {
	format, err := checkFormat(in.Format)
	if err != nil {
		return nil, err
	}
	s, r, err := e.findRole(call.Tx, in.roleIn)
	if err != nil {
		return nil, err
	}
	kind, life, err := kindFor(call.Tx, r, nil)
	if err != nil {
		return nil, err
	}
	pub, err := requestedKey(in.CSR, kind)
	if err != nil {
		return nil, err
	}
	return e.issueTo(call, s, r, pub, nil, life, format, "")
}

// requestedKey is the key of a request for a client's certificate, in PEM.
func requestedKey(text string, kind keyKind) (crypto.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errs.New(errs.Invalid, "csr must be a request for a certificate in PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, errs.New(errs.Invalid, "csr cannot be read as a request for a certificate")
	}
	if have := kindOf(csr.PublicKey); have != kind {
		return nil, errs.New(errs.Invalid, "the role's certificates have %s keys of %d bits, that of csr is %s of %d", kind.Type, kind.Bits, have.Type, have.Bits)
	}
	if csr.CheckSignature() != nil {
		return nil, errs.New(errs.Invalid, "the signature of csr is not that of its key")
	}
	return csr.PublicKey, nil
}

func kindOf(pub crypto.PublicKey) keyKind {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return keyKind{"rsa", k.N.BitLen()}
	case *ecdsa.PublicKey:
		return keyKind{"ec", k.Curve.Params().BitSize}
	}
	return keyKind{"unknown", 0}
}

// issueTo makes a certificate for a key. What is in it is the role's alone.
func (e *Engine) issueTo(call *engine.Call, s *scope, r *role, pub crypto.PublicKey, key crypto.Signer, life time.Duration, format, from string) (*engine.Response, error) {
	a, cert, err := newCredential(call.Tx, call.Now, s.ID, r, pub, life, from)
	if err != nil {
		return nil, err
	}
	out, err := showCredential(a, cert.Raw, key, format)
	return data(out), err
}

// newCredential issues a certificate to a role; from is the serial number of the one that it
// renews, "" for none.
func newCredential(tx storage.Tx, now time.Time, scope string, r *role, pub crypto.PublicKey, life time.Duration, from string) (*authority, *x509.Certificate, error) {
	a, err := issuer(tx, r.CA, nil)
	if err != nil {
		return nil, nil, err
	}
	der, err := a.issue(&x509.Certificate{
		Subject:     pkix.Name{OrganizationalUnit: []string{scope}, CommonName: r.ID},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, pub, now, life)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	serial := cert.SerialNumber.String()
	made := credential{Version: 1, Cert: der, CA: r.CA, Expires: cert.NotAfter}
	if err := made.renews(tx, scope, r.ID, serial, from); err != nil {
		return nil, nil, err
	}
	if err := storage.PutJSON(tx, credDir(scope, r.ID)+serial, made); err != nil {
		return nil, nil, err
	}
	return a, cert, tx.Put(dueKey(cert.NotAfter.Add(credentialKept), "c", scope, r.ID+"."+serial), nil)
}

// issuer is the authority with a name, "" for the mount's own: as it is now, or as it
// was when it issued a certificate.
func issuer(tx storage.Tx, name string, of *x509.Certificate) (*authority, error) {
	if name == "" {
		return getAuthority(tx)
	}
	n, err := getNamed(tx, name)
	if errors.Is(err, errNotFound) {
		return nil, errs.New(errs.Invalid, "there is no authority %q", name)
	}
	if err != nil {
		return nil, err
	}
	if n.Imported {
		return nil, errs.New(errs.Invalid, "the authority %q was imported: it issues no certificates", name)
	}
	a := n.authority()
	for _, f := range n.Formers {
		c, err := x509.ParseCertificate(f.Cert)
		if err == nil && of != nil && bytes.Equal(c.SubjectKeyId, of.AuthorityKeyId) {
			a = &authority{Intermediate: f.Cert}
		}
	}
	return a, nil
}

func showCredential(a *authority, der []byte, key crypto.Signer, format string) (map[string]any, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	text := func(b []byte) string { return strings.TrimSuffix(certPEM(b), "\n") }
	if format == "der" {
		text = base64.StdEncoding.EncodeToString
	}
	chain := []string{}
	for _, c := range a.chain() {
		chain = append(chain, text(c))
	}
	out := map[string]any{"certificate": text(der), "ca_chain": chain, "serial_number": cert.SerialNumber.String()}
	bundle := []string{}
	if key != nil {
		block, err := keyBlock(key)
		if err != nil {
			return nil, err
		}
		if format == "der" {
			out["private_key"] = text(block.Bytes)
		} else {
			k := strings.TrimSuffix(string(pem.EncodeToMemory(block)), "\n")
			out["private_key"] = k
			bundle = append(bundle, k)
		}
	}
	if format == "pem_bundle" {
		bundle = append(append(bundle, text(der)), chain...)
		out["certificate"] = strings.Join(bundle, "\n")
	}
	return out, nil
}

func keyBlock(key crypto.Signer) (*pem.Block, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}, nil
	case *ecdsa.PrivateKey:
		raw, err := x509.MarshalECPrivateKey(k)
		return &pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}, err
	}
	return nil, errors.New("unknown type of key")
}

type lookupIn struct {
	roleIn
	Serial string `api:"serial_number" help:"Serial number of the certificate, decimal."`
	Format string `api:"format" help:"pem, pem_bundle (the default) or der."`
}

func (e *Engine) lookup(_ context.Context, call *engine.Call, in lookupIn) (*engine.Response, error) {
	format, err := checkFormat(in.Format)
	if err != nil {
		return nil, err
	}
	s, r, err := e.findRole(call.Tx, in.roleIn)
	if err != nil {
		return nil, err
	}
	if err := checkSerial(in.Serial); err != nil {
		return nil, err
	}
	c, err := get[credential](call.Tx, credDir(s.ID, r.ID)+in.Serial)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(c.Cert)
	if err != nil {
		return nil, err
	}
	a, err := issuer(call.Tx, c.CA, cert)
	if err != nil {
		return nil, err
	}
	out, err := showCredential(a, c.Cert, nil, format)
	return data(out), err
}

func checkSerial(text string) error {
	n, ok := new(big.Int).SetString(text, 10)
	if len(text) > 64 || !ok || n.String() != text {
		return errs.New(errs.Invalid, "serial_number must be a decimal number")
	}
	return nil
}

type revokeIn struct {
	roleIn
	Serial string `api:"serial_number" help:"Serial number of the certificate, decimal."`
	Cert   string `api:"certificate" help:"The certificate, PEM, in place of its serial number."`
}

func (e *Engine) revoke(_ context.Context, call *engine.Call, in revokeIn) (*engine.Response, error) {
	s, r, err := e.findRole(call.Tx, in.roleIn)
	if err != nil {
		return nil, err
	}
	if (in.Serial == "") == (in.Cert == "") {
		return nil, errs.New(errs.Invalid, "give either serial_number or certificate")
	}
	if in.Cert != "" {
		block, _ := pem.Decode([]byte(in.Cert))
		if block == nil {
			return nil, errs.New(errs.Invalid, "certificate must be in PEM")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errs.New(errs.Invalid, "certificate cannot be read")
		}
		in.Serial = cert.SerialNumber.String()
	}
	if err := checkSerial(in.Serial); err != nil {
		return nil, err
	}
	c, err := get[credential](call.Tx, credDir(s.ID, r.ID)+in.Serial)
	gone := errors.Is(err, errNotFound)
	if gone { // others may have come of it
		c = &credential{}
		c.Line, err = lineOf(call.Tx, s.ID, r.ID, in.Serial)
	}
	if err != nil {
		return nil, err
	}
	also, err := revokeLine(call.Tx, s.ID, r.ID, in.Serial, c.Line)
	if err != nil {
		return nil, err
	}
	if gone && len(also) == 0 {
		return nil, errs.New(errs.Invalid, "the role has no certificate with the serial number %s: if it had, and others came of it by renewal, revoke the first of them (renewed_from of the list), or delete the role", in.Serial)
	}
	if len(also) == 0 {
		return nil, nil
	}
	call.Warn("%d certificates that came of this one by renewal are revoked, too", len(also))
	return data(map[string]any{"also_revoked": also}), nil
}
