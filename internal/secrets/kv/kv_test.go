package kv

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/param"
	"arca/internal/storage"
)

// upgrade makes a mount of version 1 one of version 2.
func (b *bench) upgrade() {
	b.t.Helper()
	err := b.db.Update(context.Background(), func(tx storage.Tx) error {
		return v2{}.Tuned(context.Background(), &engine.Call{Tx: tx.Sub(dir), Mount: &b.mount, Now: b.now}, nil)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.table = engine.NewTable(v2{}.Routes())
}

func TestVariants(t *testing.T) {
	t.Parallel()
	e := Engine{}
	for version, want := range map[string]string{"": "1", "1": "1", "2": "2"} {
		if got := e.Variant(map[string]string{"version": version}); got != want {
			t.Errorf("%q: got %s, want %s", version, got, want)
		}
	}
	if e.Variant(nil) != "1" || len(e.Variants()) != 2 || e.Type() != "kv" || e.Routes() != nil {
		t.Error("the type kv is wrong")
	}
}

// A KV version 1 secret that holds ttl sets lease_duration (client traps:
// consul-template relies on it).
func TestLeaseDuration(t *testing.T) {
	t.Parallel()
	b := newBench(t, v1{})
	for body, want := range map[string]time.Duration{
		`{"a":1}`:              768 * time.Hour,
		`{"ttl":"1h"}`:         time.Hour,
		`{"ttl":60}`:           time.Minute,
		`{"ttl":"60"}`:         time.Minute,
		`{"lease":"2d"}`:       48 * time.Hour,
		`{"tt\u006c":"5m"}`:    5 * time.Minute,
		`{"ttl":"soon"}`:       768 * time.Hour,
		`{"ttl":-5}`:           768 * time.Hour,
		`{"ttl":{}}`:           768 * time.Hour,
		`{"a":"\"ttl\": 60"}`:  768 * time.Hour,
		`{"ttl":"1h","x":"y"}`: time.Hour,
	} {
		b.must(update, "p", body)
		res, err := b.do(read, "p", "")
		if err != nil || res.LeaseDuration != want {
			t.Errorf("%s: %s, %v, want %s", body, res.LeaseDuration, err, want)
		}
	}
}

func TestV1(t *testing.T) {
	t.Parallel()
	b := newBench(t, v1{})
	for _, c := range []struct {
		op               engine.Operation
		path, body, want string
	}{
		{update, "a", `{}`, "invalid: missing data fields"},
		{update, "", `{"a":1}`, "invalid: missing path"},
		{update, "a", `{"path":"data","z":1e2,"a":{"b":[1, 2]}}`, ""},
		{read, "a", "", `{"path":"data","z":1e2,"a":{"b":[1, 2]}}`}, // as it came in
		{read, "a/", "", "not found: not found"},
		{read, "b", "", "not found: not found"},
		{list, "", "", `{"keys":["a"]}`},
		{list, "a/", "", "not found: not found"}, // client traps: an empty list is 404
		{del, "a", "", ""},
		{del, "a", "", ""},
		{read, "a", "", "not found: not found"},
		{patch, "a", `{}`, "unsupported: 1 error occurred:\n\t* unsupported operation\n\n"},
	} {
		if got := b.text(c.op, c.path, c.body); got != c.want {
			t.Errorf("%s %s %s: got %s, want %s", c.op, c.path, c.body, got, c.want)
		}
	}
}

func TestV2Refusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, v2{})
	b.must(update, "data/a", `{"data":{"x":1}}`)
	const cas = "invalid: error parsing check-and-set parameter"
	for _, c := range []struct {
		op               engine.Operation
		path, body, want string
	}{
		{update, "data/", `{"data":{}}`, "invalid: missing path"},
		{update, "data/a", `{}`, "invalid: no data provided"},
		{update, "data/a", `{"data":"x"}`, `invalid: error converting input for field "data": '' expected type 'map[string]interface {}', got unconvertible type 'string'`},
		{update, "data/a", `{"data":[1]}`, `invalid: error converting input for field "data": '' expected type 'map[string]interface {}', got unconvertible type '[]interface {}'`},
		{update, "data/a", `{"data":{},"options":{"cas":"x"}}`, cas},
		{update, "data/a", `{"data":{},"options":{"cas":1.5}}`, cas},
		{update, "data/a", `{"data":{},"options":{"cas":[]}}`, cas},
		{update, "data/a", `{"data":{},"options":{"cas":0}}`, "invalid: " + errCAS.Error()},
		{update, "data/a", `{"data":{},"options":{"cas":null}}`, "invalid: " + errCAS.Error()},
		{update, "data/a", `{"data":{},"options":{"cas":-1}}`, "invalid: " + errCAS.Error()},
		{update, "data/a", `{"data":{},"options":[]}`, "invalid: error parsing options: they must be an object"},
		{patch, "data/a", `{"data":null}`, "invalid: no data provided"},
		{patch, "data/a", `{}`, "invalid: no data provided"},
		{patch, "data/none", `{"data":{}}`, "raw"},
		{patch, "metadata/none", `{"max_versions":1}`, "raw"},
		{update, "delete/a", `{}`, "invalid: No version number provided"},
		{update, "destroy/a", `{"versions":"x"}`, "invalid: Field validation failed: error converting input for field \"versions\": decoding failed due to the following error(s):\n\n'[0]' cannot parse value as 'int': strconv.ParseInt: invalid syntax"},
		{update, "delete/none", `{"versions":[1]}`, ""},
		{read, "data/a", `{"version":7}`, "not found: not found"},
		{read, "metadata/none", ``, "not found: not found"},
		{del, "metadata/", ``, "invalid: missing path"},
		{update, "metadata/a", `{"custom_metadata":"x"}`, "invalid: custom_metadata validation failed: '' expected a map, got 'string'"},
		{update, "metadata/a", `{"custom_metadata":{"a":{}}}`, "invalid: custom_metadata validation failed: '' expected type 'string', got unconvertible type 'map[string]interface {}'"},
		{update, "metadata/a", `{"custom_metadata":{"":"x"}}`, `invalid: custom_metadata validation failed: length of key "" is 0 but must be 0 < len(key) <= 128`},
		{update, "metadata/a", `{"custom_metadata":{"k":"` + strings.Repeat("v", 513) + `"}}`, `invalid: custom_metadata validation failed: length of value for key "k" is 513 but must be 0 < len(value) <= 512`},
		{update, "metadata/a", `{"custom_metadata":{"k":"\u0001"}}`, `invalid: custom_metadata validation failed: value for key "k" contains unprintable characters`},
	} {
		if got := b.text(c.op, c.path, c.body); got != c.want {
			t.Errorf("%s %s %s:\n got %s\nwant %s", c.op, c.path, c.body, got, c.want)
		}
	}
	// Client traps: a path of version 1 is not found, with a warning.
	for _, op := range []engine.Operation{read, list, update, patch, del} {
		res, err := b.do(op, "a", "")
		if err != nil || !res.Missing || len(res.Warnings) != 1 || !strings.HasPrefix(res.Warnings[0], "Invalid path for a versioned K/V secrets engine.") {
			t.Errorf("%s: %+v, %v", op, res, err)
		}
	}
	// Client traps: a deleted version is not found, with its metadata.
	b.must(del, "data/a", "")
	for _, path := range []string{"data/a", "subkeys/a"} {
		if got := b.text(read, path, ""); !strings.HasPrefix(got, "missing {") || !strings.Contains(got, `"version":1`) || strings.Contains(got, `"x"`) {
			t.Errorf("%s deleted: %s", path, got)
		}
	}
	if got := b.text(patch, "data/a", `{"data":{"y":1}}`); !strings.HasPrefix(got, "missing {") {
		t.Errorf("a patch of what is deleted: %s", got)
	}
}

// Answers to different requests share nothing that the hall writes to.
func TestAnswersAreNotShared(t *testing.T) {
	t.Parallel()
	b := newBench(t, v2{})
	one, _ := b.do(patch, "data/none", `{"data":{}}`)
	two, _ := b.do(patch, "data/none", `{"data":{}}`)
	if one == two {
		t.Error("they are one")
	}
}

func TestSubkeys(t *testing.T) {
	t.Parallel()
	b := newBench(t, v2{})
	b.must(update, "data/a", `{"data":{"a":1,"b":{"c":{"d":2},"e":[{"f":1}]},"g":{}}}`)
	for query, want := range map[string]string{
		``:            `{"a":null,"b":{"c":{"d":null},"e":null},"g":null}`,
		`{"depth":1}`: `{"a":null,"b":null,"g":null}`,
		`{"depth":2}`: `{"a":null,"b":{"c":null,"e":null},"g":null}`,
	} {
		raw, _ := json.Marshal(b.must(read, "subkeys/a", query)["subkeys"])
		if string(raw) != want {
			t.Errorf("%s: got %s, want %s", query, raw, want)
		}
	}
}

// A deletion that lies beyond what the record can hold is none.
func TestFarDeletion(t *testing.T) {
	t.Parallel()
	b := newBench(t, v2{})
	b.must(update, "metadata/a", `{"delete_version_after":"106000d"}`)
	b.must(update, "data/a", `{"data":{"x":1}}`)
	if got := b.text(read, "data/a", ""); !strings.HasPrefix(got, `{"data":{"x":1}`) {
		t.Errorf("got %s", got)
	}
}

// RFC 7396, appendix A: the cases whose target and patch are objects, as those
// of secrets always are.
func TestMergePatch(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, target, patch, want string }{
		{"replace", `{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{"add", `{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{"remove", `{"a":"b"}`, `{"a":null}`, `{}`},
		{"remove one", `{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{"a list gives way", `{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{"to a list", `{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{"within", `{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{"lists are not merged", `{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{"null stays", `{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{"nothing to remove", `{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{"an object over a text", `{"a":"b"}`, `{"a":{"c":1}}`, `{"a":{"c":1}}`},
		{"over null", `null`, `{"a":1}`, `{"a":1}`},
		{"numbers stay as they are", `{"a":1.50}`, `{"b":1e2}`, `{"a":1.50,"b":1e2}`},
		{"repeated", `{"a":1}`, `{"a":2,"a":null}`, `{}`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			budget := maxMergeBytes
			got, err := mergePatch([]byte(c.target), []byte(c.patch), &budget)
			if err != nil || string(got) != c.want {
				t.Errorf("got %s, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestMergePatchBounds(t *testing.T) {
	t.Parallel()
	members := func(prefix string, n int) []byte {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"%s%d":1`, prefix, i)
		}
		return []byte("{" + b.String()[1:] + "}")
	}
	budget := maxMergeBytes
	if _, err := mergePatch(members("a", param.MaxMembers), members("b", 1), &budget); !errs.Is(err, errs.Invalid) {
		t.Errorf("too many members: %v", err)
	}
	deep := []byte(strings.Repeat(`{"a":`, 299) + `"` + strings.Repeat("x", 1<<16) + `"` + strings.Repeat("}", 299))
	budget = 8 * len(deep)
	if _, err := mergePatch(deep, deep, &budget); !errs.Is(err, errs.TooLarge) {
		t.Errorf("too much work: %v", err)
	}
	budget = maxMergeBytes
	if _, err := mergePatch(nil, []byte(`{"a":{"b":1}}`), &budget); err != nil {
		t.Error(err)
	}
}

// FuzzMergePatch holds it to the pseudo code of RFC 7396, section 2.
func FuzzMergePatch(f *testing.F) {
	f.Add([]byte(`{"a":"b","c":{"d":"e","f":"g"}}`), []byte(`{"a":"z","c":{"f":null}}`))
	f.Add([]byte(`{"a":1,"a":2}`), []byte(`{"a":{"a":{}},"a":null}`))
	f.Add([]byte(`null`), []byte(`{"\u0061":null,"b":{"c":null}}`))
	f.Fuzz(func(t *testing.T, target, patch []byte) {
		decode := func(raw []byte) (m map[string]any, ok bool) {
			d := json.NewDecoder(bytes.NewReader(raw))
			d.UseNumber()
			return m, json.Valid(raw) && d.Decode(&m) == nil
		}
		to, ok1 := decode(target)
		by, ok2 := decode(patch)
		if !ok1 || !ok2 || by == nil {
			return
		}
		if _, err := param.ParseObject(target); err != nil {
			return
		}
		if _, err := param.ParseObject(patch); err != nil {
			return
		}
		budget := maxMergeBytes
		got, err := mergePatch(bytes.TrimSpace(target), bytes.TrimSpace(patch), &budget)
		if err != nil {
			t.Fatalf("%s by %s: %v", target, patch, err)
		}
		have, ok := decode(got)
		if want := merged(to, by); !ok || !reflect.DeepEqual(have, want) {
			t.Fatalf("%s by %s: got %s, want %v", target, patch, got, want)
		}
	})
}

func merged(target any, patch any) any {
	p, isObject := patch.(map[string]any)
	if !isObject {
		return patch
	}
	out := map[string]any{}
	if t, ok := target.(map[string]any); ok {
		for k, v := range t {
			out[k] = v
		}
	}
	for k, v := range p {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = merged(out[k], v)
		}
	}
	return out
}

func TestMetaRecord(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for name, m := range map[string]*metadata{
		"empty": {Versions: []version{}},
		"full": {
			Created: now, Updated: now.Add(1), Current: 7, First: 5, Oldest: 5, MaxVersions: math.MaxInt32, CASRequired: true,
			DeleteVersionAfter: time.Hour, Custom: map[string]string{"k": "é<", "": ""},
			Versions: []version{{Created: now}, {Created: now, Deleted: now.Add(time.Hour)}, {Destroyed: true}},
		},
		"no custom metadata but a map": {Custom: map[string]string{}, Versions: []version{}},
	} {
		raw, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeMeta(raw)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, m)
		}
		for n := range len(raw) {
			if got, err := decodeMeta(raw[:n]); err == nil && reflect.DeepEqual(got, m) {
				t.Errorf("%s: cut at %d it is the same", name, n)
			}
		}
	}
}

// FuzzDecodeMeta: what is read is written back as it was read, and no record
// makes the decoder panic or take much memory.
func FuzzDecodeMeta(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	raw, err := (&metadata{Created: now, Current: 2, First: 1, Custom: map[string]string{"a": "b"}, Versions: []version{{Created: now}, {Destroyed: true}}}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{metaForm, 0})
	f.Add([]byte{metaForm, 3, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := decodeMeta(raw)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeMeta(again)
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Fatalf("%x: %+v became %+v, %v", raw, m, back, err)
		}
		m.at(m.Current)
	})
}

// Of many writers that build on the same version exactly one wins. S0-25: cas 0
// is how a new key is made once.
func TestConcurrentCAS(t *testing.T) {
	t.Parallel()
	b := newBench(t, v2{})
	const writers, rounds = 16, 10
	for round := range rounds {
		var won, lost atomic.Int32
		var group sync.WaitGroup
		for w := range writers {
			group.Go(func() {
				_, err := b.do(update, "data/k", fmt.Sprintf(`{"data":{"w":%d},"options":{"cas":%d}}`, w, round))
				switch {
				case err == nil:
					won.Add(1)
				case errs.Is(err, errs.Invalid):
					lost.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		group.Wait()
		if won.Load() != 1 || lost.Load() != writers-1 {
			t.Fatalf("round %d: %d won, %d lost", round, won.Load(), lost.Load())
		}
	}
	if got := b.must(read, "metadata/k", "")["current_version"]; got != float64(rounds) {
		t.Errorf("version %v, want %d", got, rounds)
	}
}

// Without cas all win, one after another.
func TestConcurrentWrites(t *testing.T) {
	t.Parallel()
	b := newBench(t, v2{})
	const n = 40
	b.must(update, "config", `{"max_versions":100}`)
	var group sync.WaitGroup
	for w := range n {
		group.Go(func() {
			op := update
			if w%2 == 1 {
				op = patch
			}
			if _, err := b.do(op, "data/k", fmt.Sprintf(`{"data":{"w%d":1}}`, w)); err != nil {
				t.Error(err)
			}
		})
	}
	b.must(update, "data/k", `{"data":{}}`)
	group.Wait()
	meta := b.must(read, "metadata/k", "")
	versions, _ := meta["versions"].(map[string]any)
	if len(versions) != int(meta["current_version"].(float64)) {
		t.Errorf("%d versions are kept of %v", len(versions), meta["current_version"])
	}
}

// Listings are kept until something in the folder changes: whoever lists after
// a write was acknowledged sees it.
func TestListingsAreFresh(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		upgraded            bool
		e                   engine.Engine
		write, list, remove string
	}{
		"version 1": {e: v1{}, write: "", list: "", remove: ""},
		"version 2": {e: v2{}, write: "data/", list: "metadata/", remove: "metadata/"},
		"upgraded":  {upgraded: true, e: v1{}, write: "data/", list: "metadata/", remove: "metadata/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, c.e)
			long := strings.Repeat("x", 40) // so that listings are worth keeping
			if c.upgraded {
				for i := range 61 {
					b.must(update, fmt.Sprintf("f/%s%d", long, i), `{"a":1}`)
				}
				b.upgrade()
			} else {
				for i := range 61 {
					b.must(update, fmt.Sprintf("%sf/%s%d", c.write, long, i), `{"data":{"a":1}}`)
				}
			}
			has := func(name string) bool {
				raw, _ := json.Marshal(b.must(list, c.list+"f/", ""))
				return bytes.Contains(raw, []byte(`"`+name+`"`))
			}
			var group sync.WaitGroup
			for w := range 4 {
				group.Go(func() {
					for i := range 30 {
						own := fmt.Sprintf("own%d-%d", w, i)
						old := fmt.Sprintf("%s%d", long, w*15+i%15)
						for _, name := range []string{own, old} {
							if _, err := b.do(update, c.write+"f/"+name, `{"data":{"a":2}}`); err != nil {
								t.Error(err)
							}
							if !has(name) {
								t.Errorf("%s is not listed after it was written", name)
							}
							if _, err := b.do(del, c.remove+"f/"+name, ""); err != nil {
								t.Error(err)
							}
							if has(name) {
								t.Errorf("%s is listed after it was removed", name)
							}
						}
					}
				})
			}
			group.Wait()
		})
	}
}

// S0-23.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	b := newBench(t, v1{})
	for _, p := range []string{"a", "f/b", "f/c"} {
		b.must(update, p, `{"k":"`+p+`"}`)
	}
	before := len(b.keys())
	b.upgrade()
	if got := len(b.keys()); got != before+1 {
		t.Errorf("upgrading wrote %d keys", got-before)
	}
	if got := fmt.Sprint(b.must(list, "metadata/", "")["keys"]); got != "[a f/]" {
		t.Errorf("list: %s", got)
	}
	if got := fmt.Sprint(b.must(list, "metadata/f/", `{"after":"b"}`)["keys"]); got != "[c]" {
		t.Errorf("a page: %s", got)
	}
	if got := b.text(read, "data/a", ""); !strings.HasPrefix(got, `{"data":{"k":"a"},"metadata":{`) || !strings.Contains(got, `"version":1`) {
		t.Errorf("read: %s", got)
	}
	b.must(patch, "data/a", `{"data":{"n":1},"options":{"cas":1}}`)
	if got := b.text(read, "data/a", ""); !strings.HasPrefix(got, `{"data":{"k":"a","n":1}`) {
		t.Errorf("patched: %s", got)
	}
	if got := b.text(read, "data/a", `{"version":1}`); !strings.HasPrefix(got, `{"data":{"k":"a"},`) {
		t.Errorf("version 1: %s", got)
	}
	b.must(del, "data/f/b", "")
	if got := b.text(read, "data/f/b", ""); !strings.HasPrefix(got, "missing") {
		t.Errorf("deleted: %s", got)
	}
	b.must(update, "undelete/f/b", `{"versions":[1]}`)
	if got := b.text(read, "data/f/b", ""); !strings.HasPrefix(got, `{"data":{"k":"f/b"}`) {
		t.Errorf("undeleted: %s", got)
	}
	b.must(update, "destroy/f/c", `{"versions":[1]}`)
	for _, p := range []string{"a", "f/b", "f/c"} {
		b.must(del, "metadata/"+p, "")
	}
	if got := b.keys(); len(got) != 1 {
		t.Errorf("left: %q", got)
	}
}
