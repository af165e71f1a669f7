package kmip_test

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/core"
	"arca/internal/telemetry"
	"arca/internal/ttlv"
)

// What comes to the listeners is in sys/metrics: operations by how they ended and whose
// they were, connections, and those that did not come to be.
func TestMetrics(t *testing.T) {
	t.Parallel()
	r := telemetry.New(telemetry.Config{Retention: time.Hour})
	s := arcatest.New(t, arcatest.Config{Core: core.Config{Metrics: r}})
	address := freeAddress(t)
	s.Must("POST", "sys/mounts/kmip", s.Root, object{"type": "kmip"})
	s.Must("POST", "kmip/config", s.Root, object{"listen_addrs": address, "tls_ca_key_bits": 256, "default_tls_client_key_bits": 256})
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", object{"operation_create": true, "operation_get": true, "operation_destroy": true})
	cfg := settings(t, s, "kmip", cert)
	c := dial(t, address, cfg)
	id := c.create()
	c.must(ttlv.OperationGet, uid(id))
	c.do(ttlv.OperationGet, uid("nobody"))
	c.do(ttlv.OperationLocate)
	c.do(0xfff)
	c.batch(nil, op(ttlv.OperationGet, uid(id)), op(ttlv.OperationDestroy, uid("nobody")), op(ttlv.OperationGet, uid(id)))
	undo := ttlv.Enum(ttlv.TagBatchErrorContinuationOption, ttlv.BatchErrorContinuationOptionUndo)
	c.batch([]*ttlv.Node{undo}, op(ttlv.OperationCreate, aes(12)...), op(ttlv.OperationDestroy, uid("nobody")))

	if bare, err := net.Dial("tcp", address); err == nil {
		_, _ = bare.Write([]byte("HELO there, this is no TLS at all\r\n"))
		_, _ = bare.Read(make([]byte, 64))
		_ = bare.Close()
	}
	none := cfg.Clone()
	none.Certificates = nil
	if conn, err := tls.Dial("tcp", address, none); err == nil {
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	gone, serial := certificate(t, s, "kmip", "finance", "gone", object{"operation_all": true})
	s.Must("POST", "kmip/scope/finance/role/gone/credential/revoke", s.Root, object{"serial_number": serial})
	dial(t, address, settings(t, s, "kmip", gone)).do(ttlv.OperationDiscoverVersions)

	where := `namespace="root",mount_point="kmip/"`
	whose := where + `,scope="finance",role="accounting",operation=`
	want := map[string]string{
		"vault_kmip_operation{" + whose + `"Create",result="success"}`:               "1",
		"vault_kmip_operation{" + whose + `"Create",result="undone"}`:                "1",
		"vault_kmip_operation{" + whose + `"Get",result="success"}`:                  "2",
		"vault_kmip_operation{" + whose + `"Get",result="failure"}`:                  "1",
		"vault_kmip_operation{" + whose + `"Destroy",result="failure"}`:              "2",
		"vault_kmip_operation{" + whose + `"Locate",result="failure"}`:               "1",
		"vault_kmip_operation{" + whose + `"unknown",result="failure"}`:              "1",
		"vault_kmip_operation_failure{" + where + `,reason="ItemNotFound"}`:          "3",
		"vault_kmip_operation_failure{" + where + `,reason="PermissionDenied"}`:      "2",
		"vault_kmip_operation_failure{" + where + `,reason="OperationNotSupported"}`: "1",
		"vault_kmip_request_count{" + where + `,operation="several"}`:                "2",
		"vault_kmip_request_count{" + where + `,operation="Get"}`:                    "2",
		"vault_kmip_connection_accepted{" + where + "}":                              "4",
		"vault_kmip_handshake_failure{" + where + `,reason="no_tls"}`:                "1",
		"vault_kmip_handshake_failure{" + where + `,reason="certificate_missing"}`:   "1",
		"vault_kmip_authentication_failure{" + where + "}":                           "1",
	}
	read := func() map[string]string {
		body, err := r.Prometheus()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for line := range strings.Lines(string(body)) {
			if at := strings.LastIndexByte(line, ' '); at > 0 && !strings.HasPrefix(line, "#") {
				out[line[:at]] = strings.TrimSpace(line[at:])
			}
		}
		return out
	}
	var got map[string]string
	for range 2000 { // the last handshakes are counted a moment later
		if got = read(); got["vault_kmip_handshake_failure{"+where+`,reason="certificate_missing"}`] != "" {
			break
		}
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s is %q, want %s", name, got[name], n)
		}
	}
	for name := range got {
		if strings.Contains(name, id) || strings.Contains(name, serial) {
			t.Errorf("a series by what has no bound: %s", name)
		}
	}
	if got["vault_kmip_connection_open{"+where+"}"] == "" {
		t.Error("open connections are not told")
	}
}
