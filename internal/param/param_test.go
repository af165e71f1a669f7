package param

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"arca/internal/errs"
)

// value decodes raw as the type T and shows the field or the error.
func value[T any](tag, raw string) (T, error) {
	// The tag's options are given by a type made on the spot.
	typ := reflect.StructOf([]reflect.StructField{{
		Name: "V", Type: reflect.TypeFor[T](), Tag: reflect.StructTag(`api:"v` + tag + `"`),
	}})
	in := reflect.New(typ)
	_, _, err := NewSchema(typ).Decode(Input{Body: Object{{"v", json.RawMessage(raw)}}}, in.Interface())
	return in.Elem().Field(0).Interface().(T), err
}

func check[T any](t *testing.T, tag, raw string, want T, wantErr string) {
	t.Helper()
	got, err := value[T](tag, raw)
	text := ""
	if err != nil {
		text = strings.TrimPrefix(err.Error(), `error converting input for field "v": `)
		if !errs.Is(err, errs.Invalid) {
			t.Errorf("%T %s: kind of %v", want, raw, err)
		}
	}
	if text != wantErr {
		t.Errorf("%T %s: got error %q, want %q", want, raw, text, wantErr)
		return
	}
	if err == nil && !reflect.DeepEqual(got, want) {
		t.Errorf("%T %s: got %#v, want %#v", want, raw, got, want)
	}
}

// The forms that Vault's clients send, and its words for what does not fit.
func TestCoercions(t *testing.T) {
	t.Parallel()
	t.Run("string", func(t *testing.T) {
		check(t, "", `"a\n"`, "a\n", "")
		check(t, "", `12.50`, "12.50", "")
		check(t, "", `true`, "1", "")
		check(t, "", `false`, "0", "")
		check(t, "", `null`, "", "")
		check(t, ",lower", `"ÀB"`, "àb", "")
		check(t, "", `{}`, "", "'' expected type 'string', got unconvertible type 'map[string]interface {}'")
		check(t, "", `[1]`, "", "'' expected type 'string', got unconvertible type '[]interface {}'")
	})
	t.Run("bool", func(t *testing.T) {
		check(t, "", `true`, true, "")
		check(t, "", `"true"`, true, "")
		check(t, "", `"1"`, true, "")
		check(t, "", `1`, true, "")
		check(t, "", `0`, false, "")
		check(t, "", `-0.0`, false, "")
		check(t, "", `""`, false, "")
		check(t, "", `null`, false, "")
		check(t, "", `"yes"`, false, "'' cannot parse value as 'bool': strconv.ParseBool: invalid syntax")
		check(t, "", `[]`, false, "'' expected type 'bool', got unconvertible type '[]interface {}'")
	})
	t.Run("int", func(t *testing.T) {
		check(t, "", `5`, 5, "")
		check(t, "", `"5"`, 5, "")
		check(t, "", `"0x10"`, 16, "")
		check(t, "", `1e3`, 1000, "")
		check(t, "", `1.0`, 1, "")
		check(t, "", `true`, 1, "")
		check(t, "", `""`, 0, "")
		check(t, "", `9223372036854775807`, math.MaxInt, "")
		check(t, "", `9223372036854775808`, 0, "error decoding json.Number into int")
		check(t, "", `1.5`, 0, "error decoding json.Number into int")
		check(t, "", `1e300`, 0, "error decoding json.Number into int")
		check(t, "", `"five"`, 0, "'' cannot parse value as 'int': strconv.ParseInt: invalid syntax")
		check(t, "", `"99999999999999999999"`, 0, "'' cannot parse value as 'int': strconv.ParseInt: value out of range")
		check(t, "", `["1"]`, 0, "'' expected type 'int', got unconvertible type '[]string'")
		check(t, "", `{}`, 0, "'' expected type 'int', got unconvertible type 'map[string]interface {}'")
		check(t, "", `7`, int64(7), "")
	})
	t.Run("float", func(t *testing.T) {
		check(t, "", `0.5`, 0.5, "")
		check(t, "", `"0.5"`, 0.5, "")
		check(t, "", `"x"`, 0.0, "'' cannot parse value as 'float64': strconv.ParseFloat: invalid syntax")
	})
	t.Run("duration", func(t *testing.T) {
		check(t, "", `60`, time.Minute, "")
		check(t, "", `60.0`, time.Minute, "")
		check(t, "", `"60"`, time.Minute, "")
		check(t, "", `" 1h "`, time.Hour, "")
		check(t, "", `"1h30m"`, 90*time.Minute, "")
		check(t, "", `"2d"`, 48*time.Hour, "")
		check(t, "", `""`, time.Duration(0), "")
		check(t, "", `null`, time.Duration(0), "")
		check(t, "", `-1`, time.Duration(0), "cannot provide negative value '-1'")
		check(t, ",signed", `"-1h"`, -time.Hour, "")
		check(t, "", `true`, time.Duration(0), "could not parse duration from input")
		check(t, "", `[60]`, time.Duration(0), "could not parse duration from input")
		check(t, "", `"soon"`, time.Duration(0), `time: invalid duration "soon"`)
		check(t, "", `1.5`, time.Duration(0), `time: missing unit in duration "1.5"`)
		check(t, "", `9300000000`, time.Duration(0), "9300000000 seconds are out of range")
		check(t, "", `"106752d"`, time.Duration(0), "106752 days are out of range")
	})
	t.Run("time", func(t *testing.T) {
		check(t, "", `"2024-05-01T10:00:00Z"`, time.Date(2024, 5, 1, 10, 0, 0, 0, time.UTC), "")
		check(t, "", `1714557600`, time.Unix(1714557600, 0).UTC(), "")
		check(t, "", `"1714557600"`, time.Unix(1714557600, 0).UTC(), "")
		check(t, "", `""`, time.Time{}, "")
	})
	t.Run("list", func(t *testing.T) {
		check(t, "", `"a, b,c"`, []string{"a", "b", "c"}, "")
		check(t, "", `["a"," b ",3,true,null]`, []string{"a", "b", "3", "1", ""}, "")
		check(t, "", `""`, []string{}, "")
		check(t, "", `[]`, []string{}, "")
		check(t, "", `5`, []string{"5"}, "")
		check(t, ",nosplit", `"a,b"`, []string{"a,b"}, "")
		check[[]string](t, "", `{}`, nil, "'' expected type 'string', got unconvertible type 'map[string]interface {}'")
		check[[]string](t, "", `[{}]`, nil, "'' expected type 'string', got unconvertible type 'map[string]interface {}'")
	})
	t.Run("ints", func(t *testing.T) {
		check(t, "", `[1,"2"]`, []int{1, 2}, "")
		check(t, "", `"1,2"`, []int{1, 2}, "")
		check(t, "", `3`, []int{3}, "")
		check[[]int](t, "", `["x"]`, nil, "decoding failed due to the following error(s):\n\n'[0]' cannot parse value as 'int': strconv.ParseInt: invalid syntax")
	})
	t.Run("lists without end", func(t *testing.T) {
		const tooLong = "JSON input has an object or array of more than 10000 members"
		most := strings.Repeat("1,", MaxMembers-1) + "1"
		check[[]string](t, "", `"`+most+`,1"`, nil, tooLong)
		check[[]int](t, "", `"`+most+`,1"`, nil, tooLong)
		check[[]string](t, "", `[`+most+`,1]`, nil, tooLong) // as of a query
		check(t, ",nosplit", `"`+most+`,1"`, []string{most + ",1"}, "")
		check(t, "", `"`+most+`"`, strings.Split(most, ","), "")
	})
	t.Run("pairs", func(t *testing.T) {
		check(t, "", `{"a":"b","n":1,"t":true,"z":null}`, map[string]string{"a": "b", "n": "1", "t": "1", "z": ""}, "")
		check(t, "", `["a=b","c=d=e"]`, map[string]string{"a": "b", "c": "d=e"}, "")
		check(t, "", `"a=b,c"`, map[string]string{"a": "b,c"}, "")
		check(t, "", `""`, map[string]string{}, "")
		check[map[string]string](t, "", `["a"]`, nil, `invalid key pair "a"`)
		check[map[string]string](t, "", `{"a":[]}`, nil, "'[a]' expected type 'string', got unconvertible type '[]interface {}'")
	})
	t.Run("map", func(t *testing.T) {
		check(t, "", `{"a":[1.50]}`, map[string]any{"a": []any{json.Number("1.50")}}, "")
		check[map[string]any](t, "", `"x"`, nil, "'' expected type 'map[string]interface {}', got unconvertible type 'string'")
	})
	t.Run("raw", func(t *testing.T) {
		check(t, "", `{"a": 1}`, json.RawMessage(`{"a": 1}`), "")
		check(t, "", `null`, json.RawMessage(`null`), "")
	})
	t.Run("pointer", func(t *testing.T) {
		one := 1
		check(t, "", `1`, &one, "")
		check[*int](t, "", `null`, nil, "")
	})
}

func TestDecode(t *testing.T) {
	t.Parallel()
	type common struct {
		TTL time.Duration `api:"ttl" default:"1h" help:"How long."`
	}
	type input struct {
		Path string `api:"path"`
		Name string `api:"name,lower,required"`
		N    *int   `api:"n"`
		common
		Own string
	}
	type open struct {
		Path string `api:"path"`
		Rest Object `api:"*,rest"`
	}
	cases := []struct {
		name              string
		path              []Member
		body              string
		want              any
		ignored, replaced []string
	}{
		{name: "defaults", body: `{}`, want: input{common: common{time.Hour}}},
		{name: "given", body: `{"name":"ABC","ttl":"5","n":0}`, want: input{Name: "abc", N: new(int), common: common{5 * time.Second}}},
		{name: "unknown", body: `{"z":1,"a":2,"Name":3}`, want: input{common: common{time.Hour}}, ignored: []string{"Name", "a", "z"}},
		{
			name: "the path wins", path: []Member{{"path", []byte("a/b")}, {"name", []byte("X")}, {"ns", nil}},
			body: `{"path":"c","name":"y","ns":1}`, want: input{Path: "a/b", Name: "x", common: common{time.Hour}},
			replaced: []string{"name", "path"},
		},
		{name: "rest", body: `{"b":1,"a":"x"}`, want: open{Rest: Object{{"b", []byte(`1`)}, {"a", []byte(`"x"`)}}}},
		{
			// The secret of KV version 1 may have a member of this name.
			name: "rest with a capture's name", path: []Member{{"path", []byte("p")}}, body: `{"path":"/x"}`,
			want: open{Path: "p", Rest: Object{{"path", []byte(`"/x"`)}}},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			body, err := ParseObject([]byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			in := reflect.New(reflect.TypeOf(c.want))
			ignored, replaced, err := NewSchema(reflect.TypeOf(c.want)).Decode(Input{Path: c.path, Body: body}, in.Interface())
			if err != nil {
				t.Fatal(err)
			}
			if got := in.Elem().Interface(); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if !slices.Equal(ignored, c.ignored) || !slices.Equal(replaced, c.replaced) {
				t.Errorf("ignored %q and replaced %q, want %q and %q", ignored, replaced, c.ignored, c.replaced)
			}
		})
	}
	fields := NewSchemaOf[input]().Fields()
	want := []Field{
		{Name: "path", Type: "string"},
		{Name: "name", Type: "string", Required: true, AnyCase: true},
		{Name: "n", Type: "integer"},
		{Name: "ttl", Type: "string", Help: "How long.", Default: "1h"},
	}
	if !reflect.DeepEqual(fields, want) {
		t.Errorf("fields are %+v, want %+v", fields, want)
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	got := string(Query(map[string][]string{"b": {"x\""}, "a": {"1", "2"}, "c": {""}}).JSON())
	if want := `{"a":["1","2"],"b":"x\"","c":""}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := Query(nil); got != nil {
		t.Errorf("no query is %v", got)
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"", "0", "90", "-1", "1h30m", "2d", "1.5h", "d", "9223372036", "9223372037", "-106752d", "1e3s", "٣", "+5", "5 "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDuration(text)
		if err != nil {
			if d != 0 {
				t.Fatalf("%q: %s with error %v", text, d, err)
			}
			return
		}
		// What is written in Go's form is read as Go reads it, and so is the result.
		if g, err := time.ParseDuration(text); err == nil && text != "0" && g != d {
			t.Fatalf("%q is %s, want %s", text, d, g)
		}
		if again, err := ParseDuration(d.String()); err != nil || again != d {
			t.Fatalf("%q is %s, which is read as %s, %v", text, d, again, err)
		}
		if (d < 0) != strings.HasPrefix(text, "-") && d != 0 {
			t.Fatalf("%q is %s: the sign is wrong", text, d)
		}
	})
}
