package transit

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/keyring"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// post is must of a write; body is made of names and values in turn.
func (b *bench) post(path string, members ...any) map[string]any {
	b.t.Helper()
	return b.must(engine.OpUpdate, path, object(b.t, members...))
}

func object(t testing.TB, members ...any) string {
	t.Helper()
	m := map[string]any{}
	for i := 0; i+1 < len(members); i += 2 {
		m[members[i].(string)] = members[i+1]
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func str(m map[string]any, name string) string {
	s, _ := m[name].(string)
	return s
}

// What Vault documents and the recorded conversations do not cover.
func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, body := range map[string]string{
		"aes": `{}`, "derived": `{"derived":true}`, "ed": `{"type":"ed25519"}`, "ec": `{"type":"ecdsa-p256"}`, "rsa": `{"type":"rsa-2048"}`,
		"mac": `{"type":"aes256-cmac"}`,
	} {
		b.must(engine.OpUpdate, "keys/"+name, body)
	}
	cases := []struct{ path, body, want string }{
		{"keys/a", `{"type":"managed_key"}`, "invalid: either managed_key_name or managed_key_id must be specified for keys of type managed_key"},
		{"keys/a%2fb", `{}`, "invalid: a key's name has letters, digits, '_', '-' and '.', begins and ends with a letter, a digit or '_', and is not longer than 512 bytes"},
		{"keys/a", `{"type":"ml-dsa"}`, `invalid: invalid parameter_set "": it must be 44, 65 or 87`},
		{"keys/a", `{"type":"slh-dsa","parameter_set":"slh-dsa-sha2-128s"}`, "invalid: unknown key type slh-dsa"},
		{"keys/a", `{"type":"rsa-2048","derived":true}`, "failed: 1 error occurred:\n\t* key derivation and convergent encryption not supported for keys of type rsa-2048\n\n"},
		{"keys/a", `{"key_size":32}`, "invalid: key_size is not valid for algorithms that do not support variable key sizes"},
		{"encrypt/aes", `{"plaintext":"","nonce":"AAAAAAAAAAAAAAAA"}`, "invalid: provided nonce not allowed for this key"},
		{"encrypt/aes", `{"plaintext":"","padding_scheme":"oaep"}`, "invalid: padding_scheme argument invalid: unsupported key type aes256-gcm96 for padding scheme"},
		{"encrypt/rsa", `{"plaintext":"","padding_scheme":"none"}`, `invalid: unsupported padding scheme "none": it must be oaep or pkcs1v15`},
		{"encrypt/rsa", `{"plaintext":"","associated_data":"YQ=="}`, "invalid: associated data provided for non-AEAD cipher suite rsa-2048"},
		{"encrypt/rsa", `{"plaintext":"` + base64.StdEncoding.EncodeToString(make([]byte, 300)) + `"}`, "invalid: failed to RSA encrypt the plaintext: crypto/rsa: message too long for RSA key size"},
		{"encrypt/new", `{"plaintext":"","type":"rsa-2048"}`, "invalid: key type rsa-2048 not supported for this operation"},
		{"encrypt/new", `{"plaintext":"","type":"x"}`, "invalid: unknown key type x"},
		{"encrypt/new", `{"plaintext":"","convergent_encryption":true}`, "invalid: convergent encryption requires derivation to be enabled, so context is required"},
		{"decrypt/ed", `{"ciphertext":"vault:v1:AAAA"}`, "invalid: message decryption not supported for key type ed25519"},
		{"decrypt/rsa", `{"ciphertext":"vault:v1:AAAA"}`, "invalid: failed to RSA decrypt the ciphertext: crypto/rsa: decryption error"},
		{"decrypt/aes", `{"ciphertext":"vault:v1"}`, "invalid: invalid ciphertext: wrong number of fields"},
		{"decrypt/aes", `{"ciphertext":"vault:vx:AAAA"}`, "invalid: invalid ciphertext: version number could not be decoded"},
		{"decrypt/aes", `{"ciphertext":"vault:v99999999999999999999:AAAA"}`, "invalid: invalid ciphertext: version number could not be decoded"},
		{"decrypt/aes", `{"ciphertext":"vault:v-1:AAAA"}`, "invalid: invalid ciphertext: version number could not be decoded"},
		{"sign/rsa/none", `{"input":"YQ=="}`, "invalid: hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15"},
		{"sign/rsa", `{"input":"YQ==","prehashed":true}`, "invalid: the hash has 1 bytes, but those of hash_algorithm have 32"},
		{"sign/rsa", `{"input":"YQ==","salt_length":"-5"}`, "invalid: salt length neither 'auto', 'hash', nor an int: -5"},
		{"sign/rsa", `{"input":"YQ==","salt_length":"500"}`, "invalid: crypto/rsa: message too long for RSA key size"},
		{"sign/ec", `{"input":"YQ==","key_version":2}`, "invalid: requested version for signing is higher than the latest key version"},
		{"sign/ed/sha2-512", `{"input":"YQ==","prehashed":true}`, "invalid: Ed25519ph takes a hash of 64 bytes, not of 1"},
		{"sign/ed", `{"input":"YQ==","signature_context":"` + base64.StdEncoding.EncodeToString(make([]byte, 256)) + `"}`, "invalid: signature_context has 256 bytes, the most is 255"},
		{"verify/ec", `{"input":"YQ==","signature":"vault:v2:AAAA"}`, "invalid: invalid signature: version is too new"},
		{"verify/ec", `{"input":"YQ==","signature":"vault:v1:AAAA"}`, "invalid: supplied signature is invalid"},
		{"verify/ec", `{"input":"YQ==","signature":"vault:v1:AAAA","marshaling_algorithm":"jws"}`, "invalid: supplied signature is invalid"},
		{"verify/ec", `{"input":"YQ==","signature":"vault:v1:MAYCAQECAQEA"}`, "invalid: supplied signature contains extra data"},
		{"verify/nosuch", `{"input":"YQ==","signature":"vault:v1:AAAA"}`, "invalid: signature verification key not found"},
		{"verify/ec", `{"batch_input":[{"input":"","signature":"x"},{"input":"","hmac":"y"}]}`, "invalid: elements of batch_input must all provide either 'signature' or 'hmac'"},
		{"hmac/aes", `{"input":"","key_version":9}`, "invalid: requested version for HMAC is higher than the latest key version"},
		{"verify/aes", `{"input":"","hmac":"vault:v9:AAAA"}`, "invalid: invalid HMAC: version is too new"},
		{"cmac/aes", `{"input":""}`, "invalid: key type aes256-gcm96 does not support CMAC"},
		{"cmac/mac/17", `{"input":""}`, "invalid: mac_length 17 is not between 1 and 16"},
		{"datakey/plaintext/ed", `{}`, "invalid: message encryption not supported for key type ed25519"},
		{"keys/aes/import", `{"ciphertext":"AAAA","public_key":"x"}`, "invalid: only one of the following fields, ciphertext and public_key, can be set"},
		{"keys/a/import", `{"public_key":"x","type":"rsa-2048"}`, "failed: 1 error occurred:\n\t* error parsing public key: not in PEM format\n\n"},
		{"keys/a/import", `{"ciphertext":"AAAA","auto_rotate_period":"2h"}`, "invalid: allow_rotation must be set to true if auto-rotation is enabled"},
		{"keys/derived/csr", `{}`, "invalid: operation not supported on keys with derivation enabled"},
		{"keys/aes/csr", `{}`, "invalid: keys of type aes256-gcm96 have no certificates"},
		{"keys/nosuch/csr", `{}`, "not found: key with provided name 'nosuch' not found"},
		{"keys/ec/csr", `{"csr":"x"}`, "invalid: could not decode PEM certificate request"},
		{"keys/ec/set-certificate", `{"certificate_chain":"x"}`, "invalid: no certificates provided in certificate chain"},
		{"restore/a", `{}`, "invalid: 'backup' must be supplied"},
		{"restore/a", `{"backup":"e30="}`, "failed: 1 error occurred:\n\t* the backup has no policy\n\n"},
		{"random/x/5", `{}`, `invalid: unsupported entropy source "x"; must be "platform" or "seal", or "all"`},
		{"random/x", `{}`, `invalid: error parsing url-set byte count: strconv.Atoi: parsing "x": invalid syntax`},
		{"keys/nosuch/soft-delete", `{}`, "invalid: key not found"},
	}
	before := len(b.must(engine.OpList, "keys", "")["keys"].([]any))
	for _, c := range cases {
		if got := b.text(engine.OpUpdate, c.path, c.body); got != c.want {
			t.Errorf("%s %s:\n got %s\nwant %s", c.path, c.body, got, c.want)
		}
	}
	if after := len(b.must(engine.OpList, "keys", "")["keys"].([]any)); after != before {
		t.Errorf("there are %d keys, were %d: a refusal has changed something", after, before)
	}
}

func TestDerivedSigning(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.post("keys/d", "type", "ed25519", "derived", true)
	if got := b.text(engine.OpUpdate, "sign/d", `{"input":"YQ=="}`); !strings.Contains(got, "missing 'context' for key derivation") {
		t.Error(got)
	}
	got := b.post("sign/d", "input", b64("text"), "context", b64("one"))
	public, err := base64.StdEncoding.DecodeString(str(got, "public_key"))
	if err != nil || len(public) != ed25519.PublicKeySize {
		t.Fatalf("public key %q: %v", str(got, "public_key"), err)
	}
	sig, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(str(got, "signature"), "vault:v1:"))
	if err != nil || !ed25519.Verify(public, []byte("text"), sig) {
		t.Errorf("signature %v: %v", got, err)
	}
	for context, want := range map[string]bool{"one": true, "two": false} {
		if v := b.post("verify/d", "input", b64("text"), "context", b64(context), "signature", str(got, "signature")); v["valid"] != want {
			t.Errorf("context %s: %v", context, v)
		}
	}
	shown := b.must(engine.OpRead, "keys/d", object(t, "context", b64("one")))["keys"].(map[string]any)["1"].(map[string]any)
	if str(shown, "public_key") != str(got, "public_key") {
		t.Errorf("shown %v", shown)
	}
}

// Ed25519ph and Ed25519ctx as other implementations verify them (RFC 8032).
func TestEd25519Variants(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	shown := b.post("keys/k", "type", "ed25519")["keys"].(map[string]any)["1"].(map[string]any)
	public, _ := base64.StdEncoding.DecodeString(str(shown, "public_key"))
	digest := sha512.Sum512([]byte("text"))
	sig := str(b.post("sign/k/sha2-512", "input", b64(string(digest[:])), "prehashed", true, "signature_context", b64("ctx")), "signature")
	raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(sig, "vault:v1:"))
	opts := &ed25519.Options{Hash: 7, Context: "ctx"} // crypto.SHA512
	if err := ed25519.VerifyWithOptions(public, digest[:], raw, opts); err != nil {
		t.Error(err)
	}
	if v := b.post("verify/k/sha2-512", "input", b64(string(digest[:])), "prehashed", true, "signature_context", b64("ctx"), "signature", sig); v["valid"] != true {
		t.Errorf("verified: %v", v)
	}
	if v := b.post("verify/k/sha2-512", "input", b64(string(digest[:])), "prehashed", true, "signature", sig); v["valid"] != false {
		t.Errorf("verified without its context: %v", v)
	}
	sig = str(b.post("sign/k", "input", b64("text"), "signature_context", b64("ctx")), "signature")
	raw, _ = base64.StdEncoding.DecodeString(strings.TrimPrefix(sig, "vault:v1:"))
	if err := ed25519.VerifyWithOptions(public, []byte("text"), raw, &ed25519.Options{Context: "ctx"}); err != nil {
		t.Error(err)
	}
}

func TestCMAC(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, typ := range []string{"aes128-cmac", "aes192-cmac", "aes256-cmac"} {
		b.post("keys/"+typ, "type", typ)
		full := str(b.post("cmac/"+typ, "input", b64("text")), "cmac")
		short := str(b.post("cmac/"+typ+"/8", "input", b64("text")), "cmac")
		if raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(short, "vault:v1:")); len(raw) != 8 {
			t.Errorf("%s: %s has %d bytes", typ, short, len(raw))
		}
		if v := b.post("verify/"+typ, "input", b64("text"), "cmac", full); v["valid"] != true {
			t.Errorf("%s: %v", typ, v)
		}
		if v := b.post("verify/"+typ, "input", b64("text"), "cmac", short); v["valid"] != false {
			t.Errorf("%s: a short MAC counts for a long one", typ)
		}
		if v := b.post("verify/"+typ, "input", b64("text"), "cmac", short, "mac_length", 8); v["valid"] != true {
			t.Errorf("%s, short: %v", typ, v)
		}
		if v := b.text(engine.OpUpdate, "verify/"+typ, `{"mac_length":8,"batch_input":[{"input":"`+b64("text")+`","cmac":"`+short+`"}]}`); !strings.Contains(v, `"valid":true`) {
			t.Errorf("%s, short, in a batch: %v", typ, v)
		}
		if v := b.text(engine.OpUpdate, "cmac/"+typ, `{"batch_input":[{"input":"`+b64("text")+`","reference":"r"},{"input":"?"},{}]}`); v !=
			`{"batch_results":[{"cmac":"`+full+`","reference":"r"},{"error":"unable to decode input as base64: illegal base64 data at input byte 0","reference":""},{"error":"missing input for CMAC","reference":""}]}` {
			t.Errorf("%s: batch: %s", typ, v)
		}
	}
}

// What a version below the minimum made could not be opened, and should not be trusted.
func TestRetiredVersion(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for typ, uses := range map[string][][2]string{
		"aes256-gcm96": {{"encrypt/%", `"plaintext":""`}, {"datakey/plaintext/%", ""}, {"datakey/wrapped/%", ""}, {"hmac/%", `"input":""`}},
		"ecdsa-p256":   {{"sign/%", `"input":""`}, {"hmac/%", `"input":""`}},
		"aes256-cmac":  {{"cmac/%", `"input":""`}},
	} {
		b.post("keys/"+typ, "type", typ)
		for range 3 {
			b.post("keys/" + typ + "/rotate")
		}
		b.post("keys/"+typ+"/config", "min_decryption_version", 3)
		if typ == "aes256-gcm96" {
			sealed := str(b.post("encrypt/"+typ, "plaintext", b64("x")), "ciphertext")
			uses = append(uses, [2]string{"rewrap/%", `"ciphertext":"` + sealed + `"`})
		}
		for _, use := range uses {
			path := strings.ReplaceAll(use[0], "%", typ)
			body := func(n string) string { return "{" + strings.TrimPrefix(use[1]+`,"key_version":`+n+"}", ",") }
			if got := b.text(engine.OpUpdate, path, body("2")); !strings.Contains(got, "version does not exist") {
				t.Errorf("%s with version 2: %s", path, got)
			}
			b.must(engine.OpUpdate, path, body("3"))
		}
	}
}

// Each item of a batch names its own padding schemes.
func TestRewrapPadding(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.post("keys/r", "type", "rsa-2048")
	sealed := str(b.post("encrypt/r", "plaintext", b64("x"), "padding_scheme", "pkcs1v15"), "ciphertext")
	got := b.post("rewrap/r", "batch_input", []any{
		map[string]any{"ciphertext": sealed, "decrypt_padding_scheme": "pkcs1v15", "encrypt_padding_scheme": "oaep"},
		map[string]any{"ciphertext": sealed, "decrypt_padding_scheme": "oaep"},
	})
	results, _ := got["batch_results"].([]any)
	if len(results) != 2 {
		t.Fatal(got)
	}
	first, _ := results[0].(map[string]any)
	if text := str(b.post("decrypt/r", "ciphertext", first["ciphertext"], "padding_scheme", "oaep"), "plaintext"); text != b64("x") {
		t.Errorf("rewrapped: %v", results[0])
	}
	if second, _ := results[1].(map[string]any); second["error"] == nil {
		t.Errorf("opened with the wrong scheme: %v", second)
	}
}

func TestSoftDelete(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.post("keys/k", "exportable", true, "allow_plaintext_backup", true)
	sealed := str(b.post("encrypt/k", "plaintext", b64("x")), "ciphertext")
	b.must(engine.OpDelete, "keys/k/soft-delete", "")
	for _, c := range [][2]string{
		{"encrypt/k", `{"plaintext":""}`},
		{"decrypt/k", `{"ciphertext":"` + sealed + `"}`},
		{"rewrap/k", `{"ciphertext":"` + sealed + `"}`},
		{"hmac/k", `{"input":""}`},
		{"datakey/plaintext/k", `{}`},
		{"keys/k/rotate", `{}`},
	} {
		if got := b.text(engine.OpUpdate, c[0], c[1]); !strings.Contains(got, "soft deleted") {
			t.Errorf("%s: %s", c[0], got)
		}
	}
	if got := b.text(engine.OpRead, "export/encryption-key/k", ""); !strings.Contains(got, "soft deleted") {
		t.Errorf("export: %s", got)
	}
	if got := b.must(engine.OpRead, "keys/k", ""); got["soft_deleted"] != true {
		t.Errorf("read: %v", got)
	}
	b.must(engine.OpRead, "backup/k", "") // so that it can be deleted for good then
	b.post("keys/k/soft-delete-restore")
	if got := str(b.post("decrypt/k", "ciphertext", sealed), "plaintext"); got != b64("x") {
		t.Errorf("restored: %q", got)
	}
}

func TestAutoRotate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.post("keys/k", "auto_rotate_period", "1h")
	b.post("keys/r", "auto_rotate_period", "1h", "type", "rsa-2048")
	first := str(b.post("encrypt/k", "plaintext", b64("x")), "ciphertext")
	b.now = b.now.Add(time.Hour)
	if got := str(b.post("decrypt/k", "ciphertext", first), "plaintext"); got != b64("x") {
		t.Errorf("before the rotation: %q", got)
	}
	if got := b.post("encrypt/k", "plaintext", b64("x")); got["key_version"] != 2.0 {
		t.Errorf("encrypted with %v", got)
	}
	if got := b.post("encrypt/k", "plaintext", b64("x")); got["key_version"] != 2.0 {
		t.Errorf("encrypted again with %v", got)
	}
	if got := b.must(engine.OpRead, "keys/r", ""); got["latest_version"] != 2.0 {
		t.Errorf("reading has not rotated: %v", got)
	}
	if got := str(b.post("decrypt/k", "ciphertext", first), "plaintext"); got != b64("x") {
		t.Errorf("after it: %q", got)
	}
}

// A key goes from one server to another without anybody seeing it.
func TestBYOK(t *testing.T) {
	t.Parallel()
	one, two := newBench(t), newBench(t)
	wrapping := str(two.must(engine.OpRead, "wrapping_key", ""), "public_key")
	if again := str(two.must(engine.OpRead, "wrapping_key", ""), "public_key"); again != wrapping {
		t.Fatal("the wrapping key changes")
	}
	one.post("keys/two/import", "public_key", wrapping, "type", "rsa-4096")
	for _, typ := range []string{"aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305", "ed25519", "ecdsa-p256", "ecdsa-p521", "rsa-2048", "hmac", "aes256-cmac"} {
		one.post("keys/"+typ, "type", typ, "exportable", true)
		keys := one.must(engine.OpRead, "byok-export/two/"+typ+"/latest", "")["keys"].(map[string]any)
		two.post("keys/"+typ+"/import", "type", typ, "ciphertext", keys["1"], "exportable", true)
		a, b := one.post("hmac/"+typ, "input", ""), two.post("hmac/"+typ, "input", "")
		if (str(a, "hmac") == str(b, "hmac")) != (typ == "hmac") {
			t.Errorf("%s: HMACs %v, %v", typ, a, b)
		}
		for _, kind := range []string{"encryption-key", "signing-key", "cmac-key"} {
			x, y := one.text(engine.OpRead, "export/"+kind+"/"+typ, ""), two.text(engine.OpRead, "export/"+kind+"/"+typ, "")
			if x != y {
				t.Errorf("%s: %s differs", typ, kind)
			}
		}
	}
	if got := one.text(engine.OpRead, "byok-export/aes256-gcm96/hmac", ""); !strings.Contains(got, "only RSA keys") {
		t.Error(got)
	}
}

// The private part of a key may come in later.
func TestCompletePublic(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	wrapping := str(b.must(engine.OpRead, "wrapping_key", ""), "public_key")
	b.post("keys/w/import", "public_key", wrapping, "type", "rsa-4096")
	b.post("keys/src", "type", "ecdsa-p384", "exportable", true)
	b.post("keys/other", "type", "ecdsa-p384", "exportable", true)
	public := b.must(engine.OpRead, "export/public-key/src", "")["keys"].(map[string]any)["1"]
	wrapped := func(name string) any {
		return b.must(engine.OpRead, "byok-export/w/"+name, "")["keys"].(map[string]any)["1"]
	}
	b.post("keys/k/import", "public_key", public, "type", "ecdsa-p384")
	sig := str(b.post("sign/src", "input", b64("text")), "signature")
	if v := b.post("verify/k", "input", b64("text"), "signature", sig); v["valid"] != true {
		t.Errorf("verified by the public part: %v", v)
	}
	if got := b.text(engine.OpUpdate, "keys/k/import_version", object(t, "ciphertext", wrapped("other"))); !strings.Contains(got, "key pair does not match") {
		t.Error(got)
	}
	b.post("keys/k/import_version", "ciphertext", wrapped("src"))
	if got := b.must(engine.OpRead, "keys/k", ""); got["latest_version"] != 1.0 {
		t.Errorf("a new version instead: %v", got)
	}
	sig = str(b.post("sign/k", "input", b64("text")), "signature")
	if v := b.post("verify/src", "input", b64("text"), "signature", sig); v["valid"] != true {
		t.Errorf("verified: %v", v)
	}
	b.post("keys/ed", "type", "ed25519", "exportable", true)
	b.post("keys/derived/import", "ciphertext", wrapped("ed"), "type", "ed25519", "derived", true)
	edPublic := b.must(engine.OpRead, "export/public-key/ed", "")["keys"].(map[string]any)["1"]
	if got := b.text(engine.OpUpdate, "keys/derived/import_version", object(t, "public_key", edPublic)); !strings.Contains(got, "cannot be derived") {
		t.Error(got)
	}
	b.post("keys/k/import_version", "ciphertext", wrapped("other"))
	if got := b.must(engine.OpRead, "keys/k", ""); got["latest_version"] != 2.0 {
		t.Errorf("no new version: %v", got)
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, typ := range []string{"ecdsa-p256", "rsa-2048", "ed25519"} {
		b.post("keys/"+typ, "type", typ)
		got := b.post("keys/" + typ + "/csr")
		block, _ := pem.Decode([]byte(str(got, "csr")))
		if block == nil {
			t.Fatalf("%v", got)
		}
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || csr.CheckSignature() != nil {
			t.Fatalf("%s: %v", typ, err)
		}
		authority, priv, _ := ed25519.GenerateKey(rand.Reader)
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, csr.PublicKey, priv)
		if err != nil {
			t.Fatal(err)
		}
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		b.post("keys/"+typ+"/set-certificate", "certificate_chain", text)
		shown := b.must(engine.OpRead, "keys/"+typ, "")["keys"].(map[string]any)["1"].(map[string]any)
		if str(shown, "certificate_chain") != text {
			t.Errorf("%s: %v", typ, shown)
		}
		if got := b.text(engine.OpRead, "export/certificate-chain/"+typ+"/latest", ""); !strings.Contains(got, "BEGIN CERTIFICATE") {
			t.Errorf("%s: %s", typ, got)
		}
		der, err = x509.CreateCertificate(rand.Reader, template, template, authority, priv)
		if err != nil {
			t.Fatal(err)
		}
		text = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		if got := b.text(engine.OpUpdate, "keys/"+typ+"/set-certificate", object(t, "certificate_chain", text)); !strings.Contains(got, "does not match") {
			t.Errorf("%s: another's certificate: %s", typ, got)
		}
	}
	// The subject and the extensions of a request are taken over, its key is not.
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "me"}, DNSNames: []string{"a.example"}}, other)
	if err != nil {
		t.Fatal(err)
	}
	got := b.post("keys/ecdsa-p256/csr", "csr", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	block, _ := pem.Decode([]byte(str(got, "csr")))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil || csr.Subject.CommonName != "me" || !slices.Equal(csr.DNSNames, []string{"a.example"}) || other.PublicKey.Equal(csr.PublicKey) {
		t.Errorf("%+v, %v", csr, err)
	}
}

// A backup that Vault's documentation shows is restored, with its key, HMAC key
// and time.
func TestVaultBackup(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const key, mac = "W+y8gGN0wbL2K9Oy5qO7YZ0kcw3/GFb5c8I0svSL2qM=", "P0Sr8ua2ZdDMQ7OwhxDjugE9wBRGt6Ayz+KxO3ygc9I="
	raw := `{"policy":{"name":"aes","keys":{"1":{"key":"` + key + `","hmac_key":"` + mac + `","time":"2017-12-08T11:50:08.613837-05:00","ec_x":null,"ec_y":null,"ec_d":null,"rsa_key":null,"public_key":"","creation_time":1512751808}},` +
		`"derived":false,"kdf":0,"convergent_encryption":false,"exportable":true,"min_decryption_version":1,"min_encryption_version":0,"latest_version":1,"archive_version":1,"deletion_allowed":false,"convergent_version":0,"type":0,"backup_info":{"time":"2017-12-08T11:50:29.228157-05:00","version":1},"restore_info":null},` +
		`"archived_keys":{"keys":[{"key":null,"hmac_key":null,"time":"0001-01-01T00:00:00Z","ec_x":null,"ec_y":null,"ec_d":null,"rsa_key":null,"public_key":"","creation_time":0},{"key":"` + key + `","hmac_key":"` + mac + `","time":"2017-12-08T11:50:08.613837-05:00","ec_x":null,"ec_y":null,"ec_d":null,"rsa_key":null,"public_key":"","creation_time":1512751808}]}}`
	b.post("restore", "backup", b64(raw))
	if got, want := b.text(engine.OpRead, "export/encryption-key/aes", ""), `{"keys":{"1":"`+key+`"},"name":"aes","type":"aes256-gcm96"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := b.text(engine.OpRead, "export/hmac-key/aes", ""); !strings.Contains(got, mac) {
		t.Error(got)
	}
	if got := b.must(engine.OpRead, "keys/aes", "")["keys"]; fmt.Sprint(got) != "map[1:1.512751808e+09]" {
		t.Errorf("%v", got)
	}
	for _, change := range [][2]string{
		{`"latest_version":1`, `"latest_version":2`},
		{`"latest_version":1`, `"latest_version":-1`},
		{`"type":0`, `"type":1`},
		{`"type":0`, `"type":99`},
		{`"type":0`, `"type":10`},
		{`"derived":false`, `"derived":true`},
		{`"key":"` + key + `"`, `"key":"AAAA"`},
		{`"name":"aes"`, `"name":"a/b"`},
		{`"min_decryption_version":1`, `"min_decryption_version":7`},
		{`"hmac_key":"` + mac + `"`, `"hmac_key":null`},
		{`"name":"aes"`, `"name":"aes","auto_rotate_period":1`},
	} {
		bad := strings.ReplaceAll(raw, change[0], change[1])
		path := "restore/x"
		if strings.Contains(change[0], "name") {
			path = "restore"
		}
		if got := b.text(engine.OpUpdate, path, object(t, "backup", b64(bad), "force", true)); !strings.HasPrefix(got, "failed") && !strings.HasPrefix(got, "invalid") {
			t.Errorf("%s: %q", change[1], got)
		}
	}
	if got := b.text(engine.OpRead, "keys/x", ""); !strings.HasPrefix(got, "not found") {
		t.Errorf("a bad backup was restored: %s", got)
	}
}

// What a backup says of a key must be what its material is.
func TestForgedBackup(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for typ, forge := range map[string][2]string{
		"hmac":   {"", base64.StdEncoding.EncodeToString(make([]byte, keyring.MinHMACBytes-1))},
		"hybrid": {`"ec":"ecdsa-p256"`, `"ec":"ecdsa-p521"`},
	} {
		more := map[string]string{"hybrid": `,"parameter_set":"44","hybrid_key_type_pqc":"ml-dsa","hybrid_key_type_ec":"ecdsa-p256"`}[typ]
		b.must(engine.OpUpdate, "keys/"+typ, `{"exportable":true,"allow_plaintext_backup":true,"type":"`+typ+`"`+more+`}`)
		raw, err := base64.StdEncoding.DecodeString(str(b.must(engine.OpRead, "backup/"+typ, ""), "backup"))
		if err != nil {
			t.Fatal(err)
		}
		b.post("restore/copy-"+typ, "backup", b64(string(raw)))
		if typ == "hmac" {
			forge[0] = str(b.must(engine.OpRead, "export/hmac-key/hmac", "")["keys"].(map[string]any), "1")
			raw = []byte(strings.Replace(string(raw), `"key_size":32`, `"key_size":0`, 1))
		}
		if forged := strings.ReplaceAll(string(raw), forge[0], forge[1]); forged == string(raw) {
			t.Errorf("%s: nothing to forge in %s", typ, raw)
		} else if got := b.text(engine.OpUpdate, "restore/forged-"+typ, object(t, "backup", b64(forged))); !strings.HasPrefix(got, "failed") {
			t.Errorf("%s: %s", typ, got)
		}
	}
}

// A hybrid key has both secrets or neither, and its curve also where there is no secret.
func TestForgedHybrid(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.must(engine.OpUpdate, "keys/hy", `{"exportable":true,"allow_plaintext_backup":true,"type":"hybrid","parameter_set":"44","hybrid_key_type_pqc":"ml-dsa","hybrid_key_type_ec":"ecdsa-p256"}`)
	raw, err := base64.StdEncoding.DecodeString(str(b.must(engine.OpRead, "backup/hy", ""), "backup"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, curve string
		without     []string
		good        bool
	}{
		{name: "public", curve: "ecdsa-p256", without: []string{"key", "key2"}, good: true},
		{name: "no-second", curve: "ecdsa-p256", without: []string{"key2"}},
		{name: "no-first", curve: "ecdsa-p256", without: []string{"key"}},
		{name: "other-curve", curve: "ecdsa-p384", without: []string{"key", "key2"}},
	} {
		var backup map[string]any
		if err := json.Unmarshal([]byte(strings.ReplaceAll(string(raw), `"ec":"ecdsa-p256"`, `"ec":"`+c.curve+`"`)), &backup); err != nil {
			t.Fatal(err)
		}
		version := backup["arca"].(map[string]any)["versions"].(map[string]any)["1"].(map[string]any)
		for _, member := range c.without {
			if version[member] == nil {
				t.Fatalf("%s: there is no %s to leave out", c.name, member)
			}
			delete(version, member)
		}
		forged, err := json.Marshal(backup)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.do(engine.OpUpdate, "restore/"+c.name, object(t, "backup", b64(string(forged)))); (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if got := b.text(engine.OpUpdate, "sign/public", object(t, "input", b64("text"))); got == "" || strings.HasPrefix(got, "internal") {
		t.Errorf("a public key signs: %q", got)
	}
}

// backupTypes are all types that can be made by name alone, with parameters where
// they need some.
func backupTypes() map[string]string {
	return map[string]string{
		"aes128-gcm96": "", "aes256-gcm96": "", "chacha20-poly1305": "", "xchacha20-poly1305": "", "ed25519": "", "ecdsa-p256": "", "ecdsa-p384": "",
		"ecdsa-p521": "", "rsa-2048": "", "hmac": "", "aes128-cmac": "", "aes192-cmac": "", "aes256-cmac": "", "ml-dsa": `,"parameter_set":"65"`,
		"hybrid": `,"parameter_set":"44","hybrid_key_type_pqc":"ml-dsa","hybrid_key_type_ec":"ed25519"`, "ml-kem-768": "", "ml-kem-1024": "", "ml-kem-768-x25519": "",
	}
}

// Every type goes through rotation, backup and restore with all that it made.
func TestBackups(t *testing.T) {
	t.Parallel()
	for _, typ := range slices.Sorted(maps.Keys(backupTypes())) {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.must(engine.OpUpdate, "keys/k", `{"exportable":true,"allow_plaintext_backup":true,"type":"`+typ+`"`+backupTypes()[typ]+`}`)
			made := map[string][]string{}
			check := func(name string) {
				t.Helper()
				for _, c := range made["encrypt"] {
					if got := str(b.post("decrypt/"+name, "ciphertext", c), "plaintext"); got != b64("text") {
						t.Errorf("%s: %s gives %q", name, c, got)
					}
				}
				for kind, member := range map[string]string{"sign": "signature", "hmac": "hmac", "cmac": "cmac"} {
					for _, c := range made[kind] {
						if got := b.post("verify/"+name, "input", b64("text"), member, c); got["valid"] != true {
							t.Errorf("%s: %s %s: %v", name, kind, c, got)
						}
					}
				}
			}
			for range 3 {
				k := keyring.Type(typ)
				if k.Encrypts() {
					made["encrypt"] = append(made["encrypt"], str(b.post("encrypt/k", "plaintext", b64("text")), "ciphertext"))
				}
				if k.Signs() {
					made["sign"] = append(made["sign"], str(b.post("sign/k", "input", b64("text")), "signature"))
				}
				if k.CMACs() {
					made["cmac"] = append(made["cmac"], str(b.post("cmac/k", "input", b64("text")), "cmac"))
				}
				made["hmac"] = append(made["hmac"], str(b.post("hmac/k", "input", b64("text")), "hmac"))
				b.post("keys/k/rotate")
			}
			check("k")
			first := b.must(engine.OpRead, "backup/k", "")["backup"]
			b.post("restore/copy", "backup", first)
			check("copy")
			b.post("keys/copy/config", "min_decryption_version", 2, "min_encryption_version", 2)
			b.post("keys/copy/trim", "min_available_version", 2)
			b.post("restore/trimmed", "backup", b.must(engine.OpRead, "backup/copy", "")["backup"])
			for kind := range made {
				made[kind] = made[kind][1:]
			}
			check("trimmed")
			b.post("restore/trimmed", "backup", first, "force", true)
			check("trimmed")
			if got := b.must(engine.OpRead, "keys/trimmed", ""); got["latest_version"] != 4.0 || got["min_available_version"] != 0.0 {
				t.Errorf("restored by force: %v", got)
			}
		})
	}
}
