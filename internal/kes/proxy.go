package kes

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/url"
	"strings"
)

// maxForwarded bounds a forwarded certificate in bytes.
const maxForwarded = 64 << 10

// parseForwarded reads a client's certificate as TLS proxies send it: PEM with
// URL escapes (nginx), or base64 of DER, bare (HAProxy) or between colons (RFC
// 9440).
func parseForwarded(value string) (*x509.Certificate, error) {
	if len(value) > maxForwarded {
		return nil, errors.New("it is too long")
	}
	value = strings.TrimSpace(value)
	if strings.Contains(value, "BEGIN") {
		// A plus is a space to some, and a digit of base64 to others.
		cert, err := parsePEM(value, url.QueryUnescape)
		if err != nil && strings.Contains(value, "+") {
			if other, otherErr := parsePEM(value, url.PathUnescape); otherErr == nil {
				return other, nil
			}
		}
		return cert, err
	}
	if strings.HasPrefix(value, ":") && strings.HasSuffix(value, ":") && len(value) > 2 {
		value = value[1 : len(value)-1]
	}
	der, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return nil, errors.New("it is neither PEM with URL escapes nor base64 of a certificate")
	}
	return parseDER(der)
}

func parsePEM(value string, unescape func(string) (string, error)) (*x509.Certificate, error) {
	text, err := unescape(value)
	if err != nil {
		return nil, errors.New("its URL escapes are broken")
	}
	block, _ := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return nil, errors.New("it is not PEM")
	case block.Type != "CERTIFICATE":
		return nil, errors.New("it holds no certificate")
	}
	return parseDER(block.Bytes)
}

func parseDER(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, errors.New("it holds no certificate that can be read")
	}
	if cert.IsCA { // as in a handshake
		return nil, errors.New("it holds the certificate of an authority")
	}
	return cert, nil
}
