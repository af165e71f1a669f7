package kmip

import (
	"encoding/json"
	"reflect"
	"testing"

	"arca/internal/ttlv"
)

// The audit record of an answer is JSON, with what it must have and nothing of the payload.
func TestRecord(t *testing.T) {
	t.Parallel()
	raw := recordOf([]*ttlv.Node{
		ttlv.Struct(ttlv.TagBatchItem, ttlv.Enum(ttlv.TagOperation, ttlv.OperationGet), ttlv.Enum(ttlv.TagResultStatus, ttlv.ResultStatusSuccess),
			ttlv.Struct(ttlv.TagResponsePayload, ttlv.Text(ttlv.TagUniqueIdentifier, "a \"<b>\"\n\u2028"), ttlv.Bytes(ttlv.TagKeyMaterial, []byte("secret")))),
		ttlv.Struct(ttlv.TagBatchItem, ttlv.Enum(ttlv.TagOperation, ttlv.OperationDestroy), ttlv.Enum(ttlv.TagResultStatus, ttlv.ResultStatusOperationFailed), ttlv.Enum(ttlv.TagResultReason, ttlv.ResultReasonItemNotFound)),
		ttlv.Struct(ttlv.TagBatchItem),
	})
	var got any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	want := map[string]any{"results": []any{
		map[string]any{"operation": "Get", "status": "Success", "unique_identifiers": []any{"a \"<b>\"\n\u2028"}},
		map[string]any{"operation": "Destroy", "status": "OperationFailed", "reason": "ItemNotFound"},
		map[string]any{"status": "unknown"},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s", raw)
	}
}
