package ldap

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
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
// the next is tried.

// newPassword makes a password of 260 bits, with characters of four kinds, as Active Directory asks for three.
func newPassword() string { return rand.Text() + "-" + strings.ToLower(rand.Text()) }

// bindSelf binds as binddn, and returns the password that holds.
func (c *config) bindSelf(conn *ldap.Conn) (password string, err error) {
	err = conn.Bind(c.BindDN, c.BindPass)
	if err == nil || c.NextPass == "" || !ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials) {
		return c.BindPass, err
	}
	return c.NextPass, conn.Bind(c.BindDN, c.NextPass)
}

// A rotation is what came of asking a directory for one.
type rotation struct {
	next    string // the password that was to be binddn's
	refused error  // why it is not; nil where it is
}

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
	got, ok := call.Asked.(rotation)
	switch {
	case !ok:
		return nil, engine.Ask(func(ctx context.Context) (any, error) { return e.rotate(ctx, call.Mount.Accessor, c) })
	case got.refused == nil && got.next == c.BindPass: // another request has stored it
		return nil, nil
	case got.next != c.NextPass:
		return nil, errs.New(errs.Unavailable, "the configuration was changed meanwhile: rotate again")
	case got.refused != nil: // which may be for ever: it had this password before, for one
		c.NextPass = newPassword()
		return refused(got.refused), storage.PutJSON(call.Tx, configKey, c)
	}
	c.BindPass, c.NextPass = c.NextPass, newPassword()
	return nil, storage.PutJSON(call.Tx, configKey, c)
}

// refused is the answer of a request that failed, and stores something all the same.
func refused(err error) *engine.Response {
	body, _ := json.Marshal(map[string][]string{"errors": {err.Error()}}) // texts can be encoded
	return &engine.Response{Raw: &engine.Raw{Status: http.StatusBadRequest, Body: body}}
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
			return rotation{next: c.NextPass}, nil
		}
		err = c.change(conn, held)
		if err != nil && !errs.Is(err, errs.Invalid) {
			return nil, err
		}
		taken := conn.Bind(c.BindDN, c.NextPass) == nil // some take the one before for a while, and refuse to change it once more
		switch {
		case taken:
			return rotation{next: c.NextPass}, nil
		case err != nil:
			return rotation{next: c.NextPass, refused: err}, nil
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
