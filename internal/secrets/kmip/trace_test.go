package kmip_test

import (
	"fmt"
	"strings"
	"testing"

	"arca/internal/arcatest"
	"arca/internal/ttlv"
)

// What a client uses and what failed is there to be asked for, and its messages where
// somebody wants them; no key is in either.
func TestClientLogAndTrace(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, serial := certificate(t, s, "kmip", "finance", "accounting", all)
	if code, _ := s.Do("LIST", "kmip/client", s.Root, nil); code != 404 {
		t.Errorf("clients, before one has come: %d", code)
	}
	c := dial(t, address, settings(t, s, "kmip", cert))
	id := c.create(name("k1"))
	c.do(ttlv.OperationGet, uid("none"))
	c.ver = [2]int32{2, 0}
	c.must(ttlv.OperationPing)
	c.ver = [2]int32{1, 4}
	one := arcatest.Dig(s.Must("GET", "kmip/client/"+serial, s.Root, nil), "data").(object)
	if got := fmt.Sprint(one["scope"], one["role"], one["messages"], one["protocol_versions"], one["operations"], one["failed_operations"], one["remote_address"]); got != "financeaccounting3[1.4 2.0] map[Create:1 Get:1 Ping:1]1127.0.0.1" {
		t.Errorf("%s", got)
	}
	if e := one["last_error"].(object); e["operation"] != "Get" || e["reason"] != "ItemNotFound" {
		t.Errorf("last error %v", e)
	}
	if keys := arcatest.Dig(s.Must("LIST", "kmip/client", s.Root, nil), "data", "keys").([]any); len(keys) != 1 || keys[0] != serial {
		t.Errorf("clients %v", keys)
	}
	if code, _ := s.Do("GET", "kmip/client/1", s.Root, nil); code != 404 {
		t.Errorf("a client that never came: %d", code)
	}

	if code, _ := s.Do("GET", "kmip/trace/"+serial, s.Root, nil); code != 404 {
		t.Errorf("no trace yet: %d", code)
	}
	s.Must("POST", "kmip/trace/"+serial, s.Root, object{"duration": "1h"})
	key := c.must(ttlv.OperationGet, uid(id)).Get(ttlv.TagSymmetricKey).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial).Bytes
	list := arcatest.Dig(s.Must("GET", "kmip/trace/"+serial, s.Root, nil), "data", "messages").([]any)
	if len(list) != 1 {
		t.Fatalf("%d messages", len(list))
	}
	text := fmt.Sprint(list[0])
	for _, want := range []string{`<Operation type="Enumeration" value="Get"/>`, id, "(left out)", "request_hex", "response_hex"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", key)) {
		t.Error("a key is in the trace")
	}
	s.Must("DELETE", "kmip/trace/"+serial, s.Root, nil)
	c.must(ttlv.OperationGet, uid(id))
	if code, _ := s.Do("GET", "kmip/trace/"+serial, s.Root, nil); code != 404 {
		t.Errorf("after the end: %d", code)
	}
	for path, body := range map[string]object{"kmip/trace/x": nil, "kmip/trace/" + serial: {"duration": "0s"}} {
		if code, _ := s.Do("POST", path, s.Root, body); code != 400 {
			t.Errorf("%s %v: %d", path, body, code)
		}
	}
}
