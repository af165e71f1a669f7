package ttlv

import (
	"bytes"
	"testing"
)

// No secret stays in what is shown, and what it is taken from does not change.
func TestRedacted(t *testing.T) {
	t.Parallel()
	word := []byte("hush")
	n := Struct(TagRequestMessage,
		Struct(TagKeyBlock, Enum(TagKeyFormatType, 1), Struct(TagKeyValue, Bytes(TagKeyMaterial, word), Struct(TagAttribute, Text(TagAttributeName, "x-a")))),
		Struct(TagKeyBlock, Struct(TagKeyValue, Struct(TagKeyMaterial, Bytes(TagKey, word)))), Struct(TagKeyBlock, Bytes(TagKeyValue, word)),
		Struct(TagCredentialValue, Text(TagUsername, "me"), Text(TagPassword, "hush")), Struct(TagTicket, Bytes(TagTicketValue, word)), Bytes(TagData, word))
	before := n.Encode()
	out := n.Redacted().Encode()
	if bytes.Contains(out, word) || !bytes.Contains(out, []byte("x-a")) || !bytes.Contains(out, []byte("me")) {
		t.Errorf("%q", out)
	}
	if !bytes.Equal(before, n.Encode()) {
		t.Error("the message has changed")
	}
	if _, err := Decode(out); err != nil {
		t.Error(err)
	}
}
