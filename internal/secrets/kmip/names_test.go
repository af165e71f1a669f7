package kmip

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/storage"
	"arca/internal/ttlv"
)

// A town is a scope of a bench, and what is to be known of the names in it.
type town struct {
	*bench
	now    time.Time
	owners map[string]string   // of names: id
	names  map[string][]string // of objects that are not destroyed
	gone   map[string][]string // of those that are
	old    bool                // the scope is one of before
}

const townID = "AAAAA"

func newTown(t *testing.T, old bool) *town {
	t.Helper()
	w := &town{newBench(t), time.Now().UTC(), map[string]string{}, map[string][]string{}, map[string][]string{}, old}
	w.bench.do(func(tx storage.Tx) error {
		s := scope{Version: 1, ID: townID, Retention: time.Hour}
		if err := tx.Put(scopeIDKey(townID), []byte("town")); err != nil {
			return err
		}
		if old {
			return storage.PutJSON(tx, scopeKey("town"), s)
		}
		s.Version = scopeVersion
		return putScope(tx, "town", &s)
	})
	return w
}

func (w *town) act(fn func(b *batch) error) error {
	return w.db.Update(w.t.Context(), func(tx storage.Tx) error {
		return fn(&batch{e: w.e, ctx: context.Background(), call: w.call(tx, w.now), tx: tx, now: w.now, v: version{1, 4}, scope: townID, role: &role{Ops: []string{opAll}}})
	})
}

// asBefore is act by a version of arca that did not note names: what is noted stays as it was.
func (w *town) asBefore(fn func(b *batch) error) error {
	return w.act(func(b *batch) error {
		before := map[string][]byte{}
		for kv, err := range b.tx.Scan(nameDir, "") {
			if err != nil {
				return err
			}
			before[kv.Key] = kv.Value
		}
		if err := fn(b); err != nil {
			return err
		}
		if err := b.tx.DeletePrefix(nameDir); err != nil {
			return err
		}
		for key, value := range before {
			if err := b.tx.Put(key, value); err != nil {
				return err
			}
		}
		return nil
	})
}

func nameNode(label string) *ttlv.Node {
	return ttlv.Struct(0, ttlv.Text(ttlv.TagNameValue, label), ttlv.Enum(ttlv.TagNameType, ttlv.NameTypeUninterpretedTextString))
}

func ofID(id string, more ...*ttlv.Node) *ttlv.Node {
	return ttlv.Struct(ttlv.TagRequestPayload, ttlv.Text(ttlv.TagUniqueIdentifier, id)).Add(more...)
}

func nameShown(label string, index int32) *ttlv.Node {
	return ttlv.Struct(ttlv.TagAttribute, ttlv.Text(ttlv.TagAttributeName, attrName), ttlv.Int(ttlv.TagAttributeIndex, index), nameNode(label).Retag(ttlv.TagAttributeValue))
}

func (b *batch) makeNamed(labels ...string) (id string, err error) {
	attrs := []attribute{newAttribute(attrAlgorithm, ttlv.Enum(0, ttlv.CryptographicAlgorithmAES)), newAttribute(attrLength, ttlv.Int(0, 256)), newAttribute(attrMask, ttlv.Int(0, 12))}
	for i, label := range labels {
		a := newAttribute(attrName, nameNode(label))
		a.Index = int32(i)
		attrs = append(attrs, a)
	}
	o, node, err := b.makeSymmetric(attrs, nil)
	if err != nil {
		return "", err
	}
	return o.ID, b.commit(o, node)
}

// step does something at random to names, and holds the outcome to what is to be known of them.
func (w *town) step(r *rand.Rand) (what string) {
	w.t.Helper()
	act := w.act
	if w.old && r.IntN(2) == 0 {
		act = w.asBefore
	}
	label := fmt.Sprint("n", r.IntN(40))
	_, taken := w.owners[label]
	pick := func(of map[string][]string) string {
		ids := slices.Sorted(maps.Keys(of))
		if len(ids) == 0 {
			return ""
		}
		return ids[r.IntN(len(ids))]
	}
	id, dead := pick(w.names), pick(w.gone)
	may, run, then := true, func(*batch) error { return nil }, func() {}
	switch op := r.IntN(8); {
	case op < 2 || id == "":
		what = "create " + label
		other := fmt.Sprint("n", r.IntN(40))
		_, both := w.owners[other]
		labels := []string{label}
		if other != label {
			labels, taken = append(labels, other), taken || both
		}
		var made string
		may, run = !taken, func(b *batch) (err error) { made, err = b.makeNamed(labels...); return err }
		then = func() {
			w.names[made] = labels
			for _, l := range labels {
				w.owners[l] = made
			}
		}
	case op == 2:
		what = "add " + label
		may, run = !taken, func(b *batch) error {
			n := nameShown(label, 0)
			n.Children = slices.DeleteFunc(n.Children, func(c *ttlv.Node) bool { return c.Tag == ttlv.TagAttributeIndex })
			_, err := b.addAttribute(ofID(id, n))
			return err
		}
		then = func() { w.names[id], w.owners[label] = append(w.names[id], label), id }
	case op == 3 && len(w.names[id]) > 0:
		from := w.names[id][r.IntN(len(w.names[id]))]
		what = "rename " + from + " to " + label
		may, run = !taken || from == label, func(b *batch) error {
			_, err := b.modifyAttribute(ofID(id, nameShown(label, w.indexOf(b, id, from))))
			return err
		}
		then = func() {
			delete(w.owners, from)
			w.names[id][slices.Index(w.names[id], from)], w.owners[label] = label, id
		}
	case op == 4 && len(w.names[id]) > 0:
		from := w.names[id][r.IntN(len(w.names[id]))]
		what = "delete " + from
		run = func(b *batch) error {
			_, err := b.deleteAttribute(ofID(id, ttlv.Text(ttlv.TagAttributeName, attrName), ttlv.Int(ttlv.TagAttributeIndex, w.indexOf(b, id, from))))
			return err
		}
		then = func() {
			delete(w.owners, from)
			w.names[id] = slices.DeleteFunc(w.names[id], func(l string) bool { return l == from })
		}
	case op == 5:
		what = "destroy"
		run = func(b *batch) error { _, err := b.destroy(ofID(id)); return err }
		then = func() {
			for _, l := range w.names[id] {
				delete(w.owners, l)
			}
			w.gone[id] = w.names[id]
			delete(w.names, id)
		}
	case op == 6:
		what = "replace"
		var fresh string
		run = func(b *batch) error {
			out, err := b.rekey(ofID(id))
			fresh = out.Get(ttlv.TagUniqueIdentifier).Text()
			return err
		}
		then = func() {
			w.names[fresh], w.names[id] = w.names[id], nil
			for _, l := range w.names[fresh] {
				w.owners[l] = fresh
			}
		}
	case dead != "":
		what = "restore"
		for _, l := range w.gone[dead] {
			_, taken := w.owners[l]
			may = may && !taken
		}
		run = func(b *batch) error { _, err := b.restore(ofID(dead)); return err }
		then = func() {
			w.names[dead] = w.gone[dead]
			delete(w.gone, dead)
			for _, l := range w.names[dead] {
				w.owners[l] = dead
			}
		}
	}
	err := act(run)
	if err != nil && !isFault(err) || (err == nil) != may {
		w.t.Fatalf("%s: %v, want success: %t", what, err, may)
	}
	if err == nil {
		then()
	}
	return what
}

// indexOf is the index of a name's instance.
func (w *town) indexOf(b *batch, id, label string) int32 {
	w.t.Helper()
	o, err := b.object(id)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range o.instances(attrName) {
		if a.node().Get(ttlv.TagNameValue).Text() == label {
			return a.Index
		}
	}
	w.t.Fatalf("%s has no name %s", id, label)
	return 0
}

// check holds all names to what is to be known of them.
func (w *town) check(after string) {
	w.t.Helper()
	err := w.act(func(b *batch) error {
		for i := range 40 {
			label := fmt.Sprint("n", i)
			o, err := b.named(label)
			if err != nil {
				return err
			}
			got := ""
			if o != nil {
				got = o.ID
			}
			out, err := b.locate(ttlv.Struct(ttlv.TagRequestPayload, nameShown(label, 0)))
			if err != nil {
				return err
			}
			if want, located := w.owners[label], out.Get(ttlv.TagUniqueIdentifier).Text(); got != want || located != want || len(out.All(ttlv.TagUniqueIdentifier)) > 1 {
				w.t.Fatalf("after %s, %s is %q's, and %q is located; want %q", after, label, got, located, want)
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if n := w.count("i/"); w.old && n != len(w.owners) {
		w.t.Fatalf("after %s, versions of before find %d names of %d", after, n, len(w.owners))
	}
}

// note has a part of the names of a scope of before noted.
func (w *town) note() (done bool) {
	w.t.Helper()
	w.bench.do(func(tx storage.Tx) error {
		call := w.call(tx, w.now)
		call.Request.Raw = []byte("town")
		if _, err := w.e.noteNames(w.t.Context(), call, engine.None{}); err != nil {
			return err
		}
		s, err := scopeOf(tx, "town")
		done = err == nil && s.noted()
		return err
	})
	return done
}

// Whatever becomes of objects, a name is one object's: in scopes made by this version, in those of
// before, with names that versions of before have given, and while these are noted.
func TestNames(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprintf("old=%t", old), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			t.Logf("seed %d", seed)
			w := newTown(t, old)
			if old {
				for from := 0; from < 3*namesAtOnce; from += 50 { // without names, between those that have some
					if err := w.act(func(b *batch) (err error) {
						for i := 0; i < 50 && err == nil; i++ {
							_, err = b.makeNamed()
						}
						return err
					}); err != nil {
						t.Fatal(err)
					}
					w.now = w.now.Add(time.Second)
					w.step(r)
				}
			}
			walk := func(steps int) {
				for range steps {
					w.now = w.now.Add(time.Second)
					w.check(w.step(r))
				}
			}
			walk(150)
			parts := 0
			for old && !w.note() { // versions of before cannot change it from now on
				w.old = false
				parts++
				w.check("noting")
				walk(20)
			}
			w.old = false
			w.check("noting")
			walk(150)
			if n := w.count("i/"); n != 0 || old && parts < 3 {
				t.Errorf("%d names are in the index; noted in %d parts", n, parts+1)
			}
			if n := w.count(nameDir); !old && n != len(w.owners) {
				t.Errorf("%d names are noted, of %d", n, len(w.owners))
			}
		})
	}
}

// Of those who want a name at the same time one gets it; Undo gives it back.
func TestNamesContended(t *testing.T) {
	t.Parallel()
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprintf("old=%t", old), func(t *testing.T) {
			t.Parallel()
			w := newTown(t, old)
			const labels, rivals = 30, 8
			var made [labels]atomic.Int32
			var wait sync.WaitGroup
			undone := errors.New("undone")
			for range rivals {
				wait.Go(func() {
					for i := range labels {
						_ = w.act(func(b *batch) error { // an attempt that comes to nothing
							_, err := b.makeNamed(fmt.Sprint(i))
							return errors.Join(undone, err)
						})
						err := w.act(func(b *batch) error { _, err := b.makeNamed(fmt.Sprint(i)); return err })
						if err == nil {
							made[i].Add(1)
						} else if !isFault(err) {
							t.Error(err)
						}
					}
				})
			}
			if old {
				wait.Go(func() {
					for !w.note() {
						continue
					}
				})
			}
			wait.Wait()
			for i := range made {
				if n := made[i].Load(); n != 1 {
					t.Errorf("%d was made %d times", i, n)
				}
			}
		})
	}
}

// A clerk is the active node of a bench, which notes names.
type clerk struct {
	registrar
	down bool
	n    int
}

func (h *clerk) Handle(ctx context.Context, req *engine.Request) (*engine.Response, error) {
	if h.n++; h.down || !strings.HasSuffix(req.Path, namesPath) {
		return nil, errors.New("not now")
	}
	return nil, h.x.db.Update(ctx, func(tx storage.Tx) error {
		call := h.x.call(tx, time.Now())
		call.Request = req
		_, err := h.x.e.noteNames(ctx, call, engine.None{})
		return err
	})
}

// The active node, and no other, notes the names of all scopes of before, once; what does not
// succeed is tried again. Records of such scopes then tell versions of before that they cannot go on.
func TestNoteAll(t *testing.T) {
	t.Parallel()
	w := newTown(t, true)
	if err := w.asBefore(func(b *batch) error { _, err := b.makeNamed("a"); return err }); err != nil {
		t.Fatal(err)
	}
	w.do(func(tx storage.Tx) error {
		_, err := w.e.writeScope(t.Context(), w.call(tx, w.now), writeScopeIn{scopeIn: scopeIn{"now"}})
		return errors.Join(err, storage.PutJSON(tx, scopeKey("empty"), scope{Version: 1, ID: "BBBBB"}))
	})
	record := func(name string) (raw []byte) {
		w.do(func(tx storage.Tx) (err error) {
			raw, err = tx.Get(scopeKey(name))
			return err
		})
		return raw
	}
	if json.Unmarshal(record("town"), &scope{}) != nil || json.Unmarshal(record("now"), &scope{}) == nil {
		t.Error("versions of before are to read scopes of before, and no others")
	}
	h := &clerk{registrar: registrar{x: w.bench}, down: true}
	v := w.e.servers.of("m", h)
	defer v.close()
	v.at.Store(&place{Place: engine.Place{Mount: &engine.Mount{ID: "m"}}})
	w.e.servers.noteAll(t.Context(), h)
	if h.n != 0 {
		t.Error("a standby notes")
	}
	h.leads = true
	w.e.servers.noteAll(t.Context(), h)
	h.down, h.n = false, 0
	w.e.servers.noteAll(t.Context(), h)
	if h.n != 2 || w.count("i/") != 0 || w.count(nameDir) != 1 {
		t.Errorf("%d requests, %d names in the index, %d noted", h.n, w.count("i/"), w.count(nameDir))
	}
	if json.Unmarshal(record("town"), &scope{}) == nil {
		t.Error("versions of before read a scope whose names are noted")
	}
	views := h.views
	w.e.servers.noteAll(t.Context(), h)
	if h.views != views {
		t.Error("looks again")
	}
	w.do(func(tx storage.Tx) error { // settings stay
		s, err := scopeOf(tx, "town")
		if err == nil && (s.ID != townID || s.Retention != time.Hour) {
			t.Errorf("the scope is %+v", s)
		}
		_, err = parseScope("scope/x", []byte("\x02{\"v\":1}"))
		if err == nil {
			t.Error("a record of two versions is read")
		}
		return nil
	})
}
