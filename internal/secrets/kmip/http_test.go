package kmip_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"strings"
	"testing"

	"arca/internal/arcatest"
)

type object = map[string]any

// freeAddress is an address of this machine at which nobody listens.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	return fmt.Sprint("127.0.0.1:", arcatest.FreePort(tb))
}

// mounted is a server with the engine at kmip/, configured.
func mounted(t *testing.T) (s *arcatest.Server, address string) {
	t.Helper()
	s = arcatest.New(t, arcatest.Config{})
	address = freeAddress(t)
	s.Must("POST", "sys/mounts/kmip", s.Root, object{"type": "kmip"})
	s.Must("POST", "kmip/config", s.Root, object{"listen_addrs": address, "tls_ca_key_bits": 256, "default_tls_client_key_bits": 256})
	return s, address
}

// S2-6 to S2-9: what config takes, refuses and shows.
func TestConfig(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/mounts/kmip", s.Root, object{"type": "kmip"})
	for _, path := range []string{"kmip/config", "kmip/scope", "kmip/scope/none", "kmip/scope/none/role"} {
		method := "GET"
		if path == "kmip/scope" || strings.HasSuffix(path, "/role") {
			method = "LIST"
		}
		if code, _ := s.Do(method, path, s.Root, nil); code != 404 {
			t.Errorf("%s before the configuration: %d", path, code)
		}
	}
	if code, _ := s.Do("GET", "kmip/ca", s.Root, nil); code != 400 {
		t.Errorf("ca before the configuration: %d", code)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, in := range map[string]object{
		"no port":          {"listen_addrs": "localhost"},
		"port in use":      {"listen_addrs": taken.Addr().String()},
		"key type":         {"tls_ca_key_type": "dsa"},
		"key bits":         {"tls_ca_key_bits": 123},
		"rsa bits":         {"tls_ca_key_type": "rsa", "tls_ca_key_bits": 521},
		"TLS 1.0":          {"tls_min_version": "tls10"},
		"TLS 9":            {"tls_min_version": "tls9"},
		"max below min":    {"tls_min_version": "tls13", "tls_max_version": "tls12"},
		"suite":            {"tls_cipher_suites": "TLS_NULL"},
		"IP":               {"server_ips": "nowhere"},
		"timeout":          {"connection_timeout": "1ms"},
		"ttl":              {"default_tls_client_ttl": "-1h"},
		"client key":       {"default_tls_client_key_type": "rsa", "default_tls_client_key_bits": 256},
		"too many":         {"server_hostnames": strings.Split(strings.Repeat("a ", 40), " ")},
		"TLS 1.1 explains": {"tls_min_version": "tls11"},
	} {
		if code, out := s.Do("POST", "kmip/config", s.Root, in); code != 400 {
			t.Errorf("%s: %d %v", name, code, out)
		}
	}
	if code, _ := s.Do("GET", "kmip/config", s.Root, nil); code != 404 {
		t.Errorf("a refused configuration was kept: %d", code)
	}
	address := freeAddress(t)
	s.Must("POST", "kmip/config", s.Root, object{"listen_addrs": address, "server_hostnames": "kmip.example.com,b", "tls_ca_key_bits": 256})
	data := func() object { return arcatest.Dig(s.Must("GET", "kmip/config", s.Root, nil), "data").(object) }
	want := object{
		"listen_addrs": []any{address}, "server_hostnames": []any{"kmip.example.com", "b"}, "server_ips": []any{"127.0.0.1", "::1"},
		"tls_ca_key_type": "ec", "tls_ca_key_bits": 256, "tls_min_version": "tls12", "default_tls_client_key_type": "ec",
		"default_tls_client_key_bits": 521, "default_tls_client_ttl": 86400, "connection_timeout": 1,
	}
	if got := data(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	ca := arcatest.Dig(s.Must("GET", "kmip/ca", s.Root, nil), "data", "ca_pem")
	s.Must("POST", "kmip/config", s.Root, object{"server_hostnames": nil, "default_tls_client_ttl": "365d"})
	if got := data(); fmt.Sprint(got["server_hostnames"]) != "[localhost]" || fmt.Sprint(got["default_tls_client_ttl"]) != "31536000" {
		t.Errorf("got %v", got)
	}
	if again := arcatest.Dig(s.Must("GET", "kmip/ca", s.Root, nil), "data", "ca_pem"); again != ca {
		t.Error("the authority changed with other settings")
	}
	out := s.Must("POST", "kmip/config", s.Root, object{"tls_ca_key_type": "rsa", "tls_ca_key_bits": 2048})
	if again := arcatest.Dig(s.Must("GET", "kmip/ca", s.Root, nil), "data", "ca_pem"); again == ca || !strings.Contains(fmt.Sprint(out["warnings"]), "made anew") {
		t.Errorf("the authority was not made anew: %v", out)
	}
}

// S2-8, S2-10: a root, and an intermediate that it has signed.
func TestAuthority(t *testing.T) {
	t.Parallel()
	s, _ := mounted(t)
	text := arcatest.Dig(s.Must("GET", "kmip/ca", s.Root, nil), "data", "ca_pem").(string)
	var certs []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
	}
	if len(certs) != 2 || certs[0].CheckSignatureFrom(certs[1]) != nil || certs[1].CheckSignatureFrom(certs[1]) != nil || !certs[0].IsCA {
		t.Fatalf("%d certificates", len(certs))
	}
	root := arcatest.Dig(s.Must("GET", "kmip/ca/root", s.Root, nil), "data", "ca_pem").(string)
	if !strings.HasSuffix(text, root) {
		t.Error("the root alone is another")
	}
}

// S2-11, S2-12, S2-19, S2-21: the flags of roles, with their rules.
func TestRoles(t *testing.T) {
	t.Parallel()
	s, _ := mounted(t)
	s.Must("POST", "kmip/scope/finance", s.Root, object{"force": "true"})
	s.Must("POST", "kmip/scope/finance", s.Root, nil)
	const path = "kmip/scope/finance/role/accounting"
	if code, _ := s.Do("POST", "kmip/scope/none/role/x", s.Root, object{"operation_all": true}); code != 404 {
		t.Errorf("a role in no scope: %d", code)
	}
	if code, _ := s.Do("POST", "kmip/scope/a%20b", s.Root, nil); code != 400 {
		t.Errorf("a name with a blank: %d", code)
	}
	for _, in := range []object{
		{"operation_all": true, "operation_get": true},
		{"operation_all": true, "operation_none": true},
		{"operation_fly": true},
		{"operation_get": "perhaps"},
		{"tls_client_key_type": "ec", "tls_client_key_bits": 1},
	} {
		if code, out := s.Do("POST", path, s.Root, in); code != 400 {
			t.Errorf("%v: %d %v", in, code, out)
		}
	}
	if code, _ := s.Do("GET", path, s.Root, nil); code != 404 {
		t.Errorf("a refused role is there: %d", code)
	}
	flags := func() string {
		var out []string
		for k := range arcatest.Dig(s.Must("GET", path, s.Root, nil), "data").(object) {
			if op, ok := strings.CutPrefix(k, "operation_"); ok {
				out = append(out, op)
			}
		}
		return fmt.Sprint(sorted(out))
	}
	for _, step := range []struct {
		in   object
		want string
	}{
		{object{"operation_all": "true"}, "[all]"},
		{object{"operation_activate": true, "operation_create": "true", "operation_get": 1}, "[activate create get]"},
		{object{"operation_get": false, "operation_locate": true}, "[activate create locate]"},
		{object{"operation_create_key_pair": true}, "[activate create create_key_pair create_keypair locate]"},
		{object{"tls_client_ttl": "1h"}, "[activate create create_key_pair create_keypair locate]"},
		{object{"operation_none": true}, "[none]"},
		{object{"operation_none": false}, "[]"},
	} {
		s.Must("POST", path, s.Root, step.in)
		if got := flags(); got != step.want {
			t.Errorf("after %v: %s, want %s", step.in, got, step.want)
		}
	}
	if out := s.Must("LIST", "kmip/scope/finance/role", s.Root, nil); fmt.Sprint(arcatest.Dig(out, "data", "keys")) != "[accounting]" {
		t.Errorf("%v", out)
	}
	s.Must("DELETE", path, s.Root, nil)
	s.Must("DELETE", path, s.Root, nil)
	if code, _ := s.Do("LIST", "kmip/scope/finance/role", s.Root, nil); code != 404 {
		t.Errorf("a deleted role is listed: %d", code)
	}
}

// S2-13 to S2-15, S2-18, S2-24: certificates in all formats, for keys of the server
// and of others; looked up and revoked.
func TestCredentials(t *testing.T) {
	t.Parallel()
	s, _ := mounted(t)
	s.Must("POST", "kmip/scope/finance", s.Root, nil)
	const path = "kmip/scope/finance/role/accounting"
	s.Must("POST", path, s.Root, object{"operation_all": true})
	credential := func(in object) object {
		return arcatest.Dig(s.Must("POST", path+"/credential/generate", s.Root, in), "data").(object)
	}
	p := credential(object{"format": "pem"})
	block, _ := pem.Decode([]byte(p["certificate"].(string)))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.Subject.OrganizationalUnit) != 1 || len(cert.Subject.OrganizationalUnit[0]) != 5 || len(cert.Subject.CommonName) != 5 ||
		cert.SerialNumber.String() != p["serial_number"] || !strings.HasPrefix(p["private_key"].(string), "-----BEGIN EC PRIVATE KEY") {
		t.Errorf("%v %v", cert.Subject, p)
	}
	bundle := credential(nil)
	if n := strings.Count(bundle["certificate"].(string), "-----BEGIN"); n != 4 || !strings.HasPrefix(bundle["certificate"].(string), "-----BEGIN EC PRIVATE KEY") {
		t.Errorf("a bundle of %d: %v", n, bundle["certificate"])
	}
	der := credential(object{"format": "der", "ttl": "1h"})
	if raw, err := base64.StdEncoding.DecodeString(der["certificate"].(string)); err != nil {
		t.Error(err)
	} else if _, err := x509.ParseCertificate(raw); err != nil {
		t.Error(err)
	}
	for _, in := range []object{{"format": "p12"}, {"ttl": "0s"}, {"ttl": "1000000h"}} {
		if code, _ := s.Do("POST", path+"/credential/generate", s.Root, in); code != 400 {
			t.Errorf("%v: %d", in, code)
		}
	}
	request := func(curve elliptic.Curve, spoil bool) string {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		if spoil {
			raw[len(raw)-1] ^= 1
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: raw}))
	}
	signed := arcatest.Dig(s.Must("POST", path+"/credential/sign", s.Root, object{"csr": request(elliptic.P256(), false), "format": "pem"}), "data").(object)
	if signed["private_key"] != nil {
		t.Error("a signed certificate comes with a key")
	}
	for name, csr := range map[string]string{
		"nothing": "", "no PEM": "x", "another kind of key": request(elliptic.P384(), false), "a broken signature": request(elliptic.P256(), true), "a certificate": p["certificate"].(string),
	} {
		if code, _ := s.Do("POST", path+"/credential/sign", s.Root, object{"csr": csr}); code != 400 {
			t.Errorf("%s: %d", name, code)
		}
	}
	if n := len(arcatest.Dig(s.Must("LIST", path+"/credential", s.Root, nil), "data", "keys").([]any)); n != 4 {
		t.Errorf("%d certificates are listed", n)
	}
	serial := p["serial_number"].(string)
	found := arcatest.Dig(s.Must("GET", path+"/credential/lookup?format=pem&serial_number="+serial, s.Root, nil), "data").(object)
	if found["certificate"] != p["certificate"] || found["private_key"] != nil {
		t.Errorf("%v", found)
	}
	for _, in := range []object{{}, {"serial_number": "1"}, {"serial_number": "../1"}, {"serial_number": serial, "certificate": p["certificate"]}, {"certificate": "x"}} {
		if code, _ := s.Do("POST", path+"/credential/revoke", s.Root, in); code != 400 {
			t.Errorf("%v: %d", in, code)
		}
	}
	s.Must("POST", path+"/credential/revoke", s.Root, object{"serial_number": serial})
	s.Must("POST", path+"/credential/revoke", s.Root, object{"certificate": signed["certificate"]})
	if code, _ := s.Do("GET", path+"/credential/lookup?serial_number="+serial, s.Root, nil); code != 404 {
		t.Errorf("a revoked certificate is found: %d", code)
	}
	if n := len(arcatest.Dig(s.Must("LIST", path+"/credential", s.Root, nil), "data", "keys").([]any)); n != 2 {
		t.Errorf("%d certificates are listed", n)
	}
}

// Nobody but the engine's own listeners reaches the path of messages.
func TestMessagesOverHTTP(t *testing.T) {
	t.Parallel()
	s, _ := mounted(t)
	for _, method := range []string{"GET", "POST", "PUT"} {
		if code, out := s.Do(method, "kmip/protocol", s.Root, nil); code != 404 {
			t.Errorf("%s: %d %v", method, code, out)
		}
	}
}
