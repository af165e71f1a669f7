package keywrap

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256"
	"encoding/hex"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 5649, section 6.
func TestWrapVectors(t *testing.T) {
	t.Parallel()
	kek := unhex(t, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
	for _, c := range [][2]string{
		{"c37b7e6492584340bed12207808941155068f738", "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
		{"466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"},
	} {
		got, err := Wrap(kek, unhex(t, c[0]))
		if err != nil || hex.EncodeToString(got) != c[1] {
			t.Errorf("wrapped %x, %v, want %s", got, err, c[1])
		}
		back, err := Unwrap(kek, got)
		if err != nil || hex.EncodeToString(back) != c[0] {
			t.Errorf("unwrapped %x, %v, want %s", back, err, c[0])
		}
		for i := range got {
			bad := bytes.Clone(got)
			bad[i] ^= 0x80
			if _, err := Unwrap(kek, bad); err == nil {
				t.Errorf("byte %d changed, and not seen", i)
			}
		}
	}
}

func TestWrapLengths(t *testing.T) {
	t.Parallel()
	kek := make([]byte, 32)
	for n := 1; n < 300; n++ {
		key := bytes.Repeat([]byte{7}, n)
		w, err := Wrap(kek, key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Unwrap(kek, w)
		if err != nil || !bytes.Equal(got, key) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func TestSeal(t *testing.T) {
	t.Parallel()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := Seal(&k.PublicKey, crypto.SHA256, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Unseal(k, crypto.SHA256, sealed); err != nil || string(got) != "key" {
		t.Errorf("%q, %v", got, err)
	}
	for _, i := range []int{0, 200, 256, len(sealed) - 1} {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := Unseal(k, crypto.SHA256, bad); err == nil {
			t.Errorf("byte %d changed, and not seen", i)
		}
	}
	for _, n := range []int{0, 256, 257, len(sealed) - 8} {
		if _, err := Unseal(k, crypto.SHA256, sealed[:n]); err == nil {
			t.Errorf("%d bytes are taken for a key", n)
		}
	}
}

func FuzzUnwrap(f *testing.F) {
	kek := make([]byte, 16)
	for _, n := range []int{1, 8, 9, 40} {
		w, err := Wrap(kek, make([]byte, n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(w)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := Unwrap(kek, b)
		if err != nil {
			return
		}
		if again, err := Wrap(kek, key); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x unwraps to %x, which wraps to %x, %v", b, key, again, err)
		}
	})
}

// RFC 3394, sections 4.1 and 4.6.
func TestWrapBlocks(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"000102030405060708090A0B0C0D0E0F", "00112233445566778899AABBCCDDEEFF", "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5"},
		{
			"000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F", "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F",
			"28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21",
		},
	} {
		kek, _ := hex.DecodeString(c[0])
		key, _ := hex.DecodeString(c[1])
		got, err := WrapBlocks(kek, key)
		if err != nil || hex.EncodeToString(got) != c[2] {
			t.Errorf("%x, %v; want %s", got, err, c[2])
		}
	}
	for _, n := range []int{0, 8, 17, 1 << 20} {
		if _, err := WrapBlocks(make([]byte, 16), make([]byte, n)); err == nil {
			t.Errorf("%d bytes are wrapped", n)
		}
	}
}
