package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"

	"arca/internal/param"
)

// hashPrefix begins each hashed value, as in Vault.
const hashPrefix = "hmac-sha256:"

// maxNesting bounds the depth of data that is walked; what is deeper is hashed
// as one value.
const maxNesting = 512

// A hasher makes the keyed hashes of one device. Safe for concurrent use.
type hasher struct{ pool sync.Pool }

type mac struct {
	hash.Hash
	in    []byte // the string that is being hashed
	sum   []byte
	draft *draft // gets what is hashed, and where; nil for nobody
}

func newHasher(salt []byte) *hasher {
	return &hasher{pool: sync.Pool{New: func() any {
		return &mac{Hash: hmac.New(sha256.New, salt), sum: make([]byte, 0, sha256.Size)}
	}}}
}

// maxKeptBytes is how large a buffer may be that waits to be used again.
const maxKeptBytes = 64 << 10

func (h *hasher) put(m *mac) {
	clear(m.in[:cap(m.in)]) // it held secrets
	if cap(m.in) > maxKeptBytes {
		m.in = nil
	}
	h.pool.Put(m)
}

// appendHash appends the hash of value, which stays what it is until the record is made.
func (m *mac) appendHash(dst []byte, value []byte) []byte {
	if m.draft != nil {
		m.draft.holes = append(m.draft.holes, hole{at: len(dst), bytes: value})
	}
	return m.appendSum(dst, value)
}

// appendHashOf appends the hash of a string.
func (m *mac) appendHashOf(dst []byte, value string) []byte {
	if m.draft != nil {
		m.draft.holes = append(m.draft.holes, hole{at: len(dst), text: value})
	}
	m.in = append(m.in[:0], value...)
	return m.appendSum(dst, m.in)
}

func (m *mac) appendSum(dst []byte, value []byte) []byte {
	m.Reset()
	m.Write(value)
	m.sum = m.Sum(m.sum[:0])
	dst = append(dst, hashPrefix...)
	return hex.AppendEncode(dst, m.sum)
}

// A walker copies JSON and replaces the strings in it. It trusts nothing: where
// the input is not JSON, ok becomes false, and what it has appended is void.
type walker struct {
	src   []byte
	at    int
	dst   []byte
	mac   *mac     // nil leaves all in clear
	clear []string // keys whose strings stay in clear
	limit int      // of dst
	elide bool     // replace "keys" and "key_info" at the top by their counts
}

func (w *walker) space() {
	for w.at < len(w.src) {
		switch w.src[w.at] {
		case ' ', '\t', '\n', '\r':
			w.at++
		default:
			return
		}
	}
}

// document copies the one value that src is.
func (w *walker) document() bool {
	if !w.value(0, false) {
		return false
	}
	w.space()
	return w.at == len(w.src)
}

// value copies the next value. plain leaves strings directly in it in clear.
func (w *walker) value(depth int, plain bool) bool {
	w.space()
	if w.at == len(w.src) || depth > maxNesting || len(w.dst) > w.limit {
		return false
	}
	switch w.src[w.at] {
	case '"':
		return w.text(plain)
	case '{':
		return w.object(depth)
	case '[':
		w.dst = append(w.dst, '[')
		return w.members(']', func() bool { return w.value(depth+1, plain) })
	}
	return w.scalar()
}

// members walks the members of an object or list.
func (w *walker) members(closing byte, member func() bool) bool {
	w.at++
	w.space()
	if w.at < len(w.src) && w.src[w.at] == closing {
		w.at++
		w.dst = append(w.dst, closing)
		return true
	}
	for {
		if !member() {
			return false
		}
		w.space()
		if w.at == len(w.src) {
			return false
		}
		c := w.src[w.at]
		w.at++
		w.dst = append(w.dst, c)
		switch c {
		case closing:
			return true
		case ',':
		default:
			return false
		}
	}
}

func (w *walker) object(depth int) bool {
	w.dst = append(w.dst, '{')
	return w.members('}', func() bool {
		w.space()
		key, plain, ok := w.raw()
		if !ok {
			return false
		}
		w.space()
		if w.at == len(w.src) || w.src[w.at] != ':' {
			return false
		}
		w.at++
		if !w.copyText(key, plain) {
			return false
		}
		w.dst = append(w.dst, ':')
		name := string(key[1 : len(key)-1])
		if w.elide && depth == 0 && (name == "keys" || name == "key_info") {
			return w.count()
		}
		return w.value(depth+1, len(w.clear) > 0 && slices.Contains(w.clear, name))
	})
}

// count replaces a list or object by the number of its members.
func (w *walker) count() bool {
	w.space()
	if w.at == len(w.src) || w.src[w.at] != '[' && w.src[w.at] != '{' {
		return w.value(1, false)
	}
	raw, ok := w.skip()
	if !ok {
		return false
	}
	var n int
	if raw[0] == '[' {
		var list []json.RawMessage
		ok = json.Unmarshal(raw, &list) == nil
		n = len(list)
	} else {
		var members map[string]json.RawMessage
		ok = json.Unmarshal(raw, &members) == nil
		n = len(members)
	}
	w.dst = strconv.AppendInt(w.dst, int64(n), 10)
	return ok
}

// skip passes the next value.
func (w *walker) skip() ([]byte, bool) {
	from, written := w.at, len(w.dst)
	elide, m, limit := w.elide, w.mac, w.limit
	w.elide, w.mac, w.limit = false, nil, len(w.dst)+2*len(w.src)+16
	ok := w.value(1, true)
	w.elide, w.mac, w.limit = elide, m, limit
	w.dst = w.dst[:written]
	return w.src[from:w.at], ok
}

// raw passes a string and returns it with its quotes; plain says that it has no
// escapes.
func (w *walker) raw() (text []byte, plain, ok bool) {
	if w.at == len(w.src) || w.src[w.at] != '"' {
		return nil, false, false
	}
	plain = true
	for i := w.at + 1; i < len(w.src); i++ {
		switch c := w.src[i]; {
		case c == '"':
			text = w.src[w.at : i+1]
			w.at = i + 1
			return text, plain, true
		case c == '\\':
			plain = false
			i++
		case c < 0x20:
			return nil, false, false
		}
	}
	return nil, false, false
}

// copyText appends a string as it is, if it is one.
func (w *walker) copyText(text []byte, plain bool) bool {
	if len(w.dst)+len(text) > w.limit || !plain && !json.Valid(text) || !utf8.Valid(text) {
		return false
	}
	w.dst = append(w.dst, text...)
	return true
}

func (w *walker) text(clear bool) bool {
	text, plain, ok := w.raw()
	if !ok {
		return false
	}
	if clear || w.mac == nil {
		return w.copyText(text, plain)
	}
	w.dst = append(w.dst, '"')
	if plain {
		w.dst = w.mac.appendHash(w.dst, text[1:len(text)-1])
	} else {
		var s string
		if json.Unmarshal(text, &s) != nil {
			return false
		}
		w.dst = w.mac.appendHashOf(w.dst, s)
	}
	w.dst = append(w.dst, '"')
	return true
}

// scalar copies a number, a boolean or null.
func (w *walker) scalar() bool {
	from := w.at
	for w.at < len(w.src) {
		switch c := w.src[w.at]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c == '-', c == '+', c == '.', c == 'E':
			w.at++
			continue
		}
		break
	}
	word := w.src[from:w.at]
	if !json.Valid(word) {
		return false
	}
	w.dst = append(w.dst, word...)
	return true
}

// appendTooLarge stands for data that is beyond the bound, or is not JSON: one
// hash of the whole.
func appendTooLarge(dst []byte, m *mac, raw []byte) []byte {
	if m != nil {
		m.draft.forget(len(dst))
	}
	dst = append(dst, `{"omitted":`...)
	if m == nil {
		dst = append(dst, "true"...)
	} else {
		dst = append(dst, '"')
		dst = m.appendHash(dst, raw)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"omitted_bytes":`...)
	dst = strconv.AppendInt(dst, int64(len(raw)), 10)
	return append(dst, '}')
}

// appendText appends s as a JSON string in clear.
func appendText(dst []byte, s string) []byte { return param.AppendString(dst, s) }
