package kmip_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"arca/internal/ttlv"
)

// Until KMIP 1.4 Locate has the oldest first, from 2.0 on the newest (2.1, section 6.1.28);
// pages add up in both.
func TestLocateOrder(t *testing.T) {
	t.Parallel()
	c, old := v2(t, all)
	var ids []string
	for i := range 7 {
		ids = append(ids, old.create(name(fmt.Sprint("ordered-", i)), attr("Object Group", ttlv.Text(0, "ordered"))))
	}
	newest := slices.Clone(ids)
	slices.Reverse(newest)
	located := func(out *ttlv.Node) (list []string) {
		for _, n := range out.All(ttlv.TagUniqueIdentifier) {
			list = append(list, n.Text())
		}
		return list
	}
	group2 := ttlv.Struct(ttlv.TagAttributes, ttlv.Text(ttlv.TagObjectGroup, "ordered"))
	group1 := attr("Object Group", ttlv.Text(0, "ordered"))
	for who, x := range map[*client]struct {
		group *ttlv.Node
		want  []string
	}{c: {group2, newest}, old: {group1, ids}} {
		if got := located(who.must(ttlv.OperationLocate, x.group)); !slices.Equal(got, x.want) {
			t.Errorf("KMIP %v: %v, want %v", who.ver, got, x.want)
		}
		for size := range 8 {
			var got []string
			for at := 0; at < len(ids); at += max(size, 1) {
				out := who.must(ttlv.OperationLocate, ttlv.Int(ttlv.TagMaximumItems, int32(size)), ttlv.Int(ttlv.TagOffsetItems, int32(at)), x.group)
				if n := out.Get(ttlv.TagLocatedItems); n != nil && n.Int != int64(len(ids)) {
					t.Errorf("%d are located", n.Int)
				}
				got = append(got, located(out)...)
			}
			if want := x.want; size > 0 && !slices.Equal(got, want) || size == 0 && len(got) > 0 {
				t.Errorf("KMIP %v in pages of %d: %v, want %v", who.ver, size, got, want)
			}
		}
		if got := located(who.must(ttlv.OperationLocate, ttlv.Int(ttlv.TagMaximumItems, 3), ttlv.Int(ttlv.TagOffsetItems, 1<<30), x.group)); len(got) > 0 {
			t.Errorf("beyond the end: %v", got)
		}
	}
}

// The default member of a group is the next one each time (test case 15.3 of KMIP 1.1);
// without Maximum Items all are named, as always.
func TestDefaultMember(t *testing.T) {
	t.Parallel()
	_, c := v2(t, all)
	c.ver = [2]int32{1, 1}
	group, member := attr("Object Group", ttlv.Text(0, "round")), ttlv.Enum(ttlv.TagObjectGroupMember, ttlv.ObjectGroupMemberGroupMemberDefault)
	ids := []string{c.create(group), c.create(group), c.create(group)}
	next := func() string {
		t.Helper()
		items := c.batch(nil, op(ttlv.OperationLocate, ttlv.Int(ttlv.TagMaximumItems, 1), member, group), op(ttlv.OperationGet))
		out, r := outcome(items[1])
		if r != 0 {
			t.Fatalf("get: %d", r)
		}
		return out.Get(ttlv.TagUniqueIdentifier).Text()
	}
	for i := range 7 {
		if got := next(); got != ids[i%3] {
			t.Errorf("turn %d: %s, want %s", i, got, ids[i%3])
		}
	}
	if got := c.must(ttlv.OperationLocate, member, group).All(ttlv.TagUniqueIdentifier); len(got) != 3 || got[0].Text() != ids[0] {
		t.Errorf("all: %v", got)
	}
	c.must(ttlv.OperationDestroy, uid(ids[1])) // whose turn it is
	if got := next(); got != ids[2] {
		t.Errorf("after the second is gone: %s, want %s", got, ids[2])
	}
	items := c.batch(nil, op(ttlv.OperationLocate, ttlv.Int(ttlv.TagMaximumItems, 1), member, group), op(ttlv.OperationLocate, ttlv.Int(ttlv.TagMaximumItems, 1), member, group))
	for i, want := range []string{ids[0], ids[2]} {
		if out, _ := outcome(items[i]); out.Get(ttlv.TagUniqueIdentifier).Text() != want {
			t.Errorf("in one message: %v, want %s", out, want)
		}
	}
}

// A pair on secp256k1 signs, verifies, agrees with another, and leaves in the formats of
// other curves.
func TestSecp256k1(t *testing.T) {
	t.Parallel()
	c, old := v2(t, all)
	old.ver = [2]int32{1, 2}
	domain := ttlv.Struct(ttlv.TagCryptographicDomainParameters, ttlv.Enum(ttlv.TagRecommendedCurve, ttlv.RecommendedCurveSECP256K1))
	pair := func() (string, string) {
		t.Helper()
		out := c.must(ttlv.OperationCreateKeyPair, ttlv.Struct(ttlv.TagCommonAttributes, ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmEC), domain, ttlv.Time(ttlv.TagActivationDate, time.Now().Add(-time.Minute))),
			ttlv.Struct(ttlv.TagPrivateKeyAttributes, ttlv.Int(ttlv.TagCryptographicUsageMask, int32(ttlv.MaskSign|ttlv.MaskDeriveKey))),
			ttlv.Struct(ttlv.TagPublicKeyAttributes, ttlv.Int(ttlv.TagCryptographicUsageMask, int32(ttlv.MaskVerify|ttlv.MaskDeriveKey))))
		return out.Get(ttlv.TagPrivateKeyUniqueIdentifier).Text(), out.Get(ttlv.TagPublicKeyUniqueIdentifier).Text()
	}
	private, public := pair()
	other, otherPublic := pair()
	data := ttlv.Bytes(ttlv.TagData, []byte("pay"))
	verify := func(by string, data, sig *ttlv.Node, want uint32) {
		t.Helper()
		if v := c.must(ttlv.OperationSignatureVerify, uid(by), data, sig).Get(ttlv.TagValidityIndicator).Int; uint32(v) != want {
			t.Errorf("validity %d, want %d", v, want)
		}
	}
	sig := c.must(ttlv.OperationSign, uid(private), data).Get(ttlv.TagSignatureData)
	verify(public, data, sig, ttlv.ValidityIndicatorValid)
	verify(otherPublic, data, sig, ttlv.ValidityIndicatorInvalid)
	verify(public, ttlv.Bytes(ttlv.TagData, []byte("pays")), sig, ttlv.ValidityIndicatorInvalid)
	derive := func(private, public string) string {
		id := c.must(ttlv.OperationDeriveKey, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), uid(private), uid(public),
			ttlv.Enum(ttlv.TagDerivationMethod, ttlv.DerivationMethodAsymmetricKey), ttlv.Struct(ttlv.TagDerivationParameters), ttlv.Struct(ttlv.TagAttributes,
				ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmAES), ttlv.Int(ttlv.TagCryptographicLength, 256), ttlv.Int(ttlv.TagCryptographicUsageMask, 12)))
		return string(c.must(ttlv.OperationGet, id.Get(ttlv.TagUniqueIdentifier)).Get(ttlv.TagSymmetricKey).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial).Bytes)
	}
	if one, two := derive(private, otherPublic), derive(other, public); one != two || len(one) != 32 {
		t.Errorf("%x and %x", one, two)
	}
	format := func(who *client, id string, tag ttlv.Tag, more ...*ttlv.Node) uint32 {
		return uint32(who.must(ttlv.OperationGet, append([]*ttlv.Node{uid(id)}, more...)...).Get(tag).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyFormatType).Int)
	}
	for who, want := range map[*client][2]uint32{
		c: {ttlv.KeyFormatTypeTransparentECPrivateKey, ttlv.KeyFormatTypeTransparentECPublicKey}, old: {ttlv.KeyFormatTypeECPrivateKey, ttlv.KeyFormatTypeX_509},
	} {
		if got := [2]uint32{format(who, private, ttlv.TagPrivateKey), format(who, public, ttlv.TagPublicKey)}; got != want {
			t.Errorf("KMIP %v gets a pair in the formats %v, want %v", who.ver, got, want)
		}
	}
	for _, f := range []uint32{ttlv.KeyFormatTypePKCS_8, ttlv.KeyFormatTypeECPrivateKey} {
		if got := format(c, private, ttlv.TagPrivateKey, ttlv.Enum(ttlv.TagKeyFormatType, f)); got != f {
			t.Errorf("format %d, want %d", got, f)
		}
	}
	p256 := c.must(ttlv.OperationCreateKeyPair, ttlv.Struct(ttlv.TagCommonAttributes, ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmEC), ttlv.Int(ttlv.TagCryptographicLength, 256)),
		ttlv.Struct(ttlv.TagPrivateKeyAttributes, ttlv.Int(ttlv.TagCryptographicUsageMask, int32(ttlv.MaskDeriveKey))), ttlv.Struct(ttlv.TagPublicKeyAttributes, ttlv.Int(ttlv.TagCryptographicUsageMask, int32(ttlv.MaskDeriveKey))))
	c.fails(ttlv.ResultReasonCryptographicFailure, ttlv.OperationDeriveKey, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypeSymmetricKey), uid(private), uid(p256.Get(ttlv.TagPublicKeyUniqueIdentifier).Text()),
		ttlv.Enum(ttlv.TagDerivationMethod, ttlv.DerivationMethodAsymmetricKey), ttlv.Struct(ttlv.TagDerivationParameters), ttlv.Struct(ttlv.TagAttributes,
			ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmAES), ttlv.Int(ttlv.TagCryptographicLength, 256), ttlv.Int(ttlv.TagCryptographicUsageMask, 12)))
	c.must(ttlv.OperationReKeyKeyPair, ttlv.Text(ttlv.TagPrivateKeyUniqueIdentifier, private))
}

// Post-quantum pairs are made, given out and taken; those of ML-DSA sign, as a whole and in
// parts; they are safe where that is asked for. Clients of KMIP 1 make none.
func TestPostQuantum(t *testing.T) {
	t.Parallel()
	c, old := v2(t, all)
	pair := func(alg uint32, more ...*ttlv.Node) (private, public string) {
		t.Helper()
		out := c.must(ttlv.OperationCreateKeyPair, ttlv.Struct(ttlv.TagCommonAttributes, ttlv.Enum(ttlv.TagCryptographicAlgorithm, alg), ttlv.Time(ttlv.TagActivationDate, time.Now().Add(-time.Minute))).Add(more...),
			ttlv.Struct(ttlv.TagPrivateKeyAttributes, ttlv.Int(ttlv.TagCryptographicUsageMask, int32(ttlv.MaskSign))),
			ttlv.Struct(ttlv.TagPublicKeyAttributes, ttlv.Int(ttlv.TagCryptographicUsageMask, int32(ttlv.MaskVerify|ttlv.MaskEncrypt))))
		return out.Get(ttlv.TagPrivateKeyUniqueIdentifier).Text(), out.Get(ttlv.TagPublicKeyUniqueIdentifier).Text()
	}
	data := ttlv.Bytes(ttlv.TagData, []byte("signed for long"))
	valid := func(out *ttlv.Node) bool {
		return uint32(out.Get(ttlv.TagValidityIndicator).Int) == ttlv.ValidityIndicatorValid
	}
	for _, alg := range []uint32{ttlv.CryptographicAlgorithmMLDSA_44, ttlv.CryptographicAlgorithmMLDSA_65, ttlv.CryptographicAlgorithmMLDSA_87} {
		private, public := pair(alg, ttlv.Bool(ttlv.TagQuantumSafe, true))
		sig := c.must(ttlv.OperationSign, uid(private), data).Get(ttlv.TagSignatureData)
		if !valid(c.must(ttlv.OperationSignatureVerify, uid(public), data, sig)) || valid(c.must(ttlv.OperationSignatureVerify, uid(public), ttlv.Bytes(ttlv.TagData, []byte("other")), sig)) {
			t.Errorf("algorithm %d does not verify", alg)
		}
		first := c.must(ttlv.OperationSign, uid(private), ttlv.Bytes(ttlv.TagData, []byte("signed ")), ttlv.Bool(ttlv.TagInitIndicator, true))
		last := c.must(ttlv.OperationSign, uid(private), ttlv.Bytes(ttlv.TagData, []byte("for long")), first.Get(ttlv.TagCorrelationValue), ttlv.Bool(ttlv.TagFinalIndicator, true))
		if !valid(c.must(ttlv.OperationSignatureVerify, uid(public), data, last.Get(ttlv.TagSignatureData))) {
			t.Errorf("algorithm %d: what is signed in parts does not verify", alg)
		}
		got := c.must(ttlv.OperationGet, uid(public)).Get(ttlv.TagPublicKey)
		key := got.Get(ttlv.TagKeyBlock)
		if uint32(key.Get(ttlv.TagKeyFormatType).Int) != ttlv.KeyFormatTypeX_509 || uint32(key.Get(ttlv.TagCryptographicAlgorithm).Int) != alg {
			t.Errorf("algorithm %d: %v", alg, key)
		}
		again := c.must(ttlv.OperationRegister, ttlv.Enum(ttlv.TagObjectType, ttlv.ObjectTypePublicKey), attrs2(ttlv.Int(ttlv.TagCryptographicUsageMask, int32(ttlv.MaskVerify)), ttlv.Time(ttlv.TagActivationDate, time.Now().Add(-time.Minute))), got)
		if !valid(c.must(ttlv.OperationSignatureVerify, again.Get(ttlv.TagUniqueIdentifier), data, sig)) {
			t.Errorf("algorithm %d: what was registered does not verify", alg)
		}
		c.must(ttlv.OperationReKeyKeyPair, ttlv.Text(ttlv.TagPrivateKeyUniqueIdentifier, private))
	}
	for alg, bits := range map[uint32]int64{ttlv.CryptographicAlgorithmMLKEM_768: 9472, ttlv.CryptographicAlgorithmMLKEM_1024: 12544} {
		private, public := pair(alg, ttlv.Int(ttlv.TagCryptographicLength, int32(bits)))
		if got := c.must(ttlv.OperationGetAttributes, uid(public)).Get(ttlv.TagAttributes).Get(ttlv.TagCryptographicLength).Int; got != bits {
			t.Errorf("algorithm %d: %d bits", alg, got)
		}
		raw := c.must(ttlv.OperationGet, uid(private), ttlv.Enum(ttlv.TagKeyFormatType, ttlv.KeyFormatTypeRaw)).Get(ttlv.TagPrivateKey).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyValue).Get(ttlv.TagKeyMaterial)
		if len(raw.Bytes) != 64 {
			t.Errorf("algorithm %d: a seed of %d bytes", alg, len(raw.Bytes))
		}
		c.fails(ttlv.ResultReasonCryptographicFailure, ttlv.OperationSign, uid(private), data)
		if _, r := c.do(ttlv.OperationEncrypt, uid(public), data); r == 0 {
			t.Errorf("algorithm %d encrypts", alg)
		}
	}
	for _, bad := range [][]*ttlv.Node{
		{ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmMLKEM_512)},
		{ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmMLDSA_65), ttlv.Int(ttlv.TagCryptographicLength, 65)},
	} {
		c.fails(ttlv.ResultReasonInvalidField, ttlv.OperationCreateKeyPair, ttlv.Struct(ttlv.TagCommonAttributes, bad...).Add(ttlv.Int(ttlv.TagCryptographicUsageMask, 3)))
	}
	c.fails(ttlv.ResultReasonGeneralFailure, ttlv.OperationCreateKeyPair, ttlv.Struct(ttlv.TagCommonAttributes, ttlv.Enum(ttlv.TagCryptographicAlgorithm, ttlv.CryptographicAlgorithmRSA),
		ttlv.Int(ttlv.TagCryptographicLength, 2048), ttlv.Int(ttlv.TagCryptographicUsageMask, 3), ttlv.Bool(ttlv.TagQuantumSafe, true)))
	if _, r := old.do(ttlv.OperationCreateKeyPair, ttlv.Struct(ttlv.TagCommonTemplateAttribute, attr("Cryptographic Algorithm", ttlv.Enum(0, ttlv.CryptographicAlgorithmMLDSA_65)), attr("Cryptographic Usage Mask", ttlv.Int(0, 3)))); r == 0 {
		t.Error("a client of KMIP 1 makes a pair")
	}
}
