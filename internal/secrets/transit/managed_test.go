package transit_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/arcatest/kmstand"
)

// managedServer has a transit mount that may use the keys ec, ec384 and rsa of a stand-in
// for AWS KMS, and dec, which decrypts.
func managedServer(t *testing.T) (*arcatest.Server, *kmstand.Service) {
	t.Helper()
	stand := kmstand.AWS(t)
	s := arcatest.New(t, arcatest.Config{})
	stand.Add("arn:ec", "alias/ec", "SIGN_VERIFY", kmstand.EC(t, elliptic.P256()))
	stand.Add("arn:ec384", "alias/ec384", "SIGN_VERIFY", kmstand.EC(t, elliptic.P384()))
	stand.Add("arn:rsa", "alias/rsa", "SIGN_VERIFY", kmstand.RSA(t, 2048))
	stand.Add("arn:dec", "alias/dec", "ENCRYPT_DECRYPT", kmstand.RSA(t, 2048))
	put := func(name string, more map[string]any) {
		t.Helper()
		body := map[string]any{
			"access_key": kmstand.AccessKey, "secret_key": "wJalrXUtnFEMI", "endpoint": stand.URL, "kms_key": "alias/" + name, "key_type": "RSA",
			"key_bits": 2048, "any_mount": true,
		}
		for k, v := range more {
			body[k] = v
		}
		s.Must("POST", "sys/managed-keys/awskms/"+name, s.Root, body)
	}
	put("ec", map[string]any{"key_type": "ECDSA", "key_bits": "", "curve": "P256", "any_mount": false})
	put("ec384", map[string]any{"key_type": "ECDSA", "key_bits": "", "curve": "P384"})
	put("rsa", nil)
	put("dec", map[string]any{"usages": "encrypt,decrypt"})
	put("new", map[string]any{"allow_generate_key": true, "usages": "decrypt,encrypt"})
	s.Must("POST", "sys/mounts/transit", s.Root, map[string]any{"type": "transit", "config": map[string]any{"allowed_managed_keys": []string{"ec"}}})
	return s, stand
}

func managedID(s *arcatest.Server, name string) string {
	id, _ := arcatest.Dig(s.Must("GET", "sys/managed-keys/awskms/"+name, s.Root, nil), "data", "UUID").(string)
	return id
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func TestManagedSigning(t *testing.T) {
	t.Parallel()
	s, stand := managedServer(t)
	post := func(path string, body map[string]any) (int, map[string]any) {
		t.Helper()
		return s.Do("POST", "transit/"+path, s.Root, body)
	}
	s.Must("POST", "transit/keys/k", s.Root, map[string]any{"type": "managed_key", "managed_key_name": "ec"})
	got := s.Must("GET", "transit/keys/k", s.Root, nil)["data"].(map[string]any)
	one := got["keys"].(map[string]any)["1"].(map[string]any)
	if got["type"] != "managed_key" || got["supports_signing"] != true || got["supports_encryption"] != true || got["exportable"] != false ||
		one["managed_key_id"] != managedID(s, "ec") || one["name"] != "managed_key" {
		t.Errorf("read: %v", got)
	}
	block, _ := pem.Decode([]byte(one["public_key"].(string)))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	out := s.Must("POST", "transit/sign/k", s.Root, map[string]any{"input": b64("hello")})
	sig := arcatest.Dig(out, "data", "signature").(string)
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sig, "vault:v1:"))
	sum := sha256.Sum256([]byte("hello"))
	if err != nil || !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), sum[:], raw) {
		t.Fatalf("the signature %s is not good: %v", sig, err)
	}
	valid := func(key string, body map[string]any) any {
		t.Helper()
		return arcatest.Dig(s.Must("POST", "transit/verify/"+key, s.Root, body), "data", "valid")
	}
	if valid("k", map[string]any{"input": b64("hello"), "signature": sig}) != true || valid("k", map[string]any{"input": b64("hullo"), "signature": sig}) != false {
		t.Error("verify does not tell good from bad")
	}
	jws := map[string]any{"input": b64("hello"), "marshaling_algorithm": "jws"}
	jws["signature"] = arcatest.Dig(s.Must("POST", "transit/sign/k", s.Root, jws), "data", "signature")
	if len(fmt.Sprint(jws["signature"])) != len("vault:v1:")+86 || valid("k", jws) != true {
		t.Errorf("as JWS: %v", jws)
	}
	pre := map[string]any{"input": base64.StdEncoding.EncodeToString(sum[:]), "prehashed": true}
	pre["signature"] = arcatest.Dig(s.Must("POST", "transit/sign/k", s.Root, pre), "data", "signature")
	if valid("k", map[string]any{"input": b64("hello"), "signature": pre["signature"]}) != true {
		t.Error("prehashed")
	}
	batch := s.Must("POST", "transit/sign/k", s.Root, map[string]any{"batch_input": []any{
		map[string]any{"input": b64("a"), "reference": "r"}, map[string]any{"input": "%"}, map[string]any{}, map[string]any{"input": b64("b")},
	}})
	items := arcatest.Dig(batch, "data", "batch_results").([]any)
	for i, want := range []string{"signature", "error", "error", "signature"} {
		if items[i].(map[string]any)[want] == nil {
			t.Errorf("item %d has no %s: %v", i, want, items[i])
		}
	}
	// Another key for the next version; the first still verifies.
	if code, out := post("keys/k/rotate", nil); code != 400 || !strings.Contains(fmt.Sprint(out), "must be specified") {
		t.Errorf("rotated without a managed key: %d %v", code, out)
	}
	s.Must("POST", "transit/keys/k/rotate", s.Root, map[string]any{"managed_key_id": managedID(s, "rsa")})
	for _, how := range []map[string]any{
		{}, {"signature_algorithm": "pkcs1v15"}, {"signature_algorithm": "pss", "salt_length": "hash", "hash_algorithm": "sha2-512"}, {"salt_length": 32},
	} {
		how["input"] = b64("hello")
		how["signature"] = arcatest.Dig(s.Must("POST", "transit/sign/k", s.Root, how), "data", "signature")
		if !strings.HasPrefix(fmt.Sprint(how["signature"]), "vault:v2:") || valid("k", how) != true {
			t.Errorf("with RSA: %v", how)
		}
	}
	if valid("k", map[string]any{"input": b64("hello"), "signature": sig}) != true {
		t.Error("the old version does not verify any more")
	}
	if arcatest.Dig(s.Must("POST", "transit/sign/k", s.Root, map[string]any{"input": b64("x"), "key_version": 1}), "data", "key_version").(interface{ String() string }).String() != "1" {
		t.Error("not signed with version 1")
	}
	// A key over P-384 signs SHA-384, and that is meant when nothing is said.
	s.Must("POST", "transit/keys/c", s.Root, map[string]any{"type": "managed_key", "managed_key_name": "EC384"})
	sig = arcatest.Dig(s.Must("POST", "transit/sign/c", s.Root, map[string]any{"input": b64("hello")}), "data", "signature").(string)
	if valid("c", map[string]any{"input": b64("hello"), "signature": sig}) != true {
		t.Error("SHA-384")
	}
	for _, c := range []struct {
		path string
		body map[string]any
		want string
	}{
		{"keys/x", map[string]any{"type": "managed_key", "managed_key_name": "nosuch"}, "no managed key"},
		{"keys/x", map[string]any{"type": "managed_key", "managed_key_id": "nosuch"}, "no managed key"},
		{"keys/x", map[string]any{"type": "managed_key", "managed_key_name": "rsa", "managed_key_id": "nosuch"}, "another id"},
		{"keys/x", map[string]any{"type": "managed_key", "managed_key_name": "rsa", "derived": true}, "not supported"},
		{"keys/x", map[string]any{"type": "managed_key", "managed_key_name": "rsa", "exportable": true}, "neither be exported"},
		{"keys/x", map[string]any{"type": "managed_key", "managed_key_name": "rsa", "auto_rotate_period": "2h"}, "Auto rotation"},
		{"keys/x", map[string]any{"managed_key_name": "rsa"}, "are for keys of type managed_key"},
		{"keys/x/import", map[string]any{"type": "managed_key", "ciphertext": "x"}, "cannot be imported"},
		{"keys/k/config", map[string]any{"exportable": true}, "neither be exported"},
		{"keys/k/config", map[string]any{"auto_rotate_period": "24h"}, "Auto rotation"},
		{"sign/c", map[string]any{"input": b64("x"), "hash_algorithm": "sha2-256"}, "SHA-384 only"},
		{"sign/k", map[string]any{"input": b64("x"), "hash_algorithm": "sha1"}, "sha2-256"},
		{"sign/k", map[string]any{"input": b64("x"), "salt_length": "20"}, "as long as the hash"},
		{"sign/k", map[string]any{"input": b64("x"), "prehashed": true}, "the hash has 1 bytes"},
		{"encrypt/k", map[string]any{"plaintext": b64("x")}, "do not include encrypt"},
		{"decrypt/k", map[string]any{"ciphertext": "vault:v2:AAAA"}, "do not include decrypt"},
		{"encrypt/upsert", map[string]any{"plaintext": b64("x"), "type": "managed_key"}, "not supported"},
		{"hmac/k", map[string]any{"input": b64("x")}, "make no MACs"},
		{"cmac/k", map[string]any{"input": b64("x")}, "CMAC"},
		{"verify/k", map[string]any{"input": b64("x"), "hmac": "vault:v1:AAAA"}, "make no MACs"},
	} {
		if code, out := post(c.path, c.body); code != 400 && c.body["derived"] == nil || !strings.Contains(fmt.Sprint(out["errors"]), c.want) {
			t.Errorf("%s %v: %d %v", c.path, c.body, code, out)
		}
	}
	if code, _ := s.Do("GET", "transit/keys/x", s.Root, nil); code != 404 {
		t.Errorf("a key that was refused is there: %d", code)
	}
	for _, path := range []string{"export/signing-key/k", "backup/k", "byok-export/k/k"} {
		if code, out := s.Do("GET", "transit/"+path, s.Root, nil); code < 400 {
			t.Errorf("%s: %d %v", path, code, out)
		}
	}
	if out := s.Must("GET", "transit/export/public-key/k/1", s.Root, nil); !strings.Contains(fmt.Sprint(out), "BEGIN PUBLIC KEY") {
		t.Errorf("the public key: %v", out)
	}
	// A certificate request.
	text := arcatest.Dig(s.Must("POST", "transit/keys/k/csr", s.Root, nil), "data", "csr").(string)
	block, _ = pem.Decode([]byte(text))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		t.Errorf("the certificate request: %v", err)
	}
	if _, isRSA := csr.PublicKey.(*rsa.PublicKey); !isRSA {
		t.Error("the certificate request is for another key")
	}
	if strings.Contains(stand.Seen(), "wJalr") {
		t.Error("the secret was sent")
	}
}

// What the mount may use is asked with each use; a key that is gone, and a service that
// is ill or lies, give clear errors.
func TestManagedRefusals(t *testing.T) {
	t.Parallel()
	s, stand := managedServer(t)
	s.Must("POST", "transit/keys/k", s.Root, map[string]any{"type": "managed_key", "managed_key_name": "ec"})
	s.Must("POST", "transit/keys/r", s.Root, map[string]any{"type": "managed_key", "managed_key_name": "rsa"})
	good := arcatest.Dig(s.Must("POST", "transit/sign/k", s.Root, map[string]any{"input": b64("x")}), "data", "signature")
	sign := func(key string, code int, want string) {
		t.Helper()
		got, out := s.Do("POST", "transit/sign/"+key, s.Root, map[string]any{"input": b64("x")})
		if got != code || !strings.Contains(fmt.Sprint(out["errors"]), want) || strings.Contains(fmt.Sprint(out), "wJalr") || strings.Contains(fmt.Sprint(out), "somebody") {
			t.Errorf("sign with %s: %d %v, want %d %s", key, got, out, code, want)
		}
	}
	for _, c := range []struct {
		mood string
		code int
		want string
	}{
		{kmstand.Down, 503, "503"},
		{kmstand.Babbles, 503, "JSON"},
		{kmstand.Empty, 503, "without a signature"},
		{kmstand.Throttle, 503, "Throttling"},
		{kmstand.Lies, 500, "no signature by version 1"},
		{kmstand.Forbids, 400, "AccessDenied"},
	} {
		stand.Mood(c.mood)
		sign("k", c.code, c.want)
		got, out := s.Do("POST", "transit/sign/k", s.Root, map[string]any{"batch_input": []any{map[string]any{"input": b64("x")}, map[string]any{"input": "%"}}})
		if c.mood == kmstand.Forbids {
			if got != 200 || !strings.Contains(fmt.Sprint(out), "AccessDenied") {
				t.Errorf("a batch that is refused: %d %v", got, out)
			}
		} else if got != c.code {
			t.Errorf("a batch, %s: %d %v", c.mood, got, out)
		}
		if code, out := s.Do("POST", "transit/keys/new-"+c.mood, s.Root, map[string]any{"type": "managed_key", "managed_key_name": "rsa"}); c.mood != kmstand.Lies && code < 400 {
			t.Errorf("made, %s: %v", c.mood, out)
		}
		if out := s.Must("POST", "transit/verify/k", s.Root, map[string]any{"input": b64("x"), "signature": good}); arcatest.Dig(out, "data", "valid") != true {
			t.Errorf("verify needs the service: %v", out)
		}
	}
	stand.Mood(kmstand.Well)
	// Its name comes to mean another key: the version stays what it was.
	stand.Add("arn:other", "", "SIGN_VERIFY", kmstand.EC(t, elliptic.P256()))
	stand.Alias("alias/ec", "arn:other")
	sig := arcatest.Dig(s.Must("POST", "transit/sign/k", s.Root, map[string]any{"input": b64("x")}), "data", "signature")
	s.Must("POST", "transit/keys/k/rotate", s.Root, map[string]any{"managed_key_name": "ec"})
	if out := s.Must("POST", "transit/verify/k", s.Root, map[string]any{"input": b64("x"), "signature": sig}); arcatest.Dig(out, "data", "valid") != true {
		t.Error("version 1 has become another key")
	}
	if a, b := publicOf(t, s, "k", "1"), publicOf(t, s, "k", "2"); a == b {
		t.Error("version 2 is the old key")
	}
	// The mount loses the right, the key its usage, and goes.
	s.Must("POST", "sys/mounts/transit/tune", s.Root, map[string]any{"allowed_managed_keys": ""})
	sign("k", 400, "allowed_managed_keys")
	if code, _ := s.Do("POST", "transit/verify/k", s.Root, map[string]any{"input": b64("x"), "signature": sig}); code != 400 {
		t.Errorf("verified although the mount may not use the key: %d", code)
	}
	if code, _ := s.Do("POST", "transit/keys/k/rotate", s.Root, map[string]any{"managed_key_name": "ec"}); code != 400 {
		t.Errorf("rotated although the mount may not use the key: %d", code)
	}
	s.Must("POST", "sys/mounts/transit/tune", s.Root, map[string]any{"allowed_managed_keys": "EC"})
	sign("k", 200, "")
	s.Must("POST", "sys/managed-keys/awskms/rsa", s.Root, map[string]any{"usages": "verify"})
	sign("r", 400, "do not include sign")
	s.Must("DELETE", "sys/managed-keys/awskms/rsa", s.Root, nil)
	sign("r", 400, "no managed key")
	// Another mount of another namespace sees nothing of it.
	s.Must("POST", "sys/namespaces/team", s.Root, nil)
	in := []string{"X-Vault-Namespace", "team"}
	s.Must("POST", "sys/mounts/transit", s.Root, map[string]any{"type": "transit", "config": map[string]any{"allowed_managed_keys": "ec"}}, in...)
	if code, out := s.Do("POST", "transit/keys/k", s.Root, map[string]any{"type": "managed_key", "managed_key_id": managedID(s, "ec")}, in...); code != 400 {
		t.Errorf("another namespace's key: %d %v", code, out)
	}
}

func publicOf(t *testing.T, s *arcatest.Server, key, version string) string {
	t.Helper()
	return fmt.Sprint(arcatest.Dig(s.Must("GET", "transit/keys/"+key, s.Root, nil), "data", "keys", version, "public_key"))
}

func TestManagedDecryption(t *testing.T) {
	t.Parallel()
	s, stand := managedServer(t)
	s.Must("POST", "transit/keys/k", s.Root, map[string]any{"type": "managed_key", "managed_key_name": "dec"})
	encrypt := func(text string) string {
		t.Helper()
		return arcatest.Dig(s.Must("POST", "transit/encrypt/k", s.Root, map[string]any{"plaintext": b64(text), "padding_scheme": "oaep"}), "data", "ciphertext").(string)
	}
	one, two := encrypt("one"), encrypt("two")
	if got := arcatest.Dig(s.Must("POST", "transit/decrypt/k", s.Root, map[string]any{"ciphertext": one}), "data", "plaintext"); got != b64("one") {
		t.Errorf("decrypted: %v", got)
	}
	s.Must("POST", "transit/keys/k/rotate", s.Root, map[string]any{"managed_key_name": "new"}) // which is generated
	if stand.Live() != 5 {
		t.Errorf("the service has %d keys", stand.Live())
	}
	three := encrypt("three")
	code, out := s.Do("POST", "transit/decrypt/k", s.Root, map[string]any{"batch_input": []any{
		map[string]any{"ciphertext": one},
		map[string]any{"ciphertext": three},
		map[string]any{"ciphertext": "vault:v2:AAAA"},
		map[string]any{"ciphertext": two},
		map[string]any{"ciphertext": "vault:v9:AAAA"},
		map[string]any{"ciphertext": "x"},
	}, "partial_failure_response_code": 207})
	items, _ := arcatest.Dig(out, "data", "batch_results").([]any)
	if code != 207 || len(items) != 6 {
		t.Fatalf("a batch: %d %v", code, out)
	}
	for i, want := range []string{b64("one"), b64("three"), "", b64("two"), "", ""} {
		it := items[i].(map[string]any)
		if it["plaintext"] != want || (want == "") != (it["error"] != nil) {
			t.Errorf("item %d: %v", i, it)
		}
	}
	again := arcatest.Dig(s.Must("POST", "transit/rewrap/k", s.Root, map[string]any{"ciphertext": one}), "data", "ciphertext").(string)
	if !strings.HasPrefix(again, "vault:v2:") || arcatest.Dig(s.Must("POST", "transit/decrypt/k", s.Root, map[string]any{"ciphertext": again}), "data", "plaintext") != b64("one") {
		t.Errorf("rewrapped: %s", again)
	}
	dk := s.Must("POST", "transit/datakey/plaintext/k", s.Root, nil)["data"].(map[string]any)
	if got := arcatest.Dig(s.Must("POST", "transit/decrypt/k", s.Root, map[string]any{"ciphertext": dk["ciphertext"]}), "data", "plaintext"); got != dk["plaintext"] {
		t.Errorf("a data key: %v", got)
	}
	for _, body := range []map[string]any{
		{"plaintext": b64("x"), "padding_scheme": "pkcs1v15"}, {"plaintext": b64("x"), "associated_data": b64("x")}, {"plaintext": base64.StdEncoding.EncodeToString(make([]byte, 300))},
	} {
		if code, out := s.Do("POST", "transit/encrypt/k", s.Root, body); code != 400 {
			t.Errorf("%v: %d %v", body, code, out)
		}
	}
	if code, _ := s.Do("POST", "transit/decrypt/k", s.Root, map[string]any{"ciphertext": one, "padding_scheme": "pkcs1v15"}); code != 400 {
		t.Errorf("decrypted by another padding: %d", code)
	}
	s.Must("POST", "transit/keys/k/config", s.Root, map[string]any{"min_decryption_version": 2})
	if code, _ := s.Do("POST", "transit/decrypt/k", s.Root, map[string]any{"ciphertext": one}); code != 400 {
		t.Errorf("an old version decrypts: %d", code)
	}
	s.Must("POST", "transit/keys/ec", s.Root, map[string]any{"type": "managed_key", "managed_key_name": "ec"})
	if code, _ := s.Do("POST", "transit/keys/ec/soft-delete", s.Root, nil); code != 204 {
		t.Fatal(code)
	}
	if code, _ := s.Do("POST", "transit/sign/ec", s.Root, map[string]any{"input": b64("x")}); code != 400 {
		t.Errorf("a soft deleted key signs: %d", code)
	}
}

// A service that lies, or is asked for very much, costs little: each signature is verified
// when it comes, and a batch is bounded.
func TestManagedBatches(t *testing.T) {
	t.Parallel()
	s, stand := managedServer(t)
	s.Must("POST", "transit/keys/k", s.Root, map[string]any{"type": "managed_key", "managed_key_name": "ec"})
	s.Must("POST", "transit/keys/d", s.Root, map[string]any{"type": "managed_key", "managed_key_name": "dec"})
	batch := func(n int, item map[string]any) map[string]any {
		items := make([]any, n)
		for i := range items {
			items[i] = item
		}
		return map[string]any{"batch_input": items}
	}
	code, out := s.Do("POST", "transit/sign/k", s.Root, batch(4097, map[string]any{"input": b64("x")}))
	if code != 400 || !strings.Contains(fmt.Sprint(out["errors"]), "there may be 4096") || stand.Calls("Sign") != 0 {
		t.Errorf("very many to sign: %d %v after %d calls", code, out["errors"], stand.Calls("Sign"))
	}
	sealed := map[string]any{"ciphertext": "vault:v1:" + base64.StdEncoding.EncodeToString(make([]byte, 256))}
	for _, path := range []string{"decrypt", "rewrap"} {
		code, out := s.Do("POST", "transit/"+path+"/d", s.Root, batch(4097, sealed))
		if code != 400 || !strings.Contains(fmt.Sprint(out["errors"]), "there may be 4096") || stand.Calls("Decrypt") != 0 {
			t.Errorf("%s of very many: %d %v after %d calls", path, code, out["errors"], stand.Calls("Decrypt"))
		}
	}
	if code, _ := s.Do("POST", "transit/encrypt/d", s.Root, batch(4097, map[string]any{"plaintext": b64("x")})); code != 200 {
		t.Errorf("encrypting, which asks nobody: %d", code)
	}
	stand.Mood(kmstand.Lies) // at last: calls that the refusal cuts short may still arrive after it
	if code, out := s.Do("POST", "transit/sign/k", s.Root, batch(100, map[string]any{"input": b64("x")})); code != 500 || stand.Calls("Sign") > 32 {
		t.Errorf("lies: %d %v after %d calls", code, out, stand.Calls("Sign"))
	}
}

// A service that hangs holds up nobody but who asks it, and its request ends with its client.
func TestManagedHanging(t *testing.T) {
	t.Parallel()
	s, stand := managedServer(t)
	s.Must("POST", "transit/keys/k", s.Root, map[string]any{"type": "managed_key", "managed_key_name": "ec"})
	stand.Mood(kmstand.Hangs)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		r := httptest.NewRequest("POST", "/v1/transit/sign/k", bytes.NewReader([]byte(`{"input":"aGVsbG8="}`))).WithContext(ctx)
		r.Header.Set("X-Vault-Token", s.Root)
		w := httptest.NewRecorder()
		s.Handler.ServeHTTP(w, r)
		done <- w.Code
	}()
	before := stand.Calls("Sign")
	for i := 0; i < 50; i++ { // others write and read the same key meanwhile
		s.Must("POST", "transit/keys/k/config", s.Root, map[string]any{"deletion_allowed": i%2 == 0})
	}
	cancel()
	select {
	case code := <-done:
		if code < 500 {
			t.Errorf("answered %d", code)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("the request does not end with its client")
	}
	stand.Mood(kmstand.Well)
	s.Must("POST", "transit/sign/k", s.Root, map[string]any{"input": b64("x")})
	if stand.Calls("Sign") <= before {
		t.Error("nobody was asked")
	}
}
