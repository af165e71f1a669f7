package listener_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"arca/internal/config"
	"arca/internal/config/source"
	"arca/internal/listener"
)

// stanza reads a listener's block and checks it as a start does.
func stanza(t *testing.T, text string) *config.Listener {
	t.Helper()
	c := &config.Config{}
	if err := c.Add("l.hcl", []byte("storage \"inmem\" {}\n"+text), &source.Decoder{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	return &c.Listeners[0]
}

// serve opens a listener that answers with what it knows of the client.
func serve(t *testing.T, text string) *listener.Listener {
	t.Helper()
	l, err := listener.Open(listener.Config{Stanza: stanza(t, text), Handler: http.HandlerFunc(tell)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Serve() }()
	t.Cleanup(func() {
		if err := l.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

func tell(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	peer := "none"
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		peer = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	fmt.Fprintf(w, "%s %s peer=%s", host, r.Proto, peer)
}

func get(t *testing.T, c *http.Client, url string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, strings.TrimSpace(string(body))
}

// pair writes a self-signed certificate and its key and returns their paths.
func pair(t *testing.T, dir, name string) (cert, key string, parsed tls.Certificate) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
	write(t, cert, certPEM)
	write(t, key, keyPEM)
	if parsed, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return cert, key, parsed
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// client trusts one certificate and may show another.
func client(t *testing.T, trusted string, own ...tls.Certificate) *http.Client {
	t.Helper()
	text, err := os.ReadFile(trusted)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: own, MinVersion: tls.VersionTLS12}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// S0-9, S4-13: HTTP/2 over TLS; new certificate and key without a restart.
func TestTLSReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key, _ := pair(t, dir, "one")
	l := serve(t, fmt.Sprintf(`listener "tcp" { address = "127.0.0.1:0" tls_cert_file = %q tls_key_file = %q }`, cert, key))
	url := "https://" + l.Addr().String()
	old := client(t, cert)
	if code, body := get(t, old, url); code != 200 || body != "127.0.0.1 HTTP/2.0 peer=none" {
		t.Fatal(code, body)
	}

	cert2, key2, _ := pair(t, dir, "two")
	text, err := os.ReadFile(cert2)
	if err != nil {
		t.Fatal(err)
	}
	write(t, cert, text) // the key does not fit yet
	if err := l.Reload(); err == nil || !strings.Contains(err.Error(), cert) || !strings.Contains(err.Error(), `listener "tcp"`) {
		t.Errorf("a certificate without its key: %v", err)
	}
	if text, err = os.ReadFile(key2); err != nil {
		t.Fatal(err)
	}
	write(t, key, text)
	if err := l.Reload(); err != nil {
		t.Fatal(err)
	}
	if code, body := get(t, old, url); code != 200 {
		t.Errorf("the old connection: %d %s", code, body)
	}
	if code, body := get(t, client(t, cert2), url); code != 200 {
		t.Errorf("the new certificate: %d %s", code, body)
	}
}

// T10: a missing file is named, and the listener.
func TestMissingFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key, _ := pair(t, dir, "a")
	_, otherKey, _ := pair(t, dir, "b")
	for _, tt := range []struct{ name, cert, key, want string }{
		{"certificate", dir + "/no.crt", key, "tls_cert_file: open " + dir + "/no.crt: no such file"},
		{"key", cert, dir + "/no.key", "tls_key_file: open " + dir + "/no.key: no such file"},
		{"pair", cert, otherKey, "private key does not match public key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := stanza(t, fmt.Sprintf(`listener "tcp" { address = "127.0.0.1:0" tls_cert_file = %q tls_key_file = %q }`, tt.cert, tt.key))
			_, err := listener.Open(listener.Config{Stanza: s})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), `l.hcl:2:1: listener "tcp" on 127.0.0.1:0: `) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key, _ := pair(t, dir, "server")
	caFile, _, trusted := pair(t, dir, "friend")
	_, _, stranger := pair(t, dir, "stranger")
	for _, tt := range []struct {
		name, setting string
		own           []tls.Certificate
		want          string // "" is a refusal
	}{
		{"asked for by default", "", []tls.Certificate{stranger}, "peer=stranger"},
		{"none is fine", "", nil, "peer=none"},
		{"S4-8 disabled", "tls_disable_client_certs = true", []tls.Certificate{stranger}, "peer=none"},
		{"required", fmt.Sprintf("tls_require_and_verify_client_cert = true tls_client_ca_file = %q", caFile), []tls.Certificate{trusted}, "peer=friend"},
		{"required, none", fmt.Sprintf("tls_require_and_verify_client_cert = true tls_client_ca_file = %q", caFile), nil, ""},
		{"required, stranger", fmt.Sprintf("tls_require_and_verify_client_cert = true tls_client_ca_file = %q", caFile), []tls.Certificate{stranger}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := serve(t, fmt.Sprintf(`listener "tcp" { address = "127.0.0.1:0" tls_cert_file = %q tls_key_file = %q %s }`, cert, key, tt.setting))
			code, body := get(t, client(t, cert, tt.own...), "https://"+l.Addr().String())
			if tt.want == "" && code != 0 || tt.want != "" && !strings.HasSuffix(body, tt.want) {
				t.Errorf("got %d %s", code, body)
			}
		})
	}
}

func TestTLSVersions(t *testing.T) {
	t.Parallel()
	cert, key, _ := pair(t, t.TempDir(), "server")
	l := serve(t, fmt.Sprintf(`listener "tcp" { address = "127.0.0.1:0" tls_cert_file = %q tls_key_file = %q tls_min_version = "tls13" }`, cert, key))
	_, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2 was not refused: %v", err)
	}
}

// A client that speaks no TLS, or says nothing, does not keep others out.
func TestBrokenHandshakes(t *testing.T) {
	t.Parallel()
	cert, key, _ := pair(t, t.TempDir(), "server")
	l := serve(t, fmt.Sprintf(`listener "tcp" { address = "127.0.0.1:0" tls_cert_file = %q tls_key_file = %q http_read_header_timeout = "100ms" }`, cert, key))
	for range 20 {
		silent, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = silent.Close() })
	}
	garbage, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = garbage.Close() })
	if _, err := garbage.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(garbage).ReadString('\n')
	if err != nil || !strings.Contains(line, "400") {
		t.Errorf("plain HTTP got %q, %v", line, err)
	}
	if code, body := get(t, client(t, cert), "https://"+l.Addr().String()); code != 200 {
		t.Error(code, body)
	}
}

func TestSlowHeaders(t *testing.T) {
	t.Parallel()
	l := serve(t, `listener "tcp" { address = "127.0.0.1:0" tls_disable = 1 http_read_header_timeout = "50ms" }`)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the connection was kept open: %v", err)
	}
}

func TestHugeHeaders(t *testing.T) {
	t.Parallel()
	l := serve(t, `listener "tcp" { address = "127.0.0.1:0" tls_disable = 1 }`)
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if code, _ := get(t, c, "http://"+l.Addr().String(), "X-Big", strings.Repeat("a", 1<<20)); code != http.StatusRequestHeaderFieldsTooLarge && code != 0 {
		t.Errorf("got %d", code)
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false) // as a killed server leaves it
	_ = stale.Close()
	text := fmt.Sprintf(`listener "unix" { address = %q socket_mode = "0620" socket_user = "%d" socket_group = "%d" }`, path, os.Getuid(), os.Getgid())
	serve(t, text)
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o620 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	c := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	t.Cleanup(c.CloseIdleConnections)
	if code, body := get(t, c, "http://x"); code != 200 {
		t.Error(code, body)
	}
	if _, err := listener.Open(listener.Config{Stanza: stanza(t, text)}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second server: %v", err)
	}
}

func TestInUse(t *testing.T) {
	t.Parallel()
	l := serve(t, `listener "tcp" { address = "127.0.0.1:0" tls_disable = 1 }`)
	_, err := listener.Open(listener.Config{Stanza: stanza(t, fmt.Sprintf(`listener "tcp" { address = %q tls_disable = 1 }`, l.Addr()))})
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("got %v", err)
	}
}

func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	const v1 = "PROXY TCP4 192.0.2.7 192.0.2.1 5000 8200\r\n"
	for _, tt := range []struct{ name, setting, prefix, want string }{
		{"use_always", `proxy_protocol_behavior = "use_always"`, v1, "192.0.2.7"},
		{"use_always without it", `proxy_protocol_behavior = "use_always"`, "", "127.0.0.1"},
		{"trusted", `proxy_protocol_behavior = "allow_authorized" proxy_protocol_authorized_addrs = "127.0.0.0/8"`, v1, "192.0.2.7"},
		{"ignored", `proxy_protocol_behavior = "allow_authorized" proxy_protocol_authorized_addrs = ["10.0.0.1"]`, v1, "127.0.0.1"},
		{"denied", `proxy_protocol_behavior = "deny_unauthorized" proxy_protocol_authorized_addrs = ["10.0.0.1"]`, v1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := serve(t, fmt.Sprintf(`listener "tcp" { address = "127.0.0.1:0" tls_disable = 1 %s }`, tt.setting))
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = io.WriteString(c, tt.prefix+"GET / HTTP/1.0\r\n\r\n")
			answer, readErr := io.ReadAll(c)
			if tt.want == "" {
				if strings.Contains(string(answer), "200 OK") {
					t.Errorf("got %s", answer)
				}
				return
			}
			if err != nil || readErr != nil || !strings.Contains(string(answer), "\r\n\r\n"+tt.want+" ") {
				t.Errorf("got %s %v %v", answer, err, readErr)
			}
		})
	}
}

func TestForwardedFor(t *testing.T) {
	t.Parallel()
	const trust = `x_forwarded_for_authorized_addrs = "127.0.0.1"`
	for _, tt := range []struct {
		name, setting string
		header        []string
		code          int
		want          string
	}{
		{"last hop", trust, []string{"192.0.2.1, 192.0.2.2"}, 200, "192.0.2.2"},
		{"several headers", trust, []string{"192.0.2.1", "192.0.2.2"}, 200, "192.0.2.2"},
		{"skip one", trust + ` x_forwarded_for_hop_skips = 1`, []string{"192.0.2.1, 192.0.2.2"}, 200, "192.0.2.1"},
		{"skip too many", trust + ` x_forwarded_for_hop_skips = "2"`, []string{"192.0.2.1, 192.0.2.2"}, 400, "hops to skip (2)"},
		{"absent", trust, nil, 400, "missing x-forwarded-for header"},
		{"absent allowed", trust + ` x_forwarded_for_reject_not_present = false`, nil, 200, "127.0.0.1"},
		{"no address", trust, []string{"me"}, 400, "malformed"},
		{"stranger", `x_forwarded_for_authorized_addrs = "10.0.0.0/8"`, []string{"192.0.2.1"}, 400, "not authorized"},
		{"stranger ignored", `x_forwarded_for_authorized_addrs = "10.0.0.0/8" x_forwarded_for_reject_not_authorized = "false"`, []string{"192.0.2.1"}, 200, "127.0.0.1"},
		{"IPv6", trust, []string{"2001:db8::1"}, 200, "2001:db8::1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := serve(t, fmt.Sprintf(`listener "tcp" { address = "127.0.0.1:0" tls_disable = 1 %s }`, tt.setting))
			var header []string
			for _, h := range tt.header {
				header = append(header, "X-Forwarded-For", h)
			}
			c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			code, body := get(t, c, "http://"+l.Addr().String(), header...)
			if code != tt.code || !strings.Contains(body, tt.want) {
				t.Errorf("got %d %s", code, body)
			}
		})
	}
}

// One connection of a proxy carries the requests of many clients.
func TestForwardedForKeepAlive(t *testing.T) {
	t.Parallel()
	l := serve(t, `listener "tcp" { address = "127.0.0.1:0" tls_disable = 1 x_forwarded_for_authorized_addrs = "127.0.0.1" x_forwarded_for_reject_not_present = false }`)
	c := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	t.Cleanup(c.CloseIdleConnections)
	for _, addr := range []string{"192.0.2.1", "192.0.2.2", ""} {
		var header []string
		want := "127.0.0.1"
		if addr != "" {
			header, want = []string{"X-Forwarded-For", addr}, addr
		}
		if code, body := get(t, c, "http://"+l.Addr().String(), header...); code != 200 || !strings.HasPrefix(body, want+" ") {
			t.Errorf("%q: got %d %s", addr, code, body)
		}
	}
}

func TestForwardedCertificate(t *testing.T) {
	t.Parallel()
	file, _, _ := pair(t, t.TempDir(), "ann")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, setting, want string }{
		{"from a proxy", `x_forwarded_for_authorized_addrs = "127.0.0.1" x_forwarded_for_client_cert_header = "X-Cert" x_forwarded_for_client_cert_header_decoders = "URL,DER"`, "peer=ann"},
		{"from a stranger", `x_forwarded_for_authorized_addrs = "10.0.0.1" x_forwarded_for_reject_not_authorized = false x_forwarded_for_client_cert_header = "X-Cert" x_forwarded_for_client_cert_header_decoders = "URL"`, "peer=none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := serve(t, fmt.Sprintf(`listener "tcp" { address = "127.0.0.1:0" tls_disable = 1 %s }`, tt.setting))
			c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			code, body := get(t, c, "http://"+l.Addr().String(), "X-Forwarded-For", "192.0.2.1", "X-Cert", url.QueryEscape(string(text)))
			if code != 200 || !strings.HasSuffix(body, tt.want) {
				t.Errorf("got %d %s", code, body)
			}
		})
	}
}

// TestForwardedCertificateAbsent has a proxy with a certificate of its own pass on a client that has none.
func TestForwardedCertificateAbsent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile, own := pair(t, dir, "proxy")
	l := serve(t, fmt.Sprintf(`listener "tcp" { address = "127.0.0.1:0" tls_cert_file = %q tls_key_file = %q tls_disable_client_certs = false
  x_forwarded_for_authorized_addrs = "127.0.0.1" x_forwarded_for_client_cert_header = "X-Cert" x_forwarded_for_client_cert_header_decoders = "URL,DER" }`, certFile, keyFile))
	text, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		RootCAs: roots, Certificates: []tls.Certificate{own},
	}}}
	for want, more := range map[string][]string{"peer=none": nil, "peer=proxy": {"X-Cert", url.QueryEscape(string(text))}} {
		code, body := get(t, c, "https://"+l.Addr().String(), append(more, "X-Forwarded-For", "192.0.2.1")...)
		if code != 200 || !strings.HasSuffix(body, want) {
			t.Errorf("got %d %s, want %s", code, body, want)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	set := listener.HeaderSetter(stanza(t, `listener "tcp" { tls_disable = 1
  custom_response_headers {
    "default" = { "x-all" = ["1"], "Strict-Transport-Security" = ["max-age=1"], "X-Vault-Token" = ["no"], "Content-Length" = ["7"] }
    "4xx" = { "X-Class" = ["4"], "X-All" = ["2"] }
    "404" = { "X-All" = ["3"] }
  } }`), map[string]string{"X-Vault-Hostname": "h"})
	for _, tt := range []struct {
		code int
		want string
	}{
		{200, "map[Cache-Control:[no-store] Strict-Transport-Security:[max-age=1] X-All:[1] X-Vault-Hostname:[h]]"},
		{403, "map[Cache-Control:[no-store] Strict-Transport-Security:[max-age=1] X-All:[2] X-Class:[4] X-Vault-Hostname:[h]]"},
		{404, "map[Cache-Control:[no-store] Strict-Transport-Security:[max-age=1] X-All:[3] X-Class:[4] X-Vault-Hostname:[h]]"},
	} {
		h := http.Header{"Cache-Control": {"no-store"}}
		set(tt.code, h)
		if got := fmt.Sprint(h); got != tt.want {
			t.Errorf("%d: got  %s\nwant %s", tt.code, got, tt.want)
		}
	}
}
