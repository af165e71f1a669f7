package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/config"
	"arca/internal/kes/identity"
	"arca/internal/listener"
	"arca/internal/logging"
)

// issue makes a certificate, signed by another or, with none, by itself.
func issue(t *testing.T, name string, by *tls.Certificate) tls.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	parent, signer := c, any(k)
	if by == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	} else {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &k.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k, Leaf: leaf}
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestKESProxyVerifies holds what a TLS proxy forwards against the listener's
// authorities, as it holds those who connect.
func TestKESProxyVerifies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := issue(t, "ca", nil)
	other := issue(t, "other ca", nil)
	server, proxy, good, bad := issue(t, "server", &ca), issue(t, "proxy", &ca), issue(t, "good", &ca), issue(t, "bad", &other)
	raw, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	writePEM(t, file("ca.crt"), "CERTIFICATE", ca.Certificate[0])
	writePEM(t, file("s.crt"), "CERTIFICATE", server.Certificate[0])
	writePEM(t, file("s.key"), "PRIVATE KEY", raw)
	log, err := logging.New(logging.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, verify := range []bool{true, false} {
		n := &node{log: log, core: arcatest.New(t, arcatest.Config{}).Core}
		stanza := &config.Listener{Type: "kes", Address: "127.0.0.1:0"}
		stanza.TLSCertFile, stanza.TLSKeyFile, stanza.TLSClientCAFile = file("s.crt"), file("s.key"), file("ca.crt")
		stanza.TLSRequireClient = verify
		stanza.ProxyIDs = config.Names{identity.Of(proxy.Leaf)}
		if err := n.openKES(stanza, nil); err != nil {
			t.Fatal(err)
		}
		l := n.listeners[0]
		if got := l.Stanza(); *got.ReadHeaderTimeout != 5*time.Second || *got.WriteTimeout != 30*time.Second || *got.IdleTimeout != 90*time.Second {
			t.Errorf("time-outs %v %v %v", *got.ReadHeaderTimeout, *got.WriteTimeout, *got.IdleTimeout)
		}
		go func() { _ = l.Serve() }() // until it is closed
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
			Certificates: []tls.Certificate{proxy}, InsecureSkipVerify: true,
		}}}
		for _, sent := range []tls.Certificate{good, bad} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+l.Addr().String()+"/version", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(defaultProxyHeader, base64.StdEncoding.EncodeToString(sent.Certificate[0]))
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close() // read only
			want := http.StatusOK
			if verify && sent.Leaf == bad.Leaf {
				want = http.StatusForbidden
			}
			if res.StatusCode != want {
				t.Errorf("verify %v, %s: %d, want %d", verify, sent.Leaf.Subject, res.StatusCode, want)
			}
		}
		client.CloseIdleConnections()
		n.kes[0].Close()
		_ = l.Close() // ends Serve
	}
}

// TestKESFreeCalls lets probes without a certificate in where a call is free, though all
// others have to show one that is trusted.
func TestKESFreeCalls(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, other := issue(t, "ca", nil), issue(t, "other ca", nil)
	server, good, bad := issue(t, "server", &ca), issue(t, "good", &ca), issue(t, "bad", &other)
	raw, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	writePEM(t, file("ca.crt"), "CERTIFICATE", ca.Certificate[0])
	writePEM(t, file("s.crt"), "CERTIFICATE", server.Certificate[0])
	writePEM(t, file("s.key"), "PRIVATE KEY", raw)
	log, err := logging.New(logging.Config{})
	if err != nil {
		t.Fatal(err)
	}
	arca := arcatest.New(t, arcatest.Config{})
	arca.Must("POST", "sys/mounts/kes", arca.Root, map[string]any{"type": "kes"})
	for _, free := range []bool{true, false} {
		n := &node{log: log, core: arca.Core}
		stanza := &config.Listener{Type: "kes", Address: "127.0.0.1:0"}
		stanza.Mount = "kes"
		stanza.TLSCertFile, stanza.TLSKeyFile, stanza.TLSClientCAFile = file("s.crt"), file("s.key"), file("ca.crt")
		stanza.TLSRequireClient = true
		if free {
			stanza.API = config.Calls{"/v1/ready": {SkipAuth: true}, "/v1/api": {Timeout: 7 * time.Second}, "/nonsense": {Timeout: time.Second}}
		}
		if err := n.openKES(stanza, nil); err != nil {
			t.Fatal(err)
		}
		l := n.listeners[0]
		go func() { _ = l.Serve() }() // until it is closed
		ask := func(path string, certs ...tls.Certificate) int {
			shown := &tls.Config{InsecureSkipVerify: true}
			for _, c := range certs { // whether the server would trust it or not
				shown.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
			}
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: shown}}
			defer client.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+l.Addr().String()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Do(req)
			if err != nil {
				return 0
			}
			_ = res.Body.Close() // read only
			return res.StatusCode
		}
		want := map[string][3]int{"/v1/ready": {200, 200, 0}, "/v1/status": {400, 403, 0}}
		if !free {
			want = map[string][3]int{"/v1/ready": {0, 403, 0}, "/v1/status": {0, 403, 0}}
		}
		for path, codes := range want {
			if got := [3]int{ask(path), ask(path, good), ask(path, bad)}; got != codes {
				t.Errorf("free %v, %s without, with a good and a bad certificate: %v, want %v", free, path, got, codes)
			}
		}
		n.kes[0].Close()
		_ = l.Close() // ends Serve
	}
}

// TestKESHandshakeIsAudited tells the door of who does not get through the handshake.
func TestKESHandshakeIsAudited(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, other := issue(t, "ca", nil), issue(t, "other ca", nil)
	server, bad := issue(t, "server", &ca), issue(t, "bad", &other)
	raw, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	writePEM(t, file("ca.crt"), "CERTIFICATE", ca.Certificate[0])
	writePEM(t, file("s.crt"), "CERTIFICATE", server.Certificate[0])
	writePEM(t, file("s.key"), "PRIVATE KEY", raw)
	stanza := &config.Listener{Type: "kes", Address: "127.0.0.1:0"}
	stanza.TLSCertFile, stanza.TLSKeyFile, stanza.TLSClientCAFile = file("s.crt"), file("s.key"), file("ca.crt")
	stanza.TLSRequireClient = true
	refused := make(chan error, 1)
	l, err := listener.Open(listener.Config{
		Stanza: stanza, Handler: http.NotFoundHandler(),
		Refused: func(_ net.Addr, why error) { refused <- why },
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = l.Serve() }() // until it is closed
	defer func() { _ = l.Close() }()
	for _, certs := range [][]tls.Certificate{nil, {bad}} {
		conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{Certificates: certs, InsecureSkipVerify: true})
		if err == nil {
			_ = conn.Close() // TLS 1.3 tells the client only later
		}
		if why := <-refused; why == nil {
			t.Error("no reason")
		}
	}
}
