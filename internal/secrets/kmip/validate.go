package kmip

import (
	"bytes"
	"crypto/x509"
	"errors"
	"time"

	"arca/internal/storage"
	"arca/internal/ttlv"
)

// validate tells whether certificates, given or named, are valid at a date. Believed
// are the mount's authorities, and certificates of authorities that are objects and are
// named: who may put them there is the scope's business.
func (b *batch) validate(p *ttlv.Node) (*ttlv.Node, error) {
	at := b.now
	if n := p.Get(ttlv.TagValidityDate); n != nil {
		if n.Type != ttlv.DateTime {
			return nil, invalid("Validity Date is a date")
		}
		at = time.Unix(n.Int, 0)
	}
	given, ids := p.All(ttlv.TagCertificate), p.All(ttlv.TagUniqueIdentifier)
	if len(given)+len(ids) == 0 {
		return nil, missing("Certificate or Unique Identifier")
	}
	if len(given)+len(ids) > maxToCheck {
		return nil, invalid("at most %d certificates are looked at", maxToCheck)
	}
	c := &check{at: at, verdict: ttlv.ValidityIndicatorValid, roots: x509.NewCertPool(), others: x509.NewCertPool()}
	for _, n := range given {
		c.add(n, false)
	}
	for _, n := range ids {
		id, err := b.textID(n)
		if err != nil {
			return nil, err
		}
		o, err := b.object(id)
		if err != nil {
			return nil, err
		}
		if err := b.online(o); err != nil {
			return nil, err
		}
		if o.Type != ttlv.ObjectTypeCertificate {
			return nil, newer(invalid("an object that is named is no certificate"), ttlv.ResultReasonInvalidObjectType)
		}
		if s := o.state(b.now); s == ttlv.StateCompromised || s == ttlv.StateDeactivated {
			c.verdict = ttlv.ValidityIndicatorInvalid
		}
		node, err := b.material(o)
		if err != nil {
			return nil, err
		}
		c.add(node, true)
	}
	if err := c.believe(b.tx, b.now); err != nil {
		return nil, err
	}
	for _, cert := range c.certs {
		c.look(cert)
	}
	return response(ttlv.Enum(ttlv.TagValidityIndicator, c.verdict)), nil
}

// A check is a Validate under way.
type check struct {
	at            time.Time
	certs         []*x509.Certificate
	anchors       []*x509.Certificate
	roots, others *x509.CertPool
	verdict       uint32
}

// worse notes what is known of one certificate; the worst counts.
func (c *check) worse(verdict uint32) {
	if c.verdict == ttlv.ValidityIndicatorValid || verdict == ttlv.ValidityIndicatorInvalid {
		c.verdict = verdict
	}
}

func (c *check) add(n *ttlv.Node, kept bool) {
	if typ := n.Get(ttlv.TagCertificateType); typ == nil || uint32(typ.Int) != ttlv.CertificateTypeX_509 {
		c.worse(ttlv.ValidityIndicatorUnknown)
		return
	}
	cert, err := x509.ParseCertificate(bytesField(n, ttlv.TagCertificateValue))
	if err != nil || fits(cert.PublicKey) != nil {
		c.worse(ttlv.ValidityIndicatorUnknown)
		return
	}
	c.certs = append(c.certs, cert)
	if kept && cert.IsCA && bytes.Equal(cert.RawIssuer, cert.RawSubject) && cert.CheckSignatureFrom(cert) == nil {
		c.anchor(cert)
		return
	}
	c.others.AddCert(cert)
}

func (c *check) anchor(cert *x509.Certificate) {
	c.anchors = append(c.anchors, cert)
	c.roots.AddCert(cert)
}

// believe adds the mount's authorities.
func (c *check) believe(tx storage.Tx, now time.Time) error {
	var all [][]byte
	a, err := storage.GetJSON[authority](tx, caKey)
	if err == nil {
		all = a.chain()
	} else if !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	for kv, err := range tx.Scan(namedDir, "") {
		if err != nil {
			return err
		}
		n, _, err := decoded[named](kv.Key, kv.Value)
		if err != nil {
			return err
		}
		all = append(all, n.believed(now)...)
	}
	for _, der := range all {
		if cert, err := x509.ParseCertificate(der); err == nil {
			c.anchor(cert)
		}
	}
	return nil
}

// look finds out about one certificate.
func (c *check) look(cert *x509.Certificate) {
	_, err := cert.Verify(x509.VerifyOptions{Roots: c.roots, Intermediates: c.others, CurrentTime: c.at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	var unknown x509.UnknownAuthorityError
	switch {
	case err == nil:
	case !errors.As(err, &unknown):
		c.worse(ttlv.ValidityIndicatorInvalid)
	case c.at.Before(cert.NotBefore) || c.at.After(cert.NotAfter) || c.forged(cert):
		c.worse(ttlv.ValidityIndicatorInvalid)
	default:
		c.worse(ttlv.ValidityIndicatorUnknown)
	}
}

// forged reports whether a certificate names an issuer that is here, and was not
// signed by it.
func (c *check) forged(cert *x509.Certificate) bool {
	found := false
	for _, list := range [][]*x509.Certificate{c.certs, c.anchors} {
		for _, by := range list {
			if !bytes.Equal(by.RawSubject, cert.RawIssuer) ||
				len(cert.AuthorityKeyId) > 0 && len(by.SubjectKeyId) > 0 && !bytes.Equal(cert.AuthorityKeyId, by.SubjectKeyId) {
				continue
			}
			if cert.CheckSignatureFrom(by) == nil {
				return false
			}
			found = true
		}
	}
	return found
}
