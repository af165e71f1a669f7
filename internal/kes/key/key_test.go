package key

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/quick"
	"time"
)

// A vector is a stored key and a ciphertext that a release of KES made. Without
// a plaintext, the ciphertext must not open.
type vector struct {
	MadeBy     string `json:"made_by"`
	Stored     string `json:"stored"`
	Ciphertext []byte `json:"ciphertext"`
	Context    []byte `json:"context"`
	Plaintext  []byte `json:"plaintext"`
}

func vectors(tb testing.TB) []vector {
	tb.Helper()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		tb.Fatal(err)
	}
	var out []vector
	if err := json.Unmarshal(raw, &out); err != nil || len(out) == 0 {
		tb.Fatal(err)
	}
	return out
}

// TestVectors opens what every release of KES has sealed: JSON of 2021, MessagePack
// of 2022 and 2023, today's bytes; keys of all forms. S0-50.
func TestVectors(t *testing.T) {
	t.Parallel()
	for i, v := range vectors(t) {
		t.Run(fmt.Sprintf("%s/%d", v.MadeBy, i), func(t *testing.T) {
			t.Parallel()
			k, err := Decode([]byte(v.Stored))
			if err != nil {
				t.Fatal(err)
			}
			got, err := k.Decrypt(v.Ciphertext, v.Context)
			if len(v.Plaintext) == 0 {
				if !errors.Is(err, ErrNotAuthentic) {
					t.Errorf("got %q, %v; want %v", got, err, ErrNotAuthentic)
				}
				return
			}
			if err != nil || !bytes.Equal(got, v.Plaintext) {
				t.Errorf("got %x, %v; want %x", got, err, v.Plaintext)
			}
			again, err := Decode(k.Encode())
			if err != nil {
				t.Fatal(err)
			}
			if k.Cipher != Unspecified && again.String() != k.String() || again.secret != k.secret || !again.CreatedAt.Equal(k.CreatedAt) || again.CreatedBy != k.CreatedBy {
				t.Errorf("stored again and read, the key is another")
			}
		})
	}
}

// TestTamper changes every byte of every vector: nothing opens.
func TestTamper(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		k, err := Decode([]byte(v.Stored))
		if err != nil || len(v.Plaintext) == 0 {
			continue
		}
		old := v.Ciphertext[0] == 0x95 || v.Ciphertext[0] == '{'
		for i := range v.Ciphertext {
			changed := bytes.Clone(v.Ciphertext)
			changed[i] ^= 1
			got, err := k.Decrypt(changed, v.Context)
			// In the old forms' texts some changes mean nothing, such as those of
			// unused bits of base64 or of a member's case.
			if err == nil && (!old || !bytes.Equal(got, v.Plaintext)) {
				t.Errorf("%s: byte %d changed, and yet it opens", v.MadeBy, i)
			}
			if got, err := k.Decrypt(v.Ciphertext[:i], v.Context); err == nil {
				t.Errorf("%s: cut to %d bytes, it opens to %x", v.MadeBy, i, got)
			}
		}
		other, err := New(k.Cipher, time.Now(), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Decrypt(v.Ciphertext, v.Context); !errors.Is(err, ErrNotAuthentic) {
			t.Errorf("%s: another key opens it", v.MadeBy)
		}
	}
}

// TestRoundTrip seals and opens anything, with both ciphers.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, c := range []Cipher{AES256, ChaCha20} {
		k, err := New(c, time.Unix(1, 2), "me")
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		f := func(plaintext, context []byte) bool {
			ct, err := k.Encrypt(plaintext, context)
			if err != nil || len(ct) != len(plaintext)+Overhead || seen[string(ct)] {
				return false
			}
			seen[string(ct)] = true
			stored, err := Decode(k.Encode())
			if err != nil {
				return false
			}
			got, err := stored.Decrypt(ct, context)
			if err != nil || !bytes.Equal(got, plaintext) {
				return false
			}
			_, err = k.Decrypt(ct, append([]byte{1}, context...))
			return errors.Is(err, ErrNotAuthentic)
		}
		if err := quick.Check(f, nil); err != nil {
			t.Errorf("%s: %v", c, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	secret := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, Size))
	k, err := New(AES256, time.Now(), "me")
	if err != nil {
		t.Fatal(err)
	}
	good := string(k.Encode())
	raw, err := base64.StdEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":            "",
		"blank":            " \n",
		"text":             "hello",
		"array":            "[]",
		"short":            `{"bytes":"AAAA"}`,
		"no bytes":         `{"created_by":"x"}`,
		"cipher":           `{"bytes":"` + secret + `","algorithm":"rot13"}`,
		"version":          `{"bytes":"` + secret + `","version":"v2"}`,
		"time":             `{"bytes":"` + secret + `","created_at":"yesterday"}`,
		"empty proto":      "CgIKAA==",
		"cut":              base64.StdEncoding.EncodeToString(raw[:len(raw)-1]),
		"too large":        strings.Repeat("A", MaxStored+1),
		"proto of garbage": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 40)),
	} {
		got, err := Decode([]byte(text))
		if err == nil {
			t.Errorf("%s: read as %v", name, got)
			continue
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error has the key", name)
		}
	}
	if _, err := Decode([]byte("\n " + good + "\n")); err != nil {
		t.Errorf("white space around: %v", err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	k, err := Import(bytes.Repeat([]byte("k"), Size), AES256, time.Now(), "me")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(format, k); strings.Contains(got, "kkk") || strings.Contains(got, "107") || strings.Contains(got, "6b6b") {
			t.Errorf("%s prints %s", format, got)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, good := range map[string]bool{
		"a": true, "A1": true, "a_b": true, "a-b": true, "__": true, "_a": true, "0": true, strings.Repeat("k", 80): true,
		"": false, "a.b": false, "a b": false, "a/b": false, "ä": false, "-a": false, "a-": false, "_": false, "a*": false,
		"..": false, "a\x00": false, "a~b": false, strings.Repeat("k", 81): false,
	} {
		if got := CheckName(name) == nil; got != good {
			t.Errorf("%q: got %v, want %v", name, got, good)
		}
	}
	for name, good := range map[string]bool{
		"a": true, "-a": true, "a-": true, "-": true, "--": true, "_": false, "": false, "a.b": false, "..": false, "-/": false,
		"-" + strings.Repeat("k", 79): true, "-" + strings.Repeat("k", 80): false,
	} {
		if got := CheckKnown(name) == nil; got != good {
			t.Errorf("%q of 2023: got %v, want %v", name, got, good)
		}
	}
	for pattern, want := range map[string]string{
		"": "", "*": "", "app": "app", "app*": "app", "app-*": "app-", "app-": "app-", "app~-7": "app", "~x": "",
	} {
		if got, _, err := ParsePattern(pattern); err != nil || got != want {
			t.Errorf("pattern %q: got %q, %v; want %q", pattern, got, err, want)
		}
	}
	for _, pattern := range []string{"a.b", "*a", "a*b", "-a", "_", "a/b", "**", "ä", "a~", "~", "a~../b", strings.Repeat("p", 81)} {
		if _, from, err := ParsePattern(pattern); err == nil && !(pattern == "a~" && from == "a") {
			t.Errorf("pattern %q is taken", pattern)
		}
	}
}

// FuzzDecrypt throws ciphertexts of all forms at keys of all kinds: none opens,
// and none panics.
func FuzzDecrypt(f *testing.F) {
	var keys []*Key
	known := map[string]bool{}
	for _, v := range vectors(f) {
		f.Add(v.Ciphertext, v.Context)
		known[string(v.Plaintext)] = true
		if k, err := Decode([]byte(v.Stored)); err == nil {
			keys = append(keys, k)
		}
	}
	f.Add([]byte{0x95}, []byte(nil))
	f.Add([]byte(`{"aead":"ChaCha20Poly1305"}`), []byte(nil))
	f.Add([]byte{0x95, 0xdb, 0xff, 0xff, 0xff, 0xff}, []byte(nil))
	f.Fuzz(func(t *testing.T, ciphertext, context []byte) {
		for _, k := range keys {
			got, err := k.Decrypt(ciphertext, context)
			if err != nil && !errors.Is(err, ErrNotAuthentic) {
				t.Errorf("error %v", err)
			}
			if err == nil && !known[string(got)] {
				t.Errorf("forged: %x opens to %x", ciphertext, got)
			}
		}
	})
}

// FuzzDecode throws entries at the reader: what it takes can be used, shown and
// stored.
func FuzzDecode(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add([]byte(v.Stored))
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		k, err := Decode(stored)
		if err != nil {
			return
		}
		if _, err := json.Marshal(k.CreatedAt); err != nil {
			t.Errorf("its time cannot be shown: %v", err)
		}
		ct, err := k.Encrypt([]byte("x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(k.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := again.Decrypt(ct, nil); err != nil || string(got) != "x" {
			t.Errorf("stored again, it does not open its own: %v", err)
		}
	})
}

// inOldForms writes a ciphertext of today as the two forms before it.
func inOldForms(k *Key, ct []byte) (asJSON, asMsgpack []byte) {
	n := len(ct) - ivSize - nonceSize
	sealed, iv, nonce := ct[:n], ct[n:n+ivSize], ct[n+ivSize:]
	aead, name := "AES-256-GCM-HMAC-SHA-256", "AES256-GCM_SHA256"
	if k.Cipher == ChaCha20 {
		aead, name = "ChaCha20Poly1305", "XCHACHA20-POLY1305"
	}
	asJSON, _ = json.Marshal(map[string]any{"aead": aead, "id": k.ID(), "iv": iv, "nonce": nonce, "bytes": sealed}) // these can be
	b := append([]byte{0x95, 0xa0 | byte(len(name))}, name...)
	b = append(append(b, 0xd9, 32), k.ID()...)
	for _, part := range [][]byte{iv, nonce, sealed} {
		b = append(b, 0xc6, byte(len(part)>>24), byte(len(part)>>16), byte(len(part)>>8), byte(len(part)))
		b = append(b, part...)
	}
	return asJSON, b
}

// FuzzForms seals anything, and opens it in each of the three forms, which are the
// same to whoever has the key; swapped, cut, changed or under another key or context,
// none does, and the error is the one.
func FuzzForms(f *testing.F) {
	f.Add([]byte("plain"), []byte("context"), 3, byte(1), false)
	f.Add([]byte{}, []byte{}, 0, byte(0x80), true)
	f.Add(bytes.Repeat([]byte{0x95}, 300), []byte("{"), 70, byte(2), false)
	f.Fuzz(func(t *testing.T, plaintext, context []byte, at int, flip byte, chacha bool) {
		c := AES256
		if chacha {
			c = ChaCha20
		}
		k, err := New(c, time.Now(), "")
		if err != nil {
			t.Fatal(err)
		}
		other, err := New(c, time.Now(), "")
		if err != nil {
			t.Fatal(err)
		}
		ct, err := k.Encrypt(plaintext, context)
		if err != nil {
			t.Fatal(err)
		}
		asJSON, asMsgpack := inOldForms(k, ct)
		for form, b := range map[string][]byte{"raw": ct, "JSON": asJSON, "MessagePack": asMsgpack} {
			if got, err := k.Decrypt(b, context); err != nil || !bytes.Equal(got, plaintext) {
				t.Errorf("%s: %q, %v", form, got, err)
			}
			at := int(uint(at) % uint(len(b)))
			changed := bytes.Clone(b)
			changed[at] ^= flip
			swapped := append(bytes.Clone(b[at:]), b[:at]...)
			for what, bad := range map[string][]byte{"changed": changed, "cut": b[:at], "swapped": swapped, "longer": append(bytes.Clone(b), flip)} {
				got, err := k.Decrypt(bad, context)
				if err == nil && !bytes.Equal(got, plaintext) || err != nil && !errors.Is(err, ErrNotAuthentic) {
					t.Errorf("%s, %s: %q, %v", form, what, got, err)
				}
				if err == nil && form == "raw" && !bytes.Equal(bad, b) {
					t.Errorf("%s, %s: it opens", form, what)
				}
			}
			if _, err := other.Decrypt(b, context); !errors.Is(err, ErrNotAuthentic) {
				t.Errorf("%s: another key opens it", form)
			}
			if _, err := k.Decrypt(b, append(bytes.Clone(context), 0)); !errors.Is(err, ErrNotAuthentic) {
				t.Errorf("%s: it opens under another context", form)
			}
		}
	})
}
