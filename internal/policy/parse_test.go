package policy

import (
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"arca/internal/errs"
)

var update = flag.Bool("update", false, "rewrite golden files")

// show writes rules one a line.
func show(rules []Rule) string {
	var b strings.Builder
	for _, r := range rules {
		path := r.Path
		if r.Prefix {
			path += "*"
		}
		fmt.Fprintf(&b, "%s %s", path, strings.Join(r.Capabilities.Names(), ","))
		if r.Wild {
			b.WriteString(" wild")
		}
		if r.Templated {
			b.WriteString(" templated")
		}
		if r.MinWrap != 0 || r.MaxWrap != 0 {
			fmt.Fprintf(&b, " wrap %s..%s", r.MinWrap, r.MaxWrap)
		}
		for _, l := range []struct {
			name string
			m    map[string][]any
		}{{"allowed", r.Allowed}, {"denied", r.Denied}} {
			if l.m != nil {
				fmt.Fprintf(&b, " %s %v", l.name, l.m) // fmt sorts the keys
			}
		}
		if r.Required != nil {
			fmt.Fprintf(&b, " required %v", r.Required)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestParse(t *testing.T) {
	t.Parallel()
	nested := func(n int) string {
		return `path "a" { allowed_parameters = { "k" = ` + strings.Repeat("[", n) + strings.Repeat("]", n) + " } }"
	}
	cases := []struct {
		name, text string
		want       string
		err        string // a part of it
	}{
		{name: "empty", text: "", want: ""},
		{name: "comments only", text: "# nothing\n/* here */", want: ""},
		{name: "HCL", text: `path "secret/*" { capabilities = ["read", "list"] }`, want: "secret/* list,read\n"}, // S4-34
		{name: "JSON", text: `{"path":{"secret/*":{"capabilities":["read"]},"a":{"policy":"write"}}}`, want: "secret/* read\na create,delete,list,read,update\n"},
		{name: "S0-24", text: `path "kv/*" { capabilities = ["create", "read", "delete"] }`, want: "kv/* create,delete,read\n"},
		{name: "S4-32", text: `path "secret/*" { capabilities = ["create","read","update","delete","list","patch"] }`, want: "secret/* create,delete,list,patch,read,update\n"},
		{name: "a leading slash is dropped", text: `path "/a/b" { capabilities = ["read"] }`, want: "a/b read\n"},
		{name: "only one", text: `path "//a" { capabilities = ["read"] }`, want: "/a read\n"},
		{name: "everything", text: `path "*" { capabilities = ["sudo"] }`, want: "* sudo\n"},
		{name: "segments", text: `path "a/+/b" { capabilities = ["read"] } path "+" { capabilities = ["list"] } path "a/+/*" { capabilities = ["read"] }`, want: "a/+/b read wild\n+ list wild\na/+/* read wild\n"},
		{name: "a plus within a segment is text", text: `path "a+b/c" { capabilities = ["read"] }`, want: "a+b/c read\n"},
		{name: "deny is alone", text: `path "a" { capabilities = ["read", "deny", "sudo"] }`, want: "a deny\n"},
		{name: "no capabilities", text: `path "a" {}`, want: "a \n"},
		{name: "older words", text: "path \"a\" { policy = \"read\" }\npath \"b\" { policy = \"sudo\" }\npath \"c\" { policy = \"deny\" }", want: "a list,read\nb create,delete,list,read,sudo,update\nc deny\n"},
		{name: "both", text: `path "a" { policy = "read" capabilities = ["delete"] }`, want: "a delete,list,read\n"},
		{name: "templates", text: `path "s/{{identity.entity.id}}/*" { capabilities = ["read"] }`, want: "s/{{identity.entity.id}}/* read templated\n"},
		{
			name: "parameters", text: `path "a" { capabilities = ["update"] allowed_parameters = { "Foo" = ["x", true, 1], "*" = [] } denied_parameters = { "bar" = [] } required_parameters = ["foo"] }`,
			want: "a update allowed map[*:[] foo:[x true 1]] denied map[bar:[]] required [foo]\n",
		},
		{name: "wrapping", text: `path "a" { capabilities = ["read"] min_wrapping_ttl = 5 max_wrapping_ttl = "1h" }`, want: "a read wrap 5s..1h0m0s\n"},
		{name: "fractions", text: `path "a" { capabilities = ["read"] min_wrapping_ttl = 1.5 }`, want: "a read wrap 1.5s..0s\n"},
		{name: "a name", text: `name = "x" path "a" { capabilities = ["read"] }`, want: "a read\n"},
		{name: "the same path twice", text: `path "a" { capabilities = ["read"] } path "a" { capabilities = ["list"] }`, want: "a read\na list\n"},
		{name: "here-document", text: "path \"a\" { capabilities = [\"read\"] comment = <<EOF\n[[[{{{ \"\nEOF\n}", want: "a read\n"},
		{name: "brackets in comments", text: "# " + strings.Repeat("{ [", 100) + "\npath \"a\" { capabilities = [\"read\"] }", want: "a read\n"},

		{name: "unknown key", text: `paths "a" {}`, err: `invalid key "paths" on line`},
		{name: "unknown key of a path", text: "path \"a\" {\n capability = [\"read\"]\n}", err: `path "a": invalid key "capability" on line 2`},
		{name: "unknown capability", text: `path "a" { capabilities = ["write"] }`, err: `path "a": invalid capability "write"`},
		{name: "unknown word", text: `path "a" { policy = "all" }`, err: `path "a": invalid policy "all"`},
		{name: "no block", text: `path = "a"`, err: "expected a block"},
		{name: "plus and star", text: `path "a/+*" { capabilities = ["read"] }`, err: `invalid use of wildcards ('+*' is forbidden)`},
		{name: "max below min", text: `path "a" { capabilities = ["read"] min_wrapping_ttl = 5 max_wrapping_ttl = 4 }`, err: "max_wrapping_ttl cannot be less than min_wrapping_ttl"},
		{name: "bad wrapping", text: `path "a" { capabilities = ["read"] min_wrapping_ttl = "soon" }`, err: "error parsing min_wrapping_ttl"},
		{name: "wrapping out of range", text: `path "a" { capabilities = ["read"] min_wrapping_ttl = 9223372036854775807 }`, err: "error parsing min_wrapping_ttl"},
		{name: "a huge fraction", text: `path "a" { capabilities = ["read"] min_wrapping_ttl = 1e300 }`, err: "error parsing min_wrapping_ttl"},
		{name: "no text", text: "path", err: "failed to parse policy"},
		{name: "cut", text: `path "a" {`, err: "failed to parse policy"},
		{name: "no object", text: `[1]`, err: "failed to parse policy"},
		{name: "too large", text: strings.Repeat("#", MaxTextBytes+1), err: "larger than"},
		{name: "too deep", text: nested(100), err: "nested deeper than 64 levels"},
		{name: "too deep behind closing brackets", text: "path \"a\" { # " + strings.Repeat("}", 1000) + "\n allowed_parameters = { k = " + strings.Repeat("[ # ]\n", 200), err: "nested deeper than 64 levels"},
		{name: "too deep behind a string with lines", text: "path \"${ \"\n}}}}}\" }\" { k = " + strings.Repeat("[", 200), err: "failed to parse policy"},
		{name: "too deep in JSON", text: `{"path":` + strings.Repeat(`{"a":`, 100), err: "nested deeper than 64 levels"},
		{name: "many names", text: `path "a" { allowed_parameters ` + strings.Repeat("k ", 1000) + `{} }`, err: "more than 8 names before a block"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := Parse("p", c.text)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || !errs.Is(err, errs.Invalid) {
					t.Fatalf("got %v, want an error with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := show(p.Rules); got != c.want || p.Name != "p" || p.Text != c.text {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestBuiltIn(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{DefaultName: Default, WrappingName: Wrapping} {
		p, err := Parse(name, text)
		if err != nil {
			t.Fatal(err)
		}
		got := show(p.Rules)
		file := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s(-update rewrites it)", name, got, want)
		}
	}
}

func TestDecodeText(t *testing.T) {
	t.Parallel()
	text := `path "a" { capabilities = ["read"] }`
	for _, in := range []string{text, base64.StdEncoding.EncodeToString([]byte(text))} {
		if got := DecodeText(in); got != text {
			t.Errorf("%q became %q", in, got)
		}
	}
}

// Texts on which a careless parser or checker would take minutes or fall over.
func TestHostileTexts(t *testing.T) {
	const n = 80_000
	for name, text := range map[string]string{
		"unknown keys":     strings.Repeat("a=1\n", n/4),
		"unknown blocks":   strings.Repeat("a {}\n", n/5),
		"bad paths' keys":  `path "a" {` + strings.Repeat("a=1\n", n/4) + "}",
		"names":            strings.Repeat("a ", n/2) + "{}",
		"names in a path":  `path "a" { allowed_parameters ` + strings.Repeat("a ", n/2) + "{} }",
		"opening":          strings.Repeat("a {", n/3),
		"brackets":         "a = " + strings.Repeat("[", n),
		"strings":          strings.Repeat(`"`, n),
		"interpolation":    `a = "` + strings.Repeat("${", n/2),
		"comments":         strings.Repeat("#\n", n/2),
		"open comments":    strings.Repeat("/*", n/2),
		"here-documents":   strings.Repeat("a = <<A\nA\n", n/10),
		"open here-docs":   "a = <<" + strings.Repeat("A", n),
		"paths":            strings.Repeat(`path "a" { capabilities = ["read"] }`+"\n", n/37),
		"parameters":       `path "a" { allowed_parameters = { ` + strings.Repeat(`"a" = []`+"\n", n/9) + "} }",
		"many parameters":  `path "a" { allowed_parameters { ` + manyKeys(n/20) + "} }",
		"long list":        `path "a" { capabilities = [` + strings.Repeat(`"read",`, n/7) + "] }",
		"JSON depth":       strings.Repeat(`{"a":`, n/5),
		"JSON brackets":    `{"a":` + strings.Repeat(`[`, n),
		"JSON keys":        `{` + strings.Repeat(`"a" `, n/4) + `:1}`,
		"JSON lists":       `{"path":[` + strings.Repeat(`{"a":{}},`, n/9) + `]}`,
		"JSON path lists":  `{"path":{"a":[` + strings.Repeat(`{"capabilities":["read"]},`, n/26) + `]}}`,
		"carriage returns": strings.Repeat("\r\n", n/2),
		"zeros":            strings.Repeat("\x00", n),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			p, err := Parse("p", text)
			if err == nil {
				Compile([]*Policy{p}, nil)
			} else if len(err.Error()) > 3*n {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "\"k%d\" = [\"x\"]\n", i)
	}
	return b.String()
}

// FuzzParse: no text makes the parser panic or hang, and what it takes can be
// compiled and asked.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		Default, Wrapping, `{"path":{"a":{"capabilities":["read"]}}}`, `path "a" { allowed_parameters = { "x" = [1, [true], {"a" = 1}] } }`,
		"path \"a\" { comment = <<-E\n  x\n  E\n}", `path "+/*" { policy = "deny" }`, `path "a" "b" { capabilities = [] }`, `{"path":[{"a":[{}]}]}`,
		`path "a" { allowed_parameters "k" "l" {} }`, "path \"a\" { capabilities = \"read\" }", `path "a" { required_parameters = [["a"]] }`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<14 {
			return
		}
		p, err := Parse("p", text)
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		a := Compile([]*Policy{p, p}, func(path string) (string, bool) { return path, true })
		for _, r := range p.Rules {
			got := a.Capabilities(r.Path)
			if len(got) == 0 {
				t.Fatalf("no capabilities at %q", r.Path)
			}
			if r.Capabilities == Deny && !r.Prefix && !r.Wild && !slices.Equal(got, []string{"deny"}) {
				t.Fatalf("%q is not denied: %v", r.Path, got)
			}
			a.Below(r.Path + "/")
		}
	})
}
