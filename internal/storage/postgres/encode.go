package postgres

import (
	"encoding/binary"
	"strings"

	"arca/internal/errs"
)

// Keys are any bytes; PostgreSQL's text is characters other than NUL. A byte from 0x80 on becomes the character of that
// number, 0x00 and 0x01 become two characters, the first of which is 0x01. The order of bytes, by which keys are sorted, stays that
// of the text under the collation "C", and so do prefixes.
const escape = 0x01

func encode(key string) string {
	plain := true
	for i := 0; i < len(key) && plain; i++ {
		plain = key[i] > escape && key[i] < 0x80
	}
	if plain {
		return key
	}
	var b strings.Builder
	b.Grow(len(key) + len(key)/2)
	for i := range len(key) {
		switch c := key[i]; {
		case c <= escape:
			b.WriteByte(escape)
			b.WriteByte(c + 1)
		default:
			b.WriteRune(rune(c))
		}
	}
	return b.String()
}

// decode is the reverse.
func decode(text []byte) (string, error) {
	b := make([]byte, 0, len(text))
	escaped := false
	for _, r := range string(text) {
		switch {
		case escaped && (r == 1 || r == 2):
			b = append(b, byte(r)-1)
			escaped = false
		case escaped || r == 0 || r > 0xff:
			return "", errs.New(errs.Failed, "the table has a path that arca did not write: %q", text)
		case r == escape:
			escaped = true
		default:
			b = append(b, byte(r))
		}
	}
	if escaped {
		return "", errs.New(errs.Failed, "the table has a path that arca did not write: %q", text)
	}
	return string(b), nil
}

// A param is a value of a statement, in PostgreSQL's binary form.
type param struct {
	value []byte
	oid   uint32
}

// Numbers of types (pg_type.dat).
const (
	oidBool   = 16
	oidBytea  = 17
	oidInt8   = 20
	oidText   = 25
	oidByteas = 1001
	oidTexts  = 1009
)

func textParam(s string) param { return param{[]byte(s), oidText} }

func intParam(n int64) param { return param{binary.BigEndian.AppendUint64(nil, uint64(n)), oidInt8} }

func boolParam(yes bool) param {
	if yes {
		return param{[]byte{1}, oidBool}
	}
	return param{[]byte{0}, oidBool}
}

func textsParam(list []string) param {
	return param{array(oidText, len(list), func(i int) (string, []byte) { return list[i], nil }), oidTexts}
}

func bytesParam(list [][]byte) param {
	return param{array(oidBytea, len(list), func(i int) (string, []byte) { return "", list[i] }), oidByteas}
}

// array is one dimension of elements, each a string or bytes.
func array(oid uint32, n int, at func(int) (string, []byte)) []byte {
	size := 20
	for i := range n {
		s, b := at(i)
		size += 4 + len(s) + len(b)
	}
	out := make([]byte, 0, size)
	for _, v := range []uint32{1, 0, oid, uint32(n), 1} {
		out = binary.BigEndian.AppendUint32(out, v)
	}
	for i := range n {
		s, b := at(i)
		out = binary.BigEndian.AppendUint32(out, uint32(len(s)+len(b)))
		out = append(append(out, s...), b...)
	}
	return out
}

func split(params []param) (values [][]byte, oids []uint32, formats []int16) {
	for _, p := range params {
		values, oids, formats = append(values, p.value), append(oids, p.oid), append(formats, 1)
	}
	return values, oids, formats
}
