package kmip_test

import (
	"strings"
	"testing"

	"arca/internal/ttlv"
)

// What a role says of its clients shapes what they get without asking for it, and nothing else.
func TestQuirks(t *testing.T) {
	t.Parallel()
	s, address := mounted(t)
	s.Must("POST", "kmip/scope/finance", s.Root, nil)
	as := func(role, kind string, version [2]int32) *client {
		t.Helper()
		flags := object{"operation_all": true, "client": kind}
		cert, _ := certificate(t, s, "kmip", "finance", role, flags)
		c := dial(t, address, settings(t, s, "kmip", cert))
		c.ver = version
		return c
	}
	plain := as("plain", "", [2]int32{1, 4})
	id := plain.create(name("key"))
	if _, r := outcome(plain.batch(nil, op(ttlv.OperationActivate, uid(id)))[0]); r != 0 {
		t.Fatal(r)
	}
	pair, r := outcome(plain.batch(nil, op(ttlv.OperationCreateKeyPair, ttlv.Struct(ttlv.TagCommonTemplateAttribute,
		attr("Cryptographic Algorithm", ttlv.Enum(0, ttlv.CryptographicAlgorithmEC)), attr("Cryptographic Length", ttlv.Int(0, 256)),
		attr("Cryptographic Usage Mask", ttlv.Int(0, 3)))))[0])
	if r != 0 {
		t.Fatal(r)
	}
	private := pair.Get(ttlv.TagPrivateKeyUniqueIdentifier).Text()
	for _, tc := range []struct {
		kind       string
		version    [2]int32
		attributes []string // some that are there
		without    []string
		located    bool
		correlated bool
		format     uint32 // of the private key
	}{
		{"", [2]int32{1, 4}, []string{"Digest", "Always Sensitive", "State"}, nil, true, true, ttlv.KeyFormatTypeECPrivateKey},
		{"", [2]int32{1, 3}, []string{"Original Creation Date"}, []string{"Sensitive"}, true, false, ttlv.KeyFormatTypeECPrivateKey},
		{"pykmip", [2]int32{1, 4}, []string{"Name", "Sensitive", "State"}, []string{"Digest", "Always Sensitive", "Extractable", "Original Creation Date"}, true, false, ttlv.KeyFormatTypePKCS_8},
		{"libkmip", [2]int32{1, 4}, []string{"State", "Name"}, []string{"Digest", "Fresh", "Sensitive", "Lease Time"}, true, true, ttlv.KeyFormatTypeECPrivateKey},
		{"libkmip", [2]int32{1, 3}, []string{"State", "Name"}, []string{"Digest", "Fresh"}, false, false, ttlv.KeyFormatTypeECPrivateKey},
		{"synology", [2]int32{1, 2}, []string{"Digest", "Lease Time"}, []string{"Fresh", "Original Creation Date"}, false, false, ttlv.KeyFormatTypeECPrivateKey},
		{"pykmip", [2]int32{2, 0}, nil, nil, true, false, ttlv.KeyFormatTypePKCS_8},
	} {
		what := tc.kind + " " + string('0'+tc.version[1])
		c := as("r", tc.kind, tc.version)
		raw, err := c.send(c.message([]*ttlv.Node{ttlv.Text(ttlv.TagClientCorrelationValue, "mine")}, op(ttlv.OperationGetAttributes, uid(id))))
		if err != nil {
			t.Fatal(what, err)
		}
		root, err := ttlv.Decode(raw)
		if err != nil {
			t.Fatal(what, err)
		}
		h := root.Get(ttlv.TagResponseHeader)
		if got := h.Get(ttlv.TagServerCorrelationValue) != nil; got != tc.correlated || got != (h.Get(ttlv.TagClientCorrelationValue) != nil) {
			t.Errorf("%s: correlation values: %v", what, got)
		}
		have := " "
		for _, a := range root.Get(ttlv.TagBatchItem).Get(ttlv.TagResponsePayload).All(ttlv.TagAttribute) {
			have += a.Get(ttlv.TagAttributeName).Text() + ", "
		}
		for _, n := range tc.attributes {
			if !strings.Contains(have, " "+n+",") {
				t.Errorf("%s: no %s in %s", what, n, have)
			}
		}
		for _, n := range tc.without {
			if strings.Contains(have, " "+n+",") {
				t.Errorf("%s: %s in %s", what, n, have)
			}
		}
		if c.ver[0] == 1 { // what is named is there
			out, r := outcome(c.batch(nil, op(ttlv.OperationGetAttributes, uid(id), ttlv.Text(ttlv.TagAttributeName, "Digest")))[0])
			if r != 0 || out.Get(ttlv.TagAttribute) == nil {
				t.Errorf("%s: a named attribute: %d", what, r)
			}
			out, r = outcome(c.batch(nil, op(ttlv.OperationLocate, name("key")))[0])
			if r != 0 || out.Get(ttlv.TagUniqueIdentifier).Text() != id || (out.Get(ttlv.TagLocatedItems) != nil) != tc.located {
				t.Errorf("%s: Locate: %d %v", what, r, out.Get(ttlv.TagLocatedItems))
			}
		}
		format := func(more ...*ttlv.Node) int64 {
			t.Helper()
			out, r := outcome(c.batch(nil, op(ttlv.OperationGet, append([]*ttlv.Node{uid(private)}, more...)...))[0])
			if r != 0 {
				t.Fatalf("%s: Get: %d", what, r)
			}
			return out.Get(ttlv.TagPrivateKey).Get(ttlv.TagKeyBlock).Get(ttlv.TagKeyFormatType).Int
		}
		if got := format(); got != int64(tc.format) {
			t.Errorf("%s: format %d, want %d", what, got, tc.format)
		}
		if got := format(ttlv.Enum(ttlv.TagKeyFormatType, ttlv.KeyFormatTypeECPrivateKey)); got != int64(ttlv.KeyFormatTypeECPrivateKey) {
			t.Errorf("%s: asked-for format: %d", what, got)
		}
	}
	// It acts at once, is read back, and can be taken away; a name that is not known changes nothing.
	c := as("r", "pykmip", [2]int32{1, 4})
	if got := s.Must("GET", "kmip/scope/finance/role/r", s.Root, nil)["data"].(object)["client"]; got != "pykmip" {
		t.Errorf("read back: %v", got)
	}
	code, out := s.Do("POST", "kmip/scope/finance/role/r", s.Root, object{"client": "vsphere"})
	if text, _ := out["errors"].([]any); code != 400 || len(text) != 1 || !strings.Contains(text[0].(string), "libkmip, pykmip, synology") {
		t.Errorf("an unknown client: %d %v", code, out)
	}
	extractable := func() bool {
		out, r := outcome(c.batch(nil, op(ttlv.OperationGetAttributes, uid(id)))[0])
		if r != 0 {
			t.Fatal(r)
		}
		for _, a := range out.All(ttlv.TagAttribute) {
			if a.Get(ttlv.TagAttributeName).Text() == "Extractable" {
				return true
			}
		}
		return false
	}
	if extractable() {
		t.Error("the quirks do not act")
	}
	s.Must("POST", "kmip/scope/finance/role/r", s.Root, object{"client": ""})
	if !extractable() {
		t.Error("the quirks are not taken away")
	}
	if _, there := s.Must("GET", "kmip/scope/finance/role/r", s.Root, nil)["data"].(object)["client"]; there {
		t.Error("an empty client is read back")
	}
	// So do messages by HTTP and a token.
	s.Must("POST", "kmip/scope/finance/role/r", s.Root, object{"client": "libkmip"})
	answer := s.Must("POST", "kmip/scope/finance/role/r/client/getattributes", s.Root, object{"unique_identifier": id})["data"].(object)["response"].(string)
	if strings.Contains(answer, "Digest") || !strings.Contains(answer, `value="State"`) {
		t.Error(answer)
	}
}
