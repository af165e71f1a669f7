package ldap

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"arca/internal/errs"
)

// A directory is a server with one person, whose password can be changed in the ways that it knows.
type directory struct {
	abilities []string
	refuses   int64 // the code with which it refuses to change a password; 0 for not
	mute      bool  // it changes the password and hangs up

	mu       sync.Mutex
	password string
	changes  []string // how the password was changed
}

func (d *directory) serve(t *testing.T) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go d.talk(conn)
		}
	}()
	return "ldap://" + l.Addr().String()
}

func (d *directory) talk(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	for {
		p, err := ber.ReadPacket(conn)
		if err != nil || len(p.Children) < 2 {
			return
		}
		id, op := p.Children[0].Value.(int64), p.Children[1]
		answer := d.answer(id, op)
		if answer == nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// changed is how the password was changed so far.
func (d *directory) changed() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.changes, ";")
}

func result(id int64, tag ber.Tag, code int64) []byte {
	op := ldapOp(tag)
	op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, ""))
	op.AppendChild(text(""))
	op.AppendChild(text("what it was sent"))
	return message(id, op)
}

func (d *directory) answer(id int64, op *ber.Packet) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch op.Tag { //nolint:exhaustive // the others are not asked here
	case ldap.ApplicationBindRequest:
		code := int64(ldap.LDAPResultInvalidCredentials)
		if op.Children[2].Data.String() == d.password {
			code = 0
		}
		return result(id, ldap.ApplicationBindResponse, code)
	case ldap.ApplicationSearchRequest:
		return append(found(id, "", "supportedExtension", d.abilities...), end(id, 0)...)
	case ldap.ApplicationModifyRequest:
		var kinds []string
		last := ""
		for _, change := range op.Children[1].Children {
			attr := change.Children[1]
			last = attr.Children[1].Children[0].Data.String()
			kinds = append(kinds, string('0'+rune(change.Children[0].Value.(int64)))+attr.Children[0].Data.String())
		}
		return d.change(id, ldap.ApplicationModifyResponse, strings.Join(kinds, ","), last)
	case ldap.ApplicationExtendedRequest:
		request := ber.DecodePacket(op.Children[1].Data.Bytes())
		return d.change(id, ldap.ApplicationExtendedResponse, "extended", request.Children[2].Data.String())
	}
	return nil
}

func (d *directory) change(id int64, tag ber.Tag, how, to string) []byte {
	if d.refuses != 0 {
		return result(id, tag, d.refuses)
	}
	d.changes = append(d.changes, how)
	if strings.HasPrefix(to, "\"\x00") {
		to = strings.ReplaceAll(strings.Trim(to, "\"\x00"), "\x00", "")
	}
	d.password = to
	if d.mute {
		return nil
	}
	return result(id, tag, 0)
}

// Each kind of directory is asked in its own way; one that was asked before the last rotation was stored is not asked again, and people log in meanwhile.
func TestRotate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		*directory
		want string
		kind errs.Kind
	}{
		"active directory": {&directory{abilities: []string{modifyPassword, activeDirectory}}, "1unicodePwd,0unicodePwd", 0},
		"rfc 3062":         {&directory{abilities: []string{modifyPassword}}, "extended", 0},
		"neither":          {&directory{abilities: []string{"1.2.3"}}, "2userPassword", 0},
		"refused":          {&directory{abilities: []string{modifyPassword}, refuses: ldap.LDAPResultUnwillingToPerform}, "", errs.Invalid},
		"it hangs up":      {&directory{abilities: []string{modifyPassword}, mute: true}, "extended", errs.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := test.directory
			d.password = "first"
			c := standard()
			c.URL, c.BindDN, c.BindPass, c.NextPass = d.serve(t), "cn=arca", "first", newPassword()
			e := New()
			got, err := e.rotate(t.Context(), "a", c)
			switch {
			case test.kind == 0 && (err != nil || got != rotated(c.NextPass)):
				t.Fatalf("got %v, %v", got, err)
			case test.kind != 0 && (errs.KindOf(err) != test.kind || strings.Contains(err.Error(), "what it was sent")):
				t.Fatalf("got %v, %v", got, err)
			}
			if d.changed() != test.want {
				t.Fatalf("changed by %q, want %q", d.changed(), test.want)
			}
			// As after a crash: the store has the password of before.
			d.mu.Lock()
			d.mute, d.refuses = false, 0
			d.mu.Unlock()
			if _, err := e.with(t.Context(), "a", c, func(conn *ldap.Conn) (any, error) { return c.bindSelf(conn) }); err != nil {
				t.Errorf("binddn cannot bind: %v", err)
			}
			again, err := e.rotate(t.Context(), "a", c)
			if err != nil || again != rotated(c.NextPass) || strings.Contains(d.changed(), ";") {
				t.Errorf("again: %v, %v, changed by %q", again, err, d.changed())
			}
		})
	}
}

// What was refused, or is not known to have been taken, is tried until another has been: also when a password was given meanwhile.
func TestRotateKeeps(t *testing.T) {
	t.Parallel()
	d := &directory{abilities: []string{modifyPassword}, password: "first", mute: true}
	c := standard()
	c.URL, c.BindDN = d.serve(t), "cn=arca"
	c.replacePassword("first")
	e := New()
	if _, err := e.rotate(t.Context(), "a", c); err == nil {
		t.Fatal("a directory that hangs up has rotated")
	}
	c.replacePassword("first") // again, with all else of the configuration
	lost := c.NextPass
	c.replacePassword("other")
	if c.NextPass == lost || c.NextPass == "" || c.PastPass != lost {
		t.Error("a given password does not have another made")
	}
	d.mu.Lock()
	d.mute = false
	d.mu.Unlock()
	if got, err := e.rotate(t.Context(), "a", c); err != nil || got != rotated(c.NextPass) {
		t.Errorf("rotated to %v, %v", got, err)
	}
	if held, err := e.with(t.Context(), "a", c, func(conn *ldap.Conn) (any, error) { return c.bindSelf(conn) }); err != nil || held != c.NextPass {
		t.Errorf("binddn binds with %v, %v", held, err)
	}
}
