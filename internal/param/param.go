// Package param turns what came from outside (JSON members, query parameters,
// captures from the path) into the typed input of an engine's handler.
//
// It is the one place that knows that a duration may be written "1h", 3600 or
// "3600", a list "a,b" or ["a","b"], and a boolean "true" or 1: the forms that
// Vault's API documents and its clients send. The error texts are those that
// Vault's clients see.
package param

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"arca/internal/errs"
)

// A Field describes one parameter of an endpoint; help and OpenAPI print it.
type Field struct {
	Name     string // as in the API
	Type     string // string, integer, boolean, array, object, as in OpenAPI
	Help     string
	Default  string
	InPath   bool // captured from the path
	Required bool
	AnyCase  bool // two spellings that differ in case mean the same
}

// A Schema decodes parameters into one input struct. Its fields carry the tags
//
//	api:"name[,option…]"  the parameter's name; "-" leaves the field out
//	help:"text"           what it means
//	default:"value"       used when the parameter is absent
//
// Options: "lower" lower-cases a string; "anycase" says that its case means nothing, and leaves it; "nosplit" keeps commas in a list's
// elements; "signed" lets a duration be negative; "rest" on a Object field collects everything not named otherwise.
// A pointer field stays nil when the parameter is absent. Types: string, bool,
// int, int64, float64, time.Duration, time.Time, []string, map[string]string,
// map[string]any, json.RawMessage (as it came in), any, and pointers to them.
// Embedded structs count as their fields.
type Schema struct {
	typ    reflect.Type
	fields []field
	rest   []int
}

type field struct {
	Field
	index   []int
	ptr     bool
	kind    kind
	lower   bool
	nosplit bool
	signed  bool
	def     json.RawMessage
}

// NewSchema builds the schema of struct type t. It panics on a type that it
// cannot decode: that is a mistake in our own code, found by any test.
func NewSchema(t reflect.Type) *Schema {
	s := &Schema{typ: t}
	if t.Kind() != reflect.Struct {
		panic("param: input of a handler must be a struct, not " + t.String())
	}
	s.add(t, nil)
	return s
}

func (s *Schema) add(t reflect.Type, at []int) {
	for i := range t.NumField() {
		sf := t.Field(i)
		index := append(slices.Clone(at), i)
		if sf.Anonymous {
			s.add(sf.Type, index)
			continue
		}
		tag, ok := sf.Tag.Lookup("api")
		if !ok || tag == "-" {
			continue
		}
		parts := strings.Split(tag, ",")
		f := field{index: index}
		f.Name, f.Help, f.Default = parts[0], sf.Tag.Get("help"), sf.Tag.Get("default")
		rest := false
		for _, o := range parts[1:] {
			switch o {
			case "lower":
				f.lower, f.AnyCase = true, true
			case "anycase":
				f.AnyCase = true
			case "nosplit":
				f.nosplit = true
			case "signed":
				f.signed = true
			case "required":
				f.Required = true
			case "rest":
				rest = true
			default:
				panic("param: unknown option " + o + " on " + sf.Name)
			}
		}
		if rest {
			if sf.Type != reflect.TypeFor[Object]() {
				panic("param: a rest field must be a param.Object")
			}
			s.rest = index
			continue
		}
		ft := sf.Type
		if ft.Kind() == reflect.Pointer {
			f.ptr, ft = true, ft.Elem()
		}
		f.kind = kindOf(ft)
		f.Type = f.kind.openAPI()
		if f.Default != "" {
			f.def, _ = json.Marshal(f.Default) // a string always encodes
		}
		s.fields = append(s.fields, f)
	}
}

// Fields lists the parameters in the order of declaration.
func (s *Schema) Fields() []Field {
	out := make([]Field, len(s.fields))
	for i := range s.fields {
		out[i] = s.fields[i].Field
	}
	return out
}

// Empty reports whether a request has nothing that is taken from its parameters.
func (s *Schema) Empty() bool { return len(s.fields) == 0 && s.rest == nil }

// TakesRest reports whether parameters with unknown names are data (KV version 1).
func (s *Schema) TakesRest() bool { return s.rest != nil }

// Input is what came from outside for one request.
type Input struct {
	Path  []Member // captures from the path; Value is the plain text, not JSON
	Body  Object   // JSON body, or the query parameters of a request without one
	Query bool     // Body was made from a query string
}

// Decode fills the struct that in points to, of the schema's type, and returns
// the names of parameters that it does not know (sorted) and of those whose
// value in the body was replaced by a capture from the path.
// An error is Invalid and says which parameter is wrong.
func (s *Schema) Decode(from Input, in any) (ignored, replaced []string, err error) {
	v := reflect.ValueOf(in).Elem()
	for i := range s.fields {
		f := &s.fields[i]
		if f.def == nil {
			continue
		}
		if err := s.set(f, v, f.def, false); err != nil {
			return nil, nil, err
		}
	}
	for i := range from.Body {
		m := &from.Body[i]
		f := s.field(m.Key)
		if hasKey(from.Path, m.Key) {
			if f != nil && s.rest == nil {
				replaced = append(replaced, m.Key)
			}
			continue
		}
		if f == nil {
			if s.rest == nil {
				ignored = append(ignored, m.Key)
			}
			continue
		}
		if err := s.set(f, v, m.Value, false); err != nil {
			return nil, nil, err
		}
	}
	for i := range from.Path {
		m := &from.Path[i]
		f := s.field(m.Key)
		if f == nil {
			continue
		}
		if err := s.set(f, v, m.Value, true); err != nil {
			return nil, nil, err
		}
	}
	if s.rest != nil {
		s.setRest(v, from)
	}
	sort.Strings(ignored)
	sort.Strings(replaced)
	return ignored, replaced, nil
}

func (s *Schema) setRest(v reflect.Value, from Input) {
	var rest Object
	for _, m := range from.Body {
		// What the path names is not taken from the body: there it is data.
		if s.field(m.Key) == nil || hasKey(from.Path, m.Key) {
			rest = append(rest, m)
		}
	}
	v.FieldByIndex(s.rest).Set(reflect.ValueOf(rest))
}

func (s *Schema) field(name string) *field {
	for i := range s.fields {
		if s.fields[i].Name == name {
			return &s.fields[i]
		}
	}
	return nil
}

func hasKey(ms []Member, key string) bool {
	for i := range ms {
		if ms[i].Key == key {
			return true
		}
	}
	return false
}

func (s *Schema) set(f *field, v reflect.Value, raw json.RawMessage, plain bool) error {
	dst := v.FieldByIndex(f.index)
	if plain {
		// A capture is text; only strings and numbers are ever captured.
		if f.kind == kindString && !f.ptr {
			text := string(raw)
			if f.lower {
				text = strings.ToLower(text)
			}
			dst.SetString(text)
			return nil
		}
		raw, _ = json.Marshal(string(raw)) // a string always encodes
	}
	if string(raw) == "null" && f.kind != kindRaw && f.kind != kindAny {
		return nil // null is absent
	}
	if f.ptr {
		p := reflect.New(dst.Type().Elem())
		dst.Set(p)
		dst = p.Elem()
	}
	if err := f.coerce(dst, raw); err != nil {
		return errs.New(errs.Invalid, "error converting input for field %q: %s", f.Name, err.Error())
	}
	return nil
}

// Query turns URL query parameters into an Object, as Vault does for requests
// without a body: one value is a string, several are a list.
func Query(q map[string][]string) Object {
	if len(q) == 0 {
		return nil
	}
	obj := make(Object, 0, len(q))
	for k, vs := range q {
		var raw json.RawMessage
		if len(vs) == 1 {
			raw, _ = json.Marshal(vs[0]) // a string always encodes
		} else {
			raw, _ = json.Marshal(vs)
		}
		obj = append(obj, Member{k, raw})
	}
	slices.SortFunc(obj, func(a, b Member) int { return strings.Compare(a.Key, b.Key) })
	return obj
}

const maxDays = int64(math.MaxInt64 / (24 * time.Hour))

// ParseDuration reads a duration as Vault's API takes it: a number of seconds,
// or text such as "90", "1h30m", "2d". Empty is zero.
func ParseDuration(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	if secs, isNumber := wholeNumber(text); isNumber {
		return seconds(secs)
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 64)
		if err != nil {
			return 0, err
		}
		if n > maxDays || n < -maxDays {
			return 0, fmt.Errorf("%d days are out of range", n)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	return time.ParseDuration(text)
}

// NewSchemaOf is NewSchema for a type.
func NewSchemaOf[T any]() *Schema { return NewSchema(reflect.TypeFor[T]()) }

// GoType names the Go type by which Vault's error texts call a JSON value.
func GoType(raw json.RawMessage) string { return goType(raw) }

// Take sets to by a parameter that was given; nil is one that was not.
func Take[T any](to, given *T) {
	if given != nil {
		*to = *given
	}
}

// OrEmpty is a list that JSON shows as [] when there is nothing in it.
func OrEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
