package cert

import (
	"encoding/asn1"
	"testing"
)

// What comes from outside is read or refused.
func FuzzCRL(f *testing.F) {
	f.Add([]byte("junk"))
	f.Add([]byte("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := parseCRL(raw)
		if err == nil && list == nil {
			t.Error("no list and no error")
		}
	})
}

func FuzzCertificates(f *testing.F) {
	f.Add("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----", "1.2.3:*")
	f.Add("", "hex:1:00")
	f.Fuzz(func(t *testing.T, text, pattern string) {
		certs, err := parse(text)
		if err == nil && len(certs) == 0 {
			t.Error("no certificates and no error")
		}
		if x, err := parseExtension(pattern); err == nil && x.oid == "" {
			t.Error("an extension without a name")
		}
		if raw, err := asn1.Marshal(pattern); err == nil {
			textOf(raw)
		}
		textOf([]byte(text))
	})
}
