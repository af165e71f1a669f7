package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"arca/internal/errs"
	"arca/internal/param"
)

func named(name string, calls *[]string) Handler[None] {
	return func(context.Context, *Call, None) (*Response, error) {
		*calls = append(*calls, name)
		return &Response{}, nil
	}
}

// testTable has every form of pattern.
func testTable() *Table {
	h := named("", new([]string))
	return NewTable([]Route{
		Read("mounts", h),
		Read("mounts/{path...}", h), Write("mounts/{path...}", h), Delete("mounts/{path...}", h),
		Read("mounts/{path...}/tune", h), Write("mounts/{path...}/tune", h),
		List("roles", h), Read("roles/{name}", h), Write("roles/{name}", h, Exists(func(context.Context, *Call, None) (bool, error) { return true, nil })),
		Read("roles/{name}/secret", h), Read("roles/self", h),
		List("keys/{path...}", h),
		Write("data/{path...}", h), Patch("data/{path...}", h),
		List("names", h), Read("names/{name+}", h), Write("names/{name+}/do", h),
		Read("{path...}", h), Delete("{path...}", h),
	})
}

func TestMatch(t *testing.T) {
	t.Parallel()
	table := testTable()
	cases := []struct {
		op   Operation
		path string
		want string // pattern and captures, or the error
	}{
		{OpRead, "mounts", "mounts"},
		{OpRead, "mounts/a", "mounts/{path...} path=a"},
		{OpRead, "mounts/a/b/", "mounts/{path...} path=a/b/"},
		{OpRead, "mounts/a/tune", "mounts/{path...}/tune path=a"},
		{OpRead, "mounts/a/b/tune", "mounts/{path...}/tune path=a/b"},
		{OpRead, "mounts/tune", "mounts/{path...} path=tune"},
		{OpRead, "mounts/a/tune/", "mounts/{path...} path=a/tune/"},
		{OpCreate, "mounts/a", "mounts/{path...} path=a"},
		{OpPatch, "mounts/a", "unsupported operation"},
		{OpList, "mounts/a/", "unsupported operation"},
		{OpDelete, "mounts/a/tune", "unsupported operation"},
		{OpRead, "roles/x", "roles/{name} name=x"},
		{OpRead, "roles/self", "roles/self"},
		{OpUpdate, "roles/self", "unsupported operation"}, // the most specific pattern decides
		{OpRead, "roles/x/secret", "roles/{name}/secret name=x"},
		{OpRead, "roles/x/y", "{path...} path=roles/x/y"},
		{OpList, "roles/", "roles"},
		{OpList, "roles", "roles"},
		{OpList, "keys/", "keys/{path...} path="},
		{OpList, "keys/a/b/", "keys/{path...} path=a/b"},
		{OpRead, "keys/a", "unsupported operation"},
		{OpRead, "names/a", "names/{name+} name=a"},
		{OpRead, "names/a/b/c", "names/{name+} name=a/b/c"},
		{OpRead, "names/do", "names/{name+} name=do"},
		{OpUpdate, "names/a/do", "names/{name+}/do name=a"},
		{OpUpdate, "names/do/do", "names/{name+}/do name=do"},
		{OpRead, "names/", "{path...} path=names/"}, // a name is not empty
		{OpList, "names/", "names"},
		{OpList, "names/a", "unsupported operation"},
		{OpUpdate, "data/a", "data/{path...} path=a"},
		{OpPatch, "data/a", "data/{path...} path=a"},
		{OpUpdate, "data/", "data/{path...} path="},
		{OpUpdate, "data", "unsupported operation"}, // falls to {path...}, which has no write
		{OpRead, "", "{path...} path="},
		{OpRead, "other", "{path...} path=other"},
		{OpHelp, "other", "unsupported operation"},
	}
	for _, c := range cases {
		t.Run(c.op.String()+" "+c.path, func(t *testing.T) {
			t.Parallel()
			if got := matched(table, c.op, c.path); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	bare := NewTable([]Route{Read("a", named("", new([]string)))})
	if got := matched(bare, OpRead, "b"); got != "unsupported path" {
		t.Errorf("a path of nobody: %s", got)
	}
}

func matched(table *Table, op Operation, path string) string {
	call := &Call{}
	r, err := table.Match(op, path, call)
	switch {
	case errors.Is(err, ErrOperation):
		return "unsupported operation"
	case errors.Is(err, ErrPath):
		return "unsupported path"
	case err != nil:
		return err.Error()
	}
	text := r.Pattern
	for _, m := range call.captures {
		text += fmt.Sprintf(" %s=%s", m.Key, m.Value)
	}
	return text
}

func TestBadTables(t *testing.T) {
	t.Parallel()
	h := named("", new([]string))
	for name, routes := range map[string][]Route{
		"twice":                  {Read("a", h), Read("a", h)},
		"two open ends":          {Read("{a...}/{b...}", h)},
		"a capture behind {...}": {Read("{a...}/{b}", h)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("was accepted")
				}
			}()
			NewTable(routes)
		})
	}
}

// Any path is routed or refused, and the captures put into the pattern give the
// path again.
func FuzzMatch(f *testing.F) {
	for _, p := range []string{"", "/", "mounts", "mounts/", "mounts/a/tune", "mounts//tune", "roles/x/secret/", "keys/a/", "data/\xff", "{path...}", "a//b"} {
		for op := OpRead; op <= OpHelp; op++ {
			f.Add(uint8(op), p)
		}
	}
	table := testTable()
	f.Fuzz(func(t *testing.T, n uint8, path string) {
		op := OpRead + Operation(n)%OpHelp
		call := &Call{}
		r, err := table.Match(op, path, call)
		if err != nil {
			if !errors.Is(err, ErrPath) && !errors.Is(err, ErrOperation) {
				t.Fatalf("%s %q: %v", op, path, err)
			}
			return
		}
		if want := op; r.Op != want && (want != OpCreate || r.Op != OpUpdate) {
			t.Fatalf("%s %q got a route for %s", op, path, r.Op)
		}
		full := r.Pattern
		for _, m := range call.captures {
			full = strings.NewReplacer("{"+m.Key+"...}", string(m.Value), "{"+m.Key+"}", string(m.Value)).Replace(full)
		}
		want := path
		if op == OpList {
			want = strings.TrimSuffix(path, "/")
		}
		if full != want && full != want+"/" {
			t.Fatalf("%s %q matched %q with %q, which makes %q", op, path, r.Pattern, call.captures, full)
		}
		found := false
		table.Patterns(want, func(pattern string, routes []*Route) {
			found = found || pattern == r.Pattern && slices.Contains(routes, r)
		})
		if !found {
			t.Fatalf("%s %q: the pattern %q is not among Patterns", op, path, r.Pattern)
		}
	})
}

type runIn struct {
	Path string `api:"path"`
	N    int    `api:"n"`
}

func TestRun(t *testing.T) {
	t.Parallel()
	ok := func(_ context.Context, call *Call, _ runIn) (*Response, error) {
		call.Warn("one %d", 1)
		return &Response{Warnings: []string{"zero"}}, nil
	}
	silent := func(context.Context, *Call, runIn) (*Response, error) { return nil, nil }
	cases := []struct {
		name  string
		route Route
		body  string
		want  []string
		err   string
	}{
		{name: "warnings", route: Write("{path...}", ok), body: `{"n":1}`, want: []string{"zero", "one 1"}},
		{
			name: "unknown and replaced parameters", route: Write("{path...}", ok), body: `{"z":1,"b":2,"path":"q"}`,
			want: []string{
				"zero", "one 1", "Endpoint ignored these unrecognized parameters: [b z]",
				"Endpoint replaced the value of these parameters with the values captured from the endpoint's path: [path]",
			},
		},
		{name: "in silence", route: Write("{path...}", ok, NoParamWarn), body: `{"z":1,"path":"q"}`, want: []string{"zero", "one 1"}},
		{name: "no answer", route: Write("{path...}", silent), body: `{"z":1}`},
		{
			name: "bad input", route: Write("{path...}", ok), body: `{"n":"x"}`,
			err: `Field validation failed: error converting input for field "n": '' cannot parse value as 'int': strconv.ParseInt: invalid syntax`,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			body, err := param.ParseObject([]byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			call := &Call{Request: &Request{Params: body}}
			r, err := NewTable([]Route{c.route}).Match(OpUpdate, "x/y", call)
			if err != nil {
				t.Fatal(err)
			}
			res, err := r.Run(t.Context(), call)
			if c.err != "" {
				if err == nil || err.Error() != c.err || !errs.Is(err, errs.Invalid) {
					t.Fatalf("got error %v, want %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			if res != nil {
				got = res.Warnings
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for op, want := range map[Operation]string{
		OpRead: "read", OpList: "list", OpCreate: "create", OpUpdate: "update", OpPatch: "patch", OpDelete: "delete",
		OpHelp: "help", 0: "operation 0",
	} {
		if got := op.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for typ, want := range map[TokenType]string{
		TokenDefault: "default", TokenService: "service", TokenBatch: "batch",
		TokenDefaultService: "default-service", TokenDefaultBatch: "default-batch",
	} {
		if got := typ.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	table := testTable()
	b.ReportAllocs()
	for b.Loop() {
		call := Call{}
		if _, err := table.Match(OpUpdate, "data/app/config", &call); err != nil {
			b.Fatal(err)
		}
	}
}
