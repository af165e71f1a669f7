package param

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

type kind uint8

const (
	kindString kind = iota
	kindBool
	kindInt
	kindFloat
	kindDuration
	kindTime
	kindList
	kindInts
	kindPairs
	kindMap
	kindRaw
	kindAny
)

func kindOf(t reflect.Type) kind {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return kindDuration
	case reflect.TypeFor[time.Time]():
		return kindTime
	case reflect.TypeFor[json.RawMessage]():
		return kindRaw
	case reflect.TypeFor[[]string]():
		return kindList
	case reflect.TypeFor[[]int]():
		return kindInts
	case reflect.TypeFor[map[string]string]():
		return kindPairs
	case reflect.TypeFor[map[string]any]():
		return kindMap
	case reflect.TypeFor[any]():
		return kindAny
	}
	switch t.Kind() { //nolint:exhaustive // the rest is a mistake in our own code
	case reflect.String:
		return kindString
	case reflect.Bool:
		return kindBool
	case reflect.Int, reflect.Int64:
		return kindInt
	case reflect.Float64:
		return kindFloat
	}
	panic("param: cannot decode into " + t.String())
}

// openAPI is the kind's name in OpenAPI documents.
func (k kind) openAPI() string {
	switch k {
	case kindBool:
		return "boolean"
	case kindInt:
		return "integer"
	case kindFloat:
		return "number"
	case kindList, kindInts:
		return "array"
	case kindPairs, kindMap, kindRaw, kindAny:
		return "object"
	case kindDuration, kindTime, kindString:
	}
	return "string"
}

func (f *field) coerce(dst reflect.Value, raw json.RawMessage) error {
	switch f.kind {
	case kindString:
		text, err := asString(raw)
		if err != nil {
			return err
		}
		if f.lower {
			text = strings.ToLower(text)
		}
		dst.SetString(text)
	case kindBool:
		b, err := asBool(raw)
		if err != nil {
			return err
		}
		dst.SetBool(b)
	case kindInt:
		n, err := asInt(raw)
		if err != nil {
			return err
		}
		if dst.OverflowInt(n) {
			return fmt.Errorf("'' %d is out of range", n)
		}
		dst.SetInt(n)
	case kindFloat:
		text, err := asString(raw)
		if err != nil {
			return err
		}
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("'' cannot parse value as 'float64': strconv.ParseFloat: %w", errors.Unwrap(err))
		}
		dst.SetFloat(x)
	case kindDuration:
		d, err := asDuration(raw)
		if err != nil {
			return err
		}
		if d < 0 && !f.signed {
			return fmt.Errorf("cannot provide negative value '%d'", int64(d/time.Second))
		}
		dst.SetInt(int64(d))
	case kindTime:
		t, err := asTime(raw)
		if err != nil {
			return err
		}
		dst.Set(reflect.ValueOf(t))
	case kindList:
		list, err := asList(raw, !f.nosplit)
		if err != nil {
			return err
		}
		dst.Set(reflect.ValueOf(list))
	case kindInts:
		list, err := asInts(raw)
		if err != nil {
			return err
		}
		dst.Set(reflect.ValueOf(list))
	case kindPairs:
		m, err := asPairs(raw)
		if err != nil {
			return err
		}
		dst.Set(reflect.ValueOf(m))
	case kindMap:
		if raw[0] != '{' {
			return fmt.Errorf("'' expected type 'map[string]interface {}', got unconvertible type '%s'", goType(raw))
		}
		m, err := decodeAny(raw)
		if err != nil {
			return err
		}
		dst.Set(reflect.ValueOf(m))
	case kindRaw:
		dst.SetBytes(raw)
	case kindAny:
		x, err := decodeAny(raw)
		if err != nil {
			return err
		}
		if x != nil {
			dst.Set(reflect.ValueOf(x))
		}
	}
	return nil
}

// decodeAny decodes with numbers kept as they were written.
func decodeAny(raw json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var x any
	err := d.Decode(&x)
	return x, err
}

// goType names the Go type that Vault's error texts show for a JSON value.
func goType(raw json.RawMessage) string {
	switch raw[0] {
	case '"':
		return "string"
	case '{':
		return "map[string]interface {}"
	case '[':
		// A query parameter given several times is a list of strings.
		return "[]interface {}"
	case 't', 'f':
		return "bool"
	case 'n':
		return "nil"
	}
	return "json.Number"
}

func text(raw json.RawMessage) (string, error) {
	if len(raw) >= 2 && bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), nil
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

func asString(raw json.RawMessage) (string, error) {
	switch raw[0] {
	case '"':
		return text(raw)
	case '{', '[':
		return "", fmt.Errorf("'' expected type 'string', got unconvertible type '%s'", goType(raw))
	case 't':
		return "1", nil // as weak decoding has it
	case 'f':
		return "0", nil
	}
	return string(raw), nil
}

func asBool(raw json.RawMessage) (bool, error) {
	switch raw[0] {
	case 't':
		return true, nil
	case 'f':
		return false, nil
	case '{', '[':
		return false, fmt.Errorf("'' expected type 'bool', got unconvertible type '%s'", goType(raw))
	case '"':
		s, err := text(raw)
		if err != nil || s == "" {
			return false, err
		}
		b, err := strconv.ParseBool(s)
		if err != nil {
			return false, fmt.Errorf("'' cannot parse value as 'bool': strconv.ParseBool: %w", errors.Unwrap(err))
		}
		return b, nil
	}
	x, err := strconv.ParseFloat(string(raw), 64)
	return x != 0, err
}

func asInt(raw json.RawMessage) (int64, error) {
	s := string(raw)
	switch raw[0] {
	case 't':
		return 1, nil
	case 'f':
		return 0, nil
	case '{', '[':
		typ := goType(raw)
		if raw[0] == '[' && onlyStrings(raw) {
			typ = "[]string"
		}
		return 0, fmt.Errorf("'' expected type 'int', got unconvertible type '%s'", typ)
	case '"':
		var err error
		if s, err = text(raw); err != nil || s == "" {
			return 0, err
		}
		n, err := strconv.ParseInt(s, 0, 64)
		if err != nil {
			return 0, fmt.Errorf("'' cannot parse value as 'int': strconv.ParseInt: %w", errors.Unwrap(err))
		}
		return n, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		// 1.0 and 1e3 are whole numbers, too.
		x, ferr := strconv.ParseFloat(s, 64)
		if ferr == nil && x == math.Trunc(x) && math.Abs(x) < 1<<53 {
			return int64(x), nil
		}
		return 0, fmt.Errorf("error decoding json.Number into %s", "int")
	}
	return n, nil
}

func onlyStrings(raw json.RawMessage) bool {
	var list []string
	return json.Unmarshal(raw, &list) == nil
}

func wholeNumber(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func seconds(n int64) (time.Duration, error) {
	const limit = math.MaxInt64 / int64(time.Second)
	if n > limit || n < -limit {
		return 0, fmt.Errorf("%d seconds are out of range", n)
	}
	return time.Duration(n) * time.Second, nil
}

func asDuration(raw json.RawMessage) (time.Duration, error) {
	if raw[0] == '{' || raw[0] == '[' || raw[0] == 't' || raw[0] == 'f' {
		return 0, fmt.Errorf("could not parse duration from input")
	}
	s, err := asString(raw)
	if err != nil {
		return 0, err
	}
	if raw[0] != '"' {
		if x, err := strconv.ParseFloat(s, 64); err == nil && x == math.Trunc(x) && math.Abs(x) < 1<<53 {
			return seconds(int64(x))
		}
	}
	return ParseDuration(strings.TrimSpace(s))
}

func asTime(raw json.RawMessage) (time.Time, error) {
	s, err := asString(raw)
	if err != nil || s == "" {
		return time.Time{}, err
	}
	if n, isNumber := wholeNumber(s); isNumber {
		return time.Unix(n, 0).UTC(), nil
	}
	return time.Parse(time.RFC3339Nano, s)
}

func asList(raw json.RawMessage, split bool) ([]string, error) {
	if raw[0] == '{' {
		return nil, fmt.Errorf("'' expected type 'string', got unconvertible type 'map[string]interface {}'")
	}
	if raw[0] == '[' {
		var items []json.RawMessage
		if err := json.Unmarshal(raw, &items); err != nil {
			return nil, err
		}
		if len(items) > MaxMembers { // repeated parameters of a query
			return nil, tooMany()
		}
		list := make([]string, 0, len(items))
		for _, it := range items {
			if string(it) == "null" {
				list = append(list, "")
				continue
			}
			s, err := asString(it)
			if err != nil {
				return nil, err
			}
			list = append(list, strings.TrimSpace(s))
		}
		return list, nil
	}
	s, err := asString(raw)
	if err != nil {
		return nil, err
	}
	if s == "" {
		return []string{}, nil
	}
	if !split {
		return []string{s}, nil
	}
	if strings.Count(s, ",") >= MaxMembers {
		return nil, tooMany() // written another way
	}
	parts := strings.Split(s, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts, nil
}

// asPairs reads {"k":"v"} or ["k=v"] or "k=v".
func asPairs(raw json.RawMessage) (map[string]string, error) {
	if raw[0] == '{' {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, err
		}
		out := make(map[string]string, len(m))
		for k, v := range m {
			if string(v) == "null" {
				out[k] = ""
				continue
			}
			s, err := asString(v)
			if err != nil {
				return nil, fmt.Errorf("'[%s]' expected type 'string', got unconvertible type '%s'", k, goType(v))
			}
			out[k] = s
		}
		return out, nil
	}
	list, err := asList(raw, false)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(list))
	for _, it := range list {
		k, v, ok := strings.Cut(it, "=")
		if !ok {
			return nil, fmt.Errorf("invalid key pair %q", it)
		}
		out[k] = v
	}
	return out, nil
}

// asInts reads [1,"2"] or "1,2" or 1.
func asInts(raw json.RawMessage) ([]int, error) {
	texts, err := asList(raw, true)
	if err != nil {
		return nil, err
	}
	out := make([]int, 0, len(texts))
	for i, t := range texts {
		n, err := strconv.ParseInt(t, 10, 0)
		if err != nil {
			return nil, fmt.Errorf("decoding failed due to the following error(s):\n\n'[%d]' cannot parse value as 'int': strconv.ParseInt: %w", i, errors.Unwrap(err))
		}
		out = append(out, int(n))
	}
	return out, nil
}
