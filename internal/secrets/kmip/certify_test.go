package kmip_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"slices"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/ttlv"
)

// certifying is a client of a mount that issues certificates for objects.
func certifying(t *testing.T) (*arcatest.Server, *client) {
	t.Helper()
	s, address := mounted(t)
	s.Must("POST", "kmip/ca/objects/generate", s.Root, object{"key_type": "ec", "key_bits": 256})
	s.Must("POST", "kmip/config", s.Root, object{"certify_ca": "objects", "certify_ttl": "48h"})
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	return s, dial(t, address, settings(t, s, "kmip", cert))
}

// registered registers a public key.
func (c *client) registered(key crypto.PublicKey, more ...*ttlv.Node) string {
	c.t.Helper()
	raw, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	block := ttlv.Struct(ttlv.TagKeyBlock, ttlv.Enum(ttlv.TagKeyFormatType, ttlv.KeyFormatTypeX_509),
		ttlv.Struct(ttlv.TagKeyValue, ttlv.Bytes(ttlv.TagKeyMaterial, raw)), ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmECDSA),
		ttlv.Int(ttlv.TagCryptographicLength, 256))
	t := ttlv.Struct(ttlv.TagTemplateAttribute, attr("Cryptographic Usage Mask", ttlv.Int(0, int32(ttlv.MaskVerify)))).Add(more...)
	return c.must(ttlv.OperationRegister, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypePublicKey), t, ttlv.Struct(ttlv.TagPublicKey, block)).Get(ttlv.TagUniqueIdentifier).Text()
}

func newEC(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRequest(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	uses, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}, {1, 3, 6, 1, 5, 5, 7, 3, 9}})
	if err != nil {
		t.Fatal(err)
	}
	isCA, err := asn1.Marshal(struct{ CA bool }{true})
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "db.example", Organization: []string{"ACME"}}, DNSNames: []string{"db.example"},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: uses}, {Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: isCA}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func requestOf(typ uint32, raw []byte) []*ttlv.Node {
	return []*ttlv.Node{ttlv.Enum(ttlv.TagCertificateRequestType, typ), ttlv.Bytes(ttlv.TagCertificateRequest, raw)}
}

func (c *client) certificateOf(id string) *x509.Certificate {
	c.t.Helper()
	cert, err := x509.ParseCertificate(c.must(ttlv.OperationGet, uid(id)).Get(ttlv.TagCertificate).Get(ttlv.TagCertificateValue).Bytes)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert
}

// links are those of an object, in the order of their indices.
func (c *client) links(id string) (out []string) {
	c.t.Helper()
	list := c.must(ttlv.OperationGetAttributes, uid(id), ttlv.Text(ttlv.TagAttributeName, "Link")).All(ttlv.TagAttribute)
	for _, a := range list {
		v := a.Get(ttlv.TagAttributeValue)
		out = append(out, ttlv.EnumName(ttlv.TagLinkType, uint32(v.Get(ttlv.TagLinkType).Int))+" "+v.Get(ttlv.TagLinkedObjectIdentifier).Text())
	}
	return out
}

// Certificates for a public key: by a request in DER or PEM, or by the object alone;
// made anew under the same key, with names and links as the specification has them.
func TestCertify(t *testing.T) {
	t.Parallel()
	s, c := certifying(t)
	key := newEC(t)
	pub := c.registered(key.Public())
	der := newRequest(t, key)
	first := c.must(ttlv.OperationCertify, append([]*ttlv.Node{uid(pub), ttlv.Struct(ttlv.TagTemplateAttribute,
		attr("Cryptographic Usage Mask", ttlv.Int(0, int32(ttlv.MaskSign|ttlv.MaskVerify|ttlv.MaskCertificateSign))), name("cert1"))},
		requestOf(ttlv.CertificateRequestTypePKCS_10, der)...)...).Get(ttlv.TagUniqueIdentifier).Text()
	cert := c.certificateOf(first)
	root := arcatest.Dig(s.Must("GET", "kmip/ca/objects", s.Root, nil), "data", "certificate").(string)
	block, _ := pem.Decode([]byte(root))
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(ca); err != nil {
		t.Errorf("not of the authority: %v", err)
	}
	if cert.Subject.String() != "CN=db.example,O=ACME" || !slices.Equal(cert.DNSNames, []string{"db.example"}) || !key.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("a certificate of %s %v", cert.Subject, cert.DNSNames)
	}
	if cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || len(cert.UnknownExtKeyUsage) != 0 {
		t.Errorf("it may do too much: %v %v %v", cert.IsCA, cert.KeyUsage, cert.ExtKeyUsage)
	}
	if left := time.Until(cert.NotAfter); left < 47*time.Hour || left > 49*time.Hour {
		t.Errorf("it lasts %s", left)
	}
	inPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	second := c.must(ttlv.OperationReCertify, append([]*ttlv.Node{uid(first), ttlv.Struct(ttlv.TagTemplateAttribute, name("cert2"))},
		requestOf(ttlv.CertificateRequestTypePEM, inPEM)...)...).Get(ttlv.TagUniqueIdentifier).Text()
	for id, want := range map[string][]string{
		pub: {"CertificateLink " + second}, first: {"PublicKeyLink " + pub, "ReplacementObjectLink " + second},
		second: {"ReplacedObjectLink " + first, "PublicKeyLink " + pub},
	} {
		if got := c.links(id); !slices.Equal(got, want) {
			t.Errorf("links %v, want %v", got, want)
		}
	}
	for _, n := range []string{"cert1", "cert2"} { // a renewed certificate is found by the names of the former
		if got := c.must(ttlv.OperationLocate, name(n)).All(ttlv.TagUniqueIdentifier); len(got) != 1 || got[0].Text() != second {
			t.Errorf("%s: located %v", n, got)
		}
	}
	third := c.must(ttlv.OperationReCertify, uid(second)).Get(ttlv.TagUniqueIdentifier).Text()
	if again := c.certificateOf(third); !bytes.Equal(again.RawSubject, cert.RawSubject) || !slices.Equal(again.ExtKeyUsage, cert.ExtKeyUsage) || again.SerialNumber.Cmp(cert.SerialNumber) == 0 {
		t.Errorf("renewed without a request: %s", again.Subject)
	}

	items := c.batch(nil, op(ttlv.OperationCertify, uid(pub)), op(ttlv.OperationGet)) // by the placeholder
	if _, r := outcome(items[1]); r != 0 {
		t.Errorf("get in the same batch: %d", r)
	}
	c.ver = [2]int32{2, 1}
	plain := c.must(ttlv.OperationCertify, uid(pub), ttlv.Struct(ttlv.TagAttributes, ttlv.Text(ttlv.TagCertificateSubjectCN, "me"), ttlv.Text(ttlv.TagCertificateSubjectO, "ACME"),
		ttlv.Struct(ttlv.TagAlternativeName, ttlv.Text(ttlv.TagAlternativeNameValue, "10.0.0.1"), ttlv.Enum(ttlv.TagAlternativeNameType, ttlv.AlternativeNameTypeIPAddress)),
		ttlv.Time(ttlv.TagDeactivationDate, time.Now().Add(time.Hour)))).Get(ttlv.TagUniqueIdentifier).Text()
	if cert := c.certificateOf(plain); cert.Subject.String() != "CN=me,O=ACME" || len(cert.IPAddresses) != 1 || time.Until(cert.NotAfter) > 2*time.Hour {
		t.Errorf("a certificate without a request: %s %v", cert.Subject, cert.IPAddresses)
	}
	kept := c.must(ttlv.OperationRegister, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeCertificateRequest), ttlv.Struct(ttlv.TagAttributes),
		ttlv.Struct(ttlv.TagCertificateRequest, ttlv.Enum(ttlv.TagCertificateRequestType, ttlv.CertificateRequestTypePKCS_10), ttlv.Bytes(ttlv.TagCertificateRequestValue, der)))
	if cert := c.certificateOf(c.must(ttlv.OperationCertify, kept.Get(ttlv.TagUniqueIdentifier)).Get(ttlv.TagUniqueIdentifier).Text()); cert.Subject.CommonName != "db.example" {
		t.Errorf("by a request that is an object: %s", cert.Subject)
	}
}

// What is refused leaves nothing behind.
func TestCertifyRefused(t *testing.T) {
	t.Parallel()
	s, c := certifying(t)
	key := newEC(t)
	pub := c.registered(key.Public())
	der := newRequest(t, key)
	forged := slices.Clone(der)
	forged[len(forged)-1] ^= 1
	c.ver = [2]int32{2, 1}
	count := func() int { return len(c.must(ttlv.OperationLocate).All(ttlv.TagUniqueIdentifier)) }
	before := count()
	v2request := func(typ uint32, raw []byte) []*ttlv.Node {
		return []*ttlv.Node{uid(pub), ttlv.Enum(ttlv.TagCertificateRequestType, typ), ttlv.Bytes(ttlv.TagCertificateRequestValue, raw)}
	}
	sym := c.must(ttlv.OperationCreate, aes2(12)...).Get(ttlv.TagUniqueIdentifier).Text()
	before++
	for what, x := range map[string]struct {
		reason  uint32
		payload []*ttlv.Node
	}{
		"of another key":  {ttlv.ResultReasonInvalidCSR, v2request(ttlv.CertificateRequestTypePKCS_10, newRequest(t, newEC(t)))},
		"forged":          {ttlv.ResultReasonInvalidCSR, v2request(ttlv.CertificateRequestTypePKCS_10, forged)},
		"no request":      {ttlv.ResultReasonInvalidCSR, v2request(ttlv.CertificateRequestTypePEM, der[1:])},
		"of PGP":          {ttlv.ResultReasonFeatureNotSupported, v2request(ttlv.CertificateRequestTypePGP, der)},
		"large":           {ttlv.ResultReasonInvalidField, v2request(ttlv.CertificateRequestTypePEM, make([]byte, 100<<10))},
		"without type":    {ttlv.ResultReasonInvalidField, []*ttlv.Node{uid(pub), ttlv.Bytes(ttlv.TagCertificateRequestValue, der)}},
		"for AES":         {ttlv.ResultReasonInvalidObjectType, []*ttlv.Node{uid(sym)}},
		"for nothing":     {ttlv.ResultReasonObjectNotFound, nil},
		"of a name twice": {ttlv.ResultReasonInvalidField, []*ttlv.Node{uid(pub), ttlv.Struct(ttlv.TagAttributes, ttlv.Text(ttlv.TagCertificateSubjectUID, "x"))}},
		"over already": {ttlv.ResultReasonInvalidField, []*ttlv.Node{uid(pub), ttlv.Struct(ttlv.TagAttributes,
			ttlv.Time(ttlv.TagDeactivationDate, time.Now().Add(-time.Hour)))}},
	} {
		if out, r := c.do(ttlv.OperationCertify, x.payload...); r != x.reason {
			t.Errorf("%s: reason %d (%s), want %d", what, r, out.Get(ttlv.TagResultMessage).Text(), x.reason)
		}
	}
	c.fails(ttlv.ResultReasonInvalidObjectType, ttlv.OperationReCertify, uid(pub))
	if after := count(); after != before {
		t.Errorf("%d objects, %d before", after, before)
	}
	c.must(ttlv.OperationRevoke, uid(pub), reason(ttlv.RevocationReasonCodeKeyCompromise))
	c.fails(ttlv.ResultReasonWrongKeyLifecycleState, ttlv.OperationCertify, uid(pub))

	offers := func() (out bool) {
		for _, n := range c.must(ttlv.OperationQuery, ttlv.Enum(ttlv.TagQueryFunction, ttlv.QueryFunctionQueryOperations)).All(ttlv.TagOperation) {
			out = out || uint32(n.Int) == ttlv.OperationCertify || uint32(n.Int) == ttlv.OperationReCertify
		}
		return out
	}
	if !offers() {
		t.Error("Query does not list Certify")
	}
	for path, body := range map[string]object{
		"kmip/config": {"certify_ca": "none"}, "kmip/listener/l": {"ca": "objects", "address": freeAddress(t)},
	} {
		if code, _ := s.Do("POST", path, s.Root, body); code != 400 {
			t.Errorf("%s %v: %d", path, body, code)
		}
	}
	if code, _ := s.Do("DELETE", "kmip/ca/objects", s.Root, nil); code != 400 {
		t.Errorf("the authority in use is deleted: %d", code)
	}
	s.Must("POST", "kmip/config", s.Root, object{"certify_ca": ""})
	if offers() {
		t.Error("Query lists Certify where no certificates are issued")
	}
	c.fails(ttlv.ResultReasonOperationNotSupported, ttlv.OperationCertify, uid(pub))
	c.fails(ttlv.ResultReasonOperationNotSupported, ttlv.OperationReCertify, uid(pub))
	s.Must("POST", "kmip/listener/l", s.Root, object{"ca": "objects", "address": freeAddress(t)})
	if code, _ := s.Do("POST", "kmip/config", s.Root, object{"certify_ca": "objects"}); code != 400 {
		t.Errorf("a listener's authority issues certificates for objects: %d", code)
	}
}

// A certificate is valid, is not, or nobody knows.
func TestValidate(t *testing.T) {
	t.Parallel()
	_, c := certifying(t)
	key := newEC(t)
	id := c.must(ttlv.OperationCertify, uid(c.registered(key.Public()))).Get(ttlv.TagUniqueIdentifier).Text()
	x509Of := func(der []byte) *ttlv.Node {
		return ttlv.Struct(ttlv.TagCertificate, ttlv.Enum(ttlv.TagCertificateType, ttlv.CertificateTypeX_509), ttlv.Bytes(ttlv.TagCertificateValue, der))
	}
	verdict := func(payload ...*ttlv.Node) uint32 {
		t.Helper()
		return uint32(c.must(ttlv.OperationValidate, payload...).Get(ttlv.TagValidityIndicator).Int)
	}
	theirs := newElsewhere(t)
	leaf := theirs.client(t, pkix.Name{CommonName: "x"}).Certificate[0]
	mine := c.certificateOf(id).Raw
	forged := slices.Clone(mine)
	forged[len(forged)-1] ^= 1
	for what, x := range map[string]struct {
		got, want uint32
	}{
		"ours":                   {verdict(uid(id)), ttlv.ValidityIndicatorValid},
		"ours, sent":             {verdict(x509Of(mine)), ttlv.ValidityIndicatorValid},
		"ours, in ten years":     {verdict(uid(id), ttlv.Time(ttlv.TagValidityDate, time.Now().AddDate(10, 0, 0))), ttlv.ValidityIndicatorInvalid},
		"forged":                 {verdict(x509Of(forged)), ttlv.ValidityIndicatorInvalid},
		"theirs":                 {verdict(x509Of(leaf)), ttlv.ValidityIndicatorUnknown},
		"theirs, with the chain": {verdict(x509Of(leaf), x509Of(theirs.cert.Raw)), ttlv.ValidityIndicatorUnknown},
		"no certificate":         {verdict(x509Of([]byte("x"))), ttlv.ValidityIndicatorUnknown},
	} {
		if x.got != x.want {
			t.Errorf("%s: %d, want %d", what, x.got, x.want)
		}
	}
	root := c.must(ttlv.OperationRegister, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeCertificate),
		ttlv.Struct(ttlv.TagTemplateAttribute, attr("Cryptographic Usage Mask", ttlv.Int(0, 0))), x509Of(theirs.cert.Raw)).Get(ttlv.TagUniqueIdentifier)
	if v := verdict(x509Of(leaf), root); v != ttlv.ValidityIndicatorValid {
		t.Errorf("under an authority of the scope: %d", v)
	}
	if _, r := c.do(ttlv.OperationValidate); r != ttlv.ResultReasonInvalidField {
		t.Errorf("nothing to look at: %d", r)
	}
	if _, r := c.do(ttlv.OperationValidate, uid("none")); r != ttlv.ResultReasonItemNotFound {
		t.Errorf("what is not there: %d", r)
	}
	c.must(ttlv.OperationRevoke, uid(id), reason(ttlv.RevocationReasonCodeKeyCompromise))
	if v := verdict(uid(id)); v != ttlv.ValidityIndicatorInvalid {
		t.Errorf("revoked: %d", v)
	}
}
