package kmip

import (
	"context"
	"runtime"
	"testing"
	"time"

	"arca/internal/storage"
	"arca/internal/ttlv"
)

// The cache is told how much memory an object takes: not less than half of it, or it grows
// above its bound, and not twice as much, or it holds half of what it could.
func TestObjectMemory(t *testing.T) { //nolint:paralleltest // others would count, too
	x := newBench(t)
	now := time.Now()
	var raw []byte
	x.do(func(tx storage.Tx) error {
		b := &batch{e: x.e, ctx: context.Background(), call: x.call(tx, now), tx: tx, now: now, v: version{1, 4}, scope: "AAAAA", role: &role{Ops: []string{opAll}}}
		o, node, err := b.makeSymmetric([]attribute{
			newAttribute(attrAlgorithm, ttlv.Enum(0, ttlv.CryptographicAlgorithmAES)), newAttribute(attrLength, ttlv.Int(0, 256)), newAttribute(attrMask, ttlv.Int(0, 12)),
			newAttribute(attrName, ttlv.Struct(0, ttlv.Text(ttlv.TagNameValue, "key-1"), ttlv.Enum(ttlv.TagNameType, 1))),
		}, nil)
		if err == nil {
			err = b.commit(o, node)
		}
		if err == nil {
			raw, err = tx.Get(objectKey("AAAAA", o.hash()))
		}
		return err
	})
	const n = 5000
	list := make([]*object, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	told := 0
	for i := range list {
		var err error
		if list[i], told, err = decodeObject("k", raw); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	takes := (int(after.HeapAlloc) - int(before.HeapAlloc)) / n
	if told < takes/2 || told > 2*takes {
		t.Errorf("an object of %d bytes takes %d, the cache is told %d", len(raw), takes, told)
	}
	runtime.KeepAlive(list)
}
