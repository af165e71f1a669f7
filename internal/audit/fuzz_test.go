package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// hashAll is the plain way to do what a walker does.
func hashAll(v any, hash func(string) string, clear []string, plain bool) any {
	switch v := v.(type) {
	case string:
		if plain {
			return v
		}
		return hash(v)
	case []any:
		for i := range v {
			v[i] = hashAll(v[i], hash, clear, plain)
		}
	case map[string]any:
		for k := range v {
			v[k] = hashAll(v[k], hash, clear, slices.Contains(clear, k))
		}
	}
	return v
}

func decode(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// What a walker writes is JSON, equals the plain way, and shows no string that
// should be hashed.
func FuzzWalker(f *testing.F) {
	for _, s := range []string{
		`{"a":"b","n":5,"deep":{"a":["b",null,true,1.5e3]}}`, `"x\u003c\ud83d\ude00\\\""`, `[]`, `{}`, `[[["a"]],{"":""}]`,
		`{"open":["a",{"x":"y"}]}`, `nul`, `{"a":}`, `"\x"`, "\"\x01\"", "\"\xff\"", `{"a" : "b" , "c":[ 1 , 2 ]}`, `{"\u006fpen":"secret"}`,
		`01`, `-`, `1e`, `{"a":1}}`, `"a"b`,
	} {
		f.Add([]byte(s))
	}
	e := newEncoder(style{}, []byte("salt"), "")
	clear := []string{"open"}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := e.hasher.pool.Get().(*mac)
		defer e.hasher.put(m)
		w := walker{src: raw, mac: m, clear: clear, limit: 1 << 20}
		if !w.document() {
			if json.Valid(raw) && len(raw) < maxNesting && utf8.Valid(raw) {
				t.Fatalf("refused %q", raw)
			}
			return
		}
		if !json.Valid(raw) {
			t.Fatalf("took %q, which is not JSON", raw)
		}
		if !json.Valid(w.dst) {
			t.Fatalf("made %q of %q", w.dst, raw)
		}
		if bytes.Contains(raw, []byte(`\`)) || !utf8.Valid(raw) {
			return // keys with escapes are compared as they are written
		}
		in, err := decode(raw)
		if err != nil {
			return // a number out of range
		}
		got, err := decode(w.dst)
		if err != nil {
			t.Fatal(err)
		}
		if want := hashAll(in, e.hash, clear, false); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %v, want %v", raw, got, want)
		}
	})
}

// Whatever a secret looks like, no line shows it, and every line is JSON.
func FuzzRecord(f *testing.F) {
	f.Add("secret", "key", "kv/path")
	f.Add("a\"b\\c\n", "k\"", "p\"\x00")
	f.Add("\xff\xfe", "\xff", "\xff")
	e := newEncoder(style{accessor: true}, []byte("salt"), "v1")
	f.Fuzz(func(t *testing.T, secret, key, path string) {
		marker := "s3cret-" + secret
		value, _ := json.Marshal(marker)
		r := write(path)
		r.Request.Token = marker
		r.Request.Params[0].Key, r.Request.Params[0].Value = key, value
		_, answer := sample()
		keyJSON, _ := json.Marshal(key)
		answer.Response.Data = json.RawMessage(`{` + string(keyJSON) + `:` + string(value) + `}`)
		for _, r := range []*Record{r, answer} {
			l := *e.encode(r, nil, nil).b
			if !json.Valid(l) {
				t.Fatalf("not JSON: %s", l)
			}
			if strings.Contains(string(l), "s3cret-") && !strings.Contains(path+key, "s3cret-") {
				t.Fatalf("shows the secret: %s", l)
			}
		}
	})
}
