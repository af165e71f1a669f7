package kmip_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"arca/internal/ttlv"
)

// An elsewhere is an authority that is not ours.
type elsewhere struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "theirs"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &elsewhere{cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

func (e *elsewhere) client(t *testing.T, subject pkix.Name) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, e.cert, key.Public(), e.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// S2-10: authorities with names, generated and imported, and listeners that have them.
func TestNamedAuthorities(t *testing.T) {
	t.Parallel()
	s, _ := mounted(t)
	second := freeAddress(t)
	must := func(method, path string, body object) object {
		t.Helper()
		out, _ := s.Must(method, path, s.Root, body)["data"].(object)
		return out
	}
	refused := func(method, path string, body object) {
		t.Helper()
		if code, _ := s.Do(method, path, s.Root, body); code != 400 {
			t.Errorf("%s %s %v: %d", method, path, body, code)
		}
	}
	made := must("POST", "kmip/ca/own/generate", object{"key_type": "ec", "key_bits": 256})
	if made["imported"] != false || made["certificate"] == "" || made["private_key"] != nil {
		t.Errorf("generated: %v", made)
	}
	refused("POST", "kmip/ca/own/generate", object{"key_type": "ec", "key_bits": 256})
	refused("POST", "kmip/ca/x/generate", object{"key_type": "ec"})
	refused("POST", "kmip/ca/own", object{"scope_name": "s"})
	theirs := newElsewhere(t)
	refused("POST", "kmip/ca/theirs/import", object{"ca_pem": theirs.pem, "scope_name": "finance"})
	refused("POST", "kmip/ca/theirs/import", object{"ca_pem": theirs.pem, "scope_name": "finance", "scope_field": "O", "role_field": "CN"})
	refused("POST", "kmip/ca/theirs/import", object{"ca_pem": "nothing", "scope_name": "finance", "role_field": "CN"})
	must("POST", "kmip/ca/theirs/import", object{"ca_pem": theirs.pem, "scope_name": "finance", "role_field": "CN"})
	refused("POST", "kmip/listener/l", object{"ca": "theirs", "address": second})
	refused("POST", "kmip/listener/l", object{"ca": "none", "address": second})
	must("POST", "kmip/listener/l", object{"ca": "own", "address": second, "server_hostnames": "localhost", "additional_client_cas": "theirs"})
	refused("POST", "kmip/config", object{"listen_addrs": second})
	refused("DELETE", "kmip/ca/own", nil)
	refused("DELETE", "kmip/ca/theirs", nil)
	if l := must("GET", "kmip/listener/l", nil); l["address"] != second || l["also_use_legacy_ca"] != false {
		t.Errorf("listener: %v", l)
	}

	must("POST", "kmip/scope/finance", nil)
	must("POST", "kmip/scope/finance/role/accounting", object{"operation_all": true, "ca": "own"})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(made["ca_pem"].(string)))
	connect := func(cert tls.Certificate) *client {
		return dial(t, second, &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: []tls.Certificate{cert}})
	}
	generate := func() tls.Certificate {
		cred := must("POST", "kmip/scope/finance/role/accounting/credential/generate", object{"format": "pem"})
		if chain := cred["ca_chain"].([]any); len(chain) != 1 {
			t.Errorf("a chain of %d", len(chain))
		}
		pair, err := tls.X509KeyPair([]byte(cred["certificate"].(string)), []byte(cred["private_key"].(string)))
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	first := generate()
	id := connect(first).create(name("k"))
	imported := connect(theirs.client(t, pkix.Name{CommonName: "accounting"}))
	if got := imported.must(ttlv.OperationLocate, name("k")).Get(ttlv.TagUniqueIdentifier).Text(); got != id {
		t.Errorf("another authority's client locates %q", got)
	}
	for _, subject := range []pkix.Name{{CommonName: "nobody"}, {Organization: []string{"accounting"}}} {
		connect(theirs.client(t, subject)).fails(ttlv.ResultReasonPermissionDenied, ttlv.OperationDiscoverVersions)
	}
	legacy, _ := certificate(t, s, "kmip", "finance", "old", all)
	if conn, err := tls.Dial("tcp", second, &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: []tls.Certificate{legacy}}); err == nil {
		if _, err := (&client{t, conn, [2]int32{1, 4}}).send((&client{ver: [2]int32{1, 4}}).message(nil, op(ttlv.OperationDiscoverVersions))); err == nil {
			t.Error("the mount's own authority is believed without being asked")
		}
		_ = conn.Close()
	}
	must("POST", "kmip/ca/own/rotate", object{"grace": "1h"})
	pool.AppendCertsFromPEM([]byte(must("GET", "kmip/ca/own", nil)["ca_pem"].(string)))
	connect(first).must(ttlv.OperationGet, uid(id)) // of the former key
	connect(generate()).must(ttlv.OperationGet, uid(id))

	must("POST", "kmip/ca/theirs", object{"role_name": "accounting", "scope_field": "O"})
	connect(theirs.client(t, pkix.Name{Organization: []string{"finance"}, CommonName: "anybody"})).must(ttlv.OperationGet, uid(id))
	imported.ends("whose name leads nowhere any more")
	must("DELETE", "kmip/listener/l", nil)
	must("DELETE", "kmip/ca/theirs", nil)
	refused("DELETE", "kmip/ca/own", nil) // a role has it
	must("POST", "kmip/scope/finance/role/accounting", object{"ca": ""})
	must("DELETE", "kmip/ca/own", nil)
}
