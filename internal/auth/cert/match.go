package cert

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/ryanuber/go-glob"
)

// fits reports whether a certificate is as the entry demands.
func (en *entry) fits(c *x509.Certificate) bool {
	uris := make([]string, 0, len(c.URIs))
	for _, u := range c.URIs {
		uris = append(uris, u.String())
	}
	all := append(append([]string{c.Subject.CommonName}, c.DNSNames...), c.EmailAddresses...)
	return one(en.Names, all) && one(en.CommonNames, []string{c.Subject.CommonName}) && one(en.DNS, c.DNSNames) &&
		one(en.Emails, c.EmailAddresses) && one(en.URIs, uris) && one(en.Units, c.Subject.OrganizationalUnit) && en.hasExtensions(c)
}

// one reports whether a value fits a pattern; without patterns all do.
func one(patterns, values []string) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, p := range patterns {
		for _, v := range values {
			if v != "" && glob.Glob(p, v) {
				return true
			}
		}
	}
	return false
}

// An extension is what required_extensions demands of one.
type extension struct {
	oid, pattern string
	hex          bool // the pattern is for the value's bytes
}

func parseExtension(text string) (extension, error) {
	rest, isHex := strings.CutPrefix(text, "hex:")
	oid, pattern, found := strings.Cut(rest, ":")
	if !found || oid == "" {
		return extension{}, errors.New("an entry has the form OID:pattern or hex:OID:pattern")
	}
	if isHex {
		pattern = strings.ToLower(pattern)
	}
	return extension{oid, pattern, isHex}, nil
}

func (en *entry) hasExtensions(c *x509.Certificate) bool {
	if len(en.Extensions) == 0 {
		return true
	}
	texts, raws := map[string]string{}, map[string]string{}
	for _, x := range c.Extensions {
		oid := x.Id.String()
		raws[oid] = hex.EncodeToString(x.Value)
		if text, ok := textOf(x.Value); ok {
			texts[oid] = text
		}
	}
	for _, want := range en.Extensions {
		x, err := parseExtension(want)
		if err != nil {
			return false
		}
		have := texts
		if x.hex {
			have = raws
		}
		v, ok := have[x.oid]
		if !ok || !glob.Glob(x.pattern, v) {
			return false
		}
	}
	return true
}

// textOf is the text that an extension's value holds.
func textOf(raw []byte) (string, bool) {
	var text string
	rest, err := asn1.Unmarshal(raw, &text)
	return text, err == nil && len(rest) == 0
}

// metadata is what tokens keep of a certificate.
func (en *entry) metadata(c *x509.Certificate) map[string]string {
	out := map[string]string{
		"cert_name": en.name, "common_name": c.Subject.CommonName, "serial_number": c.SerialNumber.String(),
		"subject_key_id": colons(c.SubjectKeyId), "authority_key_id": colons(c.AuthorityKeyId),
	}
	for _, oid := range en.Metadata {
		for _, x := range c.Extensions {
			if text, ok := textOf(x.Value); ok && x.Id.String() == oid && len(text) <= 512 {
				out[strings.ReplaceAll(oid, ".", "-")] = text
			}
		}
	}
	return out
}

// colons writes bytes in hex with colons between.
func colons(raw []byte) string {
	parts := make([]string, len(raw))
	for i, b := range raw {
		parts[i] = hex.EncodeToString([]byte{b})
	}
	return strings.Join(parts, ":")
}
