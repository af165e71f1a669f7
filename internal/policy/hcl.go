package policy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/scanner"
	"github.com/hashicorp/hcl/hcl/token"
	jsonscanner "github.com/hashicorp/hcl/json/scanner"
	jsontoken "github.com/hashicorp/hcl/json/token"
)

// maxKeys bounds the names before a block (path "a" {): HCL nests a block for
// each of them.
const maxKeys = 8

// parseHCL parses hostile text in HCL or JSON: what would make the parser
// recurse without bound is refused first, and its panics are errors.
func parseHCL(text string) (list *ast.ObjectList, err error) {
	defer func() {
		if r := recover(); r != nil {
			list, err = nil, fmt.Errorf("text is not HCL: %v", r)
		}
	}()
	if nestedDeeper(text, maxNesting) {
		return nil, fmt.Errorf("text is nested deeper than %d levels", maxNesting)
	}
	file, err := hcl.Parse(text)
	if err != nil {
		return nil, err
	}
	list, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return nil, errors.New("text does not contain a root object")
	}
	ast.Walk(list, func(n ast.Node) (ast.Node, bool) {
		if item, isItem := n.(*ast.ObjectItem); isItem && len(item.Keys) > maxKeys {
			err = fmt.Errorf("more than %d names before a block on line %d", maxKeys, item.Pos().Line)
			return n, false
		}
		return n, err == nil
	})
	return list, err
}

// decodeHCL is hcl.DecodeObject, whose panics are errors.
func decodeHCL(into any, n ast.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("value cannot be decoded: %v", r)
		}
	}()
	return firstError(hcl.DecodeObject(into, n))
}

// nestedDeeper reports whether braces and brackets are nested deeper than most.
// It reads the text with the parser's own scanners, so that both agree about
// what is a comment, a string or a here-document.
func nestedDeeper(text string, most int) bool {
	depth := 0
	step := func(open, closed bool) (deeper bool) {
		switch {
		case open:
			depth++
		case closed:
			depth--
		}
		return depth > most
	}
	src := []byte(strings.ReplaceAll(text, "\r\n", "\n")) // as the parser does
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		s := jsonscanner.New(src)
		s.Error = func(jsontoken.Pos, string) {}
		for {
			t := s.Scan().Type
			if t == jsontoken.EOF {
				return false
			}
			if step(t == jsontoken.LBRACE || t == jsontoken.LBRACK, t == jsontoken.RBRACE || t == jsontoken.RBRACK) {
				return true
			}
		}
	}
	s := scanner.New(src)
	s.Error = func(token.Pos, string) {}
	for {
		t := s.Scan().Type
		if t == token.EOF {
			return false
		}
		if step(t == token.LBRACE || t == token.LBRACK, t == token.RBRACE || t == token.RBRACK) {
			return true
		}
	}
}

// firstError drops HCL's list around a single error.
func firstError(err error) error {
	var list interface{ WrappedErrors() []error }
	if errors.As(err, &list) && len(list.WrappedErrors()) == 1 {
		return list.WrappedErrors()[0]
	}
	return err
}
