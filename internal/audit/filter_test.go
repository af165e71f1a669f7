package audit

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBadSelections(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		value string
		want  string
	}{
		{"filter", "mount == x", "filter cannot be used"},
		{"filter", "(((", "filter cannot be used"},
		{"filter", strings.Repeat("(", 4000), "filter cannot be used"},
		{"filter", strings.Repeat("(", 20) + "path==a" + strings.Repeat(")", 20), "max number of express"},
		{"filter", "path == " + strings.Repeat("a", maxFilterBytes), "longer than"},
		{"filter", `path matches "("`, "filter cannot be used"},
		{"fallback", "x", "invalid syntax"},
		{"exclude", "x", "exclude cannot be used"},
		{"exclude", `[{"field": ["/a"]}]`, "it must be a list"},
		{"exclude", `[{"fields": []}]`, "must name 1 to"},
		{"exclude", `[{"fields": ["data"]}]`, "no JSON pointer"},
		{"exclude", `[{"fields": ["/a"], "condition": "=="}]`, "condition of entry 1"},
	} {
		b := &Broker{log: discardLog(), cfg: Config{Wait: time.Second}}
		begin := processTime()
		_, err := b.make(row{Type: "file", Options: map[string]string{"file_path": "discard", c.name: c.value}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%.40s: got %v, want %q", c.name, c.value, err, c.want)
		}
		if took := processTime() - begin; took > 5*time.Second {
			t.Errorf("%s=%.40s took %v", c.name, c.value, took)
		}
	}
}

// A device has what its filter matches, the fallback has what no other wants, and
// without one that is recorded nowhere and its request goes on.
func TestFilters(t *testing.T) {
	t.Parallel()
	b, db := newBroker(t, 0)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	mustEnable(t, b, db, "kv/", "file", map[string]string{"file_path": file("kv"), "filter": `path matches "^kv/" and operation == create`})
	mustEnable(t, b, db, "sys/", "file", map[string]string{"file_path": file("sys"), "filter": `mount_type == nosuch or path == "sys/x"`})
	for _, path := range []string{"kv/1", "sys/x", "other"} {
		if err := b.Log(write(path)); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	mustEnable(t, b, db, "rest/", "file", map[string]string{"file_path": file("rest"), "fallback": "true"})
	for _, path := range []string{"kv/2", "other2"} {
		if err := b.Log(write(path)); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	for name, want := range map[string]int{"kv kv/1": 1, "kv kv/2": 1, "kv sys/x": 0, "kv other": 0, "sys sys/x": 1, "sys kv/": 0, "rest other2": 1, "rest kv/": 0} {
		device, text, _ := strings.Cut(name, " ")
		if got := len(readLines(t, file(device), text)); got != want {
			t.Errorf("%s: %d records, want %d", name, got, want)
		}
	}
	err := enable(t, b, db, Device{Path: "second/", Type: "file", Options: map[string]string{"file_path": "discard", "fallback": "true"}})
	if err == nil || !strings.Contains(err.Error(), "rest/ is the fallback device already") {
		t.Errorf("a second fallback: %v", err)
	}
}

// A filtered device that takes the record counts; that another, which does not
// want it, would take it, does not.
func TestFilteredDeviceFails(t *testing.T) {
	t.Parallel()
	b, _ := newBroker(t, 100*time.Millisecond)
	bad, good := newFake(), newFake()
	install(b, bad, good)
	s := b.set.Load()
	s.selective = true
	var err error
	if s.devices[0].selection, err = parseSelection(map[string]string{"filter": "path == a"}); err != nil {
		t.Fatal(err)
	}
	if s.devices[1].selection, err = parseSelection(map[string]string{"fallback": "1"}); err != nil {
		t.Fatal(err)
	}
	bad.set(func(f *fakeSink) { f.fail = errFull })
	if err := b.Log(write("a")); err == nil {
		t.Error("the only device that wants the record does not take it, and the request goes on")
	}
	if err := b.Log(write("b")); err != nil || good.having("\"b\"") != 1 {
		t.Errorf("fallback: %v", err)
	}
}

func TestExclude(t *testing.T) {
	t.Parallel()
	exclude := func(text string) style {
		list, err := parseExclude(text)
		if err != nil {
			t.Fatal(err)
		}
		return style{exclude: list}
	}
	r := write("kv/x")
	_, m := encoded(t, exclude(`[{"condition": "\"/request/path\" == \"kv/x\"", "fields": ["/request/data", "/auth/policies", "/none/x"]}]`), r)
	if at(m, "request", "data") != nil || at(m, "auth", "policies") != nil || at(m, "request", "path") != "kv/x" {
		t.Errorf("got %v", m)
	}
	for _, other := range []string{`"\"/request/path\" == y"`, `"\"/request/none\" == y"`} {
		if _, m = encoded(t, exclude(`[{"condition": `+other+`, "fields": ["/request/data"]}]`), r); at(m, "request", "data") == nil {
			t.Errorf("%s is not met: %v", other, m)
		}
	}
	if _, m = encoded(t, exclude(`[{"fields": ["/request/data/password"]}]`), r); at(m, "request", "data", "n") == nil || at(m, "request", "data", "password") != nil {
		t.Errorf("got %v", m)
	}
}

func FuzzSelection(f *testing.F) {
	for _, s := range []string{`path == "a"`, `mount_type in "kv"`, `not (path matches "^a") or operation != read`, "((", `"/request/path" is empty`} {
		f.Add(s, `[{"condition": "\"/a\" == b", "fields": ["/a~1b/c"]}]`)
	}
	f.Fuzz(func(t *testing.T, filter, exclude string) {
		if s, err := parseSelection(map[string]string{"filter": filter}); err == nil {
			s.wants(&subject{Path: "a/b", Operation: "read"})
		}
		list, err := parseExclude(exclude)
		if err != nil {
			return
		}
		record := []byte(`{"a":{"b":[1,{"c":"x"}]},"n":1e400}`)
		if out := excluded(list, record); !json.Valid(out) || bytes.ContainsRune(out, '\n') {
			t.Errorf("got %s", out)
		}
	})
}
