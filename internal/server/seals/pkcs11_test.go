//go:build pkcs11 && cgo

package seals

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"arca/internal/arcatest/softhsm"
)

func TestPKCS11(t *testing.T) {
	lib := softhsm.New(t)
	base := []string{"lib", lib, "token_label", "arca", "pin", "1234"}
	with := func(more ...string) []string { return append(append([]string(nil), base...), more...) }
	s := must(t, none, stanza("pkcs11", with("key_label", "root")...))
	if _, err := s.Encrypt(t.Context(), make([]byte, 32)); err == nil || !strings.Contains(err.Error(), "no key with the label") {
		t.Errorf("a key that is not there: %v", err)
	}
	sealed := there(t, must(t, none, stanza("pkcs11", with("key_label", "root", "generate_key", "true")...)))
	back, err := s.Decrypt(t.Context(), sealed) // the key stays on the token
	if err != nil || string(back) != "0123456789abcdef0123456789abcdef" {
		t.Fatalf("%q, %v", back, err)
	}
	bad := []byte(strings.Replace(string(sealed), `"sealed":"`, `"sealed":"AAAA`, 1))
	if _, err := s.Decrypt(t.Context(), bad); err == nil {
		t.Error("decrypts what was changed")
	}
	there(t, s) // it works again after a failure
	wrong := must(t, none, stanza("pkcs11", "lib", lib, "token_label", "arca", "pin", "9999", "key_label", "root"))
	if _, err := wrong.Encrypt(t.Context(), make([]byte, 32)); err == nil || strings.Contains(err.Error(), "9999") {
		t.Errorf("a wrong pin: %v", err)
	}
	if _, err := must(t, none, stanza("pkcs11", "lib", lib, "token_label", "other", "pin", "1234", "key_label", "root")).Encrypt(t.Context(), nil); err == nil {
		t.Error("a token that is not there")
	}
	if _, err := must(t, none, stanza("pkcs11", "lib", "/nosuch.so", "slot", "0", "pin", "1234", "key_label", "root")).Encrypt(t.Context(), nil); err == nil {
		t.Error("a library that is not there")
	}
	tool, err := exec.LookPath("openssl")
	if err != nil {
		return
	}
	key := filepath.Join(t.TempDir(), "key.pem")
	for _, args := range [][]string{
		{tool, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key},
		{"softhsm2-util", "--import", key, "--token", "arca", "--label", "rsa", "--id", "A1", "--pin", "1234"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	there(t, must(t, none, stanza("pkcs11", with("key_label", "rsa", "rsa_oaep_hash", "sha1")...)))
}
