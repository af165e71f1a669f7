package test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"arca/internal/arcatest"
	"arca/internal/ttlv"
)

// kmipCall sends one operation on a connection and returns its answer's item.
func kmipCall(conn io.ReadWriter, op uint32, payload ...*ttlv.Node) (*ttlv.Node, error) {
	m := ttlv.Struct(ttlv.TagRequestMessage,
		ttlv.Struct(ttlv.TagRequestHeader, ttlv.Struct(ttlv.TagProtocolVersion, ttlv.Int(ttlv.TagProtocolVersionMajor, 1), ttlv.Int(ttlv.TagProtocolVersionMinor, 4)),
			ttlv.Int(ttlv.TagBatchCount, 1)),
		ttlv.Struct(ttlv.TagBatchItem, ttlv.Enum(ttlv.TagOperation, op), ttlv.Struct(ttlv.TagRequestPayload, payload...)))
	if _, err := conn.Write(m.Encode()); err != nil {
		return nil, err
	}
	header := make([]byte, ttlv.HeaderBytes)
	if _, err := io.ReadFull(conn, header); err != nil {
		return nil, err
	}
	n, err := ttlv.Length(header)
	if err != nil {
		return nil, err
	}
	raw := append(header, make([]byte, n-len(header))...)
	if _, err := io.ReadFull(conn, raw[len(header):]); err != nil {
		return nil, err
	}
	root, err := ttlv.Decode(raw)
	return root.Get(ttlv.TagBatchItem), err
}

// KMIP on a standby: it listens, answers reads, and has the active node serve what
// writes. Its clients' connections outlast the change of roles. S2-17
func TestKMIPOnStandby(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	first := c.nodes[0]
	port := arcatest.FreePort(t)
	first.must("POST", "sys/mounts/kmip", map[string]any{"type": "kmip"})
	first.must("POST", "kmip/config", map[string]any{"listen_addrs": fmt.Sprint("127.0.0.1:", port), "tls_ca_key_bits": 256, "default_tls_client_key_bits": 256})
	first.must("POST", "kmip/scope/s", nil)
	first.must("POST", "kmip/scope/s/role/r", map[string]any{"operation_all": true})
	credential := func() map[string]any {
		t.Helper()
		return first.must("POST", "kmip/scope/s/role/r/credential/generate", map[string]any{"format": "pem"})["data"].(map[string]any)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(first.must("GET", "kmip/ca", nil)["data"].(map[string]any)["ca_pem"].(string)))
	dial := func(cred map[string]any) *tls.Conn {
		t.Helper()
		pair, err := tls.X509KeyPair([]byte(cred["certificate"].(string)), []byte(cred["private_key"].(string)))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := tls.Dial("tcp", fmt.Sprint("127.0.0.1:", port), &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: []tls.Certificate{pair}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(patience))
		return conn
	}
	cred := credential()
	conn := dial(cred)
	create := func() string {
		t.Helper()
		attr := func(name string, v *ttlv.Node) *ttlv.Node {
			return ttlv.Struct(ttlv.TagAttribute, ttlv.Text(ttlv.TagAttributeName, name), v)
		}
		out, err := kmipCall(conn, ttlv.OperationCreate, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), ttlv.Struct(ttlv.TagTemplateAttribute,
			attr("Cryptographic Algorithm", ttlv.Enum(ttlv.TagAttributeValue, ttlv.CryptographicAlgorithmAES)),
			attr("Cryptographic Length", ttlv.Int(ttlv.TagAttributeValue, 256)), attr("Cryptographic Usage Mask", ttlv.Int(ttlv.TagAttributeValue, 12))))
		if err != nil || out.Get(ttlv.TagResultReason) != nil {
			t.Fatalf("create: %v, %s", err, out.Get(ttlv.TagResultMessage).Text())
		}
		return out.Get(ttlv.TagResponsePayload).Get(ttlv.TagUniqueIdentifier).Text()
	}
	get := func(id string) {
		t.Helper()
		for range 2 { // the first writes that the key is not fresh any more, the second only reads
			out, err := kmipCall(conn, ttlv.OperationGet, ttlv.Text(ttlv.TagUniqueIdentifier, id))
			if err != nil || out.Get(ttlv.TagResultReason) != nil {
				t.Fatalf("get: %v, %s", err, out.Get(ttlv.TagResultMessage).Text())
			}
		}
	}
	get(create())
	// One of the three has the port; it is the active node now and a standby then.
	for range 3 {
		for range 5 {
			get(create())
		}
		c.leader().vault("operator", "step-down")
		for range 5 {
			get(create())
		}
		c.await(3)
	}
	// What another node takes back counts here at once, for connections that are idle.
	c.nodes[1].must("POST", "kmip/scope/s/role/r/credential/revoke", map[string]any{"serial_number": cred["serial_number"]})
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a connection at a standby outlives its certificate")
	}
	// What a standby knows of uses it says before it stops.
	conn = dial(credential())
	id := create()
	last := func(n *node) any {
		t.Helper()
		return answer{body: n.must("GET", "kmip/scope/s/object/"+id, nil)}.dig("data", "last_used", "operation")
	}
	var holder *node // of the port
	await(t, "a standby with the port", func() bool {
		get(id)
		for _, n := range c.nodes {
			if n != c.leader() && last(n) == "Get" && last(c.leader()) == nil {
				holder = n
				return true
			}
		}
		c.leader().vault("operator", "step-down") // it has the port, or the minute was over
		c.await(3)
		id = create()
		return false
	})
	holder.signal(syscall.SIGTERM)
	if code := holder.ended(); code != 0 || last(c.leader()) != "Get" {
		t.Errorf("a standby that ended (%d) has not told of a use: %v", code, last(c.leader()))
	}
}

// The doctor sees what a client sees, and says what is wrong; messages are shown
// without keys.
func TestKMIPDoctor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := newNode(t, dir, fileStorage)
	address := fmt.Sprint("127.0.0.1:", arcatest.FreePort(t))
	n.must("POST", "sys/mounts/kmip", map[string]any{"type": "kmip"})
	n.must("POST", "kmip/config", map[string]any{"listen_addrs": address, "tls_ca_key_bits": 256, "default_tls_client_key_bits": 256})
	n.must("POST", "kmip/scope/s", nil)
	n.must("POST", "kmip/scope/s/role/r", map[string]any{"operation_query": true, "operation_get": true})
	cred := n.must("POST", "kmip/scope/s/role/r/credential/generate", map[string]any{"format": "pem"})["data"].(map[string]any)
	message := ttlv.Struct(ttlv.TagResponseMessage, ttlv.Bytes(ttlv.TagKeyMaterial, []byte("secret")), ttlv.Text(ttlv.TagUniqueIdentifier, "id1")).Encode()
	for name, text := range map[string]any{
		"cert.pem": cred["certificate"], "key.pem": cred["private_key"], "ca.pem": n.must("GET", "kmip/ca", nil)["data"].(map[string]any)["ca_pem"], "m.hex": fmt.Sprintf("%x\n", message),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text.(string)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	out := n.vault("kmip", "doctor", "-ca="+at("ca.pem"), "-cert="+at("cert.pem"), "-key="+at("key.pem"), address)
	for _, want := range []string{"TLS 1.3", "2.1, 2.0, 1.4", "Get, ", "note: the client's certificate ends at"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out := n.vault("kmip", "decode", at("m.hex")); !strings.Contains(out, `value="id1"`) || strings.Contains(out, "736563726574") || strings.Contains(out, "secret\"") {
		t.Errorf("decoded: %s", out)
	}
	if out := n.vault("kmip", "decode", "-show-keys", at("m.hex")); !strings.Contains(out, "736563726574") {
		t.Errorf("decoded with keys: %s", out)
	}
}

// S2-2: the stock program of Vault configures the engine. It cannot run here; these are its
// requests, by the library that it is made of and as it makes them: values that are text whatever
// they mean, lists by LIST as GET, parameters of reading and deletion in the query.
func TestKMIPStockProgram(t *testing.T) {
	t.Parallel()
	n := newNode(t, t.TempDir(), fileStorage)
	cfg := api.DefaultConfig()
	cfg.Address = strings.TrimSuffix(n.url, "/v1/")
	client, err := api.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	client.SetToken(n.root)
	check := func(s *api.Secret, err error) map[string]any {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if s == nil {
			return nil
		}
		return s.Data
	}
	if err := client.Sys().Mount("kmip", &api.MountInput{Type: "kmip"}); err != nil {
		t.Fatal(err)
	}
	v := client.Logical()
	address := fmt.Sprint("127.0.0.1:", arcatest.FreePort(t))
	check(v.Write("kmip/config", map[string]any{
		"listen_addrs": address, "server_hostnames": "localhost,kmip.example.com", "tls_ca_key_type": "ec", "tls_ca_key_bits": "256",
		"default_tls_client_key_bits": "256", "default_tls_client_ttl": "48h",
	}))
	have := check(v.Read("kmip/config"))
	if fmt.Sprintf("%v %v %v %v", have["listen_addrs"], have["server_hostnames"], have["tls_ca_key_bits"], have["default_tls_client_ttl"]) != "["+address+"] [localhost kmip.example.com] 256 172800" {
		t.Errorf("the configuration is %v", have)
	}
	const role = "kmip/scope/finance/role/accounting"
	check(v.Write("kmip/scope/finance", map[string]any{}))
	check(v.Write(role, map[string]any{"operation_all": "true"}))
	for path, want := range map[string]string{"kmip/scope": "[finance]", "kmip/scope/finance/role": "[accounting]"} {
		if got := check(v.List(path)); fmt.Sprint(got["keys"]) != want {
			t.Errorf("%s has %v", path, got)
		}
	}
	if got := check(v.Read(role)); got["operation_all"] != true {
		t.Errorf("the role is %v", got)
	}
	cred := check(v.Write(role+"/credential/generate", map[string]any{"format": "pem"}))
	serial := fmt.Sprint(cred["serial_number"])
	if got := check(v.ReadWithData(role+"/credential/lookup", map[string][]string{"serial_number": {serial}, "format": {"pem"}})); got["certificate"] != cred["certificate"] || got["private_key"] != nil {
		t.Errorf("looked up, the certificate is %v", got)
	}
	pair, err := tls.X509KeyPair([]byte(cred["certificate"].(string)), []byte(cred["private_key"].(string)))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(check(v.Read("kmip/ca"))["ca_pem"].(string)))
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool, ServerName: "kmip.example.com", Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	it, err := kmipCall(conn, ttlv.OperationRegister, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeOpaqueObject), ttlv.Struct(ttlv.TagTemplateAttribute),
		ttlv.Struct(ttlv.TagOpaqueObject, ttlv.Enum(ttlv.TagOpaqueDataType, 0x80000001), ttlv.Bytes(ttlv.TagOpaqueDataValue, []byte("wallet"))))
	if err != nil || it.Get(ttlv.TagResultReason) != nil {
		t.Fatalf("register: %v %s", err, it.Get(ttlv.TagResultMessage).Text())
	}
	if _, err := v.Delete("kmip/scope/finance"); err == nil {
		t.Error("a scope with an object was deleted without force")
	}
	check(v.Write(role+"/credential/revoke", map[string]any{"serial_number": serial}))
	if s, err := v.List(role + "/credential"); err != nil || s != nil {
		t.Errorf("after that, the list is %v %v", s, err)
	}
	check(v.Delete(role))
	check(v.DeleteWithData("kmip/scope/finance", map[string][]string{"force": {"true"}}))
	if err := client.Sys().Unmount("kmip"); err != nil {
		t.Fatal(err)
	}
}
