package param

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"arca/internal/errs"
)

// Bounds on JSON from outside. They equal the defaults that Vault 1.20 documents
// for max_json_depth, max_json_object_entry_count and
// max_json_array_element_count; strings are bounded by the size of the body.
const (
	MaxDepth   = 300
	MaxMembers = 10_000
)

// A Member is one key of a JSON object with its value as the bytes that came
// in, which are valid JSON.
type Member struct {
	Key   string
	Value json.RawMessage
}

// An Object is a JSON object in the order that it came in; a repeated key holds
// its last value.
type Object []Member

// Get returns the value of key, or nil.
func (o Object) Get(key string) json.RawMessage {
	for i := range o {
		if o[i].Key == key {
			return o[i].Value
		}
	}
	return nil
}

// ParseObject reads the JSON object in body. Values alias body. An empty body
// or null is a nil Object. Like Vault, it ignores a second complete value
// behind the first. Errors are Invalid (or TooLarge past a bound) and carry the
// texts of encoding/json, which clients of Vault see.
func ParseObject(body []byte) (Object, error) {
	s := scanner{b: body}
	s.space()
	if s.i == len(body) {
		return nil, nil
	}
	if !utf8.Valid(body) {
		// encoding/json reads invalid UTF-8 as U+FFFD; so do we, once, here.
		body = validUTF8(body)
		s = scanner{b: body}
		s.space()
	}
	if body[s.i] != '{' {
		return nil, s.slow()
	}
	obj, ok := s.topObject()
	if s.err != nil {
		return nil, s.err
	}
	if ok {
		s.space()
		ok = s.i == len(body)
	}
	if !ok {
		if err := s.slow(); err != nil {
			return nil, err
		}
		// Valid, with something valid behind it.
	}
	return obj, nil
}

// validUTF8 replaces each byte that is not UTF-8.
func validUTF8(b []byte) []byte {
	out := make([]byte, 0, len(b)+len(b)/8)
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		out = utf8.AppendRune(out, r) // RuneError where it is not valid
		b = b[size:]
	}
	return out
}

// slowBytes bounds the bodies whose errors are told in the words of encoding/json.
const slowBytes = 256 << 10

// slow finds the error text that encoding/json has for a body on which the fast
// path stumbled: first a walk over all tokens, then the type of the first value.
func (s *scanner) slow() error {
	if len(s.b) > slowBytes {
		// The fast path has found that something is wrong; where, is not worth
		// seconds of work for a body of this size.
		return errs.New(errs.Invalid, "failed to decode JSON input: the body is no JSON object")
	}
	invalid := func(err error) error {
		return errs.New(errs.Invalid, "failed to decode JSON input: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(s.b))
	d.UseNumber()
	depth := 0
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			if depth > 0 {
				return invalid(io.ErrUnexpectedEOF)
			}
			break
		}
		if err != nil {
			return invalid(err)
		}
		if delim, isDelim := t.(json.Delim); isDelim {
			if delim == '{' || delim == '[' {
				depth++
			} else {
				depth--
			}
			if depth > MaxDepth {
				return tooDeep()
			}
		}
	}
	var m map[string]json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(s.b)).Decode(&m); err != nil {
		// The public name of the type that Vault decodes into.
		text := strings.Replace(err.Error(), "map[string]json.RawMessage", "map[string]interface {}", 1)
		return invalid(errors.New(text))
	}
	return nil
}

func tooDeep() error {
	return errs.New(errs.Invalid, "JSON input is nested deeper than %d levels", MaxDepth)
}

func tooMany() error {
	return errs.New(errs.Invalid, "JSON input has an object or array of more than %d members", MaxMembers)
}

// A scanner checks JSON (RFC 8259) without decoding it. Its methods report
// false where the input is not JSON; err is set when a bound is passed.
type scanner struct {
	b     []byte
	i     int
	err   error
	valid bool // b was checked before: it need only be taken apart
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

func (s *scanner) topObject() (Object, bool) {
	s.i++ // '{'
	obj := make(Object, 0, 8)
	s.space()
	if s.i < len(s.b) && s.b[s.i] == '}' {
		s.i++
		return obj, true
	}
	// The index finds repeated keys once a linear search would cost too much.
	var index map[string]int
	for {
		key, ok := s.key()
		if !ok {
			return nil, false
		}
		s.space()
		from := s.i
		if !s.value(1) {
			return nil, false
		}
		val := json.RawMessage(s.b[from:s.i])
		at := -1
		if index == nil && len(obj) == 32 {
			index = make(map[string]int, 64)
			for i := range obj {
				index[obj[i].Key] = i
			}
		}
		if index != nil {
			if i, dup := index[key]; dup {
				at = i
			}
		} else {
			for i := range obj {
				if obj[i].Key == key {
					at = i
				}
			}
		}
		if at >= 0 {
			obj[at].Value = val
		} else {
			if len(obj) == MaxMembers {
				s.err = tooMany()
				return nil, false
			}
			if index != nil {
				index[key] = len(obj)
			}
			obj = append(obj, Member{key, val})
		}
		more, ok := s.next('}')
		if !ok {
			return nil, false
		}
		if !more {
			return obj, true
		}
	}
}

// key reads `"name" :` and returns the decoded name.
func (s *scanner) key() (string, bool) {
	s.space()
	from := s.i
	if s.i == len(s.b) || s.b[s.i] != '"' {
		return "", false
	}
	plain, ok := s.string()
	if !ok {
		return "", false
	}
	raw := s.b[from:s.i]
	s.space()
	if s.i == len(s.b) || s.b[s.i] != ':' {
		return "", false
	}
	s.i++
	if plain {
		return string(raw[1 : len(raw)-1]), true
	}
	var name string
	if json.Unmarshal(raw, &name) != nil {
		return "", false
	}
	return name, true
}

// next reads ',' (more) or the closing byte.
func (s *scanner) next(closing byte) (more, ok bool) {
	s.space()
	if s.i == len(s.b) {
		return false, false
	}
	c := s.b[s.i]
	s.i++
	return c == ',', c == ',' || c == closing
}

func (s *scanner) value(depth int) bool {
	s.space()
	if s.i == len(s.b) {
		return false
	}
	switch c := s.b[s.i]; {
	case c == '"':
		_, ok := s.string()
		return ok
	case c == '{' || c == '[':
		if depth >= MaxDepth {
			s.err = tooDeep()
			return false
		}
		return s.container(c, depth+1)
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	return false
}

func (s *scanner) container(open byte, depth int) bool {
	closing := open + 2 // '{' → '}' and '[' → ']' in ASCII
	s.i++
	s.space()
	if s.i < len(s.b) && s.b[s.i] == closing {
		s.i++
		return true
	}
	for n := 1; ; n++ {
		if n > MaxMembers {
			s.err = tooMany()
			return false
		}
		if open == '{' {
			s.space()
			if s.i == len(s.b) || s.b[s.i] != '"' {
				return false
			}
			if _, ok := s.string(); !ok {
				return false
			}
			s.space()
			if s.i == len(s.b) || s.b[s.i] != ':' {
				return false
			}
			s.i++
		}
		if !s.value(depth) {
			return false
		}
		more, ok := s.next(closing)
		if !ok {
			return false
		}
		if !more {
			return true
		}
	}
}

func (s *scanner) literal(word string) bool {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return false
	}
	s.i += len(word)
	return true
}

// string reads a string; plain says that it holds no escape.
func (s *scanner) string() (plain, ok bool) {
	plain = true
	b := s.b
	if s.valid {
		if n := bytes.IndexByte(b[s.i+1:], '"'); n >= 0 && bytes.IndexByte(b[s.i+1:s.i+1+n], '\\') < 0 {
			s.i += n + 2
			return true, true
		}
	}
	for i := s.i + 1; i < len(b); i++ {
		for len(b)-i >= 8 && ordinary(binary.LittleEndian.Uint64(b[i:])) {
			i += 8
		}
		if i == len(b) {
			break
		}
		switch c := b[i]; {
		case c == '"':
			s.i = i + 1
			return plain, true
		case c == '\\':
			plain = false
			i++
			if i == len(b) {
				return false, false
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if len(b)-i < 5 {
					return false, false
				}
				for _, h := range b[i+1 : i+5] {
					if !isHex(h) {
						return false, false
					}
				}
				i += 4
			default:
				return false, false
			}
		case c < 0x20:
			return false, false
		}
	}
	return false, false
}

// ordinary reports whether none of eight bytes means something in a string: '"',
// '\\' or a control character.
func ordinary(v uint64) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote, slash := v^'"'*ones, v^'\\'*ones
	return ((quote-ones)&^quote|(slash-ones)&^slash|(v-0x20*ones)&^v)&highs == 0
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > from
}

// number reads a number that fits into a float64, as encoding/json demands.
func (s *scanner) number() bool {
	from := s.i
	if !s.numeral() {
		return false
	}
	text := s.b[from:s.i]
	if len(text) < 300 && !bytes.ContainsAny(text, "eE") {
		return true
	}
	if _, err := strconv.ParseFloat(string(text), 64); err != nil {
		s.err = errs.New(errs.Invalid, "failed to decode JSON input: a number is out of range")
		return false
	}
	return true
}

func (s *scanner) numeral() bool {
	if s.b[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.b) && s.b[s.i] == '0' {
		s.i++
	} else if !s.digits() {
		return false
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if !s.digits() {
			return false
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		return s.digits()
	}
	return true
}

// JSON writes the object again.
func (o Object) JSON() json.RawMessage {
	n := 2
	for i := range o {
		n += len(o[i].Key) + len(o[i].Value) + 4
	}
	out := append(make(json.RawMessage, 0, n), '{')
	for i := range o {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(AppendString(out, o[i].Key), ':')
		out = append(out, o[i].Value...)
	}
	return append(out, '}')
}

// Objects takes a JSON array of objects apart. raw is valid JSON, such as a
// Member's value. begin is called before each element, member with each of its
// members, whose values alias raw; an error of theirs ends it. isArray is false
// where raw is no array; an element that is no object goes to other.
func Objects(
	raw json.RawMessage, begin func(), member func(key string, value json.RawMessage) error, other func(value json.RawMessage) error,
) (isArray bool, err error) {
	s := scanner{b: raw, valid: true}
	s.space()
	if s.i == len(raw) || raw[s.i] != '[' {
		return false, nil
	}
	s.i++
	s.space()
	if s.i < len(raw) && raw[s.i] == ']' {
		return true, nil
	}
	for more, ok := true, true; more && ok; more, ok = s.next(']') {
		begin()
		s.space()
		if s.i < len(raw) && raw[s.i] == '{' {
			err = s.members(member)
		} else {
			from := s.i
			if !s.value(1) {
				return true, errNotJSON
			}
			err = other(raw[from:s.i])
		}
		if err != nil {
			return true, err
		}
	}
	return true, nil
}

var errNotJSON = errs.New(errs.Invalid, "this is not JSON")

func (s *scanner) members(fn func(key string, value json.RawMessage) error) error {
	s.i++ // '{'
	s.space()
	if s.i < len(s.b) && s.b[s.i] == '}' {
		s.i++
		return nil
	}
	for more, ok := true, true; more && ok; more, ok = s.next('}') {
		key, ok := s.key()
		if !ok {
			return errNotJSON
		}
		s.space()
		from := s.i
		if !s.value(1) {
			return errNotJSON
		}
		if err := fn(key, s.b[from:s.i]); err != nil {
			return err
		}
	}
	return nil
}

// Text returns what a JSON string says; it aliases raw where nothing is escaped.
func Text(raw json.RawMessage) (text []byte, isString bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return nil, false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], true
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return nil, false
	}
	return []byte(s), true
}
