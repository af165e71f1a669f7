package source

import (
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"arca/internal/param"
)

// A Setter decodes a value in its own way.
type Setter interface {
	SetConfig(it Item, d *Decoder) error
}

// A Decoder fills structs from a tree and collects what was odd.
//
// A field takes part by its tag `conf:"name,alias,…"`. Types: string, bool,
// integers, float64, time.Duration (a number is seconds), []string (a list, or
// text with commas), map[string]string, pointers to those, structs (a block),
// Value (the tree itself), and what implements Setter. A struct embedded
// without a tag takes part with its fields. A field that the text does not
// name keeps its value.
type Decoder struct {
	Warnings []Warning
}

// Warn notes something odd.
func (d *Decoder) Warn(at Pos, text string) { d.Warnings = append(d.Warnings, Warning{at, text}) }

// Decode fills *into, a struct, from an object. where names the block in
// warnings, "" for the top.
func (d *Decoder) Decode(v Value, into any, where string) error {
	return d.object(v, reflect.ValueOf(into).Elem(), where)
}

func (d *Decoder) object(v Value, into reflect.Value, where string) error {
	for v.Kind == List && len(v.List) == 1 { // JSON made from HCL has blocks in lists
		v = v.List[0]
	}
	if v.Kind != Object {
		return fault(v.Pos, "", "%s must be a block, not %s", where, v.Kind)
	}
	fields := map[string]reflect.Value{}
	names := collect(into, fields, nil)
	set := map[string]Pos{}
	for _, it := range v.Items {
		f, ok := fields[it.Key]
		if !ok {
			d.Unknown(it, names, where)
			continue
		}
		repeats := f.Kind() == reflect.Slice || f.Kind() == reflect.Map
		if _, isSetter := f.Addr().Interface().(Setter); isSetter {
			repeats = true
		}
		if at, twice := set[it.Key]; twice && !repeats {
			d.Warn(it.Pos, it.Key+" is set in line "+strconv.Itoa(at.Line)+" already; the later one counts")
		}
		set[it.Key] = it.Pos
		if err := d.set(it, f); err != nil {
			return err
		}
	}
	return nil
}

// collect lists the fields of a struct by name, and the names to propose.
func collect(v reflect.Value, fields map[string]reflect.Value, names []string) []string {
	t := v.Type()
	for i := range t.NumField() {
		tag, ok := t.Field(i).Tag.Lookup("conf")
		if !ok {
			if t.Field(i).Anonymous {
				names = collect(v.Field(i), fields, names)
			}
			continue
		}
		for name := range strings.SplitSeq(tag, ",") {
			fields[name] = v.Field(i)
			names = append(names, name)
		}
	}
	return names
}

// Unknown warns of a key that where does not have, and proposes the nearest of names.
func (d *Decoder) Unknown(it Item, names []string, where string) {
	text := "unknown key " + strconv.Quote(it.Key)
	if where != "" {
		text += " in " + where
	}
	if near := Nearest(it.Key, names); near != "" {
		text += "; did you mean " + strconv.Quote(near) + "?"
	}
	d.Warn(it.Pos, text)
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	valueType    = reflect.TypeFor[Value]()
)

func (d *Decoder) set(it Item, f reflect.Value) error {
	if f.CanAddr() {
		if s, ok := f.Addr().Interface().(Setter); ok {
			return s.SetConfig(it, d)
		}
	}
	switch f.Type() {
	case durationType:
		n, err := duration(it)
		f.SetInt(int64(n))
		return err
	case valueType:
		f.Set(reflect.ValueOf(it.Value))
		return nil
	}
	switch f.Kind() { //nolint:exhaustive // no other kinds are used
	case reflect.Pointer:
		if f.IsNil() {
			f.Set(reflect.New(f.Type().Elem()))
		}
		return d.set(it, f.Elem())
	case reflect.Struct:
		return d.object(it.Value, f, it.Key)
	case reflect.Slice:
		list, err := Strings(it)
		if err == nil {
			f.Set(reflect.ValueOf(list))
		}
		return err
	case reflect.Map:
		m, err := textMap(it)
		if err == nil {
			f.Set(reflect.ValueOf(m))
		}
		return err
	}
	return scalar(it, f)
}

func scalar(it Item, f reflect.Value) error {
	v := it.Value
	if v.Kind == List || v.Kind == Object {
		return fault(v.Pos, "", "%s must be a single value, not %s", it.Key, v.Kind)
	}
	if v.Kind == Null {
		return nil
	}
	switch f.Kind() { //nolint:exhaustive // no other kinds are used
	case reflect.String:
		f.SetString(v.Text)
	case reflect.Bool:
		b, err := Truth(it)
		f.SetBool(b)
		return err
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(strings.TrimSpace(v.Text), 0, 64)
		if err != nil {
			return fault(v.Pos, "", "%s must be a whole number, not %q", it.Key, v.Text)
		}
		f.SetInt(n)
	case reflect.Float64:
		n, err := strconv.ParseFloat(v.Text, 64)
		if err != nil {
			return fault(v.Pos, "", "%s must be a number, not %q", it.Key, v.Text)
		}
		f.SetFloat(n)
	default:
		panic("config field of kind " + f.Kind().String())
	}
	return nil
}

// Truth takes true, 1, "true", "1", "t" and so on; "" is false.
func Truth(it Item) (bool, error) {
	text := it.Value.Text
	if text == "" {
		return false, nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil && it.Value.Kind == Number {
		return n != 0, nil
	}
	b, err := strconv.ParseBool(strings.ToLower(text))
	if err != nil {
		return false, fault(it.Value.Pos, "", "%s must be true or false, not %q", it.Key, text)
	}
	return b, nil
}

func duration(it Item) (time.Duration, error) {
	v := it.Value
	switch v.Kind {
	case Null:
		return 0, nil
	case Number:
		if n, err := strconv.ParseFloat(v.Text, 64); err == nil && math.Abs(n) < math.MaxInt64/float64(time.Second) {
			return positive(it, time.Duration(n*float64(time.Second)))
		}
	case String:
		if n, err := param.ParseDuration(strings.TrimSpace(v.Text)); err == nil {
			return positive(it, n)
		}
	case Bool:
	case List, Object:
		return 0, fault(v.Pos, "", `%s must be a duration such as "90s", "24h" or a number of seconds, not a list or block`, it.Key)
	}
	return 0, fault(v.Pos, "", `%s must be a duration such as "90s", "24h" or a number of seconds, not %q`, it.Key, v.Text)
}

// positive refuses durations below zero, which no key has a use for.
func positive(it Item, n time.Duration) (time.Duration, error) {
	if n < 0 {
		return 0, fault(it.Value.Pos, "", "%s cannot be negative", it.Key)
	}
	return n, nil
}

// Strings reads a list, or text with commas.
func Strings(it Item) ([]string, error) {
	v := it.Value
	switch v.Kind {
	case List:
		out := make([]string, 0, len(v.List))
		for _, e := range v.List {
			if e.Kind == List || e.Kind == Object {
				return nil, fault(e.Pos, "", "%s must list single values, not %s", it.Key, e.Kind)
			}
			out = append(out, e.Text)
		}
		return out, nil
	case Object:
		return nil, fault(v.Pos, "", "%s must be a list, not %s", it.Key, v.Kind)
	case Null, String, Number, Bool:
	}
	out := []string{}
	for part := range strings.SplitSeq(v.Text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out, nil
}

func textMap(it Item) (map[string]string, error) {
	if it.Value.Kind != Object {
		return nil, fault(it.Value.Pos, "", "%s must be a block, not %s", it.Key, it.Value.Kind)
	}
	out := make(map[string]string, len(it.Value.Items))
	for _, e := range it.Value.Items {
		if e.Value.Kind == List || e.Value.Kind == Object {
			return nil, fault(e.Value.Pos, "", "%s must be a single value, not %s", e.Key, e.Value.Kind)
		}
		out[e.Key] = e.Value.Text
	}
	return out, nil
}
