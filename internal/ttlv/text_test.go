package ttlv

import (
	"bytes"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

// sample has a value of each type, names in attributes, masks and extensions.
func sample() *Node {
	return Struct(TagRequestMessage,
		Struct(TagRequestHeader, Struct(TagProtocolVersion, Int(TagProtocolVersionMajor, 2), Int(TagProtocolVersionMinor, 1)), Time(TagTimeStamp, time.Unix(1_000_000_000, 0))),
		Struct(TagBatchItem, Enum(TagOperation, OperationCreate), Bytes(TagUniqueBatchItemID, []byte{1, 0xfe}),
			Struct(TagRequestPayload, Enum(TagObjectType, ObjectTypeSymmetricKey),
				Struct(TagAttribute, Text(TagAttributeName, "Cryptographic Algorithm"), Enum(TagAttributeValue, CryptographicAlgorithmAES)),
				Struct(TagAttribute, Text(TagAttributeName, "Cryptographic Usage Mask"), Int(TagAttributeValue, int32(MaskEncrypt|MaskDecrypt))),
				Int(TagCryptographicUsageMask, -1), Long(TagUsageLimitsTotal, -1<<60), Big(TagModulus, big.NewInt(-77)), Bool(TagFresh, true), Seconds(TagLeaseTime, 3600),
				Enum(TagAttributeReference, uint32(TagState)), Enum(TagOpaqueDataType, 0x80000123), &Node{Tag: TagValidityDate, Type: DateTimeExtended, Int: 1_234_567_890_123_456},
				Text(0x540001, "<&\"'\n\t\u00e9>"), Struct(TagKeyValue))))
}

// What is written in XML and JSON comes back as it was.
func TestTexts(t *testing.T) {
	t.Parallel()
	x := NewTexts()
	want := sample().Encode()
	text := x.EncodeXML(sample())
	for _, part := range []string{
		`<Operation type="Enumeration" value="Create"/>`, `<AttributeValue type="Enumeration" value="AES"/>`, `<AttributeValue type="Integer" value="Encrypt Decrypt"/>`,
		`<TimeStamp type="DateTime" value="2001-09-09T01:46:40Z"/>`, `<TTLV tag="0x540001" type="TextString"`, `<AttributeReference type="Enumeration" value="State"/>`,
		`<OpaqueDataType type="Enumeration" value="0x80000123"/>`,
	} {
		if !strings.Contains(string(text), part) {
			t.Errorf("no %s in %s", part, text)
		}
	}
	if n, err := x.DecodeXML(text); err != nil || !bytes.Equal(n.Encode(), want) {
		t.Errorf("from XML: %v\n%s", err, text)
	}
	text = x.EncodeJSON(sample())
	for _, part := range []string{`{"tag":"AttributeValue","type":"Integer","value":"Encrypt|Decrypt"}`, `"value":"0xf000000000000000"`, `{"tag":"Fresh","type":"Boolean","value":true}`} {
		if !strings.Contains(string(text), part) {
			t.Errorf("no %s in %s", part, text)
		}
	}
	if n, err := x.DecodeJSON(text); err != nil || !bytes.Equal(n.Encode(), want) {
		t.Errorf("from JSON: %v\n%s", err, text)
	}
	for in, want := range map[string]string{
		"X.509 Certificate Identifier": "X_509CertificateIdentifier", "PKCS#12 Friendly Name": "PKCS_12FriendlyName", "Cryptographic Algorithm": "CryptographicAlgorithm",
	} {
		if got := Camel(in); got != want {
			t.Errorf("%q is %q, not %q", in, got, want)
		}
	}
}

// Bad texts are refused, and do not recurse for long.
func TestBadTexts(t *testing.T) {
	t.Parallel()
	x := NewTexts()
	deep := 10_000
	for name, in := range map[string]string{
		"empty": "", "two": "<Fresh type=\"Boolean\" value=\"true\"/><Fresh type=\"Boolean\" value=\"true\"/>", "open": "<RequestMessage>", "unknown": "<Nothing/>",
		"entity": `<!DOCTYPE a [<!ENTITY b "c">]><RequestMessage/>`, "text": "<RequestMessage>x</RequestMessage>", "type": `<Fresh type="Thing" value="1"/>`,
		"value": `<Fresh type="Boolean" value="maybe"/>`, "odd": `<Data type="ByteString" value="abc"/>`, "deep": strings.Repeat("<RequestMessage>", deep),
		"inside": `<Fresh type="Boolean" value="true"><Fresh type="Boolean" value="true"/></Fresh>`,
	} {
		if n, err := x.DecodeXML([]byte(in)); err == nil {
			t.Errorf("XML, %s: %v", name, n)
		}
	}
	for name, in := range map[string]string{
		"empty": "", "two": `{"tag":"Fresh","type":"Boolean","value":true}{}`, "unknown": `{"tag":"Nothing"}`, "number": `{"tag":"Comment","type":"TextString","value":7}`,
		"deep": strings.Repeat(`{"tag":"RequestMessage","value":[`, deep), "list": `{"tag":"RequestMessage","value":7}`, "range": `{"tag":"BatchCount","type":"Integer","value":4294967296}`,
	} {
		if n, err := x.DecodeJSON([]byte(in)); err == nil {
			t.Errorf("JSON, %s: %v", name, n)
		}
	}
}

// Whatever can be read can be written, and is the same then.
func FuzzTexts(f *testing.F) {
	x := NewTexts()
	f.Add(x.EncodeXML(sample()), x.EncodeJSON(sample()))
	f.Fuzz(func(t *testing.T, inXML, inJSON []byte) {
		if n, err := x.DecodeXML(inXML); err == nil {
			again, err := x.DecodeXML(x.EncodeXML(n))
			if err != nil || !bytes.Equal(again.Encode(), n.Encode()) {
				t.Fatalf("XML: %v\n%x\n%s", err, n.Encode(), x.EncodeXML(n))
			}
		}
		if n, err := x.DecodeJSON(inJSON); err == nil {
			again, err := x.DecodeJSON(x.EncodeJSON(n))
			if err != nil || !bytes.Equal(again.Encode(), n.Encode()) {
				t.Fatalf("JSON: %v\n%x\n%s", err, n.Encode(), x.EncodeJSON(n))
			}
		}
	})
}

// What is there several times is a list, numbers are numbers, and what has a name is called by it.
func TestPlain(t *testing.T) {
	t.Parallel()
	n := Struct(TagResponsePayload, Text(TagUniqueIdentifier, "a"), Text(TagUniqueIdentifier, "b"), Text(TagUniqueIdentifier, "c"), Int(TagCryptographicLength, -128), Bool(TagFresh, true),
		Int(TagCryptographicUsageMask, int32(MaskEncrypt|MaskDecrypt)), Long(TagUsageLimitsTotal, 1<<40), Bytes(TagData, []byte{0xab}),
		Struct(TagAttribute, Text(TagAttributeName, "State"), Enum(TagAttributeValue, StateActive)))
	want := map[string]any{
		"UniqueIdentifier": []any{"a", "b", "c"}, "CryptographicLength": int64(-128), "Fresh": true, "CryptographicUsageMask": "Encrypt Decrypt", "UsageLimitsTotal": int64(1 << 40),
		"Data": "ab", "Attribute": map[string]any{"AttributeName": "State", "AttributeValue": "Active"},
	}
	if got := NewTexts().Plain(n, n.Tag); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}
