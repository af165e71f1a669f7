//go:build pkcs11 && cgo

package hsm_test

import (
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"arca/internal/arcatest/softhsm"
	"arca/internal/server/hsm"
)

// A PIN is the token's to check, also where a session of another use was left behind.
func TestLeftSession(t *testing.T) {
	lib := softhsm.New(t)
	m := (&hsm.Modules{}).Get(lib)
	leave := func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error {
		info, err := c.GetSessionInfo(s)
		if err == nil {
			_, err = c.OpenSession(info.SlotID, pkcs11.CKF_SERIAL_SESSION)
		}
		return err
	}
	if err := m.Work(t.Context(), hsm.Login{Token: softhsm.Label, PIN: softhsm.PIN}, leave); err != nil {
		t.Fatal(err)
	}
	nothing := func(*pkcs11.Ctx, pkcs11.SessionHandle) error { return nil }
	if err := m.Work(t.Context(), hsm.Login{Token: softhsm.Label, PIN: "9999"}, nothing); !hsm.IsRefusal(err) {
		t.Errorf("a wrong PIN: %v", err)
	}
	if err := m.Work(t.Context(), hsm.Login{Token: softhsm.Label, PIN: softhsm.PIN}, nothing); err != nil {
		t.Errorf("the right PIN: %v", err)
	}
}

// A PIN that the token refused is not tried again, even where it would be good by now: each
// try brings the token nearer to locking itself.
func TestRefusedPIN(t *testing.T) {
	lib := softhsm.New(t)
	libs := &hsm.Modules{}
	m := libs.Get(lib)
	const later = "9999"
	nothing := func(*pkcs11.Ctx, pkcs11.SessionHandle) error { return nil }
	wrong := hsm.Login{Token: softhsm.Label, PIN: later}
	if err := m.Work(t.Context(), wrong, nothing); !hsm.IsRefusal(err) {
		t.Fatalf("a wrong PIN: %v", err)
	}
	change := func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error { return c.SetPIN(s, softhsm.PIN, later) }
	if err := m.Work(t.Context(), hsm.Login{Token: softhsm.Label, PIN: softhsm.PIN}, change); err != nil {
		t.Fatal(err)
	}
	if err := libs.Get(lib).Work(t.Context(), wrong, nothing); !hsm.IsRefusal(err) || !strings.Contains(err.Error(), "not tried again until arca is restarted") || strings.Contains(err.Error(), later) {
		t.Errorf("the refused PIN again: %v", err)
	}
	if err := (&hsm.Modules{}).Get(lib).Work(t.Context(), wrong, nothing); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

// Refusals of a PIN end what is tried: a token counts them.
func TestRefusalsOfPINs(t *testing.T) {
	t.Parallel()
	for _, code := range []pkcs11.Error{pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED} {
		if !hsm.IsRefusal(code) {
			t.Errorf("%v is tried again", code)
		}
	}
}
