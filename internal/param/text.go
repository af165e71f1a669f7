package param

import (
	"encoding/json"
	"slices"
	"unicode/utf8"
)

// AppendMap appends m as a JSON object, as encoding/json would; nil is null.
func AppendMap(dst []byte, m map[string]string) []byte {
	if m == nil {
		return append(dst, "null"...)
	}
	return appendMembers(dst, m, func(text string) string { return text })
}

// AppendTexts is AppendMap for a map of which it is not known that it holds texts only: with other values, or none at all, it
// does nothing and reports false.
func AppendTexts(dst []byte, m map[string]any) (out []byte, ok bool) {
	for _, v := range m {
		if _, ok := v.(string); !ok {
			return dst, false
		}
	}
	if len(m) == 0 {
		return dst, false
	}
	return appendMembers(dst, m, func(v any) string { return v.(string) }), true
}

func appendMembers[V any](dst []byte, m map[string]V, text func(V) string) []byte {
	var room [8]string
	keys := room[:0]
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	dst = append(dst, '{')
	for i, k := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, k), ':')
		dst = AppendString(dst, text(m[k]))
	}
	return append(dst, '}')
}

// AppendString appends s as a JSON string, with the escapes of encoding/json.
func AppendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c >= utf8.RuneSelf {
			raw, _ := json.Marshal(s) // a string always encodes
			return append(dst, raw...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
