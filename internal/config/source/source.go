// Package source reads configuration text, in HCL or JSON, into one tree of
// keys and values that know where they stand, and decodes the tree into
// structs.
//
// Which of the two it is shows in the text, not in the file's name. What is
// wrong is told with file, line, column and, where it can be guessed, what was
// meant: a path without quotes, a brace that is missing, a key with a letter
// too many. Unknown keys are warnings, so that a configuration made for
// another version still starts a server.
//
// The forms are those of HCL 1 (https://github.com/hashicorp/hcl/tree/hcl1)
// and of the JSON that Vault documents for it: a block may be an object, an
// object by label, or a list of either.
package source

import (
	"fmt"
	"strings"

	"arca/internal/errs"
)

// Bounds on a text from outside. The parser of HCL recurses, so its depth must
// be bounded before it runs.
const (
	MaxBytes   = 4 << 20
	maxNesting = 64
)

// A Pos is a place in a file. Line and Column count from 1; 0 is unknown.
type Pos struct {
	File         string
	Line, Column int
}

// String is file:line:column, as editors take it.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// A Kind is the kind of a value.
type Kind uint8

// The kinds of values.
const (
	Null Kind = iota
	String
	Number
	Bool
	List
	Object
)

func (k Kind) String() string {
	return [...]string{"nothing", "text", "a number", "true or false", "a list", "a block"}[k]
}

// A Value is a value at its place.
type Value struct {
	Pos
	Kind  Kind
	Text  string // of a String, Number or Bool, as written, without quotes
	List  []Value
	Items []Item // of an Object, in their order
}

// An Item is a key, its labels (storage "file" has one) and its value.
type Item struct {
	Pos
	Key    string
	Labels []string
	Value  Value
}

// A Warning is something that does not stop a server.
type Warning struct {
	Pos
	Text string
}

// String is the warning with its place.
func (w Warning) String() string { return w.Pos.String() + ": " + w.Text }

// fault makes an error at a place. hint may be empty.
func fault(at Pos, hint, format string, args ...any) error {
	text := at.String() + ": " + fmt.Sprintf(format, args...)
	if hint != "" {
		text += "; " + hint
	}
	return errs.New(errs.Invalid, "%s", text)
}

// Errorf makes an error of kind Invalid that names a place.
func Errorf(at Pos, format string, args ...any) error { return fault(at, "", format, args...) }

// Parse reads a text. name is the file's, for messages.
func Parse(name string, text []byte) (*Value, []Warning, error) {
	at := Pos{File: name}
	if len(text) > MaxBytes {
		return nil, nil, fault(at, "", "larger than %d bytes", MaxBytes)
	}
	text = []byte(strings.TrimPrefix(string(text), "\ufeff"))
	if isJSON(text) {
		root, err := parseJSON(name, text)
		return root, nil, err
	}
	return parseHCL(name, string(text))
}

// isJSON tells by the first character: HCL never begins with a brace.
func isJSON(text []byte) bool {
	for _, c := range text {
		switch c {
		case ' ', '\t', '\r', '\n':
		default:
			return c == '{'
		}
	}
	return false
}
