package source

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/parser"
	"github.com/hashicorp/hcl/hcl/token"
)

// parseHCL reads HCL. Where a comment has swallowed the brace that ends a block
// written on one line, the brace is taken for what was meant, with a warning.
func parseHCL(name, text string) (*Value, []Warning, error) {
	root, err := parseStrict(name, text)
	if err == nil {
		return root, nil, nil
	}
	if mended, warnings := freeBraces(name, text); len(warnings) > 0 {
		if root, mendedErr := parseStrict(name, mended); mendedErr == nil {
			return root, warnings, nil
		}
	}
	return nil, nil, err
}

func parseStrict(name, text string) (*Value, error) {
	if depth, at := nesting(text); depth > maxNesting {
		at.File = name
		return nil, fault(at, "", "nested deeper than %d levels", maxNesting)
	}
	file, err := parseAST(text)
	if err != nil {
		return nil, explain(name, text, err)
	}
	list, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return nil, fault(Pos{File: name}, "", "holds no settings")
	}
	h := hclTree{name: name}
	root := Value{Pos: Pos{File: name, Line: 1, Column: 1}, Kind: Object}
	if root.Items, err = h.items(list); err != nil {
		return nil, err
	}
	return &root, nil
}

// parseAST keeps a panic of the parser on odd text from ending the program.
func parseAST(text string) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("this is not HCL: %v", r)
		}
	}()
	return parser.ParseDontErrorOnDuplicateKeys([]byte(text))
}

type hclTree struct{ name string }

func (h hclTree) pos(p token.Pos) Pos { return Pos{File: h.name, Line: p.Line, Column: p.Column} }

func (h hclTree) items(list *ast.ObjectList) ([]Item, error) {
	out := make([]Item, 0, len(list.Items))
	for _, it := range list.Items {
		if len(it.Keys) == 0 {
			continue
		}
		item := Item{Pos: h.pos(it.Keys[0].Pos())}
		for i, k := range it.Keys {
			text, err := h.text(k.Token)
			if err != nil {
				return nil, err
			}
			if i == 0 {
				item.Key = text
			} else {
				item.Labels = append(item.Labels, text)
			}
		}
		var err error
		if item.Value, err = h.value(it.Val); err != nil {
			return nil, err
		}
		out = append(out, item)
	}
	return out, nil
}

func (h hclTree) value(n ast.Node) (Value, error) {
	v := Value{Pos: h.pos(n.Pos())}
	var err error
	switch n := n.(type) {
	case *ast.ObjectType:
		v.Kind = Object
		v.Items, err = h.items(n.List)
	case *ast.ListType:
		v.Kind = List
		for _, e := range n.List {
			var item Value
			if item, err = h.value(e); err != nil {
				return v, err
			}
			v.List = append(v.List, item)
		}
	case *ast.LiteralType:
		v.Text, err = h.text(n.Token)
		switch n.Token.Type { //nolint:exhaustive // the rest are words
		case token.NUMBER, token.FLOAT:
			v.Kind = Number
		case token.BOOL:
			v.Kind = Bool
		default:
			v.Kind = String
		}
	default:
		err = fault(v.Pos, "", "unexpected %T", n)
	}
	return v, err
}

// text is a token's text without quotes. The library panics on what it cannot
// unquote.
func (h hclTree) text(t token.Token) (text string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fault(h.pos(t.Pos), "", "cannot read %s: %v", t.Text, r)
		}
	}()
	switch t.Type { //nolint:exhaustive // the rest is as written
	case token.STRING, token.HEREDOC:
		s, _ := t.Value().(string)
		return s, nil
	}
	return t.Text, nil
}

// explain gives the parser's error its place and a guess.
func explain(name, text string, err error) error {
	at := Pos{File: name}
	var p *parser.PosError
	if errors.As(err, &p) {
		at.Line, at.Column, err = p.Pos.Line, p.Pos.Column, p.Err
	}
	better, hint := hintHCL(text, at)
	better.File = name
	return fault(better, hint, "%s", strings.TrimSuffix(err.Error(), "."))
}

// nesting is the deepest nesting of brackets outside of strings and comments,
// and where it is.
func nesting(text string) (deepest int, at Pos) {
	depth, line, start := 0, 1, 0
	scan(text, func(i int, c byte) {
		switch c {
		case '\n':
			line, start = line+1, i+1
		case '{', '[', '(':
			if depth++; depth > deepest {
				deepest, at = depth, Pos{Line: line, Column: i - start + 1}
			}
		case '}', ']', ')':
			depth--
		}
	})
	return deepest, at
}

// scan calls fn for each byte outside of strings and comments, and for each
// newline.
func scan(text string, fn func(i int, c byte)) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			for i++; i < len(text) && text[i] != '"' && text[i] != '\n'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			if i < len(text) && text[i] == '\n' {
				fn(i, '\n')
			}
		case c == '#', c == '/' && i+1 < len(text) && text[i+1] == '/':
			for i < len(text) && text[i] != '\n' {
				i++
			}
			if i < len(text) {
				fn(i, '\n')
			}
		case c == '/' && i+1 < len(text) && text[i+1] == '*':
			end := strings.Index(text[i+2:], "*/")
			if end < 0 {
				return
			}
			for j := i; j < i+2+end; j++ {
				if text[j] == '\n' {
					fn(j, '\n')
				}
			}
			i += end + 3
		default:
			fn(i, c)
		}
	}
}
