package yaml

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestMarshal(t *testing.T) {
	v := map[string]any{
		"b": []any{"x", map[string]any{"k": 1, "l": []string{"m"}}}, "a": nil, "empty": []string{}, "none": map[string]string{},
		"texts": []string{"yes", "1", "1.5", "null", "true", "", "a: b", "x\ny\n", "~", "0x1", "2024-01-01", " lead", "#c", "1_0", "y", "on"},
		"n":     []any{1, 1.5, 1e21, -3, json.Number("2764800"), true, 12345678901234567},
	}
	const want = `a: null
b:
- x
- k: 1
  l:
  - m
empty: []
"n":
- 1
- 1.5
- 1e+21
- -3
- 2764800
- true
- 12345678901234567
none: {}
texts:
- "yes"
- "1"
- "1.5"
- "null"
- "true"
- ""
- 'a: b'
- |
  x
  y
- "~"
- "0x1"
- "2024-01-01"
- ' lead'
- '#c'
- "1_0"
- "y"
- "on"
`
	got, err := Marshal(v)
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	var back, plain any
	if err := Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	raw, _ := json.Marshal(v)
	if err := json.Unmarshal(raw, &plain); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, plain) {
		t.Errorf("read again: %v\nwant %v", back, plain)
	}
}

func TestUnmarshal(t *testing.T) {
	type thing struct {
		Name string            `json:"name"`
		Map  map[string]string `json:"map"`
		N    int               `json:"n"`
	}
	for _, c := range []struct {
		text         string
		loose, tight bool
	}{
		{"name: a\nmap:\n  k: v\nn: 3\n", true, true},
		{`{"name": "a", "map": {"k": "v"}, "n": 3}`, true, true},
		{"name: a\nmap: {k: v}\nn: 3\nother: 1\n", true, false},
		{"name: a\nname: b\n", false, false},
		{"1: a\n", false, false},
		{"[1]: a\n", false, false},
		{"name: [a]\n", false, false},
		{"a: &a [*a]\n", false, false},
		{"\t", false, false},
	} {
		for strict, good := range map[bool]bool{false: c.loose, true: c.tight} {
			var v thing
			read := Unmarshal
			if strict {
				read = UnmarshalStrict
			}
			if err := read([]byte(c.text), &v); (err == nil) != good {
				t.Errorf("%q, strict %t: %v", c.text, strict, err)
			}
		}
	}
	var v thing
	if err := Unmarshal(nil, &v); err != nil || v.Name != "" {
		t.Errorf("nothing: %v, %v", v, err)
	}
}

// FuzzUnmarshal reads what is hostile; what can be written is read as it was.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte("a: {b: [1, x, null]}\n"))
	f.Add([]byte("a: &x [1]\nb: *x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var v, w any
		if Unmarshal(text, &v) != nil {
			return
		}
		out, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := Unmarshal(out, &w); err != nil || !reflect.DeepEqual(v, w) {
			t.Errorf("%v became %v, %v, by %q", v, w, err, out)
		}
	})
}
