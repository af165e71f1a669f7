package ldap

import (
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// What people type never becomes part of a filter's structure, and what a server
// calls a group is a name.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"ann", "*", "ann)(uid=*", "cn=Ops,ou=groups", "cn=a+cn=b", `cn=a\2cb`, "\x00", "ou=x"} {
		f.Add(s)
	}
	c := standard()
	f.Fuzz(func(t *testing.T, name string) {
		text, err := filter("userfilter", c.UserFilter, userFields(), map[string]string{fieldAttr: "uid", fieldName: name})
		if err != nil {
			return
		}
		if strings.Count(text, "(") != 1 || strings.Count(text, ")") != 1 || strings.Contains(text, "*") {
			t.Errorf("%q made %q", name, text)
		}
		if p, err := ldap.CompileFilter(text); err == nil && p.Tag != ldap.FilterEqualityMatch {
			t.Errorf("%q made a filter of another kind: %q", name, text)
		}
		if groupName(name) == "" && name != "" {
			if dn, err := ldap.ParseDN(name); err != nil || len(dn.RDNs) == 0 {
				t.Errorf("the group %q has no name", name)
			}
		}
	})
}

// A filter that is taken costs little to fill in, and what it is filled in with stays
// within its places.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{
		"({{.UserAttr}}={{.Username}})", "({{ .UserAttr }}={{\t.Username }})", "(a={{range 100000000000000}}{{end}})",
		`(a={{printf "%01000000d" 1}})`, "{{", "}}", "{{}}", "{{{.Username}}}", "{{/* x */}}", `{{"{{"}}`, "{{.Username", "(cn=*)",
	} {
		f.Add(s, "ann)(uid=*")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		got, err := filter("userfilter", text, userFields(), map[string]string{fieldAttr: "uid", fieldName: name})
		if err != nil {
			return
		}
		if len(got) > maxFilledBytes || len(text) > maxFilterBytes {
			t.Errorf("%d bytes made %d", len(text), len(got))
		}
		if strings.Count(got, "(") != strings.Count(text, "(") || strings.Count(got, "*") != strings.Count(text, "*") {
			t.Errorf("%q filled in with %q made %q", text, name, got)
		}
	})
}
