package kmip_test

import (
	"testing"

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
