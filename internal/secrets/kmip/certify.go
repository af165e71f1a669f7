package kmip

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"arca/internal/ttlv"
)

// Certificates that are objects: made for a public key or a request (Certify), made
// anew (Re-certify), and looked at (Validate); KMIP 1.4, sections 4.7, 4.8 and 4.24. They
// are issued by the authority that the mount's configuration names for it, which
// issues none for a listener: else whoever may certify could be the server.
const (
	certifyLife = 365 * 24 * time.Hour // where the configuration says nothing else
	maxRequest  = 64 << 10             // bytes of a request for a certificate
	maxToCheck  = 20                   // certificates of one Validate
)

// certifies reports whether the mount issues certificates for objects.
func (b *batch) certifies() (bool, error) {
	c, err := get[config](b.tx, configKey)
	if errors.Is(err, errNotFound) {
		return false, nil
	}
	return err == nil && c.CertifyCA != "", err
}

// certifier is the authority for objects' certificates, and how long these last.
func (b *batch) certifier() (*authority, time.Duration, error) {
	c, err := get[config](b.tx, configKey)
	if err != nil && !errors.Is(err, errNotFound) {
		return nil, 0, err
	}
	if err != nil || c.CertifyCA == "" {
		return nil, 0, fail(ttlv.ResultReasonOperationNotSupported, "this server issues no certificates: its configuration names no certify_ca")
	}
	a, err := issuer(b.tx, c.CertifyCA, nil)
	life := c.CertifyTTL
	if life == 0 {
		life = certifyLife
	}
	return a, life, err
}

// An order is what a certificate is made of.
type order struct {
	pub     crypto.PublicKey
	subject []byte // the name, DER
	dns     []string
	email   []string
	ips     []net.IP
	uris    []*url.URL
	ext     []x509.ExtKeyUsage
}

// request is the request for a certificate in a payload, nil where there is none.
func (*batch) request(p *ttlv.Node) (*x509.CertificateRequest, error) {
	n := p.Get(ttlv.TagCertificateRequest)
	if n == nil {
		n = p.Get(ttlv.TagCertificateRequestValue) // KMIP 2
	}
	if n == nil {
		return nil, nil
	}
	if n.Type == ttlv.Structure { // the object of KMIP 2
		p, n = n, n.Get(ttlv.TagCertificateRequestValue)
	}
	typ, err := enum(p, ttlv.TagCertificateRequestType)
	if err != nil {
		return nil, err
	}
	if n == nil || n.Type != ttlv.ByteString {
		return nil, newer(invalid("Certificate Request is a byte string"), ttlv.ResultReasonInvalidCSR)
	}
	return parseRequest(typ, n.Bytes)
}

func parseRequest(typ uint32, raw []byte) (*x509.CertificateRequest, error) {
	wrong := newer(invalid("the certificate request cannot be read, or is not signed by its own key"), ttlv.ResultReasonInvalidCSR)
	switch typ {
	case 0:
		return nil, missing("Certificate Request Type")
	case ttlv.CertificateRequestTypePKCS_10, ttlv.CertificateRequestTypePEM:
	default:
		return nil, fail(ttlv.ResultReasonFeatureNotSupported, "a certificate request is one of PKCS #10, in DER or PEM")
	}
	if len(raw) > maxRequest {
		return nil, invalid("a certificate request has at most %d bytes", maxRequest)
	}
	if typ == ttlv.CertificateRequestTypePEM || bytes.HasPrefix(raw, []byte("-----BEGIN ")) {
		block, _ := pem.Decode(raw)
		if block == nil || !strings.HasSuffix(block.Type, "CERTIFICATE REQUEST") {
			return nil, wrong
		}
		raw = block.Bytes
	}
	r, err := x509.ParseCertificateRequest(raw)
	if err != nil {
		return nil, wrong
	}
	if err := fits(r.PublicKey); err != nil {
		return nil, err
	}
	if r.CheckSignature() != nil { // whoever asks has the private key
		return nil, wrong
	}
	return r, nil
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// take puts what a request asks for into an order.
func (o *order) take(r *x509.CertificateRequest) {
	o.pub, o.subject = r.PublicKey, r.RawSubject
	o.dns, o.email, o.ips, o.uris = r.DNSNames, r.EmailAddresses, r.IPAddresses, r.URIs
	for _, x := range r.Extensions {
		var list []asn1.ObjectIdentifier
		if !x.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 37}) {
			continue
		}
		if rest, err := asn1.Unmarshal(x.Value, &list); err != nil || len(rest) > 0 {
			continue
		}
		for _, id := range list { // others, such as the one that answers for revocations, are the authority's own
			if use, ok := extendedUses()[id.String()]; ok {
				o.ext = append(o.ext, use)
			}
		}
	}
}

func extendedUses() map[string]x509.ExtKeyUsage {
	return map[string]x509.ExtKeyUsage{
		"1.3.6.1.5.5.7.3.1": x509.ExtKeyUsageServerAuth, "1.3.6.1.5.5.7.3.2": x509.ExtKeyUsageClientAuth, "1.3.6.1.5.5.7.3.3": x509.ExtKeyUsageCodeSigning,
		"1.3.6.1.5.5.7.3.4": x509.ExtKeyUsageEmailProtection, "1.3.6.1.5.5.7.3.8": x509.ExtKeyUsageTimeStamping,
	}
}

// describeWith takes the subject's name and other names from attributes, where no
// request has them. What is left are the attributes of the object.
func (o *order) describeWith(list []given, id string) ([]given, error) {
	var name pkix.Name
	named := false
	parts := map[string]func(string){
		"CN": func(s string) { name.CommonName = s }, "O": func(s string) { name.Organization = append(name.Organization, s) },
		"OU": func(s string) { name.OrganizationalUnit = append(name.OrganizationalUnit, s) }, "C": func(s string) { name.Country = append(name.Country, s) },
		"ST": func(s string) { name.Province = append(name.Province, s) }, "L": func(s string) { name.Locality = append(name.Locality, s) },
		"SerialNumber": func(s string) { name.SerialNumber = s },
	}
	var rest []given
	var raw []byte
	for _, g := range list {
		part, isPart := strings.CutPrefix(g.name, "Certificate Subject ")
		switch {
		case isPart && parts[part] != nil:
			parts[part](g.value.Text())
			named = true
		case isPart:
			return nil, invalid("%s cannot be chosen: ask for the certificate by a request (PKCS #10)", g.name)
		case g.name == attrCertSubject:
			dn := g.value.Get(ttlv.TagSubjectDistinguishedName)
			var seq pkix.RDNSequence
			if dn == nil || dn.Type != ttlv.ByteString || len(g.value.Inside()) != 1 {
				return nil, invalid("%s has a Subject Distinguished Name and nothing else: other names are given as %s", g.name, attrAlternative)
			}
			if left, err := asn1.Unmarshal(dn.Bytes, &seq); err != nil || len(left) > 0 {
				return nil, invalid("%s is no name in DER", g.name)
			}
			raw = slices.Clone(dn.Bytes)
		default:
			rest = append(rest, g)
		}
	}
	if o.subject != nil { // what a request says goes before that
		return rest, nil
	}
	if raw == nil {
		if !named {
			name.CommonName = id
		}
		var err error
		if raw, err = asn1.Marshal(name.ToRDNSequence()); err != nil {
			return nil, invalid("the parts of Certificate Subject make no name")
		}
	}
	o.subject = raw
	for _, g := range rest {
		if g.name != attrAlternative {
			continue
		}
		text := g.value.Get(ttlv.TagAlternativeNameValue).Text()
		switch uint32(g.value.Get(ttlv.TagAlternativeNameType).Int) {
		case ttlv.AlternativeNameTypeDNSName:
			o.dns = append(o.dns, text)
		case ttlv.AlternativeNameTypeEmailAddress:
			o.email = append(o.email, text)
		case ttlv.AlternativeNameTypeIPAddress:
			ip := net.ParseIP(text)
			if ip == nil {
				return nil, invalid("%s is no IP address", attrAlternative)
			}
			o.ips = append(o.ips, ip)
		case ttlv.AlternativeNameTypeURI:
			u, err := url.Parse(text)
			if err != nil {
				return nil, invalid("%s is no URI", attrAlternative)
			}
			o.uris = append(o.uris, u)
		}
	}
	return rest, nil
}

// keyUsage is that of a certificate by the usage mask of its object (KMIP 1.4, section
// 3.19). It never signs certificates: this is no place to make authorities.
func keyUsage(mask uint32, pub crypto.PublicKey) (out x509.KeyUsage) {
	for bits, usage := range map[uint32]x509.KeyUsage{
		ttlv.MaskSign | ttlv.MaskVerify | ttlv.MaskAuthenticate: x509.KeyUsageDigitalSignature, ttlv.MaskNonRepudiation: x509.KeyUsageContentCommitment,
		ttlv.MaskWrapKey | ttlv.MaskUnwrapKey: x509.KeyUsageKeyEncipherment, ttlv.MaskEncrypt | ttlv.MaskDecrypt: x509.KeyUsageDataEncipherment,
		ttlv.MaskKeyAgreement: x509.KeyUsageKeyAgreement,
	} {
		if mask&bits != 0 {
			out |= usage
		}
	}
	if out == 0 {
		out = x509.KeyUsageDigitalSignature
		if _, ok := pub.(*rsa.PublicKey); ok {
			out |= x509.KeyUsageKeyEncipherment
		}
	}
	return out
}

// issued prepares the certificate of an order as an object. from is the certificate
// in whose place it comes, nil for none.
func (b *batch) issued(ord *order, attrs []attribute, from *object) (*object, *ttlv.Node, error) {
	a, life, err := b.certifier()
	if err != nil {
		return nil, nil, err
	}
	parent, signer, err := a.signer()
	if err != nil {
		return nil, nil, err
	}
	probe := &object{Attrs: attrs}
	if t := probe.get(attrCertType); t != nil && uint32(t.Int) != ttlv.CertificateTypeX_509 {
		return nil, nil, fail(ttlv.ResultReasonFeatureNotSupported, "certificates are of X.509")
	}
	mask := uint32(0)
	if n := probe.get(attrMask); n != nil {
		mask = uint32(n.Int)
	}
	t := &x509.Certificate{
		RawSubject: ord.subject, DNSNames: ord.dns, EmailAddresses: ord.email, IPAddresses: ord.ips, URIs: ord.uris, ExtKeyUsage: ord.ext,
		KeyUsage: keyUsage(mask, ord.pub), BasicConstraintsValid: true, NotBefore: b.now.Add(-backdate), NotAfter: b.now.Add(life),
	}
	if on, ok := probe.time(attrActivation); ok && on.After(t.NotBefore) {
		t.NotBefore = on
	}
	if off, ok := probe.time(attrDeactivation); ok && off.Before(t.NotAfter) {
		t.NotAfter = off
	}
	if t.NotAfter.After(parent.NotAfter) {
		t.NotAfter = parent.NotAfter
	}
	if !t.NotBefore.Before(t.NotAfter) {
		return nil, nil, invalid("a certificate with these dates would never be valid")
	}
	if t.SerialNumber, err = newSerial(); err != nil {
		return nil, nil, err
	}
	if t.SubjectKeyId, err = keyID(ord.pub); err != nil {
		return nil, nil, cryptoFailure("keys of this kind are not certified here")
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, ord.pub, signer)
	if err != nil {
		return nil, nil, cryptoFailure("no certificate can be made of these names and this key")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	node := ttlv.Struct(ttlv.TagCertificate, ttlv.Enum(ttlv.TagCertificateType, ttlv.CertificateTypeX_509), ttlv.Bytes(ttlv.TagCertificateValue, der))
	o, err := b.prepare(ttlv.ObjectTypeCertificate, attrs, func(o *object) error {
		o.set(attrCreated, date(b.now))
		b.certificateIs(o, ttlv.CertificateTypeX_509, der, cert)
		return nil
	}, from)
	return o, node, err
}

// certify makes a certificate for a public key or a request.
func (b *batch) certify(p *ttlv.Node) (*ttlv.Node, error) {
	if _, _, err := b.certifier(); err != nil {
		return nil, err
	}
	csr, err := b.request(p)
	if err != nil {
		return nil, err
	}
	id, err := b.textID(p.Get(ttlv.TagUniqueIdentifier))
	if err != nil {
		return nil, err
	}
	var key *object // the public key, where it is an object
	var pub crypto.PublicKey
	if id != "" || csr == nil {
		o, err := b.object(id)
		if err != nil {
			return nil, err
		}
		if key, pub, csr, err = b.toCertify(o, csr); err != nil {
			return nil, err
		}
	}
	ord := &order{pub: pub}
	if csr != nil {
		if pub != nil && !sameKey(csr.PublicKey, pub) {
			return nil, newer(invalid("the certificate request is for another key than the object"), ttlv.ResultReasonInvalidCSR)
		}
		ord.take(csr)
	}
	attrs, err := b.orderAttrs(ord, p, id)
	if err != nil {
		return nil, err
	}
	o, node, err := b.issued(ord, attrs, nil)
	if err != nil {
		return nil, err
	}
	if key != nil {
		o.addLink(ttlv.LinkTypePublicKeyLink, key.ID)
		c := key.clone()
		c.addLink(ttlv.LinkTypeCertificateLink, o.ID)
		if err := b.save(key, c); err != nil {
			return nil, err
		}
	}
	if err := b.commit(o, node); err != nil {
		return nil, err
	}
	return response(idNode(o)), nil
}

// toCertify is the public key of an object that a certificate is wanted for, or the
// request that the object is.
func (b *batch) toCertify(o *object, csr *x509.CertificateRequest) (key *object, pub crypto.PublicKey, out *x509.CertificateRequest, err error) {
	if err := b.online(o); err != nil {
		return nil, nil, nil, err
	}
	if o.Type != ttlv.ObjectTypePublicKey && (o.Type != ttlv.ObjectTypeCertificateRequest || csr != nil) {
		return nil, nil, nil, newer(invalid("a certificate is made for a public key, or for a certificate request"), ttlv.ResultReasonInvalidObjectType)
	}
	if o.Type == ttlv.ObjectTypePublicKey && o.state(b.now) == ttlv.StateCompromised {
		return nil, nil, nil, newer(denied("the key is compromised"), ttlv.ResultReasonWrongKeyLifecycleState)
	}
	node, err := b.material(o)
	if err != nil {
		return nil, nil, nil, err
	}
	if o.Type == ttlv.ObjectTypeCertificateRequest {
		typ, err := enum(node, ttlv.TagCertificateRequestType)
		if err != nil {
			return nil, nil, nil, err
		}
		out, err = parseRequest(typ, bytesField(node, ttlv.TagCertificateRequestValue))
		return nil, nil, out, err
	}
	pub, err = publicKey(node)
	return o, pub, csr, err
}

// orderAttrs are the attributes of a certificate that is made; those that name its
// subject go into the order.
func (b *batch) orderAttrs(ord *order, p *ttlv.Node, id string) ([]attribute, error) {
	if err := protection(p, ttlv.TagProtectionStorageMasks); err != nil {
		return nil, err
	}
	list, err := b.template(p.Get(ttlv.TagTemplateAttribute))
	if err != nil {
		return nil, err
	}
	rest, err := ord.describeWith(list, id)
	if err != nil {
		return nil, err
	}
	return attrsOf(rest)
}

// recertify makes a certificate in place of another, for the same key.
func (b *batch) recertify(p *ttlv.Node) (*ttlv.Node, error) {
	if _, _, err := b.certifier(); err != nil {
		return nil, err
	}
	old, err := b.usable(p)
	if err != nil {
		return nil, err
	}
	if old.Type != ttlv.ObjectTypeCertificate {
		return nil, newer(invalid("the object is no certificate"), ttlv.ResultReasonInvalidObjectType)
	}
	node, err := b.material(old)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(bytesField(node, ttlv.TagCertificateValue))
	if err != nil {
		return nil, cryptoFailure("the certificate cannot be read")
	}
	if err := fits(cert.PublicKey); err != nil {
		return nil, err
	}
	csr, err := b.request(p)
	if err != nil {
		return nil, err
	}
	ord := &order{
		pub: cert.PublicKey, subject: cert.RawSubject, dns: cert.DNSNames, email: cert.EmailAddresses, ips: cert.IPAddresses, uris: cert.URIs,
	}
	for _, use := range cert.ExtKeyUsage {
		for _, known := range extendedUses() {
			if use == known {
				ord.ext = append(ord.ext, use)
			}
		}
	}
	if csr != nil {
		if !sameKey(csr.PublicKey, cert.PublicKey) {
			return nil, newer(invalid("the certificate request is for another key than the certificate"), ttlv.ResultReasonInvalidCSR)
		}
		ord.ext = nil
		ord.take(csr)
	}
	var key *object
	if id := old.linked(ttlv.LinkTypePublicKeyLink); id != "" {
		if key, err = b.object(id); isFault(err) {
			key = nil // it has been forgotten
		} else if err != nil {
			return nil, err
		}
		if key != nil && !key.destroyed() && key.state(b.now) == ttlv.StateCompromised {
			return nil, newer(denied("the key is compromised"), ttlv.ResultReasonWrongKeyLifecycleState)
		}
	}
	attrs, nameless, err := b.replacement(old, p, ttlv.TagTemplateAttribute)
	if err != nil {
		return nil, err
	}
	fresh, made, err := b.issued(ord, attrs, old)
	if err != nil {
		return nil, err
	}
	fresh.addLink(ttlv.LinkTypeReplacedObjectLink, old.ID)
	if key != nil {
		fresh.addLink(ttlv.LinkTypePublicKeyLink, key.ID)
		c := key.clone()
		c.relink(ttlv.LinkTypeCertificateLink, old.ID, fresh.ID)
		if err := b.save(key, c); err != nil {
			return nil, err
		}
	}
	nameless.relink(ttlv.LinkTypeReplacementObjectLink, "", fresh.ID)
	if err := b.save(old, nameless); err != nil {
		return nil, err
	}
	if err := b.commit(fresh, made); err != nil {
		return nil, err
	}
	return response(idNode(fresh)), nil
}
