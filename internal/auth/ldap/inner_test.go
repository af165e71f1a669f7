package ldap

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
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
		{"a comment", "(uid=a{{/* x */}}{{- /* y */ -}} )", "(uid=a)"},
		{"trimmed", "( {{- .UserAttr -}} =\n{{- .Username}})", `(uid=a\2ab)`},
		{"trimmed nothing", "(uid={{-}})", ""},
		{"no mark of trimming", "(uid={{-.Username}})", ""},
		{"half a comment", "(uid=a{{/*/}})", ""},
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

// answered is what comes of an account when a server answers so.
func answered(answers ...[]byte) (any, error) {
	c := standard()
	c.UserAttr, c.GroupDN = "uid", "ou=groups"
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		play(there, answers...)
	}()
	conn := ldap.NewConn(&boundedConn{Conn: here, left: maxBytes, until: time.Now().Add(time.Minute)}, false)
	conn.Start()
	conn.SetTimeout(time.Minute)
	defer func() {
		conn.Close()
		<-done
	}()
	return guard(conn, func(conn *ldap.Conn) (any, error) { return c.account(conn, "uid=ann", "ann") })
}

// What a server answers costs time in proportion to its length, and one that answers
// nonsense fails the login.
func TestServersAnswers(t *testing.T) {
	t.Parallel()
	boundPackets()
	user := append(found(2, "uid=ann", "uid", "ann"), end(2, 0)...)
	names := make([]string, 100_000)
	for i := range names {
		names[i] = fmt.Sprint("g", i)
	}
	if _, err := answered(append(found(1, "cn=a", "cn", names...), end(1, 0)...), user); err == nil || !strings.Contains(err.Error(), "more than 1000 groups") {
		t.Errorf("many groups: %v", err)
	}
	long := append(found(1, "cn=a", "cn", "a", strings.Repeat("b", 513), "a", ""), end(1, 0)...)
	if got, err := answered(long, user); err != nil || fmt.Sprint(got.(account).groups) != "[a]" {
		t.Errorf("long and repeated names: %v, %v", got, err)
	}
	empty := message(1, ldapOp(ldap.ApplicationSearchResultEntry))
	if _, err := answered(empty, user); !errors.Is(err, errNonsense) {
		t.Errorf("an entry without parts: %v", err)
	}
}

// The policies of many groups are not collected without bounds, and those that many
// groups share count once.
func TestManyGroups(t *testing.T) {
	t.Parallel()
	db := storage.Open(storagetest.NewMap(), storage.Config{})
	defer db.Close()
	names := func(of string) (out []string) {
		for i := range engine.MaxPolicies {
			out = append(out, fmt.Sprint(of, i))
		}
		return out
	}
	err := db.Update(t.Context(), func(tx storage.Tx) error {
		var same, other []string
		for i := range 50 {
			for dir, list := range map[string]*[]string{"same": &same, "other": &other} {
				name := fmt.Sprint(dir, i)
				*list = append(*list, name)
				p := person{Version: 1, Policies: names("p")}
				if dir == "other" {
					p.Policies = names(name + "-")
				}
				if err := storage.PutJSON(tx, "group/"+name, p); err != nil {
					return err
				}
			}
		}
		c := standard()
		if got, _, err := c.merge(tx, "ann", same); err != nil || len(got) != engine.MaxPolicies {
			t.Errorf("of 50 groups alike: %d policies, %v", len(got), err)
		}
		if _, _, err := c.merge(tx, "ann", other); !errs.Is(err, errs.Invalid) {
			t.Errorf("of 50 groups: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
