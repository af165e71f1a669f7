package kmip

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/ttlv"
)

// The audit record of an answer is JSON, with what it must have and nothing of the payload.
func TestRecord(t *testing.T) {
	t.Parallel()
	get := item{code: ttlv.OperationGet}
	destroy := item{code: ttlv.OperationDestroy, id: []byte{1}, hasID: true}
	raw := (&answer{replies: []reply{
		get.done(ttlv.Struct(ttlv.TagResponsePayload, ttlv.Text(ttlv.TagUniqueIdentifier, "a \"<b>\"\n\u2028"), ttlv.Bytes(ttlv.TagKeyMaterial, []byte("secret")))),
		destroy.failed(fail(ttlv.ResultReasonItemNotFound, "there is none")),
		destroy.reply(ttlv.ResultStatusOperationUndone),
	}}).AuditRecord()
	var got any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	want := map[string]any{"results": []any{
		map[string]any{"operation": "Get", "status": "Success", "unique_identifiers": []any{"a \"<b>\"\n\u2028"}},
		map[string]any{"operation": "Destroy", "status": "OperationFailed", "reason": "ItemNotFound"},
		map[string]any{"operation": "Destroy", "status": "OperationUndone"},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s", raw)
	}
}

// An answer is as long as it was thought to be: its buffer is made once, and Maximum Response Size
// is held to.
func TestReplySize(t *testing.T) {
	t.Parallel()
	it := item{code: ttlv.OperationGet, id: []byte("an id"), hasID: true}
	pending := it.reply(ttlv.ResultStatusOperationPending)
	pending.correlation = []byte("later")
	material := ttlv.Struct(ttlv.TagOpaqueObject, ttlv.Bytes(ttlv.TagOpaqueDataValue, []byte("abc"))).Encode()
	encoded, err := ttlv.Encoded(material)
	if err != nil {
		t.Fatal(err)
	}
	b := &batch{call: &engine.Call{Request: &engine.Request{ID: newUUID()}}, now: time.Now()}
	for _, m := range []*message{{version: version{1, 0}}, {version: version{1, 4}, correlation: "theirs"}} {
		replies := []reply{it.done(nil), it.done(ttlv.Struct(ttlv.TagResponsePayload, encoded)), it.failed(fail(ttlv.ResultReasonItemNotFound, "there is none")), pending}
		raw := b.response(m, replies)
		size := ttlv.HeaderBytes + headerSize
		if m.correlation != "" {
			size += bytesSize(m.correlation) + bytesSize(b.call.Request.ID)
		}
		for i := range replies {
			size += replies[i].size()
		}
		if size != len(raw) {
			t.Errorf("%d bytes are %d", size, len(raw))
		}
		root, err := ttlv.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		items := root.All(ttlv.TagBatchItem)
		if len(items) != len(replies) {
			t.Fatalf("%d items", len(items))
		}
		if got := items[1].Get(ttlv.TagResponsePayload).Get(ttlv.TagOpaqueObject); got == nil || !bytes.Equal(got.Encode(), material) {
			t.Errorf("what was encoded is %v", got)
		}
		if got := items[3].Get(ttlv.TagAsynchronousCorrelationValue); got == nil || string(got.Bytes) != "later" {
			t.Errorf("the correlation value is %v", got)
		}
	}
}
