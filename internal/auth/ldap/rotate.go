package ldap

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/go-ldap/ldap/v3"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/storage"
)

// The password of binddn is changed by config/rotate-root to one that nobody but this server knows. It must not be lost, whatever fails
// between the directory and the store: so the next one is stored before the directory hears of it, and when binddn's password is not accepted
// the next is tried. No answer of a directory has it forgotten, for it may still come into force: only a bindpass that is written makes another,
// and even then the one before stays to be tried.

// newPassword makes a password of 260 bits, with characters of four kinds, as Active Directory asks for three.
func newPassword() string { return rand.Text() + "-" + strings.ToLower(rand.Text()) }

// bindSelf binds as binddn, and returns the password that holds.
func (c *config) bindSelf(conn *ldap.Conn) (password string, err error) {
	for _, password = range []string{c.BindPass, c.NextPass, c.PastPass} {
		if password == "" && err != nil {
			continue
		}
		if err = conn.Bind(c.BindDN, password); !ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials) {
			break
		}
	}
	return password, err
}

// replacePassword takes a password that the operator gives binddn.
func (c *config) replacePassword(password string) {
	if password != "" && password != c.BindPass {
		c.NextPass, c.PastPass = newPassword(), c.NextPass
	}
	c.BindPass = password
}

// A rotated password is that which binddn has now.
type rotated string

func (e *Engine) rotateRoot(_ context.Context, call *engine.Call, _ engine.None) (*engine.Response, error) {
	c, err := storage.GetJSON[config](call.Tx, configKey)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, errs.New(errs.Invalid, "ldap backend not configured")
	case err != nil:
		return nil, err
	case c.BindDN == "" || c.BindPass == "":
		return nil, errs.New(errs.Invalid, "auth is not using authenticated search, no root to rotate")
	case c.NextPass == "": // stored by a version that did not rotate
		return nil, errs.New(errs.Precondition, "write the configuration once more, with nothing changed, and then rotate")
	}
	now, ok := call.Asked.(rotated)
	switch {
	case !ok:
		return nil, engine.Ask(func(ctx context.Context) (any, error) { return e.rotate(ctx, call.Mount.Accessor, c) })
	case string(now) == c.BindPass: // another request has stored it
		return nil, nil
	case string(now) != c.NextPass:
		return nil, errs.New(errs.Unavailable, "the configuration was changed meanwhile: rotate again")
	}
	c.BindPass, c.NextPass, c.PastPass = c.NextPass, newPassword(), ""
	return nil, storage.PutJSON(call.Tx, configKey, c)
}

// rotate has the directory take the next password. One request does it at a time: one that was held up would set a password that is the next no more.
func (e *Engine) rotate(ctx context.Context, mount string, c *config) (any, error) {
	leave, ok := e.rotations.Try(mount)
	if !ok {
		return nil, errs.New(errs.Unavailable, "the password of binddn is being rotated by another request")
	}
	defer leave()
	return e.with(ctx, mount, c, func(conn *ldap.Conn) (any, error) {
		held, err := c.bindSelf(conn)
		if err != nil {
			return nil, errBindSelf
		}
		if held == c.NextPass {
			return rotated(c.NextPass), nil
		}
		err = c.change(conn, held)
		if err != nil && !errs.Is(err, errs.Invalid) {
			return nil, err
		}
		taken := conn.Bind(c.BindDN, c.NextPass) == nil // some take the one before for a while, and refuse to change it once more
		switch {
		case taken:
			return rotated(c.NextPass), nil
		case err != nil:
			return nil, err
		}
		return nil, errs.New(errs.Unavailable, "ldap operation failed: the server has taken a new password of binddn and does not accept it yet: rotate again")
	})
}

const (
	modifyPassword  = "1.3.6.1.4.1.4203.1.11.1" // RFC 3062
	activeDirectory = "1.2.840.113556.1.4.800"  // MS-ADTS 3.1.1.3.4.3.1
)

// change changes the password of binddn, which is bound, in the way that the server has for it.
func (c *config) change(conn *ldap.Conn, old string) error {
	abilities, err := abilities(conn)
	if err != nil {
		return err
	}
	switch {
	case slices.Contains(abilities, activeDirectory):
		req := ldap.NewModifyRequest(c.BindDN, nil)
		req.Delete("unicodePwd", []string{unicodePassword(old)})
		req.Add("unicodePwd", []string{unicodePassword(c.NextPass)})
		err = conn.Modify(req)
	case slices.Contains(abilities, modifyPassword):
		_, err = conn.PasswordModify(ldap.NewPasswordModifyRequest(c.BindDN, old, c.NextPass))
	default:
		req := ldap.NewModifyRequest(c.BindDN, nil)
		req.Replace("userPassword", []string{c.NextPass})
		err = conn.Modify(req)
	}
	return refusal(err)
}

// abilities are what the server's root entry says that it can do.
func abilities(conn *ldap.Conn) ([]string, error) {
	const capabilities, extensions = "supportedCapabilities", "supportedExtension"
	req := ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", []string{capabilities, extensions}, nil)
	res, err := conn.Search(req)
	if err != nil || len(res.Entries) != 1 {
		return nil, errs.New(errs.Unavailable, "ldap operation failed: the server does not say how passwords are changed")
	}
	root := res.Entries[0]
	return append(root.GetEqualFoldAttributeValues(capabilities), root.GetEqualFoldAttributeValues(extensions)...), nil
}

// refusal says by its code why the server did not change a password, without its text, which could repeat what it was sent.
func refusal(err error) error {
	var answer *ldap.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer) && answer.ResultCode < ldap.ErrorNetwork:
		return errs.New(errs.Invalid, "ldap operation failed: the server does not change the password of binddn: %s", ldap.LDAPResultCodeMap[answer.ResultCode])
	}
	return errs.New(errs.Unavailable, "ldap operation failed: the server did not say whether it has changed the password of binddn: rotate again")
}

// unicodePassword is a password as Active Directory has it set: in quotes, as UTF-16 (MS-ADTS 3.1.1.3.1.5.1).
func unicodePassword(text string) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(`"` + text + `"`)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return string(b)
}
