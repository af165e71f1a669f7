package audit

import (
	"strconv"
	"strings"
	"unicode"

	"arca/internal/errs"
)

const maxPrefixBytes = 256

// makeSink makes the sink of a type of device, not yet open. The errors are
// Invalid, with the texts that Vault's clients know.
func makeSink(typ string, o map[string]string) (sink, error) {
	switch typ {
	case "file":
		return newFile(o)
	case "socket":
		return newSocket(o)
	case "syslog":
		return newSyslog(o)
	case "http":
		return newHTTP(o)
	}
	return nil, errs.New(errs.Invalid, "unknown backend type: %q", typ)
}

// parseStyle reads the options that all types share; prefixes says that a prefix
// is allowed.
func parseStyle(o map[string]string, prefixes bool) (style, error) {
	s := style{accessor: true}
	switch o["format"] {
	case "", "json":
	case "jsonx":
		s.jsonx = true
	default:
		return s, errs.New(errs.Invalid, "unknown format type %q", o["format"])
	}
	for name, into := range map[string]*bool{"log_raw": &s.raw, "hmac_accessor": &s.accessor, "elide_list_responses": &s.elide} {
		if err := flag(o, name, into); err != nil {
			return s, err
		}
	}
	if s.prefix = o["prefix"]; s.prefix != "" {
		// A free text at the start of a line made audit files executable
		// (CVE-2025-6000).
		if !prefixes {
			return s, errs.New(errs.Invalid, "audit log prefixing is not allowed")
		}
		if len(s.prefix) > maxPrefixBytes || strings.ContainsFunc(s.prefix, unicode.IsControl) {
			return s, errs.New(errs.Invalid, "prefix: at most %d bytes, without line breaks and control characters", maxPrefixBytes)
		}
	}
	var err error
	s.exclude, err = parseExclude(o["exclude"])
	return s, err
}

func flag(o map[string]string, name string, into *bool) error {
	text, ok := o[name]
	if !ok {
		return nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return errs.New(errs.Invalid, "%s", err.Error())
	}
	*into = b
	return nil
}
