package archtest

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"
)

// Lengths of files in lines: the guide, and where it is no longer one.
const (
	guideLines = 500
	maxLines   = 700
)

// TestFileLength reports long files. A file is as long as one subject needs.
func TestFileLength(t *testing.T) {
	t.Parallel()
	for _, p := range load(t) {
		for _, f := range p.files {
			switch {
			case f.lines > maxLines:
				t.Errorf("%s has %d lines: split it by subject", f.name, f.lines)
			case f.lines > guideLines:
				t.Logf("%s has %d lines, more than the guide of %d", f.name, f.lines, guideLines)
			}
		}
	}
}

// TestPackageText checks that every package says what it is for, once.
func TestPackageText(t *testing.T) {
	t.Parallel()
	for _, p := range load(t) {
		var texts []string
		for _, f := range p.code() {
			if f.ast.Doc != nil && strings.TrimSpace(f.ast.Doc.Text()) != "" {
				texts = append(texts, f.name)
			}
		}
		switch {
		case len(p.code()) == 0:
		case len(texts) == 0:
			t.Errorf("package %s has no package text", p.path)
		case len(texts) > 1:
			t.Errorf("package %s has more than one package text: %s", p.path, strings.Join(texts, ", "))
		}
	}
}

// TestNoInit checks that nothing runs by being imported.
func TestNoInit(t *testing.T) {
	t.Parallel()
	for _, p := range load(t) {
		for _, f := range p.files {
			for _, d := range f.ast.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s: no init functions: wire it in a constructor", p.fset.Position(fn.Pos()))
				}
			}
		}
	}
}

// TestNoSleep checks that tests wait for events, not for time to pass. Within
// testing/synctest, Sleep moves the clock of the bubble and costs nothing.
func TestNoSleep(t *testing.T) {
	t.Parallel()
	for _, p := range load(t) {
		for _, f := range p.files {
			if !f.test || imports(f.ast, "testing/synctest") || measures(f.ast) {
				continue
			}
			ast.Inspect(f.ast, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && isSelector(call.Fun, "time", "Sleep") {
					t.Errorf("%s: no sleeping in tests: wait for what should happen, or use testing/synctest", p.fset.Position(call.Pos()))
				}
				return true
			})
		}
	}
}

// measures says that a test measures a process by the clock, and only when asked to:
// it looks at ARCA_MEASURE.
func measures(f *ast.File) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Value == `"ARCA_MEASURE"` {
			found = true
		}
		return !found
	})
	return found
}

func imports(f *ast.File, path string) bool {
	for _, spec := range f.Imports {
		if spec.Path.Value == `"`+path+`"` {
			return true
		}
	}
	return false
}

func isSelector(e ast.Expr, x, sel string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != sel {
		return false
	}
	id, ok := s.X.(*ast.Ident)
	return ok && id.Name == x
}

// TestNoMutableVariables checks that package variables are what they were
// declared to be: nothing assigns to them, their fields or elements, deletes
// from them or takes their address; and that none is made to change, like a lock.
func TestNoMutableVariables(t *testing.T) {
	t.Parallel()
	for _, p := range load(t) {
		var files []*ast.File
		for _, f := range p.code() {
			files = append(files, f.ast)
		}
		v := newVariables(p, files)
		for _, f := range files {
			for _, finding := range v.check(f) {
				t.Errorf("%s: make it a member of what owns it", finding)
			}
		}
	}
}

// variables knows the package variables of one package.
type variables struct {
	fset *token.FileSet
	pkg  *types.Package
	info *types.Info
}

// noImports resolves no package: names are resolved well enough without.
type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not needed") }

func newVariables(p *pkg, files []*ast.File) *variables {
	v := &variables{fset: p.fset, info: &types.Info{Uses: map[*ast.Ident]types.Object{}}}
	cfg := types.Config{Importer: noImports{}, Error: func(error) {}, FakeImportC: true}
	v.pkg, _ = cfg.Check(p.path, p.fset, files, v.info) // fails for want of imports
	return v
}

// base returns the package variable that an expression stands in, or "".
func (v *variables) base(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.Ident:
			if obj, ok := v.info.Uses[x].(*types.Var); ok && obj.Parent() == v.pkg.Scope() {
				return x.Name
			}
			return ""
		default:
			return ""
		}
	}
}

// check returns what a file does to package variables.
func (v *variables) check(f *ast.File) (findings []string) {
	report := func(n ast.Node, name, what string) {
		findings = append(findings, fmt.Sprintf("%s: package variable %s %s", v.fset.Position(n.Pos()), name, what))
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.AssignStmt:
			for _, left := range x.Lhs {
				if name := v.base(left); name != "" && x.Tok != token.DEFINE {
					report(x, name, "is assigned to")
				}
			}
		case *ast.IncDecStmt:
			if name := v.base(x.X); name != "" {
				report(x, name, "is counted")
			}
		case *ast.UnaryExpr:
			if name := v.base(x.X); x.Op == token.AND && name != "" {
				report(x, name, "has its address taken")
			}
		case *ast.CallExpr:
			id, ok := x.Fun.(*ast.Ident)
			if !ok || len(x.Args) == 0 || id.Name != "delete" && id.Name != "clear" && id.Name != "copy" {
				break
			}
			if name := v.base(x.Args[0]); name != "" {
				report(x, name, "is changed by "+id.Name)
			}
		}
		return true
	})
	for _, d := range f.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR {
			continue
		}
		for _, spec := range gen.Specs {
			if s, ok := spec.(*ast.ValueSpec); ok && isState(s) {
				report(s, s.Names[0].Name, "is made to change")
			}
		}
	}
	return findings
}

// isState reports whether a variable is declared as a lock, a counter or a
// channel. A sync.Pool holds nothing that anybody could see.
func isState(s *ast.ValueSpec) bool {
	typ := s.Type
	if typ == nil && len(s.Values) == 1 {
		if lit, ok := s.Values[0].(*ast.CompositeLit); ok {
			typ = lit.Type
		}
		if call, ok := s.Values[0].(*ast.CallExpr); ok && len(call.Args) > 0 {
			if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "make" {
				typ = call.Args[0]
			}
		}
	}
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X // atomic.Pointer[T]
	}
	switch x := typ.(type) {
	case *ast.ChanType:
		return true
	case *ast.SelectorExpr:
		id, ok := x.X.(*ast.Ident)
		return ok && (id.Name == "atomic" || id.Name == "sync" && x.Sel.Name != "Pool")
	}
	return false
}

func TestMutableVariablesAreFound(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, decl, body, want string
	}{
		{"assigned", "var a int", "a = 1", "a is assigned to"},
		{"counted", "var a int", "a++", "a is counted"},
		{"element", "var a = map[string]int{}", `a["x"] = 1`, "a is assigned to"},
		{"member", "var a struct{ b int }", "a.b += 1", "a is assigned to"},
		{"deleted", "var a = map[string]int{}", `delete(a, "x")`, "a is changed by delete"},
		{"address", "var a int", "_ = &a", "a has its address taken"},
		{"lock", "var a sync.Mutex", "", "a is made to change"},
		{"atomic", "var a atomic.Pointer[int]", "", "a is made to change"},
		{"channel", "var a = make(chan int)", "", "a is made to change"},
		{"read", "var a = map[string]int{}", `_ = a["x"]`, ""},
		{"shadowed", "var a int", "a := 1; a = 2; _ = a", ""},
		{"pool", "var a sync.Pool", "", ""},
		{"error", `var errA = errors.New("a")`, "_ = errA", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := &pkg{path: "p", fset: token.NewFileSet()}
			f, err := parser.ParseFile(p.fset, "p.go", "package p\n"+tt.decl+"\nfunc f() {\n"+tt.body+"\n}\n", parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(newVariables(p, []*ast.File{f}).check(f), "\n")
			if (got == "") != (tt.want == "") || !strings.HasSuffix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
