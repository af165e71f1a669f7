//go:build pkcs11 && cgo

package hsm

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/miekg/pkcs11"
)

// A PIN is the token's to check, also where a session of another use was left behind.
func TestLeftSession(t *testing.T) {
	tool, err := exec.LookPath("softhsm2-util")
	if err != nil {
		t.Skip("softhsm2-util is not installed")
	}
	lib := ""
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			lib = path
		}
	}
	if lib == "" {
		t.Skip("libsofthsm2.so is not found")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command(tool, "--init-token", "--free", "--label", "arca", "--pin", "1234", "--so-pin", "5678").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m := (&Modules{}).Get(lib)
	leave := func(c *pkcs11.Ctx, s pkcs11.SessionHandle) error {
		info, err := c.GetSessionInfo(s)
		if err == nil {
			_, err = c.OpenSession(info.SlotID, pkcs11.CKF_SERIAL_SESSION)
		}
		return err
	}
	if err := m.Work(t.Context(), Login{Token: "arca", PIN: "1234"}, leave); err != nil {
		t.Fatal(err)
	}
	nothing := func(*pkcs11.Ctx, pkcs11.SessionHandle) error { return nil }
	if err := m.Work(t.Context(), Login{Token: "arca", PIN: "9999"}, nothing); !IsRefusal(err) {
		t.Errorf("a wrong PIN: %v", err)
	}
	if err := m.Work(t.Context(), Login{Token: "arca", PIN: "1234"}, nothing); err != nil {
		t.Errorf("the right PIN: %v", err)
	}
}

// Refusals of a PIN end what is tried: a token counts them.
func TestRefusalsOfPINs(t *testing.T) {
	t.Parallel()
	for _, code := range []pkcs11.Error{pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED} {
		if !IsRefusal(code) {
			t.Errorf("%v is tried again", code)
		}
	}
}
