package ttlv

import (
	"encoding/hex"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Texts reads and writes the encodings of KMIP messages that people can read, XML and
// JSON (KMIP Additional Message Encodings 2.1). They have the same bounds as Decode.
// Safe for concurrent use.
type Texts struct{ tags map[string]Tag }

// The tags of the specifications lie between these.
const firstTag, lastTag Tag = 0x420001, 0x4201ff

// NewTexts makes the tables of names.
func NewTexts() *Texts {
	x := &Texts{tags: map[string]Tag{}}
	for t := firstTag; t <= lastTag; t++ {
		if n := t.name(); n != "" {
			x.tags[n] = t
		}
	}
	return x
}

func typeNames() []string {
	return []string{
		"", "Structure", "Integer", "LongInteger", "BigInteger", "Enumeration", "Boolean", "TextString", "ByteString", "DateTime", "Interval", "DateTimeExtended",
	}
}

func typeNamed(name string) (Type, bool) {
	if name == "" {
		return Structure, true
	}
	for i, n := range typeNames() {
		if n == name {
			return Type(i), true
		}
	}
	return 0, false
}

// tag finds a tag by its name, or by its number in hexadecimal.
func (x *Texts) tag(name string) (Tag, bool) {
	if t, ok := x.tags[name]; ok {
		return t, true
	}
	digits, ok := strings.CutPrefix(name, "0x")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	if err != nil || n>>16 != 0x42 && n>>16 != 0x54 {
		return 0, false
	}
	return Tag(n), true
}

// Camel is the name of a tag, from that of an attribute (section 3.1).
func Camel(name string) string {
	name = strings.NewReplacer("(", " ", ")", " ").Replace(name)
	var out strings.Builder
	up := true
	for i, c := range name {
		next, _ := utf8.DecodeRuneInString(name[i+utf8.RuneLen(c):])
		switch {
		case c == ' ':
			up = true
		case !unicode.IsLetter(c) && !unicode.IsDigit(c) && unicode.IsLetter(next):
			up = true
		case !unicode.IsLetter(c) && !unicode.IsDigit(c):
			out.WriteByte('_')
		case up:
			out.WriteRune(unicode.ToUpper(c))
			up = false
		default:
			out.WriteRune(c)
		}
	}
	return out.String()
}

// context is the tag by which the values of a child are named: that of an attribute's
// value is the attribute's.
func (x *Texts) context(parent *Node, child Tag) Tag {
	if child != TagAttributeValue || parent == nil {
		return child
	}
	if n := parent.Get(TagAttributeName); n != nil {
		if t, ok := x.tags[Camel(n.Text())]; ok {
			return t
		}
	}
	return child
}

// nameOf is what a value of an enumeration is called, or its number.
func nameOf(context Tag, v uint32) string {
	if context == TagAttributeReference || context == TagTag {
		if n := Tag(v).name(); n != "" {
			return n
		}
	}
	return EnumName(context, v)
}

func (x *Texts) valueOf(context Tag, text string) (int64, bool) {
	for _, n := range enumeration(context) {
		if n.name == text {
			return int64(n.value), true
		}
	}
	if context == TagAttributeReference || context == TagTag {
		if t, ok := x.tags[text]; ok {
			return int64(t), true
		}
	}
	v, err := strconv.ParseUint(text, 0, 32)
	return int64(v), err == nil
}

// mask names the bits of an integer; "" for one that is no mask, or has others.
func mask(context Tag, v int32, separator string) string {
	if context != TagCryptographicUsageMask && context != TagStorageStatusMask && context != TagProtectionStorageMask {
		return ""
	}
	var names []string
	left := uint32(v)
	for _, n := range enumeration(context) {
		if left&n.value == n.value && n.value != 0 {
			names = append(names, n.name)
			left &^= n.value
		}
	}
	if left != 0 {
		return ""
	}
	return strings.Join(names, separator)
}

func unmask(context Tag, text string) (int64, bool) {
	var out uint32
	for _, part := range strings.FieldsFunc(text, func(c rune) bool { return c == ' ' || c == '|' }) {
		found := false
		for _, n := range enumeration(context) {
			if n.name == part {
				out |= n.value
				found = true
				break
			}
		}
		if v, err := strconv.ParseUint(part, 0, 32); !found && err == nil {
			out |= uint32(v)
			found = true
		}
		if !found {
			return 0, false
		}
	}
	return int64(int32(out)), true
}

// fill sets the value of n from a text.
func (x *Texts) fill(n *Node, context Tag, text string) error {
	var ok bool
	switch n.Type {
	case Integer:
		v, err := strconv.ParseInt(text, 0, 64)
		if n.Int, ok = v, err == nil && (v == int64(int32(v)) || strings.HasPrefix(text, "0x") && v>>32 == 0); ok {
			n.Int = int64(int32(v))
		} else if err != nil {
			n.Int, ok = unmask(context, text)
		}
	case LongInteger:
		v, err := strconv.ParseInt(text, 0, 64)
		if u, hexErr := strconv.ParseUint(text, 0, 64); err != nil && hexErr == nil && strings.HasPrefix(text, "0x") {
			v, err = int64(u), nil
		}
		n.Int, ok = v, err == nil
	case Interval:
		v, err := strconv.ParseUint(text, 0, 32)
		n.Int, ok = int64(v), err == nil
	case BigInteger:
		raw, err := hex.DecodeString(strings.TrimPrefix(text, "0x"))
		ok = err == nil && len(raw) > 0 && len(raw)%8 == 0
		n.Bytes = raw
	case Enumeration:
		n.Int, ok = x.valueOf(context, text)
	case Boolean:
		ok = text == "true" || text == "false" || text == "1" || text == "0"
		if text == "true" || text == "1" {
			n.Int = 1
		}
	case TextString:
		ok = utf8.ValidString(text) && !strings.ContainsRune(text, 0)
		n.Bytes = []byte(text)
	case ByteString:
		raw, err := hex.DecodeString(text)
		n.Bytes, ok = raw, err == nil
	case DateTime, DateTimeExtended:
		n.Int, ok = date(text, n.Type == DateTimeExtended)
	case Structure:
		ok = text == ""
	}
	if !ok {
		return bad("the value of %s cannot be read", n.Tag)
	}
	return nil
}

func date(text string, micro bool) (int64, bool) {
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(form, text); err == nil {
			if micro {
				return t.UnixMicro(), true
			}
			return t.Unix(), true
		}
	}
	v, err := strconv.ParseInt(text, 0, 64)
	return v, err == nil
}

// show is the value of n as a text. separator is that of masks.
func (n *Node) show(context Tag, separator string) string {
	switch n.Type {
	case Integer:
		if s := mask(context, int32(n.Int), separator); s != "" {
			return s
		}
		return strconv.FormatInt(n.Int, 10)
	case LongInteger, Interval:
		return strconv.FormatInt(n.Int, 10)
	case Enumeration:
		return nameOf(context, uint32(n.Int))
	case Boolean:
		return strconv.FormatBool(n.Int == 1)
	case TextString:
		return string(n.Bytes)
	case BigInteger, ByteString:
		return hex.EncodeToString(n.Bytes)
	case DateTime:
		return instant(time.Unix(n.Int, 0), n.Int)
	case DateTimeExtended:
		return instant(time.UnixMicro(n.Int), n.Int)
	case Structure:
	}
	return ""
}

// instant is a time as ISO 8601 has it, or its number where that has no room for it.
func instant(t time.Time, raw int64) string {
	t = t.UTC()
	if t.Year() < 0 || t.Year() > 9999 {
		return "0x" + new(big.Int).And(big.NewInt(raw), new(big.Int).SetUint64(1<<64-1)).Text(16)
	}
	return t.Format(time.RFC3339Nano)
}

// Show is the value of n as a text, as XML has it; context is the tag by which values of
// enumerations and masks are named.
func (n *Node) Show(context Tag) string { return n.show(context, " ") }

// Plain is the value of n as JSON shows it to people: structures are maps by the names of tags,
// where what is there several times is a list; numbers and truths are such, all else is a text.
// context is as for Show.
func (x *Texts) Plain(n *Node, context Tag) any {
	switch n.Type { //nolint:exhaustive // the others are texts
	case Structure:
		out := map[string]any{}
		for _, c := range n.Children {
			name, v := c.Tag.String(), x.Plain(c, x.context(n, c.Tag))
			switch have := out[name].(type) {
			case nil:
				out[name] = v
			case []any:
				out[name] = append(have, v)
			default:
				out[name] = []any{have, v}
			}
		}
		return out
	case Boolean:
		return n.Int == 1
	case Interval, LongInteger:
		return n.Int
	case Integer:
		if text := n.Show(context); text != "" && (text[0] < '0' || text[0] > '9') && text[0] != '-' { // a mask
			return text
		}
		return n.Int
	}
	return n.Show(context)
}
