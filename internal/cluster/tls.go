package cluster

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"sync"
	"time"

	"arca/internal/barrier"
	"arca/internal/errs"
)

// Nodes know each other by certificates of an authority that only holders of the keyring have: its key is derived from
// the keyring's secret, so it is the same on all nodes, lies nowhere, and needs no rotation to reach a node that was
// away. Each node makes its own certificate, in memory, for a node's id, and a new one every day.
const (
	purpose      = "cluster-authority"
	renewAfter   = 24 * time.Hour
	validAround  = 7 * 24 * time.Hour // before and after now: the clocks of nodes may differ
	serialLength = 16
)

// A pass is what a node shows and believes.
type pass struct {
	id    string
	key   ed25519.PrivateKey // of the authority
	root  *x509.Certificate
	roots *x509.CertPool

	mu   sync.Mutex
	leaf *tls.Certificate
	made time.Time
}

func newPass(ring *barrier.Keyring, id string) (*pass, error) {
	seed, err := ring.Derive(purpose)
	if err != nil {
		return nil, err
	}
	defer seed.Wipe()
	p := &pass{id: id, key: ed25519.NewKeyFromSeed(seed), roots: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "arca cluster"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, p.key.Public(), p.key)
	if err == nil {
		p.root, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return nil, errs.New(errs.Internal, "make the cluster's authority: %w", err)
	}
	p.roots.AddCert(p.root)
	return p, nil
}

// wipe forgets the authority's key.
func (p *pass) wipe() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.key)
	p.key, p.leaf = nil, nil
}

// certificate returns this node's own, which is never older than renewAfter.
func (p *pass) certificate() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.leaf != nil && now.Sub(p.made).Abs() < renewAfter {
		return p.leaf, nil
	}
	if p.key == nil {
		return nil, errs.New(errs.Sealed, "Vault is sealed")
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	serial := make([]byte, serialLength)
	_, _ = rand.Read(serial) // never fails
	serial[0] &= 0x7f
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: p.id},
		NotBefore: now.Add(-validAround), NotAfter: now.Add(validAround),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.root, public, p.key)
	if err != nil {
		return nil, err
	}
	p.leaf, p.made = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, now
	return p.leaf, nil
}

// verify checks that the other side belongs to the cluster.
func (p *pass) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the other node shows no certificate")
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: p.roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return errs.New(errs.Denied, "the other node does not belong to this cluster: %w", err)
	}
	return nil
}

// node is the id in the certificate that the other side has shown.
func node(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return ""
	}
	return state.PeerCertificates[0].Subject.CommonName
}

// mark tells the process at the other side from others, with the same id as well: each makes a certificate of its own.
func mark(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return ""
	}
	return state.PeerCertificates[0].SerialNumber.String()
}

// server and client are the two sides of a connection between nodes. What counts is the authority and, for one who means to reach a certain node, its
// id; an id of "" stands for any.
func (p *pass) server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{protoRaft, protoAsk, protoHTTP},
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.certificate() },
		VerifyConnection:       p.verify,
		SessionTicketsDisabled: true,
	}
}

func (p *pass) client(proto, id string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{proto},
		InsecureSkipVerify:   true, //nolint:gosec // VerifyConnection demands the cluster's own authority
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.certificate() },
		VerifyConnection: func(state tls.ConnectionState) error {
			if err := p.verify(state); err != nil {
				return err
			}
			if is := node(state); id != "" && is != id {
				return errs.New(errs.Unavailable, "the node %q is meant, and %q answers: it has that address now", id, is)
			}
			return nil
		},
	}
}
