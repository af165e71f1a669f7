package param

import (
	"encoding/json"
	"strings"
	"testing"
)

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", "a<b>&\"\\\u2028", "\xed\xa0\x80", strings.Repeat("a", 300), "\u0080", "\b\f\n\r\t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := AppendString([]byte("x"), s); string(got) != "x"+string(want) {
			t.Fatalf("got %s, want x%s", got, want)
		}
		for _, m := range []map[string]string{nil, {}, {s: s}, {"b": s, s: "x", "a": ""}} {
			want, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if got := AppendMap([]byte("x"), m); string(got) != "x"+string(want) {
				t.Fatalf("got %s, want x%s", got, want)
			}
		}
		o := Object{{Key: s, Value: want}, {Key: "b", Value: json.RawMessage("1")}}
		if got := o.JSON(); string(got) != "{"+string(want)+":"+string(want)+`,"b":1}` {
			t.Fatalf("an object became %s", got)
		}
	})
}
