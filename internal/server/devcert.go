package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"time"

	"arca/internal/errs"
)

const devCertificateTime = 365 * 24 * time.Hour

// makeCertificate makes an authority and a certificate for -dev-tls, in dir or
// in a temporary folder.
func (d *devServer) makeCertificate(dir, address string) error {
	var err error
	if dir == "" {
		if dir, err = os.MkdirTemp("", "vault-tls"); err != nil {
			return errs.New(errs.Invalid, "-dev-tls: %w", err)
		}
	} else if err = os.MkdirAll(dir, 0o700); err != nil {
		return errs.New(errs.Invalid, "-dev-tls-cert-dir: %w", err)
	}
	d.tlsDir, d.caFile = dir, ""
	ca, caKey, err := d.issue("vault-ca", &x509.Certificate{
		Subject: pkix.Name{CommonName: "arca development authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}, nil, nil)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost", "localhost4", "localhost6", "localhost.localdomain"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if host, _, err := net.SplitHostPort(address); err == nil {
		if ip := net.ParseIP(host); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else if host != "" {
			leaf.DNSNames = append(leaf.DNSNames, host)
		}
	}
	if name, err := os.Hostname(); err == nil {
		leaf.DNSNames = append(leaf.DNSNames, name)
	}
	if _, _, err := d.issue("vault", leaf, ca, caKey); err != nil {
		return err
	}
	d.caFile = d.file("vault-ca.pem")
	return nil
}

// issue makes a key and a certificate and writes both; without an issuer it
// signs itself, and the key is not kept.
func (d *devServer) issue(name string, c, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, err
	}
	c.NotBefore = time.Now().Add(-time.Minute)
	c.NotAfter = c.NotBefore.Add(devCertificateTime)
	if issuer == nil {
		issuer, issuerKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		return nil, nil, err
	}
	certName := name + ".pem"
	if !c.IsCA {
		certName = name + "-cert.pem"
		raw, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, nil, err
		}
		if err := d.writePEM(name+"-key.pem", "PRIVATE KEY", raw, 0o600); err != nil {
			return nil, nil, err
		}
	}
	if err := d.writePEM(certName, "CERTIFICATE", der, 0o644); err != nil {
		return nil, nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	return parsed, key, err
}

func (d *devServer) writePEM(name, kind string, der []byte, mode os.FileMode) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(d.file(name), text, mode); err != nil {
		return errs.New(errs.Invalid, "-dev-tls: %w", err)
	}
	return nil
}
