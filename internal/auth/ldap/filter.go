package ldap

import (
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"arca/internal/errs"
)

// Bounds on a filter: as it is written, and filled in.
const (
	maxFilterBytes = 4 << 10
	maxFilledBytes = 16 << 10
)

// What may stand in a filter in the place of a value, and of which filter.
const (
	fieldAttr = "UserAttr"
	fieldName = "Username"
	fieldDN   = "UserDN"
)

func userFields() []string  { return []string{fieldAttr, fieldName} }
func groupFields() []string { return []string{fieldDN, fieldName} }

// A piece of a filter is text, or the name of a field.
type piece struct {
	text  string
	field bool
}

// parseFilter takes a filter apart. Vault runs filters as templates of Go; whoever may
// write the configuration of a mount could have such a program loop for ever, or make
// gigabytes, at each login. Here a filter is text with fields, {{.Username}}, and
// nothing else. The error, of kind Invalid, names the filter as what.
func parseFilter(what, text string, fields []string) ([]piece, error) {
	if len(text) > maxFilterBytes {
		return nil, errs.New(errs.Invalid, "%s has at most %d bytes", what, maxFilterBytes)
	}
	known := "{{." + strings.Join(fields, "}} and {{.") + "}}"
	var out []piece
	for text != "" {
		before, behind, open := strings.Cut(text, "{{")
		if !open {
			return append(out, piece{text: before}), nil
		}
		inner, rest, closed := strings.Cut(behind, "}}")
		if !closed {
			return nil, errs.New(errs.Invalid, "%s: {{ without }}; it is a filter of LDAP in which %s may stand", what, known)
		}
		inner, before, rest = trimmed(inner, before, rest)
		if before != "" {
			out = append(out, piece{text: before})
		}
		text = rest
		inner = strings.Trim(inner, space)
		if strings.HasPrefix(inner, "/*") && strings.HasSuffix(inner, "*/") && len(inner) >= len("/**/") {
			continue // a comment
		}
		name, dotted := strings.CutPrefix(inner, ".")
		if !dotted || !slices.Contains(fields, name) {
			return nil, errs.New(errs.Invalid, "%s: {{%s}} is not supported; it is a filter of LDAP in which %s may stand", what, shorten(inner), known)
		}
		out = append(out, piece{text: name, field: true})
	}
	return out, nil
}

const space = " \t\r\n"

// trimmed follows the marks by which a template trims the text around what is in braces.
func trimmed(inner, before, rest string) (string, string, string) {
	if s, ok := strings.CutPrefix(inner, "-"); ok && s != "" && strings.Contains(space, s[:1]) {
		inner, before = s, strings.TrimRight(before, space)
	}
	if s, ok := strings.CutSuffix(inner, "-"); ok && s != "" && strings.Contains(space, s[len(s)-1:]) {
		inner, rest = s, strings.TrimLeft(rest, space)
	}
	return inner, before, rest
}

// shorten keeps an error readable.
func shorten(text string) string {
	if len(text) > 40 {
		return strings.ToValidUTF8(text[:40], "") + "..."
	}
	return text
}

// filter fills a filter in with values that stand for nothing but themselves
// (RFC 4515). It checks the filter anew: one that was stored by an older version may
// be no filter here.
func filter(what, text string, fields []string, values map[string]string) (string, error) {
	pieces, err := parseFilter(what, text, fields)
	if err != nil {
		return "", err
	}
	tooLong := errs.New(errs.Invalid, "%s, filled in, has more than %d bytes", what, maxFilledBytes)
	escaped := make(map[string]string, len(values))
	for k, v := range values {
		if len(v) > maxFilledBytes {
			return "", tooLong
		}
		escaped[k] = ldap.EscapeFilter(v)
	}
	var out strings.Builder
	for _, p := range pieces {
		part := p.text
		if p.field {
			part = escaped[p.text]
		}
		if out.Len()+len(part) > maxFilledBytes {
			return "", tooLong
		}
		out.WriteString(part)
	}
	return out.String(), nil
}
