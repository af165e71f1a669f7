package ldap

import (
	"net"
	"strings"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// message is a packet of a server (RFC 4511, section 4.1.1).
func message(id int64, op *ber.Packet) []byte {
	p := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	p.AppendChild(op)
	return p.Bytes()
}

func ldapOp(tag ber.Tag) *ber.Packet {
	return ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
}

func text(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

// found is an entry of a search with one attribute.
func found(id int64, dn, attr string, values ...string) []byte {
	op := ldapOp(ldap.ApplicationSearchResultEntry)
	op.AppendChild(text(dn))
	list := ber.NewSequence("")
	one := ber.NewSequence("")
	one.AppendChild(text(attr))
	set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
	for _, v := range values {
		set.AppendChild(text(v))
	}
	one.AppendChild(set)
	list.AppendChild(one)
	op.AppendChild(list)
	return message(id, op)
}

// end ends a search, with a code.
func end(id int64, code int64) []byte {
	op := ldapOp(ldap.ApplicationSearchResultDone)
	op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, ""))
	op.AppendChild(text(""))
	op.AppendChild(text(""))
	return message(id, op)
}

// play is a server that answers each request with what comes next, and then, or when
// the next request does not come soon, hangs up.
func play(conn net.Conn, answers ...[]byte) {
	defer conn.Close()
	buf := make([]byte, 64<<10)
	for i, a := range answers {
		if i > 0 {
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Millisecond)) // of a pipe
		}
		if _, err := conn.Read(buf); err != nil {
			return
		}
		if _, err := conn.Write(a); err != nil {
			return
		}
	}
}

// Whatever a server answers, an account is refused or has a name and groups within
// bounds.
func FuzzAnswers(f *testing.F) {
	ops := append(found(1, "cn=Ops,ou=groups", "cn", "Ops"), end(1, 0)...)
	f.Add(ops, append(found(2, "uid=ann", "uid", "ann"), end(2, 0)...))
	f.Add(end(1, 32), append(found(2, "uid=ann", "uid", "ann", "anna"), end(2, 0)...))
	f.Add(append(found(1, "", "cn", "", strings.Repeat("a", 600)), end(1, 0)...), append(found(2, "uid=ann", "uid"), end(2, 0)...))
	f.Add(found(1, "cn=a", "cn", "a"), []byte{})
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, []byte("HTTP/1.1 200 OK"))
	f.Add(message(1, ldapOp(ldap.ApplicationSearchResultEntry)), []byte{0x30, 0})
	f.Add(message(1, ldapOp(ldap.ApplicationSearchResultDone)), []byte{0x30, 0})
	boundPackets()
	f.Fuzz(func(t *testing.T, groups, user []byte) {
		got, err := answered(groups, user)
		if err != nil {
			return
		}
		a := got.(account)
		if a.name == "" || len(a.name) > 512 || len(a.groups) > maxGroups {
			t.Errorf("the account %q in %d groups", a.name, len(a.groups))
		}
		for _, g := range a.groups {
			if g == "" || len(g) > maxGroupName {
				t.Errorf("the group %q", g)
			}
		}
	})
}

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
		plain, err := filter("userfilter", text, userFields(), map[string]string{fieldAttr: "uid", fieldName: "ann"})
		if err != nil || strings.Count(got, "(") != strings.Count(plain, "(") || strings.Count(got, "*") != strings.Count(plain, "*") {
			t.Errorf("%q filled in with %q made %q, with a plain name %q, %v", text, name, got, plain, err)
		}
	})
}
