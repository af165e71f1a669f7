package kmip_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"testing"

	"arca/internal/arcatest"
	"arca/internal/ttlv"
)

// A client's certificate is replaced by the operator or by the client itself; the former
// works for a while, and then no more.
func TestRenew(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	const creds = "kmip/scope/finance/role/accounting/credential"
	cert, serial := certificate(t, s, "kmip", "finance", "accounting", all)
	out := s.Must("POST", creds+"/generate", s.Root, object{"format": "pem"})
	if w, _ := out["warnings"].([]any); len(w) != 1 || !strings.Contains(w[0].(string), "24h") {
		t.Errorf("warnings %v", out["warnings"])
	}
	out = s.Must("POST", creds+"/generate", s.Root, object{"format": "pem", "ttl": "24h"})
	if out["warnings"] != nil {
		t.Errorf("warned of what was asked for: %v", out["warnings"])
	}
	info := arcatest.Dig(s.Must("LIST", creds+"?detail=true", s.Root, nil), "data", "key_info", serial).(object)
	if info["expiration"] == nil || len(fmt.Sprint(info["expires_in"])) != 5 {
		t.Errorf("%v", info)
	}
	works := func(c tls.Certificate) bool {
		t.Helper()
		conn := dial(t, address, settings(t, s, "kmip", c))
		_, r := conn.do(ttlv.OperationDiscoverVersions)
		return r == 0
	}
	pairOf := func(out object) tls.Certificate {
		t.Helper()
		d := arcatest.Dig(out, "data").(object)
		pair, err := tls.X509KeyPair([]byte(d["certificate"].(string)), []byte(d["private_key"].(string)))
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	fresh := pairOf(s.Must("POST", creds+"/renew", s.Root, object{"serial_number": serial, "format": "pem"}))
	if !works(fresh) || !works(cert) {
		t.Error("one of the two certificates does not work while they overlap")
	}
	again := pairOf(s.Must("POST", creds+"/renew", s.Root, object{"serial_number": serial, "format": "pem", "overlap": "0s"}))
	await(t, "the end of the former certificate", func() bool { return !works(cert) })
	if !works(again) {
		t.Error("the new certificate does not work")
	}
	for _, body := range []object{{"serial_number": "1"}, {"serial_number": serial}, {"serial_number": "x"}, {}, {"serial_number": serial, "overlap": "-1s"}} {
		if code, _ := s.Do("POST", creds+"/renew", s.Root, body); code != 400 {
			t.Errorf("%v: %d", body, code)
		}
	}

	// By the client itself.
	c := dial(t, address, settings(t, s, "kmip", again))
	c.ver = [2]int32{2, 1}
	key := newEC(t)
	csr, err := x509.CreateCertificateRequest(strings.NewReader(strings.Repeat("x", 4096)), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "admin"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	id := c.must(ttlv.OperationReProvision, ttlv.Struct(ttlv.TagCertificateRequest, ttlv.Enum(ttlv.TagCertificateRequestType, ttlv.CertificateRequestTypePKCS_10),
		ttlv.Bytes(ttlv.TagCertificateRequestValue, csr))).Get(ttlv.TagUniqueIdentifier).Text()
	der := c.certificateOf(id)
	if der.Subject.CommonName == "admin" || len(der.Subject.OrganizationalUnit) != 1 {
		t.Errorf("the client chose whose the certificate is: %s", der.Subject)
	}
	if !works(tls.Certificate{Certificate: [][]byte{der.Raw}, PrivateKey: key}) || !works(again) {
		t.Error("one of the two certificates does not work while they overlap")
	}
	c.fails(ttlv.ResultReasonFeatureNotSupported, ttlv.OperationReProvision)
	s.Must("POST", "kmip/scope/finance/role/accounting", s.Root, object{"operation_get": true})
	c.fails(ttlv.ResultReasonPermissionDenied, ttlv.OperationReProvision)
}
