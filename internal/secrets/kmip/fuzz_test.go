package kmip

import (
	"testing"

	"arca/internal/ttlv"
)

// What one padding adds, it takes away; what is no padding is refused.
func FuzzPadding(f *testing.F) {
	f.Add([]byte("hello"), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, method uint8) {
		m := uint32(method % 12)
		padded, err := pad(in, 16, m)
		if err == nil {
			back, err := unpad(padded, 16, m)
			if len(padded)%16 != 0 || err != nil || m != ttlv.PaddingMethodZeros && string(back) != string(in) {
				t.Fatalf("%x by %d: %x, %v", in, m, back, err)
			}
		}
		_, _ = unpad(in, 16, m) // whatever it is, it ends
	})
}

// Whatever arrives is taken apart, or refused with a reason, without a panic; and
// so are the attributes and keys in it.
func FuzzMessage(f *testing.F) {
	version14 := ttlv.Struct(ttlv.TagProtocolVersion, ttlv.Int(ttlv.TagProtocolVersionMajor, 1), ttlv.Int(ttlv.TagProtocolVersionMinor, 4))
	key := symmetricNode(make([]byte, 16), ttlv.CryptographicAlgorithmAES, 128)
	name := newAttribute(attrName, ttlv.Struct(0, ttlv.Text(ttlv.TagNameValue, "n"), ttlv.Enum(ttlv.TagNameType, 1)))
	attr := name.show()
	f.Add(ttlv.Struct(ttlv.TagRequestMessage, ttlv.Struct(ttlv.TagRequestHeader, version14, ttlv.Int(ttlv.TagBatchCount, 1)),
		ttlv.Struct(ttlv.TagBatchItem, ttlv.Enum(ttlv.TagOperation, ttlv.OperationRegister), ttlv.Struct(ttlv.TagRequestPayload,
			ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), ttlv.Struct(ttlv.TagTemplateAttribute, attr), key))).Encode())
	ops := New().ops
	f.Fuzz(func(t *testing.T, raw []byte) {
		root, err := ttlv.Decode(raw)
		if err != nil {
			return
		}
		m, fault := parseMessage(ops, root)
		if m == nil || fault == nil && len(m.items) == 0 {
			t.Fatal("neither a message nor a fault")
		}
		b := &batch{v: m.version}
		for _, it := range m.items {
			list, err := b.template(withoutNames(it.payload.Get(ttlv.TagTemplateAttribute)))
			if err == nil {
				if attrs, err := attrsOf(list); err == nil {
					o := &object{Attrs: attrs}
					_ = checkDates(o)
					_ = o.indexed()
					_ = o.visible(m.version, b.now)
				}
			}
			_, _ = b.parseLocate(it.payload)
			if p, err := older(it.payload); err == nil {
				_ = newerPayload(it.code, p)
				_, _ = b.template(withoutNames(p.Get(ttlv.TagTemplateAttribute)))
			}
			_, _ = b.parseSplitting(it.payload)
			_ = partial(it.payload)
			for _, tag := range []ttlv.Tag{ttlv.TagSymmetricKey, ttlv.TagPrivateKey, ttlv.TagPublicKey, ttlv.TagSecretData} {
				if n := it.payload.Get(tag); n != nil {
					_, _ = rawOf(n)
					_, _ = privateKey(n)
					_, _ = publicKey(n)
				}
			}
		}
	})
}

// withoutNames leaves out the names of templates, which are looked up in a store.
func withoutNames(n *ttlv.Node) *ttlv.Node {
	if n == nil {
		return nil
	}
	out := ttlv.Struct(n.Tag, n.All(ttlv.TagAttribute)...)
	out.Type = n.Type
	return out
}

// Defaults and constraints are read or refused; what is taken once is taken again, and an
// object can be held to it.
func FuzzRules(f *testing.F) {
	attrs := ttlv.Struct(ttlv.TagAttributes, ttlv.Int(ttlv.TagCryptographicLength, 256), ttlv.Int(ttlv.TagCryptographicUsageMask, 12))
	f.Add(ttlv.Struct(ttlv.TagDefaultsInformation, ttlv.Struct(ttlv.TagObjectDefaults, ttlv.Enum(ttlv.TagObjectType, 2), attrs)).Encode())
	f.Add(ttlv.Struct(ttlv.TagConstraints, ttlv.Struct(ttlv.TagConstraint, ttlv.Struct(ttlv.TagObjectTypes, ttlv.Enum(ttlv.TagObjectType, 2)),
		ttlv.Struct(ttlv.TagObjectGroups, ttlv.Text(ttlv.TagObjectGroup, "g")), attrs)).Encode())
	e := New()
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, err := ttlv.Decode(raw)
		if err != nil {
			return
		}
		b := &batch{e: e, v: version{2, 1}}
		for of, parse := range map[ttlv.Tag]func(*ttlv.Node) (given, error){ttlv.TagObjectDefaults: b.parseDefault, ttlv.TagConstraint: b.parseCriterion} {
			rules, err := b.parseRules(n, of, parse)
			if err != nil {
				continue
			}
			again, err := ttlv.Decode(n.Encode())
			if err != nil {
				t.Fatal(err)
			}
			if back, err := b.parseRules(again, of, parse); err != nil || len(back) != len(rules) {
				t.Fatalf("%x is not taken again: %v", raw, err)
			}
			o := exampleObject()
			for _, r := range rules {
				if r.concerns(o.Type, groupsOf(o.Attrs)) {
					for _, g := range r.attrs {
						b.allowed(o, g.name, r.attrs)
					}
				}
			}
		}
	})
}
