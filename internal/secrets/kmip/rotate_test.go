package kmip

import (
	"context"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/storage"
	"arca/internal/ttlv"
)

// A key that is due is replaced by itself, once; its name goes on to the new one, which
// is due in its turn. What is not active, or does not want it, is left alone.
func TestRotate(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	now := time.Now().UTC().Truncate(time.Second)
	batchAt := func(tx storage.Tx, at time.Time) *batch {
		return &batch{e: x.e, ctx: context.Background(), call: x.call(tx, at), tx: tx, now: at, v: version{2, 1}, scope: "AAAAA", role: &role{Ops: []string{opAll}}}
	}
	name := func(s string) attribute {
		return newAttribute(attrName, ttlv.Struct(0, ttlv.Text(ttlv.TagNameValue, s), ttlv.Enum(ttlv.TagNameType, 1)))
	}
	add := func(n string, more ...attribute) (id string) {
		x.do(func(tx storage.Tx) error {
			b := batchAt(tx, now)
			attrs := append([]attribute{
				newAttribute(attrAlgorithm, ttlv.Enum(0, ttlv.CryptographicAlgorithmAES)), newAttribute(attrLength, ttlv.Int(0, 256)), newAttribute(attrMask, ttlv.Int(0, 12)), name(n),
			}, more...)
			o, node, err := b.makeSymmetric(attrs, nil)
			if err != nil {
				return err
			}
			id = o.ID
			return b.commit(o, node)
		})
		return id
	}
	on, auto, every := newAttribute(attrActivation, date(now)), newAttribute(attrRotateAuto, ttlv.Bool(0, true)), newAttribute(attrRotateInterval, ttlv.Seconds(0, 3600))
	first := add("turns", on, auto, every)
	others := map[string]string{"by hand": add("by hand", on, every), "asleep": add("asleep", auto, every)}
	tidyAt := func(at time.Time) {
		x.do(func(tx storage.Tx) error {
			_, err := x.e.tidy(context.Background(), x.call(tx, at), engine.None{})
			return err
		})
	}
	holder := func(n string) (o *object) {
		x.do(func(tx storage.Tx) (err error) { o, err = batchAt(tx, now).named(n); return err })
		return o
	}
	tidyAt(now.Add(59 * time.Minute))
	if holder("turns").ID != first {
		t.Error("replaced before its time")
	}
	tidyAt(now.Add(61 * time.Minute))
	second := holder("turns")
	if second.ID == first || second.get(attrRotateGeneration).Int != 1 || !second.truth(attrRotateLatest) || !second.truth(attrRotateAuto) {
		t.Fatalf("not replaced when due: %+v", second)
	}
	var old *object
	x.do(func(tx storage.Tx) (err error) { old, err = batchAt(tx, now).object(first); return err })
	if old.truth(attrRotateLatest) || old.truth(attrRotateAuto) || old.linked(ttlv.LinkTypeReplacementObjectLink) != second.ID {
		t.Errorf("the former key: %+v", old)
	}
	tidyAt(now.Add(62 * time.Minute))
	if holder("turns").ID != second.ID {
		t.Error("replaced twice")
	}
	tidyAt(now.Add(123 * time.Minute))
	if third := holder("turns"); third.ID == second.ID || third.get(attrRotateGeneration).Int != 2 {
		t.Error("the new key is not replaced in its turn")
	}
	// What becomes active late, or comes out of the archive, is due from then on.
	x.do(func(tx storage.Tx) error {
		_, err := batchAt(tx, now.Add(124*time.Minute)).activate(ttlv.Struct(ttlv.TagRequestPayload, ttlv.Text(ttlv.TagUniqueIdentifier, others["asleep"])))
		return err
	})
	tidyAt(now.Add(125 * time.Minute))
	if holder("asleep").ID == others["asleep"] {
		t.Error("what became active late is not replaced")
	}
	delete(others, "asleep")
	for n, id := range others {
		if holder(n).ID != id {
			t.Errorf("%s: replaced", n)
		}
	}
}

// No constraint that a client lays down ends the rotation of keys; what is in the way of one
// puts it off, and no more.
func TestRotateAgainstConstraints(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	now := time.Now().UTC().Truncate(time.Second)
	laid := ttlv.Struct(ttlv.TagConstraints, ttlv.Struct(ttlv.TagConstraint, ttlv.Struct(ttlv.TagAttributes, ttlv.Text(ttlv.TagComment, "the word"))))
	batchAt := func(tx storage.Tx, at time.Time) *batch {
		return &batch{e: x.e, ctx: context.Background(), call: x.call(tx, at), tx: tx, now: at, v: version{2, 1}, scope: "AAAAA", role: &role{Ops: []string{opAll}}}
	}
	ids := map[string]string{}
	x.do(func(tx storage.Tx) error {
		if err := tx.Put(scopeIDKey("AAAAA"), []byte("finance")); err != nil {
			return err
		}
		if err := storage.PutJSON(tx, scopeKey("finance"), scope{Version: 1, ID: "AAAAA"}); err != nil {
			return err
		}
		for _, n := range []string{"whole", "odd"} {
			b := batchAt(tx, now)
			o, node, err := b.makeSymmetric([]attribute{
				newAttribute(attrAlgorithm, ttlv.Enum(0, ttlv.CryptographicAlgorithmAES)), newAttribute(attrLength, ttlv.Int(0, 256)), newAttribute(attrMask, ttlv.Int(0, 12)),
				newAttribute(attrName, ttlv.Struct(0, ttlv.Text(ttlv.TagNameValue, n), ttlv.Enum(ttlv.TagNameType, 1))),
				newAttribute(attrActivation, date(now)), newAttribute(attrRotateAuto, ttlv.Bool(0, true)), newAttribute(attrRotateInterval, ttlv.Seconds(0, 3600)),
			}, nil)
			if err != nil {
				return err
			}
			if n == "odd" {
				o.set(attrLength, ttlv.Int(0, 100))
			}
			ids[n] = o.ID
			if err := b.commit(o, node); err != nil {
				return err
			}
		}
		_, err := batchAt(tx, now).setConstraints(ttlv.Struct(ttlv.TagRequestPayload, laid))
		return err
	})
	tidyAt := func(at time.Time) {
		x.do(func(tx storage.Tx) error {
			_, err := x.e.tidy(context.Background(), x.call(tx, at), engine.None{})
			return err
		})
	}
	turned := func(n string) (is bool) {
		x.do(func(tx storage.Tx) error {
			o, err := batchAt(tx, now).named(n)
			is = err == nil && o.ID != ids[n]
			return err
		})
		return is
	}
	tidyAt(now.Add(61 * time.Minute))
	if !turned("whole") || turned("odd") {
		t.Fatal("a constraint ends a rotation")
	}
	x.do(func(tx storage.Tx) error {
		b := batchAt(tx, now)
		o, err := b.object(ids["odd"])
		if err != nil {
			return err
		}
		c := o.clone()
		c.set(attrLength, ttlv.Int(0, 256))
		return b.save(o, c)
	})
	tidyAt(now.Add(120 * time.Minute))
	if turned("odd") {
		t.Error("it is tried without a pause")
	}
	tidyAt(now.Add(123 * time.Minute))
	if !turned("odd") {
		t.Error("what could not be replaced once is not replaced any more")
	}
}
