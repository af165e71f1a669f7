package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "arca"

// A source is one parsed file.
type source struct {
	name  string // relative to the repository
	ast   *ast.File
	lines int
	test  bool
}

// A pkg is the files of one folder.
type pkg struct {
	path  string // "storage/pebble", "cmd/arca"
	files []*source
	fset  *token.FileSet
}

// imports maps what the package imports to a file that does.
func (p *pkg) imports(tests bool) map[string]string {
	out := map[string]string{}
	for _, f := range p.files {
		if f.test && !tests {
			continue
		}
		for _, spec := range f.ast.Imports {
			path, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
			out[path] = f.name
		}
	}
	return out
}

// code returns the files that are not tests.
func (p *pkg) code() []*source {
	return slices.DeleteFunc(slices.Clone(p.files), func(f *source) bool { return f.test })
}

const root = "../.."

var parse = sync.OnceValues(func() ([]*pkg, error) {
	byDir := map[string]*pkg{}
	var out []*pkg
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(filepath.Clean(path), filepath.Clean(root)+string(filepath.Separator)))
		if d.IsDir() {
			hidden := strings.HasPrefix(d.Name(), ".") && path != root
			if hidden || d.Name() == "testdata" || slices.Contains([]string{"tools", "bin", "dist", "docs", "third_party"}, rel) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		dir := strings.TrimPrefix(rel[:strings.LastIndexByte(rel, '/')+1], "internal/")
		dir = strings.TrimSuffix(dir, "/")
		p := byDir[dir]
		if p == nil {
			p = &pkg{path: dir, fset: token.NewFileSet()}
			byDir[dir] = p
			out = append(out, p)
		}
		f, err := parser.ParseFile(p.fset, rel, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		p.files = append(p.files, &source{
			name: rel, ast: f, lines: lengthOf(f, string(text)), test: strings.HasSuffix(rel, "_test.go"),
		})
		return nil
	})
	return out, err
})

// load parses the whole repository, once.
func load(t *testing.T) []*pkg {
	t.Helper()
	all, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("found only %d packages below %s", len(all), root)
	}
	return all
}

// lengthOf is how many lines somebody has to read: none of what was generated.
func lengthOf(f *ast.File, text string) int {
	if ast.IsGenerated(f) {
		return 0
	}
	return strings.Count(text, "\n")
}
