package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/go-bexpr"

	"arca/internal/errs"
)

// Bounds of the options filter and exclude.
const (
	maxFilterBytes  = 4096
	maxExpressions  = 100_000 // that the parser tries, as parentheses make it start again
	maxExclusions   = 64
	maxExcludedEach = 64
)

// A subject is what a filter looks at: the properties that Vault documents
// (https://developer.hashicorp.com/vault/docs/enterprise/audit/filtering).
type subject struct {
	MountPoint string `bexpr:"mount_point"`
	MountType  string `bexpr:"mount_type"`
	Namespace  string `bexpr:"namespace"`
	Operation  string `bexpr:"operation"`
	Path       string `bexpr:"path"`
}

func subjectOf(r *Record) subject {
	s := subject{Operation: r.Op.String(), Path: r.Request.Path}
	if r.Mount != nil {
		s.MountPoint, s.MountType = r.Mount.Path, r.Mount.Type
	}
	if r.Namespace != nil {
		s.Namespace = r.Namespace.Path
	}
	return s
}

// A selection says which records a device wants.
type selection struct {
	filter   *bexpr.Evaluator // nil: all
	fallback bool             // those that no other device wants
}

// parseSelection reads the options filter and fallback.
func parseSelection(o map[string]string) (s selection, err error) {
	if err := flag(o, "fallback", &s.fallback); err != nil {
		return s, err
	}
	text := o["filter"]
	if text == "" {
		return s, nil
	}
	if s.fallback {
		return s, errs.New(errs.Invalid, "a fallback device cannot have a filter: it takes what no other device wants")
	}
	if s.filter, err = compileExpression(text); err == nil {
		_, err = s.filter.Evaluate(subject{})
	}
	if err != nil {
		return s, errs.New(errs.Invalid,
			"filter cannot be used: %s; it can test mount_point, mount_type, namespace, operation and path", firstLine(err))
	}
	return s, nil
}

// compileExpression compiles hostile text: the parser's effort is bounded, and its
// panics are errors.
func compileExpression(text string, options ...bexpr.Option) (e *bexpr.Evaluator, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, err = nil, errors.New("the expression cannot be read")
		}
	}()
	if len(text) > maxFilterBytes {
		return nil, fmt.Errorf("the expression is longer than %d bytes", maxFilterBytes)
	}
	return bexpr.CreateEvaluator(text, append(options, bexpr.WithMaxExpressions(maxExpressions))...)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// wants reports whether the device takes a record. What a filter cannot judge
// is taken.
func (s *selection) wants(about *subject) bool {
	if s.filter == nil {
		return true
	}
	match, err := s.filter.Evaluate(*about)
	return match || err != nil
}

// choose appends the devices that take a record to list.
func (s *set) choose(r *Record, list []*device) []*device {
	if !s.selective {
		return append(list, s.devices...)
	}
	about := subjectOf(r)
	for _, d := range s.devices {
		if !d.fallback && d.wants(&about) {
			list = append(list, d)
		}
	}
	if len(list) > 0 {
		return list
	}
	for _, d := range s.devices {
		if d.fallback {
			list = append(list, d)
		}
	}
	return list
}

// An exclusion leaves fields out of the records that meet its condition.
type exclusion struct {
	condition *bexpr.Evaluator // nil: all
	fields    [][]string       // JSON pointers, in parts
}

// parseExclude reads the option exclude: a JSON list of objects with the members
// condition, an expression over JSON pointers into the record, and fields, a list
// of such pointers
// (https://developer.hashicorp.com/vault/docs/enterprise/audit/exclusion).
func parseExclude(text string) ([]exclusion, error) {
	if text == "" {
		return nil, nil
	}
	wrong := func(format string, args ...any) error {
		return errs.New(errs.Invalid, "exclude cannot be used: "+format, args...)
	}
	var list []struct {
		Condition string   `json:"condition"`
		Fields    []string `json:"fields"`
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil || d.More() {
		return nil, wrong(`it must be a list like [{"condition": "…", "fields": ["/request/data"]}]`)
	}
	if len(list) > maxExclusions {
		return nil, wrong("more than %d entries", maxExclusions)
	}
	out := make([]exclusion, len(list))
	for i, in := range list {
		if len(in.Fields) == 0 || len(in.Fields) > maxExcludedEach {
			return nil, wrong("entry %d must name 1 to %d fields", i+1, maxExcludedEach)
		}
		for _, f := range in.Fields {
			parts, ok := pointer(f)
			if !ok {
				return nil, wrong("field %q is no JSON pointer such as /request/data", f)
			}
			out[i].fields = append(out[i].fields, parts)
		}
		if in.Condition == "" {
			continue
		}
		e, err := compileExpression(in.Condition, bexpr.WithUnknownValue(""))
		if err == nil {
			_, err = e.Evaluate(map[string]any{})
		}
		if err != nil {
			return nil, wrong("condition of entry %d: %s", i+1, firstLine(err))
		}
		out[i].condition = e
	}
	return out, nil
}

// pointer splits a JSON pointer (RFC 6901) below the record.
func pointer(text string) ([]string, bool) {
	rest, ok := strings.CutPrefix(text, "/")
	if !ok || rest == "" {
		return nil, false
	}
	parts := strings.Split(rest, "/")
	for i := range parts {
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(parts[i], "~1", "/"), "~0", "~")
	}
	return parts, true
}

// excluded writes a record, a JSON object, without what is excluded. A condition
// that cannot be judged counts as met: too little is recorded rather than what
// should not be.
func excluded(list []exclusion, record []byte) []byte {
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(record))
	d.UseNumber()
	if d.Decode(&m) != nil {
		return []byte(`{"error":"the record could not be read to leave fields out"}`) // our own encoding: never
	}
	// All conditions are about the whole record.
	met := make([]bool, len(list))
	for i := range list {
		if met[i] = list[i].condition == nil; !met[i] {
			match, err := list[i].condition.Evaluate(m)
			met[i] = match || err != nil
		}
	}
	for i := range list {
		if met[i] {
			for _, f := range list[i].fields {
				remove(m, f)
			}
		}
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if e.Encode(m) != nil {
		return []byte(`{"error":"the record could not be written without fields"}`) // never: it was read from JSON
	}
	return bytes.TrimSuffix(out.Bytes(), []byte{'\n'})
}

// remove deletes a member below m.
func remove(m map[string]any, parts []string) {
	for ; len(parts) > 1; parts = parts[1:] {
		next, ok := m[parts[0]].(map[string]any)
		if !ok {
			return
		}
		m = next
	}
	delete(m, parts[0])
}
