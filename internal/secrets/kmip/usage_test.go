package kmip

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/storage"
	"arca/internal/ttlv"
)

// Uses are told in parts, of an object at most once in a period whichever node tells, all of
// them when a node stops; what is told is forgotten, and what cannot be told is not lost.
func TestTellUses(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	h := &hall{x: x}
	v := &server{}
	v.at.Store(&place{Place: engine.Place{Mount: &engine.Mount{ID: "m"}}})
	now := time.Now().Truncate(time.Second)
	key := func(i int) string { return "AAAAA/" + hashed(fmt.Sprint(i)) }
	const many = usesAtOnce + 10
	x.do(func(tx storage.Tx) error {
		for i := range many {
			if err := tx.Put("o/"+key(i), []byte{}); err != nil {
				return err
			}
		}
		return nil
	})
	note := func(v *server, at time.Time, role string, objects ...int) {
		for _, i := range objects {
			v.uses.note([]used{{key(i), ttlv.OperationGet}}, role, big.NewInt(7), at)
		}
	}
	stored := func(i int) (out usage) {
		t.Helper()
		x.do(func(tx storage.Tx) error {
			one, err := get[usage](tx, usedDir+key(i))
			if err == nil {
				out = *one
			}
			return err
		})
		return out
	}
	for i := range many {
		note(v, now, "r", i)
	}
	note(v, now, "r", many) // which is not there
	h.down = true
	v.tellUses(t.Context(), h, false)
	h.down, h.n = false, 0
	v.tellUses(t.Context(), h, false)
	if got := x.count(usedDir); h.n != 2 || got != many {
		t.Fatalf("told in %d parts, %d are kept", h.n, got)
	}
	if got, want := stored(3), (usage{1, now.Unix(), ttlv.OperationGet, "r", "7"}); got != want {
		t.Errorf("kept %+v, want %+v", got, want)
	}
	soon, later := now.Add(10*time.Minute), now.Add(usePeriod+time.Minute)
	other := &server{}
	other.at.Store(v.at.Load())
	note(v, soon, "r", 3)
	note(other, soon, "other", 4)
	h.n = 0
	v.tellUses(t.Context(), h, false)
	if h.n != 0 || stored(3).Time != now.Unix() {
		t.Error("told again within the period")
	}
	other.tellUses(t.Context(), h, false)
	if h.n != 1 || stored(4).Role != "r" {
		t.Error("another node writes within the period")
	}
	note(v, later, "r", 5)
	v.tellUses(t.Context(), h, false)
	if stored(5).Time != later.Unix() {
		t.Error("not told after the period")
	}
	note(other, soon.Add(time.Minute), "other", 4)
	for _, s := range []*server{v, other} {
		s.tellUses(t.Context(), h, true)
	}
	if a, b := stored(3), stored(4); a.Time != soon.Unix() || b.Role != "other" || b.Time != soon.Add(time.Minute).Unix() {
		t.Errorf("lost at the end: %+v %+v", a, b)
	}
	note(other, soon, "old", 5)
	other.tellUses(t.Context(), h, true)
	if stored(5).Role != "r" {
		t.Error("an older use replaces a newer one")
	}
}

// However many objects are used, a node remembers so many, and makes room by telling.
func TestUsesAreBounded(t *testing.T) {
	t.Parallel()
	var u uses
	now := time.Now()
	for i := range maxUses + 100 {
		u.note([]used{{fmt.Sprint(i), ttlv.OperationGet}}, "r", nil, now)
	}
	if len(u.all) != maxUses {
		t.Fatalf("%d are remembered", len(u.all))
	}
	due := u.due(now, false)
	if len(due) != maxUses {
		t.Fatalf("%d are due", len(due))
	}
	u.told(due)
	if n := len(u.due(now, false)); n != 0 || len(u.all) != 0 {
		t.Errorf("%d are due again, %d are remembered", n, len(u.all))
	}
	// Those that are used all the time leave room for others.
	for round := range 2 {
		for i := range maxUses {
			u.note([]used{{fmt.Sprint(i), ttlv.OperationGet}}, "r", nil, now.Add(time.Duration(round)*time.Second))
		}
		u.told(u.due(now, false))
	}
	u.due(now, false)
	u.note([]used{{"other", ttlv.OperationGet}}, "r", nil, now)
	if u.of("other") == nil {
		t.Error("an object is not noted, as others are used all the time")
	}
	clear(u.all)
	u.note([]used{{"a", ttlv.OperationGet}}, "r", nil, now)
	u.told(u.due(now, false))
	u.due(now, false)
	if len(u.all) != 1 {
		t.Error("what was told just now is forgotten without need")
	}
	u.due(now.Add(usePeriod+time.Second), false)
	if len(u.all) != 0 {
		t.Error("what is not used is remembered for ever")
	}
}

// The record goes with its object.
func TestUseGoesWithObject(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	now := time.Now().UTC()
	var id string
	do := func(fn func(b *batch) error) {
		t.Helper()
		x.do(func(tx storage.Tx) error {
			return fn(&batch{e: x.e, ctx: context.Background(), call: x.call(tx, now), tx: tx, now: now, v: version{1, 4}, scope: "AAAAA", role: &role{Ops: []string{opAll}}})
		})
	}
	do(func(b *batch) error {
		o, node, err := b.makeSymmetric([]attribute{
			newAttribute(attrAlgorithm, ttlv.Enum(0, ttlv.CryptographicAlgorithmAES)), newAttribute(attrLength, ttlv.Int(0, 256)), newAttribute(attrMask, ttlv.Int(0, 12)),
		}, nil)
		if err != nil {
			return err
		}
		id = o.ID
		if err := storage.PutJSON(b.tx, usedKey("AAAAA", o.hash()), usage{Version: 1, Time: 1}); err != nil {
			return err
		}
		return b.commit(o, node)
	})
	payload := ttlv.Struct(ttlv.TagRequestPayload, ttlv.Text(ttlv.TagUniqueIdentifier, id))
	do(func(b *batch) error { // also in a mount without a config record, as one that the API alone uses has none
		if err := b.tx.Delete(configKey); err != nil {
			return err
		}
		_, err := b.destroy(payload)
		return err
	})
	if x.count(usedDir) != 1 {
		t.Error("gone with Destroy: the last use of a destroyed object is worth knowing")
	}
	do(func(b *batch) error { return x.e.forget(b.tx, "AAAAA", hashed(id), now.Add(10*objectKept)) })
	if x.count(usedDir) != 0 {
		t.Error("left behind")
	}
}

// What a node says is taken whole or not at all, whatever it is.
func FuzzTelling(f *testing.F) {
	f.Add([]byte(`{"stops":true,"uses":{"AAAAA/00":{"v":1,"t":1,"op":10,"role":"r","serial":"1"}}}`))
	f.Add([]byte(`{"uses":{"AAAAA/../x":{}}}`))
	f.Add([]byte(`{"uses":{"AAAAA/0":null}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		said, err := parseTelling(raw)
		if err != nil {
			return
		}
		if _, err := json.Marshal(said); err != nil {
			t.Fatal(err)
		}
		for object := range said.Uses {
			if len(object) > 80 || object[5] != '/' {
				t.Errorf("taken: %q", object)
			}
		}
	})
}
