package ldap

import (
	"strings"
	"testing"
)

// As many logins as may wait at one mount keep none of another away.
func TestPlaces(t *testing.T) {
	t.Parallel()
	e := New()
	for range maxAsked {
		if _, ok := e.places.Try("a"); !ok {
			t.Fatal("fewer logins wait than may")
		}
	}
	if _, ok := e.places.Try("a"); ok {
		t.Error("more logins wait than may")
	}
	if _, ok := e.places.Try("b"); !ok {
		t.Error("another mount has no place")
	}
}

// Filters are text with fields, not programs.
func TestFilters(t *testing.T) {
	t.Parallel()
	values := map[string]string{fieldAttr: "uid", fieldName: "a*b", fieldDN: "uid=a(b"}
	for _, c := range []struct{ name, text, want string }{
		{"plain", "({{.UserAttr}}={{.Username}})", `(uid=a\2ab)`},
		{"blanks", "({{ .UserAttr }}={{\t.Username\n}})", `(uid=a\2ab)`},
		{"without fields", "(cn=*)", "(cn=*)"},
		{"a field of the other filter", "({{.UserDN}}=a)", ""},
		{"a loop", "({{range 100000000000000}}{{end}}uid=a)", ""},
		{"much text", `(uid={{printf "%01000000d" 1}})`, ""},
		{"a pipe", "(uid={{.Username | html}})", ""},
		{"a comment", "(uid=a{{/* x */}})", ""},
		{"trimmed", "(uid={{- .Username}})", ""},
		{"not closed", "(uid={{.Username)", ""},
		{"nothing", "(uid={{}})", ""},
		{"no dot", "(uid={{Username}})", ""},
		{"long", "(uid=" + strings.Repeat("a", maxFilterBytes) + ")", ""},
		{"long filled in", "(uid=" + strings.Repeat("{{.Username}}", 300) + ")", ""},
	} {
		v := values
		if c.name == "long filled in" {
			v = map[string]string{fieldAttr: "uid", fieldName: strings.Repeat("(", 512)}
		}
		got, err := filter("userfilter", c.text, userFields(), v)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	if got, err := filter("groupfilter", standard().GroupFilter, groupFields(), values); err != nil || strings.Count(got, "(") != 4 {
		t.Errorf("the standard filter for groups: %q, %v", got, err)
	}
}
