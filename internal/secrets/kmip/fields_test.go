package kmip_test

import (
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/ttlv"
)

// A field that an operation does not have is refused, and so is one that is there
// twice; nothing is ignored.
func TestFields(t *testing.T) {
	t.Parallel()
	c, old := v2(t, all)
	old.ver = [2]int32{1, 4}
	id := old.create()
	for _, x := range []struct {
		who     *client
		what    string
		want    uint32
		code    uint32
		payload []*ttlv.Node
	}{
		{old, "a field of another operation", ttlv.ResultReasonInvalidField, ttlv.OperationGet, []*ttlv.Node{uid(id), ttlv.Bytes(ttlv.TagSalt, []byte("x"))}},
		{old, "an extension", ttlv.ResultReasonInvalidField, ttlv.OperationGet, []*ttlv.Node{uid(id), ttlv.Text(0x540001, "x")}},
		{old, "a field of a newer version", ttlv.ResultReasonInvalidField, ttlv.OperationCreate, aes2(12)},
		{old, "a field twice", ttlv.ResultReasonInvalidMessage, ttlv.OperationGet, []*ttlv.Node{uid(id), uid(id)}},
		{old, "something where nothing is", ttlv.ResultReasonInvalidField, ttlv.OperationQuery, []*ttlv.Node{uid(id)}},
		{c, "a field of another operation", ttlv.ResultReasonUnknownTag, ttlv.OperationPing, []*ttlv.Node{uid(id)}},
		{c, "a field twice", ttlv.ResultReasonInvalidMessage, ttlv.OperationCreate, append(aes2(12), ttlv.Struct(ttlv.TagAttributes))},
	} {
		if out, r := x.who.do(x.code, x.payload...); r != x.want {
			t.Errorf("KMIP %v, %s: %d (%s), want %d", x.who.ver, x.what, r, out.Get(ttlv.TagResultMessage).Text(), x.want)
		}
	}
	if n := len(old.must(ttlv.OperationLocate).All(ttlv.TagUniqueIdentifier)); n != 1 {
		t.Errorf("%d objects: what was refused has left something behind", n)
	}
}

// In a scope that is frozen, clients read and use what is there, and change nothing.
func TestFrozen(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	cert, _ := certificate(t, s, "kmip", "finance", "accounting", all)
	c := dial(t, address, settings(t, s, "kmip", cert))
	id := c.create(attr("Activation Date", ttlv.Time(0, time.Now().Add(-time.Minute))))
	s.Must("POST", "kmip/scope/finance", s.Root, object{"frozen": true})
	if out := arcatest.Dig(s.Must("GET", "kmip/scope/finance", s.Root, nil), "data").(object); out["frozen"] != true {
		t.Errorf("%v", out)
	}
	for _, x := range []call{
		op(ttlv.OperationCreate, aes(12)...), op(ttlv.OperationRevoke, uid(id), reason(1)), op(ttlv.OperationAddAttribute, uid(id), attr("x-a", ttlv.Text(0, "b"))),
		op(ttlv.OperationReKey, uid(id)),
	} {
		if _, r := c.do(x.op, x.payload...); r != ttlv.ResultReasonPermissionDenied {
			t.Errorf("operation %d: %d", x.op, r)
		}
	}
	c.must(ttlv.OperationGet, uid(id))
	c.must(ttlv.OperationLocate)
	c.must(ttlv.OperationEncrypt, uid(id), params(mode(ttlv.BlockCipherModeGCM)), ttlv.Bytes(ttlv.TagData, []byte("x")))
	s.Must("POST", "kmip/scope/finance", s.Root, nil)
	if _, r := c.do(ttlv.OperationCreate, aes(12)...); r != ttlv.ResultReasonPermissionDenied {
		t.Errorf("a write that says nothing of it has thawed the scope: %d", r)
	}
	s.Must("POST", "kmip/scope/finance", s.Root, object{"frozen": false})
	c.create()
}
