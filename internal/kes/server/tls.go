package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"time"

	"arca/internal/errs"
	"arca/internal/kes/config"
	"arca/internal/kes/identity"
	"arca/internal/kes/store/rest"
)

// How often the certificate's files are looked at, and read in any case.
const (
	lookEvery = 30 * time.Second
	readEvery = 15 * time.Minute
	// ticketsEvery is how often session tickets get another key.
	ticketsEvery = 8 * time.Hour
	warnBefore   = 7 * 24 * time.Hour // of the certificate's end
)

// serverTLS is what the files of the certificate and of authorities hold.
type serverTLS struct {
	config  *tls.Config
	leaf    *x509.Certificate
	tickets [][32]byte // keys of session tickets, the newest first
	// verify checks a client's certificate, with those that came along; nil with
	// tls.auth off.
	verify func(chain []*x509.Certificate) error
}

// newTLS reads the files. Errors name the setting.
func newTLS(cfg *config.Config) (*serverTLS, error) {
	pair, err := loadPair(cfg.TLS)
	if err != nil {
		return nil, err
	}
	out := &serverTLS{leaf: pair.Leaf, config: baseTLS(pair)}
	skips := false
	for _, a := range cfg.API {
		skips = skips || a.SkipAuth
	}
	// Keys of its own for tickets: a session that began under other rules is not
	// resumed under these.
	if err := out.newTickets(); err != nil {
		return nil, err
	}
	switch {
	case cfg.TLS.Verify && skips:
		out.config.ClientAuth = tls.VerifyClientCertIfGiven
	case cfg.TLS.Verify:
		out.config.ClientAuth = tls.RequireAndVerifyClientCert
	case skips:
		out.config.ClientAuth = tls.RequestClientCert
	}
	if cfg.TLS.Verify {
		roots, err := trusted(cfg.TLS.CA)
		if err != nil {
			return nil, err
		}
		out.config.ClientCAs = roots
		out.verify = func(chain []*x509.Certificate) error {
			return verify(chain, roots)
		}
	}
	return out, nil
}

// verify is what crypto/tls does with a client's certificates.
func verify(chain []*x509.Certificate, roots *x509.CertPool) error {
	if len(chain) == 0 {
		return identity.ErrNone
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// ticketKeys is how many keys of session tickets are good: the newest makes
// tickets, all read them.
const ticketKeys = 3

// newTickets makes another key for session tickets.
func (t *serverTLS) newTickets() error {
	var k [32]byte
	if _, err := rand.Read(k[:]); err != nil {
		return err
	}
	t.tickets = append([][32]byte{k}, t.tickets...)
	if len(t.tickets) > ticketKeys {
		t.tickets = t.tickets[:ticketKeys]
	}
	t.config.SetSessionTicketKeys(t.tickets)
	return nil
}

// baseTLS is what holds for every server: who asks has to show a certificate.
func baseTLS(pair tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"h2", "http/1.1"},
		ClientAuth:   tls.RequireAnyClientCert,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521},
	}
}

// trusted returns the system's roots and those of the file or folder.
func trusted(ca string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if ca == "" {
		return pool, nil
	}
	if err := rest.AddTo(pool, ca); err != nil {
		return nil, errs.New(errs.Invalid, "tls.ca: %w", err)
	}
	return pool, nil
}

func loadPair(t config.TLS) (tls.Certificate, error) {
	var none tls.Certificate
	certPEM, err := os.ReadFile(t.Cert)
	if err != nil {
		return none, errs.New(errs.Invalid, "tls.cert: %w", err)
	}
	keyPEM, err := os.ReadFile(t.Key)
	if err != nil {
		return none, errs.New(errs.Invalid, "tls.key: %w", err)
	}
	var password []byte
	if t.Password != "" {
		password = []byte(t.Password)
	}
	block, err := identity.PrivateKeyPEM(keyPEM, password)
	if err != nil {
		return none, errs.New(errs.Invalid, "tls.key %s: %w", t.Key, err)
	}
	// The certificate's file may hold the key as well, or a chain.
	certs := &bytes.Buffer{}
	for rest := certPEM; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type == "CERTIFICATE" {
			_ = pem.Encode(certs, b) // to memory
		}
	}
	pair, err := tls.X509KeyPair(certs.Bytes(), pem.EncodeToMemory(block))
	if err != nil {
		return none, errs.New(errs.Invalid, "tls.cert %s and tls.key %s: %w", t.Cert, t.Key, err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return none, errs.New(errs.Invalid, "tls.cert %s: %w", t.Cert, err)
		}
	}
	if len(pair.Leaf.DNSNames) == 0 && len(pair.Leaf.IPAddresses) == 0 {
		return none, errs.New(errs.Invalid, "tls.cert %s: the certificate names no DNS name and no IP address (subject alternative names): no client can check it", t.Cert)
	}
	return pair, nil
}

// warn tells the log in time that the certificate ends.
func (t *serverTLS) warn(log *slog.Logger) {
	switch left := time.Until(t.leaf.NotAfter); {
	case left <= 0:
		log.Warn("the server's certificate is no longer valid", "until", t.leaf.NotAfter)
	case left < warnBefore:
		log.Warn("the server's certificate ends soon", "until", t.leaf.NotAfter)
	}
}

// watchCertificate reads the certificate's files again when they have changed,
// and every now and then.
func (n *node) watchCertificate(ctx context.Context) {
	if n.opts.Dev {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	seen, read, tickets := n.stamps(), time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := n.stamps()
		if now == seen && time.Since(read) < readEvery {
			continue
		}
		if time.Since(tickets) > ticketsEvery {
			tickets = time.Now()
			n.renewTickets()
		}
		seen, read = now, time.Now()
		n.reloadCertificate()
	}
}

// stamps tells whether the files are the same.
func (n *node) stamps() (out [2]fileStamp) {
	n.mu.Lock()
	cfg := n.now.cfg
	n.mu.Unlock()
	for i, path := range []string{cfg.TLS.Cert, cfg.TLS.Key} {
		if info, err := os.Stat(path); err == nil {
			out[i] = fileStamp{info.ModTime().UnixNano(), info.Size()}
		}
	}
	return out
}

type fileStamp struct{ modified, size int64 }

func (n *node) renewTickets() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.now.tls.newTickets(); err != nil {
		n.log.Error("make a key for session tickets", "error", err)
	}
}

func (n *node) reloadCertificate() {
	n.mu.Lock()
	defer n.mu.Unlock()
	pair, err := loadPair(n.now.cfg.TLS)
	if err != nil {
		n.log.Error("read the certificate again", "error", err)
		return
	}
	old := n.now.tls
	if bytes.Equal(old.leaf.Raw, pair.Leaf.Raw) {
		old.warn(n.log)
		return
	}
	next := &serverTLS{config: old.config.Clone(), leaf: pair.Leaf, verify: old.verify, tickets: old.tickets}
	next.config.Certificates = []tls.Certificate{pair}
	next.config.SetSessionTicketKeys(next.tickets)
	n.now.tls = next
	n.tls.Store(next.config)
	n.log.Info("the server has a new certificate", "until", pair.Leaf.NotAfter)
	next.warn(n.log)
}

// devTLS makes a certificate for this machine that nobody else knows.
func devTLS() (*serverTLS, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &serverTLS{leaf: leaf, config: baseTLS(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf})}, nil
}
