package kmip_test

import (
	"net"
	"testing"
	"time"

	"arca/internal/ttlv"
)

// Operators see when an object was used last and by whom: uses that succeeded, before and after
// the node has stopped.
func TestLastUsed(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, serial := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	id := c.create(name("key"))
	last := func() object {
		t.Helper()
		out, _ := s.Must("GET", "kmip/scope/finance/object/"+id, s.Root, nil)["data"].(object)["last_used"].(object)
		return out
	}
	c.must(ttlv.OperationGetAttributes, uid(id))
	c.must(ttlv.OperationLocate, name("key"))
	if got := last(); got != nil {
		t.Fatalf("attributes are no use: %v", got)
	}
	if _, r := c.do(ttlv.OperationEncrypt, uid(id), ttlv.Bytes(ttlv.TagData, []byte("x"))); r == 0 {
		t.Fatal("a pre-active key encrypts")
	}
	if _, r := c.do(ttlv.OperationGet, uid(id), ttlv.Enum(ttlv.TagKeyFormatType, ttlv.KeyFormatTypePKCS_1)); r == 0 {
		t.Fatal("an AES key in PKCS #1")
	}
	undo := ttlv.Enum(ttlv.TagBatchErrorContinuationOption, ttlv.BatchErrorContinuationOptionUndo)
	c.batch([]*ttlv.Node{undo}, op(ttlv.OperationGet, uid(id)), op(ttlv.OperationGet, uid("none")))
	if got := last(); got != nil {
		t.Fatalf("what failed is no use: %v", got)
	}
	began := time.Now().UTC().Truncate(time.Second)
	c.must(ttlv.OperationGet, uid(id))
	check := func(when, operation, by string) {
		t.Helper()
		got := last()
		at, err := time.Parse(time.RFC3339, got["time"].(string))
		if err != nil || at.Before(began) || at.After(time.Now()) || got["operation"] != operation || got["role"] != "accounting" || by != "" && got["serial_number"] != by {
			t.Errorf("%s: %v (%v)", when, got, err)
		}
		if _, there := got["serial_number"]; by == "" && there {
			t.Errorf("%s: by %v", when, got["serial_number"])
		}
	}
	check("after Get", "Get", serial)
	s.Restart()
	check("after a stop", "Get", serial)
	await(t, "the listener", func() bool { // before that, the mount's uses are not noted
		conn, err := net.Dial("tcp", address)
		return err == nil && conn.Close() == nil
	})
	s.Must("POST", "kmip/scope/finance/role/accounting/client/get", s.Root, object{"unique_identifier": id})
	check("by HTTP", "Get", "")
	info := s.Must("LIST", "kmip/scope/finance/object?detail=true", s.Root, nil)["data"].(object)["key_info"].(object)[id].(object)
	if u, _ := info["last_used"].(object); u["operation"] != "Get" {
		t.Errorf("listed: %v", info)
	}
	info = s.Must("LIST", "kmip/scope/finance/object", s.Root, nil)["data"].(object)["key_info"].(object)[id].(object)
	if _, there := info["last_used"]; there {
		t.Error("shown without detail")
	}
}
