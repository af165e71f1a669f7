package listener

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"sync/atomic"

	"arca/internal/config"
	"arca/internal/errs"
)

// certs hold what TLS needs from files; load swaps it as a whole.
type certs struct {
	stanza  *config.Listener
	current atomic.Pointer[tls.Config]
}

func newCerts(s *config.Listener) (*certs, error) {
	c := &certs{stanza: s}
	return c, c.load()
}

// config is what the http.Server gets: it asks for the current one at each
// handshake.
func (c *certs) config() *tls.Config {
	out := c.current.Load().Clone()
	out.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current.Load(), nil }
	return out
}

func (c *certs) load() error {
	s := c.stanza
	pair, err := LoadPair(s.TLSCertFile, s.TLSKeyFile)
	if err != nil {
		return err
	}
	least, most := s.TLSVersions()
	next := &tls.Config{
		MinVersion: least, MaxVersion: most,
		CipherSuites: s.TLSCiphers(),
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"h2", "http/1.1"},
		ClientAuth:   tls.RequestClientCert, // the cert auth method judges them
	}
	switch {
	case s.TLSDisableClient:
		next.ClientAuth = tls.NoClientCert
	case s.TLSRequireClient && s.API.Free(): // the door wants one for all other calls
		next.ClientAuth = tls.VerifyClientCertIfGiven
	case s.TLSRequireClient:
		next.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if s.TLSClientCAFile != "" {
		if next.ClientCAs, err = loadPool(s.TLSClientCAFile); err != nil {
			return err
		}
	}
	c.current.Store(next)
	return nil
}

// VerifyClient checks a client's certificate, the first, with those that came along,
// as a handshake would now: against tls_client_ca_file as last loaded, if the listener
// has to verify at all. It is for certificates that came otherwise, such as from a TLS
// proxy, and for connections from before.
func (l *Listener) VerifyClient(chain []*x509.Certificate) error {
	if !l.stanza.TLSRequireClient {
		return nil
	}
	if l.certs == nil || len(chain) == 0 {
		return errs.New(errs.Denied, "the listener has no TLS, and nothing to verify certificates against")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: l.certs.current.Load().ClientCAs, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// LoadPair reads a certificate with its chain, and its key. Errors name the
// setting and the path.
func LoadPair(certFile, keyFile string) (tls.Certificate, error) {
	var none tls.Certificate
	certPEM, err := os.ReadFile(certFile) //nolint:gosec // the operator names it
	if err != nil {
		return none, errs.New(errs.Invalid, "tls_cert_file: %w", err)
	}
	keyPEM, err := os.ReadFile(keyFile) //nolint:gosec // the operator names it
	if err != nil {
		return none, errs.New(errs.Invalid, "tls_key_file: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return none, errs.New(errs.Invalid, "tls_cert_file %s and tls_key_file %s: %w", certFile, keyFile, err)
	}
	return pair, nil
}

func loadPool(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, errs.New(errs.Invalid, "tls_client_ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errs.New(errs.Invalid, "tls_client_ca_file %s holds no certificate in PEM", path)
	}
	return pool, nil
}
