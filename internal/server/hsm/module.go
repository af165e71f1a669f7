//go:build pkcs11 && cgo

package hsm

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/pkcs11"

	"arca/internal/errs"
)

// A Module is a library. The token is asked for everything anew each time, so that one
// that was pulled out, or whose server was restarted, is found again. But for a PIN that it
// has refused: it counts those, and locks.
type Module struct {
	path    string
	busy    chan struct{}   // holds a value while the library works, and guards the rest
	ctx     *pkcs11.Ctx     // nil until the library is loaded
	refused map[Login]error // whose PIN was refused, until the process ends
}

// maxRefused bounds the logins that are remembered; more push others out.
const maxRefused = 1000

func newModule(path string) *Module {
	return &Module{path: path, busy: make(chan struct{}, 1), refused: map[Login]error{}}
}

// Work runs fn with a session in which the user is logged in. The library cannot be
// interrupted: when ctx ends first, what it does is left to itself, and nothing else
// begins until it is done. fn may run twice.
func (m *Module) Work(ctx context.Context, l Login, fn func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error) error {
	select {
	case m.busy <- struct{}{}:
	case <-ctx.Done():
		return errs.New(errs.Unavailable, "the PKCS#11 library is still busy: %w", ctx.Err())
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-m.busy }()
		done <- m.session(l, fn)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errs.New(errs.Unavailable, "the PKCS#11 library does not answer: %w", ctx.Err())
	}
}

// final are refusals that say nothing of the library or the token's being there: asking
// again changes nothing, and may lock a PIN.
var final = []pkcs11.Error{
	pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_USER_PIN_NOT_INITIALIZED, pkcs11.CKR_MECHANISM_INVALID,
	pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_DATA_INVALID, pkcs11.CKR_DATA_LEN_RANGE, pkcs11.CKR_ENCRYPTED_DATA_INVALID,
	pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_KEY_SIZE_RANGE, pkcs11.CKR_KEY_TYPE_INCONSISTENT,
	pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_TEMPLATE_INCOMPLETE, pkcs11.CKR_TEMPLATE_INCONSISTENT,
	pkcs11.CKR_FUNCTION_NOT_SUPPORTED,
}

// IsRefusal reports whether a token refuses what it was asked for, for good.
func IsRefusal(err error) bool {
	var code pkcs11.Error
	return errors.As(err, &code) && slices.Contains(final, code)
}

func (m *Module) session(l Login, fn func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error) error {
	err := m.once(l, fn)
	if err != nil && m.ctx != nil && !IsRefusal(err) && !errs.Is(err, errs.Invalid) { // loaded anew: it learns of tokens when it is initialised
		_ = m.ctx.Finalize() // it may be that what fails is this
		m.ctx.Destroy()
		m.ctx = nil
		err = m.once(l, fn)
	}
	return err
}

func (m *Module) once(l Login, fn func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error) error {
	if err := m.refused[l]; err != nil {
		return err
	}
	if m.ctx == nil {
		c := pkcs11.New(m.path)
		if c == nil {
			return errs.New(errs.Invalid, "lib: %s cannot be loaded as a PKCS#11 library", m.path)
		}
		if err := c.Initialize(); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
			c.Destroy()
			return err
		}
		m.ctx = c
	}
	slot, err := m.findSlot(l)
	if err != nil {
		return err
	}
	s, err := m.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	defer func() { _ = m.ctx.CloseSession(s) }() // nothing depends on it
	if err := m.login(s, l); err != nil {
		return err
	}
	return fn(m.ctx, s)
}

// login has the token look at the PIN, and notes that it was refused.
func (m *Module) login(s pkcs11.SessionHandle, l Login) error {
	err := m.ctx.Login(s, pkcs11.CKU_USER, l.PIN)
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		// A session that could not be closed was left: the token has not looked at this PIN.
		if err = m.ctx.Logout(s); err == nil {
			err = m.ctx.Login(s, pkcs11.CKU_USER, l.PIN)
		}
	}
	if !errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)) { // no others are counted, and a locked PIN may be right
		return err
	}
	if len(m.refused) >= maxRefused {
		for other := range m.refused { // any: the order of a map is random
			delete(m.refused, other)
			break
		}
	}
	m.refused[l] = errs.New(errs.Invalid, "the token refused the PIN, which is not tried again until arca is restarted or configured with another: %w", err)
	return m.refused[l]
}

func (m *Module) findSlot(l Login) (uint, error) {
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	var want uint64
	if l.Slot != "" {
		if want, err = strconv.ParseUint(l.Slot, 0, 64); err != nil {
			return 0, errs.New(errs.Invalid, "slot %q is no number", l.Slot)
		}
	}
	for _, s := range slots {
		if l.Slot != "" && uint64(s) != want {
			continue
		}
		if l.Token != "" {
			info, err := m.ctx.GetTokenInfo(s)
			if err != nil || strings.TrimRight(info.Label, " \x00") != l.Token {
				continue
			}
		}
		return s, nil
	}
	return 0, errs.New(errs.Unavailable, "there is no token in slot %q with the label %q", l.Slot, l.Token)
}

// Search finds the object of a class that attributes name; 0 is none. Several are
// refused: which is meant would be chance.
func Search(c *pkcs11.Ctx, s pkcs11.SessionHandle, class uint, name []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	if err := c.FindObjectsInit(s, append(slices.Clone(name), pkcs11.NewAttribute(pkcs11.CKA_CLASS, class))); err != nil {
		return 0, err
	}
	found, _, err := c.FindObjects(s, 2)
	if finalErr := c.FindObjectsFinal(s); err == nil {
		err = finalErr
	}
	switch {
	case err != nil || len(found) == 0:
		return 0, err
	case len(found) > 1:
		return 0, errs.New(errs.Invalid, "the token has several keys of this label and id")
	}
	return found[0], nil
}
