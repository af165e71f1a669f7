package cli

import (
	"encoding/json"
	"reflect"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestMarshalYAML(t *testing.T) {
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
	got, err := marshalYAML(v)
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	var back, again, plain any
	if err := yaml.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[any]*any{&back: &again, &v: &plain} { // as JSON has them
		raw, err := json.Marshal(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, to); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(again, plain) {
		t.Errorf("read again: %v\nwant %v", again, plain)
	}
}
