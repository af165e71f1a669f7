package kmip

import (
	"fmt"
	"testing"
	"time"

	"arca/internal/storage"
	"arca/internal/ttlv"
)

// A name leads to its object by one read; where that is not noted, or not true any more, the index
// decides, as it did before.
func TestByName(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	now := time.Now().UTC()
	nameValue := func(name string) *ttlv.Node {
		return ttlv.Struct(0, ttlv.Text(ttlv.TagNameValue, name), ttlv.Enum(ttlv.TagNameType, 1))
	}
	act := func(fn func(b *batch) error) {
		t.Helper()
		x.do(func(tx storage.Tx) error {
			return fn(&batch{e: x.e, ctx: t.Context(), call: x.call(tx, now), tx: tx, now: now, v: version{1, 4}, scope: "AAAAA", role: &role{Ops: []string{opAll}}})
		})
	}
	ids := map[string]string{}
	create := func(label string, more ...attribute) {
		t.Helper()
		act(func(b *batch) error {
			o, node, err := b.makeSymmetric(append([]attribute{
				newAttribute(attrAlgorithm, ttlv.Enum(0, ttlv.CryptographicAlgorithmAES)), newAttribute(attrLength, ttlv.Int(0, 256)), newAttribute(attrMask, ttlv.Int(0, 12)),
				newAttribute(attrName, nameValue(label)),
			}, more...), nil)
			if err != nil {
				return err
			}
			ids[label] = o.ID
			return b.commit(o, node)
		})
	}
	criterion := func(name string, value *ttlv.Node) *ttlv.Node {
		return ttlv.Struct(ttlv.TagAttribute, ttlv.Text(ttlv.TagAttributeName, name), value.Retag(ttlv.TagAttributeValue))
	}
	finds := func(what, want string, criteria ...*ttlv.Node) {
		t.Helper()
		act(func(b *batch) error {
			out, err := b.locate(ttlv.Struct(ttlv.TagRequestPayload, criteria...))
			if err != nil {
				return err
			}
			var got []string
			for _, n := range out.All(ttlv.TagUniqueIdentifier) {
				got = append(got, n.Text())
			}
			if fmt.Sprint(got) != "["+want+"]" || out.Get(ttlv.TagLocatedItems).Int != int64(len(got)) {
				t.Errorf("%s: located %v, want %s", what, got, want)
			}
			return nil
		})
	}
	of := func(label string) *ttlv.Node { return criterion(attrName, nameValue(label)) }
	group := func(label string) *ttlv.Node { return criterion(attrGroup, ttlv.Text(0, label)) }
	forget := func(key string) {
		act(func(b *batch) error { return b.tx.Delete(key) })
	}
	indexOfName := func(label string) string { return valueDir("AAAAA", hashed(attrName, label)) }
	noted := func(label string) string { return nameKey("AAAAA", hashed(attrName, label)) }

	create("a", newAttribute(attrGroup, ttlv.Text(0, "g")))
	create("b", newAttribute(attrGroup, ttlv.Text(0, "g")))
	finds("a name", ids["a"], of("a"))
	finds("a name behind a group", ids["b"], group("g"), of("b"))
	finds("a name of another group", "", of("a"), group("h"))
	finds("a name that is no URI", "", criterion(attrName, ttlv.Struct(0, ttlv.Text(ttlv.TagNameValue, "a"), ttlv.Enum(ttlv.TagNameType, 2))))
	finds("no name", "", of("c"))

	act(func(b *batch) error { // only what is noted leads there
		for kv, err := range b.tx.Scan(indexOfName("a"), "") {
			if err != nil {
				return err
			}
			return b.tx.Delete(kv.Key)
		}
		return nil
	})
	finds("a name that is not in the index", ids["a"], of("a"))
	forget(noted("b"))
	finds("a name that is not noted", ids["b"], of("b"))
	act(func(b *batch) error { return b.tx.Put(noted("b"), []byte(hashed(ids["a"]))) })
	finds("a name that is noted of another", ids["b"], of("b"))
	act(func(b *batch) error { return b.tx.Put(noted("b"), []byte(hashed("nobody"))) })
	finds("a name that is noted of nobody", ids["b"], of("b"))

	create("old")
	act(func(b *batch) error {
		_, err := b.modifyAttribute(ttlv.Struct(ttlv.TagRequestPayload, ttlv.Text(ttlv.TagUniqueIdentifier, ids["old"]), of("new")))
		return err
	})
	finds("a name that was changed", "", of("old"))
	finds("the name it has now", ids["old"], of("new"))
	var next string
	act(func(b *batch) error {
		out, err := b.rekey(ttlv.Struct(ttlv.TagRequestPayload, ttlv.Text(ttlv.TagUniqueIdentifier, ids["old"])))
		next = out.Get(ttlv.TagUniqueIdentifier).Text()
		return err
	})
	finds("the name of a key that was replaced", next, of("new"))
	act(func(b *batch) error {
		_, err := b.destroy(ttlv.Struct(ttlv.TagRequestPayload, ttlv.Text(ttlv.TagUniqueIdentifier, next)))
		return err
	})
	finds("the name of a key that was destroyed", "", of("new"))
	if n := x.count(nameDir); n != 2 { // of a, and what was put there for b
		t.Errorf("%d names are noted", n)
	}
	create("new")
	finds("a name that is free again", ids["new"], of("new"))
	if x.count(nameDir) != 3 {
		t.Errorf("%d names are noted", x.count(nameDir))
	}
}
