package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"arca/internal/kes/identity"
	"arca/internal/kes/store"
)

// rig is a server with a file, and a client.
type rig struct {
	t      *testing.T
	node   *node
	dir    string
	url    string
	client tls.Certificate
	id     string
	log    *output
}

// output is standard error that may be read meanwhile.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// issue makes a certificate, by an authority or by itself.
func issue(t *testing.T, name string, ca *tls.Certificate, isCA bool) tls.Certificate {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: isCA,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	parent, signer := template, any(key)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (r *rig) write(name string, data string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(data), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) writePair(name string, c tls.Certificate) {
	r.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		r.t.Fatal(err)
	}
	r.write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	r.write(name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})))
}

// configure writes the file; more is put below tls.
func (r *rig) configure(rules, more string) {
	r.t.Helper()
	r.write("config.yml", fmt.Sprintf(`
admin: {identity: disabled}
tls:
  key: %[1]s/s.key
  cert: %[1]s/s.crt
%[4]s
policy:
  p:
    allow: [%[2]s]
    identities: [%[3]s]
keys:
- name: made-before
keystore:
  fs: {path: %[1]s/keys}
`, r.dir, rules, r.id, more))
}

func start(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), client: issue(t, "client", nil, false), log: &output{}}
	r.id = identity.Of(r.client.Leaf)
	r.writePair("s", issue(t, "localhost", nil, false))
	r.configure("/v1/key/*", "")
	ctx, cancel := context.WithCancel(t.Context())
	var err error
	r.node, err = newNode(ctx, Options{Config: filepath.Join(r.dir, "config.yml"), Address: "127.0.0.1:0"}, Env{
		Out: io.Discard, Err: r.log, Lookup: func(string) (string, bool) { return "", false },
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.url = "https://" + l.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := r.node.serve(ctx, l, nil); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		serving.Wait()
		r.node.now.close()
	})
	return r
}

// transport connects anew for each request, but resumes sessions.
func (r *rig) transport(cert tls.Certificate) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}, ClientSessionCache: tls.NewLRUClientSessionCache(8),
		},
	}}
}

// ask returns the status (0: no connection) and whether the session was resumed.
func (r *rig) ask(c *http.Client, method, path string) (code int, resumed bool) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, false
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode, res.TLS.DidResume
}

// TestReload exchanges all at once, or nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	r := start(t)
	c := r.transport(r.client)
	if code, _ := r.ask(c, "GET", "/v1/key/describe/made-before"); code != 200 {
		t.Fatalf("a key that the file names: %d", code)
	}
	r.configure("/v1/key/create/b*", "")
	if err := r.node.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, _ := r.ask(c, "PUT", "/v1/key/create/a")
	b, _ := r.ask(c, "PUT", "/v1/key/create/b")
	if a != 403 || b != 200 {
		t.Errorf("after the reload: %d, %d", a, b)
	}
	for _, bad := range []string{"not: [valid", "admin: {identity: x}\n", ""} {
		r.write("config.yml", bad)
		if err := r.node.reload(t.Context()); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if b, _ := r.ask(c, "PUT", "/v1/key/create/b2"); b != 200 {
		t.Errorf("after bad files: %d", b)
	}
}

// TestTrustChanges does not resume a session that began when nobody verified
// clients, once they are verified.
func TestTrustChanges(t *testing.T) {
	t.Parallel()
	r := start(t)
	stranger := r.transport(r.client)
	if code, _ := r.ask(stranger, "PUT", "/v1/key/create/a"); code != 200 {
		t.Fatal(code)
	}
	if code, resumed := r.ask(stranger, "PUT", "/v1/key/create/b"); code != 200 || !resumed {
		t.Errorf("%d, resumed %v", code, resumed)
	}
	ca := issue(t, "authority", nil, true)
	r.writePair("ca", ca)
	r.configure("/v1/key/*", "  auth: on\n  ca: "+r.dir+"/ca.crt\n")
	if err := r.node.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, _ := r.ask(stranger, "PUT", "/v1/key/create/c"); code != 0 {
		t.Errorf("who is not verified: %d", code)
	}
	signed := issue(t, "signed", &ca, false)
	if code, _ := r.ask(r.transport(signed), "PUT", "/v1/key/create/c"); code != 403 { // verified, and in no policy
		t.Errorf("who is verified: %d", code)
	}
}

// TestTrustEnds refuses on connections that are open what their certificates may not
// any more: by HTTP/1.1 and 2, with requests and with the stream of a log.
func TestTrustEnds(t *testing.T) {
	t.Parallel()
	for _, two := range []bool{false, true} {
		r := start(t)
		r.configure("/v1/*", "")
		if err := r.node.reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		ca := issue(t, "authority", nil, true)
		r.writePair("ca", ca)
		signed := issue(t, "signed", &ca, false)
		held := func(c tls.Certificate) *http.Client {
			return &http.Client{Transport: &http.Transport{
				ForceAttemptHTTP2: two, MaxConnsPerHost: 1,
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{c}},
			}}
		}
		stranger, known, follower := held(r.client), held(signed), held(r.client)
		first, _ := r.ask(stranger, "PUT", "/v1/key/create/a")
		second, _ := r.ask(known, "GET", "/v1/identity/self/describe")
		if first != 200 || second != 404 {
			t.Fatal(first, second)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/v1/log/audit", nil)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := follower.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r.configure("/v1/*", "  auth: on\n  ca: "+r.dir+"/ca.crt\n")
		if err := r.node.reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, stream.Body); err != nil { // it ends
			t.Error(err)
		}
		_ = stream.Body.Close() // read to its end
		for range 2 {
			first, _ = r.ask(stranger, "PUT", "/v1/key/create/b")
			second, _ = r.ask(known, "GET", "/v1/identity/self/describe")
			if first != 403 || second != 404 {
				t.Errorf("HTTP/2 %v: on the old connection %d, of who is trusted %d", two, first, second)
			}
		}
		stranger.CloseIdleConnections()
		known.CloseIdleConnections()
		follower.CloseIdleConnections()
	}
}

// TestCertificateChanges takes a new certificate from its file.
func TestCertificateChanges(t *testing.T) {
	t.Parallel()
	r := start(t)
	next := issue(t, "localhost", nil, false)
	r.writePair("s", next)
	before := r.node.stamps()
	r.node.reloadCertificate()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(r.url, "https://"), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{r.client}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().PeerCertificates[0]; !got.Equal(next.Leaf) {
		t.Error("the old certificate is shown")
	}
	r.write("s.crt", "rubbish")
	if r.node.stamps() == before {
		t.Error("a change of the file is not seen")
	}
	r.node.reloadCertificate()
	if code, _ := r.ask(r.transport(r.client), "GET", "/version"); code != 200 {
		t.Errorf("with a broken file: %d", code)
	}
}

// TestStreamsEnd ends streams when the server stops, and lets clients go.
func TestStreamsEnd(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.configure("/v1/*", "")
	if err := r.node.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/v1/log/audit", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := r.transport(r.client)
	c.Timeout = 0
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if code, _ := r.ask(r.transport(r.client), "PUT", "/v1/key/create/seen"); code != 200 {
		t.Fatal(code)
	}
	dec := json.NewDecoder(res.Body)
	for {
		var e struct {
			Request struct {
				Path string `json:"path"`
			} `json:"request"`
		}
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		if e.Request.Path == "/v1/key/create/seen" {
			break
		}
	}
	r.node.door.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Errorf("the stream ends with %v", err)
	}
}

// TestDeleteDuringReload deletes a key by a call that has begun before a reload: the
// cache of after it has the key no more.
func TestDeleteDuringReload(t *testing.T) {
	t.Parallel()
	r := start(t)
	before := r.node.now.cache
	if err := r.node.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := r.node.now.cache
	if _, err := now.Get(t.Context(), "made-before"); err != nil || now == before {
		t.Fatal(now == before, err)
	}
	// The old key store is closed by now, which the deletion's end is not about.
	_ = before.Delete(t.Context(), "made-before")
	if err := os.Remove(filepath.Join(r.dir, "keys", "made-before")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if _, err := now.Get(t.Context(), "made-before"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the deleted key is still used: %v", err)
	}
}
