package kmip

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
)

// A looseX509 is a certificate of which the key may be anything.
type looseX509 struct {
	TBS struct {
		Version    int `asn1:"optional,explicit,default:0,tag:0"`
		Serial     *big.Int
		Algorithm  pkix.AlgorithmIdentifier
		Issuer     asn1.RawValue
		Validity   asn1.RawValue
		Subject    asn1.RawValue
		Key        spki
		IssuerID   asn1.BitString  `asn1:"optional,tag:1"`
		SubjectID  asn1.BitString  `asn1:"optional,tag:2"`
		Extensions []asn1.RawValue `asn1:"omitempty,optional,explicit,tag:3"`
	}
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

// looseCertificate reads what a certificate says of itself where it is not one that the
// library understands, because of the curve of its key for example. It is for showing,
// and for nothing that has to be believed; nil where that cannot be read either.
func looseCertificate(der []byte) *x509.Certificate {
	var c looseX509
	if rest, err := asn1.Unmarshal(der, &c); err != nil || len(rest) > 0 {
		return nil
	}
	out := &x509.Certificate{Raw: der, SerialNumber: c.TBS.Serial, RawIssuer: c.TBS.Issuer.FullBytes, RawSubject: c.TBS.Subject.FullBytes}
	for raw, name := range map[*[]byte]*pkix.Name{&out.RawIssuer: &out.Issuer, &out.RawSubject: &out.Subject} {
		var seq pkix.RDNSequence
		if rest, err := asn1.Unmarshal(*raw, &seq); err != nil || len(rest) > 0 {
			return nil
		}
		name.FillFromRDNSequence(&seq)
	}
	out.SignatureAlgorithm = map[string]x509.SignatureAlgorithm{
		"1.2.840.10045.4.3.2": x509.ECDSAWithSHA256, "1.2.840.10045.4.3.3": x509.ECDSAWithSHA384, "1.2.840.10045.4.3.4": x509.ECDSAWithSHA512,
		"1.2.840.113549.1.1.5": x509.SHA1WithRSA, "1.2.840.113549.1.1.11": x509.SHA256WithRSA, "1.2.840.113549.1.1.12": x509.SHA384WithRSA, "1.2.840.113549.1.1.13": x509.SHA512WithRSA,
	}[c.Algorithm.Algorithm.String()]
	var curve asn1.ObjectIdentifier
	if c.TBS.Key.Algorithm.Algorithm.String() == "1.2.840.10045.2.1" {
		if _, err := asn1.Unmarshal(c.TBS.Key.Algorithm.Parameters.FullBytes, &curve); err == nil && curve.String() == "1.3.132.0.10" {
			out.PublicKey = &ecdsa.PublicKey{Curve: &elliptic.CurveParams{Name: "secp256k1", BitSize: 256}} // how long it is, and no more
		}
	}
	return out
}
