package transit

import (
	"encoding/json"
	"strings"
	"testing"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/keyring"
)

// refused checks that an error is the client's, and no internal one.
func refused(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil && errs.Is(err, errs.Internal) {
		t.Errorf("%s: %v", what, err)
	}
}

func fuzzBench(f *testing.F) *bench {
	b := newBench(f)
	b.post("keys/aes")
	b.post("keys/rsa", "type", "rsa-2048")
	b.post("keys/kem", "type", "ml-kem-768")
	b.post("keys/ec", "type", "ecdsa-p256")
	b.post("keys/ed", "type", "ed25519")
	b.post("keys/hy", "type", "hybrid", "parameter_set", "44", "hybrid_key_type_ec", "ecdsa-p256")
	b.post("keys/mac", "type", "aes128-cmac")
	return b
}

func FuzzCiphertext(f *testing.F) {
	b := fuzzBench(f)
	for _, name := range []string{"aes", "rsa", "kem"} {
		f.Add(str(b.post("encrypt/"+name, "plaintext", b64("x")), "ciphertext"))
	}
	for _, s := range []string{"", "vault:v1:", "vault:v:AAAA", "vault:v1:AAAA", "vault:v2147483648:AAAA", "vault:v1:AAAA:AAAA"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b := b.with(t)
		for _, name := range []string{"aes", "rsa", "kem"} {
			for _, op := range []string{"decrypt/", "rewrap/"} {
				_, err := b.do(engine.OpUpdate, op+name, object(t, "ciphertext", text))
				refused(t, op+name, err)
			}
		}
	})
}

func FuzzSignature(f *testing.F) {
	b := fuzzBench(f)
	for _, name := range []string{"rsa", "ec", "ed", "hy"} {
		f.Add(str(b.post("sign/"+name, "input", b64("x")), "signature"), "", "asn1")
	}
	f.Add("", str(b.post("hmac/aes", "input", b64("x")), "hmac"), "jws")
	f.Fuzz(func(t *testing.T, sig, mac, marshaling string) {
		b := b.with(t)
		for _, name := range []string{"rsa", "ec", "ed", "hy", "mac"} {
			_, err := b.do(engine.OpUpdate, "verify/"+name, object(t, "input", b64("y"), "signature", sig, "hmac", mac, "cmac", mac, "marshaling_algorithm", marshaling))
			refused(t, name, err)
		}
	})
}

func FuzzBackup(f *testing.F) {
	b := newBench(f)
	for name, rest := range backupTypes() {
		if name == "rsa-2048" {
			continue
		}
		b.must(engine.OpUpdate, "keys/"+name, `{"exportable":true,"allow_plaintext_backup":true,"type":"`+name+`"`+rest+`}`)
		raw, err := decodePlain([]byte(str(b.must(engine.OpRead, "backup/"+name, ""), "backup")))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(raw))
	}
	f.Add(`{"policy":{"name":"x","type":3,"latest_version":1,"keys":{"1":{"hmac_key":"AAAAAAAAAAAAAAAAAAAAAA==","rsa_key":{"N":35,"E":5,"D":5,"Primes":[5,7]}}}}}`)
	f.Add(`{"policy":{"name":"x","type":1,"latest_version":1,"keys":{"1":{"hmac_key":"AAAAAAAAAAAAAAAAAAAAAA==","ec_x":-1,"ec_y":0}}}}`)
	f.Fuzz(func(t *testing.T, raw string) {
		b := b.with(t)
		_, err := b.do(engine.OpUpdate, "restore/fuzz", object(t, "backup", b64(raw), "force", true))
		refused(t, "restore", err)
		if err == nil { // then it is a key like any other
			_, err = b.do(engine.OpRead, "keys/fuzz", "")
			refused(t, "read", err)
			_, err = b.do(engine.OpUpdate, "hmac/fuzz", `{"input":""}`)
			refused(t, "hmac", err)
			_, err = b.do(engine.OpUpdate, "sign/fuzz", `{"input":""}`)
			refused(t, "sign", err)
		}
	})
}

func FuzzImport(f *testing.F) {
	b := newBench(f)
	f.Add([]byte("0123456789abcdef0123456789abcdef"), "aes256-gcm96")
	f.Add([]byte{0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20}, "ed25519")
	f.Add([]byte("x"), "hmac")
	f.Fuzz(func(t *testing.T, key []byte, typ string) {
		b := b.with(t)
		_, err := b.do(engine.OpUpdate, "keys/fuzz/import", object(t, "public_key", string(key), "type", typ))
		refused(t, "public key", err)
		// The wrapping is the client's to make: what is in it is parsed all the same.
		_, err = keyring.Parse(&keyring.Spec{Type: keyring.Type(typ)}, key)
		refused(t, "key", err)
	})
}

func FuzzBatch(f *testing.F) {
	b := fuzzBench(f)
	for _, s := range []string{
		`[{"plaintext":"YQ==","ciphertext":"vault:v1:AAAA","input":"YQ==","signature":"vault:v1:AAAA"}]`, `[]`, `{}`, `[[]]`, `[null]`, `[{"plaintext":5}]`,
		`[{"plaintext":"a\/b=","context":"\u0059Q==","reference":"\"","key_version":"1"}]`, `[{"input":"","hmac":"","cmac":"x"},{"mac_length":99,"input":""}]`,
	} {
		f.Add(s)
	}
	paths := []string{"encrypt/aes", "decrypt/aes", "rewrap/aes", "sign/ed", "verify/ed", "hmac/aes", "cmac/mac"}
	f.Fuzz(func(t *testing.T, batch string) {
		b := b.with(t)
		if !json.Valid([]byte(batch)) || strings.Count(batch, "{") > 50 {
			return
		}
		for _, path := range paths {
			res, err := b.do(engine.OpUpdate, path, `{"batch_input":`+batch+`}`)
			refused(t, path, err)
			if err != nil {
				continue
			}
			raw, err := res.Encode()
			if err != nil || !json.Valid(raw) {
				t.Errorf("%s answers %q, %v", path, raw, err)
			}
		}
	})
}
