package archtest

import (
	"go/ast"
	"go/build/constraint"
	"slices"
	"testing"
)

// TestTortureIsTagged checks that what has a program's disk fail and its clock be moved is in none that is built without the tag for it, whatever other tags
// there are: neither the package nor what imports it.
func TestTortureIsTagged(t *testing.T) {
	t.Parallel()
	found := 0
	for _, p := range load(t) {
		for _, f := range p.files {
			if len(f.ast.Decls) == 0 {
				continue // the package text, without which there were no package for those who look
			}
			if p.path != "storage/torture" && !imports(f.ast, "arca/internal/storage/torture") {
				continue
			}
			found++
			if !needs(f.ast, "torture") {
				t.Errorf("%s lacks the line //go:build torture", f.name)
			}
		}
	}
	if found < 4 {
		t.Errorf("found only %d files", found)
	}
}

// needs reports whether a file is built only where there is a tag.
func needs(f *ast.File, tag string) bool {
	for _, group := range f.Comments {
		for _, c := range group.List {
			if c.Pos() > f.Package || !constraint.IsGoBuild(c.Text) {
				continue
			}
			x, err := constraint.Parse(c.Text)
			return err == nil && !mayBe(x, tag)
		}
	}
	return false
}

// mayBe reports whether there are tags, tag not among them, for which x holds.
func mayBe(x constraint.Expr, tag string) bool {
	var others []string
	x.Eval(func(name string) bool {
		if name != tag && !slices.Contains(others, name) {
			others = append(others, name)
		}
		return false
	})
	for set := range 1 << len(others) {
		if x.Eval(func(name string) bool { i := slices.Index(others, name); return i >= 0 && set>>i&1 != 0 }) {
			return true
		}
	}
	return false
}
