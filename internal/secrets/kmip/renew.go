package kmip

import (
	"context"
	"crypto"
	"errors"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/ttlv"
)

// Clients' certificates are replaced without a break: the new one is there before the
// former ends.
const (
	shortLife       = 7 * 24 * time.Hour // of a certificate that nobody asked to be short
	overlapByDay    = 24 * time.Hour     // of a certificate that an operator renews
	overlapByItself = time.Hour          // of one that its client renews
	maxOverlap      = 365 * 24 * time.Hour
)

// ending has a certificate end after a while, where that is sooner than it would.
func ending(tx storage.Tx, key string, now time.Time, overlap time.Duration) error {
	c, err := get[credential](tx, key)
	if err != nil {
		return err
	}
	if at := now.Add(overlap); at.Before(c.Expires) {
		c.Expires = at
		return storage.PutJSON(tx, key, c)
	}
	return nil
}

type renewIn struct {
	roleIn
	Serial  string         `api:"serial_number" help:"Serial number of the certificate that is replaced, decimal."`
	CSR     string         `api:"csr" help:"Request for the certificate (PKCS#10), PEM; without it the answer has a new key, too."`
	Format  string         `api:"format" help:"pem, pem_bundle (the default) or der."`
	TTL     *time.Duration `api:"ttl" help:"How long the new certificate is valid, in place of the role's time."`
	Overlap *time.Duration `api:"overlap" help:"How long the former certificate stays valid; a day when it is not given."`
}

// renew issues a certificate in place of another of the role.
func (e *Engine) renew(_ context.Context, call *engine.Call, in renewIn) (*engine.Response, error) {
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
	overlap := overlapByDay
	if in.Overlap != nil {
		overlap = *in.Overlap
	}
	if overlap < 0 || overlap > maxOverlap {
		return nil, errs.New(errs.Invalid, "overlap must be at most a year")
	}
	old, err := get[credential](call.Tx, credDir(s.ID, r.ID)+in.Serial)
	if errors.Is(err, errNotFound) || err == nil && call.Now.After(old.Expires) {
		return nil, errs.New(errs.Invalid, "the role has no valid certificate with the serial number %s: generate one", in.Serial)
	}
	if err != nil {
		return nil, err
	}
	kind, life, err := kindFor(call.Tx, r, in.TTL)
	if err != nil {
		return nil, err
	}
	var pub crypto.PublicKey
	var key crypto.Signer
	if in.CSR != "" {
		if pub, err = requestedKey(in.CSR, kind); err != nil {
			return nil, err
		}
	} else {
		made, ok := call.Asked.(crypto.Signer)
		if !ok { // making an RSA key takes long: not in the transaction
			return nil, engine.Ask(func(context.Context) (any, error) { return newKey(kind) })
		}
		key, pub = made, made.Public()
	}
	if err := ending(call.Tx, credDir(s.ID, r.ID)+in.Serial, call.Now, overlap); err != nil {
		return nil, err
	}
	return e.issueTo(call, s, r, pub, key, life, format, in.Serial)
}

// reProvision gives a client a new certificate for its role, by its request (KMIP 2.1,
// section 6.1.44). A private key is not made for it here: it would lie where all roles of
// the scope find it. The former certificate stays valid for a while, so that the client can
// fetch the new one.
func (b *batch) reProvision(p *ttlv.Node) (*ttlv.Node, error) {
	state := b.call.Request.TLS
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil, fail(ttlv.ResultReasonOperationNotSupported, "a certificate is renewed by the client that has it")
	}
	own := state.PeerCertificates[0]
	subject := subjectOf(own)
	if _, err := b.e.issued(b.tx, own, subject, b.now); subject == nil || errors.Is(err, errStranger) {
		return nil, fail(ttlv.ResultReasonIllegalOperation, "the client's certificate was not issued here: its authority renews it")
	} else if err != nil {
		return nil, err
	}
	csr, err := b.request(p)
	if err != nil {
		return nil, err
	}
	if csr == nil {
		return nil, fail(ttlv.ResultReasonFeatureNotSupported, "a certificate is renewed by a certificate request: keys of clients are not made here")
	}
	kind, life, err := kindFor(b.tx, b.role, nil)
	if err != nil {
		return nil, err
	}
	if have := kindOf(csr.PublicKey); have != kind {
		return nil, newer(invalid("the role's certificates have %s keys of %d bits", kind.Type, kind.Bits), ttlv.ResultReasonInvalidCSR)
	}
	_, cert, err := newCredential(b.tx, b.now, b.scope, b.role, csr.PublicKey, life, subject.serial)
	if err != nil {
		return nil, err
	}
	if err := ending(b.tx, subject.key, b.now, overlapByItself); err != nil {
		return nil, err
	}
	node := ttlv.Struct(ttlv.TagCertificate, ttlv.Enum(ttlv.TagCertificateType, ttlv.CertificateTypeX_509), ttlv.Bytes(ttlv.TagCertificateValue, cert.Raw))
	b.free = true // whoever lays down constraints must not keep others from renewing
	defer func() { b.free = false }()
	o, err := b.make(ttlv.ObjectTypeCertificate, nil, node, func(o *object) error {
		o.set(attrCreated, date(b.now))
		b.certificateIs(o, ttlv.CertificateTypeX_509, cert.Raw, cert)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return response(idNode(o)), nil
}
