package ttlv

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/big"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"
)

// The examples of the specification (KMIP 1.4, section 9.1.2), over the tag of
// Compromise Date.
func TestExamples(t *testing.T) {
	t.Parallel()
	const tag = Tag(0x420020)
	for want, n := range map[string]*Node{
		"42002002000000040000000800000000":                                                          Int(tag, 8),
		"42002003000000 08 01B69B4BA5749200":                                                        Long(tag, 123456789000000000),
		"42002004000000 10 0000000003FD35EB6BC2DF4618080000":                                        Big(tag, mustBig("1234567890000000000000000000")),
		"42002005000000 04 000000FF00000000":                                                        Enum(tag, 255),
		"42002006000000 08 0000000000000001":                                                        Bool(tag, true),
		"42002007000000 0B 48656C6C6F20576F726C640000000000":                                        Text(tag, "Hello World"),
		"42002008000000 03 0102030000000000":                                                        Bytes(tag, []byte{1, 2, 3}),
		"42002009000000 08 0000000047DA67F8":                                                        Time(tag, time.Date(2008, 3, 14, 11, 56, 40, 0, time.UTC)),
		"4200200A000000 04 000D2F0000000000":                                                        Seconds(tag, 864000),
		"42002001000000 20 420004 05 00000004 000000FE00000000 420005 02 00000004 000000FF00000000": Struct(tag, Enum(0x420004, 254), Int(0x420005, 255)),
	} {
		raw, err := hex.DecodeString(strings.ReplaceAll(want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := n.Encode(); !bytes.Equal(got, raw) {
			t.Errorf("%x, want %x", got, raw)
		}
		back, err := Decode(raw)
		if err != nil || !bytes.Equal(back.Encode(), raw) {
			t.Errorf("%x: %v", raw, err)
		}
	}
}

func mustBig(s string) *big.Int { v, _ := new(big.Int).SetString(s, 10); return v }

func TestBig(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"0", "1", "-1", "127", "128", "-128", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551616"} {
		n := Big(TagModulus, mustBig(s))
		if len(n.Bytes)%8 != 0 || n.BigInt().String() != s {
			t.Errorf("%s: %x is %s", s, n.Bytes, n.BigInt())
		}
	}
}

// What is not well-formed is refused, fast and without memory.
func TestBad(t *testing.T) {
	t.Parallel()
	deep := Int(TagBatchCount, 1)
	for range MaxDepth + 1 {
		deep = Struct(TagRequestMessage, deep)
	}
	wide := Struct(TagRequestMessage)
	for range MaxNodes {
		wide.Add(Int(TagBatchCount, 1))
	}
	for name, raw := range map[string][]byte{
		"nothing":         {},
		"half a header":   {0x42, 0, 0x78, 1},
		"too long":        {0x42, 0, 0x78, 1, 0xff, 0xff, 0xff, 0xf8},
		"longer in text":  {0x42, 0, 0x78, 7, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8},
		"other tag":       {0x41, 0, 0x78, 2, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0},
		"type 0":          {0x42, 0, 0x78, 0, 0, 0, 0, 0},
		"type 12":         {0x42, 0, 0x78, 12, 0, 0, 0, 0},
		"short integer":   {0x42, 0, 0x78, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0},
		"boolean 2":       {0x42, 0, 0x78, 6, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2},
		"no UTF-8":        {0x42, 0, 0x78, 7, 0, 0, 0, 1, 0xff, 0, 0, 0, 0, 0, 0, 0},
		"a zero in text":  {0x42, 0, 0x78, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0},
		"structure of 4":  {0x42, 0, 0x78, 1, 0, 0, 0, 4, 0, 0, 0, 0},
		"more behind":     append(Int(TagBatchCount, 1).Encode(), Int(TagBatchCount, 1).Encode()...),
		"child overruns":  {0x42, 0, 0x78, 1, 0, 0, 0, 8, 0x42, 0, 0x0d, 2, 0, 0, 0, 4},
		"too deep":        deep.Encode(),
		"too many values": wide.Encode(),
	} {
		if _, err := Decode(raw); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Length([]byte{0x42, 0, 0x78, 1, 0xff, 0xff, 0xff, 0xf8}); err != nil {
		t.Error(err)
	}
	if _, err := Length([]byte("GET / HTTP/1.1")); err == nil {
		t.Error("HTTP is no message")
	}
}

// What is read is written the same, but for padding.
func FuzzDecode(f *testing.F) {
	f.Add(Struct(TagRequestMessage, Text(TagUniqueIdentifier, "x"), Struct(TagTemplateAttribute, Big(TagModulus, big.NewInt(-7)))).Encode())
	f.Add([]byte{0x42, 0, 0x78, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, err := Decode(raw)
		if err != nil {
			return
		}
		once := n.Encode()
		again, err := Decode(once)
		if err != nil || len(once) != len(raw) || !bytes.Equal(again.Encode(), once) {
			t.Fatalf("%x becomes %x: %v", raw, once, err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	raw := Struct(TagRequestMessage,
		Struct(TagRequestHeader, Struct(TagProtocolVersion, Int(TagProtocolVersionMajor, 1), Int(TagProtocolVersionMinor, 2)), Int(TagBatchCount, 1)),
		Struct(TagBatchItem, Enum(TagOperation, OperationCreate), Struct(TagRequestPayload, Enum(TagObjectType, ObjectTypeSymmetricKey),
			Struct(TagTemplateAttribute, Struct(TagAttribute, Text(TagAttributeName, "Cryptographic Algorithm"), Enum(TagAttributeValue, 3)),
				Struct(TagAttribute, Text(TagAttributeName, "Cryptographic Length"), Int(TagAttributeValue, 256)))))).Encode()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// A message is decoded with few pieces of memory, and what is added to what was decoded changes
// nothing beside it.
func TestRoom(t *testing.T) {
	raw := sample().Encode()
	if n := testing.AllocsPerRun(100, func() { _, _ = Decode(raw) }); n > 6 {
		t.Errorf("%.0f allocations for %d bytes", n, len(raw))
	}
	n, err := Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	n.Get(TagRequestHeader).Get(TagProtocolVersion).Add(Int(TagBatchCount, 9))
	n.Get(TagRequestHeader).Add(Int(TagBatchCount, 8))
	if v := n.Get(TagBatchItem).Get(TagOperation); v.Int != int64(OperationCreate) || len(n.Children) != 2 {
		t.Error("a neighbour has changed")
	}
	two, err := Decode(Struct(TagRequestMessage, Bytes(TagData, []byte("12345678")), Int(TagBatchCount, 1)).Encode())
	if err != nil {
		t.Fatal(err)
	}
	encoded := two.Encode()
	_ = append(two.Get(TagData).Bytes, encoded...)
	if !bytes.Equal(two.Encode(), encoded) || cap(two.Get(TagData).Bytes) != 8 {
		t.Error("what is appended to a byte string writes into its neighbour")
	}
	if got, err := Decode(n.Encode()); err != nil || got.Get(TagRequestHeader).Get(TagBatchCount).Int != 8 {
		t.Errorf("what was added is not there: %v", err)
	}
	many := Struct(TagRequestMessage)
	for range 10_000 {
		many.Add(Int(TagBatchCount, 1))
	}
	if n := testing.AllocsPerRun(1, func() { _, _ = Decode(many.Encode()) }); n > 1000 {
		t.Errorf("%.0f allocations for 10,000 values", n)
	}
}

// A decoder's message is good until the next one, or for good once it was told to forget it; what
// was in the memory before is in no later message.
func TestDecoder(t *testing.T) {
	t.Parallel()
	long := Struct(TagRequestMessage)
	for range 3 * decoderNodes {
		long.Add(Text(TagNameValue, "n"))
	}
	messages := []*Node{
		Struct(TagRequestMessage, Struct(TagBatchItem, Text(TagUniqueIdentifier, "one"), Enum(TagOperation, OperationGet))),
		Struct(TagRequestMessage, Int(TagBatchCount, 1), Struct(TagBatchItem), Bytes(TagData, []byte("x"))),
		long,
		Struct(TagRequestMessage),
	}
	var d Decoder
	var kept *Node
	for round := range 3 {
		for i, m := range messages {
			got, err := d.Decode(m.Encode())
			if err != nil {
				t.Fatal(err)
			}
			want, err := Decode(m.Encode())
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("round %d: message %d is %s", round, i, got.Encode())
			}
			if round == 1 && i == 0 {
				d.Forget()
				kept = got
			}
		}
	}
	if !bytes.Equal(kept.Encode(), messages[0].Encode()) {
		t.Error("a message that was left its memory has changed")
	}
	if _, err := d.Decode([]byte("no message")); err == nil {
		t.Error("what is no message was decoded")
	}
}

// A decoder that waits holds neither a large message nor the bytes of one.
func TestDecoderClear(t *testing.T) {
	t.Parallel()
	var d Decoder
	large := func() (weak.Pointer[Node], weak.Pointer[byte]) {
		m := Struct(TagRequestMessage)
		for range 10 * decoderNodes {
			m.Add(Text(TagNameValue, "n"))
		}
		raw := m.Encode()
		root, err := d.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		return weak.Make(root.Children[len(root.Children)-1]), weak.Make(&raw[0])
	}
	node, raw := large()
	d.Clear()
	runtime.GC()
	if node.Value() != nil || raw.Value() != nil {
		t.Error("the last message is held")
	}
	runtime.KeepAlive(&d)
}

// What is encoded already is taken as it is, and must be one structure.
func TestEncoded(t *testing.T) {
	t.Parallel()
	inside := Struct(TagKeyBlock, Enum(TagKeyFormatType, KeyFormatTypeRaw), Text(TagNameValue, "abc"))
	raw := inside.Encode()
	n, err := Encoded(raw)
	if err != nil {
		t.Fatal(err)
	}
	whole := Struct(TagSymmetricKey, n, Int(TagBatchCount, 1))
	if want := Struct(TagSymmetricKey, inside, Int(TagBatchCount, 1)).Encode(); !bytes.Equal(whole.Encode(), want) || whole.Size() != len(want) || n.Tag != TagKeyBlock {
		t.Errorf("%x", whole.Encode())
	}
	for _, bad := range [][]byte{nil, raw[:7], raw[:len(raw)-8], append(raw[:len(raw):len(raw)], 0), Int(TagBatchCount, 1).Encode()} {
		if _, err := Encoded(bad); err == nil {
			t.Errorf("%x is taken", bad)
		}
	}
}
