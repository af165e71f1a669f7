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
