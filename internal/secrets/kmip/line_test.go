package kmip_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/core"
	"arca/internal/telemetry"
	"arca/internal/ttlv"
)

// Who revokes a certificate revokes what came of it by renewal, also while connections are
// open; other certificates of the role stay. One that is forgotten takes with it what is left
// of its line.
func TestRevokeLine(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	const creds = "kmip/scope/finance/role/accounting/credential"
	_, first := certificate(t, s, "kmip", "finance", "accounting", all)
	other, otherSerial := certificate(t, s, "kmip", "finance", "accounting", all)
	renew := func(serial string) (tls.Certificate, string) {
		t.Helper()
		d := arcatest.Dig(s.Must("POST", creds+"/renew", s.Root, object{"serial_number": serial, "format": "pem"}), "data").(object)
		pair, err := tls.X509KeyPair([]byte(d["certificate"].(string)), []byte(d["private_key"].(string)))
		if err != nil {
			t.Fatal(err)
		}
		return pair, d["serial_number"].(string)
	}
	works := func(c tls.Certificate) bool {
		t.Helper()
		_, r := dial(t, address, settings(t, s, "kmip", c)).do(ttlv.OperationDiscoverVersions)
		return r == 0
	}
	_, second := renew(first)
	third, thirdSerial := renew(second)
	sibling, _ := renew(first)
	_, ofOther := renew(otherSerial)
	if info := arcatest.Dig(s.Must("LIST", creds+"?detail=true", s.Root, nil), "data", "key_info").(object); info[thirdSerial].(object)["renewed_from"] != second || info[first].(object)["renewed_from"] != nil {
		t.Errorf("the list: %v", info)
	}
	open := dial(t, address, settings(t, s, "kmip", third))
	open.must(ttlv.OperationDiscoverVersions)
	out := s.Must("POST", creds+"/revoke", s.Root, object{"serial_number": second})
	if w, _ := out["warnings"].([]any); len(w) != 1 || fmt.Sprint(arcatest.Dig(out, "data", "also_revoked")) != "["+thirdSerial+"]" {
		t.Errorf("revoked: %v", out)
	}
	if works(third) || !works(sibling) || !works(other) {
		t.Error("not the certificates that came of the revoked one, or others, too")
	}
	await(t, "the end of an open connection", func() bool {
		_, err := open.send(open.message(nil, op(ttlv.OperationDiscoverVersions)))
		return err != nil
	})
	s.Must("POST", creds+"/revoke", s.Root, object{"serial_number": first})
	if works(sibling) || !works(other) {
		t.Error("the first of a line does not take all of it")
	}
	for _, serial := range []string{first, second, thirdSerial} { // nothing is left of it
		if code, _ := s.Do("POST", creds+"/revoke", s.Root, object{"serial_number": serial}); code != 400 {
			t.Errorf("revoked again: %d", code)
		}
	}
	s.Must("POST", creds+"/revoke", s.Root, object{"serial_number": ofOther})
	if !works(other) {
		t.Error("a certificate went with what came of it")
	}
}

// Messages by the API count against the limits of their role, with those of clients, and a
// token is a client; they are in the metrics.
func TestClientAPICounts(t *testing.T) {
	t.Parallel()
	r := telemetry.New(telemetry.Config{Retention: time.Hour})
	s := arcatest.New(t, arcatest.Config{Core: core.Config{Metrics: r}})
	address := freeAddress(t)
	s.Must("POST", "sys/mounts/kmip", s.Root, object{"type": "kmip"})
	s.Must("POST", "kmip/config", s.Root, object{"listen_addrs": address, "tls_ca_key_bits": 256, "default_tls_client_key_bits": 256})
	cert, _ := certificate(t, s, "kmip", "finance", "busy", all)
	const role, api = "kmip/scope/finance/role/busy", "kmip/scope/finance/role/busy/client"
	limited := func(token string) bool {
		t.Helper()
		out := arcatest.Dig(s.Must("POST", api+"/create", token, nil), "data", "response").(string)
		return !strings.Contains(out, `<ResultStatus type="Enumeration" value="Success"/>`)
	}
	if limited(s.Root) {
		t.Error("refused without a limit")
	}
	s.Must("POST", api+"/create", s.Root, object{"length": 7}) // which fails
	s.Must("POST", role, s.Root, object{"max_operations_per_second": 1, "operation_all": true})
	c := dial(t, address, settings(t, s, "kmip", cert))
	calls := make([]call, 100)
	for i := range calls {
		calls[i] = op(ttlv.OperationDiscoverVersions)
	}
	c.batch(nil, calls...) // which is paid for for more than a minute
	if !limited(s.Root) {
		t.Error("the role's limit does not hold the API")
	}
	s.Must("POST", role, s.Root, object{"max_operations_per_second": 1_000_000, "max_operations_per_second_per_client": 1})
	s.Must("PUT", "sys/policies/acl/kmip", s.Root, object{"policy": `path "kmip/*" { capabilities = ["create", "update"] }`})
	token := arcatest.Dig(s.Must("POST", "auth/token/create", s.Root, object{"policies": []string{"kmip"}}), "auth", "client_token").(string)
	refused := 0
	for range 30 {
		if limited(token) {
			refused++
		}
	}
	if refused < 10 {
		t.Errorf("%d of 30 by one token were refused at a rate of 1", refused)
	}
	if limited(s.Root) {
		t.Error("another token is refused")
	}
	body, err := r.Prometheus()
	if err != nil {
		t.Fatal(err)
	}
	text := string(body)
	for _, part := range []string{
		`vault_kmip_operation{namespace="root",mount_point="kmip/",scope="finance",role="busy",operation="Create",result="success"}`,
		`vault_kmip_request_limited{namespace="root",mount_point="kmip/",scope="finance",role="busy"}`,
		`vault_kmip_operation_failure{namespace="root",mount_point="kmip/",reason="InvalidField"}`,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %s", part)
		}
	}
}

// A mount that does not listen holds its roles to their limits, too.
func TestClientAPIWithoutListener(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{})
	s.Must("POST", "sys/mounts/kmip", s.Root, object{"type": "kmip"})
	s.Must("POST", "kmip/scope/finance", s.Root, nil)
	s.Must("POST", "kmip/scope/finance/role/busy", s.Root, object{"operation_all": true, "max_operations_per_second": 1})
	refused := 0
	for range 30 {
		out := arcatest.Dig(s.Must("POST", "kmip/scope/finance/role/busy/client/locate", s.Root, object{"name": "x"}), "data", "response").(string)
		if !strings.Contains(out, `value="Success"`) {
			refused++
		}
	}
	if refused < 10 {
		t.Errorf("%d of 30 were refused at a rate of 1", refused)
	}
}
