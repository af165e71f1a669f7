package kmip

import (
	"crypto/x509"
	"errors"

	"arca/internal/pkcs12"
	"arca/internal/ttlv"
)

// Private keys in files of PKCS #12 (KMIP 1.4, section 2.1.7; 2.0, 4.34): the password
// is secret data that the key has a link to, the certificates become objects of their
// own, with links from one to the next.

const maxLinks = 10 // certificates of a key that are followed

// pfxPassword is the password that a key's link names. Like any key it must be active to
// protect something, and may not be unused to open it.
func (b *batch) pfxPassword(o *object) ([]byte, error) {
	id := o.linked(ttlv.LinkTypePKCS_12PasswordLink)
	if id == "" {
		return nil, missing("a Link of the type PKCS #12 Password")
	}
	secret, err := b.object(id)
	if err != nil {
		return nil, err
	}
	if err := b.online(secret); err != nil {
		return nil, err
	}
	if secret.Type != ttlv.ObjectTypeSecretData {
		return nil, newer(invalid("the password of PKCS #12 is no secret data"), ttlv.ResultReasonInvalidObjectType)
	}
	if secret.state(b.now) != ttlv.StateActive {
		return nil, newer(denied("the password of PKCS #12 is not active"), ttlv.ResultReasonWrongKeyLifecycleState)
	}
	node, err := b.material(secret)
	if err != nil {
		return nil, err
	}
	return rawOf(node)
}

// keepPKCS12 keeps the key of a file, and its certificates.
func (b *batch) keepPKCS12(attrs []attribute, block *ttlv.Node) (*object, error) {
	raw := bytesField(block.Get(ttlv.TagKeyValue), ttlv.TagKeyMaterial)
	if raw == nil || block.Get(ttlv.TagKeyWrappingData) != nil {
		return nil, invalid("a file of PKCS #12 is a byte string that is not wrapped")
	}
	probe := &object{Attrs: attrs}
	password, err := b.pfxPassword(probe)
	if err != nil {
		return nil, err
	}
	file, err := pkcs12.Decode(raw, password)
	if errors.Is(err, pkcs12.ErrPassword) {
		return nil, newer(fail(ttlv.ResultReasonCryptographicFailure, "the password of PKCS #12 is not that of the file"), ttlv.ResultReasonBadPassword)
	}
	if err != nil {
		return nil, cryptoFailure("the file of PKCS #12 cannot be read: it holds one key with its certificates")
	}
	key, err := x509.ParsePKCS8PrivateKey(file.Key)
	if err != nil {
		key, err = koblitzPKCS8(file.Key)
	}
	if err != nil {
		return nil, cryptoFailure("the key of the file of PKCS #12 cannot be used")
	}
	secret, ok := key.(secretKey)
	if !ok {
		return nil, cryptoFailure("the key of the file of PKCS #12 cannot be used")
	}
	if err := fits(secret.Public()); err != nil {
		return nil, err
	}
	alg, bits := algorithmOf(secret.Public())
	if file.Name != "" && !probe.has(attrFriendly) {
		attrs = append(attrs, newAttribute(attrFriendly, ttlv.Text(0, plain(file.Name))))
	}
	kept := ttlv.Struct(ttlv.TagKeyBlock, ttlv.Enum(ttlv.TagKeyFormatType, ttlv.KeyFormatTypePKCS_8),
		ttlv.Struct(ttlv.TagKeyValue, ttlv.Bytes(ttlv.TagKeyMaterial, file.Key)), ttlv.Enum(ttlv.TagCryptographicAlgorithm, alg),
		ttlv.Int(ttlv.TagCryptographicLength, bits))
	o, err := b.prepare(ttlv.ObjectTypePrivateKey, attrs, func(o *object) error {
		return b.describe(o, kept, ttlv.KeyFormatTypePKCS_8, kept.Get(ttlv.TagKeyValue))
	}, nil)
	if err != nil {
		return nil, err
	}
	chain, err := b.prepareChain(o, file.Certs)
	if err != nil {
		return nil, err
	}
	importing, replacing := b.importing, b.replacing // the key alone
	b.importing, b.replacing = "", nil
	for _, c := range chain {
		if err := b.commit(c.object, c.node); err != nil {
			return nil, err
		}
	}
	b.importing, b.replacing = importing, replacing
	return o, b.commit(o, ttlv.Struct(ttlv.TagPrivateKey, kept))
}

type preparedCert struct {
	*object
	node *ttlv.Node
}

// prepareChain prepares the certificates of a file as objects, each with a link to the
// next one, and the key with one to the first.
func (b *batch) prepareChain(key *object, certs []*x509.Certificate) (out []preparedCert, err error) {
	importing := b.importing
	b.importing = ""
	defer func() { b.importing = importing }()
	from := key
	for i, cert := range certs[:min(len(certs), maxLinks)] {
		var attrs []attribute
		if n := key.get(attrFriendly); n != nil && i == 0 {
			attrs = append(attrs, newAttribute(attrFriendly, n))
		}
		o, err := b.prepare(ttlv.ObjectTypeCertificate, attrs, func(o *object) error {
			b.certificateIs(o, ttlv.CertificateTypeX_509, cert.Raw, cert)
			return nil
		}, nil)
		if err != nil {
			return nil, err
		}
		from.addLink(ttlv.LinkTypePKCS_12CertificateLink, o.ID)
		from = o
		out = append(out, preparedCert{o, ttlv.Struct(ttlv.TagCertificate, ttlv.Enum(ttlv.TagCertificateType, ttlv.CertificateTypeX_509),
			ttlv.Bytes(ttlv.TagCertificateValue, cert.Raw))})
	}
	return out, nil
}

// asPKCS12 is a private key as a file, with the certificates that its links name.
func (b *batch) asPKCS12(o *object, node *ttlv.Node, alg uint32, bits int32) (*ttlv.Node, error) {
	unable := func(text string) error { return fail(ttlv.ResultReasonKeyFormatTypeNotSupported, "%s", text) }
	key, err := privateKey(node)
	if err != nil {
		return nil, unable("the object cannot be given in this format")
	}
	if o.linked(ttlv.LinkTypePKCS_12PasswordLink) == "" || o.linked(ttlv.LinkTypePKCS_12CertificateLink) == "" {
		return nil, unable("a key is given as PKCS #12 when it has links to its certificate and to a password")
	}
	password, err := b.pfxPassword(o)
	if err != nil {
		return nil, err
	}
	out := &pkcs12.Bundle{}
	if out.Key, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, unable("the object cannot be given in this format")
	}
	if n := o.get(attrFriendly); n != nil {
		out.Name = n.Text()
	}
	for at := o; len(out.Certs) < maxLinks; {
		id := at.linked(ttlv.LinkTypePKCS_12CertificateLink)
		if id == "" {
			break
		}
		if at, err = b.object(id); err != nil {
			return nil, err
		}
		if err := b.online(at); err != nil {
			return nil, err
		}
		n, err := b.material(at)
		if err != nil {
			return nil, err
		}
		cert, err := x509.ParseCertificate(bytesField(n, ttlv.TagCertificateValue))
		if err != nil {
			return nil, unable("a certificate of the key cannot be read")
		}
		out.Certs = append(out.Certs, cert)
	}
	raw, err := out.Encode(password)
	if err != nil {
		return nil, cryptoFailure("the key cannot be written as PKCS #12")
	}
	return keyNode(ttlv.TagPrivateKey, ttlv.KeyFormatTypePKCS_12, ttlv.Bytes(ttlv.TagKeyMaterial, raw), alg, bits), nil
}
