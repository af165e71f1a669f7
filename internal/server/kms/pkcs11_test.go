//go:build pkcs11 && cgo

package kms_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"arca/internal/arcatest"
	"arca/internal/arcatest/softhsm"
	"arca/internal/core"
	"arca/internal/server/kms"
)

// TestPKCS11 has transit sign and decrypt with keys of a SoftHSM.
func TestPKCS11(t *testing.T) {
	lib := softhsm.New(t)
	s := arcatest.New(t, arcatest.Config{Core: core.Config{Managed: kms.New(kms.Config{Libraries: map[string]string{"softhsm": lib, "nosuch": "/nosuch.so"}})}})
	put := func(name string, more ...string) (int, map[string]any) {
		t.Helper()
		body := map[string]any{"library": "SoftHSM", "token_label": "arca", "pin": "1234", "key_label": name, "any_mount": true, "allow_generate_key": true}
		for i := 0; i+1 < len(more); i += 2 {
			body[more[i]] = more[i+1]
		}
		return s.Do("POST", "sys/managed-keys/pkcs11/"+name, s.Root, body)
	}
	for _, c := range []struct {
		more []string
		want string
	}{
		{[]string{"mechanism", "0x1087"}, "mechanism is none of"},
		{[]string{"mechanism", "0x1041"}, "is needed where allow_generate_key"},
		{[]string{"mechanism", "0x0009", "key_bits", "2048"}, "usages do not fit"},
		{[]string{"mechanism", "0x0001", "usages", "decrypt"}, "usages do not fit"},
		{[]string{"mechanism", "0x0001", "key_bits", "1024"}, "key_bits"},
		{[]string{"mechanism", "x"}, "no number"},
		{[]string{"library", "other"}, "no kms_library"},
		{[]string{"pin", ""}, "missing pin"},
		{[]string{"token_label", ""}, "missing slot or token_label"},
		{[]string{"key_label", ""}, "missing key_label or key_id"},
		{[]string{"mechanism", "0x0001", "kms_key", "x"}, "no parameter"},
	} {
		if code, out := put("bad", c.more...); code != 400 || !strings.Contains(fmt.Sprint(out["errors"]), c.want) {
			t.Errorf("%v: %d %v", c.more, code, out)
		}
	}
	s.Must("POST", "sys/mounts/transit", s.Root, map[string]any{"type": "transit"})
	input := base64.StdEncoding.EncodeToString([]byte("hello"))
	for name, more := range map[string][]string{
		"ec":  {"mechanism", "0x1041", "curve", "P256"},
		"old": {"mechanism", "1", "key_bits", "2048"},
		"pss": {"mechanism", "0x000D", "key_bits", "2048", "force_rw_session", "true"},
	} {
		if code, out := put(name, more...); code != 204 {
			t.Fatalf("%s: %d %v", name, code, out)
		}
		if code, out := s.Do("POST", "sys/managed-keys/pkcs11/"+name+"/test/sign", s.Root, nil); code != 204 {
			t.Errorf("%s: %d %v", name, code, out)
		}
		s.Must("POST", "transit/keys/"+name, s.Root, map[string]any{"type": "managed_key", "managed_key_name": name})
		for _, hash := range []string{"", "sha2-512", "sha1"} {
			body := map[string]any{"input": input, "hash_algorithm": hash}
			sig := arcatest.Dig(s.Must("POST", "transit/sign/"+name, s.Root, body), "data", "signature")
			body["signature"] = sig
			if out := s.Must("POST", "transit/verify/"+name, s.Root, body); arcatest.Dig(out, "data", "valid") != true {
				t.Errorf("%s %s: %v", name, hash, out)
			}
		}
		if out := s.Must("POST", "transit/keys/"+name+"/csr", s.Root, nil); !strings.Contains(fmt.Sprint(out), "CERTIFICATE REQUEST") {
			t.Errorf("%s: %v", name, out)
		}
	}
	got := s.Must("GET", "sys/managed-keys/pkcs11/pss", s.Root, nil)["data"].(map[string]any)
	if fmt.Sprint(got["mechanism"]) != "13" || fmt.Sprint(got["key_bits"]) != "2048" || got["pin"] != "redacted" || got["force_rw_session"] != true || fmt.Sprint(got["slot"]) != "0" || fmt.Sprint(got["max_parallel"]) != "1" {
		t.Errorf("read: %v", got)
	}
	raw := map[string]any{"input": input, "prehashed": true, "hash_algorithm": "none", "signature_algorithm": "pkcs1v15"}
	raw["signature"] = arcatest.Dig(s.Must("POST", "transit/sign/old", s.Root, raw), "data", "signature")
	if out := s.Must("POST", "transit/verify/old", s.Root, raw); arcatest.Dig(out, "data", "valid") != true {
		t.Errorf("without a hash: %v", out)
	}
	if code, _ := s.Do("POST", "transit/sign/old", s.Root, map[string]any{"input": input, "signature_algorithm": "pss"}); code != 400 {
		t.Errorf("another padding: %d", code)
	}
	if code, out := put("dec", "mechanism", "0x0009", "key_bits", "2048", "usages", "encrypt,decrypt", "rsa_oaep_hash", "sha1"); code != 204 {
		t.Fatal(out)
	}
	s.Must("POST", "transit/keys/dec", s.Root, map[string]any{"type": "managed_key", "managed_key_name": "dec"})
	sealed := arcatest.Dig(s.Must("POST", "transit/encrypt/dec", s.Root, map[string]any{"plaintext": input}), "data", "ciphertext")
	if out := s.Must("POST", "transit/decrypt/dec", s.Root, map[string]any{"ciphertext": sealed}); arcatest.Dig(out, "data", "plaintext") != input {
		t.Errorf("decrypted: %v", out)
	}
	long := strings.Replace(fmt.Sprint(sealed), "v1:", "v1:AAAA", 1)
	if code, out := s.Do("POST", "transit/decrypt/dec", s.Root, map[string]any{"ciphertext": long}); code != 400 {
		t.Errorf("what is too long: %d %v", code, out)
	}
	changed := "vault:v1:" + base64.StdEncoding.EncodeToString(make([]byte, 256))
	if code, out := s.Do("POST", "transit/decrypt/dec", s.Root, map[string]any{"ciphertext": changed}); code < 400 { // the token does not say what is wrong
		t.Errorf("what was changed: %d %v", code, out)
	}
	// What is wrong with the token.
	for name, more := range map[string][]string{"pin": {"pin", "9999"}, "token": {"token_label", "other"}, "lib": {"library", "nosuch"}, "slot": {"slot", "12345"}} {
		if code, out := put("x-"+name, append([]string{"mechanism", "0x1041", "curve", "P256"}, more...)...); code != 204 {
			t.Fatal(out)
		}
		if code, out := s.Do("POST", "sys/managed-keys/pkcs11/x-"+name+"/test/sign", s.Root, nil); code < 400 || strings.Contains(fmt.Sprint(out), "9999") {
			t.Errorf("%s: %d %v", name, code, out)
		}
	}
	s.Must("POST", "transit/sign/ec", s.Root, map[string]any{"input": input}) // it works again after failures
	if code, _ := put("absent", "mechanism", "0x1041", "curve", "P256", "allow_generate_key", "false"); code != 204 {
		t.Fatal(code)
	}
	if code, out := s.Do("POST", "sys/managed-keys/pkcs11/absent/test/sign", s.Root, nil); code != 400 || !strings.Contains(fmt.Sprint(out), "no private key") {
		t.Errorf("a key that is not there: %d %v", code, out)
	}
	s.Must("POST", "sys/namespaces/team", s.Root, nil)
	if code, _ := s.Do("POST", "sys/managed-keys/pkcs11/x", s.Root, map[string]any{"library": "softhsm"}, "X-Vault-Namespace", "team"); code != 400 {
		t.Errorf("in a namespace: %d", code)
	}
}
