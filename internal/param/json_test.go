package param

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"arca/internal/errs"
)

func TestParseObject(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	members := func(n int) string {
		var b strings.Builder
		b.WriteByte('{')
		for i := range n {
			fmt.Fprintf(&b, `"k%d":%d,`, i, i)
		}
		return strings.TrimSuffix(b.String(), ",") + "}"
	}
	list := func(n int) string { return `{"a":[` + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]}" }
	cases := []struct {
		name, in string
		want     string // of Object.JSON
		err      string
	}{
		{name: "empty", in: ``, want: `{}`},
		{name: "blank", in: " \t\r\n ", want: `{}`},
		{name: "null", in: ` null `, want: `{}`},
		{name: "object", in: ` { "a" : 1 , "b":[ 1,2 ] } `, want: `{"a":1,"b":[ 1,2 ]}`},
		{name: "no members", in: `{ }`, want: `{}`},
		{name: "escapes in a key", in: `{"\u0061\n":true}`, want: `{"a\n":true}`},
		{name: "a repeated key holds its last value", in: `{"a":1,"b":2,"a":3}`, want: `{"a":3,"b":2}`},
		{name: "also when spelled otherwise", in: `{"a":1,"\u0061":3}`, want: `{"a":3}`},
		{name: "a second value is ignored", in: `{"a":1} {"b":2}`, want: `{"a":1}`},
		{name: "large numbers stay", in: `{"a":12345678901234567890.10}`, want: `{"a":12345678901234567890.10}`},
		{name: "invalid UTF-8", in: "{\"a\xff\":\"\xc0\"}", want: "{\"a\ufffd\":\"\ufffd\"}"},
		{name: "each byte of it", in: "{\"a\":\"\xff\xfe\xe2\x82\"}", want: "{\"a\":\"\ufffd\ufffd\ufffd\ufffd\"}"},
		{name: "deep", in: deep(MaxDepth), want: deep(MaxDepth)},
		{name: "many", in: members(MaxMembers), want: members(MaxMembers)},
		{name: "long list", in: list(MaxMembers), want: list(MaxMembers)},

		{name: "too deep", in: deep(MaxDepth + 1), err: "JSON input is nested deeper than 300 levels"},
		{name: "far too deep", in: strings.Repeat("[", 100_000), err: "JSON input is nested deeper than 300 levels"},
		{name: "too many", in: members(MaxMembers + 1), err: "JSON input has an object or array of more than 10000 members"},
		{name: "too long a list", in: list(MaxMembers + 1), err: "JSON input has an object or array of more than 10000 members"},
		{name: "list", in: `[1]`, err: "failed to decode JSON input: json: cannot unmarshal array into Go value of type map[string]interface {}"},
		{name: "text", in: `"a"`, err: "failed to decode JSON input: json: cannot unmarshal string into Go value of type map[string]interface {}"},
		{name: "cut", in: `{"a":`, err: "failed to decode JSON input: unexpected EOF"},
		{name: "cut string", in: `{"a`, err: "failed to decode JSON input: unexpected EOF"},
		{name: "no JSON", in: `a=b`, err: "failed to decode JSON input: invalid character 'a' looking for beginning of value"},
		{name: "broken behind", in: `{"a":1} x`, err: "failed to decode JSON input: invalid character 'x' looking for beginning of value"},
		{name: "out of range", in: `{"a":1e400}`, err: "failed to decode JSON input: a number is out of range"},
		{name: "NUL", in: "{\"a\":\"\x00\"}", err: `failed to decode JSON input: invalid character '\x00' in string literal`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			obj, err := ParseObject([]byte(c.in))
			if c.err != "" {
				if err == nil || err.Error() != c.err || !errs.Is(err, errs.Invalid) {
					t.Fatalf("got error %v, want %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := string(obj.JSON()); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// bounded reports whether JSON of one value keeps to the bounds, and whether
// it is an object or null.
func bounded(raw []byte) (ok bool) {
	type level struct {
		n      int
		object bool
	}
	var stack []level
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	for {
		tok, err := d.Token()
		if err != nil {
			return true
		}
		closing := tok == json.Delim('}') || tok == json.Delim(']')
		if !closing && len(stack) > 0 {
			top := &stack[len(stack)-1]
			top.n++
			most := MaxMembers
			if top.object {
				most *= 2
			}
			if top.n > most {
				return false
			}
		}
		switch {
		case closing:
			stack = stack[:len(stack)-1]
			if len(stack) == 0 {
				return true
			}
		case tok == json.Delim('{') || tok == json.Delim('['):
			if len(stack) == MaxDepth {
				return false
			}
			stack = append(stack, level{object: tok == json.Delim('{')})
		case len(stack) == 0:
			return true
		}
	}
}

// FuzzParseObject holds the scanner to encoding/json: what the one accepts the
// other does, and they agree about every value.
func FuzzParseObject(f *testing.F) {
	for _, s := range []string{
		``, `null`, `{}`, `{"a":1}`, `{"a":{"b":[1,"x",true,null,-0.5e+3]}}`, `{"a":1}{"b":2}`, `{"a":1,}`, `{"a" 1}`,
		`{"\u00e9\ud83d\ude00":"\/\b"}`, "{\"\xff\":1}", `{"a":01}`, `{"a":1e999}`, `[]`, `"x"`, `{"a":1}]`, `{"a":-}`, `{"a":.5}`,
		`{"a":"\ud800"}`, "\ufeff{}", `{"a":tru}`, `{"a":[1 2]}`, `{"a":1} 1e999`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		in := bytes.Clone(body)
		obj, err := ParseObject(body)
		if !bytes.Equal(in, body) {
			t.Fatal("the body was changed")
		}
		want, wantErr := reference(in)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: got error %v, want %v", in, err, wantErr)
		}
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatalf("%q: kind of %v", in, err)
			}
			return
		}
		got := map[string]any{}
		for _, m := range obj {
			if _, dup := got[m.Key]; dup {
				t.Fatalf("%q: key %q twice", in, m.Key)
			}
			got[m.Key] = decode(t, m.Value)
		}
		if len(got) == 0 && len(want) == 0 {
			return
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %v, want %v", in, got, want)
		}
		again := decode(t, obj.JSON())
		if !reflect.DeepEqual(again, any(want)) {
			t.Fatalf("%q: written again: %v, want %v", in, again, want)
		}
	})
}

func decode(t *testing.T, raw []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q is not JSON: %v", raw, err)
	}
	return v
}

// reference is what ParseObject promises, made with encoding/json.
func reference(body []byte) (map[string]any, error) {
	if len(bytes.Trim(body, " \t\r\n")) == 0 {
		return nil, nil
	}
	if !bounded(body) {
		return nil, errs.New(errs.Invalid, "a bound is passed")
	}
	// Numbers must fit into a float64.
	var plain map[string]any
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&plain); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var want map[string]any
	if err := d.Decode(&want); err != nil {
		return nil, err
	}
	for { // what is behind must be JSON, too
		var more json.RawMessage
		if err := d.Decode(&more); err == io.EOF {
			return want, nil
		} else if err != nil {
			return nil, err
		}
		if !boundedDepth(more) {
			return nil, errs.New(errs.Invalid, "a bound is passed")
		}
	}
}

func boundedDepth(raw []byte) bool {
	depth := 0
	d := json.NewDecoder(bytes.NewReader(raw))
	for {
		tok, err := d.Token()
		if err != nil {
			return true
		}
		if delim, ok := tok.(json.Delim); ok {
			if delim == '{' || delim == '[' {
				depth++
			} else {
				depth--
			}
			if depth > MaxDepth {
				return false
			}
		}
	}
}

// What hostile bodies cost grows with their length and no faster.
func TestParseObjectCost(t *testing.T) {
	t.Parallel()
	bodies := map[string]func(n int) string{
		"many keys":     func(n int) string { return `{"a":` + strings.Repeat(`{"`+strings.Repeat("k", 20)+`":1},`, n/30) },
		"repeated keys": func(n int) string { return `{` + strings.Repeat(`"a":1,`, n/6) + `"a":1}` },
		"backslashes":   func(n int) string { return `{"a":"` + strings.Repeat(`\\`, n/2) + `"}` },
		"open brackets": func(n int) string { return strings.Repeat("[", n) },
		"digits":        func(n int) string { return `{"a":` + strings.Repeat("1", n) + `e1}` },
		"second values": func(n int) string { return `{"a":1}` + strings.Repeat(`{} `, n/3) },
		"invalid UTF-8": func(n int) string { return `{"a":"` + strings.Repeat("\xff", n) + `"}` },
		"spaces":        func(n int) string { return strings.Repeat(" ", n) },
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			const n = 1 << 20
			raw := []byte(body(n))
			start := time.Now()
			_, _ = ParseObject(raw) // some are no JSON
			// Quadratic cost would be minutes.
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("%d bytes took %s", n, took)
			}
		})
	}
}

func BenchmarkParseObject(b *testing.B) {
	body := []byte(`{"data":{"username":"svc","password":"` + strings.Repeat("n", 260) + `"},"options":{"cas":1}}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseObject(body); err != nil {
			b.Fatal(err)
		}
	}
}
