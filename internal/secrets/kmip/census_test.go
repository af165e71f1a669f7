package kmip

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/storage"
	"arca/internal/telemetry"
	"arca/internal/ttlv"
)

// A registrar is the active node of a bench.
type registrar struct {
	engine.Host
	x     *bench
	leads bool
	views int
}

func (h *registrar) Leads() bool     { return h.leads }
func (*registrar) Log() *slog.Logger { return slog.New(slog.DiscardHandler) }
func (h *registrar) View(ctx context.Context, _ *engine.Mount, fn func(tx storage.Tx) error) error {
	h.views++
	return h.x.db.View(ctx, fn)
}

// Objects and certificates are counted part by part; nobody asks, nobody counts; what
// is told is bounded, however many scopes there are.
func TestCensus(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	now := time.Now().UTC().Truncate(time.Second)
	put := func(key string, v any) { x.do(func(tx storage.Tx) error { return storage.PutJSON(tx, key, v) }) }
	add := func(key string, o *object) { x.do(func(tx storage.Tx) error { return tx.Put(key, o.encode()) }) }
	const scopes = maxCensus + 20
	x.do(func(tx storage.Tx) error {
		for i := range scopes {
			if err := tx.Put(scopeIDKey(fmt.Sprintf("%05d", i)), fmt.Appendf(nil, "scope-%d", i)); err != nil {
				return err
			}
		}
		return tx.Put(roleIDKey("00000", "RRRRR"), []byte("app"))
	})
	for i := range scopes {
		scope := fmt.Sprintf("%05d", i)
		for j := range 1 + (scopes-i)/scopes { // the first has two
			add(objectKey(scope, fmt.Sprint(j)), &object{ID: fmt.Sprint(i, j), Type: ttlv.ObjectTypeSymmetricKey})
		}
	}
	add(objectKey("00000", "x"), &object{ID: "x", Type: ttlv.ObjectTypeSymmetricKey, Attrs: []attribute{newAttribute(attrActivation, date(now))}})
	put(objectKey("00000", "y"), &object{ID: "y", Type: ttlv.ObjectTypeOpaqueObject}) // a record of version 1
	for i, days := range []int{-1, 2, 10} {
		put(credDir("00000", "RRRRR")+fmt.Sprint(i), &credential{Expires: now.Add(time.Duration(days) * day)})
	}
	s := x.e.servers
	v := &server{}
	v.at.Store(&place{Place: engine.Place{Mount: &engine.Mount{ID: "m", Path: "kmip/"}}})
	s.byMount["m"] = v
	read := func() map[string]float64 {
		out := map[string]float64{}
		s.gauges(func(name string, v float64, labels ...telemetry.Label) {
			for _, l := range labels[2:] {
				name += " " + l.Value
			}
			out[name] = v
		})
		return out
	}
	h := &registrar{x: x}
	h.leads = true
	s.count(t.Context(), h, now)
	if h.views != 0 {
		t.Error("it counts though nobody has asked")
	}
	read()
	s.count(t.Context(), h, now)
	got := read()
	for name, want := range map[string]float64{
		"kmip.objects scope-0 SymmetricKey PreActive": 2, "kmip.objects scope-0 SymmetricKey Active": 1, "kmip.objects scope-0 OpaqueObject none": 1,
		"kmip.credential.count scope-0 app": 2, "kmip.connection.open": 0,
		"kmip.objects other SymmetricKey PreActive": float64(scopes + 2 - maxCensus),
	} {
		if v, there := got[name]; !there || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
	for name, want := range map[string]float64{"kmip.credential.first_expiry_days scope-0 app": 2, "kmip.credential.last_expiry_days scope-0 app": 10} {
		if v := got[name]; v < want-0.01 || v > want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
	series := 0
	for name := range maps.Keys(got) {
		if strings.HasPrefix(name, "kmip.objects ") {
			series++
		}
	}
	if series != maxCensus+1 {
		t.Errorf("%d series", series)
	}
	h.leads = false
	s.count(t.Context(), h, now)
	if _, there := read()["kmip.credential.count scope-0 app"]; there {
		t.Error("a standby tells what it does not count")
	}
}

// A walk that is cut into parts finds the same.
func TestCensusInParts(t *testing.T) {
	t.Parallel()
	x := newBench(t)
	now := time.Now().UTC()
	x.do(func(tx storage.Tx) error {
		if err := tx.Put(scopeIDKey("AAAAA"), []byte("finance")); err != nil {
			return err
		}
		for i := range 100 {
			if err := tx.Put(objectKey("AAAAA", fmt.Sprint(i)), (&object{ID: fmt.Sprint(i), Type: ttlv.ObjectTypeSecretData}).encode()); err != nil {
				return err
			}
		}
		return nil
	})
	h := &registrar{x: x, leads: true}
	for _, step := range []int{1, 7, 50, 100, 1000} {
		w, over := newWalk(), false
		var out found
		for parts := 0; !over; parts++ {
			left, ended, err := w.on(t.Context(), h, &engine.Mount{}, &out, step, now)
			if over = ended; err != nil || parts > 200 {
				t.Fatalf("in parts of %d: %v after %d", step, err, parts)
			}
			if left < 0 {
				t.Fatal("more was read than was asked for")
			}
		}
		if len(out.objects) != 1 || out.objects[0].n != 100 || out.objects[0].scope != "finance" {
			t.Errorf("in parts of %d: %+v", step, out.objects)
		}
	}
}
