package kmip

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"arca/internal/storage"
	"arca/internal/ttlv"
)

// Whatever becomes of an object, Get by one read answers what Get by two does, or nothing.
func TestOpenMaterial(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	now := time.Now().UTC()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	do := func(fn func(b *batch) error) error {
		return x.db.Update(t.Context(), func(tx storage.Tx) error {
			return fn(&batch{e: x.e, ctx: context.Background(), call: x.call(tx, now), tx: tx, now: now, v: version{2, 1}, scope: "AAAAA", role: &role{Ops: []string{opAll}}})
		})
	}
	x.do(func(tx storage.Tx) error {
		for _, err := range []error{storage.PutJSON(tx, scopeKey("s"), scope{Version: 1, ID: "AAAAA", Retention: time.Hour}), tx.Put(scopeIDKey("AAAAA"), []byte("s"))} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	opened := 0
	for range 20 {
		var id string
		old := r.IntN(3) == 0 // kept as it was before, until it changes
		err := do(func(b *batch) error {
			attrs := []attribute{
				newAttribute(attrAlgorithm, ttlv.Enum(0, ttlv.CryptographicAlgorithmAES)), newAttribute(attrLength, ttlv.Int(0, 256)), newAttribute(attrMask, ttlv.Int(0, 12)),
			}
			for _, name := range []string{attrFresh, attrSensitive, attrExtractable} {
				if r.IntN(4) == 0 {
					attrs = append(attrs, newAttribute(name, ttlv.Bool(0, r.IntN(2) == 0)))
				}
			}
			o, node, err := b.makeSymmetric(attrs, nil)
			if err != nil {
				return err
			}
			id = o.ID
			if err := b.commit(o, node); err != nil || !old {
				return err
			}
			return b.tx.Put(materialKey("AAAAA", o.hash()), node.Append([]byte{1}))
		})
		if err != nil {
			t.Fatal(err)
		}
		uid := ttlv.Text(ttlv.TagUniqueIdentifier, id)
		payload := ttlv.Struct(ttlv.TagRequestPayload, uid)
		with := func(name string, value bool) *ttlv.Node {
			return ttlv.Struct(ttlv.TagRequestPayload, uid, ttlv.Struct(ttlv.TagAttribute, ttlv.Text(ttlv.TagAttributeName, name), ttlv.Bool(ttlv.TagAttributeValue, value)))
		}
		for range 30 {
			var step func(b *batch) (*ttlv.Node, error)
			what := ""
			switch r.IntN(8) {
			case 0, 1:
				what, step = "get", func(b *batch) (*ttlv.Node, error) { return b.get(payload) }
			case 2:
				what, step = "archive", func(b *batch) (*ttlv.Node, error) { return b.archive(payload) }
			case 3:
				what, step = "recover", func(b *batch) (*ttlv.Node, error) { return b.recover(payload) }
			case 4:
				value := r.IntN(2) == 0
				what, step = "sensitive", func(b *batch) (*ttlv.Node, error) { return b.modifyAttribute(with(attrSensitive, value)) }
			case 5:
				value := r.IntN(2) == 0
				what, step = "extractable", func(b *batch) (*ttlv.Node, error) { return b.modifyAttribute(with(attrExtractable, value)) }
			case 6:
				what, step = "destroy", func(b *batch) (*ttlv.Node, error) { return b.destroy(payload) }
			default:
				what, step = "restore", func(b *batch) (*ttlv.Node, error) { return b.restore(payload) }
			}
			if err := do(func(b *batch) error { _, err := step(b); return err }); err != nil && !isFault(err) {
				t.Fatalf("seed %d: %s: %v", seed, what, err)
			}
			err := do(func(b *batch) error {
				short, err := b.getOpen(payload)
				if err != nil {
					return err
				}
				o, node, err := b.given(payload)
				switch {
				case short == nil && err == nil && !o.truth(attrFresh) && what == "get" && !old:
					t.Errorf("seed %d: closed after %s", seed, what)
				case short == nil:
				case err != nil:
					t.Errorf("seed %d: after %s it is open, and Get is refused: %v", seed, what, err)
				case o.truth(attrFresh):
					t.Errorf("seed %d: after %s it is open, and fresh", seed, what)
				default:
					opened++
					long := response(ttlv.Enum(ttlv.TagObjectType, o.Type), idNode(o), node)
					if !bytes.Equal(short.Encode(), long.Encode()) {
						t.Errorf("seed %d: after %s:\n%x\n%x", seed, what, short.Encode(), long.Encode())
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if opened == 0 {
		t.Errorf("seed %d: never open", seed)
	}
}

// Large material, and what Get does not give as it is kept, is never open.
func TestNeverOpen(t *testing.T) {
	t.Parallel()
	key := symmetricNode(make([]byte, 32), ttlv.CryptographicAlgorithmAES, 256)
	for what, c := range map[string]struct {
		o    *object
		node *ttlv.Node
		open bool
	}{
		"key":         {&object{Type: ttlv.ObjectTypeSymmetricKey}, key, true},
		"fresh key":   {&object{Type: ttlv.ObjectTypeSymmetricKey, Attrs: []attribute{newAttribute(attrFresh, ttlv.Bool(0, true))}}, key, false},
		"private key": {&object{Type: ttlv.ObjectTypePrivateKey}, key, false},
		"large":       {&object{Type: ttlv.ObjectTypeOpaqueObject}, ttlv.Struct(ttlv.TagOpaqueObject, ttlv.Bytes(ttlv.TagOpaqueDataValue, make([]byte, maxOpen))), false},
		"opaque":      {&object{Type: ttlv.ObjectTypeOpaqueObject}, ttlv.Struct(ttlv.TagOpaqueObject, ttlv.Bytes(ttlv.TagOpaqueDataValue, make([]byte, 100))), true},
	} {
		open, n, err := decodeMaterial(c.o.encodeMaterial(c.node))
		if err != nil || open != c.open || !bytes.Equal(n.Encode(), c.node.Encode()) {
			t.Errorf("%s: open %v (%v)", what, open, err)
		}
	}
	for _, raw := range [][]byte{nil, {}, {1}, {2}, {2, 2}, {2, 2, 1}, {3, 2, 1, 0}} {
		if _, _, err := decodeMaterial(raw); err == nil {
			t.Errorf("%x is taken", raw)
		}
	}
}
