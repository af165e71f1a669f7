package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// certify writes a new self-signed certificate and key.
func certify(t *testing.T, dir, name string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "vault.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	put(t, filepath.Join(dir, "vault.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})))
}

// shown is the name in the certificate that a server shows.
func shown(t *testing.T, addr string) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// S4-13: SIGHUP reads certificate, key, log level and log file again, and the
// process goes on.
func TestReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certify(t, dir, "one")
	config := "disable_mlock = true\nstorage \"inmem\" {}\nlog_file = \"server.log\"\nlog_level = \"debug\"\n" +
		`listener "tcp" { address = "127.0.0.1:0" tls_cert_file = "vault.crt" tls_key_file = "vault.key" }`
	put(t, filepath.Join(dir, "vault.hcl"), config)
	p := launch(t, dir, nil, "-config", "vault.hcl")
	addr := p.address(0)
	p.says("expires on") // the check at start: an hour is not long
	if got := shown(t, addr); got != "one" {
		t.Errorf("got %s", got)
	}
	if err := os.Rename(filepath.Join(dir, "server.log"), filepath.Join(dir, "server.log.1")); err != nil {
		t.Fatal(err)
	}
	certify(t, dir, "two")
	put(t, filepath.Join(dir, "vault.hcl"), strings.Replace(config, `"debug"`, `"warn"`, 1))
	p.signal(syscall.SIGHUP)
	p.says("==> Vault reload triggered")
	await(t, "the new certificate", func() bool { return shown(t, addr) == "two" })
	await(t, "the new log file", func() bool { _, err := os.Stat(filepath.Join(dir, "server.log")); return err == nil })

	// What is broken stays as it was.
	put(t, filepath.Join(dir, "vault.crt"), "nonsense")
	put(t, filepath.Join(dir, "vault.hcl"), "storage \"inmem\" {")
	p.signal(syscall.SIGHUP)
	p.says("reload: what=configuration")
	p.says("reload: what=certificate")
	if got := shown(t, addr); got != "two" {
		t.Errorf("got %s", got)
	}
	text, err := os.ReadFile(filepath.Join(dir, "server.log"))
	if err != nil || strings.Contains(string(text), "[INFO]") || !strings.Contains(string(text), "reload: what=certificate") {
		t.Errorf("log at warn: %q, %v", text, err)
	}
	p.signal(syscall.SIGTERM)
	if code := p.ended(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// S4-12: a service manager is told, if there is one that listens.
func TestNotify(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "n")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = manager.Close() })
	hear := func(want string) {
		t.Helper()
		buf := make([]byte, 200)
		if err := manager.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, err := manager.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), want) {
			t.Fatalf("got %q, %v, want %s", buf[:n], err, want)
		}
	}
	p := launch(t, t.TempDir(), []string{"NOTIFY_SOCKET=" + path}, "-dev", "-dev-listen-address=127.0.0.1:0")
	hear("READY=1")
	p.signal(syscall.SIGHUP)
	hear("RELOADING=1\nMONOTONIC_USEC=")
	hear("READY=1")
	p.signal(syscall.SIGINT)
	hear("STOPPING=1")
	p.ended()

	// A manager that is gone is no reason to fail.
	q := launch(t, t.TempDir(), []string{"NOTIFY_SOCKET=/nosuch/socket"}, "-dev", "-dev-listen-address=127.0.0.1:0")
	q.says("server started!")
}

func TestStacks(t *testing.T) {
	t.Parallel()
	p := launch(t, t.TempDir(), nil, "-dev", "-dev-listen-address=127.0.0.1:0")
	p.says("server started!")
	p.signal(syscall.SIGUSR2)
	p.says("goroutine ")
	if _, _, m := call(t, plain(), "GET", p.devAddr()+"/v1/sys/health", "", ""); m["initialized"] != true {
		t.Errorf("got %v", m)
	}
}

func (p *process) devAddr() string {
	p.t.Helper()
	const mark = "export VAULT_ADDR='"
	p.says(mark)
	_, rest, _ := strings.Cut(p.output(), mark)
	addr, _, _ := strings.Cut(rest, "'")
	return addr
}

func TestListenerSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := started(t, dir, fmt.Sprintf(`disable_mlock = true
storage "inmem" {}
enable_response_header_hostname = true
listener "tcp" {
  address = "127.0.0.1:0" tls_disable = 1 max_request_size = 100
  custom_response_headers { "default" = { "X-Mine" = ["1"] } "4xx" = { "X-Bad" = ["yes"] } }
}
listener "tcp" { address = "127.0.0.1:0" tls_disable = 1 require_request_header = true }
listener "unix" { address = %q }
`, filepath.Join(dir, "s")))
	code, h, _ := call(t, plain(), "GET", "http://"+p.address(0)+"/v1/sys/seal-status", "", "")
	if code != 200 || h.Get("X-Mine") != "1" || h.Get("Cache-Control") != "no-store" || h.Get("X-Vault-Hostname") == "" ||
		h.Get("Strict-Transport-Security") == "" || h.Get("X-Bad") != "" {
		t.Errorf("got %d %v", code, h)
	}
	code, h, _ = call(t, plain(), "PUT", "http://"+p.address(0)+"/v1/sys/unseal", "", `{"key":"`+strings.Repeat("a", 200)+`"}`)
	if code != 413 || h.Get("X-Bad") != "yes" {
		t.Errorf("a body too large: %d %v", code, h)
	}
	code, _, m := call(t, plain(), "GET", "http://"+p.address(1)+"/v1/sys/seal-status", "", "")
	if code != 412 {
		t.Errorf("without X-Vault-Request: %d %v", code, m)
	}
	if p.address(2) != filepath.Join(dir, "s") {
		t.Errorf("unix: %s", p.address(2))
	}
}
