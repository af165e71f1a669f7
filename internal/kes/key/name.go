package key

import (
	"strings"

	"arca/internal/errs"
)

// maxName is the length of a name in characters.
const maxName = 80

// CheckName refuses what cannot name a new key, policy or identity: what CheckKnown
// refuses, and a hyphen at either end.
func CheckName(name string) error {
	if err := CheckKnown(name); err != nil {
		return err
	}
	if strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-") {
		return errs.New(errs.Invalid, "invalid name: a hyphen is neither its first nor its last character")
	}
	return nil
}

// CheckKnown refuses what no KES has taken as a name: anything but 1 to 80 letters,
// digits, "-" and "_", and "_" alone. Those of 2023 took hyphens at the ends: keys of
// such names are used, taken over and deleted, but not made. What it accepts is a safe
// file name.
func CheckKnown(name string) error {
	switch {
	case name == "":
		return errs.New(errs.Invalid, "invalid name: it is empty")
	case len(name) > maxName:
		return errs.New(errs.Invalid, "invalid name: it is longer than %d characters", maxName)
	case !isName(name):
		return errs.New(errs.Invalid, "invalid name: it may have letters, digits, '-' and '_' only")
	case name == "_":
		return errs.New(errs.Invalid, "invalid name: '_' alone is none")
	}
	return nil
}

// ParsePattern returns the prefix and the first name of a listing: of nothing
// and "*" (all), a prefix, a prefix with one star at its end, and of what a
// listing gives to go on with, "PREFIX~REST".
func ParsePattern(pattern string) (prefix, from string, err error) {
	prefix, rest, more := strings.Cut(pattern, "~")
	if more {
		from = prefix + rest
		if len(from) > maxName || from == "" || !isName(from) {
			return "", "", errs.New(errs.Invalid, "invalid pattern: what follows '~' goes on with a listing")
		}
	} else {
		prefix = strings.TrimSuffix(prefix, "*")
	}
	switch {
	case len(pattern) > maxName+1 || len(prefix) > maxName:
		return "", "", errs.New(errs.Invalid, "invalid pattern: it is longer than %d characters", maxName)
	case !isName(prefix):
		return "", "", errs.New(errs.Invalid, "invalid pattern: it may have letters, digits, '-', '_' and one '*' at its end only")
	case pattern == "_":
		return "", "", errs.New(errs.Invalid, "invalid pattern: '_' alone is none")
	case strings.HasPrefix(prefix, "-"): // as the last KES has it; those of 2023 are listed with all others
		return "", "", errs.New(errs.Invalid, "invalid pattern: names do not begin with a hyphen")
	}
	return prefix, from, nil
}

// isName reports whether all characters are those of names.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// IsName reports whether CheckName accepts the name.
func IsName(name string) bool { return CheckName(name) == nil }

// WasName reports whether CheckKnown accepts the name.
func WasName(name string) bool { return CheckKnown(name) == nil }
